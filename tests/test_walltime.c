/* SPDX-License-Identifier: Apache-2.0
 * The time that a job has left: what schedulers write, which variables count, and what stands when
 * a command is missing, fails or answers nonsense.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "box_support.h"
#include "commit/folder.h"
#include "series/walltime.h"
#include "series/walltime_read.h"

/* --------------------------------------------------------------------- answers */

enum { UNKNOWN = -1, ENDLESS = -2 };

static double told(enum as_left kind, double seconds)
{
    return kind == AS_LEFT_KNOWN ? seconds : kind == AS_LEFT_ENDLESS ? ENDLESS : UNKNOWN;
}

static double slurm(const char *text)
{
    double s = NAN;
    enum as_left kind = as_left_slurm(text, &s);
    return told(kind, s);
}

static double pbs(const char *text, double now)
{
    double s = NAN;
    enum as_left kind = as_left_pbs(text, now, &s);
    return told(kind, s);
}

static double lsf(const char *text)
{
    double s = NAN;
    enum as_left kind = as_left_lsf(text, &s);
    return told(kind, s);
}

static void is(double got, double wanted)
{
    if (got != wanted) {
        fail_msg("%g, not %g", got, wanted);
    }
}

static void test_slurm(void **state)
{
    (void)state;
    is(slurm("1:02:03\n"), 3723);
    is(slurm("2:03\n"), 123);
    is(slurm("0:00\n"), 0);
    is(slurm("17\n"), 17);
    is(slurm("1-00:00:01\n"), 86401);
    is(slurm("2-03\n"), 2 * 86400 + 3 * 3600);
    is(slurm("2-03:04\n"), 2 * 86400 + 3 * 3600 + 4 * 60);
    is(slurm("  10:00  "), 600);
    is(slurm("10:00\n2:00\n1-00:00:00\n"), 120); /* parts of one job */
    is(slurm("UNLIMITED\n"), ENDLESS);
    is(slurm("UNLIMITED\n5:00\n"), 300);
    is(slurm("5:00\nUNLIMITED\n"), 300);
    is(slurm("INVALID\n"), UNKNOWN);
    is(slurm("NOT_SET\n"), UNKNOWN);
    is(slurm(""), UNKNOWN);
    is(slurm("\n\n"), UNKNOWN);
    is(slurm("slurm_load_jobs error: Invalid job id specified\n"), UNKNOWN);
    is(slurm("1:2:3:4\n"), UNKNOWN);
    is(slurm("-5:00\n"), UNKNOWN);
    is(slurm("1:\n"), UNKNOWN);
    is(slurm("1-\n"), UNKNOWN);
    is(slurm("5:00 x\n"), UNKNOWN);
    is(slurm("99999999999999999999:00\n"), UNKNOWN);
    is(slurm("999999999-00:00:00\n"), UNKNOWN);
}

static const char job_text[] = "Job Id: 17.server\n"
                               "    Job_Name = train\n"
                               "    resources_used.walltime = 00:10:00\n"
                               "    Resource_List.walltime = 01:00:00\n";

static void test_pbs(void **state)
{
    (void)state;
    char text[1024];
    assert_int_equal(setenv("TZ", "UTC0", 1), 0);
    tzset();
    is(pbs(job_text, 0), 3000);
    /* 15:00:00 on 22 November 2026 was 1795359600. */
    (void)snprintf(text, sizeof text, "%s    stime = Sun Nov 22 15:00:00 2026\n", job_text);
    is(pbs(text, 1795359600 + 900), 2700);
    is(pbs(text, 1795359600 + 3600), 0);
    is(pbs(text, 1795359600 + 7200), 0);
    (void)snprintf(text, sizeof text, "%s\tstart_time = Sun Nov  2 15:00:00 2026\r\n", job_text);
    is(pbs(text, 1795359600 - 20 * 86400 + 60), 3540);
    (void)snprintf(text, sizeof text, "%s    Walltime.Remaining = 17\n", job_text);
    is(pbs(text, 0), 17);
    (void)snprintf(text, sizeof text, "%s    stime = Sun Foo 22 15:00:00 2026\n", job_text);
    is(pbs(text, 0), 3000);
    (void)snprintf(text, sizeof text, "%s    stime = anF 22 15\n", job_text);
    is(pbs(text, 0), 3000);
    is(pbs("Job Id: 17\n    Resource_List.walltime = 100:00:00\n", 0), UNKNOWN); /* not begun */
    is(pbs("Job Id: 17\n    job_state = R\n", 0), ENDLESS);
    is(pbs("qstat: Unknown Job Id 17\n", 0), UNKNOWN);
    is(pbs("", 0), UNKNOWN);
    is(pbs("    Resource_List.walltime 01:00:00\n   resources_used.walltime =\n", 0), UNKNOWN);
}

