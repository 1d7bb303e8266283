/* SPDX-License-Identifier: Apache-2.0
 * What a save refuses: every rank gets the same code and text, nothing changes on disk, and the
 * context goes on working. (ALLSHARD_NO_MPI: also as one process.)
 */
/* ranks: 1 2 3 4 */
/* timeout: 180 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint_folder.h"
#include "commit/lock.h"
#include "support_model.h"
#include "support_ranks.h"

static allshard *as;
static float values[64];

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

/* A tensor of one dimension; elements [from, from + count) of `all`. */
static allshard_tensor line(const char *name, const int64_t *all, const int64_t *from,
                            const int64_t *count)
{
    return (allshard_tensor){.size = sizeof(allshard_tensor),
                             .name = name,
                             .dtype = ALLSHARD_F32,
                             .ndim = 1,
                             .shape = all,
                             .offset = from,
                             .local_shape = count,
                             .data = values};
}

static void declare(allshard_state *s, const char *name, int64_t all, int64_t from, int64_t count)
{
    allshard_tensor t = line(name, &all, &from, &count);
    GOOD(as, allshard_state_tensor(s, &t));
}

/* ---- local calls ---- */

static void check_refused(int line, int code, const char *text)
{
    allshard_error e = {.size = sizeof e};
    CHECK(allshard_last_error(as, &e) == code);
    CHECK_TEXT(code == ALLSHARD_INVALID && e.rank == -1 && strstr(e.text, text),
               "line %d: %s of rank %d, text: %s; expected \"%s\"", line, allshard_error_name(code),
               e.rank, e.text, text);
}

#define REFUSED(call, text) check_refused(__LINE__, call, text)

