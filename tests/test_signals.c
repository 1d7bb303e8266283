/* SPDX-License-Identifier: Apache-2.0
 * Signals are counted, handlers of before are called as they were installed, and get their signals
 * back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "series/signals.h"

static const int two[] = {SIGUSR2, SIGTERM};
static atomic_int plain_calls;
static atomic_int full_calls;
static atomic_int last_pid;
static bool other_blocked; /* SIGHUP, while the handler ran */

static void plain(int number)
{
    (void)number;
    sigset_t mask;
    (void)pthread_sigmask(SIG_SETMASK, NULL, &mask);
    other_blocked = sigismember(&mask, SIGHUP) == 1;
    atomic_fetch_add(&plain_calls, 1);
    errno = ENOTDIR;
}

static void full(int number, siginfo_t *info, void *context)
{
    assert_int_equal(number, SIGUSR2);
    assert_non_null(context);
    atomic_store(&last_pid, info->si_pid);
    atomic_fetch_add(&full_calls, 1);
}

static void send(int number)
{
    (void)pthread_kill(pthread_self(), number);
}

static struct sigaction action_of(int number)
{
    struct sigaction action;
    assert_int_equal(sigaction(number, NULL, &action), 0);
    return action;
}

static void set_plain(int number, int flags)
{
    struct sigaction action = {.sa_handler = plain, .sa_flags = flags};
    (void)sigemptyset(&action.sa_mask);
    (void)sigaddset(&action.sa_mask, SIGHUP);
    assert_int_equal(sigaction(number, &action, NULL), 0);
}

static void listen_to(as_signals *s)
{
    as_error e = AS_ERROR_INIT;
    assert_int_equal(as_signals_listen(s, two, 2, NULL, &e), AS_OK);
}

static void test_default_and_ignored(void **state)
{
    (void)state;
    (void)signal(SIGTERM, SIG_IGN);
    as_signals s;
    listen_to(&s);
    assert_int_equal(as_signals_came(&s), 0);
    send(SIGUSR2); /* by default it would end the process */
    assert_int_equal(as_signals_came(&s), SIGUSR2);
    assert_int_equal(as_signals_came(&s), 0);
    send(SIGTERM);
    send(SIGTERM);
    assert_int_equal(as_signals_came(&s), SIGTERM);
    assert_int_equal(as_signals_came(&s), 0);
    send(SIGTERM);
    send(SIGUSR2);
    assert_int_equal(as_signals_came(&s), SIGUSR2); /* the first of the list */
    assert_int_equal(as_signals_came(&s), 0);
    as_signals_leave(&s);
    assert_true(action_of(SIGUSR2).sa_handler == SIG_DFL);
    assert_true(action_of(SIGTERM).sa_handler == SIG_IGN);
    assert_int_equal(as_signals_came(&s), 0);
    (void)signal(SIGTERM, SIG_DFL);
}

static void test_plain_handler_of_before(void **state)
{
    (void)state;
    atomic_store(&plain_calls, 0);
    set_plain(SIGTERM, 0);
    as_signals s;
    listen_to(&s);
    /* Its mask holds, calls are interrupted as it wanted it, and errno stays. */
    assert_int_equal(action_of(SIGTERM).sa_flags & SA_RESTART, 0);
    assert_int_equal(action_of(SIGUSR2).sa_flags & SA_RESTART, SA_RESTART);
    errno = EXDEV;
    send(SIGTERM);
    assert_int_equal(errno, EXDEV);
    assert_int_equal(atomic_load(&plain_calls), 1);
    assert_true(other_blocked);
    assert_int_equal(as_signals_came(&s), SIGTERM);
    as_signals_leave(&s);
    assert_true(action_of(SIGTERM).sa_handler == plain);
    send(SIGTERM);
    assert_int_equal(atomic_load(&plain_calls), 2);
    (void)signal(SIGTERM, SIG_DFL);
}

static void test_full_handler_of_before(void **state)
{
    (void)state;
    struct sigaction action = {.sa_sigaction = full, .sa_flags = SA_SIGINFO | SA_RESTART};
    assert_int_equal(sigaction(SIGUSR2, &action, NULL), 0);
    as_signals s;
    listen_to(&s);
    (void)kill(getpid(), SIGUSR2);
    assert_int_equal(atomic_load(&full_calls), 1);
    assert_int_equal(atomic_load(&last_pid), getpid());
    assert_int_equal(as_signals_came(&s), SIGUSR2);
    as_signals_leave(&s);
    assert_true(action_of(SIGUSR2).sa_sigaction == full);
    assert_true(action_of(SIGUSR2).sa_flags & SA_SIGINFO);
    (void)signal(SIGUSR2, SIG_DFL);
}

static void test_handler_that_is_called_once(void **state)
{
    (void)state;
    atomic_store(&plain_calls, 0);
    set_plain(SIGTERM, (int)SA_RESETHAND);
    as_signals s;
    listen_to(&s);
    send(SIGTERM);
    send(SIGTERM);
    assert_int_equal(atomic_load(&plain_calls), 1);
    assert_int_equal(as_signals_came(&s), SIGTERM);
    as_signals_leave(&s);
    assert_true(action_of(SIGTERM).sa_handler == SIG_DFL);
    set_plain(SIGTERM, (int)SA_RESETHAND);
    listen_to(&s);
    as_signals_leave(&s);
    assert_true(action_of(SIGTERM).sa_handler == plain);
    (void)signal(SIGTERM, SIG_DFL);
}

