/* SPDX-License-Identifier: Apache-2.0
 * What lies in the folder after a save, besides the tensors: small files of all ranks, metadata,
 * modes, the manifest; and what of an older checkpoint goes and what stays. (ALLSHARD_NO_MPI: also
 * as one process.)
 */
/* ranks: 1 2 3 4 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sys.h"
#include "checkpoint_folder.h"
#include "commit/manifest.h"
#include "support_model.h"
#include "support_ranks.h"

static allshard *as;

static const model_tensor four[] = {
    {"a", ALLSHARD_F32, 2, {8, 8}},
    {"b", ALLSHARD_F32, 2, {8, 8}},
    {"c", ALLSHARD_F32, 2, {8, 8}},
    {"d", ALLSHARD_F32, 2, {8, 8}},
};
static const model model_four = {four, 4};

/* Each of the four tensors fills a shard of this size. */
static const char four_shards[] = "256";
static const char two_shards[] = "512";

typedef struct saved {
    holding h;
    allshard_state *s;
} saved;

static saved open_state(const char *part)
{
    saved x;
    holding_make(&x.h, &model_four, LAYOUT_COLUMNS, world_rank(), world_size(), false);
    GOOD(as, allshard_state_create(&x.s, as, part));
    holding_declare(&x.h, as, x.s);
    holding_fill(&x.h);
    return x;
}

static void close_state(saved *x)
{
    (void)allshard_state_free(x->s);
    holding_free(&x->h);
}

static void save(saved *x, const char *folder, const char *size, const char *pattern, int mode)
{
    allshard_save_options o = {
        .size = sizeof o, .max_shard_size = size, .pattern = pattern, .block_bytes = 64};
    o.mode = mode;
    GOOD(as, allshard_save(x->s, folder, &o));
}

/* The folder's names, sorted, each followed by a space. */
static void check_listing(int line, const char *folder, const char *expected)
{
    struct dirent **names;
    char text[1024] = "";
    size_t n = 0;
    ranks_wait(world_comm());
    int count = scandir(folder, &names, NULL, alphasort);
    CHECK_TEXT(count >= 0, "line %d: %s cannot be listed", line, folder);
    for (int i = 0; i < count; i++) {
        if (strcmp(names[i]->d_name, ".") != 0 && strcmp(names[i]->d_name, "..") != 0) {
            n += (size_t)snprintf(text + n, sizeof text - n, "%s ", names[i]->d_name);
        }
        free(names[i]);
    }
    free(names);
    CHECK_TEXT(strcmp(text, expected) == 0, "line %d: the folder holds %s\nexpected %s", line, text,
               expected);
    ranks_wait(world_comm());
}

static int mode_of(const char *folder, const char *name)
{
    char path[1024];
    struct stat status;
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    CHECK_TEXT(stat(path, &status) == 0, "%s is not there", path);
    return (int)(status.st_mode & 07777);
}

#define FOUR(stem)                                                                                 \
    stem "-00001-of-00004.safetensors " stem "-00002-of-00004.safetensors " stem                   \
         "-00003-of-00004.safetensors " stem "-00004-of-00004.safetensors "
#define TWO(stem) stem "-00001-of-00002.safetensors " stem "-00002-of-00002.safetensors "
#define MANIFEST "allshard.manifest.json "

/* ---- small files and metadata ---- */

