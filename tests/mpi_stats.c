/* SPDX-License-Identifier: Apache-2.0
 * What a save tells of itself: checksums in the manifest, statistics of every rank, traces; the
 * limits on ranks that write, and on those that make files at the same time; and stripes.
 * (ALLSHARD_NO_MPI: also as one process.)
 */
/* ranks: 1 2 4 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <time.h>

#include "base/checksum.h"
#include "base/sys.h"
#include "checkpoint_folder.h"
#include "commit/manifest.h"
#include "support_model.h"
#include "support_ranks.h"

static allshard *as;
static holding held;
static allshard_state *state;

static allshard_save_options small_shards(void)
{
    return (allshard_save_options){
        .size = sizeof(allshard_save_options), .max_shard_size = "20KB", .block_bytes = 4096};
}

static char *read_whole(const char *folder, const char *name, size_t *size)
{
    char path[1024];
    struct stat status = {0};
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_RDONLY);
    CHECK_TEXT(fd >= 0 && fstat(fd, &status) == 0, "%s", path);
    *size = (size_t)status.st_size;
    char *bytes = malloc(*size + 1);
    CHECK(bytes);
    CHECK_TEXT(read(fd, bytes, *size) == (ssize_t)*size && close(fd) == 0, "%s", path);
    bytes[*size] = '\0';
    return bytes;
}

static as_manifest read_manifest(const char *folder)
{
    size_t size;
    as_manifest m;
    as_error e = AS_ERROR_INIT;
    char *text = read_whole(folder, "allshard.manifest.json", &size);
    int code = as_manifest_from_bytes(text, size, "manifest", &m, &e);
    CHECK_TEXT(code == AS_OK, "%s", as_error_text(&e));
    free(text);
    return m;
}

/* Every file's blocks, hashed again from the disk. */
static void check_sums(const char *folder, int64_t block)
{
    as_manifest m = read_manifest(folder);
    const as_manifest_part *p = as_manifest_find(&m, "model");
    CHECK(p && p->block_size == block && strcmp(p->checksum, "xxh3-64") == 0);
    CHECK(p->engine && *p->engine);
    size_t roles[3] = {0};
    for (size_t i = 0; i < p->file_count; i++) {
        const as_manifest_file *f = &p->files[i];
        size_t size;
        char *bytes = read_whole(folder, f->name, &size);
        CHECK((int64_t)size == f->size && f->sums);
        CHECK(f->sum_count == (size + (size_t)block - 1) / (size_t)block);
        for (size_t k = 0; k < f->sum_count; k++) {
            size_t at = k * (size_t)block;
            size_t n = size - at < (size_t)block ? size - at : (size_t)block;
            CHECK_TEXT(as_checksum(bytes + at, n) == f->sums[k], "block %zu of %s", k, f->name);
        }
        roles[f->role]++;
        free(bytes);
    }
    CHECK(roles[AS_ROLE_SHARD] > 1 && roles[AS_ROLE_INDEX] == 1 && roles[AS_ROLE_EXTRA] == 1);
    as_manifest_free(&m);
}

static void test_checksums(const char *folder)
{
    static const int64_t blocks[] = {64, 4096, 1 << 20};
    if (world_rank() == world_size() - 1) {
        char text[10000];
        memset(text, 'x', sizeof text);
        GOOD(as, allshard_state_file(state, "config.json", text, sizeof text));
    }
    allshard_save_options o = small_shards();
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        o.block_bytes = blocks[i];
        GOOD(as, allshard_save(state, folder, &o));
        ranks_wait(world_comm());
        if (world_rank() == 0) {
            check_sums(folder, blocks[i]);
        }
        ranks_wait(world_comm());
    }
    o.checksum = ALLSHARD_CHECKSUM_NONE;
    GOOD(as, allshard_save(state, folder, &o));
    ranks_wait(world_comm());
    if (world_rank() == 0) {
        as_manifest m = read_manifest(folder);
        const as_manifest_part *p = as_manifest_find(&m, "model");
        CHECK(p && strcmp(p->checksum, "none") == 0);
        for (size_t i = 0; i < p->file_count; i++) {
            CHECK(!p->files[i].sums);
        }
        as_manifest_free(&m);
    }
    o.checksum = 17;
    FAILS(as, allshard_save(state, folder, &o), ALLSHARD_INVALID, "17");
}

