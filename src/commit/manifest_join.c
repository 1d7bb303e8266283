/* SPDX-License-Identifier: Apache-2.0
 * One manifest out of several.
 */
#include <stdlib.h>
#include <string.h>

#include "base/name_map.h"
#include "commit/folder.h"
#include "commit/manifest.h"
#include "commit/seal.h"

/* A file, and whose it is. */
typedef struct owned {
    const as_manifest_file *file;
    const as_manifest_part *part;
} owned;

typedef struct joining {
    json_t *parts;     /* of the new manifest */
    as_name_map names; /* of files → place in `files` */
    as_buffer files;   /* owned[] */
} joining;

/* Can one file be both? Sums that cannot be compared do not speak against it. */
static bool is_same(const owned *a, const owned *b)
{
    const as_manifest_file *x = a->file;
    const as_manifest_file *y = b->file;
    if (x->role != AS_ROLE_EXTRA || y->role != AS_ROLE_EXTRA || x->size != y->size) {
        return false;
    }
    bool comparable = x->sums && y->sums && x->sum_count == y->sum_count &&
                      a->part->block_size == b->part->block_size &&
                      strcmp(a->part->checksum, b->part->checksum) == 0;
    return !comparable || memcmp(x->sums, y->sums, x->sum_count * sizeof *x->sums) == 0;
}

static int join_file(joining *j, const owned *now, as_error *e)
{
    size_t number = j->files.size / sizeof *now;
    if (j->files.data && as_name_map_find(&j->names, now->file->name, &number)) {
        const owned *before = (const owned *)(const void *)j->files.data + number;
        if (is_same(before, now)) {
            return AS_OK;
        }
        return as_fail(e, AS_INVALID, 0,
                       "parts \"%s\" and \"%s\" both have a file \"%s\", and they are not the "
                       "same; give one of them another name or pattern",
                       before->part->part, now->part->part, now->file->name);
    }
    int code = as_buffer_append(&j->files, now, sizeof *now, e);
    return code == AS_OK ? as_name_map_add(&j->names, now->file->name, number, e) : code;
}

static int join_part(joining *j, const as_manifest *m, const as_manifest_part *p, as_error *e)
{
    if (json_object_get(j->parts, p->part)) {
        return as_fail(e, AS_INVALID, 0, "there are two parts \"%s\" in one checkpoint", p->part);
    }
    int code = AS_OK;
    for (size_t i = 0; code == AS_OK && i < p->file_count; i++) {
        const owned file = {.file = &p->files[i], .part = p};
        code = join_file(j, &file, e);
    }
    json_t *object = json_object_get(json_object_get(m->tree, "parts"), p->part);
    if (code == AS_OK && json_object_set(j->parts, p->part, object) < 0) {
        code = as_fail_nomem(e);
    }
    return code;
}

int as_manifest_join(const as_manifest *const *all, size_t count, const char *version,
                     const json_t *checkpoint, as_buffer *out, as_error *e)
{
    json_t *root = json_pack("{s:i,s:s,s:{}}", AS_MANIFEST_KEY, AS_MANIFEST_VERSION, "version",
                             version, "parts");
    if (!root) {
        return as_fail_nomem(e);
    }
    joining j = {.parts = json_object_get(root, "parts"), .names = AS_NAME_MAP_INIT};
    int code = AS_OK;
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; code == AS_OK && k < all[i]->part_count; k++) {
            code = join_part(&j, all[i], &all[i]->parts[k], e);
        }
    }
    if (code == AS_OK && checkpoint &&
        json_object_set_new(root, AS_MANIFEST_CHECKPOINT, json_deep_copy(checkpoint)) < 0) {
        code = as_fail_nomem(e);
    }
    if (code == AS_OK) {
        code = as_seal(root, out, e);
    }
    as_name_map_free(&j.names);
    as_buffer_free(&j.files);
    json_decref(root);
    return code;
}
