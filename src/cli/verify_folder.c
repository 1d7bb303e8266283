/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/sys.h"
#include "series/shards.h"
#include "cli/verify.h"
#include "commit/folder.h"
#include "commit/manifest.h"
#include "format/pattern.h"

enum { LONGEST_MANIFEST = 256 * 1024 * 1024 };

typedef struct as_folder_check {
    as_findings *findings;
    as_view *view;
    as_verified *found;
    as_names files;               /* of the checkpoint, sorted */
    as_names known;               /* of other checkpoints in the folder, by the manifest; sorted */
    as_names listing;             /* of the folder, sorted */
    const as_manifest_part *part; /* of the manifest that is this checkpoint; NULL: none */
    char *pattern;                /* which names belong to the checkpoint; heap */
    as_error *e;
} as_folder_check;

/* --------------------------------------------------------------- the manifest */

/* Reads a whole small file through the view; *there false if there is none. */
static int read_small(as_folder_check *c, const char *name, as_buffer *out, bool *there)
{
    int fd = -1;
    as_error why = AS_ERROR_INIT;
    int code = as_shard_open(c->view, name, &fd, &why);
    *there = code == AS_OK;
    if (code == AS_NOT_FOUND) {
        as_error_clear(&why);
        return AS_OK;
    }
    struct stat status;
    if (code == AS_OK && as_sys_table.fstat(fd, &status) < 0) {
        code = as_fail(&why, AS_SYSTEM, errno, "%s: cannot be looked at", name);
    }
    if (code == AS_OK && status.st_size > LONGEST_MANIFEST) {
        code = as_fail(&why, AS_FORMAT, 0, "it has %lld bytes, far too many",
                       (long long)status.st_size);
    }
    void *room = NULL;
    if (code == AS_OK) {
        code = as_buffer_extend(out, (size_t)status.st_size, &room, &why);
    }
    if (code == AS_OK && status.st_size > 0) {
        code = as_read_all(fd, room, (size_t)status.st_size, 0, name, &why);
    }
    if (fd >= 0) {
        (void)as_sys_table.close(fd);
    }
    if (code == AS_FORMAT) {
        *there = false;
        code = as_findings_take(c->findings, c->e, name, &why);
        as_error_clear(&why);
        return code;
    }
    return as_error_pass(c->e, &why);
}

static int read_manifest(as_folder_check *c)
{
    as_buffer bytes = AS_BUFFER_INIT;
    bool there = false;
    int code = read_small(c, AS_MANIFEST_NAME, &bytes, &there);
    if (code == AS_OK && there) {
        as_error why = AS_ERROR_INIT;
        code = as_manifest_from_bytes(bytes.data ? bytes.data : "", bytes.size, AS_MANIFEST_NAME,
                                      &c->found->manifest, &why);
        c->found->has_manifest = code == AS_OK;
        if (code == AS_FORMAT) {
            code = as_findings_take(c->findings, c->e, AS_MANIFEST_NAME, &why);
            as_error_clear(&why);
        } else {
            code = as_error_pass(c->e, &why);
        }
    }
    as_buffer_free(&bytes);
    return code;
}

static bool is_part(const as_folder_check *c, const as_manifest_part *p)
{
    const as_verified *v = c->found;
    if (v->index_name || p->index) {
        return v->index_name && p->index && strcmp(v->index_name, p->index) == 0;
    }
    for (size_t i = 0; i < p->file_count; i++) {
        if (p->files[i].role == AS_ROLE_SHARD && v->files.count == 1 &&
            strcmp(p->files[i].name, v->files.items[0]) == 0) {
            return true;
        }
    }
    return false;
}

