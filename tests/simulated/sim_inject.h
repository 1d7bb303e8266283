/* SPDX-License-Identifier: Apache-2.0
 * The failures that tests ask for, by the names of calls. With the lock.
 */
#ifndef ALLSHARD_TESTS_SIMULATED_SIM_INJECT_H
#define ALLSHARD_TESTS_SIMULATED_SIM_INJECT_H

#include <stdbool.h>
#include <stdint.h>

/* Counts a call; the code that it is to return, or 0. `late`: for operations, when they run. */
int sim_inject(const char *call, bool late);

void sim_inject_ask(const char *call, int nth, int code, bool late);
void sim_inject_reset(void);
int64_t sim_injected(void);

/* "cuMemAlloc_v2" is "cuMemAlloc". */
bool sim_same_call(const char *a, const char *b);

#endif
