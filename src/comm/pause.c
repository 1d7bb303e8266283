/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>
#include <time.h>

#include "base/checked.h"
#include "comm/comm.h"

enum {
    YIELDS = 64,
    LONGEST_NANOSECONDS = 1000000,
    REST_YIELDS = 2,
    SHORTEST_REST = 20000,
    PATIENCE = 40
};

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
    int rests = (*idle)++ - REST_YIELDS;
    if (rests < 0) {
        (void)sched_yield();
        return;
    }
    int64_t nanoseconds = (int64_t)SHORTEST_REST << (rests < 16 ? rests : 16);
    if (nanoseconds > longest) {
        /* Who has waited that long is not what others wait for: on a crowded node the looks
         * themselves would fill the cores. */
        nanoseconds = rests < PATIENCE ? longest : as_max_i64(longest, LONGEST_NANOSECONDS);
    }
    if (rests > PATIENCE) {
        (*idle)--;
    }
    struct timespec t = {.tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000};
    (void)nanosleep(&t, NULL);
}
