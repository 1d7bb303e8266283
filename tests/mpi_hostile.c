/* SPDX-License-Identifier: Apache-2.0
 * Hostile checkpoints and names on many ranks: a file that is cut while it is read, an index that
 * leads elsewhere, small files that would take the place of the weights. All ranks get one error,
 * and what memory holds is never called loaded. (ALLSHARD_NO_MPI: also as one process.)
 */
/* ranks: 1 3 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sys.h"
#include "checkpoint_folder.h"
#include "support_model.h"
#include "support_ranks.h"

enum { ELEMENTS = 64 * 1024 };

static allshard *as;
static float values[ELEMENTS];

/* One tensor; each rank has all of it. */
static allshard_state *new_state(void)
{
    allshard_state *s = NULL;
    const int64_t shape[] = {ELEMENTS};
    allshard_tensor t = {.size = sizeof t,
                         .name = "t",
                         .dtype = ALLSHARD_F32,
                         .ndim = 1,
                         .shape = shape,
                         .data = values,
                         .order = 1};
    GOOD(as, allshard_state_create(&s, as, "model"));
    GOOD(as, allshard_state_tensor(s, &t));
    return s;
}

static void save_good(const char *folder)
{
    for (int i = 0; i < ELEMENTS; i++) {
        values[i] = (float)i;
    }
    allshard_state *s = new_state();
    GOOD(as, allshard_save(s, folder, NULL));
    GOOD(as, allshard_state_free(s));
}

/* ---- a file that is cut while it is read ---- */

static as_sys real;
static char victim[600];
static off_t whole;     /* its size as it was */
static bool grows_back; /* it is whole again whenever a header is read */
static bool is_cut;

/* The header of the file is read at its beginning, the tensors behind: cut it between the two. */
static ssize_t cutting_pread(int fd, void *bytes, size_t count, off_t offset)
{
    if (offset == 0 && grows_back) {
        must(truncate(victim, whole) == 0, victim);
    }
    ssize_t n = real.pread(fd, bytes, count, offset);
    /* Whoever reads the header reads its first byte; its length alone comes before that. */
    if (offset <= 8 && offset + n > 8 && (!is_cut || grows_back)) {
        must(truncate(victim, whole / 2) == 0, victim);
        is_cut = true;
    }
    return n;
}

static void check_cut(const char *engine, bool flapping)
{
    const char *folder = scratch_path("cut");
    /* As anybody's files: without a manifest that would tell of it first. */
    const allshard_load_options how = {.size = sizeof how,
                                       .engine = engine,
                                       .block_bytes = 4096,
                                       .checksum = ALLSHARD_CHECKSUM_NONE};
    struct stat status;
    save_good(folder);
    (void)snprintf(victim, sizeof victim, "%s/model.safetensors", folder);
    must(stat(victim, &status) == 0, victim);
    whole = status.st_size;
    grows_back = flapping;
    is_cut = false;
    memset(values, 0, sizeof values);
    ranks_wait(world_comm());
    real = as_sys_table;
    as_sys_table.pread = cutting_pread;
    allshard_state *s = new_state();
    int code = allshard_load(s, folder, &how);
    as_sys_table = real;
    CHECK(ranks_max(world_comm(), is_cut) == 1);
    CHECK_TEXT(code != ALLSHARD_OK, "%s: half a file was loaded", engine);
    if (!flapping) {
        FAILS(as, code, ALLSHARD_FORMAT, "model.safetensors");
    } else {
        /* Each look finds it whole and each read finds it cut: what is told first may differ, but
         * not between ranks. */
        CHECK(ranks_agree(world_comm(), &code, sizeof code));
    }
    GOOD(as, allshard_state_free(s));
    check_works(as, scratch_path("works"));
}

/* ---- an index that leads elsewhere ---- */

static void check_index(const char *file, const char *text)
{
    const char *folder = scratch_path("index");
    if (world_rank() == 0) {
        (void)mkdir(folder, 0777);
        char index[512];
        (void)snprintf(index, sizeof index, "{\"weight_map\":{\"t\":\"%s\"}}", file);
        write_text(folder, "model.safetensors.index.json", index);
    }
    ranks_wait(world_comm());
    allshard_state *s = new_state();
    int code = allshard_load(s, folder, NULL);
    allshard_error e = {.size = sizeof e};
    (void)allshard_last_error(as, &e);
    CHECK_TEXT(code == ALLSHARD_FORMAT || code == ALLSHARD_INVALID || code == ALLSHARD_NOT_FOUND,
               "%s: %s: %s", file, allshard_error_name(code), e.text);
    FAILS(as, code, code, text);
    GOOD(as, allshard_state_free(s));
    ranks_wait(world_comm());
}

static void test_indexes(void)
{
    static const char *const out[] = {
        "../a.safetensors",     "/a.safetensors",       "..\\\\a.safetensors", "C:a.safetensors",
        "sub/../a.safetensors", "a\\u0000.safetensors", ".//C:a.safetensors",  "\\\\a.safetensors"};
    for (size_t i = 0; i < sizeof out / sizeof out[0]; i++) {
        check_index(out[i], "could lead out of the checkpoint's folder");
    }
    check_index("", "does not end in");
    check_index("a.safetensors/", "does not end in");
    check_index("a.safetensors ", "does not end in");
    check_index(".allshard/new/a.safetensors", "unfinished saves");
    check_index("none.safetensors", "none.safetensors");
    if (world_rank() == 0) {
        char path[600];
        (void)snprintf(path, sizeof path, "%s/pipe.safetensors", scratch_path("index"));
        must(mkfifo(path, 0666) == 0, path);
        (void)snprintf(path, sizeof path, "%s/link", scratch_path("index"));
        must(symlink("/", path) == 0, path);
    }
    ranks_wait(world_comm());
    check_index("pipe.safetensors", "not a regular file");
    check_index("link/tmp/a.safetensors", "link");
}

/* ---- small files in the place of the weights ---- */

static void check_small_file(const char *name)
{
    const char *folder = scratch_path("small");
    allshard_state *s = new_state();
    GOOD(as, allshard_state_file(s, name, "x", 1));
    FAILS(as, allshard_save(s, folder, NULL), ALLSHARD_INVALID, name, "the checkpoint's own");
    GOOD(as, allshard_state_free(s));
}

static void test_small_files(void)
{
    static const char *const names[] = {"model.safetensors",
                                        "MODEL.SAFETENSORS",
                                        "Model-00001-of-00002.SafeTensors",
                                        "model.safetensors.INDEX.json",
                                        "Allshard.Manifest.JSON",
                                        "allshard.manifest.json"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        check_small_file(names[i]);
    }
    allshard_state *s = new_state();
    GOOD(as, allshard_state_file(s, "Model.json", "x", 1));
    GOOD(as, allshard_save(s, scratch_path("fine"), NULL));
    GOOD(as, allshard_state_free(s));
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 110);
    GOOD(NULL, allshard_open(&as, world_comm(), NULL));
    static const char *const engines[] = {"posix", "direct", "uring", "auto"};
    const size_t step = is_sanitized() ? 2 : 1;
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i += step) {
        check_cut(engines[i], false);
        check_cut(engines[i], true);
    }
    test_indexes();
    test_small_files();
    GOOD(NULL, allshard_close(as));
    return ranks_end();
}