static int64_t shard_bytes(const char *folder)
{
    as_manifest m = read_manifest(folder);
    const as_manifest_part *p = as_manifest_find(&m, "model");
    int64_t bytes = 0;
    for (size_t i = 0; i < p->file_count; i++) {
        bytes += p->files[i].role == AS_ROLE_SHARD ? p->files[i].size : 0;
    }
    as_manifest_free(&m);
    return bytes;
}

static void test_statistics(const char *folder)
{
    allshard_save_options o = small_shards();
    GOOD(as, allshard_save(state, folder, &o));
    allshard_stats s = {.size = sizeof s};
    CHECK(allshard_get_stats(as, world_rank(), &s) == ALLSHARD_OK);
    CHECK(s.operation == ALLSHARD_SAVE && s.rank == world_rank() && s.ranks == world_size());
    CHECK(s.total_s > 0 && s.durable_s > 0 && s.durable_s <= s.total_s);
    CHECK(s.plan_s >= 0 && s.plan_s + s.begin_s + s.transfer_s + s.commit_s <= s.total_s);
    int64_t written = ranks_sum(world_comm(), s.bytes_written);
    CHECK(ranks_sum(world_comm(), s.bytes_read) == 0);
    CHECK(ranks_sum(world_comm(), s.bytes_checksum) == written);
    ranks_wait(world_comm());
    CHECK(written == shard_bytes(folder));
    CHECK(s.bytes_written == 0 || (s.operations > 0 && s.engine && *s.engine));
    for (int r = 0; r < world_size(); r++) {
        allshard_stats other = {.size = sizeof other};
        int code = allshard_get_stats(as, r, &other);
        if (world_rank() != 0 && r != world_rank()) {
            CHECK(code == ALLSHARD_INVALID);
            continue;
        }
        CHECK(code == ALLSHARD_OK && other.rank == r);
        written -= world_rank() == 0 ? other.bytes_written : 0;
    }
    CHECK(world_rank() != 0 || written == 0);
    CHECK(allshard_get_stats(as, world_size(), &s) == ALLSHARD_INVALID);
    CHECK(allshard_get_stats(as, -1, &s) == ALLSHARD_INVALID);
    /* An older caller's structure is not written beyond its end. */
    allshard_stats old;
    memset(&old, 0x5a, sizeof old);
    old.size = offsetof(allshard_stats, plan_s);
    CHECK(allshard_get_stats(as, world_rank(), &old) == ALLSHARD_OK);
    CHECK(old.rank == world_rank() && *(unsigned char *)&old.plan_s == 0x5a);
    GOOD(as, allshard_load(state, folder, NULL));
    CHECK(allshard_get_stats(as, world_rank(), &s) == ALLSHARD_OK);
    CHECK(s.operation == ALLSHARD_LOAD && s.bytes_written == 0);
    CHECK(s.plan_steps > 0 && !s.plan_cached);
    CHECK(ranks_sum(world_comm(), s.bytes_read) > 0);
}

static void check_trace(const char *path)
{
    json_error_t error;
    json_t *root = json_load_file(path, 0, &error);
    CHECK_TEXT(root, "%s: %s", path, error.text);
    const json_t *events = json_object_get(root, "traceEvents");
    int64_t *spans = calloc((size_t)world_size(), sizeof *spans);
    int64_t *names = calloc((size_t)world_size(), sizeof *names);
    CHECK(spans && names);
    double first = 1;
    size_t i;
    const json_t *event;
    json_array_foreach(events, i, event)
    {
        int rank = (int)json_integer_value(json_object_get(event, "pid"));
        const char *kind = json_string_value(json_object_get(event, "ph"));
        const char *name = json_string_value(json_object_get(event, "name"));
        CHECK(kind && name && rank >= 0 && rank < world_size());
        if (strcmp(kind, "X") == 0) {
            double begin = json_number_value(json_object_get(event, "ts"));
            CHECK(begin >= 0 && begin < 3600e6); /* since the first span of all */
            first = begin < first ? begin : first;
            CHECK(json_number_value(json_object_get(event, "dur")) >= 0);
            spans[rank]++;
        }
        names[rank] += strcmp(name, "process_name") == 0;
    }
    CHECK(first == 0);
    for (int r = 0; r < world_size(); r++) {
        CHECK(spans[r] >= 4 && names[r] == 1);
    }
    free(spans);
    free(names);
    json_decref(root);
}

