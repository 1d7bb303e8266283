/* SPDX-License-Identifier: Apache-2.0
 * The policy through the public calls of a series: rules, signals to single ranks, the job's end, and
 * what a person writes into the control file.
 */
/* ranks: 3 1 */
/* timeout: 60 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "series_run.h"

static allshard *as;
static run all;
static char root[512];

static void begin(const char *name)
{
    ranks_scene("%s", name);
    (void)snprintf(root, sizeof root, "%s", scratch_path(name));
}

static allshard_series *open_series(const allshard_series_options *o)
{
    allshard_series *r = NULL;
    GOOD(as, allshard_series_open(&r, as, root, o));
    return r;
}

/* Waits also for what the main process does as it closes. */
static void close_series(allshard_series *r)
{
    GOOD(as, allshard_series_close(r));
    ranks_wait(world_comm());
}

static void save(allshard_series *r, int64_t step)
{
    run_fill(&all, step);
    const allshard_checkpoint c = run_checkpoint(&all, step);
    GOOD(as, allshard_series_save(r, &c));
}

static allshard_verdict poll(allshard_series *r, int64_t step)
{
    allshard_verdict v = {.size = sizeof v};
    GOOD(as, allshard_series_poll(r, step, &v));
    CHECK(ranks_agree(world_comm(), &v, sizeof v));
    return v;
}

