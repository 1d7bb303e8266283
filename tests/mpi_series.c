/* SPDX-License-Identifier: Apache-2.0
 * Series: what is saved comes back, on any number of ranks; steps are replaced, damaged checkpoints
 * passed over, wrong arguments refused; nonblocking saves end as blocking ones do. (ALLSHARD_NO_MPI:
 * also as one process.)
 */
/* ranks: 4 1 2 3 */
/* timeout: 120 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "series_run.h"

static allshard *as;
static run all; /* by all ranks */

static allshard_series *open_series(allshard *context, const char *root,
                                    const allshard_series_options *o)
{
    allshard_series *r = NULL;
    GOOD(context, allshard_series_open(&r, context, root, o));
    CHECK(r);
    return r;
}

static void save_step(allshard_series *r, int64_t step)
{
    run_fill(&all, step);
    const allshard_checkpoint c = run_checkpoint(&all, step);
    GOOD(as, allshard_series_save(r, &c));
}

static bool lies_there(const char *root, const char *name)
{
    char path[1024];
    struct stat status;
    (void)snprintf(path, sizeof path, "%s/%s", root, name);
    return lstat(path, &status) == 0;
}

/* The main process looks, for all. */
static void check_there(const char *root, const char *name, bool there)
{
    if (world_rank() == 0) {
        CHECK_TEXT(lies_there(root, name) == there, "%s/%s %s", root, name,
                   there ? "is not there" : "is there");
    }
    ranks_wait(world_comm());
}

/* Waits for what is removed in the background, which closing does, and looks at the root. */
static void close_series(allshard_series *r, const char *root)
{
    GOOD(as, allshard_series_close(r));
    check_there(root, ".allshard", false);
}

static void spoil(const char *root, const char *name, int64_t at)
{
    if (world_rank() == 0) {
        char path[1024];
        char byte;
        (void)snprintf(path, sizeof path, "%s/%s", root, name);
        int fd = open(path, O_RDWR);
        CHECK_TEXT(fd >= 0, "%s: %s", path, strerror(errno));
        if (at < 0) {
            CHECK(ftruncate(fd, 100) == 0);
        } else {
            CHECK(pread(fd, &byte, 1, at) == 1);
            byte = (char)(byte ^ 0x40);
            CHECK(pwrite(fd, &byte, 1, at) == 1);
        }
        (void)close(fd);
    }
    ranks_wait(world_comm());
}

/* Another number of ranks loads what all have saved. */
static void load_on(int count, const char *root, int64_t step, int savers)
{
    allshard_comm comm;
    ranks_first(count, &comm);
    if (world_rank() < count) {
        allshard *few = NULL;
        run u;
        CHECK(allshard_open(&few, comm, NULL) == ALLSHARD_OK);
        run_open(&u, few, world_rank(), count);
        allshard_series *r = open_series(few, root, NULL);
        run_check_load(&u, r, ALLSHARD_NEWEST, step, savers, 0);
        GOOD(few, allshard_series_close(r));
        run_close(&u);
        CHECK(allshard_close(few) == ALLSHARD_OK);
    }
    ranks_free(&comm);
    ranks_wait(world_comm());
}

static void test_save_and_load(void)
{
    const char *root = scratch_path("runs/first");
    ranks_scene("saves and loads");
    allshard_series *r = open_series(as, root, NULL);
    FAILS(as, allshard_series_load(r, ALLSHARD_NEWEST, all.states, RUN_PARTS, NULL, NULL),
          ALLSHARD_NOT_FOUND, "there is no checkpoint");
    save_step(r, 10);
    save_step(r, 20);
    run_check_load(&all, r, ALLSHARD_NEWEST, 20, world_size(), 0);
    run_check_load(&all, r, 10, 10, world_size(), 0);
    FAILS(as, allshard_series_load(r, 15, all.states, RUN_PARTS, NULL, NULL), ALLSHARD_NOT_FOUND,
          "step 15");
    check_there(root, "checkpoint-10/opt-state-00001-of-00003.safetensors", true);
    check_there(root, "checkpoint-20/allshard-ranks.safetensors", true);
    check_there(root, "checkpoint-20/shared.json", true);
    check_there(root, "checkpoint-20/optimizer.json", true);
    check_there(root, "latest/config.json", true);
    close_series(r, root);
    for (int count = 1; count <= world_size(); count++) {
        load_on(count, root, 20, world_size());
    }
}