/* A file of the manifest against the folder. */
static int check_size(as_folder_check *c, const as_manifest_part *p, const as_manifest_file *file)
{
    int64_t size = -1;
    int code = as_shard_size(c->view, file->name, &size, c->e);
    bool missing = size < 0;
    if (code != AS_OK) {
        return code;
    }
    if (!missing && size == file->size) {
        return AS_OK;
    }
    /* People edit a config after a save; the weights are what the manifest vouches for. */
    bool fault = file->role != AS_ROLE_EXTRA && (p == c->part || !c->part || !c->found->pattern);
    if (fault && as_findings_has_fault(c->findings, file->name)) {
        return AS_OK; /* what is wrong with it was told by its own rules */
    }
    int (*tell)(as_findings *, as_error *, const char *, const char *, const char *, ...) =
        fault ? as_findings_fault : as_findings_warn;
    if (missing) {
        return tell(c->findings, c->e, file->name, NULL, "%s lists this file, but it is not there",
                    AS_MANIFEST_NAME);
    }
    return tell(c->findings, c->e, file->name, NULL, "it has %lld bytes, but %s says %lld",
                (long long)size, AS_MANIFEST_NAME, (long long)file->size);
}

static int check_part(as_folder_check *c)
{
    const as_manifest_part *p = c->part;
    const as_verified *v = c->found;
    size_t shards = 0;
    int code = AS_OK;
    for (size_t i = 0; i < p->file_count && code == AS_OK; i++) {
        if (p->files[i].role == AS_ROLE_SHARD) {
            shards++;
            if (!as_names_find(&c->files, p->files[i].name) &&
                !as_findings_has_fault(c->findings, p->files[i].name)) {
                code = as_findings_fault(
                    c->findings, c->e, p->files[i].name, NULL,
                    "%s lists it as a shard, but it is not part of the checkpoint",
                    AS_MANIFEST_NAME);
            }
        }
    }
    if (code == AS_OK && shards < v->files.count) {
        code = as_findings_fault(c->findings, c->e, AS_MANIFEST_NAME, NULL,
                                 "it lists %zu shards, but the checkpoint has %zu", shards,
                                 v->files.count);
    }
    bool differs = p->total_size != v->bytes || p->tensor_count != v->tensors;
    if (code == AS_OK && v->complete && differs) {
        code =
            as_findings_fault(c->findings, c->e, AS_MANIFEST_NAME, NULL,
                              "it says %lld tensors of %lld bytes, but the checkpoint has %lld of "
                              "%lld bytes",
                              (long long)p->tensor_count, (long long)p->total_size,
                              (long long)v->tensors, (long long)v->bytes);
    }
    return code;
}

static int check_manifest(as_folder_check *c)
{
    if (!c->found->has_manifest) {
        return AS_OK;
    }
    int code = AS_OK;
    for (size_t i = 0; i < c->found->manifest.part_count; i++) {
        const as_manifest_part *p = &c->found->manifest.parts[i];
        if (is_part(c, p)) {
            c->part = p;
        }
    }
    for (size_t i = 0; i < c->found->manifest.part_count; i++) {
        const as_manifest_part *p = &c->found->manifest.parts[i];
        for (size_t k = 0; k < p->file_count && code == AS_OK; k++) {
            code = check_size(c, p, &p->files[k]);
            if (code == AS_OK && p != c->part) {
                code = as_names_add(&c->known, p->files[k].name, c->e);
            }
        }
    }
    as_names_sort(&c->known);
    if (code == AS_OK && !c->part) {
        return as_findings_fault(c->findings, c->e, AS_MANIFEST_NAME, NULL,
                                 "it describes another checkpoint than the one in this folder; if "
                                 "another tool wrote the checkpoint, remove this file");
    }
    return code == AS_OK ? check_part(c) : code;
}

/* ------------------------------------------------------------ what else lies there */

static bool ends_in(const char *name, const char *tail)
{
    size_t length = strlen(name);
    size_t tail_length = strlen(tail);
    return length >= tail_length && strcmp(name + length - tail_length, tail) == 0;
}

/* The pattern that the checkpoint's names come from. */
static int find_pattern(as_folder_check *c)
{
    const char *given = c->found->pattern ? c->found->pattern : c->part ? c->part->pattern : NULL;
    const char *first = c->found->index_name    ? c->found->index_name
                        : c->found->files.count ? c->found->files.items[0]
                                                : "";
    int kind = AS_PATTERN_NONE;
    uint64_t shard = 0;
    uint64_t count = 0;
    as_error why = AS_ERROR_INIT;
    if (given && as_pattern_match(given, first, &kind, &shard, &count, &why) == AS_OK &&
        kind != AS_PATTERN_NONE) {
        c->pattern = strdup(given);
        return c->pattern ? AS_OK : as_fail_nomem(c->e);
    }
    as_error_clear(&why);
    static const char *const tails[] = {".index.json", ".safetensors"};
    char *stem = strdup(first);
    for (size_t i = 0; stem && i < 2; i++) {
        if (ends_in(stem, tails[i])) {
            stem[strlen(stem) - strlen(tails[i])] = '\0';
        }
    }
    int code = stem ? as_pattern_default(stem, &c->pattern, c->e) : as_fail_nomem(c->e);
    free(stem);
    return code;
}