static void test_trace(const char *folder)
{
    FAILS(as, allshard_trace_write(as, scratch_path("none.json")), ALLSHARD_INVALID, "trace");
    allshard *traced;
    allshard_state *s;
    allshard_options o = {.size = sizeof o, .trace = 1};
    CHECK(allshard_open(&traced, world_comm(), &o) == ALLSHARD_OK);
    GOOD(traced, allshard_state_create(&s, traced, "model"));
    holding_declare(&held, traced, s);
    allshard_save_options small = small_shards();
    GOOD(traced, allshard_save(s, folder, &small));
    GOOD(traced, allshard_load(s, folder, NULL));
    GOOD(traced, allshard_trace_write(traced, scratch_path("trace.json")));
    ranks_wait(world_comm());
    if (world_rank() == 0) {
        check_trace(scratch_path("trace.json"));
    }
    FAILS(traced, allshard_trace_write(traced, "/nowhere/at/all"), ALLSHARD_SYSTEM, "/nowhere");
    if (world_size() > 1) { /* only some ranks remember: the old trace stays */
        allshard *other;
        o.trace = world_rank() == 0;
        CHECK(allshard_open(&other, world_comm(), &o) == ALLSHARD_OK);
        FAILS(other, allshard_trace_write(other, scratch_path("trace.json")), ALLSHARD_INVALID,
              "trace");
        if (world_rank() == 0) {
            check_trace(scratch_path("trace.json"));
        }
        CHECK(allshard_close(other) == ALLSHARD_OK);
    }
    (void)allshard_state_free(s);
    CHECK(allshard_close(traced) == ALLSHARD_OK);
}

/* ---- creators: counted over all ranks in a page that they share ---- */

typedef struct counters {
    atomic_int now;
    atomic_int most;
} counters;

static counters *shared;
static int creating = -1; /* the file that this rank is making */
static as_sys real;

static int counting_openat(int folder, const char *path, int flags, mode_t mode)
{
    int fd = real.openat(folder, path, flags, mode);
    if (fd >= 0 && (flags & O_CREAT) && strstr(path, ".safetensors")) {
        int now = atomic_fetch_add(&shared->now, 1) + 1;
        int most = atomic_load(&shared->most);
        while (now > most && !atomic_compare_exchange_weak(&shared->most, &most, now)) {
        }
        creating = fd;
        (void)nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    return fd;
}

static int counting_close(int fd)
{
    if (fd == creating) {
        creating = -1;
        atomic_fetch_sub(&shared->now, 1);
    }
    return real.close(fd);
}

static int most_creators(const char *folder, int limit)
{
    ranks_wait(world_comm());
    atomic_store(&shared->most, 0);
    ranks_wait(world_comm());
    allshard_save_options o = small_shards();
    o.max_shard_size = "2KB"; /* files for every rank */
    o.creators = limit;
    GOOD(as, allshard_save(state, folder, &o));
    ranks_wait(world_comm());
    return atomic_load(&shared->most);
}

static void test_creators(const char *folder)
{
    int fd = open(scratch_path("counters"), O_RDWR | O_CREAT, 0600);
    must(fd >= 0 && ftruncate(fd, sizeof *shared) == 0, "counters");
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    must(shared != MAP_FAILED && close(fd) == 0, "mmap");
    real = as_sys_table;
    as_sys_table.openat = counting_openat;
    as_sys_table.close = counting_close;
    int free_for_all = most_creators(folder, 0);
    CHECK_TEXT(world_size() == 1 || free_for_all > 1, "the test counts %d creators", free_for_all);
    for (int limit = 1; limit <= world_size(); limit++) {
        int most = most_creators(folder, limit);
        CHECK_TEXT(most >= 1 && most <= limit, "%d creators at once, the limit is %d", most, limit);
    }
    as_sys_table = real;
    GOOD(as, allshard_load(state, folder, NULL));
    allshard_save_options o = small_shards();
    o.creators = -1;
    FAILS(as, allshard_save(state, folder, &o), ALLSHARD_INVALID, "-1 creators");
    (void)munmap(shared, sizeof *shared);
}

/* All ranks of the test are on one node: no more of them write than the limit says. */
static void test_writers(const char *folder)
{
    static const enum layout layouts[] = {LAYOUT_WHOLE, LAYOUT_REPLICATED, LAYOUT_FSDP,
                                          LAYOUT_COLUMNS, LAYOUT_PARALLEL};
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        holding h;
        allshard_state *s;
        holding_make(&h, &model_mixed, layouts[i], world_rank(), world_size(), false);
        GOOD(as, allshard_state_create(&s, as, "model"));
        holding_declare(&h, as, s);
        holding_fill(&h);
        for (int limit = 0; limit <= world_size(); limit++) {
            allshard_save_options o = small_shards();
            o.block_bytes = 256;
            o.writers_per_node = limit;
            GOOD(as, allshard_save(s, folder, &o));
            allshard_stats stats = {.size = sizeof stats};
            CHECK(allshard_get_stats(as, world_rank(), &stats) == ALLSHARD_OK);
            int64_t writers = ranks_sum(world_comm(), stats.bytes_written > 0);
            int64_t wanted = limit ? limit : world_size();
            CHECK_TEXT(writers == wanted, "%s: %lld ranks write, the limit is %d",
                       layout_name(layouts[i]), (long long)writers, limit);
            GOOD(as, allshard_load(state, folder, NULL));
            CHECK(!holding_wrong(&held));
        }
        (void)allshard_state_free(s);
        holding_free(&h);
    }
    allshard_save_options o = small_shards();
    o.writers_per_node = -1;
    FAILS(as, allshard_save(state, folder, &o), ALLSHARD_INVALID, "-1 writers");
}

