/* SPDX-License-Identifier: Apache-2.0
 * GPU-direct, simulated: saves and loads with the engine "gds" give the bytes that the host's memory
 * gives, in blocks of all sizes, from pieces that lie dense and strided on two devices; whole pages
 * go by cuFile, as many as there are, and none that breaks a rule of cuFile's. "auto" tries it; other
 * ways tell why they are taken. (ALLSHARD_NO_MPI: also as one process.)
 */
/* simulated: cuda */
/* ranks: 3 1 */
/* timeout: 120 */
#include <errno.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include "gds_scene.h"
#include "support_isave.h"

enum { CASES = 21, CASES_SANITIZED = 7, PAGE = 4096, LEAST = 16 << 10, MOST_TRIALS = 64 << 10 };

/* ---- bit-equal ---- */

static void check_case(int number)
{
    static const int64_t blocks[] = {65536, 100032, 1 << 20, 28672, 0};
    static const unsigned kinds[] = {
        1U << TWIN_DEVICE_0, (1U << TWIN_DEVICE_0) | (1U << TWIN_DEVICE_1) | (1U << TWIN_MANAGED),
        (1U << TWIN_KINDS) - 1, (1U << TWIN_UNOWNED) | (1U << TWIN_DEVICE_1)};
    enum layout layout = (enum layout)(number % LAYOUT_COUNT);
    allshard_save_options o = save_options("posix", blocks[number % 5]);
    o.max_shard_size = number % 2 ? "5GB" : "1MB";
    o.checksum = number % 3 == 2 ? ALLSHARD_CHECKSUM_NONE : 0;
    o.verify_after_write = number % 4 == 3;
    ranks_scene("case %d: %s, blocks of %lld", number, layout_name(layout),
                (long long)o.block_bytes);
    const char *expected = scratch_path("expected");
    const char *found = scratch_path("found");
    pair p;
    pair_make(&p, layout, number >= LAYOUT_COUNT, kinds[number % 4]);
    sim->delay((unsigned)number, number % 3 ? 100 : 0);
    file->delay((unsigned)number, number % 3 ? 100 : 0);
    file->shorten(number % 7 == 5 ? 5000 : number % 7 == 6 ? 12288 : 0);
    int64_t written = file->live("written");
    GOOD(p.as, allshard_save(p.host, expected, &o));
    CHECK(file->live("written") == written);
    o.engine = "gds";
    GOOD(p.as, allshard_save(p.there, found, &o));
    compare_folders(expected, found);
    written = ranks_sum(world_comm(), file->live("written") - written);
    bool plain = number < LAYOUT_COUNT && number % 4 != 2 && o.block_bytes &&
                 (layout == LAYOUT_WHOLE || layout == LAYOUT_FSDP || layout == LAYOUT_FLAT);
    CHECK_TEXT(written > MOST_TRIALS || !plain, "nothing went by cuFile: %s",
               stats_of(&p).engine_reason);
    spoil(&p);
    int64_t read = file->live("read");
    GOOD(p.as, load_with(&p, "gds", expected));
    check_loaded(&p, expected);
    read = ranks_sum(world_comm(), file->live("read") - read);
    CHECK_TEXT(read > 0 || !plain, "nothing came by cuFile");
    pair_free(&p);
    calm();
}

/* ---- how much goes which way ---- */

/* One tensor of bytes, all of it on rank 0's device: what of the file is in whole pages of blocks
 * that hold nothing but it. */
static int64_t pages_of(int64_t size, int64_t data, int64_t block)
{
    int64_t bytes = 0;
    for (int64_t low = 0; low < size; low += block) {
        int64_t high = low + block < size ? low + block : size;
        int64_t first = (low + PAGE - 1) / PAGE * PAGE;
        int64_t last = high / PAGE * PAGE;
        bytes += low >= data && last - first >= LEAST ? last - first : 0;
    }
    return bytes;
}

static void check_count(int64_t block, bool sums)
{
    enum { BYTES = 3000007 };
    ranks_scene("pages of blocks of %lld", (long long)block);
    bool mine = world_rank() == 0;
    allshard *as;
    allshard_state *s;
    allshard_options options = {.size = sizeof options};
    as_cu_pointer memory = 0;
    unsigned char *bytes = malloc(BYTES);
    CHECK(bytes != NULL);
    for (int i = 0; i < BYTES; i++) {
        bytes[i] = (unsigned char)(i * 31 + i / 251);
    }
    CHECK(devices.cuda->memory_alloc(&memory, BYTES) == AS_CU_SUCCESS);
    sim->write(memory, bytes, BYTES);
    CHECK(allshard_open(&as, world_comm(), &options) == ALLSHARD_OK);
    GOOD(as, allshard_state_create(&s, as, "model"));
    allshard_tensor t = {.size = sizeof t,
                         .name = "t",
                         .dtype = ALLSHARD_U8,
                         .ndim = 1,
                         .shape = (const int64_t[]){BYTES},
                         .data = (void *)(uintptr_t)memory};
    if (mine) {
        GOOD(as, allshard_state_tensor(s, &t));
    }
    allshard_save_options o = save_options("gds", block);
    o.checksum = sums ? 0 : ALLSHARD_CHECKSUM_NONE;
    int64_t before = file->live("written");
    int64_t copies = sim->calls("cuMemcpyDtoHAsync");
    int64_t probe = PAGE; /* of the trial */
    GOOD(as, allshard_save(s, scratch_path("count"), &o));
    if (mine) {
        int64_t size = 0;
        snapshot files;
        CHECK(snapshot_take(&files, scratch_path("count")));
        for (size_t i = 0; i < files.count; i++) {
            size = strcmp(files.files[i].name, "model.safetensors") == 0
                       ? (int64_t)files.files[i].size
                       : size;
        }
        snapshot_free(&files);
        int64_t pages = pages_of(size, size - BYTES, block);
        CHECK(pages > 0);
        CHECK_TEXT(file->live("written") - before == pages + probe, "%lld bytes, not %lld",
                   (long long)(file->live("written") - before), (long long)(pages + probe));
        /* Without checksums only ragged ends come to the host, and the block with the header. */
        copies = sim->calls("cuMemcpyDtoHAsync") - copies;
        CHECK_TEXT(sums || copies <= 1 + 2 * (size / block + 1), "%lld copies", (long long)copies);
        before = file->live("read");
    }
    allshard_load_options l = {.size = sizeof l, .engine = "gds"};
    l.checksum = sums ? 0 : ALLSHARD_CHECKSUM_NONE;
    l.block_bytes = block;
    GOOD(as, allshard_load(s, scratch_path("count"), &l));
    if (mine) {
        CHECK(file->live("read") > before);
        unsigned char *back = malloc(BYTES);
        CHECK(back != NULL);
        sim->read(back, memory, BYTES);
        CHECK(memcmp(back, bytes, BYTES) == 0);
        free(back);
    }
    (void)allshard_state_free(s);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    CHECK(devices.cuda->memory_free(memory) == AS_CU_SUCCESS);
    CHECK_TEXT(!*file->faults(), "cuFile: %s", file->faults());
    free(bytes);
}

