/* SPDX-License-Identifier: Apache-2.0
 * Rotten bytes: a flipped bit anywhere in a checkpoint is found by a load that reads its block, on
 * every rank alike, and the text names the file and the tensor; what no rank needs is not looked
 * at; without checks the same bit gets through. Every byte of a small checkpoint on one rank, some
 * on several (all of them, each bit, with ALLSHARD_LONG=1); 1,000 places of a large one; seams,
 * casts, every engine and layout; and manifests that do not fit. (ALLSHARD_NO_MPI: also as one
 * process.)
 */
/* unshared: 3 */
/* ranks: 1 2 3 */
/* timeout: 240 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "checkpoint_folder.h"
#include "commit/manifest.h"
#include "support_model.h"
#include "support_ranks.h"
#include "support_rot.h"

static const char manifest_name[] = "allshard.manifest.json";
static const char index_name[] = "model.safetensors.index.json";
static const char *const engines[] = {"posix", "direct", "uring"};

enum { ENGINES = 3 };

static allshard *as;
static bool is_long(void)
{
    const char *text = getenv("ALLSHARD_LONG");
    return text && *text && strcmp(text, "0") != 0;
}

static allshard_state *new_state(const holding *h)
{
    allshard_state *s = NULL;
    GOOD(as, allshard_state_create(&s, as, "model"));
    holding_declare(h, as, s);
    return s;
}

/* ---- every byte of a small checkpoint ---- */

static const model_tensor few[] = {
    {"first", ALLSHARD_F32, 2, {3, 5}}, {"second", ALLSHARD_I16, 1, {9}},
    {"third", ALLSHARD_U8, 1, {31}},    {"odd", ALLSHARD_BF16, 2, {7, 3}},
    {"none", ALLSHARD_F32, 1, {0}},
};
static const model model_few = {few, sizeof few / sizeof *few};

static void save_model(const model *m, const char *folder, const char *shard_size, int64_t block)
{
    holding h;
    holding_make(&h, m, LAYOUT_FSDP, world_rank(), world_size(), false);
    allshard_state *s = new_state(&h);
    allshard_save_options o = {
        .size = sizeof o, .max_shard_size = shard_size, .block_bytes = block};
    holding_fill(&h);
    GOOD(as, allshard_save(s, folder, &o));
    (void)allshard_state_free(s);
    holding_free(&h);
    rot_read_shards(folder);
}

static void load_right(allshard_state *s, holding *h, const char *path)
{
    holding_clear(h);
    GOOD(as, allshard_load(s, path, NULL));
    const char *wrong = holding_wrong(h);
    CHECK_TEXT(!wrong, "%s: %s", path, wrong);
}

/* What the checks are for: without them the bit is in the tensor. */
static void expect_damage(allshard_state *s, holding *h, const char *folder, const rot_shard *f,
                          int64_t at)
{
    allshard_load_options o = {.size = sizeof o, .checksum = ALLSHARD_CHECKSUM_NONE};
    rot_flip(folder, f->name, at, 3);
    holding_clear(h);
    GOOD(as, allshard_load(s, folder, &o));
    CHECK(ranks_max(world_comm(), holding_wrong(h) != NULL) == 1);
    rot_flip(folder, f->name, at, 3);
}

static void test_every_byte(const char *folder, int64_t block)
{
    holding h;
    save_model(&model_few, folder, "64", block);
    block = block ? block : 4 << 20;
    CHECK(rot_shard_count >= 3);
    holding_make(&h, &model_few, LAYOUT_COLUMNS, world_rank(), world_size(), true);
    allshard_state *s = new_state(&h);
    holding_fill(&h);
    int64_t usual = world_size() == 1 ? 1 : 11;
    int64_t step = is_long() ? 1 : is_sanitized() ? 5 * usual : usual;
    int rounds = is_long() ? 8 : 1; /* bits are drawn */
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < rot_shard_count; i++) {
            for (int64_t at = (int64_t)rot_draw((uint64_t)step); at < rot_shards[i].size;
                 at += step) {
                size_t count;
                rot_expect_found(as, s, folder, folder, &rot_shards[i], at, block, NULL);
                if (at % 16 == 0 && rot_entry_at(&rot_shards[i], at, block, &count)) {
                    expect_damage(s, &h, folder, &rot_shards[i], at);
                }
            }
        }
        const char *const others[] = {index_name, manifest_name};
        for (int i = 0; i < 2; i++) {
            int64_t size = rot_size(folder, others[i]);
            for (int64_t at = (int64_t)rot_draw((uint64_t)step); at < size; at += step) {
                int bit = (int)rot_draw(8);
                rot_flip(folder, others[i], at, bit);
                FAILS(as, allshard_load(s, folder, NULL), ALLSHARD_CORRUPT, others[i],
                      "allshard verify");
                rot_flip(folder, others[i], at, bit);
                rot_flips++;
            }
        }
    }
    load_right(s, &h, folder);
    (void)allshard_state_free(s);
    holding_free(&h);
}

