/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/publish.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/checksum.h"
#include "base/sys.h"
#include "base/version.h"
#include "comm/collect.h"
#include "commit/clean.h"
#include "commit/folder.h"
#include "commit/manifest.h"
#include "commit/owner.h"
#include "commit/staged.h"
#include "format/index.h"
#include "format/pattern.h"
#include "transfer/read_back.h"

/* 16 digits each leave half of the largest manifest to everything else. */
enum { MOST_SUMS = AS_MANIFEST_LARGEST / 2 / 16 };

/* Where the index goes: the main process's staged file. */
typedef struct index_file {
    as_comm *comm;
    as_buffer path;
    int fd;
    int64_t size;
    as_sum_stream *sums; /* NULL: none are taken */
} index_file;

static int32_t file_count(const as_publication *p)
{
    return p->prepared->plan.file_count;
}

/* The lines of the files that this rank built, which follow one another in the index; the very
 * first line of all has no comma before it. */
static int build_lines(const as_publication *p, as_buffer *out, as_error *e)
{
    const as_plan *plan = &p->prepared->plan;
    int code = AS_OK;
    for (size_t k = 0; k < as_plan_built_count(plan) && code == AS_OK; k++) {
        const as_built_file *b = as_plan_built(plan, k);
        char *file = NULL;
        code = as_prepared_file_name(p->prepared, b->file, &file, e);
        const char *name = b->names.data;
        for (size_t i = 0; i < b->tensor_count && code == AS_OK; i++) {
            size_t length = strlen(name);
            code = as_index_write_line(out, b->file == 0 && i == 0, name, length, file, e);
            name += length + 1;
        }
        free(file);
    }
    return code;
}

static void append(index_file *f, const char *bytes, size_t count, as_error *e)
{
    (void)as_comm_look(f->comm, e);
    if (e->code == AS_OK && count) {
        (void)as_write_all(f->fd, bytes, count, f->size, f->path.data, e);
        f->size += (int64_t)count;
        if (f->sums && e->code == AS_OK) {
            (void)as_sum_stream_add(f->sums, bytes, count, e);
        }
    }
}

static int take_lines(void *user, int from, const char *bytes, size_t count, as_error *e)
{
    (void)from;
    append(user, bytes, count, e);
    return e->code;
}

static void write_begin(const as_publication *p, index_file *f, as_error *e)
{
    as_buffer text = AS_BUFFER_INIT;
    as_pairs metadata = AS_PAIRS_INIT;
    if (as_plan_metadata(&p->prepared->plan, &p->prepared->request, &metadata, e) == AS_OK &&
        as_index_write_begin(&text, p->prepared->plan.total_size, &metadata, e) == AS_OK) {
        append(f, text.data, text.size, e);
    }
    as_pairs_free(&metadata);
    as_buffer_free(&text);
}

static void write_end(index_file *f, as_error *e)
{
    as_buffer text = AS_BUFFER_INIT;
    if (as_index_write_end(&text, false, e) == AS_OK) {
        append(f, text.data, text.size, e);
    }
    as_buffer_free(&text);
    (void)as_comm_look(f->comm, e);
    if (e->code == AS_OK) {
        (void)as_sync(f->fd, f->path.data, e);
    }
}

static int open_index(const as_publication *p, index_file *f, as_error *e)
{
    int code = as_staged_path(p->directory, p->index, &f->path, e);
    return code == AS_OK ? as_txn_create(p->txn, p->index, &f->fd, e) : code;
}

/* All lines are built before the first is sent. */
static int write_index(as_publication *p, as_error *e)
{
    bool is_main = as_comm_rank(p->session->comm) == 0;
    index_file f = {
        .comm = p->session->comm, .fd = -1, .sums = p->checksums ? &p->index_sums : NULL};
    as_buffer lines = AS_BUFFER_INIT;
    (void)build_lines(p, &lines, e);
    if (is_main && e->code == AS_OK && open_index(p, &f, e) == AS_OK) {
        write_begin(p, &f, e);
    }
    int code = as_comm_collect(p->session->comm, &lines, take_lines, &f, e);
    if (code == AS_OK && is_main) {
        write_end(&f, e);
        p->index_size = f.size;
        if (f.sums) {
            (void)as_sum_stream_end(f.sums, e);
        }
    }
    if (f.fd >= 0) {
        (void)as_sys_table.close(f.fd);
    }
    as_buffer_free(&f.path);
    as_buffer_free(&lines);
    return code == AS_OK ? as_comm_agree(p->session->comm, e) : code;
}

