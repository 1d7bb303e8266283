/* SPDX-License-Identifier: Apache-2.0
 * Saves with verify_after_write over storage that loses what it was given: bits that change on
 * their way to a file, on one rank, or between the fsync and the look at them, in shards, index,
 * small files and manifest. The save fails on all ranks alike, names the file, and the old
 * checkpoint stays; without the option the same damage gets through. (ALLSHARD_NO_MPI: also as one
 * process.)
 */
/* ranks: 1 3 */
/* timeout: 180 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"
#include "checkpoint_folder.h"
#include "support_model.h"
#include "support_ranks.h"

static const char *const engines[] = {"posix", "direct", "uring"};

enum { ENGINES = 3, BLOCK = 4096 };

static allshard *as;
static holding held;
static allshard_state *state;

/* ---- storage that damages ---- */

static as_sys real;
static atomic_int writes_left; /* until one of its bits flips; 0: never */
static const char *victim;     /* what changes on storage when it is opened to be read back */
static atomic_int hits;

/* Is it the staging folder, or (else) a file in it? The lock's damage is not what is tested here. */
static bool is_staged(int fd, bool folder)
{
    char link[64];
    char path[1024] = "";
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    must(readlink(link, path, sizeof path - 1) > 0, link);
    const char *staging = strstr(path, "/.allshard/new");
    return staging && (staging[14] == '\0') == folder;
}

static ssize_t bad_pwrite(int fd, const void *bytes, size_t count, off_t offset)
{
    if (atomic_load(&writes_left) == 0 || !is_staged(fd, false) ||
        atomic_fetch_sub(&writes_left, 1) != 1) {
        return real.pwrite(fd, bytes, count, offset);
    }
    unsigned char *copy = aligned_alloc(4096, (count + 4095) / 4096 * 4096);
    must(copy != NULL, "aligned_alloc");
    memcpy(copy, bytes, count);
    copy[count / 2] ^= 16;
    atomic_fetch_add(&hits, 1);
    ssize_t n = real.pwrite(fd, copy, count, offset);
    free(copy);
    return n;
}

static int bad_openat(int folder, const char *path, int flags, mode_t mode)
{
    bool reads = (flags & O_ACCMODE) == O_RDONLY && !(flags & (O_DIRECTORY | O_PATH));
    if (victim && reads && strcmp(path, victim) == 0 && is_staged(folder, true) &&
        atomic_exchange(&hits, 1) == 0) {
        unsigned char byte;
        int fd = real.openat(folder, path, O_RDWR | O_CLOEXEC, 0);
        struct stat status;
        must(fd >= 0 && fstat(fd, &status) == 0, path);
        /* In every block: those of this rank are looked at after this. */
        for (off_t at = status.st_size % BLOCK / 2; at < status.st_size; at += BLOCK) {
            must(pread(fd, &byte, 1, at) == 1, path);
            byte ^= 1;
            must(pwrite(fd, &byte, 1, at) == 1, path);
        }
        must(close(fd) == 0, path);
    }
    return real.openat(folder, path, flags, mode);
}

/* ---- saves ---- */

static int save(const char *folder, const char *engine, bool verify, bool sums)
{
    allshard_save_options o = {.size = sizeof o,
                               .max_shard_size = "20KB",
                               .block_bytes = BLOCK,
                               .engine = engine,
                               .checksum = sums ? 0 : ALLSHARD_CHECKSUM_NONE,
                               .verify_after_write = verify};
    return allshard_save(state, folder, &o);
}

static void check_holds(const char *folder)
{
    holding_clear(&held);
    GOOD(as, allshard_load(state, folder, NULL));
    const char *wrong = holding_wrong(&held);
    CHECK_TEXT(!wrong, "%s: %s", folder, wrong);
}

static void check_left_alone(const char *folder, const char *before)
{
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/.allshard", folder);
    ranks_wait(world_comm());
    CHECK_TEXT(access(path, F_OK) != 0, "%s stays", path);
    const char *now = read_text(folder, "allshard.manifest.json");
    CHECK(now && strcmp(now, before) == 0);
    check_holds(folder);
}

static void begin_damage(int rank, int write, const char *file)
{
    ranks_wait(world_comm());
    atomic_store(&hits, 0);
    bool mine = world_rank() == rank;
    atomic_store(&writes_left, mine ? write : 0);
    victim = mine ? file : NULL;
}

static bool end_damage(void)
{
    victim = NULL;
    atomic_store(&writes_left, 0);
    return ranks_max(world_comm(), atomic_load(&hits)) > 0;
}

