/* SPDX-License-Identifier: Apache-2.0
 * allshard_plan_create: the split that is expected, the same on every rank, and what a save then
 * writes. (ALLSHARD_NO_MPI: also as one process.)
 */
/* ranks: 1 2 3 4 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint_folder.h"
#include "support_model.h"
#include "support_ranks.h"

static allshard *as;

/* The plan in words. */
static char *describe(const allshard_plan *p)
{
    size_t size = 1 << 16;
    char *text = malloc(size);
    CHECK(text != NULL);
    size_t n = (size_t)snprintf(text, size, "%d %lld %lld\n", allshard_plan_is_sharded(p),
                                (long long)allshard_plan_total_size(p),
                                (long long)allshard_plan_exchanged_bytes(p));
    for (size_t f = 0; f < allshard_plan_file_count(p); f++) {
        size_t first;
        size_t count;
        allshard_plan_file_tensors(p, f, &first, &count);
        n += (size_t)snprintf(text + n, size - n, "%s %lld\n", allshard_plan_file_name(p, f),
                              (long long)allshard_plan_file_bytes(p, f));
        for (size_t i = first; i < first + count; i++) {
            CHECK(allshard_plan_tensor_file(p, i) == f);
            n += (size_t)snprintf(text + n, size - n, "  %s\n", allshard_plan_tensor_name(p, i));
        }
    }
    for (int r = 0; r < world_size(); r++) {
        n += (size_t)snprintf(text + n, size - n, "%lld ",
                              (long long)allshard_plan_writer_bytes(p, r));
    }
    CHECK(n < size);
    return text;
}

static void declare(allshard_state *s, const char *name, int64_t bytes, int64_t order)
{
    static unsigned char memory[8][64];
    allshard_tensor t = {.size = sizeof t,
                         .name = name,
                         .dtype = ALLSHARD_U8,
                         .ndim = 1,
                         .shape = &bytes,
                         .data = memory[order],
                         .order = order};
    memory[order][0] = (unsigned char)order;
    GOOD(as, allshard_state_tensor(s, &t));
}

/* Greedy in the order of the keys; an oversize tensor stands alone and does not end the shard
 * that is being filled. */
static void test_split(void)
{
    static const struct {
        const char *name;
        int64_t bytes;
        const char *file;
    } tensors[] = {
        {"f", 20, "p-00002-of-00003.safetensors"}, {"e", 64, "p-00001-of-00003.safetensors"},
        {"d", 20, "p-00002-of-00003.safetensors"}, {"c", 0, "p-00002-of-00003.safetensors"},
        {"b", 11, "p-00002-of-00003.safetensors"}, {"a", 40, "p-00003-of-00003.safetensors"},
    };
    allshard_save_options o = {
        .size = sizeof o, .max_shard_size = "51", .pattern = "p{suffix}.safetensors"};
    allshard_state *s = NULL;
    allshard_plan *p = NULL;
    GOOD(as, allshard_state_create(&s, as, "model"));
    for (int i = 5; i >= 0; i--) { /* declared in another order than the keys say */
        if (i % world_size() == world_rank()) {
            declare(s, tensors[i].name, tensors[i].bytes, i + 1);
        }
    }
    GOOD(as, allshard_plan_create(&p, s, &o));
    CHECK(allshard_plan_is_sharded(p) && allshard_plan_total_size(p) == 155);
    CHECK(allshard_plan_file_count(p) == 3 && allshard_plan_tensor_count(p) == 6);
    CHECK(allshard_plan_dropped_count(p) == 0 && allshard_plan_dropped_name(p, 0) == NULL);
    for (int i = 0; i < 6; i++) {
        const char *file = allshard_plan_find(p, tensors[i].name);
        CHECK_TEXT(file && strcmp(file, tensors[i].file) == 0, "%s lies in %s, expected %s",
                   tensors[i].name, file ? file : "(none)", tensors[i].file);
    }
    CHECK(allshard_plan_find(p, "g") == NULL && allshard_plan_find(p, NULL) == NULL);
    CHECK(allshard_plan_file_name(p, 3) == NULL && allshard_plan_file_bytes(p, 3) == 0);
    CHECK(allshard_plan_tensor_name(p, 6) == NULL && allshard_plan_tensor_file(p, 6) == 0);
    CHECK(allshard_plan_writer_bytes(p, -1) == 0 &&
          allshard_plan_writer_bytes(p, world_size()) == 0);
    allshard_plan_free(p);
    /* One shard: the plain name. */
    o.max_shard_size = "156";
    GOOD(as, allshard_plan_create(&p, s, &o));
    CHECK(!allshard_plan_is_sharded(p) && allshard_plan_file_count(p) == 1);
    CHECK(strcmp(allshard_plan_file_name(p, 0), "p.safetensors") == 0);
    allshard_plan_free(p);
    allshard_plan_free(NULL);
    CHECK(allshard_plan_tensor_count(NULL) == 0 && allshard_plan_file_name(NULL, 0) == NULL);
    (void)allshard_state_free(s);
}

