/* SPDX-License-Identifier: Apache-2.0
 * The verdict of a series' policy is the same on all ranks, whatever differs between them: clocks,
 * signals, environments, and schedulers that are missing, fail, hang, answer nonsense or late.
 * (ALLSHARD_NO_MPI: also as one process.)
 */
/* ranks: 1 2 3 5 */
/* timeout: 120 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "comm/comm.h"
#include "series/control.h"
#include "series/policy.h"
#include "support_ranks.h"

static as_comm *comm;
static as_policy *policy;
static char root[512];

/* ------------------------------------------------------------- what ranks have of their own */

static double hours; /* that this rank's clock is ahead, by polls */

/* Each rank's clock is another, and some run faster, or stand still. */
static int64_t own_clock(void)
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

static void warn(int level, const char *text, void *user)
{
    (void)user;
    CHECK_TEXT(level == AS_LOG_WARNING, "%s", text);
    warnings++;
    (void)snprintf(last_warning, sizeof last_warning, "%s", text);
}

static const as_log warnings_log = {.call = warn};

static void nap(double seconds)
{
    struct timespec t = {.tv_sec = (time_t)seconds,
                         .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    (void)nanosleep(&t, NULL);
}

/* ---------------------------------------------------------------------------------- polls */

static as_policy_options quick(void)
{
    return (as_policy_options){.look_s = 0.01, .ask_s = 0.02, .command_s = 20, .clock = own_clock};
}

static void open_with(const as_policy_options *options)
{
    as_error e = AS_ERROR_INIT;
    warnings = 0;
    hours = 0;
    CHECK_TEXT(as_policy_open(&policy, comm, root, options, &warnings_log, &e) == AS_OK, "%s",
               as_error_text(&e));
}

static void close_it(void)
{
    as_policy_close(policy);
    policy = NULL;
}

/* The verdict at a step, which must be everybody's. */
static as_verdict poll(int64_t step)
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

static void save(int64_t step, double blocked, double durable)
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

/* ------------------------------------------------------------------------------------ clocks */

static void check_clocks(void)
{
    ranks_scene("clocks");
    as_policy_options o = quick();
    o.every_s = 3600;
    open_with(&o);
    int64_t step = 0;
    for (int i = 0; i < 5; i++) {
        hours = world_rank() == 0 ? hours : (double)(i * 1000 * world_rank());
        CHECK(!poll(++step).save); /* for others hours have passed */
    }
    hours = world_rank() == 0 ? 1.01 : 0;
    as_verdict v = poll(++step);
    CHECK(v.save && v.reasons == AS_REASON_SECONDS && !v.stop);
    save(step, 1, 1);
    CHECK(!poll(++step).save);
    close_it();

    o = quick();
    o.mtbf_s = 10000;
    o.overhead_percent = 0.5;
    open_with(&o);
    as_policy_loaded(policy, 10, world_rank() == 0 ? 100 : 1e-3 * world_rank());
    v = poll(11);
    CHECK(!v.save && v.interval_s == 20000); /* 100 s are half a percent of it */
    hours = world_rank() == 0 ? 6 : 0;
    v = poll(12);
    CHECK(v.save && v.reasons == AS_REASON_OVERHEAD);
    close_it();
}

/* ----------------------------------------------------------------------------------- signals */

static void check_signals(void)
{
    static const int save_list[] = {SIGUSR1};
    for (int rank = 0; rank < world_size(); rank++) {
        ranks_scene("signals to rank %d", rank);
        as_policy_options o = quick();
        o.signals = true;
        o.save_list = save_list;
        o.save_count = 1;
        open_with(&o);
        CHECK(!poll(1).save);
        if (world_rank() == rank) {
            (void)raise(SIGUSR1);
        }
        as_verdict v = poll(2);
        CHECK(v.save && !v.stop && v.signal == SIGUSR1 && v.reasons == AS_REASON_SIGNAL);
        CHECK(poll(3).save); /* until it is done */
        save(3, 1, 1);
        v = poll(4);
        CHECK(!v.save && v.signal == 0);
        /* Another rank gets another signal at the same time. */
        if (world_rank() == rank) {
            (void)raise(SIGTERM);
        } else if (world_rank() == (rank + 1) % world_size()) {
            (void)raise(SIGUSR1);
        }
        v = poll(5);
        CHECK(v.save && v.stop && v.requeue && v.signal == SIGTERM);
        save(5, 1, 1);
        if (world_rank() == world_size() - 1) {
            (void)raise(SIGUSR2);
        }
        v = poll(6);
        CHECK(!v.save && v.stop && v.requeue && v.signal == SIGTERM);
        close_it();
        struct sigaction now;
        CHECK(sigaction(SIGTERM, NULL, &now) == 0 && now.sa_handler == SIG_DFL);
        CHECK(sigaction(SIGUSR1, NULL, &now) == 0 && now.sa_handler == SIG_DFL);
    }
    ranks_scene("no signals");
    as_policy_options o = quick();
    open_with(&o);
    struct sigaction now;
    CHECK(sigaction(SIGTERM, NULL, &now) == 0 && now.sa_handler == SIG_DFL);
    close_it();
}

/* Two series of a process both hear of it. */
static void check_two(void)
{
    ranks_scene("two series");
    as_error e = AS_ERROR_INIT;
    as_policy_options o = quick();
    o.signals = true;
    as_policy *other;
    open_with(&o);
    CHECK(as_policy_open(&other, comm, root, &o, &warnings_log, &e) == AS_OK);
    if (world_rank() == world_size() - 1) {
        (void)raise(SIGUSR2);
    }
    as_verdict v = poll(1);
    CHECK(v.stop && v.signal == SIGUSR2);
    close_it();
    policy = other;
    v = poll(1);
    CHECK(v.stop && v.signal == SIGUSR2);
    close_it();
}

/* --------------------------------------------------------------------------------- wall time */

static char bin[600]; /* the only folder on PATH; every rank's own */

static void script(const char *name, const char *text)
{
    char path[700];
    char next[720];
    (void)snprintf(path, sizeof path, "%s/%s", bin, name);
    (void)snprintf(next, sizeof next, "%s.next", path);
    FILE *file = fopen(next, "w");
    CHECK(file && fprintf(file, "#!/bin/sh\nPATH=/usr/bin:/bin\n%s\n", text) > 0);
    CHECK(fclose(file) == 0 && chmod(next, 0755) == 0 && rename(next, path) == 0);
}

static void remove_script(const char *name)
{
    char path[700];
    (void)snprintf(path, sizeof path, "%s/%s", bin, name);
    (void)unlink(path);
}

static void set(const char *name, const char *value)
{
    CHECK((value ? setenv(name, value, 1) : unsetenv(name)) == 0);
}

/* A job whose squeue is such on the main process and another on other ranks, for whom it is to be
 * of no account. `end`: seconds from now that SLURM_JOB_END_TIME tells; 0: it is not set. */
static void open_job(const char *squeue, double end)
{
    char text[64];
    set("SLURM_JOB_ID", world_rank() == 0 ? "17" : world_rank() % 2 ? "99" : NULL);
    (void)snprintf(text, sizeof text, "%lld", (long long)time(NULL) + (long long)end);
    set("SLURM_JOB_END_TIME", world_rank() > 0 ? "1" : end > 0 ? text : NULL);
    set("ALLSHARD_END_TIME", world_rank() > 0 ? "nonsense" : NULL);
    if (world_rank() > 0) {
        script("squeue", "echo 0:01");
    } else if (squeue) {
        script("squeue", squeue);
    } else {
        remove_script("squeue");
    }
    as_policy_options o = quick();
    o.walltime = true;
    open_with(&o);
}

static void check_squeue(void)
{
    as_verdict v;
    int64_t step = 1;
    ranks_scene("squeue answers");
    open_job("echo 1-00:00:00", 0);
    POLL_UNTIL(v, step, v.seconds_left > 80000);
    CHECK(!v.stop && v.margin_s == 120);
    save(++step, 2, 100);
    v = poll(++step);
    CHECK(v.margin_s == 125);
    if (world_rank() == 0) {
        script("squeue", "echo 1:30"); /* somebody has made it shorter */
    }
    POLL_UNTIL(v, step, v.stop);
    CHECK(v.save && v.requeue && v.reasons == AS_REASON_WALLTIME && v.seconds_left <= 90);
    save(step, 2, 100);
    v = poll(++step);
    CHECK(!v.save && v.stop && v.requeue);
    CHECK(warnings == 0);
    close_it();

    ranks_scene("squeue is missing");
    open_job(NULL, 10000);
    POLL_UNTIL(v, step, ranks_max(world_comm(), warnings) > 0);
    CHECK(!v.stop && v.seconds_left > 9000 && v.seconds_left <= 10000);
    CHECK(warnings == (world_rank() == 0));
    close_it();

    ranks_scene("squeue fails");
    open_job("echo 0:01; exit 1", 0);
    POLL_UNTIL(v, step, ranks_max(world_comm(), warnings) > 0);
    CHECK(!v.stop && v.seconds_left == -1);
    if (world_rank() == 0) {
        CHECK(strstr(last_warning, "status 1"));
        script("squeue", "echo 0:00");
    }
    POLL_UNTIL(v, step, v.stop);
    CHECK(v.reasons == AS_REASON_WALLTIME);
    close_it();

    ranks_scene("squeue tells nonsense");
    open_job("head -c 3000 /dev/urandom", 10000);
    POLL_UNTIL(v, step, ranks_max(world_comm(), warnings) > 0);
    CHECK(!v.stop && v.seconds_left > 9000);
    close_it();

    ranks_scene("squeue hangs");
    open_job("sleep 1000", 10000);
    for (int i = 0; i < 30; i++) {
        v = poll(++step);
        CHECK(!v.stop && v.seconds_left > 9000);
        nap(0.01);
    }
    close_it(); /* does not wait for it */

    ranks_scene("squeue is late");
    open_job("sleep 0.5; echo 0:02", 10000);
    CHECK(!poll(++step).stop);
    POLL_UNTIL(v, step, v.stop);
    CHECK(v.seconds_left <= 2);
    close_it();
}

static void check_end_time(void)
{
    ranks_scene("the end is told");
    char text[64];
    set("SLURM_JOB_ID", NULL);
    (void)snprintf(text, sizeof text, "%lld", (long long)time(NULL) + 10000);
    set("ALLSHARD_END_TIME", world_rank() == 0 ? text : "17");
    as_policy_options o = quick();
    o.walltime = true;
    o.end_time = 1;
    open_with(&o);
    as_verdict v = poll(1);
    CHECK(!v.stop && v.seconds_left > 9000 && v.seconds_left <= 10000);
    close_it();
    o.walltime = false; /* nobody wants to know */
    set("ALLSHARD_END_TIME", "nonsense");
    open_with(&o);
    v = poll(1);
    CHECK(!v.stop && v.seconds_left == -1);
    close_it();
    set("ALLSHARD_END_TIME", NULL);
    o.walltime = true;
    open_with(&o);
    v = poll(1);
    CHECK(v.stop && v.save && v.seconds_left == 0); /* the option's, long over */
    close_it();
}

/* ------------------------------------------------------------------------------ control file */

static void write_words(const char *text)
{
    ranks_wait(world_comm());
    if (world_rank() == 0) {
        char path[600];
        (void)snprintf(path, sizeof path, "%s/" AS_CONTROL_NAME, root);
        FILE *file = text ? fopen(path, "w") : NULL;
        CHECK(text ? file && fputs(text, file) >= 0 && fclose(file) == 0 : unlink(path) == 0);
    }
    ranks_wait(world_comm());
}

static bool file_is(const char *wanted)
{
    char path[600];
    char text[200] = "";
    (void)snprintf(path, sizeof path, "%s/" AS_CONTROL_NAME, root);
    FILE *file = fopen(path, "r");
    if (file) {
        text[fread(text, 1, sizeof text - 1, file)] = '\0';
        (void)fclose(file);
    }
    bool same = file ? wanted && strcmp(text, wanted) == 0 : !wanted;
    return ranks_max(world_comm(), !same) == 0;
}

static void check_control(void)
{
    as_verdict v;
    int64_t step = 1;
    ranks_scene("control: hold");
    write_words("hold\n");
    as_policy_options o = quick();
    o.every_steps = 1;
    open_with(&o);
    v = poll(++step);
    CHECK(v.held && !v.save); /* from the first poll on */
    write_words(NULL);
    POLL_UNTIL(v, step, !v.held);
    CHECK(v.save && v.reasons == AS_REASON_STEPS);
    close_it();

    ranks_scene("control: save-now");
    o.every_steps = 0;
    open_with(&o);
    CHECK(!poll(++step).save);
    write_words("# Jo\nsave-now\n");
    POLL_UNTIL(v, step, v.save);
    CHECK(v.reasons == AS_REASON_CONTROL && !v.stop);
    as_policy_began(policy, step);
    for (int i = 0; i < 20; i++) {
        CHECK(!poll(++step).save); /* it is on its way */
        nap(0.002);
    }
    CHECK(file_is("# Jo\nsave-now\n"));
    as_policy_failed(policy, step - 20);
    CHECK(!poll(++step).save);
    hours = 0.1;
    v = poll(++step);
    CHECK(v.save && v.reasons == AS_REASON_CONTROL); /* it is asked for again */
    save(step, 1, 1);
    POLL_UNTIL(v, step, file_is("# Jo\n"));
    CHECK(!v.save);
    write_words("# Jo\nsave-now\n");
    POLL_UNTIL(v, step, v.save);
    write_words(NULL);
    POLL_UNTIL(v, step, !v.save); /* somebody has thought better of it */
    close_it();

    ranks_scene("control: stop");
    open_with(&o);
    write_words("STOP\nhold\n");
    POLL_UNTIL(v, step, v.stop);
    CHECK(v.save && !v.requeue && v.held && v.reasons == AS_REASON_CONTROL);
    save(step, 1, 1);
    v = poll(++step);
    CHECK(!v.save && v.stop && !v.requeue);
    close_it();
    CHECK(file_is("hold\n")); /* at the latest when it is closed */
    write_words("stop\n");
    open_with(&o);
    close_it();
    CHECK(file_is("stop\n")); /* nobody has polled: nobody has stopped */
    open_with(&o);
    CHECK(poll(1).stop);
    close_it(); /* without a save: it is obeyed all the same */
    CHECK(file_is(NULL));

    ranks_scene("control: nonsense");
    write_words("stopp\n");
    open_with(&o);
    CHECK(warnings == (world_rank() == 0));
    for (int i = 0; i < 20; i++) {
        CHECK(!poll(++step).stop);
        nap(0.005);
    }
    CHECK(warnings == (world_rank() == 0)); /* once */
    write_words("stopp\nsave-now\n");
    POLL_UNTIL(v, step, v.save);
    close_it();
    if (world_rank() == 0) {
        CHECK(strstr(last_warning, "\"stopp\"") && strstr(last_warning, AS_CONTROL_NAME));
    }
    write_words(NULL);
}

/* ------------------------------------------------------------------------------------ errors */

static void check_refused(void)
{
    ranks_scene("refused");
    int last = world_size() - 1;
    const as_policy_options base = quick();
    for (int i = 0; i < 6; i++) {
        as_policy_options o = base;
        o.signals = true;
        o.walltime = true;
        const int kill_list[] = {SIGKILL};
        const int term[] = {SIGTERM};
        const char *text = "";
        if (world_rank() == last) {
            text = i == 0   ? (o.every_steps = -1, "")
                   : i == 1 ? (o.overhead_percent = 101, "")
                   : i == 2 ? (o.mtbf_s = -1, "")
                   : i == 3 ? (o.margin = 0.0 / 0.0, "")
                   : i == 4 ? (o.stop_list = kill_list, o.stop_count = 1, "")
                            : (o.save_list = term, o.save_count = 1, "");
        }
        as_error e = AS_ERROR_INIT;
        as_policy *none = (as_policy *)(uintptr_t)1;
        CHECK(as_policy_open(&none, comm, root, &o, NULL, &e) == AS_INVALID && !none && !*text);
        CHECK(ranks_agree(world_comm(), as_error_text(&e), strlen(as_error_text(&e))));
        CHECK(e.rank == last);
        as_error_clear(&e);
        struct sigaction now;
        CHECK(sigaction(SIGTERM, NULL, &now) == 0 && now.sa_handler == SIG_DFL);
    }
    as_error e = AS_ERROR_INIT;
    as_policy *none;
    CHECK(as_policy_open(&none, comm, "/no/such/root", &base, NULL, &e) == AS_NOT_FOUND);
    CHECK(strstr(as_error_text(&e), "/no/such/root"));
    as_error_clear(&e);
    as_policy_close(NULL);
}

static void refuse_step(int64_t step, int code, const char *piece)
{
    as_verdict v;
    as_error e = AS_ERROR_INIT;
    int64_t more = world_rank();
    CHECK(as_policy_poll(policy, step, &more, 1, &v, &e) == code);
    CHECK_TEXT(strstr(as_error_text(&e), piece), "%s", as_error_text(&e));
    CHECK(ranks_agree(world_comm(), as_error_text(&e), strlen(as_error_text(&e))));
    CHECK(more == world_size() - 1);
    as_error_clear(&e);
}

static void check_steps(void)
{
    ranks_scene("steps that differ");
    int last = world_size() - 1;
    as_policy_options o = quick();
    o.signals = true;
    open_with(&o);
    refuse_step(world_rank() == last ? -3 : 5, AS_INVALID, "step -1");
    refuse_step(world_rank() == last ? INT64_MIN : INT64_MAX, AS_INVALID, "0 or more");
    if (last > 0) {
        if (world_rank() == last) {
            (void)raise(SIGTERM);
        }
        refuse_step(world_rank() == last ? 4 : 5, AS_MISMATCH, "from 4 to 5");
    } else {
        (void)raise(SIGTERM);
    }
    CHECK(poll(6).stop); /* the signal is not lost with it */
    close_it();

    ranks_scene("more values");
    open_with(&o);
    int64_t more[AS_POLICY_MORE];
    for (int i = 0; i < AS_POLICY_MORE; i++) {
        more[i] = i % 2 ? world_rank() : -world_rank() - i;
    }
    as_verdict v;
    as_error e = AS_ERROR_INIT;
    CHECK(as_policy_poll(policy, INT64_MAX, more, AS_POLICY_MORE, &v, &e) == AS_OK);
    for (int i = 0; i < AS_POLICY_MORE; i++) {
        CHECK(more[i] == (i % 2 ? last : -i));
    }
    close_it();
}

/* ------------------------------------------------------------------------------------ random */

static uint64_t seed = 3;

/* The same on all ranks. */
static int64_t together(int64_t most)
{
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (int64_t)(seed >> 33) % (most + 1);
}

/* Signals to any ranks at any time, saves that fail and last: verdicts are equal (poll checks it), a
 * stop stays, and what was told after a signal is a save. */
static void check_random(void)
{
    int runs = is_sanitized() ? 10 : 30;
    for (int run = 0; run < runs; run++) {
        ranks_scene("random run %d", run);
        static const int save_list[] = {SIGUSR1};
        as_policy_options o = quick();
        o.signals = true;
        o.save_list = save_list;
        o.save_count = 1;
        o.every_steps = together(7);
        o.every_s = (double)together(3) * 1000;
        o.mtbf_s = (double)together(2) * 5000;
        open_with(&o);
        bool stopped = false;
        int64_t step = together(20);
        for (int i = 0; i < 40; i++) {
            int64_t target = together(6 * world_size());
            int number = together(3) ? SIGUSR1 : SIGTERM;
            if (world_rank() == target) {
                (void)raise(number);
            }
            bool hit = target < world_size();
            hours += (double)((world_rank() * 7 + i) % 5) / 10;
            as_verdict v = poll(++step);
            CHECK(v.stop || !(stopped || (hit && number == SIGTERM)));
            CHECK(v.save || !hit || (stopped && number == SIGTERM));
            stopped = v.stop;
            if (v.save && together(4)) {
                as_policy_began(policy, step);
                if (together(4)) {
                    as_policy_saved(policy, step, (double)world_rank(), (double)together(9));
                } else {
                    as_policy_failed(policy, step);
                }
            }
        }
        close_it();
    }
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 120);
    as_error e = AS_ERROR_INIT;
    allshard_comm world = world_comm();
    CHECK(as_comm_open(&comm, &world, &e) == AS_OK);
    (void)snprintf(root, sizeof root, "%s", scratch_path("root"));
    (void)snprintf(bin, sizeof bin, "%s.%d", scratch_path("bin"), world_rank());
    CHECK(mkdir(bin, 0755) == 0 && (world_rank() > 0 || mkdir(root, 0755) == 0));
    set("PATH", bin);
    set("ALLSHARD_END_TIME", NULL);
    set("SLURM_JOB_ID", NULL);
    set("SLURM_JOBID", NULL);
    set("PBS_JOBID", NULL);
    set("LSB_JOBID", NULL);
    ranks_wait(world);
    check_clocks();
    check_signals();
    check_two();
    check_squeue();
    check_end_time();
    check_control();
    check_refused();
    check_steps();
    check_random();
    as_comm_free(comm);
    return ranks_end();
}
