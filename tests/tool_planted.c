/* SPDX-License-Identifier: Apache-2.0
 * Bugs on purpose, one for each argument: what check_planted.sh has valgrind and the sanitizers
 * find on rank 1 of a job, with the options and suppressions that all other tests run with. A tool
 * that is silent about these would be silent about ours.
 *   tool_planted none | leak | use_after_free | uninitialised | race
 */
/* needs: mpi */
#include <mpi.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES = 4321, TURNS = 1000 };

/* Compilers look no further than this. */
static char *volatile hidden;
static volatile int sink;

__attribute__((noinline)) static void planted_leak(void)
{
    hidden = malloc(BYTES);
    hidden = NULL;
}

__attribute__((noinline)) static void planted_use_after_free(void)
{
    hidden = malloc(BYTES);
    free(hidden);
    /* cppcheck-suppress deallocuse */
    sink = hidden ? hidden[BYTES / 2] : 0; /* NOLINT(clang-analyzer-unix.Malloc) */
    hidden = NULL;
}

__attribute__((noinline)) static void planted_uninitialised(void)
{
    hidden = malloc(BYTES);
    /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult) */
    if (hidden && hidden[BYTES / 2] > 1) {
        sink = 1;
    }
    free(hidden);
    hidden = NULL;
}

static int shared;

__attribute__((noinline)) static void *planted_race_thread(void *user)
{
    (void)user;
    for (int i = 0; i < TURNS; i++) {
        shared++;
    }
    return NULL;
}

__attribute__((noinline)) static void planted_race(void)
{
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        if (pthread_create(&threads[i], NULL, planted_race_thread, NULL) != 0) {
            abort();
        }
    }
    for (int i = 0; i < 2; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    sink = shared;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*plant)(void);
    } bugs[] = {
        {"leak", planted_leak},
        {"use_after_free", planted_use_after_free},
        {"uninitialised", planted_uninitialised},
        {"race", planted_race},
    };
    int rank;
    if (argc != 2 || MPI_Init(NULL, NULL) != MPI_SUCCESS ||
        MPI_Comm_rank(MPI_COMM_WORLD, &rank) != MPI_SUCCESS) {
        return 2;
    }
    for (size_t i = 0; i < sizeof bugs / sizeof *bugs; i++) {
        if (rank == 1 && strcmp(argv[1], bugs[i].name) == 0) {
            bugs[i].plant();
        }
    }
    return MPI_Finalize() == MPI_SUCCESS ? 0 : 2;
}
