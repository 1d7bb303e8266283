/* SPDX-License-Identifier: Apache-2.0
 * Ranks that poll a policy, and differ in all that they may differ in.
 */
#ifndef ALLSHARD_TESTS_POLICY_SCENE_H
#define ALLSHARD_TESTS_POLICY_SCENE_H

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "comm/comm.h"
#include "series/policy.h"
#include "support_ranks.h"

static as_comm *comm;
static as_policy *policy;
static char root[512];

static inline void send(int number)
{
    (void)pthread_kill(pthread_self(), number);
}

/* ------------------------------------------------------------- what ranks have of their own */

static double hours; /* that this rank's clock is ahead, by polls */

/* Each rank's clock is another, and some run faster, or stand still. */
static inline int64_t own_clock(void)
{
    int64_t now = as_clock() + (int64_t)(hours * 3.6e12);
    switch (world_rank() % 4) {
    case 1:
        return now * 3;
    case 2:
        return 17;
    case 3:
        return now / 7 + INT64_C(1000000000000000);
    default:
        return now;
    }
}

static int warnings; /* on this rank */
static char last_warning[1000];

static inline void warn(int level, const char *text, void *user)
{
    (void)user;
    CHECK_TEXT(level == AS_LOG_WARNING, "%s", text);
    warnings++;
    (void)snprintf(last_warning, sizeof last_warning, "%s", text);
}

static const as_log warnings_log = {.call = warn};

static inline void nap(double seconds)
{
    struct timespec t = {.tv_sec = (time_t)seconds,
                         .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    (void)nanosleep(&t, NULL);
}

/* ---------------------------------------------------------------------------------- polls */

static inline as_policy_options quick(void)
{
    return (as_policy_options){.look_s = 0.01, .ask_s = 0.02, .command_s = 20, .clock = own_clock};
}

static inline void open_with(const as_policy_options *options)
{
    as_error e = AS_ERROR_INIT;
    warnings = 0;
    hours = 0;
    CHECK_TEXT(as_policy_open(&policy, comm, root, options, &warnings_log, &e) == AS_OK, "%s",
               as_error_text(&e));
}

static inline void close_it(void)
{
    as_policy_close(policy);
    policy = NULL;
    ranks_wait(world_comm()); /* for what the main process has struck out */
}

/* The verdict at a step, which must be everybody's. */
static inline as_verdict poll(int64_t step)
{
    as_verdict v;
    as_error e = AS_ERROR_INIT;
    memset(&v, 0x55, sizeof v);
    int code = as_policy_poll(policy, step, NULL, 0, &v, &e);
    CHECK_TEXT(code == AS_OK, "%s", as_error_text(&e));
    char text[200];
    (void)snprintf(text, sizeof text, "%d %d %d %d %d %d %a %a %a %d %d %d %d", v.save, v.stop,
                   v.requeue, v.reasons, v.signal, v.held, v.seconds_left, v.margin_s, v.interval_s,
                   v.in_flight, v.saved, (int)v.saved_step, v.failed);
    CHECK_TEXT(ranks_agree(world_comm(), text, strlen(text)), "verdicts differ; mine: %s", text);
    CHECK(!v.in_flight && !v.saved && v.saved_step == 0 && v.failed == 0);
    return v;
}

static inline void save(int64_t step, double blocked, double durable)
{
    /* The main process's figures count; those of others are garbage. */
    bool is_main = world_rank() == 0;
    as_policy_began(policy, step);
    as_policy_saved(policy, step, is_main ? blocked : -7, is_main ? durable : 1e9);
}

/* Polls, step after step, until the verdict is so on all ranks: what a thread finds out comes when
 * it comes. Ends the test after a minute. */
#define POLL_UNTIL(v, step, condition)                                                             \
    do {                                                                                           \
        int tries = 0;                                                                             \
        for ((v) = poll(step); !(condition); (v) = poll(++(step))) {                               \
            CHECK_TEXT(++tries < 30000, "%s never came", #condition);                              \
            nap(0.002);                                                                            \
        }                                                                                          \
    } while (0)

static inline void set(const char *name, const char *value)
{
    CHECK((value ? setenv(name, value, 1) : unsetenv(name)) == 0);
}

/* Of the jobs that this test itself may be. */
static inline void begin_scenes(int *argc, char ***argv)
{
    static const char *const variables[] = {"ALLSHARD_END_TIME",  "SLURM_JOB_ID", "SLURM_JOBID",
                                            "SLURM_ARRAY_JOB_ID", "PBS_JOBID",    "LSB_JOBID"};
    ranks_start(argc, argv, 120);
    as_error e = AS_ERROR_INIT;
    allshard_comm world = world_comm();
    CHECK(as_comm_open(&comm, &world, &e) == AS_OK);
    (void)snprintf(root, sizeof root, "%s", scratch_path("root"));
    CHECK(world_rank() > 0 || mkdir(root, 0755) == 0);
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        set(variables[i], NULL);
    }
    ranks_wait(world);
}

static inline int end_scenes(void)
{
    as_comm_free(comm);
    return ranks_end();
}

#endif
