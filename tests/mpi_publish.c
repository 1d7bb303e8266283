/* SPDX-License-Identifier: Apache-2.0
 * The steps by which a nonblocking save becomes a checkpoint (support_publish.h), in threads of the
 * main process while its state grows: what comes out is what allshard_save writes, byte for byte.
 * Reports that cannot be are refused, a look that fails between two steps ends the save, and bytes
 * that change on storage are found without the other ranks: each time the old checkpoint stays.
 * (ALLSHARD_NO_MPI: also as one process.)
 */
/* ranks: 1 2 3 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint_folder.h"
#include "comm/collect.h"
#include "support_publish.h"
#include "support_ranks.h"
#include "support_snapshot.h"

enum { BLOCK = 4096 };

static allshard *as;

static bool is_main(void)
{
    return world_rank() == 0;
}

/* ---- the same as allshard_save's ---- */

static allshard_save_options options_of(const char *shards, bool sums, bool verify, int mode)
{
    return (allshard_save_options){.size = sizeof(allshard_save_options),
                                   .max_shard_size = shards,
                                   .block_bytes = BLOCK,
                                   .checksum = sums ? 0 : ALLSHARD_CHECKSUM_NONE,
                                   .verify_after_write = verify,
                                   .mode = mode};
}

static void save_at_once(const char *folder, const allshard_save_options *o, bool many)
{
    declared d = declare(as, many);
    GOOD(as, allshard_save(d.s, folder, o));
    undeclare(&d);
}

/* Something older in the folder, with more files than the new one has. */
static void save_older(const char *folder)
{
    allshard_save_options o = options_of("5KB", true, false, 0);
    save_at_once(folder, &o, false);
}

static void check_modes(const char *one, const char *other, const snapshot *files)
{
    for (size_t i = 0; i < files->count; i++) {
        char path[1024];
        struct stat a;
        struct stat b;
        (void)snprintf(path, sizeof path, "%s/%s", one, files->files[i].name);
        must(stat(path, &a) == 0, path);
        (void)snprintf(path, sizeof path, "%s/%s", other, files->files[i].name);
        must(stat(path, &b) == 0, path);
        CHECK_TEXT(a.st_mode == b.st_mode, "%s: mode %o, not %o", path, b.st_mode, a.st_mode);
    }
}

static void check_same(const char *one, const char *other)
{
    if (is_main()) {
        snapshot a = SNAPSHOT_INIT;
        snapshot b = SNAPSHOT_INIT;
        must(snapshot_take(&a, one) && snapshot_take(&b, other), other);
        snapshot_forget_time(&a);
        snapshot_forget_time(&b);
        CHECK_TEXT(snapshot_same(&a, &b), "%s", snapshot_difference(&a, &b));
        check_modes(one, other, &a);
        snapshot_free(&a);
        snapshot_free(&b);
    }
    ranks_wait(world_comm());
}

static void clear(const char *folder)
{
    ranks_wait(world_comm());
    if (is_main()) {
        remove_tree(folder);
    }
    ranks_wait(world_comm());
}

static void compare(const allshard_save_options *o, bool many)
{
    char *one = strdup(scratch_path("at-once"));
    char *other = strdup(scratch_path("in-steps"));
    saving x;
    save_older(one);
    save_older(other);
    save_at_once(one, o, many);
    int code = saving_write(&x, as, o, other, many);
    CHECK_TEXT(code == AS_OK && saving_publish(&x) == AS_OK, "%s", as_error_text(&x.e));
    CHECK(x.p.index_text.data == NULL);
    if (many && is_main()) {
        CHECK(x.p.index_size > AS_COLLECT_CHUNK + 1000000);
    }
    saving_end(&x);
    check_same(one, other);
    clear(one);
    clear(other);
    free(one);
    free(other);
}

static void test_same(void)
{
    static const int modes[] = {0, 0640, 0400};
    for (int i = 0; i < 24; i += is_sanitized() ? 5 : 1) {
        allshard_save_options o = options_of(i & 1 ? "20KB" : "1GB", !(i & 2), i & 4, modes[i / 8]);
        compare(&o, false);
    }
    allshard_save_options o = options_of("20KB", true, true, 0);
    o.block_bytes = 1 << 20;
    o.max_shard_size = "100KB";
    /* An index of several pieces, and shards whose header takes more than their tensors. */
    compare(&o, true);
}

/* ---- what ends a save, and leaves the old checkpoint ---- */

static void check_kept(const char *folder, const snapshot *before)
{
    if (is_main()) {
        snapshot now = SNAPSHOT_INIT;
        must(snapshot_take(&now, folder), folder);
        CHECK_TEXT(snapshot_same(before, &now), "%s", snapshot_difference(before, &now));
        snapshot_free(&now);
    }
    ranks_wait(world_comm());
}

