/* SPDX-License-Identifier: Apache-2.0 */
#include "io/manners.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/quote.h"
#include "base/sys.h"

/* ioprio_set(2), which glibc does not have; the kernel's own header came with 5.15. */
enum {
    PRIORITY_OF_THREAD = 1, /* IOPRIO_WHO_PROCESS, where 0 is the calling thread */
    PRIORITY_SHIFT = 13,
    PRIORITY_NONE = 0,
    PRIORITY_BEST_EFFORT = 2,
    PRIORITY_IDLE = 3
};

enum { SECOND = 1000000000, CREDIT = SECOND / 10 };

/* ---- priority ---- */

static int parse_priority(const char *text, int *out, as_error *e)
{
    static const char best_effort[] = "best-effort:";
    const size_t length = sizeof best_effort - 1;
    if (strcmp(text, "idle") == 0) {
        *out = PRIORITY_IDLE << PRIORITY_SHIFT;
        return AS_OK;
    }
    if (strncmp(text, best_effort, length) == 0 && text[length] >= '0' && text[length] <= '7' &&
        text[length + 1] == '\0') {
        *out = PRIORITY_BEST_EFFORT << PRIORITY_SHIFT | (text[length] - '0');
        return AS_OK;
    }
    return as_fail(e, AS_INVALID, 0,
                   "io_priority is %s; it must be \"idle\", or \"best-effort:0\" (first) to "
                   "\"best-effort:7\" (last)",
                   as_quote(text, strlen(text)).text);
}

static int priority_now(void)
{
    return (int)syscall(SYS_ioprio_get, PRIORITY_OF_THREAD, 0);
}

/* 0 or the errno. Has nothing to ask for where it is so already: a real-time class that the
 * program was given could not be asked for again without privileges. */
static int set_priority(int priority)
{
    if (priority >> PRIORITY_SHIFT == PRIORITY_NONE) {
        priority = 0; /* older kernels tell a level with it, and take none */
    }
    int now = priority_now();
    if (now == priority || (now >= 0 && now >> PRIORITY_SHIFT == PRIORITY_NONE && priority == 0)) {
        return 0;
    }
    return syscall(SYS_ioprio_set, PRIORITY_OF_THREAD, 0, priority) == 0 ? 0 : errno;
}

/* ---- which processors the process may run on ---- */

typedef struct probe {
    as_cpus asked;
    as_cpus given;
    as_cpus possible;
    bool told;
} probe;

static void *try_cpus(void *user)
{
    probe *p = user;
    as_cpus all;
    memset(&all, 0xff, sizeof all);
    /* The kernel leaves out what is not allowed; EINVAL: nothing was left. */
    int failed = as_cpus_bind(&p->asked);
    p->told = failed == EINVAL || (failed == 0 && as_cpus_of_thread(&p->given));
    p->told = p->told && as_cpus_bind(&all) == 0 && as_cpus_of_thread(&p->possible);
    return NULL;
}

static int check_allowed(const as_cpus *asked, as_error *e)
{
    probe p = {.asked = *asked};
    pthread_t thread;
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = as_sys_table.pthread_create(&thread, NULL, try_cpus, &p);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        return AS_OK; /* nobody knows; if it is wrong, taking them will tell */
    }
    (void)pthread_join(thread, NULL);
    as_cpus missing = as_cpus_less(asked, &p.given);
    if (!p.told || as_cpus_count(&missing) == 0) {
        return AS_OK;
    }
    return as_fail(e, AS_INVALID, 0,
                   "cpus names processors that this process may not run on, or that are not "
                   "there: %s; possible are %s",
                   as_cpus_tell(&missing).text, as_cpus_tell(&p.possible).text);
}

int as_manners_check(const as_manners *m, as_error *e)
{
    int code = AS_OK;
    int priority = 0;
    as_cpus cpus;
    if (m->bytes_per_s < 0) {
        code = as_fail(e, AS_INVALID, 0,
                       "bandwidth is %lld; it must be bytes a second, or 0 for no limit",
                       (long long)m->bytes_per_s);
    }
    if (code == AS_OK && m->priority) {
        code = parse_priority(m->priority, &priority, e);
    }
    if (code == AS_OK && m->cpus) {
        code = as_cpus_parse(&cpus, m->cpus, e);
        code = code == AS_OK ? check_allowed(&cpus, e) : code;
    }
    return code;
}

/* ---- a thread's ---- */

void as_manners_note(as_manners_home *home)
{
    *home = (as_manners_home){0};
    (void)as_cpus_of_thread(&home->cpus);
    home->priority = priority_now();
    home->has_priority = home->priority >= 0;
}

static int take_cpus(const as_manners *m, const as_manners_home *home, as_error *e)
{
    as_cpus wanted = home ? home->cpus : (as_cpus){0};
    as_cpus now;
    if (m->cpus) {
        int code = as_cpus_parse(&wanted, m->cpus, e);
        if (code != AS_OK) {
            return code;
        }
    }
    if (as_cpus_count(&wanted) == 0 || (as_cpus_of_thread(&now) && as_cpus_equal(&now, &wanted))) {
        return AS_OK;
    }
    int failed = as_cpus_bind(&wanted);
    return failed == 0 ? AS_OK
                       : as_fail(e, AS_SYSTEM, failed,
                                 "threads in the background cannot run on processors %s",
                                 as_cpus_tell(&wanted).text);
}

static int take_priority(const as_manners *m, const as_manners_home *home, as_error *e)
{
    int wanted = home && home->has_priority ? home->priority : -1;
    if (m->priority) {
        int code = parse_priority(m->priority, &wanted, e);
        if (code != AS_OK) {
            return code;
        }
    }
    int failed = wanted >= 0 ? set_priority(wanted) : 0;
    return failed == 0 ? AS_OK
                       : as_fail(e, AS_SYSTEM, failed,
                                 "threads in the background cannot have the I/O priority %s",
                                 m->priority ? m->priority : "that the program has");
}

int as_manners_take(const as_manners *m, const as_manners_home *home, as_error *e)
{
    int cpus = take_cpus(m, home, e);
    int priority = take_priority(m, home, e);
    return cpus != AS_OK ? cpus : priority;
}

/* ---- pace ---- */

int64_t as_pace_ask_at(as_pace *p, int64_t bytes, int64_t now)
{
    if (p->bytes_per_s <= 0 || bytes <= 0) {
        return 0;
    }
    if (p->free_at > now) {
        return p->free_at - now;
    }
    if (p->free_at < now - CREDIT) {
        p->free_at = now - CREDIT;
        p->fraction = 0;
    }
    /* What is cut off is kept: at a few hundred nanoseconds a call it would soon be a percent. */
    __int128 price = (__int128)bytes * SECOND + p->fraction;
    __int128 at = p->free_at + price / p->bytes_per_s;
    p->fraction = (int64_t)(price % p->bytes_per_s);
    p->free_at = at < INT64_MAX ? (int64_t)at : INT64_MAX;
    return 0;
}

int64_t as_pace_ask(as_pace *p, int64_t bytes)
{
    return as_pace_ask_at(p, bytes, as_clock());
}
