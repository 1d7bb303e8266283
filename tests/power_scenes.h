/* SPDX-License-Identifier: Apache-2.0
 * Saves whose crashes are looked at, by power_record.c and power_states.c.
 */
#ifndef ALLSHARD_TESTS_POWER_SCENES_H
#define ALLSHARD_TESTS_POWER_SCENES_H

#include <stddef.h>
#include <string.h>

enum { POWER_OLD = 11, POWER_NEW = 97, POWER_TENSOR_BYTES = 1600 };

typedef struct power_scene {
    const char *name;
    const char *below;     /* the checkpoint's folder, below OUT */
    const char *old_limit; /* largest shard; NULL: there is no old checkpoint, and no folder */
    const char *new_limit;
} power_scene;

/* Six tensors of 1600 bytes. */
static const power_scene power_scenes[] = {
    {"fewer", "root.d/checkpoint", "4KB", "5KB"},  /* 3 shards become 2: other names */
    {"same", "root.d/checkpoint", "5KB", "5KB"},   /* each file is replaced */
    {"single", "root.d/checkpoint", "5KB", "1MB"}, /* index and shards go, one file comes */
    {"first", "root.d/runs/a/checkpoint", NULL, "5KB"},
};

static inline const power_scene *power_scene_named(const char *name)
{
    for (size_t i = 0; i < sizeof power_scenes / sizeof *power_scenes; i++) {
        if (strcmp(power_scenes[i].name, name) == 0) {
            return &power_scenes[i];
        }
    }
    return NULL;
}

#endif
