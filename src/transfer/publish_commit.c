/* SPDX-License-Identifier: Apache-2.0
 * The commit of a publication: all that the main process does alone. No MPI call is made here.
 */
#include <stdlib.h>

#include "base/checksum.h"
#include "base/sys.h"
#include "commit/clean.h"
#include "commit/folder.h"
#include "commit/staged.h"
#include "transfer/publish_index.h"
#include "transfer/publish_manifest.h"
#include "transfer/read_back.h"

/* Gives the file its checksums: of file number `file` of those that were collected. */
static void set_sums(const as_publication *p, as_manifest_file *f, size_t file)
{
    if (p->sums.sums) {
        f->sums = p->sums.sums + p->sums.first[file];
        f->sum_count = p->sums.first[file + 1] - p->sums.first[file];
    }
}

/* What comes in: names and sizes, for journal and manifest. */
static int add_incoming(as_names *names, as_buffer *files, const char *name,
                        const as_manifest_file *f, as_error *e)
{
    int code = as_names_add(names, name, e);
    return code == AS_OK ? as_buffer_append(files, f, sizeof *f, e) : code;
}

static int list_incoming(const as_publication *p, as_names *names, as_buffer *files, as_error *e)
{
    int code = AS_OK;
    for (int32_t file = 0; file < as_publication_files(p) && code == AS_OK; file++) {
        char *name = NULL;
        code = as_prepared_file_name(p->prepared, file, &name, e);
        if (code == AS_OK) {
            as_manifest_file f = {.size = p->prepared->plan.file_size[file], .role = AS_ROLE_SHARD};
            set_sums(p, &f, (size_t)file);
            code = add_incoming(names, files, name, &f, e);
        }
        free(name);
    }
    if (code == AS_OK && p->index) {
        as_manifest_file f = {.size = p->index_size, .role = AS_ROLE_INDEX};
        if (p->checksums) {
            f.sums = (const uint64_t *)(const void *)p->index_sums.sums.data;
            f.sum_count = p->index_sums.sums.size / sizeof *f.sums;
        }
        code = add_incoming(names, files, p->index, &f, e);
    }
    for (size_t i = 0; i < as_extras_count(&p->prepared->extras) && code == AS_OK; i++) {
        const as_extra_file *x = as_extras_file(&p->prepared->extras, i);
        as_manifest_file f = {.size = x->size, .role = AS_ROLE_EXTRA};
        set_sums(p, &f, (size_t)as_publication_files(p) + i);
        code = add_incoming(names, files, x->name, &f, e);
    }
    /* Names move when the list grows: only now they can be borrowed. */
    as_manifest_file *f = (as_manifest_file *)(void *)files->data;
    for (size_t i = 0; i < files->size / sizeof *f; i++) {
        f[i].name = names->items[i];
    }
    return code;
}

/* Is the staged file what was written, as storage has it? */
static int read_back(const as_publication *p, const char *name, const as_small_sums *sums,
                     as_error *e)
{
    int fd = -1;
    as_buffer path = AS_BUFFER_INIT;
    int code = as_publication_look(p, e);
    if (code == AS_OK) {
        code = as_staged_path(p->directory, name, &path, e);
    }
    if (code == AS_OK) {
        code = as_txn_open(p->txn, name, &fd, e);
    }
    if (code == AS_OK) {
        code = as_read_back_small(fd, path.data, sums, e);
        (void)as_sys_table.close(fd);
    }
    as_buffer_free(&path);
    return code;
}

/* Index and small files; the writers of the shards have read these themselves. */
static int read_back_files(const as_publication *p, const as_buffer *files, as_error *e)
{
    const as_manifest_file *f = (const as_manifest_file *)(const void *)files->data;
    int code = AS_OK;
    for (size_t i = 0; i < files->size / sizeof *f && code == AS_OK; i++) {
        if (f[i].role != AS_ROLE_SHARD) {
            as_small_sums sums = {
                .size = f[i].size, .block_bytes = p->prepared->plan.block_bytes, .sums = f[i].sums};
            code = read_back(p, f[i].name, &sums, e);
        }
    }
    return code;
}

