/* SPDX-License-Identifier: Apache-2.0
 * What a rank does that may stall: a context with a model, its saves and loads.
 */
#ifndef ALLSHARD_TESTS_STALL_SCENE_H
#define ALLSHARD_TESTS_STALL_SCENE_H

#include "checkpoint_folder.h"
#include "support_model.h"
#include "support_ranks.h"

typedef struct side {
    allshard *as;
    allshard_state *s;
    holding h;
} side;

static const char *folder;
static int64_t block = 256;

static inline void open_side(side *x, allshard_comm comm, const model *m, enum layout layout,
                             int rank, int ranks, double timeout)
{
    allshard_options o = {.size = sizeof o, .memory = 1, .timeout_s = timeout};
    CHECK(allshard_open(&x->as, comm, &o) == ALLSHARD_OK);
    GOOD(x->as, allshard_state_create(&x->s, x->as, "model"));
    holding_make(&x->h, m, layout, rank, ranks, true);
    holding_declare(&x->h, x->as, x->s);
    holding_fill(&x->h);
}

static inline int close_side(side *x)
{
    (void)allshard_state_free(x->s);
    int code = allshard_close(x->as);
    holding_free(&x->h);
    return code;
}

static inline int save(side *x)
{
    allshard_save_options o = {
        .size = sizeof o, .max_shard_size = "12KB", .block_bytes = block, .engine = "posix"};
    return allshard_save(x->s, folder, &o);
}

static inline int isave(side *x)
{
    allshard_save_options o = {
        .size = sizeof o, .max_shard_size = "12KB", .block_bytes = block, .engine = "posix"};
    allshard_request *request = NULL;
    int code = allshard_isave(x->s, folder, &o, &request);
    return code == ALLSHARD_OK ? allshard_wait(&request, NULL) : code;
}

static inline int load(side *x)
{
    allshard_load_options o = {.size = sizeof o, .block_bytes = block, .engine = "posix"};
    holding_clear(&x->h);
    return allshard_load(x->s, folder, &o);
}

#ifndef ALLSHARD_NO_MPI

/* ---- checkpoints that can be told apart ---- */

static const model_tensor old_tensors[] = {{"old.weight", ALLSHARD_F32, 2, {20, 30}},
                                           {"old.bias", ALLSHARD_BF16, 1, {64}}};
static const model_tensor next_tensors[] = {{"next.weight", ALLSHARD_F32, 2, {40, 30}},
                                            {"next.bias", ALLSHARD_F64, 1, {99}}};
static const model model_old = {old_tensors, 2};
static const model model_next = {next_tensors, 2};

/* Is that what the folder holds, whole? By one process, without the others. */
static inline bool holds(const model *m)
{
    side x;
    open_side(&x, ALLSHARD_COMM_SELF, m, LAYOUT_REPLICATED, 0, 1, 0);
    bool good = load(&x) == ALLSHARD_OK && !holding_wrong(&x.h);
    CHECK(close_side(&x) == ALLSHARD_OK);
    return good;
}

static inline void make_old(void)
{
    side x;
    remove_tree(folder);
    open_side(&x, ALLSHARD_COMM_SELF, &model_old, LAYOUT_REPLICATED, 0, 1, 0);
    GOOD(x.as, save(&x));
    CHECK(close_side(&x) == ALLSHARD_OK);
}

#endif
#endif
