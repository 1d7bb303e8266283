/* SPDX-License-Identifier: Apache-2.0
 * Every engine writes the same bytes, for every layout, and every engine reads what every other
 * wrote; in memory (tmpfs) and on the disk that the build lies on. What the kernel or the file
 * system has not is told, and done the simpler way. (ALLSHARD_NO_MPI: also as one process.)
 */
/* ranks: 1 3 4 */
/* timeout: 240 */
#include <fcntl.h>
#include <string.h>
#include <sys/vfs.h>

#include "checkpoint_folder.h"
#include "support_model.h"
#include "support_ranks.h"

static const char *const engines[] = {"posix", "direct", "uring", "auto"};
enum { ENGINES = sizeof engines / sizeof *engines };

static allshard *as;

/* Long enough for whole blocks of 4096 bytes, ragged ends, and several shards. */
static const model_tensor tensors[] = {
    {"a", ALLSHARD_F32, 2, {61, 97}}, {"b", ALLSHARD_BF16, 2, {128, 256}},
    {"c", ALLSHARD_U8, 1, {40001}},   {"d", ALLSHARD_F64, 3, {8, 16, 33}},
    {"e", ALLSHARD_F32, 0, {0}},      {"f", ALLSHARD_I64, 2, {512, 9}},
};
static const model large = {tensors, sizeof tensors / sizeof *tensors};

typedef struct bytes {
    char *data;
    size_t size;
} bytes;

static int is_shard(const struct dirent *entry)
{
    return strstr(entry->d_name, ".safetensors") != NULL; /* the index too */
}

/* All shards and the index, one after the other. */
static bytes read_all(const char *folder)
{
    bytes all = {0};
    struct dirent **names;
    int count = scandir(folder, &names, is_shard, alphasort);
    must(count > 2, folder);
    for (int i = 0; i < count; i++) {
        char path[512];
        struct stat status;
        (void)snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
        int fd = open(path, O_RDONLY);
        must(fd >= 0 && fstat(fd, &status) == 0, path);
        all.data = realloc(all.data, all.size + (size_t)status.st_size);
        must(all.data != NULL, "memory");
        must(read(fd, all.data + all.size, (size_t)status.st_size) == status.st_size, path);
        must(close(fd) == 0, path);
        all.size += (size_t)status.st_size;
        free(names[i]);
    }
    free(names);
    return all;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text);
    return length >= strlen(end) && strcmp(text + length - strlen(end), end) == 0;
}

/* What did the work is what was asked for now, not what an earlier call asked for; or the reason
 * tells why not. */
static void check_engine(const char *folder, const char *asked, bool *told)
{
    allshard_stats s = {.size = sizeof s};
    CHECK(allshard_get_stats(as, world_rank(), &s) == ALLSHARD_OK);
    if (s.bytes_written + s.bytes_read == 0) {
        return;
    }
    bool named = strcmp(asked, "auto") != 0;
    bool fallen = named && strcmp(asked, s.engine) != 0;
    CHECK(*s.engine && *s.engine_reason);
    CHECK_TEXT(!fallen || !ends_with(s.engine_reason, ": as asked for"),
               "asked for %s, but %s did the work (%s)", asked, s.engine, s.engine_reason);
    CHECK_TEXT(named || !strstr(s.engine_reason, "as asked for"), "asked for %s, not for %s (%s)",
               asked, s.engine, s.engine_reason);
    CHECK_TEXT(!named || !strstr(s.engine_reason, "lie in the page cache"),
               "asked for %s, but what lay in memory was read from there", asked);
    if (told && world_rank() == 0 && !*told) {
        (void)printf("%s: asked for %s, %s did the work (%s)\n", folder, asked, s.engine,
                     s.engine_reason);
        *told = true;
    }
}

/* Loads with every engine, or with that which wrote and one more. */
enum reading { READ_ALL, READ_TWO };

