/* SPDX-License-Identifier: Apache-2.0
 * For tests on many ranks: start and end, checks that end all ranks at once, a scratch folder
 * that all share, and what the ranks must have in common. Without MPI: one rank.
 */
#ifndef ALLSHARD_TESTS_SUPPORT_RANKS_H
#define ALLSHARD_TESTS_SUPPORT_RANKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "allshard.h"

/* MPI_Init, a scratch folder, and an alarm that ends a program that hangs after three times
 * `seconds`, which is what it needs alone on a slow machine: each rank says in which scene and
 * where in the program it was, and dies by the signal. */
void ranks_start(int *argc, char ***argv, unsigned seconds);

/* The alarm begins anew: for programs of many cases, each of which has the time alone. */
void ranks_again(void);

/* What the test does now, for the alarm and for checks that fail. */
void ranks_scene(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Takes the scratch folder away and ends MPI; for `return ranks_end();`. Rank 0 says good. */
int ranks_end(void);

/* Of the whole world. */
int world_rank(void);
int world_size(void);
allshard_comm world_comm(void);

/* The first `count` ranks of the world; only they may call. *comm must be given to
 * ranks_free. Collective over the world. */
void ranks_first(int count, allshard_comm *comm);
void ranks_free(allshard_comm *comm);

/* Waits without taking a core from the others. */
void ranks_wait(allshard_comm comm);

void ranks_broadcast(allshard_comm comm, void *bytes, size_t count);
int64_t ranks_max(allshard_comm comm, int64_t value);
int64_t ranks_sum(allshard_comm comm, int64_t value);

/* Do all ranks have these bytes, and as many? */
bool ranks_agree(allshard_comm comm, const void *bytes, size_t count);

/* "<scratch>/<name>"; static, one of a few texts in turn. */
const char *scratch_path(const char *name);

/* A build with sanitizers, which takes its time: tests go through a sample. */
bool is_sanitized(void);

double seconds_now(void);

/* Prints file, line, rank and text, and ends all ranks. */
void fail_test(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4), noreturn));

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fail_test(__FILE__, __LINE__, "%s", #condition);                                       \
        }                                                                                          \
    } while (0)

#define CHECK_TEXT(condition, ...)                                                                 \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fail_test(__FILE__, __LINE__, __VA_ARGS__);                                            \
        }                                                                                          \
    } while (0)

/* ---- results of the library ---- */

/* AS_OK on every rank; prints the error otherwise. */
void check_good(const char *file, int line, const allshard *as, int code);
#define GOOD(as, call) check_good(__FILE__, __LINE__, as, call)

/* That code with the same text, rank and host on every rank of `comm`; the text holds each of the
 * pieces (ends with NULL). */
void check_fails(const char *file, int line, allshard_comm comm, const allshard *as, int code,
                 int expected, const char *const *pieces);
#define FAILS(as, call, expected, ...)                                                             \
    check_fails(__FILE__, __LINE__, world_comm(), as, call, expected,                              \
                (const char *const[]){__VA_ARGS__, NULL})

#endif
