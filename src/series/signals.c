/* SPDX-License-Identifier: Apache-2.0 */
#include "series/signals.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

/* One per signal. The handler reads `before` without a lock: it is written only while the handler
 * is not installed. */
typedef struct post {
    atomic_uint count;       /* how often it came */
    atomic_bool spent;       /* `before` was to be called once (SA_RESETHAND), and was */
    struct sigaction before; /* the action that lies under ours */
    int listeners;
    bool installed; /* ours is somewhere among the actions, though perhaps not on top */
} post;

enum { POSTS = 65 }; /* Linux has signals 1 to 64 */

static post posts[POSTS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of posts, but for the handler */

/* Nothing here but atomics and what the handler of before does: it runs in the middle of anything. */
static void handle(int number, siginfo_t *info, void *context)
{
    int saved = errno;
    post *p = &posts[number];
    (void)atomic_fetch_add_explicit(&p->count, 1, memory_order_relaxed);
    const struct sigaction *before = &p->before;
    bool once = ((unsigned)before->sa_flags & (unsigned)SA_RESETHAND) != 0;
    bool calls = before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN;
    if (calls && (!once || !atomic_exchange(&p->spent, true))) {
        if ((unsigned)before->sa_flags & (unsigned)SA_SIGINFO) {
            before->sa_sigaction(number, info, context);
        } else {
            before->sa_handler(number);
        }
    }
    errno = saved;
}

static bool is_ours(const struct sigaction *action)
{
    return ((unsigned)action->sa_flags & (unsigned)SA_SIGINFO) && action->sa_sigaction == handle;
}

/* The handler of before finds what it was installed with: its mask, and calls that are interrupted
 * or taken up again. */
static struct sigaction our_action(const struct sigaction *before)
{
    struct sigaction ours;
    memset(&ours, 0, sizeof ours);
    ours.sa_sigaction = handle;
    ours.sa_flags = SA_SIGINFO | SA_RESTART;
    (void)sigemptyset(&ours.sa_mask);
    if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN) {
        unsigned kept = SA_RESTART | SA_NODEFER | SA_ONSTACK | SA_NOCLDSTOP | SA_NOCLDWAIT;
        ours.sa_flags = (int)(SA_SIGINFO | ((unsigned)before->sa_flags & kept));
        ours.sa_mask = before->sa_mask;
    }
    return ours;
}

static int cannot(as_error *e, int number, const char *why)
{
    return as_fail(e, AS_INVALID, 0, "signal %d (%s) cannot be waited for: %s", number,
                   strsignal(number), why);
}

static int check(const int *numbers, size_t count, as_error *e)
{
    if (count > AS_MOST_SIGNALS) {
        return as_fail(e, AS_INVALID, 0, "there are more than %d signals to wait for",
                       AS_MOST_SIGNALS);
    }
    for (size_t i = 0; i < count; i++) {
        int n = numbers[i];
        struct sigaction now;
        if (n < 1 || n >= POSTS || sigaction(n, NULL, &now) != 0) {
            return as_fail(e, AS_INVALID, 0, "%d is not the number of a signal of this system", n);
        }
        if (n == SIGKILL || n == SIGSTOP) {
            return cannot(e, n, "the system lets nobody catch it");
        }
        if (n == SIGSEGV || n == SIGBUS || n == SIGFPE || n == SIGILL) {
            return cannot(e, n, "it tells of a fault of the program itself");
        }
        for (size_t j = 0; j < i; j++) {
            if (numbers[j] == n) {
                return cannot(e, n, "it is given twice");
            }
        }
    }
    return AS_OK;
}

/* Under the lock. */
static void install(int number, const as_log *log)
{
    post *p = &posts[number];
    struct sigaction now;
    if (sigaction(number, NULL, &now) != 0 || is_ours(&now)) {
        p->installed = true;
        return;
    }
    if (p->installed) {
        /* To go on top of who may call ours would be a circle. */
        as_log_say(log, AS_LOG_WARNING,
                   "another handler of signal %d (%s) lies over allshard's and stays there; unless "
                   "it calls the one of before, that signal does not reach allshard",
                   number, strsignal(number));
        return;
    }
    p->before = now;
    atomic_store(&p->spent, false);
    struct sigaction ours = our_action(&now);
    p->installed = sigaction(number, &ours, NULL) == 0;
}

int as_signals_listen(as_signals *s, const int *numbers, size_t count, const as_log *log,
                      as_error *e)
{
    *s = AS_SIGNALS_INIT;
    int code = check(numbers, count, e);
    if (code != AS_OK) {
        return code;
    }
    (void)pthread_mutex_lock(&lock);
    for (size_t i = 0; i < count; i++) {
        int n = numbers[i];
        s->numbers[i] = n;
        s->seen[i] = atomic_load(&posts[n].count);
        posts[n].listeners++;
        if (posts[n].listeners == 1) {
            install(n, log);
        }
    }
    s->count = count;
    (void)pthread_mutex_unlock(&lock);
    return AS_OK;
}

int as_signals_came(as_signals *s)
{
    int first = 0;
    for (size_t i = 0; i < s->count; i++) {
        unsigned now = atomic_load(&posts[s->numbers[i]].count);
        if (now != s->seen[i] && first == 0) {
            first = s->numbers[i];
        }
        s->seen[i] = now;
    }
    return first;
}

void as_signals_leave(as_signals *s)
{
    (void)pthread_mutex_lock(&lock);
    for (size_t i = 0; i < s->count; i++) {
        post *p = &posts[s->numbers[i]];
        struct sigaction now;
        p->listeners--;
        if (p->listeners == 0 && sigaction(s->numbers[i], NULL, &now) == 0 && is_ours(&now)) {
            /* What was called once is not to be called again. */
            struct sigaction back = p->before;
            if (atomic_load(&p->spent)) {
                back.sa_handler = SIG_DFL;
                back.sa_flags = 0;
            }
            p->installed = sigaction(s->numbers[i], &back, NULL) != 0;
        }
    }
    (void)pthread_mutex_unlock(&lock);
    *s = AS_SIGNALS_INIT;
}