static int check_name(as_folder_check *c, const char *name)
{
    if (as_names_find(&c->files, name) || as_names_find(&c->known, name) ||
        (c->found->index_name && strcmp(name, c->found->index_name) == 0)) {
        return AS_OK;
    }
    int kind = AS_PATTERN_NONE;
    uint64_t shard = 0;
    uint64_t count = 0;
    as_error why = AS_ERROR_INIT;
    /* A pattern made of a strange name may be none: then nothing matches it. */
    (void)as_pattern_match(c->pattern, name, &kind, &shard, &count, &why);
    as_error_clear(&why);
    switch (kind) {
    case AS_PATTERN_SHARD:
        return as_findings_fault(
            c->findings, c->e, name, NULL,
            "a stale shard: %s; remove it, since some loaders take every shard "
            "in the folder",
            c->found->index_name ? "the index does not name it"
                                 : "the checkpoint is a single file");
    case AS_PATTERN_SINGLE:
        return as_findings_fault(
            c->findings, c->e, name, NULL,
            "a stale single file beside an index; remove it, since transformers "
            "loads it instead of the shards");
    case AS_PATTERN_INDEX:
        return as_findings_fault(c->findings, c->e, name, NULL, "a stale index; remove it");
    default:
        break;
    }
    if (ends_in(name, ".safetensors")) {
        return as_findings_warn(c->findings, c->e, name, NULL, "it is not part of this checkpoint");
    }
    return AS_OK;
}

static int check_leftovers(as_folder_check *c)
{
    bool meta = false;
    bool journal = false;
    int code = as_view_leftovers(c->view, &meta, &journal, c->e);
    if (code != AS_OK || !meta) {
        return code;
    }
    return as_findings_fault(c->findings, c->e, AS_META_NAME, NULL,
                             "a save was killed here%s, or is under way; if none is, run `allshard "
                             "recover %s`",
                             journal ? " after it counted" : "", as_view_path(c->view));
}

int as_verify_folder(as_findings *f, as_view *v, as_verified *found, as_error *e)
{
    as_folder_check c = {.findings = f, .view = v, .found = found, .e = e};
    int code = AS_OK;
    for (size_t i = 0; i < found->files.count && code == AS_OK; i++) {
        code = as_names_add(&c.files, found->files.items[i], e);
    }
    as_names_sort(&c.files);
    code = code == AS_OK ? read_manifest(&c) : code;
    code = code == AS_OK ? check_manifest(&c) : code;
    code = code == AS_OK ? find_pattern(&c) : code;
    code = code == AS_OK ? as_view_list(v, &c.listing, e) : code;
    for (size_t i = 0; i < c.listing.count && code == AS_OK; i++) {
        code = check_name(&c, c.listing.items[i]);
    }
    code = code == AS_OK ? check_leftovers(&c) : code;
    found->part = c.part;
    as_names_free(&c.files);
    as_names_free(&c.known);
    as_names_free(&c.listing);
    free(c.pattern);
    return code;
}

int as_verify_beside(as_findings *f, as_view *v, as_verified *found, as_error *e)
{
    as_folder_check c = {.findings = f, .view = v, .found = found, .e = e};
    const char *name = as_view_single(v);
    int code = read_manifest(&c);
    for (size_t i = 0; code == AS_OK && !found->part && i < found->manifest.part_count; i++) {
        const as_manifest_part *p = &found->manifest.parts[i];
        for (size_t k = 0; k < p->file_count && !found->part; k++) {
            if (strcmp(p->files[k].name, name) == 0) {
                found->part = c.part = p;
                code = check_size(&c, p, &p->files[k]);
            }
        }
    }
    return code;
}