/* ---- stripes: a Lustre is played, whose folders have no layout of their own ---- */

static struct {
    int calls;
    uint32_t bytes;
    uint16_t count;
} set; /* what the main process set last */

static int lustre_fstatfs(int fd, struct statfs *out)
{
    int result = real.fstatfs(fd, out);
    out->f_type = 0x0BD00BD0;
    return result;
}

static int lustre_ioctl(int fd, unsigned long request, void *argument)
{
    (void)fd;
    if (request != _IOW('f', 154, long)) {
        errno = ENODATA;
        return -1;
    }
    set.calls++;
    memcpy(&set.bytes, (const char *)argument + 24, sizeof set.bytes);
    memcpy(&set.count, (const char *)argument + 28, sizeof set.count);
    return 0;
}

static void test_stripes(const char *folder)
{
    real = as_sys_table;
    as_sys_table.fstatfs = lustre_fstatfs;
    as_sys_table.ioctl = lustre_ioctl;
    allshard_save_options o = small_shards();
    GOOD(as, allshard_save(state, folder, &o));
    CHECK(set.calls == 0);
    o.stripe_count = 4;
    GOOD(as, allshard_save(state, folder, &o));
    CHECK(world_rank() != 0 || (set.calls == 1 && set.count == 4 && set.bytes == 0));
    o.stripe_count = 0;
    o.stripe_bytes = 1 << 20;
    GOOD(as, allshard_save(state, folder, &o));
    CHECK(world_rank() != 0 || (set.calls == 2 && set.count == 0 && set.bytes == 1 << 20));
    CHECK(world_rank() == 0 || set.calls == 0);
    as_sys_table = real;
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 200);
    CHECK(allshard_open(&as, world_comm(), NULL) == ALLSHARD_OK);
    holding_make(&held, &model_mixed, LAYOUT_FSDP, world_rank(), world_size(), false);
    GOOD(as, allshard_state_create(&state, as, "model"));
    holding_declare(&held, as, state);
    holding_fill(&held);
    char *folder = strdup(scratch_path("stats"));
    test_checksums(folder);
    test_statistics(folder);
    test_trace(folder);
    test_creators(folder);
    test_writers(folder);
    test_stripes(folder);
    CHECK(!holding_wrong(&held));
    free(folder);
    (void)allshard_state_free(state);
    holding_free(&held);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    return ranks_end();
}