/* Checksums of this rank's small files, which follow the shards by number. */
static int sum_extras(const as_publication *p, as_error *e)
{
    const as_extras *extras = &p->prepared->extras;
    int code = AS_OK;
    for (size_t i = 0; i < as_extras_count(extras) && code == AS_OK; i++) {
        const as_extra_file *x = as_extras_file(extras, i);
        const as_small_file *f = as_state_file_find(p->state, x->name);
        if (x->rank == as_comm_rank(p->session->comm) && f) {
            code = as_block_sums_add(p->checksums, file_count(p) + (int64_t)i, f->bytes, f->size,
                                     p->prepared->plan.block_bytes, e);
        }
    }
    return code;
}

static int collect_sums(as_publication *p, as_error *e)
{
    const as_plan *plan = &p->prepared->plan;
    size_t extras = as_extras_count(&p->prepared->extras);
    as_buffer sizes = AS_BUFFER_INIT;
    (void)as_buffer_append(&sizes, plan->file_size, (size_t)plan->file_count * sizeof(int64_t), e);
    for (size_t i = 0; i < extras; i++) {
        int64_t size = as_extras_file(&p->prepared->extras, i)->size;
        (void)as_buffer_append(&sizes, &size, sizeof size, e);
    }
    (void)sum_extras(p, e);
    as_block_files files = {.sizes = (const int64_t *)(const void *)sizes.data,
                            .count = (size_t)plan->file_count + extras,
                            .block_bytes = plan->block_bytes};
    int code = as_block_sums_collect(&p->sums, p->session->comm, &files, p->checksums, e);
    as_buffer_free(&sizes);
    return code;
}

int as_publish(as_publication *p, as_error *e)
{
    int size = as_comm_size(p->session->comm);
    bool sharded = file_count(p) > 1;
    p->writers = calloc((size_t)size, sizeof *p->writers);
    if (!p->writers) {
        (void)as_fail_nomem(e);
    } else {
        p->writers[as_comm_rank(p->session->comm)] = p->prepared->plan.own_bytes;
    }
    if (sharded) {
        (void)as_pattern_index_name(p->prepared->pattern, &p->index, e);
    }
    int code = as_comm_agree(p->session->comm, e);
    if (code == AS_OK) {
        code = as_comm_sum(p->session->comm, p->writers, size, e);
    }
    if (code == AS_OK && p->checksums) {
        code = collect_sums(p, e);
    }
    if (code == AS_OK) {
        p->index_sums.block_bytes = p->prepared->plan.block_bytes;
    }
    return code == AS_OK && sharded ? write_index(p, e) : code;
}

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
    for (int32_t file = 0; file < file_count(p) && code == AS_OK; file++) {
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
        set_sums(p, &f, (size_t)file_count(p) + i);
        code = add_incoming(names, files, x->name, &f, e);
    }
    /* Names move when the list grows: only now they can be borrowed. */
    as_manifest_file *f = (as_manifest_file *)(void *)files->data;
    for (size_t i = 0; i < files->size / sizeof *f; i++) {
        f[i].name = names->items[i];
    }
    return code;
}

/* The manifest tells of no checksum. */
static void drop_sums(as_manifest_part *part, as_manifest_file *files)
{
    for (size_t i = 0; files && i < part->file_count; i++) {
        files[i].sums = NULL;
        files[i].sum_count = 0;
    }
    part->checksum = AS_CHECKSUM_NONE;
}

/* Checksums of tiny blocks can make a manifest that no reader would take: better none of them than
 * a manifest that the next save has to throw away. */
static void drop_many_sums(const as_publication *p, as_manifest_part *part, as_manifest_file *files)
{
    size_t count = 0;
    for (size_t i = 0; files && i < part->file_count; i++) {
        count += files[i].sum_count;
    }
    if (count <= MOST_SUMS) {
        return;
    }
    as_log_say(&p->session->log, AS_LOG_WARNING,
               "the manifest is written without the checksums of %zu blocks, which would make it "
               "too large to read: save with larger blocks",
               count);
    drop_sums(part, files);
}

