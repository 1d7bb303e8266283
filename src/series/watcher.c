/* SPDX-License-Identifier: Apache-2.0 */
#include "series/watcher.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/sys.h"
#include "commit/folder.h"
#include "series/control.h"

enum { MOST_LINES = 100 }; /* that wait for somebody who polls */

typedef struct line {
    int level;
    char *text; /* heap */
} line;

struct as_watcher {
    char *root; /* heap */
    as_watcher_options options;
    as_environment env;
    as_walltime walltime; /* the thread's, once it runs */
    char *complaint;      /* heap; likewise: about the control file, told last; NULL: none */
    pthread_t thread;
    bool runs;
    atomic_bool stop;

    pthread_mutex_t lock; /* of what follows; held for moments */
    pthread_cond_t news;
    as_sight sight;
    unsigned strike;
    as_buffer lines; /* line[] */
};

/* ---------------------------------------------------------------------- lines */

static void keep_line(int level, const char *text, void *user)
{
    as_watcher *w = user;
    line l = {.level = level, .text = strdup(text)};
    (void)pthread_mutex_lock(&w->lock);
    if (l.text && w->lines.size < MOST_LINES * sizeof l &&
        as_buffer_append(&w->lines, &l, sizeof l, NULL) == AS_OK) {
        l.text = NULL;
    }
    (void)pthread_mutex_unlock(&w->lock);
    free(l.text);
}

void as_watcher_tell(as_watcher *w, const as_log *log)
{
    (void)pthread_mutex_lock(&w->lock);
    as_buffer lines = w->lines;
    w->lines = AS_BUFFER_INIT;
    (void)pthread_mutex_unlock(&w->lock);
    line *l = (line *)(void *)lines.data;
    for (size_t i = 0; i < lines.size / sizeof *l; i++) {
        if (log && log->call) {
            log->call(l[i].level, l[i].text, log->user);
        }
        free(l[i].text);
    }
    as_buffer_free(&lines);
}

/* --------------------------------------------------------------- control file */

/* Tells what is wrong, and that once; NULL: nothing is. */
static void complain(as_watcher *w, const char *text)
{
    if (text && (!w->complaint || strcmp(w->complaint, text) != 0)) {
        as_log log = {.call = keep_line, .user = w};
        as_log_say(&log, AS_LOG_WARNING, "%s", text);
    }
    free(w->complaint);
    w->complaint = text ? strdup(text) : NULL;
}

static int read_words(as_watcher *w, int root, unsigned strike, unsigned *words, as_buffer *text,
                      as_error *e)
{
    if (strike) {
        return as_control_change(root, w->root, strike, 0, words, e);
    }
    as_buffer wrong = AS_BUFFER_INIT;
    int code = as_control_read(root, w->root, words, &wrong, e);
    if (code == AS_OK && wrong.size > 0) {
        code = as_buffer_format(text, e, "%s/" AS_CONTROL_NAME ": %s", w->root, wrong.data);
    }
    as_buffer_free(&wrong);
    return code;
}

/* What cannot be read leaves the words as they were. */
static void look(as_watcher *w)
{
    (void)pthread_mutex_lock(&w->lock);
    unsigned strike = w->strike;
    (void)pthread_mutex_unlock(&w->lock);
    as_error e = AS_ERROR_INIT;
    as_buffer text = AS_BUFFER_INIT;
    unsigned words = 0;
    int root = -1;
    int code = as_folder_open(w->root, &root, &e);
    if (code == AS_OK) {
        code = read_words(w, root, strike, &words, &text, &e);
        (void)as_sys_table.close(root);
    }
    if (code == AS_OK) {
        (void)pthread_mutex_lock(&w->lock);
        w->sight.words = words;
        w->strike &= ~strike;
        (void)pthread_mutex_unlock(&w->lock);
    }
    complain(w, code != AS_OK ? as_error_text(&e) : text.size > 0 ? text.data : NULL);
    as_buffer_free(&text);
    as_error_clear(&e);
}

/* --------------------------------------------------------------------- thread */

static void ask(as_watcher *w)
{
    as_log log = {.call = keep_line, .user = w};
    as_walltime_ask(&w->walltime, w->options.command_s, &w->stop, &log);
    (void)pthread_mutex_lock(&w->lock);
    w->sight.end = w->walltime.end;
    (void)pthread_mutex_unlock(&w->lock);
}