static void test_replace(void)
{
    const char *root = scratch_path("replaced");
    ranks_scene("a step is saved again");
    allshard_series *r = open_series(as, root, NULL);
    save_step(r, 7);
    spoil(root, "checkpoint-7/config.json", 0);
    if (world_rank() == 0) {
        char path[1024];
        (void)snprintf(path, sizeof path, "%s/checkpoint-7/stray", root);
        CHECK(close(creat(path, 0666)) == 0);
    }
    ranks_wait(world_comm());
    save_step(r, 7);
    check_there(root, "checkpoint-7/stray", false);
    run_check_load(&all, r, 7, 7, world_size(), 0);
    close_series(r, root);
}

static void test_passed_over(void)
{
    const char *root = scratch_path("damaged");
    ranks_scene("damaged ones are passed over");
    allshard_series *r = open_series(as, root, NULL);
    for (int64_t step = 1; step <= 4; step++) {
        save_step(r, step);
    }
    spoil(root, "checkpoint-4/model.safetensors", -1);   /* which a look finds */
    spoil(root, "checkpoint-3/model.safetensors", 5000); /* which only the load finds */
    run_check_load(&all, r, ALLSHARD_NEWEST, 2, world_size(), 2);
    FAILS(as, allshard_series_load(r, 4, all.states, RUN_PARTS, NULL, NULL), ALLSHARD_CORRUPT,
          "step 4");
    FAILS(as, allshard_series_load(r, 3, all.states, RUN_PARTS, NULL, NULL), ALLSHARD_CORRUPT,
          "checkpoint-3");
    check_there(root, "checkpoint-4", true);
    spoil(root, "checkpoint-2/opt-state-00002-of-00003.safetensors", -1);
    spoil(root, "checkpoint-1/allshard-ranks.safetensors", -1);
    FAILS(as, allshard_series_load(r, ALLSHARD_NEWEST, all.states, RUN_PARTS, NULL, NULL),
          ALLSHARD_CORRUPT, "none of the 4 is good");
    close_series(r, root);
}

static int bare; /* warnings of a manifest that is missing, on this rank */

static void count_bare(int level, const char *text, void *user)
{
    (void)user;
    bare += level <= ALLSHARD_LOG_WARNING && strstr(text, "has no allshard.manifest.json");
}

/* It counts, but less can be told of it, and that is told. */
static void test_without_manifest(void)
{
    const char *root = scratch_path("bare");
    ranks_scene("a manifest is gone");
    allshard_loaded loaded = {.size = sizeof loaded};
    allshard_series *r = open_series(as, root, NULL);
    save_step(r, 1);
    GOOD(as, allshard_series_load(r, ALLSHARD_NEWEST, all.states, 1, NULL, NULL));
    CHECK(bare == 0);
    if (world_rank() == 0) {
        char path[1024];
        (void)snprintf(path, sizeof path, "%s/checkpoint-1/allshard.manifest.json", root);
        CHECK(unlink(path) == 0);
    }
    ranks_wait(world_comm());
    GOOD(as, allshard_series_load(r, ALLSHARD_NEWEST, all.states, 1, NULL, &loaded));
    CHECK(loaded.step == 1 && !loaded.rank_state && loaded.passed == 0);
    CHECK(bare == (world_rank() == 0));
    close_series(r, root);
}

