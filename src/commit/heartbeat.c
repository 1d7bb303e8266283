/* SPDX-License-Identifier: Apache-2.0 */
#include "commit/heartbeat.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/sys.h"

struct as_heartbeat {
    pthread_t thread;
    pthread_mutex_t lock; /* of `stop` */
    pthread_cond_t wake;
    bool stop;
    int64_t period_ms;
    as_beat *beat;
    void *user;
    pid_t process; /* that has the thread: after a fork the child has none */
};

static struct timespec after(int64_t ms)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t nanoseconds = t.tv_nsec + ms % 1000 * 1000000;
    t.tv_sec += (time_t)(ms / 1000 + nanoseconds / 1000000000);
    t.tv_nsec = (long)(nanoseconds % 1000000000);
    return t;
}

static void *run(void *user)
{
    as_heartbeat *h = user;
    (void)pthread_mutex_lock(&h->lock);
    while (!h->stop) {
        struct timespec until = after(h->period_ms);
        int waited = 0;
        while (!h->stop && waited != ETIMEDOUT) {
            waited = pthread_cond_timedwait(&h->wake, &h->lock, &until);
        }
        if (!h->stop) {
            (void)pthread_mutex_unlock(&h->lock);
            h->beat(h->user);
            (void)pthread_mutex_lock(&h->lock);
        }
    }
    (void)pthread_mutex_unlock(&h->lock);
    return NULL;
}

/* A condition by the clock that nobody sets. 0 or an errno. */
static int make_condition(pthread_cond_t *out)
{
    pthread_condattr_t how;
    int fault = pthread_condattr_init(&how);
    if (fault == 0) {
        fault = pthread_condattr_setclock(&how, CLOCK_MONOTONIC);
        fault = fault == 0 ? pthread_cond_init(out, &how) : fault;
        (void)pthread_condattr_destroy(&how);
    }
    return fault;
}

/* The thread inherits a mask of all signals: handlers belong to the program's own threads. */
static int start_thread(as_heartbeat *h)
{
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    int fault = pthread_sigmask(SIG_SETMASK, &all, &before);
    if (fault == 0) {
        fault = as_sys_table.pthread_create(&h->thread, NULL, run, h);
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    return fault;
}

as_heartbeat *as_heartbeat_start(int64_t period_ms, as_beat *beat, void *user, int *reason)
{
    as_heartbeat *h = calloc(1, sizeof *h);
    if (!h) {
        *reason = ENOMEM;
        return NULL;
    }
    h->period_ms = period_ms < 1 ? 1 : period_ms;
    h->beat = beat;
    h->user = user;
    h->process = getpid();
    *reason = pthread_mutex_init(&h->lock, NULL);
    if (*reason == 0) {
        *reason = make_condition(&h->wake);
        if (*reason == 0) {
            *reason = start_thread(h);
            if (*reason == 0) {
                return h;
            }
            (void)pthread_cond_destroy(&h->wake);
        }
        (void)pthread_mutex_destroy(&h->lock);
    }
    free(h);
    return NULL;
}

void as_heartbeat_stop(as_heartbeat *h)
{
    if (!h || h->process != getpid()) {
        return;
    }
    (void)pthread_mutex_lock(&h->lock);
    h->stop = true;
    (void)pthread_cond_signal(&h->wake);
    (void)pthread_mutex_unlock(&h->lock);
    (void)pthread_join(h->thread, NULL);
    (void)pthread_cond_destroy(&h->wake);
    (void)pthread_mutex_destroy(&h->lock);
    free(h);
}
