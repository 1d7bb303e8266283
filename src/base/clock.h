/* SPDX-License-Identifier: Apache-2.0
 * The clock that durations are measured with.
 */
#ifndef ALLSHARD_BASE_CLOCK_H
#define ALLSHARD_BASE_CLOCK_H

#include <stdint.h>

/* Nanoseconds since some moment before the process began (CLOCK_MONOTONIC). */
int64_t as_clock(void);

#endif
