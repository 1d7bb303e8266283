/* SPDX-License-Identifier: Apache-2.0 */
#include "support_faults.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "support_faults_calls.h"

FILE *fault_trace;

static struct {
    fault_rule rules[FAULT_MOST_RULES];
    int count;
    atomic_int counted[FAULT_MOST_RULES];
    atomic_int calls[FAULT_CALL_COUNT];
    atomic_flag torn; /* of a full disk */
    atomic_flag told;
    fault_event first;
    pthread_t beginner; /* of the trouble */
    atomic_int held;
    atomic_int released;
} now;

static struct {
    int file; /* -1: none */
    atomic_int number;
    const char *counts; /* path */
    bool launched;
} outside = {.file = -1};

/* ---- calls ---- */

#define FAULT_NAME(number, name, kind) [number] = (name),
static const char *const names[] = {FAULT_CALLS(FAULT_NAME)};
#define FAULT_KIND(number, name, kind) [number] = (kind),
static const enum fault_kind kinds[] = {FAULT_CALLS(FAULT_KIND)};

const char *fault_call_name(enum fault_call call)
{
    return names[call];
}

uint64_t fault_calls_of(enum fault_kind kind)
{
    uint64_t set = 0;
    for (int c = 0; c < FAULT_CALL_COUNT; c++) {
        bool in = kinds[c] == kind || (kind == KIND_CHANGE && kinds[c] == KIND_SPACE);
        set |= in ? FAULT_BIT(c) : 0;
    }
    return set;
}

/* ---- setting ---- */

void fault_begin(const fault_rule *rules, int count)
{
    for (int i = 0; i < count; i++) {
        now.rules[i] = rules[i];
        now.counted[i] = 0;
    }
    for (int c = 0; c < FAULT_CALL_COUNT; c++) {
        now.calls[c] = 0;
    }
    now.first = (fault_event){.happened = false};
    atomic_flag_clear(&now.torn);
    atomic_flag_clear(&now.told);
    now.beginner = pthread_self();
    now.released = 0;
    now.count = count;
}

void fault_set(enum fault_mode mode, int at, int error)
{
    fault_rule rule = {.counted = FAULT_ANY_CALL,
                       .hit = FAULT_ANY_CALL,
                       .first = at,
                       .last = at,
                       .mode = mode,
                       .error = error};
    if (mode == FAULT_DEAD_DISK || mode == FAULT_FULL_DISK) {
        rule.hit = fault_calls_of(mode == FAULT_DEAD_DISK ? KIND_CHANGE : KIND_SPACE);
        rule.last = INT_MAX;
    }
    fault_begin(&rule, 1);
}

int fault_end(void)
{
    int counted = now.count > 0 ? now.counted[0] : 0;
    now.count = 0;
    return counted;
}

int fault_counted(enum fault_call call)
{
    return now.calls[call];
}

const fault_event *fault_first_hit(void)
{
    return &now.first;
}

/* ---- what happens ---- */

/* Processes with our parent and our program: the ranks that the same launcher started here. */
static void kill_siblings(void)
{
    DIR *stream = opendir("/proc");
    const struct dirent *entry;
    char own[64] = "";
    char own_program[512];
    ssize_t own_length = readlink("/proc/self/exe", own_program, sizeof own_program);
    (void)snprintf(own, sizeof own, "%d", (int)getppid());
    while (stream && (entry = readdir(stream))) {
        char path[300];
        char line[1024] = "";
        char program[512];
        long pid = strtol(entry->d_name, NULL, 10);
        if (pid <= 1 || pid == getpid()) {
            continue;
        }
        (void)snprintf(path, sizeof path, "/proc/%ld/stat", pid);
        FILE *f = fopen(path, "re");
        size_t got = f ? fread(line, 1, sizeof line - 1, f) : 0;
        line[got] = '\0';
        if (f) {
            (void)fclose(f);
        }
        const char *end = strrchr(line, ')'); /* then " STATE PARENT " */
        (void)snprintf(path, sizeof path, "/proc/%ld/exe", pid);
        if (end && strlen(end) > 4 && strtol(end + 4, NULL, 10) == getppid() &&
            readlink(path, program, sizeof program) == own_length &&
            memcmp(program, own_program, (size_t)own_length) == 0) {
            (void)kill((pid_t)pid, SIGKILL);
        }
    }
    if (stream) {
        (void)closedir(stream);
    }
}