static void test_lsf(void **state)
{
    (void)state;
    is(lsf("1:30 L\n"), 5340);
    is(lsf("0:45 L"), 2640);
    is(lsf("0:0 L"), 0);
    is(lsf("0:01\n"), 0);
    is(lsf("-\n"), ENDLESS);
    is(lsf("1:30 E\n"), ENDLESS);
    is(lsf("1:30 X\n"), ENDLESS);
    is(lsf("Job <17> is not found\n"), UNKNOWN);
    is(lsf("1:30:00 L"), UNKNOWN);
    is(lsf("1:30 Q"), UNKNOWN);
    is(lsf(""), UNKNOWN);
    is(lsf("99999999:00 L"), UNKNOWN);
}

/* Whatever is written: a time that makes sense, or none. */
static void test_garbage(void **state)
{
    (void)state;
    static const char letters[] = "0123456789:::---  \n\t=LEX.UNLIMITEDJob Idstime";
    static const char *const words[] = {"stime = ",
                                        "Resource_List.walltime = ",
                                        "Job Id: ",
                                        "resources_used.walltime = ",
                                        "Walltime.Remaining = ",
                                        "Sun Nov 22 15:00:00 2026",
                                        "10:00:00",
                                        "\n    "};
    uint64_t seed = 11;
    char text[400];
    for (int round = 0; round < 200000; round++) {
        size_t length = (size_t)between(&seed, 0, 40);
        size_t at = 0;
        while (at < length) {
            const char *word = words[between(&seed, 0, 7)];
            if (between(&seed, 0, 9) == 0) {
                memcpy(text + at, word, strlen(word));
                at += strlen(word);
            } else {
                text[at++] = letters[between(&seed, 0, (int64_t)sizeof letters - 2)];
            }
        }
        text[at] = '\0';
        const double seconds[3] = {slurm(text), pbs(text, 1795359600), lsf(text)};
        for (int i = 0; i < 3; i++) {
            assert_true(seconds[i] == UNKNOWN || seconds[i] == ENDLESS ||
                        (seconds[i] >= 0 && seconds[i] < 4e8));
        }
    }
}

/* ------------------------------------------------------------------- variables */

static char dir[] = "/tmp/allshard-walltime.XXXXXX";
static char path_variable[300];
static int warnings;
static char last_warning[1024];

static void warn(int level, const char *text, void *user)
{
    (void)user;
    assert_int_equal(level, AS_LOG_WARNING);
    warnings++;
    (void)snprintf(last_warning, sizeof last_warning, "%s", text);
}

static const as_log log_warnings = {.call = warn};

static void script(const char *name, const char *text)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fprintf(file, "#!/bin/sh\n%s\n", text) > 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0755), 0);
}

static void remove_script(const char *name)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    (void)unlink(path);
}

#define END ((const char *)NULL)

/* Variables up to END, and the PATH. They stay until the next call. */
static as_environment variables(const char *first, ...)
{
    static char *items[16];
    size_t count = 0;
    items[count++] = path_variable;
    va_list more;
    va_start(more, first);
    for (const char *at = first; at; at = va_arg(more, const char *)) {
        items[count++] = (char *)(uintptr_t)at;
    }
    va_end(more);
    items[count] = NULL;
    return (as_environment){.items = items};
}

static as_walltime open_with(const as_environment *env, double end_time)
{
    as_walltime w;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(as_walltime_open(&w, env, end_time, 0, &e), AS_OK);
    return w;
}

static void about(double got, double wanted)
{
    if (fabs(got - wanted) > 30) {
        fail_msg("%g, not about %g", got, wanted);
    }
}

