/* SPDX-License-Identifier: Apache-2.0
 * Checkpoints with a manifest, made byte by byte, for tests of `verify` in one process.
 */
#ifndef ALLSHARD_TESTS_VERIFY_SCENE_H
#define ALLSHARD_TESTS_VERIFY_SCENE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/checksum.h"
#include "checkpoint_folder.h"
#include "cli/verify.h"
#include "commit/folder.h"
#include "commit/manifest.h"

enum { MOST_FILES = 8, MOST_TENSORS = 16 };

/* A file in memory and on disk. Shards know where their tensors lie. */
typedef struct scene_file {
    char name[64];
    enum as_role role;
    char *bytes; /* heap */
    int64_t size;
    int64_t data_begin;
    int tensor_count;
    char tensors[MOST_TENSORS][32];
    int64_t begins[MOST_TENSORS + 1]; /* the last is the end */
} scene_file;

typedef struct scene {
    const char *folder;
    int count;
    scene_file files[MOST_FILES];
    int64_t block_bytes;
    int64_t tensors;
    int64_t tensor_bytes;
} scene;

static uint64_t seed_now = 1;

static inline uint64_t draw(void)
{
    seed_now ^= seed_now << 13;
    seed_now ^= seed_now >> 7;
    seed_now ^= seed_now << 17;
    return seed_now;
}

static inline void seed_from_environment(void)
{
    const char *text = getenv("ALLSHARD_SEED");
    seed_now = 0x9E3779B97F4A7C15ULL * (text ? strtoull(text, NULL, 10) + 1 : 1);
    printf("seed %s\n", text ? text : "0");
}

static inline void write_bytes(const char *folder, const char *name, const void *bytes, size_t size)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    must(f && fwrite(bytes, 1, size, f) == size && fclose(f) == 0, path);
}

static inline void change_byte(const char *folder, const char *name, int64_t at, char byte)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY);
    must(fd >= 0 && pwrite(fd, &byte, 1, (off_t)at) == 1 && close(fd) == 0, path);
}

/* A shard of U8 tensors of these sizes; names count on from scene to scene. */
static inline void add_shard(scene *s, const char *name, const int64_t *sizes, int count)
{
    scene_file *f = &s->files[s->count++];
    char header[4096];
    int64_t at = 0;
    int n = snprintf(header, sizeof header, "{\"__metadata__\":{\"format\":\"pt\"}");
    *f = (scene_file){.role = AS_ROLE_SHARD, .tensor_count = count};
    (void)snprintf(f->name, sizeof f->name, "%s", name);
    for (int i = 0; i < count; i++) {
        (void)snprintf(f->tensors[i], sizeof f->tensors[i], "layer.%lld", (long long)s->tensors++);
        n +=
            snprintf(header + n, sizeof header - (size_t)n,
                     ",\"%s\":{\"dtype\":\"U8\",\"shape\":[%lld],\"data_offsets\":[%lld,%lld]}",
                     f->tensors[i], (long long)sizes[i], (long long)at, (long long)(at + sizes[i]));
        f->begins[i] = at;
        at += sizes[i];
    }
    f->begins[count] = at;
    n += snprintf(header + n, sizeof header - (size_t)n, "}");
    while (n % 8 != 0) {
        header[n++] = ' ';
    }
    f->data_begin = 8 + n;
    f->size = f->data_begin + at;
    f->bytes = malloc((size_t)f->size);
    must(f->bytes != NULL, "memory");
    uint64_t length = (uint64_t)n;
    memcpy(f->bytes, &length, sizeof length);
    memcpy(f->bytes + 8, header, (size_t)n);
    for (int i = 0; i <= count; i++) {
        f->begins[i] += f->data_begin;
    }
    int64_t i = f->data_begin;
    for (; i + 8 <= f->size; i += 8) {
        uint64_t x = draw();
        memcpy(f->bytes + i, &x, sizeof x);
    }
    for (; i < f->size; i++) {
        f->bytes[i] = (char)draw();
    }
    s->tensor_bytes += at;
}

static inline void add_text(scene *s, const char *name, enum as_role role, const char *text)
{
    scene_file *f = &s->files[s->count++];
    *f = (scene_file){.role = role, .bytes = strdup(text), .size = (int64_t)strlen(text)};
    must(f->bytes != NULL, "memory");
    (void)snprintf(f->name, sizeof f->name, "%s", name);
}