static void test_refused(void)
{
    const char *root = scratch_path("refused");
    ranks_scene("what is refused");
    allshard_series *r = open_series(as, root, NULL);
    save_step(r, 1);
    run_fill(&all, 2);
    allshard_checkpoint c = run_checkpoint(&all, -3);
    FAILS(as, allshard_series_save(r, &c), ALLSHARD_INVALID, "step is -3");
    c = run_checkpoint(&all, 2);
    allshard_state *const twice[] = {all.states[0], all.states[0]};
    c.states = twice;
    FAILS(as, allshard_series_save(r, &c), ALLSHARD_INVALID, "\"model\"");
    c = run_checkpoint(&all, 2);
    const allshard_save_options same = {.size = sizeof same,
                                        .pattern = "model{suffix}.safetensors"};
    const allshard_save_options *const both[] = {NULL, &same};
    c.options = both;
    FAILS(as, allshard_series_save(r, &c), ALLSHARD_INVALID, "same pattern");
    c = run_checkpoint(&all, 2);
    c.note = "two\nlines";
    FAILS(as, allshard_series_save(r, &c), ALLSHARD_INVALID, "note");
    c.note = NULL;
    c.state_count = 0;
    FAILS(as, allshard_series_save(r, &c), ALLSHARD_INVALID, "parts");
    if (world_size() > 1) {
        c = run_checkpoint(&all, 2 + world_rank());
        FAILS(as, allshard_series_save(r, &c), ALLSHARD_MISMATCH, "step");
        c = run_checkpoint(&all, 2);
        c.state_count = world_rank() == 0 ? 1 : 2;
        FAILS(as, allshard_series_isave(r, &c), ALLSHARD_MISMATCH, "state_count");
    }
    const char *const tags[] = {"a b"};
    c = run_checkpoint(&all, 2);
    c.tags = tags;
    c.tag_count = 1;
    FAILS(as, allshard_series_save(r, &c), ALLSHARD_INVALID, "a b");
    if (world_rank() == 0) {
        char path[1024];
        (void)snprintf(path, sizeof path, "%s/checkpoint-2", root);
        CHECK(close(creat(path, 0666)) == 0);
    }
    ranks_wait(world_comm());
    c = run_checkpoint(&all, 2);
    FAILS(as, allshard_series_save(r, &c), ALLSHARD_INVALID, "checkpoint-2");
    check_there(root, ".allshard", false);
    run_check_load(&all, r, ALLSHARD_NEWEST, 1, world_size(), 0);
    close_series(r, root);
}

static void test_names_and_retention(void)
{
    const char *root = scratch_path("named");
    ranks_scene("names, tags, retention");
    const allshard_series_options o = {
        .size = sizeof o, .pattern = "e{epoch}_s{step:05}", .keep_last = 2};
    const char *const tags[] = {"v1", "best"};
    allshard_series *r = open_series(as, root, &o);
    for (int64_t step = 1; step <= 5; step++) {
        char epoch[8];
        (void)snprintf(epoch, sizeof epoch, "%d", (int)(step / 2));
        const allshard_field fields[] = {{"epoch", epoch}, {"note_2", "caf\xc3\xa9"}};
        run_fill(&all, step);
        allshard_checkpoint c = run_checkpoint(&all, step);
        c.fields = fields;
        c.field_count = 2;
        c.tags = tags;
        c.tag_count = step == 2 ? 2 : 0;
        GOOD(as, allshard_series_save(r, &c));
    }
    check_there(root, "e0_s00001", false);
    check_there(root, "e1_s00002/allshard.tags.json", true);
    check_there(root, "e1_s00003", false);
    check_there(root, "e2_s00004", true);
    check_there(root, "e2_s00005", true);
    allshard_loaded loaded = {.size = sizeof loaded};
    GOOD(as, allshard_series_load(r, 4, all.states, RUN_PARTS, NULL, &loaded));
    CHECK(strcmp(loaded.name, "e2_s00004") == 0 && loaded.field_count == 2);
    CHECK(strcmp(loaded.fields[0].value, "2") == 0);
    CHECK(strcmp(loaded.fields[1].name, "note_2") == 0);
    CHECK(strcmp(loaded.fields[1].value, "caf\xc3\xa9") == 0);
    close_series(r, root);
    r = open_series(as, root, &o);
    run_check_load(&all, r, ALLSHARD_NEWEST, 5, world_size(), 0);
    close_series(r, root);
}