static void test_several_listeners(void **state)
{
    (void)state;
    atomic_store(&plain_calls, 0);
    set_plain(SIGTERM, 0);
    as_signals a;
    as_signals b;
    listen_to(&a);
    send(SIGTERM);
    listen_to(&b); /* what came before is not told to it */
    assert_int_equal(as_signals_came(&b), 0);
    assert_int_equal(as_signals_came(&a), SIGTERM);
    send(SIGTERM);
    assert_int_equal(as_signals_came(&b), SIGTERM);
    as_signals_leave(&b);
    send(SIGTERM);
    assert_int_equal(as_signals_came(&a), SIGTERM);
    assert_int_equal(atomic_load(&plain_calls), 3); /* once for each */
    as_signals_leave(&a);
    assert_true(action_of(SIGTERM).sa_handler == plain);
    (void)signal(SIGTERM, SIG_DFL);
}

/* ---------------------------------------------------- handlers that lie over ours */

static struct sigaction under;
static int warnings;

static void over(int number, siginfo_t *info, void *context)
{
    under.sa_sigaction(number, info, context);
}

static void count_warning(int level, const char *text, void *user)
{
    (void)user;
    assert_int_equal(level, AS_LOG_WARNING);
    assert_non_null(strstr(text, "SIGTERM") ? strstr(text, "SIGTERM") : strstr(text, "signal 15"));
    warnings++;
}

static void test_handler_over_ours(void **state)
{
    (void)state;
    const as_log log = {.call = count_warning};
    as_error e = AS_ERROR_INIT;
    atomic_store(&plain_calls, 0);
    set_plain(SIGTERM, 0);
    as_signals s;
    listen_to(&s);
    struct sigaction action = {.sa_sigaction = over, .sa_flags = SA_SIGINFO};
    assert_int_equal(sigaction(SIGTERM, &action, &under), 0);
    send(SIGTERM);
    assert_int_equal(as_signals_came(&s), SIGTERM);
    assert_int_equal(atomic_load(&plain_calls), 1);
    as_signals_leave(&s);
    assert_true(action_of(SIGTERM).sa_sigaction == over); /* not ours to take away */
    send(SIGTERM);                                        /* and what it calls still is there */
    assert_int_equal(atomic_load(&plain_calls), 2);
    /* To go over it in turn would be a circle. */
    assert_int_equal(as_signals_listen(&s, two, 2, &log, &e), AS_OK);
    assert_int_equal(warnings, 1);
    send(SIGTERM);
    assert_int_equal(as_signals_came(&s), SIGTERM);
    assert_int_equal(atomic_load(&plain_calls), 3);
    as_signals_leave(&s);
    /* Once it has given ours back all is as usual. */
    assert_int_equal(sigaction(SIGTERM, &under, NULL), 0);
    listen_to(&s);
    as_signals_leave(&s);
    assert_true(action_of(SIGTERM).sa_handler == plain);
    assert_int_equal(warnings, 1);
    (void)signal(SIGTERM, SIG_DFL);
}

/* ----------------------------------------------------------------- refused, many */

static void refuse(const int *numbers, size_t count, const char *text)
{
    as_signals s;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(as_signals_listen(&s, numbers, count, NULL, &e), AS_INVALID);
    if (!strstr(as_error_text(&e), text)) {
        fail_msg("%s", as_error_text(&e));
    }
    as_error_clear(&e);
    assert_true(action_of(SIGTERM).sa_handler == SIG_DFL);
    as_signals_leave(&s);
}

static void test_refused(void **state)
{
    (void)state;
    refuse((const int[]){SIGTERM, SIGKILL}, 2, "lets nobody catch it");
    refuse((const int[]){SIGTERM, SIGSTOP}, 2, "lets nobody catch it");
    refuse((const int[]){SIGTERM, SIGSEGV}, 2, "fault of the program");
    refuse((const int[]){SIGTERM, SIGTERM}, 2, "given twice");
    refuse((const int[]){SIGTERM, 0}, 2, "0 is not the number");
    refuse((const int[]){SIGTERM, -3}, 2, "-3 is not the number");
    refuse((const int[]){SIGTERM, 65}, 2, "65 is not the number");
    refuse((const int[]){SIGTERM, 32}, 2, "32 is not the number"); /* the thread library's */
    int many[AS_MOST_SIGNALS + 1] = {0};
    refuse(many, AS_MOST_SIGNALS + 1, "more than 32 signals");
}

static atomic_bool over_now;

static void *send_many(void *user)
{
    pthread_t to = *(pthread_t *)user;
    for (int i = 0; i < 5000; i++) {
        (void)pthread_kill(to, i % 2 ? SIGTERM : SIGUSR2);
    }
    atomic_store(&over_now, true);
    return NULL;
}

/* Under a rain of signals listeners come and go, and nothing takes the default action. */
static void test_rain(void **state)
{
    (void)state;
    as_signals first;
    listen_to(&first);
    pthread_t self = pthread_self();
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, send_many, &self), 0);
    int came = 0;
    while (!atomic_load(&over_now)) {
        as_signals s;
        listen_to(&s);
        came += as_signals_came(&s) != 0;
        as_signals_leave(&s);
    }
    (void)pthread_join(thread, NULL);
    assert_int_not_equal(as_signals_came(&first), 0);
    assert_int_equal(as_signals_came(&first), 0);
    as_signals_leave(&first);
    print_message("%d listeners heard something\n", came);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_default_and_ignored),
        cmocka_unit_test(test_plain_handler_of_before),
        cmocka_unit_test(test_full_handler_of_before),
        cmocka_unit_test(test_handler_that_is_called_once),
        cmocka_unit_test(test_several_listeners),
        cmocka_unit_test(test_handler_over_ours),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_rain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