/* Until it is so; the thread of the main process looks once a second. */
#define POLL_UNTIL(v, r, step, condition)                                                          \
    do {                                                                                           \
        const struct timespec pause_ = {.tv_nsec = 5000000};                                       \
        int tries_ = 0;                                                                            \
        for ((v) = poll(r, step); !(condition); (v) = poll(r, ++(step))) {                         \
            CHECK_TEXT(++tries_ < 10000, "%s never came", #condition);                             \
            (void)nanosleep(&pause_, NULL);                                                        \
        }                                                                                          \
    } while (0)

/* In the main process, for all. */
static void write_words(const char *text)
{
    char path[600];
    (void)snprintf(path, sizeof path, "%s/allshard.control", root);
    ranks_wait(world_comm());
    if (world_rank() == 0) {
        FILE *file = fopen(path, "w");
        CHECK(file && fputs(text, file) >= 0 && fclose(file) == 0);
    }
    ranks_wait(world_comm());
}

/* Is a word still asked for? In the main process, for all. */
static bool is_asked(const char *word)
{
    char path[600];
    char text[200] = "";
    (void)snprintf(path, sizeof path, "%s/allshard.control", root);
    FILE *file = world_rank() == 0 ? fopen(path, "r") : NULL;
    if (file) {
        text[fread(text, 1, sizeof text - 1, file)] = 0;
        (void)fclose(file);
    }
    return ranks_max(world_comm(), strstr(text, word) != NULL) != 0;
}

static bool is_there(const char *name)
{
    char path[600];
    (void)snprintf(path, sizeof path, "%s/%s", root, name);
    int64_t there = world_rank() == 0 && access(path, F_OK) == 0;
    return ranks_max(world_comm(), there) != 0;
}

/* What the history ends with. */
static void check_history(const char *wanted)
{
    if (world_rank() == 0) {
        char path[600];
        char line[1000];
        char last[1000] = "";
        (void)snprintf(path, sizeof path, "%s/allshard.history.jsonl", root);
        FILE *file = fopen(path, "r");
        CHECK(file);
        while (fgets(line, sizeof line, file)) {
            memcpy(last, line, sizeof last);
        }
        (void)fclose(file);
        CHECK_TEXT(strstr(last, wanted), "%s", last);
    }
    ranks_wait(world_comm());
}

static void check_signals(void)
{
    begin("signals");
    const allshard_series_options o = {
        .size = sizeof o, .signals = ALLSHARD_SIGNALS_CATCH, .every_steps = 2};
    allshard_series *r = open_series(&o);
    CHECK(!poll(r, 1).save);
    allshard_verdict v = poll(r, 2);
    CHECK(v.save && v.reasons == ALLSHARD_REASON_STEPS);
    save(r, 2);
    CHECK(!poll(r, 2).save);
    if (world_rank() == world_size() - 1) {
        (void)pthread_kill(pthread_self(), SIGUSR2);
    }
    v = poll(r, 3);
    CHECK(v.save && v.stop && v.requeue && v.signal == SIGUSR2);
    CHECK(v.reasons == ALLSHARD_REASON_SIGNAL);
    save(r, 3);
    v = poll(r, 4);
    CHECK(!v.save || v.reasons & ALLSHARD_REASON_STEPS);
    CHECK(v.stop && v.requeue);
    close_series(r);
    check_history("\"stop\"");
    char text[40];
    (void)snprintf(text, sizeof text, "\"signal %d (", SIGUSR2);
    check_history(text);
    check_history("\"step\": 4");
    /* The next run begins where it ended, and is not asked to save that again. */
    r = open_series(&o);
    run_check_load(&all, r, ALLSHARD_NEWEST, 3, world_size(), 0);
    v = poll(r, 3);
    CHECK(!v.save && !v.stop);
    CHECK(poll(r, 4).save);
    close_series(r);
}

static void check_end_of_job(void)
{
    begin("end");
    char text[32];
    (void)snprintf(text, sizeof text, "%lld", (long long)time(NULL) + 100000);
    CHECK(setenv("ALLSHARD_END_TIME", world_rank() == 0 ? text : "17", 1) == 0);
    const allshard_series_options o = {.size = sizeof o, .first_margin_s = 60};
    allshard_series *r = open_series(&o);
    allshard_verdict v = poll(r, 1);
    CHECK(!v.stop && v.margin_s == 60 && v.seconds_left > 90000 && v.seconds_left <= 100000);
    save(r, 1);
    v = poll(r, 2);
    CHECK(!v.stop && v.margin_s >= 5 && v.margin_s < 60); /* as measured */
    close_series(r);
    CHECK(setenv("ALLSHARD_END_TIME", "17", 1) == 0);
    r = open_series(&o);
    v = poll(r, 3);
    CHECK(v.save && v.stop && v.requeue && v.reasons == ALLSHARD_REASON_WALLTIME);
    close_series(r);
    check_history("the job's time ends");
    CHECK(unsetenv("ALLSHARD_END_TIME") == 0);
}

static void check_words(void)
{
    begin("words");
    const allshard_series_options o = {.size = sizeof o, .every_steps = 1, .keep_last = 1};
    allshard_series *r = open_series(&o);
    int64_t step = 1;
    save(r, step++);
    save(r, step++);
    CHECK(!is_there("checkpoint-1") && is_there("checkpoint-2"));
    write_words("hold\n");
    save(r, step++); /* nobody has polled: the main process looks all the same */
    CHECK(is_there("checkpoint-2") && is_there("checkpoint-3"));
    allshard_verdict v;
    POLL_UNTIL(v, r, step, v.held);
    CHECK(!v.save);
    write_words("hold\nsave-now\n");
    POLL_UNTIL(v, r, step, v.save);
    CHECK(v.reasons == ALLSHARD_REASON_CONTROL && v.held && !v.stop);
    save(r, step++);
    CHECK(is_there("checkpoint-2") && is_there("checkpoint-3"));
    v = poll(r, step++);
    CHECK(!v.save);
    /* Who writes while the word is struck out may be overwritten; the tool has a lock for that. */
    POLL_UNTIL(v, r, step, !is_asked("save-now"));
    write_words("stop\n");
    POLL_UNTIL(v, r, step, v.stop);
    CHECK(v.save && !v.requeue && (v.reasons & ALLSHARD_REASON_CONTROL));
    save(r, step);
    CHECK(!is_there("checkpoint-2") && !is_there("checkpoint-3")); /* it is not held any more */
    close_series(r);
    CHECK(!is_there("allshard.control"));
    check_history("a person asked for it");
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 60);
    CHECK(allshard_open(&as, world_comm(), NULL) == ALLSHARD_OK);
    run_open(&all, as, world_rank(), world_size());
    check_signals();
    check_end_of_job();
    check_words();
    run_close(&all);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    return ranks_end();
}
