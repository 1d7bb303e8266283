/* SPDX-License-Identifier: Apache-2.0 */
#include "support_ranks.h"

#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <execinfo.h>
#endif

#include "checkpoint_folder.h"

enum { PATH_TEXTS = 16, SHARING = 3 /* as the time limits of tests/CMakeLists.txt */ };

static char root[256];
static int own_rank;
static int all_ranks = 1;

int world_rank(void)
{
    return own_rank;
}

int world_size(void)
{
    return all_ranks;
}

bool is_sanitized(void)
{
    const char *value = getenv("ALLSHARD_SANITIZE");
    return value && *value && strcmp(value, "0") != 0;
}

double seconds_now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

const char *scratch_path(const char *name)
{
    static _Thread_local char texts[PATH_TEXTS][512];
    static _Thread_local int next;
    char *text = texts[next++ % PATH_TEXTS];
    (void)snprintf(text, sizeof texts[0], "%s/%s", root, name);
    return text;
}

/* ---- the alarm ---- */

static char scenes[2][256]; /* one is told of while the other is written */
static _Atomic(const char *) scene;
static char who[64];
static unsigned time_limit; /* seconds */

void ranks_scene(const char *format, ...)
{
    static int next;
    char *text = scenes[next++ % 2];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof scenes[0], format, arguments);
    va_end(arguments);
    atomic_store(&scene, text);
}

static void say(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) < 0) {
        return; /* nobody listens */
    }
}

/* Nothing here but what a handler may call. */
static void out_of_time(int number)
{
    const char *text = atomic_load(&scene);
    say(who);
    say(text ? text : "no scene was named");
    say("\n");
#ifdef __GLIBC__
    void *frames[32];
    backtrace_symbols_fd(frames, backtrace(frames, 32), STDERR_FILENO);
#endif
    /* The launcher ends all when one has died: the others are to have their say. */
    (void)nanosleep(&(struct timespec){.tv_sec = 2}, NULL);
    (void)raise(number);
}

void ranks_again(void)
{
    (void)alarm(time_limit);
}

static void set_alarm(unsigned seconds)
{
    struct sigaction action = {.sa_handler = out_of_time, .sa_flags = (int)SA_RESETHAND};
    (void)snprintf(who, sizeof who, "rank %d of %d is out of time: ", own_rank, all_ranks);
#ifdef __GLIBC__
    void *frame;
    (void)backtrace(&frame, 1); /* the first call loads a library */
#endif
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    time_limit = SHARING * seconds;
    ranks_again();
}

static void begin_scratch(void)
{
    if (own_rank == 0) {
        (void)snprintf(root, sizeof root, "%s", scratch_folder());
    }
    ranks_broadcast(world_comm(), root, sizeof root);
}

#ifdef ALLSHARD_NO_MPI

void ranks_start(int *argc, char ***argv, unsigned seconds)
{
    (void)argc, (void)argv;
    set_alarm(seconds);
    begin_scratch();
}

allshard_comm world_comm(void)
{
    return ALLSHARD_COMM_SELF;
}

void ranks_first(int count, allshard_comm *comm)
{
    (void)count;
    *comm = ALLSHARD_COMM_SELF;
}

void ranks_free(allshard_comm *comm)
{
    (void)comm;
}

void ranks_wait(allshard_comm comm)
{
    (void)comm;
}

void ranks_broadcast(allshard_comm comm, void *bytes, size_t count)
{
    (void)comm, (void)bytes, (void)count;
}

int64_t ranks_max(allshard_comm comm, int64_t value)
{
    (void)comm;
    return value;
}

int64_t ranks_sum(allshard_comm comm, int64_t value)
{
    (void)comm;
    return value;
}

static void end_all(void)
{
    exit(1);
}

static void end_ranks(void)
{
}

#else

void ranks_start(int *argc, char ***argv, unsigned seconds)
{
    (void)MPI_Init(argc, argv);
    (void)MPI_Comm_rank(MPI_COMM_WORLD, &own_rank);
    (void)MPI_Comm_size(MPI_COMM_WORLD, &all_ranks);
    set_alarm(seconds);
    begin_scratch();
}

allshard_comm world_comm(void)
{
    return MPI_COMM_WORLD;
}

void ranks_first(int count, allshard_comm *comm)
{
    (void)MPI_Comm_split(MPI_COMM_WORLD, own_rank < count ? 0 : MPI_UNDEFINED, own_rank, comm);
}