/* ---- seams, layouts, engines ---- */

/* A place in the data of a shard. */
static const rot_shard *draw_data(int64_t *at)
{
    const rot_shard *s = &rot_shards[rot_draw((uint64_t)rot_shard_count)];
    while (s->table.data_begin == (uint64_t)s->size) {
        s = &rot_shards[rot_draw((uint64_t)rot_shard_count)];
    }
    *at = (int64_t)(s->table.data_begin + rot_draw((uint64_t)s->size - s->table.data_begin));
    return s;
}

static void test_layouts(const char *folder)
{
    static const int64_t blocks[] = {64, 448, 4096, 4 << 20};
    for (int b = 0; b < 4; b++) {
        save_model(&model_mixed, folder, "5KB", blocks[b]);
        for (int layout = 0; layout < LAYOUT_COUNT; layout++) {
            holding h;
            /* The size of blocks that is asked for gives way to the manifest's. */
            allshard_load_options o = {
                .size = sizeof o, .engine = engines[(b + layout) % ENGINES], .block_bytes = 128};
            holding_make(&h, &model_mixed, (enum layout)layout, world_rank(), world_size(),
                         (b + layout) % 2);
            allshard_state *s = new_state(&h);
            for (int k = 0; k < (is_long() ? 50 : 4); k++) {
                int64_t at;
                const rot_shard *f = draw_data(&at);
                rot_expect_found(as, s, folder, folder, f, at, blocks[b], &o);
            }
            load_right(s, &h, folder);
            (void)allshard_state_free(s);
            holding_free(&h);
        }
    }
}

/* Blocks that no rank wants a byte of are not read; those of headers always are. */
static void test_subset(const char *folder, int64_t block)
{
    holding h;
    const model some = {model_mixed.tensors + 2, 3};
    allshard_load_options o = {.size = sizeof o, .allow_unexpected = 1};
    save_model(&model_mixed, folder, "5KB", block);
    holding_make(&h, &some, LAYOUT_FLAT, world_rank(), world_size(), false);
    allshard_state *s = new_state(&h);
    int found = 0;
    int passed = 0;
    for (int k = 0; k < (is_long() ? 500 : 40); k++) {
        const rot_shard *f = &rot_shards[rot_draw((uint64_t)rot_shard_count)];
        int64_t at = (int64_t)rot_draw((uint64_t)f->size);
        uint64_t low = (uint64_t)(at / block * block);
        bool wanted = low < f->table.data_begin;
        for (size_t i = 0; i < as_table_count(&f->table); i++) {
            const as_entry *x = as_table_entry(&f->table, i);
            for (int t = 0; t < some.count; t++) {
                wanted = wanted ||
                         (strcmp(some.tensors[t].name, as_table_name(&f->table, i)) == 0 &&
                          x->begin < x->end && x->begin < low + (uint64_t)block && low < x->end);
            }
        }
        if (wanted) {
            rot_expect_found(as, s, folder, folder, f, at, block, &o);
            found++;
            continue;
        }
        int bit = (int)rot_draw(8);
        rot_flip(folder, f->name, at, bit);
        holding_clear(&h);
        GOOD(as, allshard_load(s, folder, &o));
        CHECK(!holding_wrong(&h));
        ranks_wait(world_comm());
        rot_flip(folder, f->name, at, bit);
        passed++;
    }
    CHECK(found > 0 && passed > 0);
    (void)allshard_state_free(s);
    holding_free(&h);
}

/* ---- a file of others, with half elements at the seams, and a manifest for it ---- */

enum { ODD = 3, ELEMENTS = 500, ODD_BLOCK = 64 };

static void put_bytes(const char *folder, const char *name, const void *bytes, size_t count)
{
    char path[1024];
    rot_path(path, sizeof path, folder, name);
    FILE *f = fopen(path, "we");
    must(f && fwrite(bytes, 1, count, f) == count && fclose(f) == 0, path);
}