static int64_t file_size(const char *folder, const char *name)
{
    char path[1024];
    struct stat status;
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return stat(path, &status) == 0 ? (int64_t)status.st_size : -1;
}

/* The plan says what a save then does. */
static void test_save(enum layout layout, int64_t block_bytes)
{
    const char *folder = scratch_path("saved");
    allshard_save_options o = {.size = sizeof o, .max_shard_size = "12KB"};
    o.block_bytes = block_bytes;
    allshard_state *s = NULL;
    allshard_plan *p = NULL;
    holding h;
    holding_make(&h, &model_mixed, layout, world_rank(), world_size(), true);
    GOOD(as, allshard_state_create(&s, as, "model"));
    holding_declare(&h, as, s);
    holding_fill(&h);
    GOOD(as, allshard_plan_create(&p, s, &o));
    char *text = describe(p);
    CHECK(ranks_agree(world_comm(), text, strlen(text)));
    free(text);
    GOOD(as, allshard_save(s, folder, &o));
    int64_t written = 0;
    int64_t held = 0;
    for (int r = 0; r < world_size(); r++) {
        written += allshard_plan_writer_bytes(p, r);
    }
    for (size_t f = 0; f < allshard_plan_file_count(p); f++) {
        CHECK(allshard_plan_file_bytes(p, f) == file_size(folder, allshard_plan_file_name(p, f)));
        written -= allshard_plan_file_bytes(p, f);
    }
    CHECK(written == 0);
    for (int i = 0; i < model_mixed.count; i++) {
        held += tensor_bytes(&model_mixed.tensors[i]);
        CHECK(allshard_plan_find(p, model_mixed.tensors[i].name) != NULL);
    }
    CHECK(allshard_plan_total_size(p) == held);
    CHECK(allshard_plan_tensor_count(p) == (size_t)model_mixed.count);
    int64_t moved = allshard_plan_exchanged_bytes(p);
    CHECK(moved >= 0 && (world_size() > 1 || moved == 0));
    /* Columns lie between each other in the file: nearly all that others hold must travel. Of a
     * replica each rank writes its own, but for the headers. */
    CHECK(layout != LAYOUT_COLUMNS || moved >= held * (world_size() - 1) / world_size() / 2);
    CHECK(layout != LAYOUT_REPLICATED || moved < held / 2);
    allshard_plan_free(p);
    (void)allshard_state_free(s);
    holding_free(&h);
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 300);
    CHECK(allshard_open(&as, world_comm(), NULL) == ALLSHARD_OK);
    test_split();
    for (int layout = 0; layout < LAYOUT_COUNT; layout++) {
        test_save((enum layout)layout, layout % 2 ? 256 : 4096);
    }
    CHECK(allshard_close(as) == ALLSHARD_OK);
    return ranks_end();
}
