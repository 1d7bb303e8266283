/* SPDX-License-Identifier: Apache-2.0
 * What a rank's transfer of bytes tells: checksums of all blocks, each by one rank, that are those
 * of the files; sums of what was written; bytes that crossed between ranks through windows, or as
 * messages, or some ranks so and some so. (ALLSHARD_NO_MPI: also as one process.)
 */
/* ranks: 1 2 5 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/handles.h"
#include "support_model.h"
#include "support_ranks.h"
#include "transfer/buffers.h"
#include "transfer/save.h"
#include "base/checksum.h"

enum { BLOCK = 1024, MOST_FILES = 64, MOST_BLOCKS = 4096 };

enum sharing { SHARE_ALL, SHARE_NONE, SHARE_SOME, SHARE_COUNT };

static allshard *as;

static const char *path_of(int32_t file)
{
    char name[32];
    (void)snprintf(name, sizeof name, "file-%d", (int)file);
    return scratch_path(name);
}

static int open_file(void *user, int32_t file, int *fd, const char **name, as_error *e)
{
    (void)user;
    *name = path_of(file);
    *fd = open(*name, O_WRONLY | O_CLOEXEC);
    return *fd < 0 ? as_fail(e, AS_SYSTEM, errno, "%s: cannot open", *name) : AS_OK;
}

static void make_files(const as_plan *plan)
{
    CHECK(plan->file_count < MOST_FILES);
    for (int32_t f = 0; world_rank() == 0 && f < plan->file_count; f++) {
        int fd = open(path_of(f), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        CHECK(fd >= 0 && ftruncate(fd, plan->file_size[f]) == 0 && close(fd) == 0);
    }
    ranks_wait(world_comm());
}

/* Every block of every file has its sum on exactly one rank. */
static void check_sums(const as_plan *plan, const as_buffer *sums)
{
    const as_block_sum *all = (const as_block_sum *)(const void *)sums->data;
    size_t count = sums->size / sizeof *all;
    int64_t found[MOST_BLOCKS] = {0};
    int blocks = 0;
    for (int32_t f = 0; f < plan->file_count; f++) {
        int fd = open(path_of(f), O_RDONLY | O_CLOEXEC);
        CHECK(fd >= 0);
        for (int64_t at = 0, block = 0; at < plan->file_size[f]; at += BLOCK, block++, blocks++) {
            char bytes[BLOCK];
            ssize_t n = pread(fd, bytes, BLOCK, at);
            CHECK(n > 0 && blocks < MOST_BLOCKS);
            for (size_t i = 0; i < count; i++) {
                if (all[i].file == f && all[i].block == block) {
                    found[blocks]++;
                    CHECK(all[i].sum == as_checksum(bytes, (size_t)n));
                }
            }
        }
        CHECK(close(fd) == 0);
    }
    as_error e = AS_ERROR_INIT;
    CHECK(as_comm_sum(as->session.comm, found, blocks, &e) == AS_OK);
    for (int i = 0; i < blocks; i++) {
        CHECK_TEXT(found[i] == 1, "block %d: %lld sums", i, (long long)found[i]);
    }
}

static void check_tally(const as_plan *plan, const as_tally *t, enum sharing sharing)
{
    int64_t files = 0;
    for (int32_t f = 0; f < plan->file_count; f++) {
        files += plan->file_size[f];
    }
    allshard_comm c = world_comm();
    int64_t moved = ranks_sum(c, plan->moved_bytes);
    int64_t sent = ranks_sum(c, t->bytes_sent);
    int64_t shared = ranks_sum(c, t->bytes_shared);
    CHECK(t->bytes_written == plan->own_bytes && t->bytes_checksum == plan->own_bytes);
    CHECK(ranks_sum(c, t->bytes_written) == files && t->bytes_read == 0);
    CHECK(sent + shared == moved);
    CHECK(sharing != SHARE_ALL || sent == 0);
    CHECK(sharing != SHARE_NONE || shared == 0);
}

static void save(const holding *h, allshard_state *s, enum sharing sharing, bool direct)
{
    as_error e = AS_ERROR_INIT;
    as_plan plan = {0};
    char *pattern = NULL;
    as_save_call call = {.session = &as->session,
                         .state = &s->state,
                         .directory = scratch_path("none"),
                         .max_shard_size = "12KB",
                         .block_bytes = BLOCK};
    CHECK(as_save_plan(&call, &plan, &pattern, &e) == AS_OK);
    make_files(&plan);
    as_meter meter = {0};
    as_buffer sums = AS_BUFFER_INIT;
    as_transfer t = {.comm = as->session.comm,
                     .state = &s->state,
                     .plan = &plan,
                     .engine = &as_engine_posix,
                     .engine_options = {.direct = direct},
                     .memory = 64 << 10,
                     .meter = &meter,
                     .checksums = &sums,
                     .open_file = open_file};
    CHECK_TEXT(as_transfer_save(&t, &e) == AS_OK, "%s", as_error_text(&e));
    CHECK(strcmp(meter.engine, "posix") == 0);
    check_sums(&plan, &sums);
    check_tally(&plan, &meter.tally, sharing);
    CHECK(holding_wrong(h) == NULL);
    as_buffer_free(&sums);
    as_plan_free(&plan);
    free(pattern);
    ranks_wait(world_comm());
}

/* A checkpoint goes out and comes back whichever way the bytes take. */
static void go_round(holding *h, allshard_state *s)
{
    allshard_save_options save_as = {.size = sizeof save_as, .max_shard_size = "12KB"};
    allshard_load_options load_as = {.size = sizeof load_as, .block_bytes = BLOCK};
    save_as.block_bytes = BLOCK;
    GOOD(as, allshard_save(s, scratch_path("round"), &save_as));
    holding_clear(h);
    GOOD(as, allshard_load(s, scratch_path("round"), &load_as));
    CHECK(holding_wrong(h) == NULL);
}

static void run(enum layout layout, enum sharing sharing)
{
    holding h;
    allshard_state *s = NULL;
    holding_make(&h, &model_mixed, layout, world_rank(), world_size(), true);
    GOOD(as, allshard_state_create(&s, as, "model"));
    holding_declare(&h, as, s);
    holding_fill(&h);
    save(&h, s, sharing, layout % 2 == 0);
    go_round(&h, s);
    (void)allshard_state_free(s);
    holding_free(&h);
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 300);
    for (int sharing = 0; sharing < SHARE_COUNT; sharing++) {
        bool off = sharing == SHARE_NONE || (sharing == SHARE_SOME && world_rank() % 2);
        CHECK(setenv(AS_ARENA_SWITCH, off ? "off" : "on", 1) == 0);
        CHECK(allshard_open(&as, world_comm(), NULL) == ALLSHARD_OK);
        for (int layout = 0; layout < LAYOUT_COUNT; layout++) {
            run((enum layout)layout, (enum sharing)sharing);
        }
        CHECK(allshard_close(as) == ALLSHARD_OK);
    }
    return ranks_end();
}
