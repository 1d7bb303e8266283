/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/publish_index.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/sys.h"
#include "comm/collect.h"
#include "commit/staged.h"
#include "format/index.h"

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

/* ---- where the text goes: one of two ---- */

typedef struct sink sink;
struct sink {
    as_publication *publication;
    int (*put)(sink *s, const char *bytes, size_t count, as_error *e);
    as_buffer path; /* of the file, if it is one */
    int fd;
};

static int put_in_memory(sink *s, const char *bytes, size_t count, as_error *e)
{
    return as_buffer_append(&s->publication->index_text, bytes, count, e);
}

static int put_in_file(sink *s, const char *bytes, size_t count, as_error *e)
{
    as_publication *p = s->publication;
    int code = as_publication_look(p, e);
    if (code == AS_OK && count) {
        code = as_write_all(s->fd, bytes, count, p->index_size, s->path.data, e);
        p->index_size += (int64_t)count;
    }
    return code == AS_OK && p->checksums ? as_sum_stream_add(&p->index_sums, bytes, count, e)
                                         : code;
}

static int open_file(sink *s, as_error *e)
{
    as_publication *p = s->publication;
    p->index_size = 0;
    p->index_sums.block_bytes = p->prepared->plan.block_bytes;
    int code = as_staged_path(p->directory, p->index, &s->path, e);
    return code == AS_OK ? as_txn_create(p->txn, p->index, &s->fd, e) : code;
}

static int sync_file(sink *s, as_error *e)
{
    as_publication *p = s->publication;
    int code = as_publication_look(p, e);
    code = code == AS_OK ? as_sync(s->fd, s->path.data, e) : code;
    return code == AS_OK && p->checksums ? as_sum_stream_end(&p->index_sums, e) : code;
}

static void close_file(sink *s)
{
    if (s->fd >= 0) {
        (void)as_sys_table.close(s->fd);
    }
    as_buffer_free(&s->path);
}

/* ---- what comes: beginning, lines of all ranks, end ---- */

static int put_begin(sink *s, as_error *e)
{
    const as_prepared *prepared = s->publication->prepared;
    as_buffer text = AS_BUFFER_INIT;
    as_pairs metadata = AS_PAIRS_INIT;
    int code = as_plan_metadata(&prepared->plan, &prepared->request, &metadata, e);
    if (code == AS_OK) {
        code = as_index_write_begin(&text, prepared->plan.total_size, &metadata, e);
    }
    if (code == AS_OK) {
        code = s->put(s, text.data, text.size, e);
    }
    as_pairs_free(&metadata);
    as_buffer_free(&text);
    return code;
}

static int put_end(sink *s, as_error *e)
{
    as_buffer text = AS_BUFFER_INIT;
    int code = as_index_write_end(&text, false, e);
    if (code == AS_OK) {
        code = s->put(s, text.data, text.size, e);
    }
    as_buffer_free(&text);
    return code;
}

static int take_lines(void *user, int from, const char *bytes, size_t count, as_error *e)
{
    (void)from;
    sink *s = user;
    return s->put(s, bytes, count, e);
}

/* All lines are built before the first is sent. `e` may hold the main process's error already.
 * Collective, but for an agreement at the end. */
static int bring(sink *s, as_error *e)
{
    as_comm *comm = s->publication->comm;
    bool is_main = as_comm_rank(comm) == 0;
    as_buffer lines = AS_BUFFER_INIT;
    int code = e->code == AS_OK ? build_lines(s->publication, &lines, e) : e->code;
    if (is_main && code == AS_OK) {
        (void)put_begin(s, e);
    }
    code = as_comm_collect(comm, &lines, take_lines, s, e);
    if (code == AS_OK && is_main) {
        (void)put_end(s, e);
    }
    as_buffer_free(&lines);
    return code;
}

int as_publish_index_stream(as_publication *p, as_error *e)
{
    bool is_main = as_comm_rank(p->comm) == 0;
    sink s = {.publication = p, .put = put_in_file, .fd = -1};
    if (is_main) {
        (void)open_file(&s, e);
    }
    int code = bring(&s, e);
    if (code == AS_OK && is_main && e->code == AS_OK) {
        (void)sync_file(&s, e);
    }
    close_file(&s);
    return code == AS_OK ? as_comm_agree(p->comm, e) : code;
}

int as_publish_index_gather(as_publication *p, as_error *e)
{
    sink s = {.publication = p, .put = put_in_memory, .fd = -1};
    int code = bring(&s, e);
    return code == AS_OK ? as_comm_agree(p->comm, e) : code;
}

int as_publish_index_write(as_publication *p, as_error *e)
{
    sink s = {.publication = p, .put = put_in_file, .fd = -1};
    int code = open_file(&s, e);
    for (size_t at = 0; at < p->index_text.size && code == AS_OK; at += AS_COLLECT_CHUNK) {
        size_t n = (size_t)as_min_i64(AS_COLLECT_CHUNK, (int64_t)(p->index_text.size - at));
        code = put_in_file(&s, p->index_text.data + at, n, e);
    }
    code = code == AS_OK ? sync_file(&s, e) : code;
    close_file(&s);
    as_buffer_free(&p->index_text);
    return code;
}