static void die(enum fault_mode mode)
{
    if (mode == FAULT_KILL_ALL && outside.launched && getppid() > 1) {
        kill_siblings();
    }
    (void)kill(getpid(), SIGKILL);
}

static void stall(double seconds)
{
    struct timespec t = {.tv_sec = (time_t)seconds,
                         .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    while (nanosleep(&t, &t) < 0 && errno == EINTR) {
    }
}

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* A time for each call, which depends on ALLSHARD_SEED and the salt. */
static void jitter(double most, int salt)
{
    enum { ONE_IN = 3, RARELY_ONE_IN = 30, RARELY_TIMES = 10 };
    static atomic_int calls;
    const char *text = getenv("ALLSHARD_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 10) : 1;
    uint64_t x =
        mix(mix(seed + ((uint64_t)(unsigned)salt << 32)) + (uint64_t)atomic_fetch_add(&calls, 1));
    if (x % ONE_IN == 0) {
        double part = (double)(mix(x) >> 40) / (double)(1 << 24);
        stall(most * part * (x % (ONE_IN * RARELY_ONE_IN) == 0 ? RARELY_TIMES : 1));
    }
}

bool fault_is_held(void)
{
    return atomic_load(&now.held) > 0;
}

void fault_release(void)
{
    atomic_store(&now.released, 1);
}

static void hold(double seconds)
{
    static const double step = 0.0005;
    if (pthread_equal(pthread_self(), now.beginner)) {
        return;
    }
    (void)atomic_fetch_add(&now.held, 1);
    for (int i = 0; i < (int)(seconds / step) && !atomic_load(&now.released); i++) {
        stall(step);
    }
    (void)atomic_fetch_sub(&now.held, 1);
}

static void limit(double bytes)
{
    struct rlimit l = {.rlim_cur = (rlim_t)bytes, .rlim_max = RLIM_INFINITY};
    (void)signal(SIGXFSZ, SIG_DFL);
    if (setrlimit(RLIMIT_FSIZE, &l) < 0) {
        perror("RLIMIT_FSIZE");
        abort();
    }
}

static void path_of_descriptor(int fd, char *out, size_t size)
{
    out[0] = '\0';
    if (fd >= 0) {
        char link[64];
        (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, out, size - 1);
        out[n > 0 ? n : 0] = '\0';
    }
}

/* The file that a call is about. */
static void path_of(const fault_making *m, char *out, size_t size)
{
    if (!m->path || !*m->path) {
        path_of_descriptor(m->fd, out, size);
    } else if (m->fd == AT_FDCWD || m->path[0] == '/') {
        (void)snprintf(out, size, "%s", m->path);
    } else {
        char folder[400];
        path_of_descriptor(m->fd, folder, sizeof folder);
        (void)snprintf(out, size, "%s/%s", folder, m->path);
    }
}

static bool applies(const fault_rule *r, int number, enum fault_call call)
{
    return number >= r->first && number <= r->last && (r->hit & FAULT_BIT(call)) &&
           r->mode != FAULT_NONE;
}

static void disturb(fault_making *m, const fault_rule *r)
{
    if (!atomic_flag_test_and_set(&now.told)) {
        now.first.call = m->call;
        path_of(m, now.first.path, sizeof now.first.path);
        now.first.happened = true;
    }
    m->error = r->error;
    switch (r->mode) {
    case FAULT_KILL:
    case FAULT_KILL_ALL:
        fault_tell(m, "killed");
        die(r->mode);
        break;
    case FAULT_FULL_DISK: {
        /* A full disk takes a part before it refuses. */
        bool tears = m->call == ON_PWRITE && m->count > 1 && !atomic_flag_test_and_set(&now.torn);
        m->verdict = tears ? VERDICT_SHORT : VERDICT_REFUSE;
        break;
    }
    case FAULT_FAIL:
    case FAULT_DEAD_DISK:
        m->verdict = VERDICT_REFUSE;
        break;
    case FAULT_LIE:
        m->verdict = VERDICT_LIE;
        break;
    case FAULT_SHORT:
        m->verdict = VERDICT_SHORT;
        break;
    case FAULT_STALL:
        stall(r->amount);
        break;
    case FAULT_JITTER:
        jitter(r->amount, r->error);
        break;
    case FAULT_HOLD:
        hold(r->amount);
        break;
    case FAULT_LIMIT:
        limit(r->amount);
        break;
    case FAULT_NONE:
        break;
    }
}

void fault_judge(fault_making *m)
{
    int saved = errno;
    m->verdict = VERDICT_MAKE;
    (void)atomic_fetch_add(&now.calls[m->call], 1);
    m->number = outside.file >= 0 ? atomic_fetch_add(&outside.number, 1) + 1 : 0;
    if (outside.file >= 0 && m->call == ON_CLOSE) {
        path_of(m, m->closed, sizeof m->closed);
    }
    for (int i = 0; i < now.count; i++) {
        const fault_rule *r = &now.rules[i];
        if (!(r->counted & FAULT_BIT(m->call))) {
            continue;
        }
        int number = atomic_fetch_add(&now.counted[i], 1) + 1;
        if (applies(r, number, m->call)) {
            disturb(m, r);
        }
    }
    errno = saved;
}

/* ---- telling ---- */

static void tell_stream(const fault_making *m)
{
    char folder[512] = "";
    if (m->fd >= 0) {
        path_of_descriptor(m->fd, folder, sizeof folder);
    }
    const char *tail = strrchr(folder, '/');
    (void)fprintf(fault_trace, "%s %s%s%s%s%s\n", names[m->call], tail ? tail + 1 : folder,
                  m->path ? "/" : "", m->path ? m->path : "", m->to ? " " : "", m->to ? m->to : "");
}

void fault_tell(const fault_making *m, const char *result)
{
    char line[2000];
    char path[1000];
    char to[600] = "";
    char range[64] = "";
    if (outside.file < 0) {
        return;
    }
    path_of(m, path, sizeof path);
    if (m->to) {
        fault_making other = {.fd = m->to_fd, .path = m->to};
        path_of(&other, to, sizeof to);
    }
    if (m->count > 0) {
        (void)snprintf(range, sizeof range, " %lld+%lld", (long long)m->offset,
                       (long long)m->count);
    }
    int length = snprintf(line, sizeof line, "%d %s %s%s%s%s = %s\n", m->number, names[m->call],
                          m->closed[0] ? m->closed : path, to[0] ? " " : "", to, range, result);
    length = length < (int)sizeof line ? length : (int)sizeof line - 1;
    if (write(outside.file, line, (size_t)length) < 0) {
        perror("ALLSHARD_FAULT_TRACE");
    }
}

void fault_told(const fault_making *m, int64_t result, int error)
{
    char text[64];
    if (fault_trace) {
        tell_stream(m);
    }
    if (outside.file < 0) {
        return;
    }
    (void)snprintf(text, sizeof text, "%lld%s%s", (long long)result, result < 0 ? " " : "",
                   result < 0 ? strerror(error) : "");
    fault_tell(m, text);
}

/* ---- the environment ---- */

static void write_counts(void)
{
    FILE *f = fopen(outside.counts, "we");
    int sum = 0;
    for (int c = 0; f && c < FAULT_CALL_COUNT; c++) {
        sum += now.calls[c];
        if (now.calls[c]) {
            (void)fprintf(f, "%s %d\n", names[c], now.calls[c]);
        }
    }
    if (!f || fprintf(f, "any %d\n", sum) < 0 || fclose(f) != 0) {
        perror(outside.counts);
    }
}

/* The caller's, to free; NULL where the environment names no file. */
static char *path_for(const char *variable, int rank)
{
    const char *value = getenv(variable);
    char *path = NULL;
    if (value && *value && asprintf(&path, "%s.%d", value, rank) < 0) {
        abort();
    }
    return path;
}

void fault_from_environment(int rank)
{
    const char *text = getenv("ALLSHARD_FAULT");
    fault_rule rules[FAULT_MOST_RULES];
    int count = 0;
    const char *wrong = text ? fault_read(text, rank < 0 ? 0 : rank, rules, &count) : NULL;
    if (wrong) {
        (void)fprintf(stderr, "ALLSHARD_FAULT: %s\n", wrong);
        _exit(2);
    }
    outside.launched = rank >= 0;
    char *trace = path_for("ALLSHARD_FAULT_TRACE", rank < 0 ? 0 : rank);
    if (trace) {
        outside.file = open(trace, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
        free(trace);
    }
    outside.counts = path_for("ALLSHARD_FAULT_COUNT", rank < 0 ? 0 : rank);
    if (outside.counts && atexit(write_counts) != 0) {
        _exit(2);
    }
    fault_install();
    fault_begin(rules, count);
}