static void test_declarations(void)
{
    allshard_state *s = new_state();
    const int64_t eight = 8;
    const int64_t two[2] = {4, 4};
    const int64_t zero = 0;
    const int64_t negative = -1;
    const int64_t smallest = INT64_MIN;
    const int64_t huge[2] = {INT64_MAX, 1};
    const int64_t far[2] = {INT64_MAX, INT64_MAX};
    const allshard_tensor good = line("t", &eight, NULL, NULL);
    struct {
        const char *text;
        allshard_tensor t;
    } cases[] = {
        {"sizeof", good},
        {"sizeof", good},
        {"sizeof", good},
        {"no name", good},
        {"is no dtype", good},
        {"dimensions", good},
        {"dimensions", good},
        {"shape is NULL", good},
        {"__metadata__", good},
        {"UTF-8", good},
        {"passes the tensor's", good},
        {"passes the tensor's", good},
        {"negative", good},
        {"negative", good},
        {"larger than 2^", good},
        {"flat range", good},
        {"flat range", good},
        {"data pointer is NULL", good},
        {"out of memory", good},
        {"order key", good},
        {"storage", good},
        {"whole bytes", good},
        {"inside a byte", good},
        {"contiguous", good},
    };
    size_t n = 0;
    cases[n++].t.size = 0;
    cases[n++].t.size = sizeof good - 3;
    cases[n++].t.size = SIZE_MAX / 16 * 8;
    cases[n++].t.name = NULL;
    cases[n++].t.dtype = 23;
    cases[n++].t.ndim = ALLSHARD_MAX_DIMS + 1;
    cases[n++].t.ndim = INT32_MIN;
    cases[n++].t.shape = NULL;
    cases[n++].t.name = "__metadata__";
    cases[n++].t.name = "\xff";
    cases[n++].t.offset = &negative;
    cases[n].t.offset = &eight;
    cases[n++].t.local_shape = &eight;
    cases[n++].t.shape = &negative;
    cases[n++].t.shape = &smallest;
    cases[n].t.ndim = 2;
    cases[n++].t.shape = huge;
    cases[n].t.flat = 1;
    cases[n++].t.offset = &zero;
    cases[n].t.flat = 1;
    cases[n].t.flat_offset = 7;
    cases[n++].t.flat_count = INT64_MAX;
    cases[n++].t.data = NULL;
    cases[n].t.ndim = 2;
    cases[n].t.shape = two;
    cases[n++].t.strides = far;
    cases[n++].t.order = -1;
    cases[n].t.storage = 1;
    cases[n++].t.storage_bytes = 31;
    cases[n].t.dtype = ALLSHARD_F6_E2M3;
    cases[n++].t.shape = (const int64_t[]){7};
    cases[n].t.dtype = ALLSHARD_F4;
    cases[n++].t.local_shape = (const int64_t[]){3};
    cases[n].t.dtype = ALLSHARD_F4;
    cases[n++].t.strides = (const int64_t[]){2};
    CHECK(n == sizeof cases / sizeof cases[0]);
    for (size_t i = 0; i < n; i++) {
        REFUSED(allshard_state_tensor(s, &cases[i].t), cases[i].text);
    }
    REFUSED(allshard_state_tensor(s, NULL), "NULL");
    /* Strides mean nothing where there is no neighbour, and so may be anything. */
    allshard_tensor one = good;
    const int64_t thin[3] = {1, 8, 1};
    const int64_t wild[3] = {INT64_MIN, 1, INT64_MAX};
    one.name = "thin";
    one.ndim = 3;
    one.shape = thin;
    one.strides = wild;
    GOOD(as, allshard_state_tensor(s, &one));
    REFUSED(allshard_state_meta(s, NULL, "v"), "UTF-8");
    REFUSED(allshard_state_meta(s, "k", "\xc0\x80"), "UTF-8");
    REFUSED(allshard_state_file(s, "a/b", "x", 1), "plain name");
    REFUSED(allshard_state_file(s, "..", "x", 1), "plain name");
    REFUSED(allshard_state_file(s, "\xff.json", "x", 1), "UTF-8");
    REFUSED(allshard_state_file(s, "f", NULL, 1), "NULL");
    allshard_state *none = s;
    REFUSED(allshard_state_create(&none, as, "a/b"), "part");
    CHECK(none == NULL);
    CHECK(allshard_state_tensor(NULL, &good) == ALLSHARD_INVALID);
    CHECK(allshard_save(NULL, "x", NULL) == ALLSHARD_INVALID);
    CHECK(allshard_load(NULL, "x", NULL) == ALLSHARD_INVALID);
    CHECK(allshard_state_free(NULL) == ALLSHARD_OK && allshard_close(NULL) == ALLSHARD_OK);
    CHECK(strcmp(allshard_error_name(ALLSHARD_TIED), "ALLSHARD_TIED") == 0);
    CHECK(strcmp(allshard_error_name(1), "ALLSHARD_?") == 0);
    (void)allshard_state_free(s);
}

static void count_log(int level, const char *text, void *user)
{
    (void)level;
    *(int *)user += strlen(text) > 0;
}

static void test_open(void)
{
    allshard *other = as;
    int told = 0;
    /* One rank's options are wrong: no rank gets a context, all are told why. */
    allshard_options options = {.size = sizeof options, .log = count_log, .log_user = &told};
    options.memory = is_last() ? -1 : 0;
    CHECK(allshard_open(&other, world_comm(), &options) == ALLSHARD_INVALID);
    CHECK(other == NULL && told == 1);
    CHECK(allshard_open(NULL, world_comm(), NULL) == ALLSHARD_INVALID);
}

/* ---- arguments of the collective calls ---- */

static const char *folder;
static allshard_state *good_state;

/* One rank gives these options, the others none. */
static int save_odd(const allshard_save_options *odd)
{
    return allshard_save(good_state, folder, is_last() ? odd : NULL);
}

