/* SPDX-License-Identifier: Apache-2.0
 * The simulated cuFile, for tests with "simulated: cuda" in a comment.
 */
#ifndef ALLSHARD_TESTS_SUPPORT_CUFILE_H
#define ALLSHARD_TESTS_SUPPORT_CUFILE_H

#include "simulated/sim_cufile.h"

/* NOLINTBEGIN(bugprone-macro-parentheses): declarations */
typedef struct sim_cufile_controls {
#define SIM_FILE_MEMBER(name) __typeof__(sim_file_##name) *name;
    SIM_FILE_FUNCTIONS(SIM_FILE_MEMBER)
#undef SIM_FILE_MEMBER
} sim_cufile_controls;
/* NOLINTEND(bugprone-macro-parentheses) */

/* Loads it, the first time, and ends the test program if what is found is not the simulation. */
const sim_cufile_controls *simulated_cufile(void);

/* From now on as_sys_table says that /run/udev is a folder, or that it is not, whatever there is; and
 * /proc/sys/kernel/osrelease is the file of that path (NULL: the machine's own). With the table as it
 * was before (`good`) all is as it is. */
void play_machine(bool udev, const char *osrelease);

#endif