/* What is wrong with the reports that reach the main process. */
enum flaw {
    BLOCK_TWICE,
    BLOCK_MISSING,
    BLOCK_BEYOND,
    BLOCK_HUGE,
    BLOCK_NEGATIVE,
    FILE_BEYOND,
    FILE_NEGATIVE,
    RANK_TWICE,
    RANK_MISSING,
    RANK_BEYOND,
    RANK_NEGATIVE,
    BYTES_NEGATIVE,
    SUMS_UNWANTED, /* in a save without checksums */
    FLAWS
};

/* The report of a rank, with what is wrong with it. */
static int spoil(saving *x, int from, int64_t own, as_buffer *sums, as_error *e)
{
    as_block_sum *s = (as_block_sum *)(void *)sums->data;
    size_t count = sums->size / sizeof *s;
    const as_plan *plan = &x->p.prepared->plan;
    as_block_sum one = {0};
    as_block_sum *last = count ? &s[count - 1] : &one;
    int rank = from;
    switch (x->flaw) {
    case BLOCK_TWICE:
        one = s[0];
        (void)as_buffer_append(sums, &one, sizeof one, e);
        count++;
        break;
    case BLOCK_MISSING:
        count--;
        break;
    case BLOCK_BEYOND:
        last->block = (plan->file_size[0] + BLOCK - 1) / BLOCK;
        last->file = 0;
        break;
    case BLOCK_HUGE:
        last->block = INT64_MAX;
        break;
    case BLOCK_NEGATIVE:
        last->block = -1;
        break;
    case FILE_BEYOND:
        last->file = plan->file_count + (int64_t)as_extras_count(&x->p.prepared->extras);
        break;
    case FILE_NEGATIVE:
        last->file = -1;
        break;
    case RANK_TWICE:
        (void)as_publish_report(&x->p, from, own, NULL, 0, true, e);
        break;
    case RANK_MISSING:
        return AS_OK;
    case RANK_BEYOND:
        rank = world_size();
        break;
    case RANK_NEGATIVE:
        rank = -1;
        break;
    case BYTES_NEGATIVE:
        own = -1;
        break;
    case SUMS_UNWANTED:
        (void)as_buffer_append(sums, &one, sizeof one, e);
        count++;
        break;
    default:
        break;
    }
    return as_publish_report(&x->p, rank, own, sums->data, count, true, e);
}

static void test_flaws(void)
{
    static const char *const texts[FLAWS] = {
        [BLOCK_TWICE] = "or was written twice",    [BLOCK_MISSING] = "has no checksum",
        [BLOCK_BEYOND] = "which is not there",     [BLOCK_HUGE] = "which is not there",
        [BLOCK_NEGATIVE] = "which is not there",   [FILE_BEYOND] = "which is not there",
        [FILE_NEGATIVE] = "which is not there",    [RANK_TWICE] = "or has come already",
        [RANK_MISSING] = "has not reported",       [RANK_BEYOND] = "which is not expected",
        [RANK_NEGATIVE] = "which is not expected", [BYTES_NEGATIVE] = "reports -1 bytes",
        [SUMS_UNWANTED] = "bytes and 1 checksums"};
    char *folder = strdup(scratch_path("flaws"));
    snapshot before = SNAPSHOT_INIT;
    save_older(folder);
    must(!is_main() || snapshot_take(&before, folder), folder);
    for (int flaw = 0; flaw < FLAWS; flaw++) {
        saving x;
        allshard_save_options o = options_of("20KB", flaw != SUMS_UNWANTED, false, 0);
        int code = saving_write(&x, as, &o, folder, false);
        CHECK_TEXT(code == AS_OK, "%s", as_error_text(&x.e));
        x.spoil = spoil;
        x.flaw = flaw;
        code = saving_publish(&x);
        CHECK_TEXT(code == AS_INTERNAL && strstr(as_error_text(&x.e), texts[flaw]), "%d: %d: %s",
                   flaw, code, as_error_text(&x.e));
        saving_end(&x);
        check_kept(folder, &before);
    }
    snapshot_free(&before);
    clear(folder);
    free(folder);
}

/* Every look between two steps can be the last. */
static void test_looks(void)
{
    char *folder = strdup(scratch_path("looks"));
    snapshot before = SNAPSHOT_INIT;
    int code = AS_CANCELLED;
    save_older(folder);
    must(!is_main() || snapshot_take(&before, folder), folder);
    int fails = 0;
    int looks = 0;
    while (code != AS_OK) {
        saving x;
        allshard_save_options o = options_of("20KB", true, true, 0);
        code = saving_write(&x, as, &o, folder, false);
        CHECK_TEXT(code == AS_OK, "%s", as_error_text(&x.e));
        fails += is_sanitized() ? 4 : 1;
        x.look_fails = fails;
        code = saving_publish(&x);
        CHECK_TEXT(code == AS_OK || code == AS_CANCELLED, "%s", as_error_text(&x.e));
        CHECK(!is_main() || (code == AS_OK) == (x.looks < fails));
        looks = x.looks;
        saving_end(&x);
        if (code != AS_OK) {
            check_kept(folder, &before);
        }
    }
    /* Index, its fsync, every file that is read back, every shard. */
    CHECK_TEXT(fails > 2 + 4 + 5, "the save was good at look %d", fails);
    if (is_main()) {
        (void)printf("good with %d looks\n", looks);
    }
    snapshot_free(&before);
    clear(folder);
    free(folder);
}

