/* SPDX-License-Identifier: Apache-2.0 */
#include "series/assemble.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"
#include "base/version.h"
#include "commit/folder.h"
#include "commit/manifest.h"
#include "series/tags.h"

/* A part's folder, open, and what its manifest tells. */
typedef struct part {
    char folder[AS_PART_FOLDER_SIZE];
    char *path; /* for texts */
    int fd;
    as_manifest manifest;
    as_names names; /* sorted, without the manifest */
} part;

void as_part_folder(size_t number, char out[AS_PART_FOLDER_SIZE])
{
    (void)snprintf(out, AS_PART_FOLDER_SIZE, "part-%zu", number);
}

static int tick(const as_assembly *a, as_error *e)
{
    return a->tick ? a->tick->call(a->tick->self, e) : AS_OK;
}

static int read_manifest(part *p, as_error *e)
{
    char *what = NULL;
    as_buffer text = AS_BUFFER_INIT;
    bool found = false;
    if (asprintf(&what, "%s/" AS_MANIFEST_NAME, p->path) < 0) {
        return as_fail_nomem(e);
    }
    int code =
        as_file_read(p->fd, AS_MANIFEST_NAME, AS_MANIFEST_LARGEST, what, &text, NULL, &found, e);
    if (code == AS_OK && !found) {
        code =
            as_fail(e, AS_SYSTEM, ENOENT,
                    "%s: the manifest that was just saved is gone; is another program at work in "
                    "the folder?",
                    what);
    }
    if (code == AS_OK) {
        code = as_manifest_from_bytes(text.data, text.size, what, &p->manifest, e);
    }
    as_buffer_free(&text);
    free(what);
    return code;
}

/* Names of the part's files. Its own transaction is over, so that what is left of it, if anything,
 * is of no use. */
static int list_files(part *p, const as_assembly *a, as_error *e)
{
    as_names all = AS_NAMES_INIT;
    int code = as_tree_remove(p->fd, AS_META_NAME, p->path, a->tick, e);
    if (code == AS_OK) {
        code = as_folder_list(p->fd, p->path, &all, e);
    }
    for (size_t i = 0; i < all.count && code == AS_OK; i++) {
        if (strcmp(all.items[i], AS_TAGS_NAME) == 0) {
            code = as_fail(e, AS_INVALID, 0,
                           "a part has a small file \"%s\", which is the series' own; give it "
                           "another name",
                           all.items[i]);
        } else if (strcmp(all.items[i], AS_MANIFEST_NAME) != 0) {
            code = as_names_add(&p->names, all.items[i], e);
        }
    }
    as_names_free(&all);
    return code;
}

static int open_part(part *p, size_t number, const as_assembly *a, as_txn *t, as_error *e)
{
    as_part_folder(number, p->folder);
    if (asprintf(&p->path, "%s/" AS_META_NAME "/" AS_NEW_NAME "/%s", as_txn_dir(t), p->folder) <
        0) {
        p->path = NULL;
        return as_fail_nomem(e);
    }
    int code = as_folder_open_at(as_txn_staged(t), p->folder, p->path, &p->fd, e);
    if (code == AS_OK) {
        code = list_files(p, a, e);
    }
    return code == AS_OK ? read_manifest(p, e) : code;
}

static void close_part(part *p)
{
    if (p->fd >= 0) {
        (void)as_sys_table.close(p->fd);
    }
    as_manifest_free(&p->manifest);
    as_names_free(&p->names);
    free(p->path);
}

/* The files of a part come to those of the first. What is there already is the same, or else the
 * manifests could not have been joined. */
static int move_files(const part *from, part *to, const as_assembly *a, as_txn *t, as_error *e)
{
    for (size_t i = 0; i < from->names.count; i++) {
        const char *name = from->names.items[i];
        int code = tick(a, e);
        if (code != AS_OK) {
            return code;
        }
        if (as_sys_table.renameat(from->fd, name, to->fd, name) < 0) {
            return as_fail(e, AS_SYSTEM, errno, "%s: cannot move \"%s\" to the other parts",
                           from->path, name);
        }
    }
    return as_tree_remove(as_txn_staged(t), from->folder, from->path, a->tick, e);
}