static void test_bad_arguments(void)
{
    static const char *const no_name[] = {"a", NULL};
    const allshard_save_options none = {.size = sizeof none};
    allshard_save_options o = none;
    FAILS(as, allshard_save(good_state, is_last() ? NULL : folder, NULL), ALLSHARD_INVALID,
          "directory");
    FAILS(as, allshard_save(good_state, is_last() ? "" : folder, NULL), ALLSHARD_INVALID,
          "directory");
    o.size = 4;
    FAILS(as, save_odd(&o), ALLSHARD_INVALID, "sizeof");
    o = none;
    o.max_shard_size = "5 parsecs";
    FAILS(as, save_odd(&o), ALLSHARD_SIZE, "5 parsecs");
    o = none;
    o.pattern = "model.safetensors";
    FAILS(as, save_odd(&o), ALLSHARD_PATTERN, "suffix");
    o.pattern = "../model{suffix}.safetensors";
    FAILS(as, save_odd(&o), ALLSHARD_PATTERN, "..");
    o = none;
    o.block_bytes = 100;
    FAILS(as, save_odd(&o), ALLSHARD_INVALID, "multiple of 64");
    o.block_bytes = -64;
    FAILS(as, save_odd(&o), ALLSHARD_INVALID, "multiple of 64");
    o.block_bytes = INT64_C(1) << 40;
    FAILS(as, save_odd(&o), ALLSHARD_INVALID, "512 MiB");
    o = none;
    o.mode = 010644;
    FAILS(as, save_odd(&o), ALLSHARD_INVALID, "mode");
    o.mode = -1;
    FAILS(as, save_odd(&o), ALLSHARD_INVALID, "mode");
    o = none;
    o.discard_count = 2;
    FAILS(as, save_odd(&o), ALLSHARD_INVALID, "discard");
    o.discard = no_name;
    FAILS(as, save_odd(&o), ALLSHARD_INVALID, "discard[1]");
    allshard_plan *plan = NULL;
    FAILS(as, allshard_plan_create(is_last() ? NULL : &plan, good_state, NULL), ALLSHARD_INVALID,
          "out");
    CHECK(plan == NULL);
    CHECK(!exists(folder, ""));
}

static void test_differences(void)
{
    static const char *const discard[] = {"a"};
    const allshard_save_options none = {.size = sizeof none};
    allshard_save_options o = none;
    char rank[32];
    if (world_size() == 1) {
        return;
    }
    (void)snprintf(rank, sizeof rank, "rank %d", world_size() - 1);
    FAILS(as, allshard_save(good_state, is_last() ? "elsewhere" : folder, NULL), ALLSHARD_MISMATCH,
          "directory", rank);
    o.max_shard_size = "10KB";
    FAILS(as, save_odd(&o), ALLSHARD_MISMATCH, "max_shard_size", rank);
    o = none;
    o.pattern = "pytorch{suffix}.safetensors";
    FAILS(as, save_odd(&o), ALLSHARD_MISMATCH, "pattern", rank);
    o = none;
    o.block_bytes = 128;
    FAILS(as, save_odd(&o), ALLSHARD_MISMATCH, "block_bytes", rank);
    o = none;
    o.mode = 0600;
    FAILS(as, save_odd(&o), ALLSHARD_MISMATCH, "mode", rank);
    o = none;
    o.discard = discard;
    o.discard_count = 1;
    FAILS(as, save_odd(&o), ALLSHARD_MISMATCH, "discard", rank);
    allshard_state *s = NULL;
    GOOD(as, allshard_state_create(&s, as, is_last() ? "optimizer" : "model"));
    FAILS(as, allshard_save(s, folder, NULL), ALLSHARD_MISMATCH, "part", rank);
    (void)allshard_state_free(s);
    CHECK(!exists(folder, ""));
}

/* ---- what the ranks declare together ---- */

/* Saves and frees; the folder must not come into being. */
#define STATE_FAILS(s, expected, ...)                                                              \
    do {                                                                                           \
        FAILS(as, allshard_save(s, folder, NULL), expected, __VA_ARGS__);                          \
        allshard_plan *plan_ = NULL;                                                               \
        FAILS(as, allshard_plan_create(&plan_, s, NULL), expected, __VA_ARGS__);                   \
        CHECK(plan_ == NULL && !exists(folder, ""));                                               \
        (void)allshard_state_free(s);                                                              \
    } while (0)

