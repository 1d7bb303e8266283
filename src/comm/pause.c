/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>
#include <time.h>

#include "base/checked.h"
#include "base/clock.h"
#include "comm/comm.h"

enum {
    LOOKS = 64,   /* ranks that are together have answered by then, some 10 microseconds */
    YIELDS = 128, /* counted from the first look */
    DEAR_YIELD = 500000,
    SHORTEST_PAUSE = 10000,
    LONGEST_NANOSECONDS = 1000000,
    REST_YIELDS = 2,
    SHORTEST_REST = 20000,
    PATIENCE = 40
};

void as_comm_pause(int *idle)
{
    if (*idle < LOOKS) {
        (*idle)++;
        return;
    }
    if (*idle < YIELDS) {
        int64_t from = as_clock();
        (void)sched_yield();
        /* Who yields to one that computes stands behind it for a whole slice, each time anew; who
         * sleeps is let in when the sleep is over. */
        *idle = as_clock() - from < DEAR_YIELD ? *idle + 1 : YIELDS;
        return;
    }
    /* An eighth longer each time, so that nobody sleeps past the news by much more than an eighth of
     * what they waited for it. With doubling each rank was late by as much as the one before it, and
     * ranks that had once come apart stayed apart from one agreement to the next. */
    int64_t nanoseconds = SHORTEST_PAUSE;
    for (int i = YIELDS; i < *idle; i++) {
        nanoseconds += nanoseconds / 8;
    }
    if (nanoseconds < LONGEST_NANOSECONDS) {
        (*idle)++;
    } else {
        nanoseconds = LONGEST_NANOSECONDS;
    }
    struct timespec t = {.tv_nsec = (long)nanoseconds};
    (void)nanosleep(&t, NULL);
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
