/* SPDX-License-Identifier: Apache-2.0
 * The simulated cuFile's own controls, for tests. It is a libcufile.so.0 that moves bytes between
 * files and the memory of the simulated devices (sim.h), and is found by LD_LIBRARY_PATH in tests
 * with "simulated: cuda" in a comment. What it is asked for against the rules of cuFile, and what the
 * real one would do a slower way, it refuses and notes: calls before the driver is open or without
 * a context, handles and buffers that are not registered (any more), registered memory that was
 * freed, ranges beyond a buffer, offsets, sizes and addresses that are no multiples of 4096,
 * descriptors with O_APPEND or without O_DIRECT, several registrations of one thing, and what is
 * deregistered while it is used.
 *
 * Programs find the functions with dlsym in a handle of dlopen("libcufile.so.0"); any thread may call
 * them. Environment, for programs that are not our own: SIM_CUFILE_NVFS=0 is sim_file_nvfs(0, 0).
 */
#ifndef ALLSHARD_TESTS_SIMULATED_SIM_CUFILE_H
#define ALLSHARD_TESTS_SIMULATED_SIM_CUFILE_H

#include <stdbool.h>
#include <stdint.h>

/* The nth call (1..) of that name, "cuFileWrite", from now on fails, without having done anything;
 * negative: the -nth and all that follow; 0: none. `code`: of CUfileOpError (5001 and on), for reads
 * and writes also an errno. A second one for the same name takes the first one's place. */
void sim_file_refuse(const char *call, int nth, int code);

/* Calls of that name so far; NULL: of all. */
int64_t sim_file_calls(const char *call);

/* Reads and writes move so many bytes at the most; 0: all. */
void sim_file_shorten(int64_t most);

/* Each read and write takes a random time up to that. */
void sim_file_delay(unsigned seed, int microseconds);

/* Version of the kernel module; 0, 0: there is none. */
void sim_file_nvfs(unsigned major, unsigned minor);

/* Descriptors need no O_DIRECT: for tests whose folder may have none, and that play it. */
void sim_file_played(bool played);

/* What is registered of memory that is not there any more counts as if it had not been: the context
 * that it was of has ended. */
void sim_file_forget(void);

/* "", or the first broken rule since sim_file_reset. */
const char *sim_file_faults(void);

/* As at first, but what is registered, and the counts of calls and bytes. */
void sim_file_reset(void);

/* What there is of "drivers" (open), "handles", "buffers"; of bytes so far: "read", "written". -1: no
 * such thing. */
int64_t sim_file_live(const char *what);

/* clang-format off */
#define SIM_FILE_FUNCTIONS(X)                                                                      \
    X(refuse) X(calls) X(shorten) X(delay) X(nvfs) X(played) X(forget) X(faults) X(reset)    \
    X(live)
/* clang-format on */

#endif
