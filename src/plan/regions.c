/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/regions.h"

#include <stdlib.h>

#include "base/checked.h"
#include "plan/cover.h"

/* One piece that is not empty, as a stretch of its tensor's line of bytes. */
typedef struct span {
    int64_t begin;
    int64_t end;
    int64_t bytes;
    as_hash geometry; /* of the box in the file */
    as_descriptor d;
} span;

void as_regions_free(as_regions *r)
{
    as_buffer_free(&r->regions);
    as_buffer_free(&r->boxes);
    as_buffer_free(&r->holders);
    as_buffer_free(&r->ranks);
}

static int compare_spans(const void *a, const void *b)
{
    const span *x = a;
    const span *y = b;
    if (x->begin != y->begin) {
        return x->begin < y->begin ? -1 : 1;
    }
    if (x->end != y->end) {
        return x->end < y->end ? -1 : 1;
    }
    int order = as_hash_compare(x->geometry, y->geometry);
    if (order) {
        return order;
    }
    if (x->d.rank != y->d.rank) {
        return x->d.rank < y->d.rank ? -1 : 1;
    }
    return (x->d.words[AS_D_PIECE] > y->d.words[AS_D_PIECE]) -
           (x->d.words[AS_D_PIECE] < y->d.words[AS_D_PIECE]);
}

static bool same_box(const span *x, const span *y)
{
    return x->begin == y->begin && x->end == y->end && as_hash_equal(x->geometry, y->geometry);
}

/* The spans of a tensor, sorted; empty pieces are left out. The caller frees. */
static int make_spans(const as_catalog *c, const as_owned *t, span **out, size_t *count,
                      as_error *e)
{
    *out = NULL;
    *count = 0;
    span *spans = malloc(t->count * sizeof *spans);
    if (!spans) {
        return as_fail_nomem(e);
    }
    size_t n = 0;
    for (size_t i = 0; i < t->count; i++) {
        const as_descriptor *d = as_catalog_descriptor(c, t->first + i);
        as_box box = as_descriptor_box(d);
        as_geometry g;
        int code = as_geometry_file(&box, &g, e);
        if (code != AS_OK) {
            free(spans);
            return code;
        }
        if (g.ndim == 0) {
            continue;
        }
        int64_t words[3 * AS_GEOMETRY_DIMS];
        size_t w = 0;
        for (int k = 0; k < g.ndim; k++) {
            words[w++] = g.global[k];
            words[w++] = g.offset[k];
            words[w++] = g.shape[k];
        }
        spans[n++] = (span){.begin = as_geometry_begin(&g),
                            .end = as_geometry_end(&g),
                            .bytes = as_geometry_bytes(&g),
                            .geometry = as_hash_bytes(words, w * sizeof *words),
                            .d = *d};
    }
    qsort(spans, n, sizeof *spans, compare_spans);
    *out = spans;
    *count = n;
    return AS_OK;
}

static void blame(const as_catalog *c, const as_owned *t, as_fault *fault)
{
    const as_descriptor *d = as_catalog_descriptor(c, t->first);
    fault->rank[0] = d->rank;
    fault->label[0] = d->words[AS_D_PIECE];
}

static int fail_overlap(const span *x, const span *y, as_error *e)
{
    if (x->d.rank == y->d.rank) {
        return as_fail(e, AS_COVERAGE, 0,
                       "tensor " AS_NAME_1 ": two pieces of rank %d hold the same elements",
                       x->d.rank);
    }
    return as_fail(e, AS_COVERAGE, 0,
                   "tensor " AS_NAME_1 ": the boxes of rank %d and rank %d overlap; replicas must "
                   "be the same box",
                   x->d.rank, y->d.rank);
}

static int fail_gap(const as_owned *t, int before, int after, int64_t at, as_error *e)
{
    return as_fail(e, AS_COVERAGE, 0,
                   "tensor " AS_NAME_1 ": no rank declares its bytes from %lld on (of %lld), "
                   "between the pieces of rank %d and rank %d",
                   (long long)at, (long long)t->bytes, before, after);
}

/* spans[first, last) reach into each other: do their boxes fill the stretch exactly? */
static int check_cluster(const as_owned *t, const span *spans, size_t first, size_t last,
                         as_error *e)
{
    as_buffer boxes = AS_BUFFER_INIT;
    as_buffer indexes = AS_BUFFER_INIT;
    int64_t bytes = 0;
    int64_t end = 0;
    int code = AS_OK;
    for (size_t i = first; i < last && code == AS_OK; i++) {
        end = as_max_i64(end, spans[i].end);
        if (i > first && same_box(&spans[i - 1], &spans[i])) {
            if (spans[i - 1].d.rank == spans[i].d.rank) {
                code = fail_overlap(&spans[i - 1], &spans[i], e);
            }
            continue;
        }
        /* Overlapping boxes can sum past any bound; the comparison below only needs "too many". */
        bytes = bytes > t->bytes ? bytes : bytes + spans[i].bytes;
        as_box box = as_descriptor_box(&spans[i].d);
        code = as_buffer_append(&boxes, &box, sizeof box, e);
        if (code == AS_OK) {
            code = as_buffer_append(&indexes, &i, sizeof i, e);
        }
    }
    size_t count = boxes.size / sizeof(as_box);
    bool overlap = false;
    size_t a;
    size_t b;
    if (code == AS_OK && count > 1) {
        code =
            as_cover_overlap((const as_box *)(const void *)boxes.data, count, &overlap, &a, &b, e);
    }
    if (code == AS_OK && overlap) {
        const size_t *at = (const size_t *)(const void *)indexes.data;
        code = fail_overlap(&spans[at[a]], &spans[at[b]], e);
    }
    if (code == AS_OK && bytes != end - spans[first].begin) {
        code = fail_gap(t, spans[first].d.rank, spans[last - 1].d.rank, spans[first].begin, e);
    }
    as_buffer_free(&boxes);
    as_buffer_free(&indexes);
    return code;
}