static int read_back_manifest(const as_publication *p, const as_buffer *text, as_error *e)
{
    uint64_t sum = as_checksum(text->data, text->size);
    as_small_sums sums = {
        .size = (int64_t)text->size, .block_bytes = (int64_t)text->size, .sums = &sum};
    return read_back(p, AS_MANIFEST_NAME, &sums, e);
}

/* Is the staged shard of the size that was planned? */
static int check_size(const as_publication *p, int32_t file, as_error *e)
{
    char *name = NULL;
    int64_t size = 0;
    int64_t planned = p->prepared->plan.file_size[file];
    int code = as_prepared_file_name(p->prepared, file, &name, e);
    code = code == AS_OK ? as_txn_staged_size(p->txn, name, &size, e) : code;
    if (code == AS_OK && size != planned) {
        code = as_fail(e, AS_SYSTEM, 0,
                       "%s: the staged file \"%s\" is not the one that was written: %lld bytes, "
                       "not %lld; is another program at work in the folder?",
                       p->directory, name, (long long)size, (long long)planned);
    }
    free(name);
    return code;
}

/* Whatever came between must not take the place of a good checkpoint. */
static int check_staged(const as_publication *p, as_error *e)
{
    int code = AS_OK;
    for (int32_t file = 0; file < as_publication_files(p) && code == AS_OK; file++) {
        code = as_publication_look(p, e);
        code = code == AS_OK ? check_size(p, file, e) : code;
    }
    return code;
}

/* Have all ranks reported, and every block? */
static int check_reports(as_publication *p, as_error *e)
{
    for (int rank = 0; p->reported && rank < p->ranks; rank++) {
        if (!p->reported[rank]) {
            return as_fail(e, AS_INTERNAL, 0, "rank %d has not reported what it wrote", rank);
        }
    }
    return p->sums.known ? as_block_sums_end(&p->sums, e) : AS_OK;
}

/* All that is to be staged yet, and looks at what is. */
static int stage_rest(as_publication *p, const as_names *outgoing, as_names *incoming, as_error *e)
{
    as_buffer files = AS_BUFFER_INIT;
    as_buffer manifest = AS_BUFFER_INIT;
    int code = p->index_text.size ? as_publish_index_write(p, e) : AS_OK;
    if (code == AS_OK) {
        code = list_incoming(p, incoming, &files, e);
    }
    if (code == AS_OK && p->read_back) {
        code = read_back_files(p, &files, e);
    }
    if (code == AS_OK) {
        code = as_publish_manifest(p, &files, outgoing, &manifest, e);
    }
    if (code == AS_OK && p->read_back) {
        code = read_back_manifest(p, &manifest, e);
    }
    if (code == AS_OK) {
        code = as_names_add(incoming, AS_MANIFEST_NAME, e);
    }
    as_buffer_free(&files);
    as_buffer_free(&manifest);
    return code == AS_OK ? check_staged(p, e) : code;
}

int as_publication_commit(as_publication *p, as_error *e)
{
    as_names listing = AS_NAMES_INIT;
    as_names outgoing = AS_NAMES_INIT;
    as_names incoming = AS_NAMES_INIT;
    int code = check_reports(p, e);
    if (code == AS_OK) {
        code = as_txn_list(p->txn, &listing, e);
    }
    if (code == AS_OK) {
        code = as_clean_list(p->prepared->pattern, &listing, &outgoing, e);
    }
    if (code == AS_OK) {
        code = stage_rest(p, &outgoing, &incoming, e);
    }
    if (code == AS_OK) {
        code = as_txn_commit(p->txn, (const char *const *)incoming.items, incoming.count,
                             (const char *const *)outgoing.items, outgoing.count, e);
    }
    as_names_free(&listing);
    as_names_free(&outgoing);
    as_names_free(&incoming);
    return code;
}
