/* SPDX-License-Identifier: Apache-2.0
 * Strict and lenient loads, and what a load refuses: every rank gets the same names, code and
 * text, nothing changes on disk, and the context goes on working. (ALLSHARD_NO_MPI: also as one
 * process.)
 */
/* unshared: 3 */
/* ranks: 1 2 3 4 */
/* timeout: 180 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint_folder.h"
#include "support_model.h"
#include "support_ranks.h"

static allshard *as;
static float values[4];

static const model_tensor three[] = {
    {"beta", ALLSHARD_F32, 2, {6, 4}},
    {"alpha", ALLSHARD_I16, 1, {10}},
    {"gamma", ALLSHARD_U8, 0, {0}},
};
static const model model_three = {three, 3};

static bool is_last(void)
{
    return world_rank() == world_size() - 1;
}

static allshard_state *new_state(const char *part)
{
    allshard_state *s = NULL;
    GOOD(as, allshard_state_create(&s, as, part));
    return s;
}

static void declare(allshard_state *s, const char *name, int32_t dtype, int ndim,
                    const int64_t *shape)
{
    allshard_tensor t = {.size = sizeof t,
                         .name = name,
                         .dtype = dtype,
                         .ndim = ndim,
                         .shape = shape,
                         .data = values};
    GOOD(as, allshard_state_tensor(s, &t));
}

/* Three small tensors, in a folder, two shards. */
static void save_three(const char *folder)
{
    holding h;
    allshard_state *s = new_state("model");
    allshard_save_options options = {.size = sizeof options, .max_shard_size = "100"};
    holding_make(&h, &model_three, LAYOUT_FSDP, world_rank(), world_size(), false);
    holding_declare(&h, as, s);
    holding_fill(&h);
    GOOD(as, allshard_save(s, folder, &options));
    (void)allshard_state_free(s);
    holding_free(&h);
}

/* ---- strict and lenient ---- */

static void check_names(size_t count, const char *(*name)(const allshard *, size_t),
                        const char *const *expected)
{
    size_t n = 0;
    for (; expected[n]; n++) {
        const char *found = name(as, n);
        CHECK_TEXT(found && strcmp(found, expected[n]) == 0, "name %zu is \"%s\", expected \"%s\"",
                   n, found ? found : "(none)", expected[n]);
    }
    CHECK_TEXT(n == count, "%zu names, expected %zu", count, n);
    CHECK(name(as, n) == NULL && name(NULL, 0) == NULL);
}

#define MISSING(...)                                                                               \
    check_names(allshard_missing_count(as), allshard_missing_name,                                 \
                (const char *const[]){__VA_ARGS__})
#define UNEXPECTED(...)                                                                            \
    check_names(allshard_unexpected_count(as), allshard_unexpected_name,                           \
                (const char *const[]){__VA_ARGS__})

static void test_strict(const char *folder)
{
    const int64_t one = 1;
    holding h;
    const model two = {three, 2}; /* without gamma */
    allshard_load_options options = {.size = sizeof options};
    allshard_state *s = new_state("model");
    holding_make(&h, &two, LAYOUT_COLUMNS, world_rank(), world_size(), true);
    holding_declare(&h, as, s);
    holding_clear(&h);
    values[0] = 7;
    /* Two names that only one rank declares, and one that all do. */
    if (is_last()) {
        declare(s, "zeta", ALLSHARD_F32, 1, &one);
        declare(s, "al", ALLSHARD_F32, 1, &one);
    }
    declare(s, "delta", ALLSHARD_F32, 1, &one);
    for (int round = 0; round < 2; round++) { /* the second finds what the first left behind */
        FAILS(as, allshard_load(s, folder, NULL), ALLSHARD_NAMES, "missing",
              "\"al\", \"delta\", \"zeta\"", "declared by no rank", "\"gamma\"");
        MISSING("al", "delta", "zeta", NULL);
        UNEXPECTED("gamma", NULL);
    }
    options.allow_missing = 1;
    FAILS(as, allshard_load(s, folder, &options), ALLSHARD_NAMES, "\"gamma\"");
    MISSING("al", "delta", "zeta", NULL);
    UNEXPECTED("gamma", NULL);
    options = (allshard_load_options){.size = sizeof options, .allow_unexpected = 1};
    FAILS(as, allshard_load(s, folder, &options), ALLSHARD_NAMES, "\"zeta\"");
    for (size_t i = 0; i < h.count; i++) {
        for (size_t k = 0; k < h.pieces[i].bytes; k++) {
            CHECK(h.pieces[i].memory[k] == 0xA5); /* a failed strict load touches nothing */
        }
    }
    options.allow_missing = 1;
    GOOD(as, allshard_load(s, folder, &options));
    MISSING("al", "delta", "zeta", NULL);
    UNEXPECTED("gamma", NULL);
    CHECK(holding_wrong(&h) == NULL && values[0] == 7);
    (void)allshard_state_free(s);
    /* Nothing declared at all. */
    s = new_state("model");
    FAILS(as, allshard_load(s, folder, NULL), ALLSHARD_NAMES, "\"alpha\", \"beta\", \"gamma\"");
    UNEXPECTED("alpha", "beta", "gamma", NULL);
    GOOD(as, allshard_load(s, folder, &options));
    UNEXPECTED("alpha", "beta", "gamma", NULL);
    MISSING(NULL);
    (void)allshard_state_free(s);
    CHECK(allshard_unexpected_count(as) == 3); /* freeing is no call on the context */
    s = new_state("model");
    CHECK(allshard_unexpected_count(as) == 0);
    (void)allshard_state_free(s);
    holding_free(&h);
}

