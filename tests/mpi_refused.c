/* SPDX-License-Identifier: Apache-2.0
 * What is refused, and a save can do without: O_DIRECT for a file of a folder whose name is long and
 * no UTF-8, where the manifest says why; an allocation that signals always interrupt. (ALLSHARD_NO_MPI: also as one process.)
 */
/* ranks: 1 2 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/sys.h"
#include "base/utf8.h"
#include "checkpoint_folder.h"
#include "commit/manifest.h"
#include "support_model.h"
#include "support_ranks.h"

static as_sys real;
static atomic_int refused;

/* All files but the trial's. */
static int refuse_direct(int folder, const char *path, int flags, mode_t mode)
{
    if (flags & O_DIRECT && !strstr(path, ".allshard-trial-")) {
        (void)atomic_fetch_add(&refused, 1);
        errno = EINVAL;
        return -1;
    }
    return real.openat(folder, path, flags, mode);
}

static atomic_int interrupted;

static int interrupt_fallocate(int fd, int mode, off_t offset, off_t size)
{
    (void)fd, (void)mode, (void)offset, (void)size;
    (void)atomic_fetch_add(&interrupted, 1);
    errno = EINTR;
    return -1;
}

static void test_folder(allshard *as, const char *name)
{
    holding h;
    allshard_state *s;
    char folder[512];
    (void)snprintf(folder, sizeof folder, "%s", scratch_path(name));
    holding_make(&h, &model_mixed, LAYOUT_FSDP, world_rank(), world_size(), false);
    GOOD(as, allshard_state_create(&s, as, "model"));
    holding_declare(&h, as, s);
    holding_fill(&h);
    allshard_save_options o = {.size = sizeof o, .block_bytes = 4096, .engine = "direct"};
    refused = 0;
    GOOD(as, allshard_save(s, folder, &o));
    bool tried = ranks_max(world_comm(), refused) > 0; /* not if O_DIRECT fails in the trial */
    allshard_stats t = {.size = sizeof t};
    CHECK(allshard_get_stats(as, world_rank(), &t) == ALLSHARD_OK);
    CHECK_TEXT(as_utf8_valid(t.engine_reason, strlen(t.engine_reason)), "%s", t.engine_reason);
    CHECK(!refused || strstr(t.engine_reason, "O_DIRECT: open"));
    if (world_rank() == 0) {
        as_manifest m;
        as_error e = AS_ERROR_INIT;
        const char *text = read_text(folder, "allshard.manifest.json");
        CHECK(as_manifest_from_bytes(text, strlen(text), "manifest", &m, &e) == AS_OK);
        const as_manifest_part *p = as_manifest_find(&m, "model");
        CHECK(p && p->engine_reason && (!tried || strstr(p->engine_reason, "O_DIRECT: open")));
        as_manifest_free(&m);
    }
    GOOD(as, allshard_load(s, folder, NULL));
    (void)allshard_state_free(s);
    holding_free(&h);
}

int main(int argc, char **argv)
{
    allshard *as;
    ranks_start(&argc, &argv, 100);
    real = as_sys_table;
    as_sys_table.openat = refuse_direct;
    CHECK(allshard_open(&as, world_comm(), NULL) == ALLSHARD_OK);
    test_folder(as, "latin-1-\xe9\xff\xe8");
    /* Wherever the text is cut, in one of these it is inside a character. */
    for (int shift = 0; shift < 3; shift++) {
        char name[200] = "xx";
        size_t at = (size_t)shift;
        for (int i = 0; i < 60; i++, at += 3) {
            memcpy(name + at, "\xe5\xad\x97", 4);
        }
        test_folder(as, name);
    }
    as_sys_table = real;
    as_sys_table.fallocate = interrupt_fallocate;
    check_works(as, scratch_path("interrupted"));
    CHECK(ranks_max(world_comm(), interrupted) > 0);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    return ranks_end();
}