static void test_coverage(void)
{
    char last[32];
    (void)snprintf(last, sizeof last, "rank %d", world_size() - 1);
    allshard_state *s = new_state();
    declare(s, "gap", 20, 0, 8);
    if (is_last()) {
        declare(s, "gap", 20, 12, 8);
    }
    STATE_FAILS(s, ALLSHARD_COVERAGE, "\"gap\"", "bytes from 32", last);
    s = new_state();
    declare(s, "short", 20, 0, 8);
    STATE_FAILS(s, ALLSHARD_COVERAGE, "\"short\"", "bytes from 32");
    s = new_state();
    if (world_rank() == 0) {
        declare(s, "over", 20, 0, 12);
    }
    if (is_last()) {
        declare(s, "over", 20, 8, 12);
    }
    STATE_FAILS(s, ALLSHARD_COVERAGE, "\"over\"", world_size() > 1 ? last : "two pieces of rank 0");
    s = new_state();
    declare(s, "good", 4, 0, 4);
    if (is_last()) {
        declare(s, "twice", 20, 0, 20);
        declare(s, "twice", 20, 0, 20);
    }
    STATE_FAILS(s, ALLSHARD_COVERAGE, "\"twice\"", "two pieces", last);
    s = new_state();
    declare(s, "void", 20, 5, 0);
    STATE_FAILS(s, ALLSHARD_COVERAGE, "\"void\"");
}

static void test_disagreement(void)
{
    if (world_size() == 1) {
        return;
    }
    char last[32];
    (void)snprintf(last, sizeof last, "rank %d", world_size() - 1);
    const int64_t four = 4;
    const int64_t square[2] = {2, 2};
    const allshard_tensor same = line("odd one", &four, NULL, NULL);
    allshard_tensor odd[5] = {same, same, same, same, same};
    const char *what[] = {"dtype", "shape", "order key", "storage", "storage"};
    odd[0].dtype = ALLSHARD_I32;
    odd[1].ndim = 2;
    odd[1].shape = square;
    odd[2].order = 7;
    odd[3].storage = 9;
    odd[4].storage = 9;
    odd[4].storage_bytes = 64;
    for (size_t i = 0; i < 5; i++) {
        allshard_state *s = new_state();
        allshard_tensor t = same;
        t.storage = i == 4 ? 9 : 0;
        GOOD(as, allshard_state_tensor(s, is_last() ? &odd[i] : &t));
        STATE_FAILS(s, ALLSHARD_MISMATCH, "\"odd one\"", what[i], "rank 0", last);
    }
}

static void test_order(void)
{
    const int64_t four = 4;
    allshard_tensor t = line("first", &four, NULL, NULL);
    allshard_state *s = new_state();
    t.order = 1;
    GOOD(as, allshard_state_tensor(s, &t));
    t.name = "bare";
    t.order = 0;
    t.data = values + 4; /* at the same place they would be tied */
    GOOD(as, allshard_state_tensor(s, &t));
    STATE_FAILS(s, ALLSHARD_INVALID, "\"bare\"", "no order key");
    s = new_state();
    t.order = 5;
    t.data = values + 8;
    t.name = is_last() ? "other" : "first";
    GOOD(as, allshard_state_tensor(s, &t));
    t.name = "third";
    t.data = values + 16;
    GOOD(as, allshard_state_tensor(s, &t));
    STATE_FAILS(s, ALLSHARD_INVALID, "order key 5");
}

static void test_extras(void)
{
    allshard_state *s = new_state();
    declare(s, "t", 4, 0, 4);
    GOOD(as, allshard_state_file(s, "model-00001-of-00002.safetensors", "x", 1));
    STATE_FAILS(s, ALLSHARD_INVALID, "model-00001-of-00002.safetensors", "checkpoint's own");
    s = new_state();
    declare(s, "t", 4, 0, 4);
    if (is_last()) {
        GOOD(as, allshard_state_file(s, "allshard.manifest.json", "x", 1));
    }
    STATE_FAILS(s, ALLSHARD_INVALID, "allshard.manifest.json", "checkpoint's own");
    if (world_size() == 1) {
        return;
    }
    s = new_state();
    declare(s, "t", 4, 0, 4);
    GOOD(as, allshard_state_file(s, "config.json", is_last() ? "{}" : "[]", 2));
    STATE_FAILS(s, ALLSHARD_MISMATCH, "\"config.json\"", "rank 0");
    s = new_state();
    declare(s, "t", 4, 0, 4);
    GOOD(as, allshard_state_meta(s, "key", is_last() ? "one" : "other"));
    STATE_FAILS(s, ALLSHARD_MISMATCH, "\"key\"", "\"one\"", "\"other\"");
}

