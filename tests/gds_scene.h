/* SPDX-License-Identifier: Apache-2.0
 * For tests of GPU-direct on ranks, with the simulated cuFile: a state once on the host and once on
 * devices, saved and loaded both ways, and what the stats tell of it.
 */
#ifndef ALLSHARD_TESTS_GDS_SCENE_H
#define ALLSHARD_TESTS_GDS_SCENE_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/sys.h"
#include "support_cufile.h"
#include "support_ranks.h"
#include "support_snapshot.h"
#include "support_twin.h"

static twin_devices devices;
static const sim_library *sim;
static const sim_cufile_controls *file;
static as_sys good; /* the machine's, with udev */
static uint64_t random_state;

/* No trouble any more. */
static inline void calm(void)
{
    sim->reset();
    file->reset();
    sim->attribute(AS_CU_DEVICE_GPU_DIRECT_RDMA, 1);
}

/* What the log said last of GPU-direct. */
static char logged[400];

static inline void keep_log(int level, const char *text, void *user)
{
    (void)user;
    if (strncmp(text, "GPU-direct", 10) == 0) {
        CHECK(level == ALLSHARD_LOG_INFO || level == ALLSHARD_LOG_DEBUG);
        CHECK_TEXT(strcmp(logged, text) != 0, "said twice: %s", text);
        (void)snprintf(logged, sizeof logged, "%s", text);
    }
}

/* ---- what is saved ---- */

static const model_tensor large_tensors[] = {
    {"large.weight", ALLSHARD_F32, 2, {350, 513}},
    {"large.narrow", ALLSHARD_BF16, 2, {30000, 6}},
    {"large.bytes", ALLSHARD_U8, 1, {600011}},
    {"large.heads", ALLSHARD_F16, 3, {6, 64, 900}},
};
static const model large = {large_tensors, (int)(sizeof large_tensors / sizeof *large_tensors)};

/* The same on the host and on devices. */
typedef struct pair {
    holding h;
    twin t;
    allshard *as;
    allshard_state *host;
    allshard_state *there;
} pair;

static inline int32_t stored_as_it_is(int32_t dtype)
{
    (void)dtype;
    return 0;
}

static inline void pair_make(pair *p, enum layout layout, bool strided, unsigned kinds)
{
    allshard_options options = {.size = sizeof options, .log = keep_log};
    logged[0] = '\0';
    CHECK(allshard_open(&p->as, world_comm(), &options) == ALLSHARD_OK);
    holding_make(&p->h, &large, layout, world_rank(), world_size(), strided);
    twin_make(&p->t, &devices, &p->h, kinds, &random_state);
    GOOD(p->as, allshard_state_create(&p->host, p->as, "model"));
    holding_declare(&p->h, p->as, p->host);
    GOOD(p->as, allshard_state_create(&p->there, p->as, "model"));
    twin_declare(&p->t, p->as, p->there, stored_as_it_is);
    holding_fill(&p->h);
    twin_put(&p->t, TWIN_LEGACY, NULL);
}

static inline void pair_free(pair *p)
{
    (void)allshard_state_free(p->host);
    (void)allshard_state_free(p->there);
    CHECK(allshard_close(p->as) == ALLSHARD_OK);
    CHECK(sim->context_synchronize() == AS_CU_SUCCESS);
    twin_free(&p->t);
    holding_free(&p->h);
    CHECK(file->live("handles") == 0 && file->live("buffers") == 0);
    CHECK_TEXT(!*file->faults(), "cuFile: %s", file->faults());
    twin_check(&devices);
}

static inline allshard_save_options save_options(const char *engine, int64_t block_bytes)
{
    return (allshard_save_options){
        .size = sizeof(allshard_save_options), .engine = engine, .block_bytes = block_bytes};
}

static inline int load_with(const pair *p, const char *engine, const char *folder)
{
    allshard_load_options o = {.size = sizeof o, .engine = engine};
    return allshard_load(p->there, folder, &o);
}