/* Overwrites the tensors as soon as it is back. */
static void isave_step(allshard_series *r, int64_t step)
{
    run_fill(&all, step);
    const allshard_checkpoint c = run_checkpoint(&all, step);
    GOOD(as, allshard_series_isave(r, &c));
    run_spoil(&all);
}

static void test_nonblocking(void)
{
    const char *root = scratch_path("nonblocking");
    ranks_scene("nonblocking saves");
    allshard_series *r = open_series(as, root, NULL);
    allshard_stats stats = {.size = sizeof stats};
    GOOD(as, allshard_series_wait(r, NULL)); /* there is none */
    isave_step(r, 1);
    GOOD(as, allshard_series_wait(r, &stats));
    CHECK(stats.operation == ALLSHARD_ISAVE && stats.durable_s > 0);
    CHECK(ranks_sum(world_comm(), stats.bytes_written) >=
          (int64_t)RUN_PARTS * RUN_TENSORS * RUN_ROWS * RUN_COLUMNS * 4);
    isave_step(r, 2);
    isave_step(r, 3); /* waits for the one before */
    run_fill(&all, 9);
    GOOD(as, allshard_save(all.states[0], scratch_path("aside"), NULL)); /* for its state, too */
    GOOD(as, allshard_series_wait(r, NULL));
    GOOD(as, allshard_series_wait(r, NULL));
    for (int64_t step = 1; step <= 3; step++) {
        run_check_load(&all, r, step, step, world_size(), 0);
    }
    isave_step(r, 3);
    close_series(r, root); /* waits */
    r = open_series(as, root, NULL);
    run_check_load(&all, r, ALLSHARD_NEWEST, 3, world_size(), 0);
    close_series(r, root);
}

/* Polls until the save is over on all ranks, which learn of it at the same poll. */
static allshard_verdict poll_until_over(allshard_series *r, int64_t *step)
{
    allshard_verdict v = {.size = sizeof v};
    do {
        GOOD(as, allshard_series_poll(r, ++*step, &v));
        const int32_t same[] = {v.in_flight, v.saved, v.failed, (int32_t)v.saved_step, v.save};
        CHECK(ranks_agree(world_comm(), same, sizeof same));
    } while (v.in_flight);
    return v;
}

static void test_poll(void)
{
    const char *root = scratch_path("polled");
    const allshard_series_options o = {.size = sizeof o, .every_steps = 3};
    int64_t step = 0;
    ranks_scene("polls drive nonblocking saves");
    allshard_series *r = open_series(as, root, &o);
    allshard_verdict v = {.size = sizeof v};
    int saves = 0;
    for (; step < 9; step++) {
        GOOD(as, allshard_series_poll(r, step, &v));
        CHECK(!v.stop && !v.failed);
        if (v.save) {
            CHECK(v.reasons == ALLSHARD_REASON_STEPS);
            isave_step(r, step);
            saves++;
            v = poll_until_over(r, &(int64_t){step});
            CHECK(v.saved && v.saved_step == step && !v.failed);
        }
    }
    CHECK_TEXT(saves == 2 || saves == 3, "%d saves in 9 steps", saves);
    GOOD(as, allshard_series_wait(r, NULL)); /* poll has told of it */
    close_series(r, root);
}