void ranks_free(allshard_comm *comm)
{
    if (*comm != MPI_COMM_NULL) {
        (void)MPI_Comm_free(comm);
    }
}

static void finish(MPI_Request *request)
{
    int done = 0;
    while (MPI_Test(request, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && !done) {
        (void)usleep(200);
    }
    (void)MPI_Wait(request, MPI_STATUS_IGNORE);
}

void ranks_wait(allshard_comm comm)
{
    MPI_Request request;
    (void)MPI_Ibarrier(comm, &request);
    finish(&request);
}

void ranks_broadcast(allshard_comm comm, void *bytes, size_t count)
{
    MPI_Request request;
    (void)MPI_Ibcast(bytes, (int)count, MPI_BYTE, 0, comm, &request);
    finish(&request);
}

static int64_t reduce(allshard_comm comm, int64_t value, MPI_Op op)
{
    MPI_Request request;
    (void)MPI_Iallreduce(MPI_IN_PLACE, &value, 1, MPI_INT64_T, op, comm, &request);
    finish(&request);
    return value;
}

int64_t ranks_max(allshard_comm comm, int64_t value)
{
    return reduce(comm, value, MPI_MAX);
}

int64_t ranks_sum(allshard_comm comm, int64_t value)
{
    return reduce(comm, value, MPI_SUM);
}

static void end_all(void)
{
    (void)MPI_Abort(MPI_COMM_WORLD, 1);
}

static void end_ranks(void)
{
    (void)MPI_Finalize();
}

#endif

int ranks_end(void)
{
    ranks_wait(world_comm());
    if (own_rank == 0) {
        remove_tree(root);
        (void)printf("good on %d rank%s\n", all_ranks, all_ranks == 1 ? "" : "s");
    }
    end_ranks();
    return 0;
}

bool ranks_agree(allshard_comm comm, const void *bytes, size_t count)
{
    uint64_t size = count;
    ranks_broadcast(comm, &size, sizeof size);
    char *first = calloc(size + 1, 1);
    CHECK(first != NULL);
    if (count && size == count) {
        memcpy(first, bytes, count); /* rank 0's are what is sent */
    }
    ranks_broadcast(comm, first, size);
    bool same = size == count && (count == 0 || memcmp(first, bytes, count) == 0);
    free(first);
    return ranks_max(comm, !same) == 0;
}

void fail_test(const char *file, int line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)fprintf(stderr, "%s:%d: rank %d: ", file, line, own_rank);
    (void)vfprintf(stderr, format, arguments);
    const char *text = atomic_load(&scene);
    if (text) {
        (void)fprintf(stderr, "\n(in the scene: %s)", text);
    }
    (void)fprintf(stderr, "\n(scratch folder %s stays)\n", root);
    va_end(arguments);
    end_all();
    abort();
}

void check_good(const char *file, int line, const allshard *as, int code)
{
    if (code != ALLSHARD_OK) {
        allshard_error e = {.size = sizeof e};
        (void)allshard_last_error(as, &e);
        fail_test(file, line, "%s: rank %d: %s", allshard_error_name(code), e.rank, e.text);
    }
}

void check_fails(const char *file, int line, allshard_comm comm, const allshard *as, int code,
                 int expected, const char *const *pieces)
{
    allshard_error e = {.size = sizeof e};
    int told = allshard_last_error(as, &e);
    if (code != expected || told != code) {
        fail_test(file, line, "%s (last error %s), expected %s; text: %s",
                  allshard_error_name(code), allshard_error_name(told),
                  allshard_error_name(expected), e.text);
    }
    if (e.rank < 0 || !e.host || !*e.host) {
        fail_test(file, line, "no rank (%d) or host (%s) is told of: %s", e.rank, e.host, e.text);
    }
    for (; *pieces; pieces++) {
        if (!strstr(e.text, *pieces)) {
            fail_test(file, line, "\"%s\" is not in the text: %s", *pieces, e.text);
        }
    }
    bool same = ranks_agree(comm, e.text, strlen(e.text));
    same = ranks_agree(comm, e.host, strlen(e.host)) && same;
    same = ranks_agree(comm, &e.rank, sizeof e.rank) && same;
    same = ranks_agree(comm, &e.sys_errno, sizeof e.sys_errno) && same;
    if (!same) {
        fail_test(file, line, "the ranks tell of different errors; here rank %d, %s: %s", e.rank,
                  e.host, e.text);
    }
}