/* All memory is waste, on both sides. */
static inline void spoil(const pair *p)
{
    size_t bytes = twin_bytes(&p->t);
    unsigned char *waste = malloc(bytes + 1);
    CHECK(waste != NULL);
    memset(waste, 0x3c, bytes);
    twin_put(&p->t, TWIN_LEGACY, waste);
    CHECK(sim->context_synchronize() == AS_CU_SUCCESS);
    for (size_t i = 0; i < p->h.count; i++) {
        memset(p->h.pieces[i].memory, 0x3c, p->h.pieces[i].bytes);
    }
    free(waste);
}

/* Has the device's memory what the host's gets from the same files? */
static inline void check_loaded(const pair *p, const char *folder)
{
    allshard_load_options o = {.size = sizeof o, .engine = "posix"};
    GOOD(p->as, allshard_load(p->host, folder, &o));
    const char *wrong = twin_wrong(&p->t);
    CHECK_TEXT(!wrong, "tensor %s came back otherwise", wrong ? wrong : "");
}

static inline allshard_stats stats_of(const pair *p)
{
    allshard_stats s = {.size = sizeof s};
    CHECK(allshard_get_stats(p->as, world_rank(), &s) == ALLSHARD_OK);
    return s;
}

/* What GPU-direct did or did not, by what the stats tell. A rank that moves nothing tells nothing. */
static inline void check_engine(const pair *p, const char *engine, const char *reason)
{
    allshard_stats s = stats_of(p);
    if (s.bytes_written + s.bytes_read > 0) {
        bool is = strcmp(s.engine, "gds") == 0;
        CHECK_TEXT(!engine || is == (strcmp(engine, "gds") == 0), "engine %s: %s", s.engine,
                   s.engine_reason);
        CHECK_TEXT(!reason || strstr(s.engine_reason, reason), "reason \"%s\", not \"%s\"",
                   s.engine_reason, reason);
        CHECK_TEXT(!reason || strstr(logged, reason), "the log says \"%s\", not \"%s\"", logged,
                   reason);
    }
}

/* The same files, but for the manifest, which tells the engines. */
static inline void compare_folders(const char *expected, const char *found)
{
    ranks_wait(world_comm());
    if (world_rank() == 0) {
        snapshot a;
        snapshot b;
        CHECK(snapshot_take(&a, expected) && snapshot_take(&b, found));
        CHECK(a.count == b.count && a.count > 1);
        for (size_t i = 0; i < a.count; i++) {
            const snapshot_file *x = &a.files[i];
            const snapshot_file *y = &b.files[i];
            CHECK(strcmp(x->name, y->name) == 0);
            CHECK_TEXT(strcmp(x->name, "allshard.manifest.json") == 0 ||
                           (x->size == y->size && memcmp(x->bytes, y->bytes, x->size) == 0),
                       "%s is another", x->name);
        }
        snapshot_free(&a);
        snapshot_free(&b);
    }
    ranks_wait(world_comm());
}

static inline bool has_direct(void)
{
    char name[40];
    (void)snprintf(name, sizeof name, "direct-%d", world_rank());
    const char *path = scratch_path(name);
    int fd = open(path, O_RDWR | O_CREAT | O_DIRECT, 0600);
    (void)unlink(path);
    return fd >= 0 && close(fd) == 0;
}

/* Begins; false: the scratch folder has no O_DIRECT, and nothing can be tested. */
static inline bool gds_start(int *argc, char ***argv)
{
    ranks_start(argc, argv, 120);
    twin_open(&devices);
    sim = devices.sim;
    file = simulated_cufile();
    random_state = 7 + (uint64_t)world_rank();
    good = as_sys_table;
    play_machine(true, NULL);
    calm();
    return !ranks_max(world_comm(), !has_direct()); /* the same on all ranks */
}

static inline int gds_end(int cases, double start)
{
    ranks_scene("the end");
    as_sys_table = good;
    twin_close(&devices);
    if (world_rank() == 0) {
        (void)printf("%d cases in %.1f s, on simulated devices%s\n", cases, seconds_now() - start,
                     cases ? "" : ": the folder has no O_DIRECT");
    }
    return ranks_end();
}

#endif
