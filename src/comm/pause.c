/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>
#include <time.h>

#include "comm/comm.h"

enum { YIELDS = 64, LONGEST_NANOSECONDS = 1000000 };

void as_comm_pause(int *idle)
{
    if (*idle < YIELDS) {
        (*idle)++;
        (void)sched_yield();
        return;
    }
    long nanoseconds = 10000L << (*idle - YIELDS < 7 ? *idle - YIELDS : 7);
    struct timespec t = {.tv_nsec =
                             nanoseconds < LONGEST_NANOSECONDS ? nanoseconds : LONGEST_NANOSECONDS};
    (void)nanosleep(&t, NULL);
    if (*idle < YIELDS + 7) {
        (*idle)++;
    }
}