/* The end of the cluster that begins at `first`. */
static size_t cluster_end(const span *spans, size_t count, size_t first, int64_t *end)
{
    size_t last = first + 1;
    *end = spans[first].end;
    while (last < count && spans[last].begin < *end) {
        *end = as_max_i64(*end, spans[last].end);
        last++;
    }
    return last;
}

static int check_spans(const as_catalog *c, const as_owned *t, const span *spans, size_t count,
                       as_fault *fault, as_error *e)
{
    int64_t at = 0;
    int before = t->source;
    int code = AS_OK;
    for (size_t i = 0; i < count && code == AS_OK;) {
        int64_t end;
        size_t last = cluster_end(spans, count, i, &end);
        code = spans[i].begin > at ? fail_gap(t, before, spans[i].d.rank, at, e)
                                   : check_cluster(t, spans, i, last, e);
        before = spans[last - 1].d.rank;
        at = end;
        i = last;
    }
    if (code == AS_OK && at < t->bytes) {
        code = fail_gap(t, before, t->source, at, e);
    }
    if (code != AS_OK) {
        blame(c, t, fault);
    }
    return code;
}

static int compare_ranks(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a;
    int32_t y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Sorts the region's ranks, keeps each once and hashes them. */
static void close_ranks(as_regions *r, as_region *region)
{
    int32_t *ranks = (int32_t *)(void *)r->ranks.data + region->ranks_at;
    size_t count = r->ranks.size / sizeof *ranks - region->ranks_at;
    qsort(ranks, count, sizeof *ranks, compare_ranks);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || ranks[kept - 1] != ranks[i]) {
            ranks[kept++] = ranks[i];
        }
    }
    region->rank_count = kept;
    r->ranks.size = (region->ranks_at + kept) * sizeof *ranks;
    region->group = as_hash_bytes(ranks, kept * sizeof *ranks);
}

static int add_holder(as_regions *r, int32_t rank, int64_t piece, as_error *e)
{
    as_holder h = {.rank = rank, .piece = piece};
    int code = as_buffer_append(&r->holders, &h, sizeof h, e);
    return code == AS_OK ? as_buffer_append(&r->ranks, &rank, sizeof rank, e) : code;
}

static as_region open_region(const as_regions *r)
{
    return (as_region){.boxes_at = r->boxes.size / sizeof(as_region_box),
                       .ranks_at = r->ranks.size / sizeof(int32_t)};
}

static int close_region(as_regions *r, as_region *region, as_error *e)
{
    close_ranks(r, region);
    return as_buffer_append(&r->regions, region, sizeof *region, e);
}

/* One region of spans[first, last), which reach up to `end`. */
static int add_cluster(as_regions *r, const as_owned *t, const span *spans, size_t first,
                       size_t last, int64_t end, as_error *e)
{
    as_region region = open_region(r);
    region.file = t->file;
    region.name = t->name;
    region.tensor_at = t->offset;
    region.low = t->offset + spans[first].begin;
    region.high = t->offset + end;
    int64_t missing = end - spans[first].begin;
    int code = AS_OK;
    for (size_t i = first; i < last && code == AS_OK; region.box_count++) {
        missing -= as_min_i64(missing, spans[i].bytes);
        as_region_box box = {.descriptor = spans[i].d,
                             .holders_at = r->holders.size / sizeof(as_holder)};
        size_t k = i;
        for (; k < last && same_box(&spans[i], &spans[k]) && code == AS_OK; k++) {
            code = add_holder(r, spans[k].d.rank, spans[k].d.words[AS_D_PIECE], e);
        }
        box.holder_count = k - i;
        i = k;
        if (code == AS_OK) {
            code = as_buffer_append(&r->boxes, &box, sizeof box, e);
        }
    }
    region.holes = missing > 0; /* overlapping boxes may hide some: these are read in vain */
    return code == AS_OK ? close_region(r, &region, e) : code;
}

int as_regions_add(as_regions *r, const as_catalog *c, const as_owned *t, bool must_cover,
                   as_fault *fault, as_error *e)
{
    span *spans;
    size_t count;
    int code = make_spans(c, t, &spans, &count, e);
    if (code != AS_OK) {
        return code;
    }
    if (must_cover) {
        code = check_spans(c, t, spans, count, fault, e);
    }
    for (size_t i = 0; i < count && code == AS_OK;) {
        int64_t end;
        size_t last = cluster_end(spans, count, i, &end);
        code = add_cluster(r, t, spans, i, last, end, e);
        i = last;
    }
    free(spans);
    return code;
}

int as_regions_add_literal(as_regions *r, int rank, size_t index, int file, int64_t low,
                           int64_t bytes, as_error *e)
{
    as_region region = open_region(r);
    region.file = file;
    region.tensor_at = low;
    region.low = low;
    region.high = low + bytes;
    region.box_count = 1;
    as_region_box box = {.holders_at = r->holders.size / sizeof(as_holder), .holder_count = 1};
    int code = add_holder(r, rank, -1 - (int64_t)index, e);
    if (code == AS_OK) {
        code = as_buffer_append(&r->boxes, &box, sizeof box, e);
    }
    return code == AS_OK ? close_region(r, &region, e) : code;
}
