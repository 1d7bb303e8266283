/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/regions.h"

#include "base/checked.h"
#include "plan/cover.h"
#include "plan/sort.h"

/* One piece that is not empty, as a stretch of its tensor's line of bytes. */
typedef struct span {
    int64_t begin;
    int64_t end;
    int64_t bytes;
    as_hash geometry;    /* of the box in the file; zero if it is all of the stretch */
    uint32_t descriptor; /* number in the catalog: ascending by rank, then piece */
    int32_t rank;
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
    return (x->descriptor > y->descriptor) - (x->descriptor < y->descriptor);
}

static bool same_box(const span *x, const span *y)
{
    return x->begin == y->begin && x->end == y->end && as_hash_equal(x->geometry, y->geometry);
}

static as_hash hash_geometry(const as_geometry *g)
{
    int64_t words[3 * AS_GEOMETRY_DIMS];
    size_t w = 0;
    for (int k = 0; k < g->ndim; k++) {
        words[w++] = g->global[k];
        words[w++] = g->offset[k];
        words[w++] = g->shape[k];
    }
    return as_hash_bytes(words, w * sizeof *words);
}

/* The spans of a tensor, sorted; empty pieces are left out. */
static int make_spans(const as_catalog *c, const as_owned *t, as_buffer *out, as_error *e)
{
    int code = as_buffer_reserve(out, t->count * sizeof(span), e);
    for (size_t i = t->first; i < t->first + t->count && code == AS_OK; i++) {
        const as_descriptor *d = as_catalog_descriptor(c, i);
        as_dims room;
        as_box box = as_descriptor_box(d, &room);
        as_geometry g;
        code = as_geometry_file(&box, &g, e);
        if (code != AS_OK || g.ndim == 0) {
            continue;
        }
        span s = {.begin = as_geometry_begin(&g),
                  .end = as_geometry_end(&g),
                  .bytes = as_geometry_bytes(&g),
                  .geometry = g.ndim > 1 ? hash_geometry(&g) : (as_hash){0},
                  .descriptor = (uint32_t)i,
                  .rank = d->rank};
        code = as_buffer_append(out, &s, sizeof s, e);
    }
    if (code == AS_OK) {
        as_sort(out->data, out->size / sizeof(span), sizeof(span), compare_spans);
    }
    return code;
}

static void blame(const as_catalog *c, const as_owned *t, as_fault *fault)
{
    const as_descriptor *d = as_catalog_descriptor(c, t->first);
    fault->rank[0] = d->rank;
    fault->label[0] = as_descriptor_piece(d);
}

static int fail_overlap(const span *x, const span *y, as_error *e)
{
    if (x->rank == y->rank) {
        return as_fail(e, AS_COVERAGE, 0,
                       "tensor " AS_NAME_1 ": two pieces of rank %d hold the same elements",
                       x->rank);
    }
    return as_fail(e, AS_COVERAGE, 0,
                   "tensor " AS_NAME_1 ": the boxes of rank %d and rank %d overlap; replicas must "
                   "be the same box",
                   x->rank, y->rank);
}

static int fail_gap(const as_owned *t, int before, int after, int64_t at, as_error *e)
{
    return as_fail(e, AS_COVERAGE, 0,
                   "tensor " AS_NAME_1 ": no rank declares its bytes from %lld on (of %lld), "
                   "between the pieces of rank %d and rank %d",
                   (long long)at, (long long)t->bytes, before, after);
}

/* spans[first, last) reach into each other: do their boxes fill the stretch exactly? */
static int check_cluster(const as_catalog *c, const as_owned *t, const span *spans, size_t first,
                         size_t last, as_error *e)
{
    if (last - first == 1) {
        return spans[first].bytes == spans[first].end - spans[first].begin
                   ? AS_OK
                   : fail_gap(t, spans[first].rank, spans[first].rank, spans[first].begin, e);
    }
    as_buffer rooms = AS_BUFFER_INIT;
    as_buffer boxes = AS_BUFFER_INIT;
    as_buffer indexes = AS_BUFFER_INIT;
    int64_t bytes = 0;
    int64_t end = 0;
    int code = as_buffer_reserve(&rooms, (last - first) * sizeof(as_dims), e); /* never moves */
    for (size_t i = first; i < last && code == AS_OK; i++) {
        end = as_max_i64(end, spans[i].end);
        if (i > first && same_box(&spans[i - 1], &spans[i])) {
            if (spans[i - 1].rank == spans[i].rank) {
                code = fail_overlap(&spans[i - 1], &spans[i], e);
            }
            continue;
        }
        /* Overlapping boxes can sum past any bound; the comparison below only needs "too many". */
        bytes = bytes > t->bytes ? bytes : bytes + spans[i].bytes;
        void *room = NULL;
        code = as_buffer_extend(&rooms, sizeof(as_dims), &room, e);
        if (code == AS_OK) {
            as_box box = as_descriptor_box(as_catalog_descriptor(c, spans[i].descriptor), room);
            code = as_buffer_append(&boxes, &box, sizeof box, e);
        }
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
        code = fail_gap(t, spans[first].rank, spans[last - 1].rank, spans[first].begin, e);
    }
    as_buffer_free(&rooms);
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
        code = spans[i].begin > at ? fail_gap(t, before, spans[i].rank, at, e)
                                   : check_cluster(c, t, spans, i, last, e);
        before = spans[last - 1].rank;
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

/* Sorts the region's ranks and keeps each once. */
static void close_ranks(as_regions *r, as_region *region)
{
    int32_t *ranks = (int32_t *)(void *)r->ranks.data + region->ranks_at;
    size_t count = r->ranks.size / sizeof *ranks - region->ranks_at;
    as_sort(ranks, count, sizeof *ranks, compare_ranks);
    uint32_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || ranks[kept - 1] != ranks[i]) {
            ranks[kept++] = ranks[i];
        }
    }
    region->rank_count = kept & INT32_MAX;
    r->ranks.size = (region->ranks_at + kept) * sizeof *ranks;
}