static void test_told_by_a_person(void **state)
{
    (void)state;
    char text[64];
    (void)snprintf(text, sizeof text, "ALLSHARD_END_TIME=%lld", (long long)time(NULL) + 1000);
    as_environment env = variables(text, "SLURM_JOB_ID=17", END);
    as_walltime w = open_with(&env, 0);
    about(as_end_left(&w.end), 1000);
    assert_false(as_walltime_is_due(&w));
    w = open_with(&env, (double)time(NULL) + 5000); /* the environment goes first */
    about(as_end_left(&w.end), 1000);
    env = variables("ALLSHARD_END_TIME=", "SLURM_JOB_ID=17", END);
    w = open_with(&env, (double)time(NULL) + 5000);
    about(as_end_left(&w.end), 5000);
    assert_false(as_walltime_is_due(&w));
    w = open_with(&env, 1000); /* long over */
    is(as_end_left(&w.end), 0);
    for (const char *const *bad =
             (const char *const[]){"ALLSHARD_END_TIME=tomorrow", "ALLSHARD_END_TIME=12x",
                                   "ALLSHARD_END_TIME=-5", "ALLSHARD_END_TIME=nan",
                                   "ALLSHARD_END_TIME=1e30", NULL};
         *bad; bad++) {
        as_error e = AS_ERROR_INIT;
        env = variables(*bad, END);
        assert_int_equal(as_walltime_open(&w, &env, 0, 0, &e), AS_INVALID);
        assert_non_null(strstr(as_error_text(&e), "date +%s"));
        as_error_clear(&e);
    }
}

static void test_no_job(void **state)
{
    (void)state;
    as_environment env = variables("SLURM_JOB_END_TIME=99999999999", "PBS_WALLTIME=10", END);
    as_walltime w = open_with(&env, 0);
    assert_false(as_walltime_is_due(&w));
    is(as_end_left(&w.end), -1);
    /* An id is given to a command. */
    env = variables("SLURM_JOB_ID=-x", "PBS_JOBID=$(reboot)", "LSB_JOBID=", END);
    w = open_with(&env, 0);
    assert_false(as_walltime_is_due(&w));
}

static void ask(as_walltime *w)
{
    warnings = 0;
    as_walltime_ask(w, 5, NULL, &log_warnings);
}

static void test_squeue(void **state)
{
    (void)state;
    char text[64];
    (void)snprintf(text, sizeof text, "SLURM_JOB_END_TIME=%lld", (long long)time(NULL) + 5000);
    as_environment env = variables("SLURM_JOB_ID=17", text, END);
    as_walltime w = open_with(&env, 0);
    about(as_end_left(&w.end), 5000);
    assert_true(as_walltime_is_due(&w));
    /* Missing: what the variable told stands, and that is told once. */
    remove_script("squeue");
    ask(&w);
    assert_int_equal(warnings, 1);
    assert_non_null(strstr(last_warning, "job 17"));
    assert_non_null(strstr(last_warning, "no such command on PATH"));
    about(as_end_left(&w.end), 5000);
    ask(&w);
    assert_int_equal(warnings, 0);
    assert_false(as_walltime_is_due(&w));
    /* It answers: the operator has made the job longer. */
    script("squeue", "[ \"$*\" = '-h -j 17 -o %L' ] && echo 2:00:00");
    ask(&w);
    assert_int_equal(warnings, 0);
    about(as_end_left(&w.end), 7200);
    /* It fails, or tells nonsense: the last answer stands. */
    script("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller'; exit 1");
    ask(&w);
    assert_int_equal(warnings, 1);
    assert_non_null(strstr(last_warning, "squeue: it ended with status 1"));
    about(as_end_left(&w.end), 7200);
    script("squeue", "echo INVALID");
    ask(&w);
    assert_int_equal(warnings, 0);
    about(as_end_left(&w.end), 7200);
    script("squeue", "echo 3:00:00");
    ask(&w);
    script("squeue", "printf 'a\\033[2Jb'");
    ask(&w);
    assert_int_equal(warnings, 1);
    assert_non_null(strstr(last_warning, "tells no time"));
    assert_null(strchr(last_warning, '\033'));
    about(as_end_left(&w.end), 10800);
    script("squeue", "echo UNLIMITED");
    ask(&w);
    is(as_end_left(&w.end), -1);
    /* Nothing was known, and nothing is. */
    env = variables("SLURM_JOBID=18", END);
    w = open_with(&env, 0);
    is(as_end_left(&w.end), -1);
    remove_script("squeue");
    ask(&w);
    assert_int_equal(warnings, 1);
    assert_non_null(strstr(last_warning, "ALLSHARD_END_TIME"));
    is(as_end_left(&w.end), -1);
    /* The id of an array may be that of its last task, too. */
    env = variables("SLURM_JOB_ID=20", "SLURM_ARRAY_JOB_ID=20", "SLURM_ARRAY_TASK_ID=3", END);
    w = open_with(&env, 0);
    script("squeue", "[ \"$*\" = '-h -j 20_3 -o %L' ] && echo 100");
    ask(&w);
    assert_int_equal(warnings, 0);
    about(as_end_left(&w.end), 100);
}

