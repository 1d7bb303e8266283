/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bench_usage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/checked.h"

int64_t as_proc_number(const char *path, const char *key)
{
    FILE *file = fopen(path, "re");
    char line[256];
    int64_t value = -1;
    while (file && value < 0 && fgets(line, sizeof line, file)) {
        size_t length = strlen(key);
        if (strncmp(line, key, length) == 0) {
            char *end = NULL;
            long long number = strtoll(line + length, &end, 10);
            int64_t unit = strncmp(end, " kB", 3) == 0 ? 1024 : 1;
            value = number >= 0 && as_mul_i64(number, unit, &value) ? value : -1;
        }
    }
    if (file) {
        (void)fclose(file);
    }
    return value;
}

static double seconds_of(clockid_t clock)
{
    struct timespec t = {0};
    (void)clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double as_process_seconds(void)
{
    return seconds_of(CLOCK_PROCESS_CPUTIME_ID);
}

double as_thread_seconds(void)
{
    return seconds_of(CLOCK_THREAD_CPUTIME_ID);
}

/* "5" resets the peak alone; see proc(5). */
static bool reset_peak(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "we");
    if (!file) {
        return false;
    }
    bool good = fputs("5", file) != EOF;
    return fclose(file) == 0 && good;
}

static int64_t nanoseconds(struct timeval t)
{
    return (int64_t)t.tv_sec * 1000000000 + (int64_t)t.tv_usec * 1000;
}

static as_usage look(void)
{
    struct rusage usage = {0};
    (void)getrusage(RUSAGE_SELF, &usage);
    return (as_usage){
        .processor = nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime),
        .written = as_proc_number("/proc/self/io", "write_bytes:"),
        .read = as_proc_number("/proc/self/io", "read_bytes:"),
        .peak = as_proc_number("/proc/self/status", "VmHWM:"),
    };
}

void as_usage_begin(as_usage *u)
{
    bool reset = reset_peak();
    *u = look();
    u->peak_reset = reset;
}

/* The kernel's counters of memory lag behind by some pages: what shrank a little has not grown. */
static int64_t grown(int64_t before, int64_t after)
{
    return before >= 0 && after >= 0 ? as_max_i64(after - before, 0) : -1;
}

void as_usage_end(as_usage *u)
{
    as_usage now = look();
    u->processor = grown(u->processor, now.processor);
    u->written = grown(u->written, now.written);
    u->read = grown(u->read, now.read);
    u->peak = grown(u->peak, now.peak);
}
