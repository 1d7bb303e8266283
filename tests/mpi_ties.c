/* SPDX-License-Identifier: Apache-2.0
 * Tied tensors: one of them is saved, the others are recorded, and a load fills the dropped names
 * from the one that was kept. (ALLSHARD_NO_MPI: also as one process.)
 */
/* ranks: 1 2 3 4 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint_folder.h"
#include "support_ranks.h"

enum { COUNT = 24 };

static allshard *as;
static int64_t memory[COUNT]; /* as much as any tensor here has on one rank */
static int64_t other[COUNT];

static bool is_last(void)
{
    return world_rank() == world_size() - 1;
}

static allshard_state *new_state(void)
{
    allshard_state *s = NULL;
    GOOD(as, allshard_state_create(&s, as, "model"));
    return s;
}

/* This rank's rows of a tensor of COUNT elements. */
static void cut(int64_t *from, int64_t *count)
{
    *from = (int64_t)COUNT * world_rank() / world_size();
    *count = (int64_t)COUNT * (world_rank() + 1) / world_size() - *from;
}

static void declare_cut(allshard_state *s, const char *name, int64_t order, void *data)
{
    const int64_t all = COUNT;
    int64_t from;
    int64_t count;
    cut(&from, &count);
    allshard_tensor t = {.size = sizeof t,
                         .name = name,
                         .dtype = ALLSHARD_I64,
                         .ndim = 1,
                         .shape = &all,
                         .offset = &from,
                         .local_shape = &count,
                         .data = data,
                         .order = order};
    GOOD(as, allshard_state_tensor(s, &t));
}

static void fill(int64_t *data)
{
    int64_t from;
    int64_t count;
    cut(&from, &count);
    for (int64_t i = 0; i < count; i++) {
        data[i] = 1000 + from + i;
    }
}

static bool is_filled(const int64_t *data)
{
    int64_t from;
    int64_t count;
    bool good = true;
    cut(&from, &count);
    for (int64_t i = 0; i < count; i++) {
        good = good && data[i] == 1000 + from + i;
    }
    return good;
}

/* The plan's saved names and its dropped ones, as "a b | c>a": in the order of the plan. */
static void check_plan(allshard_state *s, const allshard_save_options *options,
                       const char *expected)
{
    allshard_plan *p = NULL;
    char text[512] = "";
    size_t n = 0;
    GOOD(as, allshard_plan_create(&p, s, options));
    for (size_t i = 0; i < allshard_plan_tensor_count(p); i++) {
        n += (size_t)snprintf(text + n, sizeof text - n, "%s ", allshard_plan_tensor_name(p, i));
    }
    n += (size_t)snprintf(text + n, sizeof text - n, "|");
    for (size_t i = 0; i < allshard_plan_dropped_count(p); i++) {
        n += (size_t)snprintf(text + n, sizeof text - n, " %s>%s", allshard_plan_dropped_name(p, i),
                              allshard_plan_dropped_for(p, i));
    }
    CHECK_TEXT(strcmp(text, expected) == 0, "the plan is \"%s\", expected \"%s\"", text, expected);
    allshard_plan_free(p);
}

static bool file_has(const char *folder, const char *name, const char *text)
{
    char path[1024];
    char bytes[4096];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    CHECK(f != NULL);
    size_t n = fread(bytes, 1, sizeof bytes, f);
    (void)fclose(f);
    return memmem(bytes, n, text, strlen(text)) != NULL;
}

static void test_pointers(void)
{
    const char *folder = scratch_path("pointers");
    allshard_state *s = new_state();
    declare_cut(s, "lm_head", 2, memory);
    declare_cut(s, "embed", 1, memory);
    declare_cut(s, "other", 3, other);
    fill(memory);
    fill(other);
    check_plan(s, NULL, "embed other | lm_head>embed");
    GOOD(as, allshard_save(s, folder, NULL));
    CHECK(file_has(folder, "model.safetensors", "\"lm_head\":\"embed\""));
    CHECK(!file_has(folder, "model.safetensors", "\"lm_head\":{"));
    /* Sharded: the record is in the index. */
    allshard_save_options small = {.size = sizeof small, .max_shard_size = "8"};
    GOOD(as, allshard_save(s, scratch_path("sharded"), &small));
    CHECK(file_has(scratch_path("sharded"), "model.safetensors.index.json",
                   "\"lm_head\": \"embed\""));
    /* The name to keep can be chosen, unless no other is left. */
    static const char *const discard[] = {"embed", "other"};
    allshard_save_options o = {.size = sizeof o, .discard = discard, .discard_count = 2};
    check_plan(s, &o, "lm_head other | embed>lm_head");
    (void)allshard_state_free(s);
    /* Loaded apart, each of both names gets the bytes. */
    for (int i = 0; i < 2; i++) {
        s = new_state();
        memset(memory, 0, sizeof memory);
        memset(other, 0, sizeof other);
        int64_t third[COUNT] = {0};
        declare_cut(s, "lm_head", 0, memory);
        declare_cut(s, "embed", 0, other);
        declare_cut(s, "other", 0, third);
        GOOD(as, allshard_load(s, i ? scratch_path("sharded") : folder, NULL));
        CHECK(is_filled(memory) && is_filled(other) && is_filled(third));
        CHECK(allshard_missing_count(as) == 0 && allshard_unexpected_count(as) == 0);
        (void)allshard_state_free(s);
    }
    /* The dropped name alone: the kept one is not unexpected then. */
    s = new_state();
    memset(memory, 0, sizeof memory);
    memset(other, 0, sizeof other);
    declare_cut(s, "lm_head", 0, memory);
    declare_cut(s, "other", 0, other);
    GOOD(as, allshard_load(s, folder, NULL));
    CHECK(is_filled(memory) && is_filled(other));
    (void)allshard_state_free(s);
}

