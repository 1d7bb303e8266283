/* SPDX-License-Identifier: Apache-2.0 */
#include "io/workers.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/sys.h"
#include "io/queue.h"

typedef struct worker {
    as_workers *all;
    int number; /* from 1 */
    pthread_t thread;
} worker;

struct as_workers {
    as_work *work;
    void *user;
    as_trace *trace;
    worker threads[AS_ENGINE_THREADS];
    int count;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t more;
    as_io_queue todo;
    as_io_queue done;
    bool stop;
    as_error error; /* the first failure that was not told yet */
};

void as_workers_trace(as_trace *trace, int thread, const as_io *io, int64_t begin)
{
    static const char *const names[] = {
        [AS_IO_READ] = "read", [AS_IO_WRITE] = "write", [AS_IO_SYNC] = "fsync"};
    as_span span = {.name = names[io->kind],
                    .thread = thread,
                    .begin = begin,
                    .end = as_clock(),
                    .bytes = io->kind == AS_IO_SYNC ? 0 : io->count};
    as_trace_add(trace, &span);
}

static void do_one(as_workers *w, int thread, as_io *io)
{
    as_error error = AS_ERROR_INIT;
    int64_t begin = as_clock();
    io->code = w->work(w->user, io, &error);
    as_workers_trace(w->trace, thread, io, begin);
    io->nanoseconds = as_clock() - io->nanoseconds;
    (void)pthread_mutex_lock(&w->lock);
    if (io->code != AS_OK) {
        (void)as_error_pass(&w->error, &error);
    }
    as_io_put(&w->done, io);
    (void)pthread_mutex_unlock(&w->lock);
}

static void *run(void *user)
{
    worker *me = user;
    as_workers *w = me->all;
    (void)pthread_mutex_lock(&w->lock);
    for (;;) {
        as_io *io = as_io_take(&w->todo);
        if (io) {
            (void)pthread_mutex_unlock(&w->lock);
            do_one(w, me->number, io);
            (void)pthread_mutex_lock(&w->lock);
        } else if (w->stop) {
            break;
        } else {
            (void)pthread_cond_wait(&w->more, &w->lock);
        }
    }
    (void)pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* The program's handlers must not run in a thread that it does not know. */
static void start(as_workers *w, int threads)
{
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    for (int i = 0; i < threads && i < AS_ENGINE_THREADS; i++) {
        worker *t = &w->threads[i];
        *t = (worker){.all = w, .number = i + 1};
        if (as_sys_table.pthread_create(&t->thread, NULL, run, t) != 0) {
            break;
        }
        w->count++;
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
}

int as_workers_open(as_workers **out, int threads, as_work *work, void *user, as_trace *trace,
                    as_error *e)
{
    as_workers *w = calloc(1, sizeof *w);
    if (!w) {
        return as_fail_nomem(e);
    }
    w->work = work;
    w->user = user;
    w->trace = trace;
    w->error = AS_ERROR_INIT;
    (void)pthread_mutex_init(&w->lock, NULL);
    (void)pthread_cond_init(&w->more, NULL);
    start(w, threads);
    *out = w;
    return AS_OK;
}

void as_workers_close(as_workers *w)
{
    if (!w) {
        return;
    }
    (void)pthread_mutex_lock(&w->lock);
    w->stop = true;
    (void)pthread_cond_broadcast(&w->more);
    (void)pthread_mutex_unlock(&w->lock);
    for (int i = 0; i < w->count; i++) {
        (void)pthread_join(w->threads[i].thread, NULL);
    }
    (void)pthread_cond_destroy(&w->more);
    (void)pthread_mutex_destroy(&w->lock);
    as_error_clear(&w->error);
    free(w);
}

void as_workers_submit(as_workers *w, as_io *io)
{
    io->code = AS_OK;
    io->nanoseconds = as_clock();
    if (w->count == 0) {
        do_one(w, 0, io);
        return;
    }
    (void)pthread_mutex_lock(&w->lock);
    as_io_put(&w->todo, io);
    (void)pthread_cond_signal(&w->more);
    (void)pthread_mutex_unlock(&w->lock);
}

as_io *as_workers_reap(as_workers *w, as_error *e)
{
    (void)pthread_mutex_lock(&w->lock);
    as_io *io = as_io_take(&w->done);
    if (io && io->code != AS_OK) {
        (void)as_error_pass(e, &w->error);
    }
    (void)pthread_mutex_unlock(&w->lock);
    return io;
}

int as_workers_count(const as_workers *w)
{
    return w->count;
}