/* A file that no manifest tells of must not be taken for the other part's. */
static int check_names(const part *parts, size_t count, as_error *e)
{
    for (size_t p = 0; p < count; p++) {
        size_t told = 0;
        for (size_t m = 0; m < parts[p].manifest.part_count; m++) {
            told += parts[p].manifest.parts[m].file_count;
        }
        if (told != parts[p].names.count) {
            return as_fail(e, AS_SYSTEM, 0,
                           "%s: there are %zu files, and the save has made %zu; is another program "
                           "at work in the folder?",
                           parts[p].path, parts[p].names.count, told);
        }
    }
    return AS_OK;
}

static int put(const part *p, const char *name, mode_t mode, const as_buffer *bytes, as_error *e)
{
    char *what = NULL;
    if (asprintf(&what, "%s/%s", p->path, name) < 0) {
        return as_fail_nomem(e);
    }
    int code = as_file_put(p->fd, name, mode, what, bytes->data, bytes->size, e);
    free(what);
    return code;
}

static int put_manifest(const part *p, const as_assembly *a, const as_buffer *text, as_error *e)
{
    if (as_sys_table.unlinkat(p->fd, AS_MANIFEST_NAME, 0) < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot replace the manifest", p->path);
    }
    return put(p, AS_MANIFEST_NAME, a->mode, text, e);
}

static int put_tags(const part *p, const as_assembly *a, as_error *e)
{
    as_buffer text = AS_BUFFER_INIT;
    int code = AS_OK;
    if (a->tags->count > 0) {
        code = as_tags_to_bytes(a->tags, &text, e);
        code = code == AS_OK ? put(p, AS_TAGS_NAME, a->mode, &text, e) : code;
    }
    as_buffer_free(&text);
    return code;
}

static int join_manifests(const part *parts, const as_assembly *a, as_buffer *text, as_error *e)
{
    const as_manifest **all = calloc(a->parts, sizeof *all);
    if (!all) {
        return as_fail_nomem(e);
    }
    for (size_t i = 0; i < a->parts; i++) {
        all[i] = &parts[i].manifest;
    }
    int code = as_manifest_join(all, a->parts, as_version(), a->checkpoint, text, e);
    free((void *)all);
    return code;
}

static int assemble(part *parts, const as_assembly *a, as_txn *t, as_error *e)
{
    as_buffer manifest = AS_BUFFER_INIT;
    int code = AS_OK;
    for (size_t i = 0; i < a->parts && code == AS_OK; i++) {
        code = tick(a, e);
        code = code == AS_OK ? open_part(&parts[i], i, a, t, e) : code;
    }
    if (code == AS_OK) {
        code = check_names(parts, a->parts, e);
    }
    if (code == AS_OK) { /* before anything is moved over anything */
        code = join_manifests(parts, a, &manifest, e);
    }
    for (size_t i = 1; i < a->parts && code == AS_OK; i++) {
        code = move_files(&parts[i], &parts[0], a, t, e);
    }
    if (code == AS_OK) {
        code = put_manifest(&parts[0], a, &manifest, e);
    }
    if (code == AS_OK) {
        code = put_tags(&parts[0], a, e);
    }
    if (code == AS_OK) {
        code = as_folder_sync(parts[0].fd, parts[0].path, e);
    }
    if (code == AS_OK &&
        as_sys_table.renameat(as_txn_staged(t), parts[0].folder, as_txn_staged(t), a->name) < 0) {
        code = as_fail(e, AS_SYSTEM, errno, "%s: cannot give it the name \"%s\"", parts[0].path,
                       a->name);
    }
    as_buffer_free(&manifest);
    return code;
}

int as_assemble(const as_assembly *a, as_txn *t, as_error *e)
{
    part *parts = calloc(a->parts, sizeof *parts);
    if (!parts) {
        return as_fail_nomem(e);
    }
    for (size_t i = 0; i < a->parts; i++) {
        parts[i].fd = -1;
    }
    int code = assemble(parts, a, t, e);
    for (size_t i = 0; i < a->parts; i++) {
        close_part(&parts[i]);
    }
    free(parts);
    return code;
}