/* A small file of one part is in the way of the whole: the parts are good, the checkpoint is none. */
static void test_failed_in_flight(void)
{
    const char *root = scratch_path("failed");
    int64_t step = 100;
    ranks_scene("a nonblocking save fails in the end");
    allshard_series *r = open_series(as, root, NULL);
    save_step(r, 1);
    allshard_state *strange = NULL;
    GOOD(as, allshard_state_create(&strange, as, "strange"));
    GOOD(as, allshard_state_file(strange, "allshard.tags.json", "{}", 2));
    allshard_state *const states[] = {all.states[0], strange};
    allshard_checkpoint c = run_checkpoint(&all, 2);
    c.states = states;
    c.options = NULL;
    FAILS(as, allshard_series_isave(r, &c), ALLSHARD_EMPTY, "checkpoint-2"); /* part 0 was begun */
    FAILS(as, allshard_series_save(r, &c), ALLSHARD_EMPTY, "checkpoint-2");
    check_there(root, ".allshard", false);
    float value = 1;
    const allshard_tensor t = {
        .size = sizeof t, .name = "t", .dtype = ALLSHARD_F32, .data = &value};
    GOOD(as, allshard_state_tensor(strange, &t));
    GOOD(as, allshard_series_isave(r, &c));
    allshard_verdict v = poll_until_over(r, &step);
    CHECK(!v.saved && v.failed == ALLSHARD_INVALID);
    GOOD(as, allshard_series_poll(r, ++step, &v));
    CHECK(!v.failed);
    GOOD(as, allshard_series_isave(r, &c));
    FAILS(as, allshard_series_wait(r, NULL), ALLSHARD_INVALID, "allshard.tags.json");
    FAILS(as, allshard_series_save(r, &c), ALLSHARD_INVALID, "allshard.tags.json");
    GOOD(as, allshard_series_isave(r, &c));
    save_step(r, 3); /* waits for it, and goes on */
    GOOD(as, allshard_series_poll(r, ++step, &v));
    CHECK(v.failed == ALLSHARD_INVALID);
    check_there(root, "checkpoint-2", false);
    GOOD(as, allshard_series_isave(r, &c));
    FAILS(as, allshard_series_close(r), ALLSHARD_INVALID, "allshard.tags.json");
    check_there(root, ".allshard", false);
    GOOD(as, allshard_state_free(strange));
    r = open_series(as, root, NULL);
    run_check_load(&all, r, ALLSHARD_NEWEST, 3, world_size(), 0);
    close_series(r, root);
}

/* The series is closed at once, and the save given up, unless it was faster. */
static void test_cancelled(void)
{
    const char *root = scratch_path("cancelled");
    const allshard_options o = {.size = sizeof o, .cancel_on_close = 1};
    allshard *quick = NULL;
    run u;
    ranks_scene("cancelled");
    CHECK(allshard_open(&quick, world_comm(), &o) == ALLSHARD_OK);
    run_open(&u, quick, world_rank(), world_size());
    allshard_series *r = open_series(quick, root, NULL);
    int64_t newest = 0;
    for (int64_t step = 1; step <= 4; step++) {
        run_fill(&u, step);
        allshard_checkpoint c = run_checkpoint(&u, step);
        if (step == 1) {
            GOOD(quick, allshard_series_save(r, &c));
        } else {
            GOOD(quick, allshard_series_isave(r, &c));
            GOOD(quick, allshard_series_close(r));
            r = open_series(quick, root, NULL);
        }
        check_there(root, ".allshard", false);
        allshard_loaded loaded = {.size = sizeof loaded};
        GOOD(quick, allshard_series_load(r, ALLSHARD_NEWEST, u.states, RUN_PARTS, NULL, &loaded));
        CHECK(loaded.passed == 0 && (loaded.step == step || loaded.step == newest));
        CHECK(run_wrong(&u, loaded.step) == 0);
        newest = loaded.step;
    }
    GOOD(quick, allshard_series_close(r));
    run_close(&u);
    CHECK(allshard_close(quick) == ALLSHARD_OK);
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 60);
    const allshard_options o = {.size = sizeof o, .log = count_bare};
    CHECK(allshard_open(&as, world_comm(), &o) == ALLSHARD_OK);
    run_open(&all, as, world_rank(), world_size());
    test_save_and_load();
    test_replace();
    test_passed_over();
    test_without_manifest();
    test_refused();
    test_names_and_retention();
    test_nonblocking();
    test_poll();
    test_failed_in_flight();
    test_cancelled();
    run_close(&all);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    return ranks_end();
}