/* If only some ranks show the same pointers, the tensors are two. */
static void test_some_ranks(void)
{
    if (world_size() == 1) {
        return;
    }
    allshard_state *s = new_state();
    declare_cut(s, "a", 1, memory);
    declare_cut(s, "b", 2, is_last() ? other : memory);
    fill(memory);
    fill(other);
    check_plan(s, NULL, "a b |");
    GOOD(as, allshard_save(s, scratch_path("some"), NULL));
    memset(memory, 0, sizeof memory);
    memset(other, 0, sizeof other);
    GOOD(as, allshard_load(s, scratch_path("some"), NULL));
    CHECK(is_filled(memory) && (!is_last() || is_filled(other)));
    (void)allshard_state_free(s);
    /* Nor are views of one pointer that show other elements. */
    const int64_t square[2] = {4, 6};
    const int64_t turned[2] = {6, 4};
    const int64_t strides[2] = {1, 6};
    allshard_tensor t = {.size = sizeof t,
                         .name = "plain",
                         .dtype = ALLSHARD_I64,
                         .ndim = 2,
                         .shape = square,
                         .data = memory,
                         .order = 1};
    s = new_state();
    GOOD(as, allshard_state_tensor(s, &t));
    t.name = "view";
    t.shape = turned;
    t.strides = strides;
    t.order = 2;
    GOOD(as, allshard_state_tensor(s, &t));
    /* The same elements in another shape could not be loaded again if they were dropped. */
    const int64_t line = 24;
    t.name = "flat";
    t.ndim = 1;
    t.shape = &line;
    t.strides = NULL;
    t.order = 3;
    GOOD(as, allshard_state_tensor(s, &t));
    check_plan(s, NULL, "plain view flat |");
    for (int64_t i = 0; i < line; i++) {
        memory[i] = 1000 + i; /* replicas hold the same */
    }
    GOOD(as, allshard_save(s, scratch_path("views"), NULL));
    memset(memory, 0, sizeof memory);
    GOOD(as, allshard_load(s, scratch_path("views"), NULL));
    for (int64_t i = 0; i < line; i++) {
        CHECK(memory[i] == 1000 + i);
    }
    (void)allshard_state_free(s);
}

/* A tensor of one dimension that is marked as a part of a storage. */
static void declare_stored(allshard_state *s, const char *name, int64_t order, uint64_t storage,
                           int64_t bytes, int64_t at, int64_t count)
{
    allshard_tensor t = {.size = sizeof t,
                         .name = name,
                         .dtype = ALLSHARD_I64,
                         .ndim = 1,
                         .shape = &count,
                         .data = memory + at,
                         .order = order,
                         .storage = storage,
                         .storage_bytes = bytes,
                         .storage_offset = at * 8};
    GOOD(as, allshard_state_tensor(s, &t));
}

static void test_storages(void)
{
    static const char *const discard[] = {"whole.a"};
    allshard_save_options o = {.size = sizeof o, .discard = discard, .discard_count = 1};
    /* Marked alike, the names may lie anywhere: here each rank has its own copies. */
    allshard_state *s = new_state();
    declare_stored(s, "whole.b", 1, 77, 0, 0, 8);
    declare_stored(s, "whole.a", 2, 77, 0, 0, 8);
    declare_stored(s, "part", 3, 77, 64, 2, 3);
    declare_stored(s, "free", 4, 78, 0, 0, 8);
    check_plan(s, NULL, "whole.a free | part>whole.a whole.b>whole.a");
    check_plan(s, &o, "whole.b free | part>whole.b whole.a>whole.b");
    (void)allshard_state_free(s);
    /* Of one number and another size: another storage, as huggingface_hub takes it. */
    s = new_state();
    declare_stored(s, "a", 1, 77, 64, 0, 8);
    declare_stored(s, "b", 2, 77, 32, 0, 4);
    check_plan(s, NULL, "a b |");
    (void)allshard_state_free(s);
    /* No name covers the storage whole. */
    s = new_state();
    declare_stored(s, "free", 1, 0, 0, 12, 4);
    if (is_last()) {
        declare_stored(s, "left", 2, 77, 64, 0, 4);
        declare_stored(s, "right", 3, 77, 64, 4, 4);
    }
    FAILS(as, allshard_save(s, scratch_path("tied"), NULL), ALLSHARD_TIED, "\"left\"", "64 bytes");
    CHECK(!exists(scratch_path("tied"), ""));
    (void)allshard_state_free(s);
}

/* Metadata of the user's wins over a record of the same key. */
static void test_metadata(void)
{
    const char *folder = scratch_path("metadata");
    allshard_state *s = new_state();
    declare_cut(s, "embed", 1, memory);
    declare_cut(s, "lm_head", 2, memory);
    GOOD(as, allshard_state_meta(s, "lm_head", "mine"));
    GOOD(as, allshard_state_meta(s, "note", "overwritten"));
    GOOD(as, allshard_state_meta(s, "note", "q\"\xc3\xa9\n"));
    fill(memory);
    GOOD(as, allshard_save(s, folder, NULL));
    CHECK(file_has(folder, "model.safetensors", "\"lm_head\":\"mine\""));
    CHECK(file_has(folder, "model.safetensors", "\"note\":\"q\\\"\xc3\xa9\\n\""));
    CHECK(file_has(folder, "model.safetensors", "\"format\":\"pt\""));
    (void)allshard_state_free(s);
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 300);
    CHECK(allshard_open(&as, world_comm(), NULL) == ALLSHARD_OK);
    test_pointers();
    test_some_ranks();
    test_storages();
    test_metadata();
    CHECK(allshard_close(as) == ALLSHARD_OK);
    return ranks_end();
}
