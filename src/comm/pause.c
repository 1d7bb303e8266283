/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>
#include <time.h>

#include "comm/comm.h"

enum { YIELDS = 64, LONGEST_NANOSECONDS = 1000000, REST_YIELDS = 2, SHORTEST_REST = 20000 };

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

void as_comm_rest(int *idle, int64_t longest)
{
    if ((*idle)++ < REST_YIELDS) {
        (void)sched_yield();
        return;
    }
    int doublings = *idle - REST_YIELDS - 1;
    int64_t nanoseconds = doublings < 16 ? (int64_t)SHORTEST_REST << doublings : longest;
    if (nanoseconds >= longest) {
        nanoseconds = longest;
        (*idle)--; /* it stays that long */
    }
    struct timespec t = {.tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000};
    (void)nanosleep(&t, NULL);
}