static void test_layout(const char *folder, enum layout layout, int64_t align, enum reading reading,
                        bool *told)
{
    holding h;
    allshard_state *s;
    bytes expected = {0};
    holding_make(&h, &large, layout, world_rank(), world_size(), layout % 2 == 1);
    GOOD(as, allshard_state_create(&s, as, "model"));
    holding_declare(&h, as, s);
    holding_fill(&h);
    for (int e = 0; e < ENGINES; e++) {
        allshard_save_options o = {.size = sizeof o, .max_shard_size = "70KB", .block_bytes = 4096};
        o.engine = engines[e];
        o.align = align;
        GOOD(as, allshard_save(s, folder, &o));
        check_engine(folder, engines[e], &told[e]);
        ranks_wait(world_comm());
        if (world_rank() == 0) {
            bytes found = read_all(folder);
            if (expected.data) {
                CHECK_TEXT(found.size == expected.size &&
                               memcmp(found.data, expected.data, found.size) == 0,
                           "%s, %s: other bytes than with %s", layout_name(layout), engines[e],
                           engines[0]);
                free(found.data);
            } else {
                expected = found;
            }
        }
        for (int r = 0; r < ENGINES; r++) {
            if (reading == READ_TWO && r != e && r != (e + 1) % ENGINES) {
                continue;
            }
            allshard_load_options l = {.size = sizeof l, .block_bytes = 4096};
            l.engine = engines[r];
            holding_clear(&h);
            GOOD(as, allshard_load(s, folder, &l));
            check_engine(folder, engines[r], NULL);
            const char *wrong = holding_wrong(&h);
            CHECK_TEXT(!wrong, "%s, written by %s, read by %s: tensor %s is wrong",
                       layout_name(layout), engines[e], engines[r], wrong ? wrong : "");
        }
    }
    free(expected.data);
    (void)allshard_state_free(s);
    holding_free(&h);
}

static void test_unknown(const char *folder)
{
    holding h;
    allshard_state *s;
    holding_make(&h, &large, LAYOUT_WHOLE, world_rank(), world_size(), false);
    GOOD(as, allshard_state_create(&s, as, "model"));
    holding_declare(&h, as, s);
    holding_fill(&h);
    allshard_save_options o = {.size = sizeof o, .engine = "warp"};
    allshard_load_options l = {.size = sizeof l, .engine = "warp"};
    FAILS(as, allshard_save(s, folder, &o), ALLSHARD_INVALID, "warp", "posix", "direct", "uring");
    FAILS(as, allshard_load(s, folder, &l), ALLSHARD_INVALID, "warp");
    o.engine = world_rank() == 0 ? "posix" : "direct";
    if (world_size() > 1) {
        FAILS(as, allshard_save(s, folder, &o), ALLSHARD_MISMATCH, "engine");
    }
    (void)allshard_state_free(s);
    holding_free(&h);
}

/* The engine is chosen for the file system, though the context has seen another before. */
static void test_two_file_systems(const char *one, const char *other)
{
    const char *const folders[] = {one, other, one, other};
    char reasons[4][160] = {""};
    holding h;
    allshard_state *s;
    holding_make(&h, &large, LAYOUT_WHOLE, world_rank(), world_size(), false);
    GOOD(as, allshard_state_create(&s, as, "model"));
    holding_declare(&h, as, s);
    holding_fill(&h);
    for (int i = 0; i < 4; i++) {
        GOOD(as, allshard_save(s, folders[i], NULL));
        allshard_stats stats = {.size = sizeof stats};
        CHECK(allshard_get_stats(as, world_rank(), &stats) == ALLSHARD_OK);
        (void)snprintf(reasons[i], sizeof reasons[i], "%s", stats.engine_reason);
    }
    struct statfs first;
    struct statfs second;
    must(statfs(one, &first) == 0 && statfs(other, &second) == 0, other);
    CHECK(strcmp(reasons[0], reasons[2]) == 0 && strcmp(reasons[1], reasons[3]) == 0);
    CHECK_TEXT(first.f_type == second.f_type || !*reasons[0] || strcmp(reasons[0], reasons[1]) != 0,
               "%s and %s: \"%s\" for both", one, other, reasons[0]);
    (void)allshard_state_free(s);
    holding_free(&h);
}

static void test_folder(const char *folder, enum reading reading)
{
    bool told[ENGINES] = {false};
    for (int layout = 0; layout < LAYOUT_COUNT; layout++) {
        test_layout(folder, (enum layout)layout, 0, reading, told);
    }
    test_layout(folder, LAYOUT_FSDP, 4096, reading, told);
    test_layout(folder, LAYOUT_COLUMNS, 4096, reading, told);
    test_unknown(folder);
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 230);
    CHECK(allshard_open(&as, world_comm(), NULL) == ALLSHARD_OK);
    char *in_memory = strdup(scratch_path("engines"));
    test_folder(in_memory, READ_ALL);
    char here[] = "engines-XXXXXX"; /* the build folder lies on a disk */
    if (world_rank() == 0) {
        must(mkdtemp(here) != NULL, here);
    }
    ranks_broadcast(world_comm(), here, sizeof here);
    test_folder(here, READ_TWO);
    test_two_file_systems(in_memory, here);
    free(in_memory);
    ranks_wait(world_comm());
    if (world_rank() == 0) {
        remove_tree(here);
    }
    CHECK(allshard_close(as) == ALLSHARD_OK);
    return ranks_end();
}