/* Boxes that overlap, and parts of a tensor only: a load takes what it is given. */
static void test_partial(const char *folder)
{
    const int64_t shape[2] = {6, 4};
    const int64_t from[2][2] = {{1, 1}, {0, 0}};
    const int64_t local[2][2] = {{4, 2}, {3, 4}};
    unsigned char memory[2][96];
    allshard_load_options options = {.size = sizeof options, .allow_unexpected = 1};
    allshard_state *s = new_state("model");
    for (int i = 0; i < 2; i++) {
        allshard_tensor t = {.size = sizeof t,
                             .name = "beta",
                             .dtype = ALLSHARD_F32,
                             .ndim = 2,
                             .shape = shape,
                             .offset = from[i],
                             .local_shape = local[i],
                             .data = memory[i]};
        GOOD(as, allshard_state_tensor(s, &t));
    }
    memset(memory, 0, sizeof memory);
    GOOD(as, allshard_load(s, folder, &options));
    for (int i = 0; i < 2; i++) {
        for (int64_t k = 0; k < local[i][0] * local[i][1] * 4; k++) {
            int64_t row = from[i][0] + k / 4 / local[i][1];
            int64_t column = from[i][1] + k / 4 % local[i][1];
            CHECK(memory[i][k] == tensor_byte(&three[0], (row * 4 + column) * 4 + k % 4));
        }
    }
    (void)allshard_state_free(s);
}

/* ---- arguments and declarations ---- */

static int load_odd(allshard_state *s, const char *folder, const allshard_load_options *odd)
{
    return allshard_load(s, folder, is_last() ? odd : NULL);
}

static void test_arguments(const char *folder)
{
    const allshard_load_options none = {.size = sizeof none};
    allshard_load_options o = none;
    allshard_state *s = new_state("model");
    FAILS(as, allshard_load(s, is_last() ? NULL : folder, NULL), ALLSHARD_INVALID, "path");
    FAILS(as, allshard_load(s, is_last() ? "" : folder, NULL), ALLSHARD_INVALID, "path");
    o.size = 0;
    FAILS(as, load_odd(s, folder, &o), ALLSHARD_INVALID, "sizeof");
    o = none;
    o.block_bytes = 63;
    FAILS(as, load_odd(s, folder, &o), ALLSHARD_INVALID, "multiple of 64");
    o = none;
    o.pattern = "model";
    FAILS(as, load_odd(s, folder, &o), ALLSHARD_PATTERN, "suffix");
    if (world_size() > 1) {
        FAILS(as, allshard_load(s, is_last() ? "elsewhere" : folder, NULL), ALLSHARD_MISMATCH,
              "path");
        o = none;
        o.block_bytes = 64;
        FAILS(as, load_odd(s, folder, &o), ALLSHARD_MISMATCH, "block_bytes");
        o = none;
        o.allow_missing = 1;
        FAILS(as, load_odd(s, folder, &o), ALLSHARD_MISMATCH, "allow_missing");
        o = none;
        o.allow_unexpected = 1;
        FAILS(as, load_odd(s, folder, &o), ALLSHARD_MISMATCH, "allow_unexpected");
        o = none;
        o.pattern = "other{suffix}.safetensors";
        FAILS(as, load_odd(s, folder, &o), ALLSHARD_MISMATCH, "pattern");
        allshard_state *other = new_state(is_last() ? "optimizer" : "model");
        FAILS(as, allshard_load(other, folder, NULL), ALLSHARD_MISMATCH, "part");
        (void)allshard_state_free(other);
    }
    (void)allshard_state_free(s);
    /* A stride of 0 would put several elements into one place. */
    const int64_t shape[2] = {6, 4};
    const int64_t flat[2] = {0, 1};
    s = new_state("model");
    allshard_tensor t = {.size = sizeof t,
                         .name = "beta",
                         .dtype = ALLSHARD_F32,
                         .ndim = 2,
                         .shape = shape,
                         .strides = flat,
                         .data = values};
    if (is_last()) {
        GOOD(as, allshard_state_tensor(s, &t));
    }
    FAILS(as, allshard_load(s, folder, NULL), ALLSHARD_INVALID, "\"beta\"", "stride of 0");
    (void)allshard_state_free(s);
}