static void test_small_files(void)
{
    const char *folder = scratch_path("small");
    char name[32];
    char text[32];
    saved x = open_state("model");
    GOOD(as, allshard_state_file(x.s, "config.json", "first", 5));
    GOOD(as, allshard_state_file(x.s, "config.json", "{\"all\":1}", 9)); /* the last one counts */
    GOOD(as, allshard_state_file(x.s, "empty.txt", NULL, 0));
    (void)snprintf(name, sizeof name, "rank-%d.txt", world_rank());
    (void)snprintf(text, sizeof text, "of %d", world_rank());
    GOOD(as, allshard_state_file(x.s, name, text, strlen(text)));
    (void)snprintf(name, sizeof name, "key-%d", world_rank());
    GOOD(as, allshard_state_meta(x.s, name, text));
    GOOD(as, allshard_state_meta(x.s, "common", "yes"));
    save(&x, folder, two_shards, NULL, 0);
    const char *found = read_text(folder, "config.json");
    CHECK(found && strcmp(found, "{\"all\":1}") == 0);
    found = read_text(folder, "empty.txt");
    CHECK(found && !*found);
    for (int r = 0; r < world_size(); r++) {
        char line[64];
        (void)snprintf(name, sizeof name, "rank-%d.txt", r);
        (void)snprintf(text, sizeof text, "of %d", r);
        found = read_text(folder, name);
        CHECK(found && strcmp(found, text) == 0);
        (void)snprintf(line, sizeof line, "\"key-%d\": \"of %d\"", r, r);
        found = read_text(folder, "model.safetensors.index.json");
        CHECK_TEXT(found && strstr(found, line), "%s is not in the index", line);
        CHECK(strstr(found, "\"common\": \"yes\"") && strstr(found, "\"total_size\": 1024"));
    }
    ranks_wait(world_comm()); /* the main process clears away after the others know */
    CHECK(!exists(folder, ".allshard"));
    ranks_wait(world_comm()); /* all have looked before the next save */
    /* A file that is brought along once more is replaced; one that is not stays. */
    GOOD(as, allshard_state_file(x.s, "config.json", "new", 3));
    save(&x, folder, two_shards, NULL, 0);
    found = read_text(folder, "config.json");
    CHECK(found && strcmp(found, "new") == 0);
    close_state(&x);
}

/* ---- modes ---- */

static void check_modes(const char *folder, int mode)
{
    static const char *const names[] = {
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
        "model.safetensors.index.json", "allshard.manifest.json", "config.json"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        CHECK_TEXT(mode_of(folder, names[i]) == mode, "%s has mode %04o, expected %04o", names[i],
                   (unsigned)mode_of(folder, names[i]), (unsigned)mode);
    }
    ranks_wait(world_comm());
}

static void test_modes(void)
{
    const char *folder = scratch_path("modes/below");
    saved x = open_state("model");
    GOOD(as, allshard_state_file(x.s, "config.json", "{}", 2));
    mode_t before = umask(027);
    save(&x, folder, two_shards, NULL, 0);
    CHECK(mode_of(folder, "") == 0750 && mode_of(scratch_path("modes"), "") == 0750);
    check_modes(folder, 0640);
    save(&x, folder, two_shards, NULL, 0666); /* whatever the umask says */
    check_modes(folder, 0666);
    (void)umask(022);
    save(&x, folder, two_shards, NULL, 0);
    check_modes(folder, 0644);
    /* Files that not even their owner may write: also for ranks that are not root. */
    if (world_rank() == 0) {
        CHECK(chmod(scratch_path(""), 0755) == 0 && mkdir(scratch_path("nobody"), 0777) == 0 &&
              chmod(scratch_path("nobody"), 0777) == 0);
    }
    ranks_wait(world_comm());
    folder = scratch_path("nobody");
    (void)setfsuid(65534);
    (void)prctl(PR_SET_DUMPABLE, 1); /* MPI copies between processes */
    save(&x, folder, two_shards, NULL, 0444);
    check_modes(folder, 0444);
    holding_clear(&x.h);
    GOOD(as, allshard_load(x.s, folder, NULL));
    CHECK(holding_wrong(&x.h) == NULL);
    save(&x, folder, two_shards, NULL, 0400);
    check_modes(folder, 0400);
    (void)setfsuid(geteuid());
    (void)prctl(PR_SET_DUMPABLE, 1);
    (void)umask(before);
    close_state(&x);
}

/* ---- cleaning ---- */

