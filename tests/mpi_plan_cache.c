/* SPDX-License-Identifier: Apache-2.0
 * The kept plan: it serves again if nothing changed on any rank, and only then. (ALLSHARD_NO_MPI:
 * also as one process.)
 */
/* ranks: 1 2 3 4 */
#include <string.h>

#include "checkpoint_folder.h"
#include "support_model.h"
#include "support_ranks.h"

static allshard *as;
static holding held;
static allshard_state *state;

static allshard_save_options plain(void)
{
    return (allshard_save_options){
        .size = sizeof(allshard_save_options), .max_shard_size = "20KB", .block_bytes = 4096};
}

static allshard_stats stats(void)
{
    allshard_stats s = {.size = sizeof s};
    CHECK(allshard_get_stats(as, world_rank(), &s) == ALLSHARD_OK);
    CHECK(s.operation == ALLSHARD_SAVE && s.rank == world_rank() && s.ranks == world_size());
    return s;
}

/* Saves, tells whether the plan was the kept one, and checks by loading what was written. */
static void save(const char *folder, const allshard_save_options *o, bool cached)
{
    GOOD(as, allshard_save(state, folder, o));
    allshard_stats s = stats();
    CHECK_TEXT(s.plan_cached == cached, "plan_cached is %d", s.plan_cached);
    CHECK_TEXT((s.plan_steps == 0) == cached, "%lld steps were run", (long long)s.plan_steps);
    holding_clear(&held);
    GOOD(as, allshard_load(state, folder, NULL));
    const char *wrong = holding_wrong(&held);
    CHECK_TEXT(!wrong, "tensor %s is wrong", wrong ? wrong : "");
}

static bool has_elements(const piece *p)
{
    int64_t count = p->flat ? p->flat_count : 1;
    for (int d = 0; !p->flat && d < p->tensor->ndim; d++) {
        count *= p->local[d];
    }
    return count > 0;
}

/* What is saved are the bytes of now, not those of the first save. Replicas must be alike, so
 * that one rank alone cannot change its bytes where there are any. */
static void test_new_bytes(const char *folder, enum layout layout)
{
    bool replicas = layout == LAYOUT_REPLICATED || layout == LAYOUT_PARALLEL;
    unsigned char *byte = NULL;
    for (size_t i = 0; i < held.count && !byte && !replicas; i++) {
        byte = has_elements(&held.pieces[i]) ? held.pieces[i].first : NULL;
    }
    if (byte) {
        *byte ^= 0xff;
    }
    allshard_save_options o = plain();
    GOOD(as, allshard_save(state, folder, &o));
    CHECK(stats().plan_cached);
    if (byte) {
        unsigned char kept = *byte;
        *byte = 0;
        GOOD(as, allshard_load(state, folder, NULL));
        CHECK(*byte == kept);
        *byte ^= 0xff;
    } else {
        GOOD(as, allshard_load(state, folder, NULL));
    }
    CHECK(!holding_wrong(&held));
}

static void test_changes(const char *folder)
{
    allshard_save_options o = plain();
    const int last = world_size() - 1;
    save(folder, &o, true);
    if (world_rank() == last) { /* one rank is enough */
        GOOD(as, allshard_state_meta(state, "step", "7"));
    }
    save(folder, &o, false);
    save(folder, &o, true);
    if (world_rank() == last) {
        GOOD(as, allshard_state_file(state, "config.json", "{}", 2));
    }
    save(folder, &o, false);
    ranks_wait(world_comm());
    CHECK(strcmp(read_text(folder, "config.json"), "{}") == 0);
    o.max_shard_size = "30KB";
    save(folder, &o, false);
    o.max_shard_size = "30000"; /* the same in other words */
    save(folder, &o, true);
    o.align = 4096;
    save(folder, &o, false);
    o.block_bytes = 8192;
    save(folder, &o, false);
    o.writers_per_node = 1;
    save(folder, &o, false);
    const char *const discard[] = {"no such name"};
    o.discard = discard;
    o.discard_count = 1;
    save(folder, &o, false);
    save(folder, &o, true);
    o.mode = 0640; /* the plan does not depend on it */
    save(folder, &o, true);
    o.pattern = "weights{suffix}.safetensors";
    GOOD(as, allshard_save(state, scratch_path("other"), &o));
    CHECK(!stats().plan_cached);
    allshard_tensor t = {.size = sizeof t,
                         .name = "new",
                         .dtype = ALLSHARD_U8,
                         .ndim = 1,
                         .shape = (int64_t[]){4},
                         .data = (void *)"abcd",
                         .order = 1000};
    if (world_rank() == 0) {
        GOOD(as, allshard_state_tensor(state, &t));
    }
    GOOD(as, allshard_save(state, scratch_path("other"), &o));
    CHECK(!stats().plan_cached);
    GOOD(as, allshard_save(state, scratch_path("third"), &o));
    CHECK(stats().plan_cached);
}