/* ---- auto, nonblocking saves, and nothing on devices ---- */

static int play_ext4(int fd, struct statfs *out)
{
    (void)fd;
    *out = (struct statfs){.f_type = EXT4_SUPER_MAGIC};
    return 0;
}

/* Nothing lies in the page cache. */
static ssize_t play_uncached(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    if (flags & RWF_NOWAIT) {
        errno = EAGAIN;
        return -1;
    }
    return good.preadv2(fd, parts, count, offset, flags);
}

/* What auto says on a rank that has blocks enough for a trial: cuFile is slow, as it is, and without
 * its kernel module. */
static void check_verdict(const allshard_stats *s, int turn)
{
    bool gds = strcmp(s->engine, "gds") == 0;
    const char *reason =
        turn == 2 ? "GPU-direct: the kernel module nvidia-fs is not there" : "in a trial it moved ";
    CHECK_TEXT(strstr(s->engine_reason, reason) != NULL, "%s: %s", s->engine, s->engine_reason);
    CHECK_TEXT(turn == 1 || !gds, "the slower way has won: %s", s->engine_reason);
}

static void check_auto(void)
{
    const char *expected = scratch_path("expected");
    const char *found = scratch_path("found");
    as_sys_table.fstatfs = play_ext4; /* in memory there is no reason for O_DIRECT */
    as_sys_table.preadv2 = play_uncached;
    for (int i = 0; i < 3; i++) {
        ranks_scene("auto, %d", i);
        pair p;
        pair_make(&p, LAYOUT_WHOLE, false, 1U << TWIN_DEVICE_0);
        /* One rank has more blocks than a trial needs, each of several has fewer. */
        allshard_save_options o = save_options("posix", 16384);
        GOOD(p.as, allshard_save(p.host, expected, &o));
        o.engine = NULL;
        file->delay(1, i == 0 ? 30000 : 0);
        file->nvfs(i == 2 ? 0 : 2, i == 2 ? 0 : 17);
        GOOD(p.as, allshard_save(p.there, found, &o));
        allshard_stats s = stats_of(&p);
        if (world_size() == 1) {
            check_verdict(&s, i);
        } else if (s.bytes_written > 0 && p.t.on_device > 0) {
            check_engine(&p, "another", "GPU-direct: not tried for fewer than 128 blocks");
        }
        compare_folders(expected, found);
        spoil(&p);
        GOOD(p.as, load_with(&p, NULL, found));
        s = stats_of(&p);
        if (world_size() == 1) {
            check_verdict(&s, i);
        }
        check_loaded(&p, found);
        pair_free(&p);
        calm();
    }
    as_sys_table.fstatfs = good.fstatfs;
    as_sys_table.preadv2 = good.preadv2;
}

static void check_others(void)
{
    ranks_scene("a nonblocking save");
    pair p;
    pair_make(&p, LAYOUT_FSDP, false, 1U << TWIN_DEVICE_0);
    allshard_save_options o = save_options("gds", 65536);
    allshard_request *request = NULL;
    GOOD(p.as, allshard_isave(p.there, scratch_path("later"), &o, &request));
    GOOD(p.as, allshard_wait(&request, NULL));
    allshard_stats s = stats_of(&p);
    CHECK_TEXT(
        s.bytes_written == 0 ||
            strstr(s.engine_reason, "GPU-direct: nonblocking saves write from the host's memory"),
        "%s", s.engine_reason);
    ranks_scene("nothing on devices");
    int64_t calls = file->calls(NULL);
    GOOD(p.as, allshard_save(p.host, scratch_path("host"), &o));
    check_engine(&p, "another", "GPU-direct: no piece lies on a device");
    CHECK(file->calls(NULL) == calls);
    pair_free(&p);
}

int main(int argc, char **argv)
{
    double start = seconds_now();
    int count = 0;
    if (gds_start(&argc, &argv)) {
        count = is_sanitized() ? CASES_SANITIZED : CASES;
        for (int i = 0; i < count; i++) {
            check_case(is_sanitized() ? i * 3 : i);
        }
        for (int i = 0; i < 4; i++) {
            check_count(i % 2 ? 100032 : 65536, i < 2);
        }
        check_auto();
        check_others();
    }
    return gds_end(count, start);
}
