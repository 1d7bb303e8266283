/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/publish.h"

#include <stdlib.h>

#include "format/pattern.h"
#include "transfer/publish_index.h"

/* Checksums of this rank's small files, which follow the shards by number. */
static int sum_extras(const as_publication *p, as_error *e)
{
    const as_extras *extras = &p->prepared->extras;
    int code = AS_OK;
    for (size_t i = 0; i < as_extras_count(extras) && code == AS_OK; i++) {
        const as_extra_file *x = as_extras_file(extras, i);
        const as_small_file *f = as_state_file_find(p->state, x->name);
        if (x->rank == as_comm_rank(p->comm) && f) {
            code = as_block_sums_add(p->checksums, as_publication_files(p) + (int64_t)i, f->bytes,
                                     f->size, p->prepared->plan.block_bytes, e);
        }
    }
    return code;
}

/* What both ways begin with; e may hold this rank's error already. Collective. */
static int begin(as_publication *p, as_error *e)
{
    p->ranks = as_comm_size(p->comm);
    if (as_publication_files(p) > 1 && e->code == AS_OK) {
        (void)as_pattern_index_name(p->prepared->pattern, &p->index, e);
    }
    if (p->checksums && e->code == AS_OK) {
        (void)sum_extras(p, e);
    }
    return as_comm_agree(p->comm, e);
}

static int make_writers(as_publication *p, int ranks, as_error *e)
{
    p->writers = calloc((size_t)ranks, sizeof *p->writers);
    return p->writers ? AS_OK : as_fail_nomem(e);
}

/* The sizes (int64_t[]) of all files whose blocks have checksums: shards, then small files. */
static int list_sizes(const as_publication *p, as_buffer *sizes, as_block_files *files, as_error *e)
{
    const as_plan *plan = &p->prepared->plan;
    size_t extras = as_extras_count(&p->prepared->extras);
    int code = as_buffer_append(sizes, plan->file_size,
                                (size_t)plan->file_count * sizeof *plan->file_size, e);
    for (size_t i = 0; i < extras && code == AS_OK; i++) {
        int64_t size = as_extras_file(&p->prepared->extras, i)->size;
        code = as_buffer_append(sizes, &size, sizeof size, e);
    }
    *files = (as_block_files){.sizes = (const int64_t *)(const void *)sizes->data,
                              .count = (size_t)plan->file_count + extras,
                              .block_bytes = plan->block_bytes};
    return code;
}

static int collect_sums(as_publication *p, as_error *e)
{
    as_buffer sizes = AS_BUFFER_INIT;
    as_block_files files;
    (void)list_sizes(p, &sizes, &files, e);
    int code = as_block_sums_collect(&p->sums, p->comm, &files, p->checksums, e);
    as_buffer_free(&sizes);
    return code;
}

int as_publish(as_publication *p, as_error *e)
{
    int ranks = as_comm_size(p->comm);
    if (make_writers(p, ranks, e) == AS_OK) {
        p->writers[as_comm_rank(p->comm)] = p->prepared->plan.own_bytes;
    }
    int code = begin(p, e);
    if (code == AS_OK) {
        code = as_comm_sum(p->comm, p->writers, ranks, e);
    }
    if (code == AS_OK && p->checksums) {
        code = collect_sums(p, e);
    }
    return code == AS_OK && p->index ? as_publish_index_stream(p, e) : code;
}

int as_publish_early(as_publication *p, as_error *e)
{
    int code = begin(p, e);
    return code == AS_OK && p->index ? as_publish_index_gather(p, e) : code;
}

int as_publish_expect(as_publication *p, as_error *e)
{
    as_buffer sizes = AS_BUFFER_INIT;
    p->ranks = as_comm_size(p->comm);
    int code = make_writers(p, p->ranks, e);
    if (code == AS_OK) {
        p->reported = calloc((size_t)p->ranks, sizeof *p->reported);
        code = p->reported ? AS_OK : as_fail_nomem(e);
    }
    if (code == AS_OK && p->checksums) {
        as_block_files files;
        code = list_sizes(p, &sizes, &files, e);
        code = code == AS_OK ? as_block_sums_begin(&p->sums, &files, e) : code;
    }
    as_buffer_free(&sizes);
    return code;
}

int as_publish_report(as_publication *p, int from, int64_t own_bytes, const void *sums,
                      size_t count, bool last, as_error *e)
{
    if (!p->reported || from < 0 || from >= p->ranks || p->reported[from]) {
        return as_fail(e, AS_INTERNAL, 0,
                       "rank %d reports what it wrote, which is not expected or has come already",
                       from);
    }
    if (own_bytes < 0 || (count && !p->sums.known)) {
        return as_fail(e, AS_INTERNAL, 0, "rank %d reports %lld bytes and %zu checksums", from,
                       (long long)own_bytes, count);
    }
    p->reported[from] = last;
    p->writers[from] += own_bytes;
    return count ? as_block_sums_take(&p->sums, from, sums, count * sizeof(as_block_sum), e)
                 : AS_OK;
}

void as_publication_free(as_publication *p)
{
    free(p->index);
    as_buffer_free(&p->index_text);
    free(p->writers);
    free(p->reported);
    as_block_sums_free(&p->sums);
    as_sum_stream_free(&p->index_sums);
    p->index = NULL;
    p->writers = NULL;
    p->reported = NULL;
}