/* Until it is time to look again, or there is something to strike out. */
static void rest(as_watcher *w, int64_t until, unsigned tried)
{
    struct timespec when = {.tv_sec = until / 1000000000, .tv_nsec = until % 1000000000};
    (void)pthread_mutex_lock(&w->lock);
    while (!atomic_load(&w->stop) && (w->strike & ~tried) == 0 && as_clock() < until) {
        (void)pthread_cond_timedwait(&w->news, &w->lock, &when);
    }
    (void)pthread_mutex_unlock(&w->lock);
}

/* What is still to be struck out after a look could not be: it waits for the next. */
static unsigned left_over(as_watcher *w)
{
    (void)pthread_mutex_lock(&w->lock);
    unsigned words = w->strike;
    (void)pthread_mutex_unlock(&w->lock);
    return words;
}

static void *run(void *user)
{
    as_watcher *w = user;
    while (!atomic_load(&w->stop)) {
        int64_t next = as_clock() + (int64_t)(w->options.look_s * 1e9);
        look(w);
        unsigned tried = left_over(w);
        if (w->options.walltime && !atomic_load(&w->stop) && as_walltime_is_due(&w->walltime)) {
            ask(w);
        }
        rest(w, next, tried);
    }
    return NULL;
}

int as_watcher_start(as_watcher *w, as_error *e)
{
    if (w->runs) {
        return AS_OK;
    }
    /* The program's handlers must not run in a thread that it does not know. */
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int result = as_sys_table.pthread_create(&w->thread, NULL, run, w);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (result != 0) {
        return as_fail(e, AS_SYSTEM, result,
                       "no thread can be made: allshard.control and the scheduler are not looked "
                       "at");
    }
    w->runs = true;
    return AS_OK;
}

/* --------------------------------------------------------------- open and close */

static void destroy(as_watcher *w)
{
    as_watcher_tell(w, NULL);
    as_environment_free(&w->env);
    (void)pthread_cond_destroy(&w->news);
    (void)pthread_mutex_destroy(&w->lock);
    free(w->complaint);
    free(w->root);
    free(w);
}

/* NULL without memory. */
static as_watcher *make(const char *root, const as_watcher_options *options)
{
    as_watcher *w = calloc(1, sizeof *w);
    char *copy = strdup(root);
    if (!w || !copy) {
        free(w);
        free(copy);
        return NULL;
    }
    pthread_condattr_t how;
    (void)pthread_condattr_init(&how);
    (void)pthread_condattr_setclock(&how, CLOCK_MONOTONIC); /* as as_clock */
    (void)pthread_mutex_init(&w->lock, NULL);
    (void)pthread_cond_init(&w->news, &how);
    (void)pthread_condattr_destroy(&how);
    w->root = copy;
    w->options = *options;
    return w;
}

int as_watcher_open(as_watcher **out, const char *root, const as_watcher_options *options,
                    const as_log *log, as_error *e)
{
    int folder = -1;
    *out = NULL;
    int code = as_folder_open(root, &folder, e);
    if (code != AS_OK) {
        return code;
    }
    (void)as_sys_table.close(folder);
    as_watcher *w = make(root, options);
    if (!w) {
        return as_fail_nomem(e);
    }
    code = as_environment_copy(&w->env, e);
    if (code == AS_OK && options->walltime) {
        code = as_walltime_open(&w->walltime, &w->env, options->end_time, options->ask_s, e);
        w->sight.end = w->walltime.end;
    }
    if (code != AS_OK) {
        destroy(w);
        return code;
    }
    look(w);
    as_watcher_tell(w, log);
    *out = w;
    return AS_OK;
}

as_sight as_watcher_sight(as_watcher *w)
{
    (void)pthread_mutex_lock(&w->lock);
    as_sight sight = w->sight;
    (void)pthread_mutex_unlock(&w->lock);
    return sight;
}

void as_watcher_strike(as_watcher *w, unsigned words)
{
    (void)pthread_mutex_lock(&w->lock);
    w->strike |= words;
    (void)pthread_cond_broadcast(&w->news);
    (void)pthread_mutex_unlock(&w->lock);
}

void as_watcher_close(as_watcher *w, const as_log *log)
{
    if (!w) {
        return;
    }
    if (w->runs) {
        (void)pthread_mutex_lock(&w->lock);
        atomic_store(&w->stop, true);
        (void)pthread_cond_broadcast(&w->news);
        (void)pthread_mutex_unlock(&w->lock);
        (void)pthread_join(w->thread, NULL);
    }
    if (w->strike) {
        look(w);
    }
    as_watcher_tell(w, log);
    destroy(w);
}