/* Is the staged file what was written, as storage has it? */
static int read_back(const as_publication *p, const char *name, const as_small_sums *sums,
                     as_error *e)
{
    int folder = -1;
    int fd = -1;
    as_buffer path = AS_BUFFER_INIT;
    int code = as_staged_path(p->directory, name, &path, e);
    code = code == AS_OK ? as_staged_open(p->directory, &folder, e) : code;
    if (code == AS_OK) {
        code = as_staged_open_file(folder, name, O_RDONLY, path.data, &fd, e);
        (void)as_sys_table.close(folder);
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

static int put_manifest(const as_publication *p, const as_buffer *files, const as_names *gone,
                        as_error *e)
{
    char created[64];
    as_utc_text((int64_t)time(NULL), created, sizeof created);
    const as_plan *plan = &p->prepared->plan;
    as_manifest_part part = {
        .part = p->state->part,
        .pattern = p->prepared->pattern,
        .index = p->index,
        .created = created,
        .world_size = as_comm_size(p->session->comm),
        .block_size = plan->block_bytes,
        .checksum = p->checksums ? AS_CHECKSUM_NAME : AS_CHECKSUM_NONE,
        .total_size = plan->total_size,
        .tensor_count = plan->tensor_count,
        .files = (const as_manifest_file *)(const void *)files->data,
        .file_count = files->size / sizeof(as_manifest_file),
        .writers = p->writers,
        .writer_count = (size_t)as_comm_size(p->session->comm),
    };
    as_session_engine(p->session, &part.engine, &part.engine_reason);
    drop_many_sums(p, &part, (as_manifest_file *)(void *)files->data);
    if (p->no_checksums) {
        drop_sums(&part, (as_manifest_file *)(void *)files->data);
    }
    as_buffer old = AS_BUFFER_INIT;
    as_buffer text = AS_BUFFER_INIT;
    bool found = false;
    as_error why = AS_ERROR_INIT;
    int code = as_txn_read(p->txn, AS_MANIFEST_NAME, AS_MANIFEST_LARGEST, &old, &found, &why);
    if (code == AS_INVALID || code == AS_LIMIT) {
        /* A link as in the Hub's cache, or something else that no save of ours left. */
        as_log_say(&p->session->log, AS_LOG_WARNING, "the old manifest is replaced: %s",
                   as_error_text(&why));
        as_error_clear(&why);
        found = false;
    }
    code = as_error_pass(e, &why);
    if (code == AS_OK) {
        code = as_manifest_to_bytes(&part, as_version(), found ? old.data : NULL, old.size, gone,
                                    &p->session->log, &text, e);
    }
    if (code == AS_OK) {
        code = as_txn_put(p->txn, AS_MANIFEST_NAME, text.data, text.size, e);
    }
    if (code == AS_OK && p->read_back) {
        uint64_t sum = as_checksum(text.data, text.size);
        as_small_sums sums = {
            .size = (int64_t)text.size, .block_bytes = (int64_t)text.size, .sums = &sum};
        code = read_back(p, AS_MANIFEST_NAME, &sums, e);
    }
    as_buffer_free(&old);
    as_buffer_free(&text);
    return code;
}

/* Are the staged shards of the sizes that were planned? Whatever came between must not take the
 * place of a good checkpoint. */
static int check_staged(const as_publication *p, as_error *e)
{
    int code = AS_OK;
    for (int32_t file = 0; file < file_count(p) && code == AS_OK; file++) {
        code = as_comm_look(p->session->comm, e);
        if (code != AS_OK) {
            return code;
        }
        char *name = NULL;
        int64_t size = 0;
        code = as_prepared_file_name(p->prepared, file, &name, e);
        code = code == AS_OK ? as_txn_staged_size(p->txn, name, &size, e) : code;
        if (code == AS_OK && size != p->prepared->plan.file_size[file]) {
            code = as_fail(
                e, AS_SYSTEM, 0,
                "%s: the staged file \"%s\" is not the one that was written: %lld bytes, "
                "not %lld; is another program at work in the folder?",
                p->directory, name, (long long)size, (long long)p->prepared->plan.file_size[file]);
        }
        free(name);
    }
    return code;
}

int as_publication_commit(as_publication *p, as_error *e)
{
    as_names listing = AS_NAMES_INIT;
    as_names outgoing = AS_NAMES_INIT;
    as_names incoming = AS_NAMES_INIT;
    as_buffer files = AS_BUFFER_INIT;
    int code = as_txn_list(p->txn, &listing, e);
    if (code == AS_OK) {
        code = as_clean_list(p->prepared->pattern, &listing, &outgoing, e);
    }
    if (code == AS_OK) {
        code = list_incoming(p, &incoming, &files, e);
    }
    if (code == AS_OK && p->read_back) {
        code = read_back_files(p, &files, e);
    }
    if (code == AS_OK) {
        code = put_manifest(p, &files, &outgoing, e);
    }
    if (code == AS_OK) {
        code = as_names_add(&incoming, AS_MANIFEST_NAME, e);
    }
    if (code == AS_OK) {
        code = check_staged(p, e);
    }
    if (code == AS_OK) {
        code = as_txn_commit(p->txn, (const char *const *)incoming.items, incoming.count,
                             (const char *const *)outgoing.items, outgoing.count, e);
    }
    as_names_free(&listing);
    as_names_free(&outgoing);
    as_names_free(&incoming);
    as_buffer_free(&files);
    return code;
}

void as_publication_free(as_publication *p)
{
    free(p->index);
    free(p->writers);
    as_block_sums_free(&p->sums);
    as_sum_stream_free(&p->index_sums);
}
