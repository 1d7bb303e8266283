/* SPDX-License-Identifier: Apache-2.0
 * For tests of what may be called around nonblocking saves: states that can be told from each
 * other, saves whose background stands still, and what a folder must hold.
 */
#ifndef ALLSHARD_TESTS_ISAVE_SCENE_H
#define ALLSHARD_TESTS_ISAVE_SCENE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint_folder.h"
#include "support_isave.h"
#include "support_ranks.h"

static allshard *as;

/* ---- sides: a state that can be told from others ---- */

typedef struct side {
    model_tensor tensors[3];
    model m;
    char names[3][64];
    holding h;
    allshard_state *s;
    const char *folder;
} side;

static inline void open_side(side *x, allshard *in, const char *tag)
{
    static const int64_t shapes[3][2] = {{40, 90}, {77, 50}, {300, 7}};
    static const int dtypes[] = {ALLSHARD_F32, ALLSHARD_BF16, ALLSHARD_U8};
    *x = (side){0};
    for (int i = 0; i < 3; i++) {
        (void)snprintf(x->names[i], sizeof x->names[i], "%s.%d.weight", tag, i);
        x->tensors[i] = (model_tensor){x->names[i], dtypes[i], 2, {shapes[i][0], shapes[i][1]}};
    }
    x->m = (model){x->tensors, 3};
    x->folder = strdup(scratch_path(tag));
    holding_make(&x->h, &x->m, LAYOUT_FSDP, world_rank(), world_size(), false);
    GOOD(in, allshard_state_create(&x->s, in, "model"));
    holding_declare(&x->h, in, x->s);
    holding_fill(&x->h);
}

static inline void free_side(side *x)
{
    holding_free(&x->h);
    free((void *)(uintptr_t)x->folder);
    *x = (side){0};
}

static inline void close_side(side *x)
{
    CHECK(allshard_state_free(x->s) == ALLSHARD_OK);
    free_side(x);
}

static inline allshard_save_options plain(void)
{
    return (allshard_save_options){.size = sizeof(allshard_save_options),
                                   .max_shard_size = "8KB",
                                   .block_bytes = 1024,
                                   .engine = "posix",
                                   .staging = ALLSHARD_STAGE_SNAPSHOT};
}

/* Begins a save whose background stands still at that call, and makes the weights others. */
static inline allshard_request *begin(side *x, enum hold where)
{
    allshard_save_options o = plain();
    allshard_request *request = NULL;
    hold_close(where, x->folder);
    GOOD(as, allshard_isave(x->s, x->folder, &o, &request));
    holding_clear(&x->h);
    return request;
}

/* Does the folder hold what the side holds when it is filled and turned? Collective. */
static inline void check_turned(side *x, const char *folder, int by)
{
    holding_clear(&x->h);
    GOOD(as, allshard_load(x->s, folder, NULL));
    holding_turn(&x->h, by);
    const char *wrong = holding_wrong(&x->h);
    CHECK_TEXT(!wrong, "%s in %s is wrong", wrong ? wrong : "", folder);
    ranks_wait(world_comm()); /* the main process tidies last */
}

static inline void check_holds(side *x, const char *folder)
{
    check_turned(x, folder, 0);
}

static inline void check_nothing(const char *folder)
{
    ranks_wait(world_comm());
    CHECK_TEXT(!exists(folder, "") || (!exists(folder, ".allshard") &&
                                       !exists(folder, "model.safetensors.index.json")),
               "%s is not empty", folder);
    ranks_wait(world_comm());
}

static inline void remove_folder(const char *folder)
{
    ranks_wait(world_comm());
    if (world_rank() == 0) {
        remove_tree(folder);
    }
    ranks_wait(world_comm());
}

/* The request is in flight on all ranks, and testing it does not help. */
static inline void check_in_flight(allshard_request *request)
{
    for (int i = 0; i < 3; i++) {
        int done = 1;
        GOOD(as, allshard_test(request, &done));
        CHECK(!done);
    }
    watch w = {0};
    CHECK(watch_look(&w, request).phase != ALLSHARD_OVER);
}

#endif
