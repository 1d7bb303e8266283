/* SPDX-License-Identifier: Apache-2.0
 * Limits that suit the machine, and who wakes the rank that stands still: also when the others,
 * which are to return without it, do not.
 */
#ifndef ALLSHARD_TESTS_STALL_WAKER_H
#define ALLSHARD_TESTS_STALL_WAKER_H

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "support_gate.h"
#include "support_ranks.h"

#ifndef ALLSHARD_NO_MPI

enum {
    PATIENCE = 60, /* seconds that a call may take beyond the limit, on storage that answers, */
    PROMPT = 3     /* within so many seconds */
};

#define SHORTEST 0.4 /* seconds */
#define LONGER 1.2
static double limit = SHORTEST;
static int anew; /* tries */

/* So short a limit is too short for a machine that is busy with other things: who was only slow is
 * taken for stalled. What was tried then tells nothing, and is tried again with twice the limit. */
static inline void be_patient(void)
{
    limit *= 2;
    anew++;
}

static inline void be_quick(void)
{
    limit = limit / 2 > SHORTEST ? limit / 2 : SHORTEST;
}

static inline void begin_scene(void)
{
    gate_round++;
    gate_set(CALL_NONE, 0, false);
}

static MPI_Comm others = MPI_COMM_NULL; /* all but the victim */
static int lowest;                      /* of them */

static inline void choose_victim(int victim)
{
    if (others != MPI_COMM_NULL) {
        (void)MPI_Comm_free(&others);
    }
    (void)MPI_Comm_split(MPI_COMM_WORLD, world_rank() == victim ? MPI_UNDEFINED : 0, world_rank(),
                         &others);
    lowest = victim == 0 ? 1 : 0;
}

/* ---- who wakes the victim ---- */

/* A thread of the lowest of the others, which sees to it that the victim goes on also when the
 * others hang: then they were late, and the test fails in place of hanging with them. */
static struct {
    pthread_t thread;
    pid_t stopped; /* 0: the victim waits for a mark, which is made elsewhere if all is well */
    atomic_bool through; /* the others are */
    atomic_bool late;
} waker;

/* A disk that all write to may keep an fsync for minutes, and with it a rank that does nothing
 * wrong. */
static inline bool is_storage_prompt(void)
{
    double begin = seconds_now();
    int fd = open(scratch_path("prompt"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && write(fd, "?", 1) == 1 && fsync(fd) == 0 && close(fd) == 0);
    return seconds_now() - begin < PROMPT;
}

static inline void *wake(void *unused)
{
    do {
        double end = seconds_now() + PATIENCE + limit;
        while (!atomic_load(&waker.through) && seconds_now() < end) {
            (void)usleep(2000);
        }
    } while (!atomic_load(&waker.through) && !is_storage_prompt());
    atomic_store(&waker.late, !atomic_load(&waker.through));
    if (waker.stopped == 0 && atomic_load(&waker.late)) {
        gate_mark("wake");
    }
    while (waker.stopped != 0 && gate_age("back") < 0) {
        (void)kill(waker.stopped, SIGCONT);
        (void)usleep(2000);
    }
    return unused;
}

static inline void begin_waker(pid_t stopped)
{
    if (world_rank() == lowest) {
        waker.stopped = stopped;
        atomic_store(&waker.through, false);
        CHECK(pthread_create(&waker.thread, NULL, wake, NULL) == 0);
    }
}

/* The others have returned. */
static inline void end_waker(int victim)
{
    if (world_rank() == lowest) {
        atomic_store(&waker.through, true);
        CHECK(pthread_join(waker.thread, NULL) == 0);
        CHECK_TEXT(!atomic_load(&waker.late),
                   "the others have not returned before rank %d was woken", victim);
    }
}

/* What was sent to the victim leaves while this rank waits for it. */
static inline void let_leave(void)
{
    int there = 0;
    (void)MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &there, MPI_STATUS_IGNORE);
}

#endif
#endif
