/* SPDX-License-Identifier: Apache-2.0
 * Transfer buffers that the ranks of a node share: every rank sees every other's memory, whatever
 * its size; where one cannot share, neither side thinks so, and all goes on.
 * (ALLSHARD_NO_MPI: also as one process.)
 */
/* ranks: 1 2 4 7 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "comm/arena.h"
#include "comm/node.h"
#include "io/reserve.h"
#include "support_ranks.h"
#include "transfer/buffers.h"

static bool no_memory_files; /* on this rank */

/* In place of the C library's: the library is linked into this program. */
int memfd_create(const char *name, unsigned int flags)
{
    if (no_memory_files) {
        errno = ENOSYS;
        return -1;
    }
    return (int)syscall(SYS_memfd_create, name, flags);
}

static as_comm *comm;
static as_error error = AS_ERROR_INIT;

static void all_meet(void)
{
    ranks_wait(world_comm());
}

static size_t bytes_of(int rank)
{
    return 100000 + 5000 * (size_t)rank;
}

static unsigned char mark(int writer, int owner)
{
    return (unsigned char)(1 + writer * 16 + owner);
}

/* Each rank leaves a mark in every memory that it sees, and finds those of the others in its
 * own. */
static void check_marks(as_arena *a, bool (*shares)(int rank))
{
    int me = world_rank();
    unsigned char *own = (unsigned char *)as_arena_base(a);
    CHECK((uintptr_t)own % 4096 == 0);
    memset(own, 0, bytes_of(me));
    all_meet();
    for (int r = 0; r < world_size(); r++) {
        char *theirs = as_arena_of(a, r);
        bool expected = r != me && shares(r) && shares(me);
        CHECK_TEXT((theirs != NULL) == expected, "memory of rank %d", r);
        CHECK(as_arena_bytes_of(a, r) >= (expected ? bytes_of(r) : 0));
        CHECK(expected || as_arena_bytes_of(a, r) == 0);
        if (theirs) {
            size_t at = bytes_of(r) - 1 - (size_t)me;
            as_arena_touch(a, r, at, 1, true);
            theirs[me] = (char)mark(me, r);
            theirs[at] = (char)mark(me, r);
            as_arena_touch(a, r, 0, bytes_of(r), false);
            CHECK((unsigned char)theirs[me] == mark(me, r));
        }
    }
    atomic_thread_fence(memory_order_release);
    all_meet();
    atomic_thread_fence(memory_order_acquire);
    for (int r = 0; r < world_size(); r++) {
        unsigned char expected = r != me && shares(r) && shares(me) ? mark(r, me) : 0;
        CHECK(own[r] == expected && own[bytes_of(me) - 1 - (size_t)r] == expected);
    }
    all_meet();
}

static bool everyone(int rank)
{
    (void)rank;
    return true;
}

static bool no_one(int rank)
{
    (void)rank;
    return false;
}

static bool even(int rank)
{
    return rank % 2 == 0;
}

static void check_arena(bool (*shares)(int rank))
{
    as_arena *a = NULL;
    CHECK(as_arena_open(&a, comm, bytes_of(world_rank()), &error) == AS_OK);
    CHECK(as_arena_bytes(a) >= bytes_of(world_rank()));
    bool all = true;
    for (int r = 0; r < world_size(); r++) {
        all = all && (r == world_rank() || (shares(r) && shares(world_rank())));
    }
    CHECK(as_arena_reaches_all(a) == all);
    check_marks(a, shares);
    CHECK(!as_arena_abandoned(a));
    as_arena_close(a);
}