static void test_mismatch(const char *folder)
{
    const int64_t right[2] = {6, 4};
    const int64_t turned[2] = {4, 6};
    const int64_t line = 24;
    struct {
        int32_t dtype;
        int ndim;
        const int64_t *shape;
        const char *declared;
    } cases[] = {{ALLSHARD_I32, 2, right, "I32 [6,4]"},
                 {ALLSHARD_F32, 2, turned, "F32 [4,6]"},
                 {ALLSHARD_F32, 1, &line, "F32 [24]"},
                 {ALLSHARD_F32, 0, NULL, "F32 []"}};
    allshard_load_options options = {
        .size = sizeof options, .allow_missing = 1, .allow_unexpected = 1};
    char who[32];
    (void)snprintf(who, sizeof who, "rank %d declares", world_size() - 1);
    for (size_t i = 0; i < 4; i++) {
        allshard_state *s = new_state("model");
        if (is_last()) {
            declare(s, "beta", cases[i].dtype, cases[i].ndim, cases[i].shape);
        }
        FAILS(as, allshard_load(s, folder, &options), ALLSHARD_MISMATCH, "\"beta\"", who,
              cases[i].declared, "F32 [6,4]");
        (void)allshard_state_free(s);
    }
}

/* ---- what is on disk ---- */

static void write_bytes(const char *folder, const char *name, const void *bytes, size_t count)
{
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(bytes, 1, count, f) == count && fclose(f) == 0);
}

/* A file of that header and `data` zero bytes. */
static void write_tensors(const char *folder, const char *name, const char *header, size_t data)
{
    char bytes[1024] = {0};
    uint64_t length = strlen(header);
    CHECK(sizeof length + length + 1 + data <= sizeof bytes);
    memcpy(bytes, &length, sizeof length); /* this test runs on little-endian machines only */
    memcpy(bytes + sizeof length, header, length + 1); /* the data are zeros, too */
    write_bytes(folder, name, bytes, sizeof length + length + data);
}

static const char good_header[] =
    "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
static const char other_header[] =
    "{\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";

static void write_index(const char *folder, const char *map)
{
    char text[512];
    (void)snprintf(text, sizeof text, "{\"metadata\":{},\"weight_map\":{%s}}", map);
    write_text(folder, "model.safetensors.index.json", text);
}

/* One broken folder after the other; made by rank 0. */
typedef struct broken {
    const char *name;
    int code;
    const char *text;
} broken;

static const broken broken_ones[] = {
    {"nothing", ALLSHARD_NOT_FOUND, "nothing"},
    {"empty", ALLSHARD_NOT_FOUND, "no checkpoint"},
    {"header", ALLSHARD_FORMAT, "model.safetensors"},
    {"short", ALLSHARD_FORMAT, "model.safetensors"},
    {"shard", ALLSHARD_FORMAT, "m-2.safetensors"},
    {"absent", ALLSHARD_NOT_FOUND, "m-2.safetensors"},
    {"names", ALLSHARD_FORMAT, "\"ghost\""},
    {"climb", ALLSHARD_FORMAT, ".."},
    {"root", ALLSHARD_FORMAT, "/etc/passwd.safetensors"},
    {"pickle", ALLSHARD_FORMAT, "m-1.bin"},
    {"json", ALLSHARD_FORMAT, "index.json"},
    {"folder", ALLSHARD_FORMAT, "m-1.safetensors"},
};