static size_t make_odd_file(unsigned char *out)
{
    char header[200];
    int n = snprintf(header, sizeof header,
                     "{\"a\":{\"dtype\":\"U8\",\"shape\":[%d],\"data_offsets\":[0,%d]},\"b\":{"
                     "\"dtype\":\"F32\",\"shape\":[%d],\"data_offsets\":[%d,%d]}}",
                     ODD, ODD, ELEMENTS, ODD, ODD + 4 * ELEMENTS);
    uint64_t length = (uint64_t)n;
    memcpy(out, &length, 8); /* little-endian, as all machines that tests run on */
    memcpy(out + 8, header, length);
    memcpy(out + 8 + length, "odd", ODD);
    for (int i = 0; i < ELEMENTS; i++) {
        float value = (float)i / 4;
        memcpy(out + 8 + length + ODD + 4 * i, &value, 4);
    }
    return 8 + length + ODD + (size_t)4 * ELEMENTS;
}

static void make_manifest(const char *folder, const char *part, const char *file,
                          const unsigned char *bytes, size_t size)
{
    uint64_t sums[100];
    as_buffer text = AS_BUFFER_INIT;
    as_manifest_file f = {.name = file, .size = (int64_t)size, .sums = sums};
    for (size_t at = 0; at < size; at += ODD_BLOCK) {
        sums[f.sum_count++] =
            as_checksum(bytes + at, size - at < ODD_BLOCK ? size - at : ODD_BLOCK);
    }
    as_manifest_part p = {.part = part,
                          .pattern = "x{suffix}.safetensors",
                          .created = "2025-01-31T12:00:00Z",
                          .block_size = ODD_BLOCK,
                          .checksum = AS_CHECKSUM_NAME,
                          .files = &f,
                          .file_count = 1};
    CHECK(as_manifest_to_bytes(&p, "0.1.0", NULL, 0, NULL, NULL, &text, NULL) == AS_OK);
    put_bytes(folder, manifest_name, text.data, text.size);
    as_buffer_free(&text);
}

static void test_half_elements(const char *folder)
{
    unsigned char bytes[4096];
    char path[1024];
    const int64_t shapes[2] = {ODD, ELEMENTS};
    size_t size = make_odd_file(bytes);
    int64_t from = (int64_t)ELEMENTS * world_rank() / world_size();
    int64_t to = (int64_t)ELEMENTS * (world_rank() + 1) / world_size();
    unsigned char odd[ODD] = {0};
    double values[ELEMENTS] = {0};
    allshard_state *s = NULL;
    if (world_rank() == 0) {
        must(mkdir(folder, 0777) == 0, folder);
        put_bytes(folder, "odd.safetensors", bytes, size);
        make_manifest(folder, "model", "odd.safetensors", bytes, size);
    }
    ranks_wait(world_comm());
    rot_read_shards(folder);
    GOOD(as, allshard_state_create(&s, as, "model"));
    allshard_tensor a = {.size = sizeof a,
                         .name = "a",
                         .dtype = ALLSHARD_U8,
                         .ndim = 1,
                         .shape = shapes,
                         .data = odd};
    allshard_tensor b = {.size = sizeof b,
                         .name = "b",
                         .dtype = ALLSHARD_F64,
                         .stored_dtype = ALLSHARD_F32,
                         .ndim = 1,
                         .shape = shapes + 1,
                         .flat = 1,
                         .flat_offset = from,
                         .flat_count = to - from,
                         .data = values};
    GOOD(as, allshard_state_tensor(s, &a));
    GOOD(as, allshard_state_tensor(s, &b));
    rot_path(path, sizeof path, folder, "odd.safetensors");
    for (int64_t at = (int64_t)rot_draw(13); at < (int64_t)size; at += 13) {
        rot_expect_found(as, s, at % 2 ? path : folder, folder, &rot_shards[0], at, ODD_BLOCK,
                         NULL);
    }
    GOOD(as, allshard_load(s, path, NULL));
    for (int64_t i = from; i < to; i++) {
        CHECK(values[i - from] == (double)i / 4);
    }
    CHECK(memcmp(odd, "odd", ODD) == 0);
    /* Longer by a byte than the manifest says. */
    ranks_wait(world_comm());
    if (world_rank() == 0) {
        make_manifest(folder, "model", "odd.safetensors", bytes, size - 1);
    }
    FAILS(as, allshard_load(s, folder, NULL), ALLSHARD_CORRUPT, "odd.safetensors", "bytes, but",
          manifest_name, "--no-check");
    /* Another checkpoint's manifest, and none: nothing is known of this one. */
    for (int k = 0; k < 2; k++) {
        if (world_rank() == 0 && k == 0) {
            make_manifest(folder, "model", "other.safetensors", bytes, size);
        } else if (world_rank() == 0) {
            rot_path(path, sizeof path, folder, manifest_name);
            must(unlink(path) == 0, path);
        }
        rot_flip(folder, "odd.safetensors", (int64_t)size - 1, 6);
        GOOD(as, allshard_load(s, folder, NULL));
        ranks_wait(world_comm());
        rot_flip(folder, "odd.safetensors", (int64_t)size - 1, 6);
    }
    (void)allshard_state_free(s);
}

