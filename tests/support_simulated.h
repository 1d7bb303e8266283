/* SPDX-License-Identifier: Apache-2.0
 * The simulated CUDA driver, for tests with "simulated: cuda" in a comment.
 */
#ifndef ALLSHARD_TESTS_SUPPORT_SIMULATED_H
#define ALLSHARD_TESTS_SUPPORT_SIMULATED_H

#include "simulated/sim.h"

/* Loads it, the first time, and fails the test program if what is found is not the simulation. */
const sim_library *simulated(void);

#endif