static void make_broken(const char *name, const char *folder)
{
    if (strcmp(name, "nothing") == 0) {
        return;
    }
    CHECK(mkdir(folder, 0755) == 0);
    write_tensors(folder, "m-1.safetensors", good_header, 8);
    if (strcmp(name, "empty") == 0) {
        CHECK(unlink(scratch_path("empty/m-1.safetensors")) == 0);
    } else if (strcmp(name, "header") == 0) {
        write_tensors(folder, "model.safetensors", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2", 8);
    } else if (strcmp(name, "short") == 0) {
        write_tensors(folder, "model.safetensors", good_header, 7);
    } else if (strcmp(name, "shard") == 0) {
        write_tensors(folder, "m-2.safetensors", other_header, 6);
        write_index(folder, "\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\"");
    } else if (strcmp(name, "absent") == 0) {
        write_index(folder, "\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\"");
    } else if (strcmp(name, "names") == 0) {
        write_index(folder, "\"a\":\"m-1.safetensors\",\"ghost\":\"m-1.safetensors\"");
    } else if (strcmp(name, "climb") == 0) {
        write_index(folder, "\"a\":\"../climb/m-1.safetensors\"");
    } else if (strcmp(name, "root") == 0) {
        write_index(folder, "\"a\":\"/etc/passwd.safetensors\"");
    } else if (strcmp(name, "pickle") == 0) {
        write_index(folder, "\"a\":\"m-1.bin\"");
    } else if (strcmp(name, "json") == 0) {
        write_text(folder, "model.safetensors.index.json", "{\"weight_map\":[]}");
    } else if (strcmp(name, "folder") == 0) {
        write_index(folder, "\"a\":\"m-1.safetensors\"");
        CHECK(unlink(scratch_path("folder/m-1.safetensors")) == 0);
        CHECK(mkdir(scratch_path("folder/m-1.safetensors"), 0755) == 0);
    }
}

static void test_broken(void)
{
    const int64_t two = 2;
    allshard_state *s = new_state("model");
    declare(s, "a", ALLSHARD_F32, 1, &two);
    for (size_t i = 0; i < sizeof broken_ones / sizeof broken_ones[0]; i++) {
        const broken *b = &broken_ones[i];
        const char *folder = scratch_path(b->name);
        if (world_rank() == 0) {
            make_broken(b->name, folder);
        }
        ranks_wait(world_comm());
        values[0] = 3;
        FAILS(as, allshard_load(s, folder, NULL), b->code, b->text);
        CHECK(values[0] == 3);
    }
    /* A single file, good this time, and one that may not be read. */
    if (world_rank() == 0) {
        write_tensors(scratch_path(""), "plain.safetensors", good_header, 8);
    }
    ranks_wait(world_comm());
    GOOD(as, allshard_load(s, scratch_path("plain.safetensors"), NULL));
    CHECK(values[0] == 0);
    if (world_rank() == 0) {
        CHECK(chmod(scratch_path(""), 0755) == 0 &&
              chmod(scratch_path("plain.safetensors"), 0) == 0);
    }
    ranks_wait(world_comm());
    (void)setfsuid(is_last() ? 65534 : geteuid()); /* only one rank is kept out */
    (void)prctl(PR_SET_DUMPABLE, 1);
    if (is_last()) {
        int fd = open(scratch_path("plain.safetensors"), O_RDONLY);
        CHECK(fd < 0 && errno == EACCES);
    }
    FAILS(as, allshard_load(s, scratch_path("plain.safetensors"), NULL), ALLSHARD_SYSTEM,
          "plain.safetensors");
    (void)setfsuid(geteuid());
    (void)prctl(PR_SET_DUMPABLE, 1);
    (void)allshard_state_free(s);
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 600);
    CHECK(allshard_open(&as, world_comm(), NULL) == ALLSHARD_OK);
    char *folder = strdup(scratch_path("three"));
    save_three(folder);
    test_strict(folder);
    test_partial(folder);
    test_arguments(folder);
    test_mismatch(folder);
    test_broken();
    check_works(as, scratch_path("works"));
    CHECK(allshard_close(as) == ALLSHARD_OK);
    free(folder);
    return ranks_end();
}
