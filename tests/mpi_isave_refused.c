/* SPDX-License-Identifier: Apache-2.0
 * Options of nonblocking saves that are wrong on one rank, that differ where they must not, and
 * limits of memory that are too small: one clear error on all ranks, nothing is left in the folder,
 * and the context is as good as before. What may differ between ranks does. (ALLSHARD_NO_MPI: also
 * as one process.)
 */
/* ranks: 1 2 3 4 */
#include "isave_scene.h"

static side a;

static bool is_odd(void)
{
    return world_rank() == world_size() - 1;
}

/* One rank gives these options, the others none. */
static int isave_odd(const allshard_save_options *odd)
{
    allshard_request *request = (allshard_request *)&a;
    int code = allshard_isave(a.s, a.folder, is_odd() ? odd : NULL, &request);
    CHECK(code == ALLSHARD_OK || request == NULL);
    if (code == ALLSHARD_OK) {
        GOOD(as, allshard_wait(&request, NULL));
    }
    return code;
}

#define REFUSED(member, value, ...)                                                                \
    do {                                                                                           \
        allshard_save_options o_ = {.size = sizeof o_};                                            \
        o_.member = value;                                                                         \
        FAILS(as, isave_odd(&o_), ALLSHARD_INVALID, __VA_ARGS__);                                  \
        check_nothing(a.folder);                                                                   \
    } while (0)

static void test_values(void)
{
    REFUSED(staging, 7, "7", "staging");
    REFUSED(staging, -1, "-1", "staging");
    REFUSED(if_busy, 2, "2", "if_busy");
    REFUSED(io_threads, 17, "17", "io_threads", "16");
    REFUSED(io_threads, -1, "-1", "io_threads");
    REFUSED(copy_threads, -1, "-1", "copy_threads");
    REFUSED(copy_threads, 65, "65", "copy_threads", "64");
    REFUSED(bandwidth, -1, "-1", "bandwidth");
    REFUSED(cpus, "x", "\"x\"", "cpus");
    REFUSED(cpus, "", "cpus");
    REFUSED(cpus, "99999", "99999");
    REFUSED(cpus, "3-1", "3-1");
    REFUSED(cpus, "0,", "\"0,\"");
    REFUSED(cpus, "-1", "-1");
    REFUSED(cpus, "0-99999999999999999999", "99999999999999999999");
    REFUSED(io_priority, "real-time", "real-time", "idle");
    REFUSED(io_priority, "best-effort:8", "best-effort:8");
    REFUSED(io_priority, "", "priority");
}

static void test_differences(void)
{
    char rank[32];
    if (world_size() == 1) {
        return;
    }
    (void)snprintf(rank, sizeof rank, "rank %d", world_size() - 1);
    allshard_save_options o = {.size = sizeof o, .staging = ALLSHARD_STAGE_STREAM};
    FAILS(as, isave_odd(&o), ALLSHARD_MISMATCH, "staging", rank);
    o.staging = ALLSHARD_STAGE_AUTO;
    o.if_busy = ALLSHARD_BUSY_REFUSE;
    FAILS(as, isave_odd(&o), ALLSHARD_MISMATCH, "if_busy", rank);
    o.if_busy = ALLSHARD_BUSY_WAIT;
    o.mode = 0600;
    FAILS(as, isave_odd(&o), ALLSHARD_MISMATCH, "mode", rank);
    check_nothing(a.folder);
    o.mode = 0;
    o.io_threads = 2;
    o.copy_threads = 3;
    o.io_priority = "idle";
    o.bandwidth = 1000000000;
    GOOD(as, isave_odd(&o));
    check_holds(&a, a.folder);
    remove_folder(a.folder);
    holding_fill(&a.h);
}

/* ---- memory ---- */

/* Saves in a context of its own whose limit is that on the odd rank; the code. */
static int save_within(int64_t odd, int64_t others, int32_t staging, allshard_stats *stats,
                       int expected, const char *text)
{
    allshard *mine = as;
    side x;
    allshard_options options = {.size = sizeof options, .snapshot_memory = is_odd() ? odd : others};
    CHECK(allshard_open(&as, world_comm(), &options) == ALLSHARD_OK);
    open_side(&x, as, "memory");
    allshard_save_options o = plain();
    o.staging = staging;
    allshard_request *request = NULL;
    int code = allshard_isave(x.s, x.folder, &o, &request);
    if (expected != ALLSHARD_OK) {
        char rank[32];
        (void)snprintf(rank, sizeof rank, "rank %d", world_size() - 1);
        FAILS(as, code, expected, x.folder, "snapshot_memory", text, rank);
        allshard_error e = {.size = sizeof e};
        CHECK(allshard_last_error(as, &e) == code);
        CHECK_TEXT(e.rank == world_size() - 1, "rank %d: %s", e.rank, e.text);
        CHECK(request == NULL);
        check_nothing(x.folder);
    } else {
        GOOD(as, code);
        holding_clear(&x.h);
        GOOD(as, allshard_wait(&request, stats));
        CHECK_TEXT(strstr(stats->staging_reason, text), "%s", stats->staging_reason);
        check_holds(&x, x.folder);
        remove_folder(x.folder);
    }
    close_side(&x);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    as = mine;
    return code;
}

static void test_memory(void)
{
    enum { MUCH = 16 << 20, LITTLE = 1 };
    allshard_stats s = {.size = sizeof s};
    (void)save_within(MUCH, MUCH, ALLSHARD_STAGE_AUTO, &s, ALLSHARD_OK, "");
    CHECK(s.staging == ALLSHARD_STAGE_SNAPSHOT);
    /* What a snapshot takes is not there: a stream, on all ranks, that tells why. */
    int64_t less = s.snapshot_bytes / 2 + 1; /* no whole pages */
    (void)save_within(less, MUCH, ALLSHARD_STAGE_AUTO, &s, ALLSHARD_OK, "snapshot_memory");
    CHECK(s.staging == ALLSHARD_STAGE_STREAM);
    CHECK(!is_odd() || (s.snapshot_bytes <= less && s.touched_bytes <= s.snapshot_bytes));
    (void)save_within(less, MUCH, ALLSHARD_STAGE_SNAPSHOT, &s, ALLSHARD_LIMIT, "snapshot");
    (void)save_within(LITTLE, MUCH, ALLSHARD_STAGE_STREAM, &s, ALLSHARD_LIMIT, "at least");
    (void)save_within(LITTLE, MUCH, ALLSHARD_STAGE_AUTO, &s, ALLSHARD_LIMIT, "at least");
    allshard *none = as;
    allshard_options options = {.size = sizeof options, .snapshot_memory = is_odd() ? -1 : 0};
    CHECK(allshard_open(&none, world_comm(), &options) == ALLSHARD_INVALID && none == NULL);
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 120);
    CHECK(allshard_open(&as, world_comm(), NULL) == ALLSHARD_OK);
    open_side(&a, as, "refused");
    test_values();
    test_differences();
    test_memory();
    close_side(&a);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    return ranks_end();
}
