/* SPDX-License-Identifier: Apache-2.0
 * The verdict of a series' policy is the same on all ranks, whatever the scheduler does (commands that
 * are missing, fail, hang, answer nonsense or late) and people write into the control file.
 * (ALLSHARD_NO_MPI: also as one process.)
 */
/* ranks: 1 2 3 5 */
/* timeout: 120 */
#include <unistd.h>

#include "policy_scene.h"
#include "series/control.h"

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

int main(int argc, char **argv)
{
    begin_scenes(&argc, &argv);
    (void)snprintf(bin, sizeof bin, "%s.%d", scratch_path("bin"), world_rank());
    CHECK(mkdir(bin, 0755) == 0);
    set("PATH", bin);
    check_squeue();
    check_end_time();
    check_control();
    return end_scenes();
}