/* The index of all shards so far. */
static inline void add_index(scene *s)
{
    char text[8192];
    int n = snprintf(text, sizeof text,
                     "{\n  \"metadata\": {\n    \"total_size\": %lld\n  },\n"
                     "  \"weight_map\": {",
                     (long long)s->tensor_bytes);
    const char *comma = "";
    for (int f = 0; f < s->count; f++) {
        for (int i = 0; i < s->files[f].tensor_count; i++) {
            n += snprintf(text + n, sizeof text - (size_t)n, "%s\n    \"%s\": \"%s\"", comma,
                          s->files[f].tensors[i], s->files[f].name);
            comma = ",";
        }
    }
    (void)snprintf(text + n, sizeof text - (size_t)n, "\n  }\n}");
    add_text(s, "model.safetensors.index.json", AS_ROLE_INDEX, text);
}

/* The part as a save would describe it; *files and the sums in them are the caller's to free. */
static inline as_manifest_part describe(const scene *s, as_manifest_file files[MOST_FILES])
{
    const char *index = NULL;
    for (int f = 0; f < s->count; f++) {
        const scene_file *x = &s->files[f];
        size_t count = (size_t)((x->size - 1) / s->block_bytes + 1);
        uint64_t *sums = calloc(count, sizeof *sums);
        must(sums != NULL, "memory");
        for (size_t b = 0; b < count; b++) {
            int64_t begin = (int64_t)b * s->block_bytes;
            int64_t left = x->size - begin;
            sums[b] = as_checksum(x->bytes + begin,
                                  (size_t)(left < s->block_bytes ? left : s->block_bytes));
        }
        files[f] = (as_manifest_file){
            .name = x->name, .size = x->size, .role = x->role, .sums = sums, .sum_count = count};
        index = x->role == AS_ROLE_INDEX ? x->name : index;
    }
    return (as_manifest_part){.part = "model",
                              .pattern = "model{suffix}.safetensors",
                              .index = index,
                              .created = "2025-01-31T12:00:00Z",
                              .world_size = 1,
                              .block_size = s->block_bytes,
                              .checksum = AS_CHECKSUM_NAME,
                              .total_size = s->tensor_bytes,
                              .tensor_count = s->tensors,
                              .files = files,
                              .file_count = (size_t)s->count};
}

static inline void free_sums(as_manifest_file *files, int count)
{
    for (int f = 0; f < count; f++) {
        free((void *)files[f].sums);
    }
}

static inline void put_manifest(const char *folder, const as_manifest_part *part)
{
    as_buffer text = AS_BUFFER_INIT;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(as_manifest_to_bytes(part, "test", NULL, 0, NULL, NULL, &text, &e), AS_OK);
    write_bytes(folder, AS_MANIFEST_NAME, text.data, text.size);
    as_buffer_free(&text);
}

/* Puts all on disk, with a manifest. */
static inline void put_scene(const scene *s)
{
    as_manifest_file files[MOST_FILES];
    for (int f = 0; f < s->count; f++) {
        write_bytes(s->folder, s->files[f].name, s->files[f].bytes, (size_t)s->files[f].size);
    }
    as_manifest_part part = describe(s, files);
    put_manifest(s->folder, &part);
    free_sums(files, s->count);
}

static inline void free_scene(scene *s)
{
    for (int f = 0; f < s->count; f++) {
        free(s->files[f].bytes);
    }
}

/* verify in this process; the caller frees the verdict. */
static inline int verify_now(as_verdict *v, const char *folder, const as_verify_options *o,
                             as_error *e)
{
    as_world w = {.rank = 0, .size = 1};
    as_progress none = {0};
    return as_verify(v, &w, folder, o, &none, e);
}

/* The tensor whose bytes hold that place; NULL: the header. */
static inline const char *tensor_at(const scene_file *f, int64_t at)
{
    for (int i = 0; i < f->tensor_count; i++) {
        if (f->begins[i] <= at && at < f->begins[i + 1]) {
            return f->tensors[i];
        }
    }
    return NULL;
}

/* A number that a finding tells for --json. */
static inline int64_t number_of(const as_finding *x, const char *key)
{
    const json_t *value = x->more ? json_object_get(x->more, key) : NULL;
    return json_is_integer(value) ? (int64_t)json_integer_value(value) : -1;
}

static inline bool names_tensor(const as_finding *x, const char *name)
{
    const json_t *list = json_object_get(x->more, "tensors");
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (strcmp(json_string_value(json_array_get(list, i)), name) == 0) {
            return true;
        }
    }
    return false;
}

#endif