/* A write that damages. Some are too small to be hit, or not made by pwrite (io_uring's). */
static int test_writes(const char *folder, const char *engine, const char *before, bool sums)
{
    int found = 0;
    for (int rank = 0; rank < world_size(); rank++) {
        for (int write = 1; write < 8; write++) {
            holding_fill(&held);
            begin_damage(rank, write, NULL);
            int code = save(folder, engine, true, sums);
            if (!end_damage()) {
                CHECK(code == ALLSHARD_OK);
                return found; /* that was the new one: no more is to be tried over it */
            }
            FAILS(as, code, ALLSHARD_CORRUPT, ".allshard/new/", "read back from storage", "bytes ");
            check_left_alone(folder, before);
            found++;
        }
    }
    return found;
}

/* What is on storage changes after the fsync. */
static int test_files(const char *folder, const char *engine, const char *before)
{
    static const char *const files[] = {"model-00002-of-00005.safetensors", "config.json",
                                        "model.safetensors.index.json", "allshard.manifest.json"};
    int found = 0;
    for (int i = 0; i < 4; i++) {
        for (int rank = 0; rank < (i ? 1 : world_size()); rank++) {
            holding_fill(&held);
            begin_damage(rank, 0, files[i]);
            int code = save(folder, engine, true, true);
            if (!end_damage()) { /* a rank that wrote nothing of that shard */
                CHECK(i == 0 && code == ALLSHARD_OK);
                before = strdup(read_text(folder, "allshard.manifest.json"));
                continue;
            }
            FAILS(as, code, ALLSHARD_CORRUPT, files[i], "read back from storage", "bytes ");
            check_left_alone(folder, before);
            found++;
        }
    }
    return found;
}

static char *save_good(const char *folder, const char *engine)
{
    holding_fill(&held);
    GOOD(as, save(folder, engine, true, true));
    allshard_stats s = {.size = sizeof s};
    GOOD(as, allshard_get_stats(as, world_rank(), &s));
    /* Every byte was read back: once more than none. */
    CHECK(s.bytes_read == s.bytes_written);
    if (world_rank() == 0) {
        (void)printf("asked for %s: %s\n", engine, s.engine);
    }
    check_holds(folder);
    char *text = strdup(read_text(folder, "allshard.manifest.json"));
    CHECK(text);
    return text;
}

static void test_engine(const char *folder, const char *engine)
{
    char *before = save_good(folder, engine);
    int files = test_files(folder, engine, before);
    CHECK(files >= 4);
    free(before);
    for (int sums = 0; sums < 2; sums++) {
        before = save_good(folder, engine);
        int writes = test_writes(folder, engine, before, sums);
        CHECK(writes > 0 || strcmp(engine, "uring") == 0);
        free(before);
        if (world_rank() == 0) {
            (void)printf("%s: %d files, %d writes\n", engine, files, writes);
        }
    }
    /* The damage is real: without the look it is in the checkpoint, and a load finds it. */
    if (strcmp(engine, "uring") != 0) {
        holding_fill(&held);
        begin_damage(world_size() - 1, 2, NULL); /* the first may be config.json */
        GOOD(as, save(folder, engine, false, true));
        CHECK(end_damage());
        FAILS(as, allshard_load(state, folder, NULL), ALLSHARD_CORRUPT, "allshard verify");
    }
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 170);
    CHECK(allshard_open(&as, world_comm(), NULL) == ALLSHARD_OK);
    real = as_sys_table;
    as_sys_table.pwrite = bad_pwrite;
    as_sys_table.openat = bad_openat;
    holding_make(&held, &model_mixed, LAYOUT_FSDP, world_rank(), world_size(), false);
    GOOD(as, allshard_state_create(&state, as, "model"));
    holding_declare(&held, as, state);
    GOOD(as, allshard_state_file(state, "config.json", "{\"a\": 1}", 8));
    char here[] = "read-back-XXXXXX"; /* the build folder lies on a disk */
    if (world_rank() == 0) {
        must(mkdtemp(here) != NULL, here);
    }
    ranks_broadcast(world_comm(), here, sizeof here);
    char *in_memory = strdup(scratch_path("read-back"));
    for (int e = 0; e < ENGINES; e++) {
        test_engine(here, engines[e]);
    }
    test_engine(in_memory, engines[0]);
    ranks_wait(world_comm());
    if (world_rank() == 0) {
        remove_tree(here);
    }
    free(in_memory);
    (void)allshard_state_free(state);
    holding_free(&held);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    return ranks_end();
}