/* ---- the folder ---- */

static void test_empty(void)
{
    allshard_state *s = new_state();
    check_works(as, folder);
    if (world_rank() == 0) {
        write_text(folder, "notes.txt", "mine");
    }
    ranks_wait(world_comm());
    FAILS(as, allshard_save(s, folder, NULL), ALLSHARD_EMPTY, "no rank declares a tensor");
    CHECK(exists(folder, "model.safetensors.index.json") && exists(folder, "notes.txt"));
    CHECK(!exists(folder, ".allshard"));
    ranks_wait(world_comm());
    if (world_rank() == 0) {
        remove_tree(folder);
    }
    ranks_wait(world_comm());
    FAILS(as, allshard_save(s, folder, NULL), ALLSHARD_EMPTY, "no rank declares a tensor");
    CHECK(!exists(folder, ""));
    (void)allshard_state_free(s);
}

static void test_busy(void)
{
    check_works(as, folder);
    as_lock *lock = NULL;
    as_error e = AS_ERROR_INIT;
    int fd = open(folder, O_RDONLY | O_DIRECTORY);
    if (world_rank() == 0) {
        CHECK(as_lock_take(&lock, fd, folder, 0, NULL, &e) == AS_OK);
    }
    FAILS(as, allshard_save(good_state, folder, NULL), ALLSHARD_BUSY, folder);
    if (world_rank() == 0) {
        CHECK(as_lock_release(lock, fd, &e) == AS_OK);
    }
    (void)close(fd);
    check_works(as, folder);
    CHECK(!exists(folder, ".allshard"));
}

static void test_no_folder(void)
{
    if (world_rank() == 0) {
        write_text(scratch_path(""), "file", "not a folder");
        CHECK(mkdir(scratch_path("locked"), 0555) == 0 && chmod(scratch_path(""), 0755) == 0);
    }
    ranks_wait(world_comm());
    FAILS(as, allshard_save(good_state, scratch_path("file"), NULL), ALLSHARD_INVALID, "/file",
          "not a folder");
    FAILS(as, allshard_save(good_state, scratch_path("file/below"), NULL), ALLSHARD_SYSTEM,
          "/file/below");
    /* Root may write anywhere, so for the file system the ranks are nobody. */
    (void)setfsuid(65534);
    (void)prctl(PR_SET_DUMPABLE, 1); /* MPI copies between processes */
    FAILS(as, allshard_save(good_state, scratch_path("locked"), NULL), ALLSHARD_SYSTEM, "locked");
    FAILS(as, allshard_save(good_state, scratch_path("locked/new"), NULL), ALLSHARD_SYSTEM,
          "locked");
    (void)setfsuid(geteuid());
    (void)prctl(PR_SET_DUMPABLE, 1);
    CHECK(!exists(scratch_path("locked"), ".allshard"));
    check_works(as, folder);
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 600);
    CHECK(allshard_open(&as, world_comm(), NULL) == ALLSHARD_OK);
    folder = strdup(scratch_path("folder"));
    good_state = new_state();
    declare(good_state, "weight", 64, 0, 64);
    test_declarations();
    test_open();
    test_bad_arguments();
    test_differences();
    test_coverage();
    test_disagreement();
    test_order();
    test_extras();
    test_empty();
    test_busy();
    test_no_folder();
    (void)allshard_state_free(good_state);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    free((void *)(uintptr_t)folder);
    return ranks_end();
}
