/* SPDX-License-Identifier: Apache-2.0
 * Saves a new checkpoint over an old one and records everything that reaches the disk, for
 * power_states.c:
 *   mpirun -n 2 power_record OUT SCENE ENGINE
 * In OUT are then old/ and new/ (the files of the two checkpoints), trace.N of each rank,
 * tree (what was there before) and root (the number of the folder that the checkpoint's lies in).
 */
/* needs: mpi */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "checkpoint_folder.h"
#include "power_scenes.h"
#include "support_ranks.h"
#include "support_snapshot.h"
#include "support_trace.h"
#include "support_versions.h"

static char out[512];

static char *path_of(const char *name)
{
    char *path;
    must(asprintf(&path, "%s/%s", out, name) >= 0, "memory");
    return path;
}

static void keep(const char *directory, const char *name)
{
    snapshot s;
    char *path = path_of(name);
    must(snapshot_take(&s, directory), directory);
    for (size_t i = 0; i < s.count; i++) {
        CHECK_TEXT(!strchr(s.files[i].name, '/'), "%s is left in %s", s.files[i].name, directory);
    }
    snapshot_write(&s, path);
    snapshot_free(&s);
    free(path);
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 60);
    const power_scene *scene = argc == 4 ? power_scene_named(argv[2]) : NULL;
    CHECK_TEXT(scene != NULL, "usage: power_record OUT SCENE ENGINE");
    (void)snprintf(out, sizeof out, "%s", argv[1]);
    bool main_process = world_rank() == 0;
    char *root = path_of("root.d");
    char *directory = path_of(scene->below);
    char *counter = path_of("counter");
    if (main_process) {
        must(mkdir(root, 0777) == 0, root);
    }
    ranks_wait(world_comm());
    versions v;
    versions_open(&v, POWER_TENSOR_BYTES);
    if (scene->old_limit) {
        GOOD(v.as, versions_save(&v, POWER_OLD, directory, scene->old_limit, argv[3]));
    }
    ranks_wait(world_comm());
    if (main_process) {
        trace_log tree = TRACE_LOG_INIT;
        uint64_t number;
        char *path = path_of("tree");
        trace_tree(&tree, root, &number);
        trace_write(&tree, path);
        free(path);
        trace_free(&tree);
        keep(directory, "old");
        path = path_of("root");
        FILE *f = fopen(path, "w");
        must(f && fprintf(f, "%llu\n", (unsigned long long)number) > 0 && fclose(f) == 0, path);
        free(path);
        trace_begin(root, counter);
    }
    ranks_wait(world_comm());
    if (!main_process) {
        trace_begin(root, counter);
    }
    ranks_wait(world_comm());
    int code = versions_save(&v, POWER_NEW, directory, scene->new_limit, argv[3]);
    trace_told();
    GOOD(v.as, code);
    trace_log log;
    trace_end(&log);
    char name[32];
    (void)snprintf(name, sizeof name, "trace.%d", world_rank());
    char *path = path_of(name);
    trace_write(&log, path);
    trace_free(&log);
    free(path);
    ranks_wait(world_comm());
    CHECK(versions_load(&v, directory, false) == POWER_NEW);
    if (main_process) {
        keep(directory, "new");
    }
    versions_close(&v);
    free(root);
    free(directory);
    free(counter);
    return ranks_end();
}