static void test_cleaning(void)
{
    static const char *const others[] = {"model-x.safetensors",
                                         "model-00001-of-00002.bin",
                                         "model-1-of-2.safetensors.bak",
                                         "pytorch_model.bin",
                                         "notes.txt",
                                         ".hidden"};
    const char *folder = scratch_path("cleaning");
    saved x = open_state("model");
    saved y = open_state("optimizer");
    save(&x, folder, four_shards, NULL, 0);
    check_listing(__LINE__, folder, MANIFEST FOUR("model") "model.safetensors.index.json ");
    if (world_rank() == 0) {
        for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
            write_text(folder, others[i], "mine");
        }
        CHECK(mkdir(scratch_path("cleaning/model-00009-of-00009.dir"), 0755) == 0);
    }
    ranks_wait(world_comm());
    /* Fewer shards, then one, then shards again; a second part beside them. */
    save(&x, folder, two_shards, NULL, 0);
    save(&y, folder, two_shards, NULL, 0);
    check_listing(__LINE__, folder,
                  ".hidden " MANIFEST "model-00001-of-00002.bin "
                  "model-00001-of-00002.safetensors "
                  "model-00002-of-00002.safetensors model-00009-of-00009.dir "
                  "model-1-of-2.safetensors.bak model-x.safetensors model.safetensors.index.json "
                  "notes.txt " TWO("optimizer") "optimizer.safetensors.index.json "
                                                "pytorch_model.bin ");
    save(&x, folder, NULL, NULL, 0);
    check_listing(__LINE__, folder,
                  ".hidden " MANIFEST "model-00001-of-00002.bin model-00009-of-00009.dir "
                  "model-1-of-2.safetensors.bak model-x.safetensors model.safetensors "
                  "notes.txt " TWO("optimizer") "optimizer.safetensors.index.json "
                                                "pytorch_model.bin ");
    CHECK(strcmp(read_text(folder, "notes.txt"), "mine") == 0);
    /* Both are still whole. */
    holding_clear(&x.h);
    holding_clear(&y.h);
    GOOD(as, allshard_load(x.s, folder, NULL));
    GOOD(as, allshard_load(y.s, folder, NULL));
    CHECK(holding_wrong(&x.h) == NULL && holding_wrong(&y.h) == NULL);
    save(&x, folder, four_shards, NULL, 0);
    ranks_wait(world_comm());
    CHECK(!exists(folder, "model.safetensors") && !exists(folder, ".allshard"));
    /* Another pattern leaves the first one's files alone. */
    folder = scratch_path("patterns");
    save(&x, folder, two_shards, NULL, 0);
    save(&x, folder, four_shards, "w{suffix}.safetensors", 0);
    check_listing(__LINE__, folder,
                  MANIFEST TWO("model") "model.safetensors.index.json " FOUR(
                      "w") "w.safetensors.index.json ");
    close_state(&x);
    close_state(&y);
}

/* ---- manifest ---- */

static int64_t stat_size(const char *folder, const char *name)
{
    char path[1024];
    struct stat status;
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return stat(path, &status) == 0 ? (int64_t)status.st_size : -1;
}

static void test_manifest(void)
{
    const char *folder = scratch_path("manifest");
    saved x = open_state("model");
    as_manifest m = AS_MANIFEST_INIT;
    as_error e = AS_ERROR_INIT;
    GOOD(as, allshard_state_file(x.s, "config.json", "{}", 2));
    save(&x, folder, two_shards, NULL, 0);
    const char *text = read_text(folder, "allshard.manifest.json");
    CHECK(text != NULL);
    CHECK_TEXT(as_manifest_from_bytes(text, strlen(text), "manifest", &m, &e) == AS_OK, "%s",
               as_error_text(&e));
    CHECK(m.part_count == 1);
    const as_manifest_part *p = &m.parts[0];
    CHECK(strcmp(p->part, "model") == 0 && !p->has_step);
    CHECK(strcmp(p->pattern, "model{suffix}.safetensors") == 0);
    CHECK(p->index && strcmp(p->index, "model.safetensors.index.json") == 0);
    CHECK(p->world_size == world_size() && p->block_size == 64);
    CHECK(p->total_size == 1024 && p->tensor_count == 4);
    CHECK(p->file_count == 4); /* two shards, index, config.json */
    int64_t shards = 0;
    for (size_t i = 0; i < p->file_count; i++) {
        CHECK(p->files[i].size == stat_size(folder, p->files[i].name));
        shards += p->files[i].role == AS_ROLE_SHARD ? p->files[i].size : 0;
    }
    CHECK(p->writer_count == (size_t)world_size());
    for (size_t i = 0; i < p->writer_count; i++) {
        shards -= p->writers[i];
    }
    CHECK(shards == 0);
    as_manifest_free(&m);
    /* A broken manifest is no reason not to save. */
    ranks_wait(world_comm());
    if (world_rank() == 0) {
        write_text(folder, "allshard.manifest.json", "{\"allshard_manifest\": 1, oops");
    }
    ranks_wait(world_comm());
    save(&x, folder, two_shards, NULL, 0);
    text = read_text(folder, "allshard.manifest.json");
    CHECK(as_manifest_from_bytes(text, strlen(text), "manifest", &m, &e) == AS_OK);
    as_manifest_free(&m);
    close_state(&x);
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 300);
    CHECK(allshard_open(&as, world_comm(), NULL) == ALLSHARD_OK);
    test_small_files();
    test_modes();
    test_cleaning();
    test_manifest();
    CHECK(allshard_close(as) == ALLSHARD_OK);
    return ranks_end();
}