/* ---- a large one ---- */

enum { TENSORS = 272, TENSOR_BYTES = 1 << 20 };

/* NOLINTNEXTLINE(readability-non-const-parameter): loads write into it */
static allshard_state *big_state(int first, int last, unsigned char *memory)
{
    const int64_t shape = TENSOR_BYTES;
    int64_t from = shape * world_rank() / world_size();
    int64_t to = shape * (world_rank() + 1) / world_size();
    allshard_state *s = NULL;
    GOOD(as, allshard_state_create(&s, as, "model"));
    for (int i = first; i < last; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "layer.%03d", i);
        allshard_tensor t = {.size = sizeof t,
                             .name = name,
                             .dtype = ALLSHARD_U8,
                             .ndim = 1,
                             .shape = &shape,
                             .flat = 1,
                             .flat_offset = from,
                             .flat_count = to - from,
                             .data = memory + from,
                             .order = i + 1,
                             .storage = (uint64_t)i + 1}; /* one memory, but not tied */
        GOOD(as, allshard_state_tensor(s, &t));
    }
    return s;
}

/* Each load reads the tensor that is hit alone, and the headers, or 1,000 would take an hour. */
static void test_large(const char *folder)
{
    unsigned char *memory = malloc(TENSOR_BYTES);
    CHECK(memory);
    for (int i = 0; i < TENSOR_BYTES; i++) {
        memory[i] = (unsigned char)rot_draw(256);
    }
    allshard_save_options save = {.size = sizeof save, .max_shard_size = "150MB"};
    allshard_load_options load = {.size = sizeof load, .allow_unexpected = 1};
    allshard_state *all = big_state(0, TENSORS, memory);
    GOOD(as, allshard_save(all, folder, &save));
    rot_read_shards(folder);
    int tries = is_long() ? 10000 : world_size() == 1 && !is_sanitized() ? 1000 : 60;
    for (int k = 0; k < tries; k++) {
        const rot_shard *f = &rot_shards[rot_draw((uint64_t)rot_shard_count)];
        int64_t at = (int64_t)rot_draw((uint64_t)f->size);
        size_t count;
        const as_entry *x = rot_entry_at(f, at, 4 << 20, &count);
        const char *name = x ? f->table.names.data + x->name_at + strlen("layer.") : "0";
        int number = (int)strtol(name, NULL, 10);
        allshard_state *s = k % 250 == 0 ? all : big_state(number, number + 1, memory);
        load.engine = engines[k % ENGINES];
        rot_expect_found(as, s, folder, folder, f, at, 4 << 20, &load);
        if (s != all) {
            (void)allshard_state_free(s);
        }
    }
    GOOD(as, allshard_load(all, folder, NULL));
    (void)allshard_state_free(all);
    free(memory);
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 230);
    const char *text = getenv("ALLSHARD_SEED");
    uint64_t given = text ? strtoull(text, NULL, 10) : (uint64_t)(seconds_now() * 1e3);
    ranks_broadcast(world_comm(), &given, sizeof given);
    rot_seed = given;
    if (world_rank() == 0) {
        (void)printf("ALLSHARD_SEED=%" PRIu64 "\n", given);
        (void)fflush(stdout);
    }
    CHECK(allshard_open(&as, world_comm(), NULL) == ALLSHARD_OK);
    char here[] = "rot-XXXXXX"; /* the build folder lies on a disk, where all engines work */
    if (world_rank() == 0) {
        must(mkdtemp(here) != NULL, here);
    }
    ranks_broadcast(world_comm(), here, sizeof here);
    char *folders[] = {strdup(scratch_path("tiny")), strdup(scratch_path("small")),
                       strdup(scratch_path("odd"))};
    test_every_byte(folders[0], 64);
    test_every_byte(folders[1], 0);
    test_layouts(here);
    test_subset(here, 64);
    test_subset(here, 448);
    test_half_elements(folders[2]);
    for (int i = 0; i < 3; i++) {
        free(folders[i]);
    }
    if (world_rank() == 0) {
        (void)printf("%" PRId64 " flips in small checkpoints\n", rot_flips);
        (void)fflush(stdout);
        remove_tree(here);
        must(mkdir(here, 0777) == 0, here);
    }
    ranks_wait(world_comm());
    rot_flips = 0;
    test_large(here);
    rot_free_shards();
    ranks_wait(world_comm());
    if (world_rank() == 0) {
        (void)printf("%" PRId64 " flips in a large checkpoint\n", rot_flips);
        remove_tree(here);
    }
    CHECK(allshard_close(as) == ALLSHARD_OK);
    return ranks_end();
}
