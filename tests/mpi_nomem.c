/* SPDX-License-Identifier: Apache-2.0
 * Memory that cannot be had on one rank, at one allocation of the library after the other: all
 * ranks return, with one error, the old checkpoint is whole, and the next save and load are good.
 */
/* unshared: 3 */
/* ranks: 1 3 */
/* timeout: 240 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint_folder.h"
#include "support_model.h"
#include "support_ranks.h"

/* The C library's own are taken in place of the sanitizers', which do not fail. */
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
#define CAN_FAIL 1
#else
#define CAN_FAIL 0
#endif

static struct {
    bool on;
    int at; /* 1 is the first allocation */
    int count;
} fault;

#if CAN_FAIL

/* NOLINTBEGIN: the C library's and the linker's names */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern char __executable_start;
extern char etext;
/* NOLINTEND */

/* The library is linked into this program; what MPI and the C library allocate does not count. */
static bool hits(const void *caller)
{
    const char *at = caller;
    if (!fault.on || at < &__executable_start || at >= &etext) {
        return false;
    }
    fault.count++;
    if (fault.count == fault.at) {
        errno = ENOMEM;
        return true;
    }
    return false;
}

void *malloc(size_t size)
{
    return hits(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t nmemb, size_t size)
{
    return hits(__builtin_return_address(0)) ? NULL : __libc_calloc(nmemb, size);
}

void *realloc(void *ptr, size_t size)
{
    return hits(__builtin_return_address(0)) ? NULL : __libc_realloc(ptr, size);
}

int posix_memalign(void **memptr, size_t alignment, size_t size)
{
    if (hits(__builtin_return_address(0))) {
        return ENOMEM;
    }
    *memptr = __libc_memalign(alignment, size);
    return *memptr ? 0 : ENOMEM;
}

#endif

static const model_tensor old_tensors[] = {{"old", ALLSHARD_F32, 2, {20, 30}}};
static const model_tensor new_tensors[] = {
    {"new.one", ALLSHARD_F32, 2, {40, 30}},
    {"new.two", ALLSHARD_BF16, 2, {16, 64}},
    {"new.three", ALLSHARD_U8, 1, {3000}},
};
static const model model_old = {old_tensors, 1};
static const model model_new = {new_tensors, 3};

typedef struct side {
    holding h;
    allshard_state *s;
} side;

static allshard *as;
static side old_side;
static side new_side;
static const char *folder;

static void open_side(side *x, const model *m)
{
    holding_make(&x->h, m, LAYOUT_COLUMNS, world_rank(), world_size(), true);
    GOOD(as, allshard_state_create(&x->s, as, "model"));
    GOOD(as, allshard_state_meta(x->s, "key", "value"));
    GOOD(as, allshard_state_file(x->s, "config.json", "{}", 2));
    holding_declare(&x->h, as, x->s);
    holding_fill(&x->h);
}

static void close_side(side *x)
{
    (void)allshard_state_free(x->s);
    holding_free(&x->h);
}

static int save(side *x)
{
    allshard_save_options o = {.size = sizeof o, .max_shard_size = "3000", .block_bytes = 512};
    return allshard_save(x->s, folder, &o);
}

static int load(side *x)
{
    allshard_load_options o = {.size = sizeof o, .block_bytes = 512};
    holding_clear(&x->h);
    return allshard_load(x->s, folder, &o);
}

static bool holds(side *x)
{
    return load(x) == ALLSHARD_OK && !holding_wrong(&x->h);
}

/* Runs with the allocation failing; *hit: it was made. */
static int run(int (*call)(side *), int victim, int at, bool *hit)
{
    fault.at = at;
    fault.count = 0;
    fault.on = world_rank() == victim;
    double start = seconds_now();
    int code = call(&new_side);
    double took = seconds_now() - start;
    fault.on = false;
    *hit = ranks_max(world_comm(), world_rank() == victim && fault.count >= at) != 0;
    CHECK_TEXT(took < 60, "allocation %d of rank %d failed, and the call took %.0f s", at, victim,
               took);
    if (code == ALLSHARD_NOMEM) {
        FAILS(as, code, ALLSHARD_NOMEM, "");
    }
    return code;
}

static int next_at(int at)
{
    return at < 80 ? at + 1 : at + at / 20;
}

int main(int argc, char **argv)
{
    if (!CAN_FAIL) {
        return 77;
    }
    int failed[2] = {0, 0};
    ranks_start(&argc, &argv, 900);
    folder = strdup(scratch_path("folder"));
    allshard_options options = {.size = sizeof options, .memory = 1};
    CHECK(allshard_open(&as, world_comm(), &options) == ALLSHARD_OK);
    open_side(&old_side, &model_old);
    open_side(&new_side, &model_new);
    for (int victim = 0; victim < world_size(); victim += 2) {
        bool hit = true;
        for (int at = 1; hit; at = next_at(at)) {
            holding_fill(&old_side.h);
            GOOD(as, save(&old_side));
            holding_fill(&new_side.h);
            int code = run(save, victim, at, &hit);
            if (code == ALLSHARD_NOMEM) {
                failed[0]++;
                CHECK_TEXT(holds(&old_side), "allocation %d of rank %d: old", at, victim);
                ranks_wait(world_comm());
                CHECK_TEXT(!exists(folder, ".allshard"), "allocation %d of rank %d", at, victim);
                ranks_wait(world_comm());
            } else {
                /* In the commit the main process may be past the point of no return. */
                CHECK_TEXT(code == ALLSHARD_OK || (victim == 0 && code == ALLSHARD_PENDING),
                           "allocation %d of rank %d: %s", at, victim, allshard_error_name(code));
                CHECK_TEXT(holds(&new_side), "allocation %d of rank %d: new", at, victim);
            }
        }
        holding_fill(&new_side.h);
        GOOD(as, save(&new_side));
        hit = true;
        for (int at = 1; hit; at = next_at(at)) {
            int code = run(load, victim, at, &hit);
            CHECK_TEXT(code == ALLSHARD_OK || code == ALLSHARD_NOMEM,
                       "allocation %d of rank %d: %s", at, victim, allshard_error_name(code));
            CHECK(code != ALLSHARD_OK || !holding_wrong(&new_side.h));
            failed[1] += code == ALLSHARD_NOMEM;
            CHECK_TEXT(holds(&new_side), "after allocation %d of rank %d", at, victim);
        }
    }
    close_side(&old_side);
    close_side(&new_side);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    if (world_rank() == 0) {
        (void)printf("%d saves and %d loads without memory failed as they should\n", failed[0],
                     failed[1]);
    }
    free((void *)(uintptr_t)folder);
    return ranks_end();
}
