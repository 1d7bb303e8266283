/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/background.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/sys.h"

typedef struct line {
    int level;
    char *text; /* heap */
} line;

struct as_background {
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t news;
    as_job *job; /* NULL: none is under way */
    void *user;
    as_error error; /* of the job that ended last */
    bool stop;
    as_buffer lines; /* line[] */
};

static void *run(void *user)
{
    as_background *b = user;
    (void)pthread_mutex_lock(&b->lock);
    while (!b->stop) {
        if (!b->job) {
            (void)pthread_cond_wait(&b->news, &b->lock);
            continue;
        }
        as_job *job = b->job;
        as_error own = AS_ERROR_INIT;
        (void)pthread_mutex_unlock(&b->lock);
        (void)job(b->user, &own);
        (void)pthread_mutex_lock(&b->lock);
        as_error_move(&b->error, &own);
        b->job = NULL;
        (void)pthread_cond_broadcast(&b->news);
    }
    (void)pthread_mutex_unlock(&b->lock);
    return NULL;
}

/* The program's handlers must not run in a thread that it does not know. */
static int start(as_background *b)
{
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int result = as_sys_table.pthread_create(&b->thread, NULL, run, b);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return result;
}

int as_background_open(as_background **out, as_error *e)
{
    *out = NULL;
    as_background *b = calloc(1, sizeof *b);
    if (!b) {
        return as_fail_nomem(e);
    }
    b->error = AS_ERROR_INIT;
    (void)pthread_mutex_init(&b->lock, NULL);
    (void)pthread_cond_init(&b->news, NULL);
    int result = start(b);
    if (result != 0) {
        (void)pthread_cond_destroy(&b->news);
        (void)pthread_mutex_destroy(&b->lock);
        free(b);
        return as_fail(e, AS_SYSTEM, result, "cannot make a thread for a nonblocking save");
    }
    *out = b;
    return AS_OK;
}

void as_background_close(as_background *b)
{
    if (!b) {
        return;
    }
    as_background_wait(b);
    (void)pthread_mutex_lock(&b->lock);
    b->stop = true;
    (void)pthread_cond_broadcast(&b->news);
    (void)pthread_mutex_unlock(&b->lock);
    (void)pthread_join(b->thread, NULL);
    as_background_tell(b, NULL);
    as_buffer_free(&b->lines);
    as_error_clear(&b->error);
    (void)pthread_cond_destroy(&b->news);
    (void)pthread_mutex_destroy(&b->lock);
    free(b);
}

void as_background_start(as_background *b, as_job *job, void *user)
{
    (void)pthread_mutex_lock(&b->lock);
    b->job = job;
    b->user = user;
    (void)pthread_cond_broadcast(&b->news);
    (void)pthread_mutex_unlock(&b->lock);
}

bool as_background_idle(as_background *b)
{
    (void)pthread_mutex_lock(&b->lock);
    bool idle = b->job == NULL;
    (void)pthread_mutex_unlock(&b->lock);
    return idle;
}

void as_background_wait(as_background *b)
{
    (void)pthread_mutex_lock(&b->lock);
    while (b->job) {
        (void)pthread_cond_wait(&b->news, &b->lock);
    }
    (void)pthread_mutex_unlock(&b->lock);
}

int as_background_take(as_background *b, as_error *e)
{
    (void)pthread_mutex_lock(&b->lock);
    int code = as_error_pass(e, &b->error);
    (void)pthread_mutex_unlock(&b->lock);
    return code;
}

static void keep_line(int level, const char *text, void *user)
{
    as_background *b = user;
    line l = {.level = level, .text = strdup(text)};
    (void)pthread_mutex_lock(&b->lock);
    if (l.text && as_buffer_append(&b->lines, &l, sizeof l, NULL) == AS_OK) {
        l.text = NULL;
    }
    (void)pthread_mutex_unlock(&b->lock);
    free(l.text); /* without memory the line is lost, not the save */
}

as_log as_background_log(as_background *b)
{
    return (as_log){.call = keep_line, .user = b};
}

void as_background_tell(as_background *b, const as_log *to)
{
    (void)pthread_mutex_lock(&b->lock);
    as_buffer lines = b->lines;
    b->lines = AS_BUFFER_INIT;
    (void)pthread_mutex_unlock(&b->lock);
    line *l = (line *)(void *)lines.data;
    for (size_t i = 0; i < lines.size / sizeof *l; i++) {
        if (to && to->call) {
            to->call(l[i].level, l[i].text, to->user);
        }
        free(l[i].text);
    }
    as_buffer_free(&lines);
}