/* Ranks that do not agree are told so, and the kept plan does not hide it. */
static void test_disagreement(const char *folder)
{
    allshard_save_options o = plain();
    save(folder, &o, false);
    save(folder, &o, true);
    if (world_size() > 1) {
        const char *mine = world_rank() == 1 ? scratch_path("elsewhere") : folder;
        FAILS(as, allshard_save(state, mine, &o), ALLSHARD_MISMATCH, "directory", "rank 1");
        save(folder, &o, false);
    }
    o.max_shard_size = world_rank() == world_size() - 1 ? "rubbish" : "20KB";
    FAILS(as, allshard_save(state, folder, &o), ALLSHARD_SIZE, "rubbish");
    o.max_shard_size = "20KB";
    save(folder, &o, false);
    save(folder, &o, true);
    /* A save that fails on the way keeps its plan. */
    FAILS(as, allshard_save(state, "/proc/version/x", &o), ALLSHARD_SYSTEM, "/proc/version");
    save(folder, &o, true);
}

typedef struct double_state {
    allshard_state *state;
    char name[16];
    unsigned char bytes[8];
} double_state;

/* Two states with kept plans, of which each rank brings one: neither plan is what is saved. */
static void test_two_states(const char *folder)
{
    double_state both[2];
    allshard_save_options o = plain();
    for (int i = 0; i < 2; i++) {
        double_state *d = &both[i];
        (void)snprintf(d->name, sizeof d->name, "%c.%d", "ab"[i], world_rank());
        memset(d->bytes, 1 + world_rank() + 100 * i, sizeof d->bytes);
        allshard_tensor t = {.size = sizeof t,
                             .name = d->name,
                             .dtype = ALLSHARD_U8,
                             .ndim = 1,
                             .shape = (int64_t[]){8},
                             .data = d->bytes,
                             .order = 1 + world_rank()};
        GOOD(as, allshard_state_create(&d->state, as, "model"));
        GOOD(as, allshard_state_tensor(d->state, &t));
        GOOD(as, allshard_save(d->state, folder, &o));
        GOOD(as, allshard_save(d->state, folder, &o));
        CHECK(stats().plan_cached);
    }
    double_state *mine = &both[world_rank() % 2];
    unsigned char expected[8];
    memcpy(expected, mine->bytes, sizeof expected);
    for (int i = 0; i < 2; i++) {
        GOOD(as, allshard_save(mine->state, folder, &o));
        CHECK(stats().plan_cached == (i > 0 || world_size() == 1));
        memset(mine->bytes, 0, sizeof mine->bytes);
        GOOD(as, allshard_load(mine->state, folder, NULL)); /* which has no other tensors */
        CHECK(memcmp(mine->bytes, expected, sizeof expected) == 0);
    }
    /* A plan of the first state that some ranks still keep does not fit those of the others. */
    GOOD(as, allshard_save(both[0].state, folder, &o));
    CHECK(stats().plan_cached == (world_size() == 1));
    (void)allshard_state_free(both[0].state);
    (void)allshard_state_free(both[1].state);
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 200);
    CHECK(allshard_open(&as, world_comm(), NULL) == ALLSHARD_OK);
    for (int layout = 0; layout < LAYOUT_COUNT; layout++) {
        char folder[32];
        (void)snprintf(folder, sizeof folder, "cache-%d", layout);
        holding_make(&held, &model_mixed, (enum layout)layout, world_rank(), world_size(), true);
        GOOD(as, allshard_state_create(&state, as, "model"));
        holding_declare(&held, as, state);
        holding_fill(&held);
        char *path = strdup(scratch_path(folder));
        test_disagreement(path);
        test_new_bytes(path, (enum layout)layout);
        test_changes(path);
        free(path);
        (void)allshard_state_free(state);
        holding_free(&held);
    }
    char *path = strdup(scratch_path("two-states"));
    test_two_states(path);
    free(path);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    return ranks_end();
}