static int add_holder(as_regions *r, int32_t rank, uint32_t descriptor, as_error *e)
{
    int code = as_buffer_append(&r->holders, &descriptor, sizeof descriptor, e);
    return code == AS_OK ? as_buffer_append(&r->ranks, &rank, sizeof rank, e) : code;
}

static as_region open_region(const as_regions *r)
{
    return (as_region){.boxes_at = (uint32_t)(r->boxes.size / sizeof(as_region_box)),
                       .ranks_at = (uint32_t)(r->ranks.size / sizeof(int32_t))};
}

static as_region_box open_box(const as_regions *r)
{
    return (as_region_box){.holders_at = (uint32_t)(r->holders.size / sizeof(uint32_t))};
}

static int close_box(as_regions *r, as_region *region, as_region_box *box, as_error *e)
{
    box->holder_count = (uint32_t)(r->holders.size / sizeof(uint32_t)) - box->holders_at;
    region->box_count++;
    return as_buffer_append(&r->boxes, box, sizeof *box, e);
}

static int close_region(as_regions *r, as_region *region, as_error *e)
{
    close_ranks(r, region);
    return as_buffer_append(&r->regions, region, sizeof *region, e);
}

/* One region of spans[first, last), which reach up to `end`. */
static int add_cluster(as_regions *r, const as_owned *t, size_t tensor, const span *spans,
                       size_t first, size_t last, int64_t end, as_error *e)
{
    as_region region = open_region(r);
    region.file = t->file;
    region.tensor = (uint32_t)tensor;
    region.low = t->offset + spans[first].begin;
    region.high = t->offset + end;
    int64_t missing = end - spans[first].begin;
    int code = AS_OK;
    for (size_t i = first; i < last && code == AS_OK;) {
        missing -= as_min_i64(missing, spans[i].bytes);
        as_region_box box = open_box(r);
        size_t k = i;
        for (; k < last && same_box(&spans[i], &spans[k]) && code == AS_OK; k++) {
            code = add_holder(r, spans[k].rank, spans[k].descriptor, e);
        }
        i = k;
        if (code == AS_OK) {
            code = close_box(r, &region, &box, e);
        }
    }
    region.holes = missing > 0; /* overlapping boxes may hide some: these are read in vain */
    return code == AS_OK ? close_region(r, &region, e) : code;
}

int as_regions_add(as_regions *r, const as_catalog *c, size_t tensor, bool must_cover,
                   as_fault *fault, as_error *e)
{
    const as_owned *t = as_catalog_tensor(c, tensor);
    as_buffer all = AS_BUFFER_INIT;
    int code = make_spans(c, t, &all, e);
    const span *spans = (const span *)(const void *)all.data;
    size_t count = all.size / sizeof *spans;
    if (code == AS_OK && must_cover) {
        code = check_spans(c, t, spans, count, fault, e);
    }
    for (size_t i = 0; i < count && code == AS_OK;) {
        int64_t end;
        size_t last = cluster_end(spans, count, i, &end);
        code = add_cluster(r, t, tensor, spans, i, last, end, e);
        i = last;
    }
    as_buffer_free(&all);
    return code;
}

int as_regions_add_literal(as_regions *r, int rank, size_t index, int file, int64_t low,
                           int64_t bytes, as_error *e)
{
    as_region region = open_region(r);
    region.file = file;
    region.tensor = AS_REGION_LITERAL;
    region.low = low;
    region.high = low + bytes;
    as_region_box box = open_box(r);
    int code = add_holder(r, rank, (uint32_t)index, e);
    if (code == AS_OK) {
        code = close_box(r, &region, &box, e);
    }
    return code == AS_OK ? close_region(r, &region, e) : code;
}