/* How long until it is asked again. */
static double pause_of(const as_walltime *w)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return w->next - (double)now.tv_sec;
}

static void test_pauses(void **state)
{
    (void)state;
    as_environment env = variables("SLURM_JOB_ID=17", END);
    as_walltime w = open_with(&env, 0);
    script("squeue", "echo 31:00");
    ask(&w);
    about(pause_of(&w), 900);
    script("squeue", "echo 29:00");
    ask(&w);
    about(pause_of(&w), 300);
    script("squeue", "exit 1");
    ask(&w);
    about(pause_of(&w), 300);
    script("squeue", "echo UNLIMITED");
    ask(&w);
    about(pause_of(&w), 900);
}

static void test_others(void **state)
{
    (void)state;
    as_environment env = variables("PBS_JOBID=17[3].server", "PBS_WALLTIME=3600", END);
    as_walltime w = open_with(&env, 0);
    about(as_end_left(&w.end), 3600); /* this process is young */
    remove_script("qstat");
    ask(&w);
    assert_int_equal(warnings, 1);
    about(as_end_left(&w.end), 3600);
    script("qstat", "[ \"$*\" = '-f 17[3].server' ] && echo 'Job Id: 17' && "
                    "echo '    Walltime.Remaining = 500'");
    ask(&w);
    about(as_end_left(&w.end), 500);

    env = variables("LSB_JOBID=17", "LSB_JOBINDEX=0", END);
    w = open_with(&env, 0);
    is(as_end_left(&w.end), -1);
    script("bjobs", "[ \"$*\" = '-noheader -o time_left 17' ] && echo '1:01 L'");
    ask(&w);
    about(as_end_left(&w.end), 3600);
    env = variables("LSB_JOBID=17", "LSB_JOBINDEX=4", END);
    w = open_with(&env, 0);
    script("bjobs", "[ \"$*\" = '-noheader -o time_left 17[4]' ] && echo '2:01 L'");
    ask(&w);
    about(as_end_left(&w.end), 7200);
}

/* A question that is given up because the series is closed is nobody's fault. */
static void test_cancelled(void **state)
{
    (void)state;
    as_environment env = variables("SLURM_JOB_ID=17", END);
    as_walltime w = open_with(&env, 0);
    script("squeue", "PATH=/usr/bin:/bin; sleep 1000");
    atomic_bool cancel = true;
    warnings = 0;
    as_walltime_ask(&w, 1000, &cancel, &log_warnings);
    assert_int_equal(warnings, 0);
}

static int begin(void **state)
{
    (void)state;
    if (!mkdtemp(dir)) {
        return -1;
    }
    (void)snprintf(path_variable, sizeof path_variable, "PATH=%s", dir);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    return as_tree_remove(AT_FDCWD, dir, dir, NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slurm),
        cmocka_unit_test(test_pbs),
        cmocka_unit_test(test_lsf),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_told_by_a_person),
        cmocka_unit_test(test_no_job),
        cmocka_unit_test(test_squeue),
        cmocka_unit_test(test_pauses),
        cmocka_unit_test(test_others),
        cmocka_unit_test(test_cancelled),
    };
    return cmocka_run_group_tests(tests, begin, finish);
}