/* What there is to tell is told by the thread that makes the commit, to the log that it was given. */
static void test_log(void)
{
    char *folder = strdup(scratch_path("log"));
    char path[1024];
    save_older(folder);
    (void)snprintf(path, sizeof path, "%s/allshard.manifest.json", folder);
    if (is_main()) {
        must(unlink(path) == 0 && symlink("nowhere", path) == 0, path);
    }
    saving x;
    allshard_save_options o = options_of("20KB", true, false, 0);
    int code = saving_write(&x, as, &o, folder, false);
    CHECK_TEXT(code == AS_OK && saving_publish(&x) == AS_OK, "%s", as_error_text(&x.e));
    if (is_main()) {
        CHECK_TEXT(strstr(x.logged, "the old manifest is replaced"), "%s", x.logged);
        CHECK(!pthread_equal(x.log_thread, pthread_self()));
    }
    saving_end(&x);
    clear(folder);
    free(folder);
}

/* ---- reading back ---- */

/* Changes a byte in the middle of one of this rank's blocks on storage. Its file's name is static. */
static const char *flip(const saving *x, const as_block_sum *b)
{
    static char name[256];
    char path[1024];
    char *plain = NULL;
    as_error e = AS_ERROR_INIT;
    unsigned char byte = 0;
    CHECK(as_prepared_file_name(x->stage.prepared, (int32_t)b->file, &plain, &e) == AS_OK);
    (void)snprintf(name, sizeof name, "%s", plain);
    (void)snprintf(path, sizeof path, "%s/.allshard/new/%s", x->call.directory, plain);
    free(plain);
    int64_t low = b->block * BLOCK;
    int64_t bytes = x->stage.prepared->plan.file_size[b->file] - low;
    off_t at = (off_t)(low + (bytes < BLOCK ? bytes : BLOCK) / 2);
    int fd = open(path, O_RDWR);
    must(fd >= 0 && pread(fd, &byte, 1, at) == 1, path);
    byte ^= 4;
    must(pwrite(fd, &byte, 1, at) == 1 && fsync(fd) == 0 && close(fd) == 0, path);
    return name;
}

/* `block` of the victim's is damaged: it alone finds that. Returns whether it has such a block. */
static bool find_flip(saving *x, int victim, size_t block)
{
    as_error e = AS_ERROR_INIT;
    const as_block_sum *own = (const as_block_sum *)(const void *)(x->checksums.data + x->extras);
    size_t count = (x->checksums.size - x->extras) / sizeof *own;
    bool hit = world_rank() == victim && block < count;
    const char *name = hit ? flip(x, &own[block]) : "";
    ranks_wait(world_comm());
    int code = saving_read_back(x, &e);
    CHECK_TEXT(code == (hit ? AS_CORRUPT : AS_OK), "%d: %s", code, as_error_text(&e));
    if (hit) {
        char bytes[64];
        (void)snprintf(bytes, sizeof bytes, ": bytes %lld to ",
                       (long long)own[block].block * BLOCK);
        CHECK_TEXT(strstr(e.text, name) && strstr(e.text, bytes), "%s: %s", name, e.text);
        (void)flip(x, &own[block]);
    } else {
        CHECK((size_t)x->ticks == count);
    }
    as_error_clear(&e);
    return ranks_max(world_comm(), hit) > 0;
}

static void test_read_back(void)
{
    char *folder = strdup(scratch_path("read-back"));
    saving x;
    allshard_save_options o = options_of("20KB", true, true, 0);
    int code = saving_write(&x, as, &o, folder, false);
    CHECK_TEXT(code == AS_OK, "%s", as_error_text(&x.e));
    int found = 0;
    for (int victim = 0; victim < world_size(); victim++) {
        for (size_t block = 0; find_flip(&x, victim, block); block++) {
            found++;
        }
    }
    int64_t blocks = (int64_t)((x.checksums.size - x.extras) / sizeof(as_block_sum));
    CHECK(found == ranks_sum(world_comm(), blocks));
    as_error e = AS_ERROR_INIT;
    x.tick_fails = 1;
    CHECK(saving_read_back(&x, &e) == (blocks ? AS_CANCELLED : AS_OK));
    as_error_clear(&e);
    x.tick_fails = 0;
    x.memory = BLOCK; /* just enough */
    CHECK(saving_read_back(&x, &e) == AS_OK);
    CHECK_TEXT(saving_publish(&x) == AS_OK, "%s", as_error_text(&x.e));
    saving_end(&x);
    if (is_main()) {
        (void)printf("%d flipped blocks found\n", found);
    }
    clear(folder);
    free(folder);
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 110);
    CHECK(allshard_open(&as, world_comm(), NULL) == ALLSHARD_OK);
    test_same();
    test_flaws();
    test_looks();
    test_log();
    test_read_back();
    CHECK(allshard_close(as) == ALLSHARD_OK);
    return ranks_end();
}