/* The same over memory that is there already, in pieces that have to be let go in between. */
static void check_over(bool (*shares)(int rank))
{
    enum { QUOTA = 3000 };
    as_arena *a = NULL;
    as_reserve r = {0};
    CHECK(as_reserve_fit_shared(&r, bytes_of(world_rank()), 2, NULL, &error) == AS_OK);
    CHECK(r.shared == shares(world_rank()));
    CHECK(as_arena_open_over(&a, comm, r.base, r.shared ? &r.file : NULL, QUOTA, &error) == AS_OK);
    CHECK(as_arena_base(a) == r.base);
    check_marks(a, shares);
    as_arena_let_go(a);
    check_marks(a, shares);
    /* Who frees it does not wait for the others. */
    bool early = world_rank() % 2;
    if (early) {
        as_reserve_free(&r);
    }
    as_arena_close(a);
    as_reserve_free(&r);
}

static void test_nodes(void)
{
    int32_t node_of[64];
    CHECK(as_comm_nodes(comm, node_of, &error) == AS_OK);
    for (int r = 0; r < world_size(); r++) {
        CHECK(node_of[r] == 0);
    }
}

static void test_switch(void)
{
    CHECK(setenv(AS_ARENA_SWITCH, "off", 1) == 0);
    check_arena(no_one);
    CHECK(setenv(AS_ARENA_SWITCH, even(world_rank()) ? "on" : "off", 1) == 0);
    check_arena(even);
    CHECK(unsetenv(AS_ARENA_SWITCH) == 0);
}

static void test_no_memory_files(void)
{
    no_memory_files = !even(world_rank());
    check_arena(even);
    check_over(even);
    no_memory_files = false;
}

/* A limit on the size of files holds for memory files too. */
static void test_limit_on_files(void)
{
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    struct rlimit low = {.rlim_cur = even(world_rank()) ? limit.rlim_cur : 50000,
                         .rlim_max = limit.rlim_max};
    CHECK(setrlimit(RLIMIT_FSIZE, &low) == 0);
    check_arena(even);
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

/* An arena is made anew for larger blocks only. */
static void test_regrowth(void)
{
    enum { SMALL = 4096, LARGE = 1 << 20 };
    as_arena *a = NULL;
    int64_t largest = 0;
    CHECK(as_transfer_arena(&a, &largest, comm, 1, SMALL, &error) == AS_OK && largest == SMALL);
    size_t bytes = as_arena_bytes(a);
    CHECK(bytes >= (size_t)4 * SMALL);
    const as_arena *before = a;
    CHECK(as_transfer_arena(&a, &largest, comm, 1, 64, &error) == AS_OK && largest == SMALL);
    CHECK(a == before && as_arena_bytes(a) == bytes);
    CHECK(as_transfer_arena(&a, &largest, comm, 1, LARGE, &error) == AS_OK && largest == LARGE);
    CHECK(as_arena_bytes(a) >= (size_t)4 * LARGE);
    as_arena_close(a);
    as_arena_close(NULL);
    CHECK(as_transfer_arena_bytes(64 << 20, 4 << 20, true) <= 48 << 20);
    CHECK(as_transfer_arena_bytes(INT64_MAX, 4 << 20, true) < (size_t)1 << 30);
    CHECK(as_transfer_arena_bytes(64 << 20, 4 << 20, false) < (size_t)32 << 20);
}

/* A rank that has failed already fails all; nothing is left behind. */
static void test_failure(void)
{
    as_arena *a = NULL;
    as_error e = AS_ERROR_INIT;
    if (world_rank() == world_size() - 1) {
        (void)as_fail(&e, AS_INVALID, 0, "a test");
    }
    CHECK(as_arena_open(&a, comm, 4096, &e) == AS_INVALID && a == NULL);
    CHECK(e.rank == world_size() - 1);
    as_error_clear(&e);
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 120);
    allshard_comm world = world_comm();
    CHECK(as_comm_open(&comm, &world, &error) == AS_OK);
    test_nodes();
    check_arena(everyone);
    check_over(everyone);
    test_switch();
    test_no_memory_files();
    test_limit_on_files();
    test_regrowth();
    test_failure();
    as_comm_free(comm);
    return ranks_end();
}
