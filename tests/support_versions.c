/* SPDX-License-Identifier: Apache-2.0 */
#include "support_versions.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support_ranks.h"

/* Uneven, so that no page or block of one version looks like that of another. */
static unsigned char byte_of(int version, int tensor, int64_t at)
{
    return (unsigned char)((int64_t)version + (int64_t)tensor * 31 + at % 251);
}

void versions_open(versions *v, int64_t bytes)
{
    *v = (versions){.rows = 8, .columns = bytes / 8};
    int ranks = world_size();
    v->first = v->rows * world_rank() / ranks;
    v->count = v->rows * (world_rank() + 1) / ranks - v->first;
    allshard_options options = {.size = sizeof options, .memory = 1 << 20};
    GOOD(NULL, allshard_open(&v->as, world_comm(), &options));
    GOOD(v->as, allshard_state_create(&v->state, v->as, "model"));
    for (int i = 0; i < VERSION_TENSORS; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "layer.%d.weight", i);
        v->memory[i] = malloc((size_t)(v->count * v->columns) + 1);
        CHECK(v->memory[i] != NULL);
        allshard_tensor t = {
            .size = sizeof t,
            .name = name,
            .dtype = ALLSHARD_U8,
            .ndim = 2,
            .shape = (int64_t[]){v->rows, v->columns},
            .offset = (int64_t[]){v->first, 0},
            .local_shape = (int64_t[]){v->count, v->columns},
            .data = v->memory[i],
            .order = i + 1,
        };
        GOOD(v->as, allshard_state_tensor(v->state, &t));
    }
}

void versions_close(versions *v)
{
    (void)allshard_state_free(v->state);
    GOOD(NULL, allshard_close(v->as));
    for (int i = 0; i < VERSION_TENSORS; i++) {
        free(v->memory[i]);
    }
}

void versions_fill(versions *v, int version)
{
    for (int i = 0; i < VERSION_TENSORS; i++) {
        for (int64_t k = 0; k < v->count * v->columns; k++) {
            v->memory[i][k] = byte_of(version, i, v->first * v->columns + k);
        }
    }
}

static allshard_save_options prepare(versions *v, int version, const char *limit,
                                     const char *engine)
{
    char config[64];
    (void)snprintf(config, sizeof config, "{\"version\": %d}\n", version);
    versions_fill(v, version);
    GOOD(v->as, allshard_state_file(v->state, "config.json", config, strlen(config)));
    return (allshard_save_options){
        .size = sizeof(allshard_save_options), .max_shard_size = limit, .engine = engine};
}

int versions_save(versions *v, int version, const char *directory, const char *limit,
                  const char *engine)
{
    allshard_save_options save = prepare(v, version, limit, engine);
    return allshard_save(v->state, directory, &save);
}

int versions_isave(versions *v, int version, const char *directory, const char *limit,
                   const char *engine, void (*staged)(void *user), void *user)
{
    allshard_save_options save = prepare(v, version, limit, engine);
    allshard_request *request = NULL;
    int code = allshard_isave(v->state, directory, &save, &request);
    for (int i = 0; code == ALLSHARD_OK && i < VERSION_TENSORS; i++) {
        memset(v->memory[i], 0, (size_t)(v->count * v->columns));
    }
    if (code == ALLSHARD_OK && staged) {
        staged(user);
    }
    return code == ALLSHARD_OK ? allshard_wait(&request, NULL) : code;
}

static void check_version(const versions *v, int version)
{
    for (int i = 0; i < VERSION_TENSORS; i++) {
        for (int64_t k = 0; k < v->count * v->columns; k++) {
            unsigned char expected = byte_of(version, i, v->first * v->columns + k);
            CHECK_TEXT(v->memory[i][k] == expected,
                       "tensor %d, byte %lld of this rank is not version %d's", i, (long long)k,
                       version);
        }
    }
}

int versions_load(versions *v, const char *directory, bool none)
{
    for (int i = 0; i < VERSION_TENSORS; i++) {
        memset(v->memory[i], 0, (size_t)(v->count * v->columns));
    }
    int code = allshard_load(v->state, directory, NULL);
    if (none && code == ALLSHARD_NOT_FOUND) {
        return 0;
    }
    GOOD(v->as, code);
    int version =
        v->count ? (unsigned char)(v->memory[0][0] - byte_of(0, 0, v->first * v->columns)) : 0;
    version = (int)ranks_max(world_comm(), version);
    check_version(v, version);
    return version;
}
