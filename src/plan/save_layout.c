/* SPDX-License-Identifier: Apache-2.0
 * Split and headers: from rows to files, and where each tensor lies in them.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "plan/save_steps.h"
#include "plan/split.h"

/* Source → builder of a file; shape and name follow. */
enum {
    NAMED_FILE = 0,
    NAMED_PLACE = 1,
    NAMED_HASH = 2, /* 2 words: of the name */
    NAMED_BYTES = 4,
    NAMED_DTYPE = 5,
    NAMED_NDIM = 6,
    NAMED_HEAD = 7
};
/* Builder → owner. */
enum { PLACED_NAME = 0, PLACED_FILE = 2, PLACED_OFFSET = 3, PLACED_WORDS = 4 };

/* All tensors of no bytes share torch's storage (cpu, 0, 0), and so stay together. */
enum { EMPTY_STORAGE = 1 };

static as_hash row_name(const as_row *r)
{
    return (as_hash){.high = r->name[0], .low = r->name[1]};
}

static int compare_rows(const void *a, const void *b)
{
    const as_row *x = a;
    const as_row *y = b;
    if (x->order != y->order) {
        return x->order < y->order ? -1 : 1;
    }
    return as_hash_compare(row_name(x), row_name(y));
}

/* The index of the first piece of that name, on the rank that declares it. */
static int64_t piece_of(const as_planner *p, const as_row *r)
{
    size_t at = as_state_find(p->state, p->sorted, row_name(r));
    return at < as_state_count(p->state) ? (int64_t)p->sorted[at] : 0;
}

/* Every rank sees the same rows and finds the same fault; the source of each tensor fills in
 * where its name is to be had. */
static int fail_order(as_planner *p, const as_row *a, const as_row *b, as_error *e)
{
    if (p->rank != a->source) {
        return AS_OK;
    }
    p->fault.rank[0] = a->source;
    p->fault.label[0] = piece_of(p, a);
    if (!a->keyed) {
        return as_fail(e, AS_INVALID, 0,
                       "tensor " AS_NAME_1 " (rank %d) has no order key, but others have (one of "
                       "rank %d): give every tensor one, or none",
                       a->source, b->source);
    }
    return as_fail(e, AS_INVALID, 0,
                   "tensor " AS_NAME_1 " (rank %d) has the order key %lld, and so has another "
                   "tensor (of rank %d): give every tensor its own",
                   a->source, (long long)a->order, b->source);
}

static int check_order(as_planner *p, const as_row *rows, size_t count, as_error *e)
{
    if (count == 0) {
        return as_fail(e, AS_EMPTY, 0,
                       "no rank declares a tensor: there is nothing to save, and the folder is "
                       "left as it is");
    }
    const as_row *keyed = NULL;
    const as_row *bare = NULL;
    for (size_t i = 0; i < count; i++) {
        const as_row *r = &rows[i];
        const as_row **kind = r->keyed ? &keyed : &bare;
        *kind = *kind ? *kind : r;
        if (i > 0 && r->keyed && rows[i - 1].keyed && rows[i - 1].order == r->order) {
            return fail_order(p, &rows[i - 1], r, e);
        }
    }
    return keyed && bare ? fail_order(p, bare, keyed, e) : AS_OK;
}

/* Tells the builder name and shape of a tensor that this rank is the source of. */
static int put_named(const as_planner *p, const as_row *row, const as_split_item *item,
                     int32_t file_count, as_buffer *out, as_error *e)
{
    size_t piece = (size_t)piece_of(p, row);
    as_box box = as_state_box(p->state, piece);
    const char *name = as_state_name(p->state, piece);
    as_buffer *to = &out[as_plan_builder(item->shard, file_count, p->size)];
    int64_t head[NAMED_HEAD] = {[NAMED_FILE] = item->shard,
                                [NAMED_PLACE] = item->place,
                                [NAMED_HASH] = (int64_t)row->name[0],
                                [NAMED_HASH + 1] = (int64_t)row->name[1],
                                [NAMED_BYTES] = row->bytes,
                                [NAMED_DTYPE] = row->dtype,
                                [NAMED_NDIM] = box.ndim};
    int code = as_words_put(to, head, NAMED_HEAD, e);
    if (code == AS_OK) {
        code = as_words_put(to, box.shape, (size_t)box.ndim, e);
    }
    return code == AS_OK ? as_words_put_bytes(to, name, strlen(name), e) : code;
}

/* The same on every rank; what it is the source of, a rank tells the builders. */
static int split_rows(as_planner *p, const as_row *rows, size_t count, as_buffer *out, as_error *e)
{
    as_split_item *items = calloc(count ? count : 1, sizeof *items);
    if (!items) {
        return as_fail_nomem(e);
    }
    for (size_t i = 0; i < count; i++) {
        items[i].bytes = rows[i].bytes;
        items[i].storage = items[i].bytes == 0 ? EMPTY_STORAGE : 0;
    }
    as_split_result split;
    int code = as_split(items, count, p->save->limit, &split, e);
    p->plan.file_count = split.shard_count;
    p->plan.total_size = split.total_size;
    p->plan.tensor_count = (int64_t)count;
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        if (rows[i].source == p->rank) {
            code = put_named(p, &rows[i], &items[i], split.shard_count, out, e);
        }
    }
    free(items);
    return code;
}

/* In a simulation the rank before has sorted them. */
static void sort_rows(as_row *rows, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        if (compare_rows(&rows[i - 1], &rows[i]) > 0) {
            qsort(rows, count, sizeof *rows, compare_rows);
            return;
        }
    }
}

int as_save_split(as_planner *p, as_mail *mail, as_error *e)
{
    as_row *rows = (as_row *)(void *)mail->in.data;
    size_t count = mail->in.size / sizeof *rows;
    sort_rows(rows, count);
    int code = check_order(p, rows, count, e);
    return code == AS_OK ? split_rows(p, rows, count, mail->out, e) : code;
}

/* A tensor as its builder hears of it. */
typedef struct named {
    const int64_t *head;
    const char *name;
    size_t length;
} named;

static int compare_named(const void *a, const void *b)
{
    const int64_t *x = ((const named *)a)->head;
    const int64_t *y = ((const named *)b)->head;
    for (int k = NAMED_FILE; k <= NAMED_PLACE; k++) {
        if (x[k] != y[k]) {
            return x[k] < y[k] ? -1 : 1;
        }
    }
    return 0;
}

static int take_named(const as_mail *mail, as_buffer *out, as_error *e)
{
    as_words w = as_words_of(mail->in.data, mail->in.size);
    const int64_t *head;
    int code = AS_OK;
    while (code == AS_OK && (head = as_words_take(&w, NAMED_HEAD))) {
        named n = {.head = head};
        bool whole = as_words_take(&w, (size_t)head[NAMED_NDIM]) || head[NAMED_NDIM] == 0;
        n.name = whole ? as_words_take_bytes(&w, &n.length) : NULL;
        code = n.name ? as_buffer_append(out, &n, sizeof n, e)
                      : as_fail(e, AS_INTERNAL, 0, "a message with a tensor name is cut off");
    }
    if (out->size) {
        qsort(out->data, out->size / sizeof(named), sizeof(named), compare_named);
    }
    return code;
}

/* huggingface_hub: shards carry the format alone; a single file also what the user gave and
 * the names that were dropped, which otherwise go into the index. */
static int header_metadata(const as_planner *p, as_pairs *out, as_error *e)
{
    int code = as_pairs_set(out, "format", 6, "pt", 2, e);
    return code == AS_OK && p->plan.file_count == 1 ? as_plan_metadata(&p->plan, p->save, out, e)
                                                    : code;
}

static int keep_names(as_planner *p, int32_t file, int64_t size, const named *tensors, size_t count,
                      as_error *e)
{
    as_built_file built = {.file = file, .size = size, .tensor_count = count};
    int code = AS_OK;
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        code = as_buffer_append(&built.names, tensors[i].name, tensors[i].length, e);
        if (code == AS_OK) {
            code = as_buffer_char(&built.names, '\0', e);
        }
    }
    if (code == AS_OK) {
        code = as_buffer_append(&p->plan.built, &built, sizeof built, e);
    }
    if (code != AS_OK) {
        as_buffer_free(&built.names);
    }
    return code;
}

/* The layout's literals become the plan's, and regions that this rank holds. */
static int keep_literals(as_planner *p, int32_t file, as_file_layout *layout, as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; i < layout->literal_count && code == AS_OK; i++) {
        as_literal *l = &layout->literals[i];
        size_t index = p->plan.literals.size / sizeof(as_plan_literal);
        as_plan_literal kept = {.file = file,
                                .offset = (int64_t)l->offset,
                                .size = (int64_t)l->size,
                                .bytes = l->bytes};
        code = as_buffer_append(&p->plan.literals, &kept, sizeof kept, e);
        if (code == AS_OK) {
            l->bytes = NULL; /* moved */
            code = as_regions_add_literal(&p->schedule.regions, p->rank, index, file, kept.offset,
                                          kept.size, e);
        }
    }
    return code;
}

static int tell_places(const as_planner *p, int32_t file, const named *tensors,
                       const as_format_tensor *placed, size_t count, as_buffer *out, as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        const int64_t *name = tensors[i].head + NAMED_HASH;
        int64_t words[PLACED_WORDS] = {[PLACED_NAME] = name[0],
                                       [PLACED_NAME + 1] = name[1],
                                       [PLACED_FILE] = file,
                                       [PLACED_OFFSET] = (int64_t)placed[i].offset};
        code =
            as_words_put(&out[as_hash_owner(as_words_hash(name), p->size)], words, PLACED_WORDS, e);
    }
    return code;
}

/* Lays out one file from its tensors in the order of the index. */
static int build_file(as_planner *p, const named *tensors, size_t count, as_mail *mail, as_error *e)
{
    int32_t file = (int32_t)tensors[0].head[NAMED_FILE];
    as_format_tensor *placed = calloc(count, sizeof *placed);
    if (!placed) {
        return as_fail_nomem(e);
    }
    for (size_t i = 0; i < count; i++) {
        const int64_t *head = tensors[i].head;
        placed[i] = (as_format_tensor){
            .name = tensors[i].name,
            .name_length = tensors[i].length,
            .shape = (const uint64_t *)(const void *)(head + NAMED_HEAD),
            .ndim = (int)head[NAMED_NDIM],
            .dtype = (int)head[NAMED_DTYPE],
            .bytes = (uint64_t)head[NAMED_BYTES],
        };
    }
    as_pairs metadata = AS_PAIRS_INIT;
    as_file_layout layout = {0};
    int code = header_metadata(p, &metadata, e);
    if (code == AS_OK) {
        code = p->save->format->layout(placed, count, &metadata, p->save->align, &layout, e);
    }
    if (code == AS_OK) {
        code = keep_names(p, file, (int64_t)layout.file_size, tensors, count, e);
    }
    if (code == AS_OK) {
        code = keep_literals(p, file, &layout, e);
    }
    if (code == AS_OK) {
        code = tell_places(p, file, tensors, placed, count, mail->out, e);
    }
    as_file_layout_free(&layout);
    as_pairs_free(&metadata);
    free(placed);
    return code;
}

int as_save_headers(as_planner *p, as_mail *mail, as_error *e)
{
    as_buffer all = AS_BUFFER_INIT;
    int code = take_named(mail, &all, e);
    const named *tensors = (const named *)(const void *)all.data;
    size_t count = all.size / sizeof *tensors;
    for (size_t first = 0; first < count && code == AS_OK;) {
        size_t last = first + 1;
        while (last < count && tensors[last].head[NAMED_FILE] == tensors[first].head[NAMED_FILE]) {
            last++;
        }
        code = build_file(p, tensors + first, last - first, mail, e);
        first = last;
    }
    as_buffer_free(&all);
    return code;
}

int as_save_sizes(as_planner *p, as_mail *mail, as_error *e)
{
    as_words w = as_words_of(mail->in.data, mail->in.size);
    const int64_t *placed;
    while ((placed = as_words_take(&w, PLACED_WORDS))) {
        as_owned *t = as_catalog_find(&p->catalog, as_words_hash(placed + PLACED_NAME));
        if (!t) {
            return as_fail(e, AS_INTERNAL, 0, "a place came for a tensor that is not here");
        }
        t->file = (int32_t)placed[PLACED_FILE];
        t->offset = placed[PLACED_OFFSET];
    }
    int code = AS_OK;
    for (size_t i = 0; i < as_plan_built_count(&p->plan) && code == AS_OK; i++) {
        const as_built_file *b = as_plan_built(&p->plan, i);
        code = as_planner_share_size(mail, b->file, b->size, e);
    }
    return code;
}

int as_save_regions(as_planner *p, as_mail *mail, as_error *e)
{
    int code = as_planner_take_sizes(p, mail, e);
    for (size_t i = 0; i < as_catalog_count(&p->catalog) && code == AS_OK; i++) {
        const as_owned *t = as_catalog_tensor(&p->catalog, i);
        if (!t->dropped) {
            code = as_regions_add(&p->schedule.regions, &p->catalog, t, true, &p->fault, e);
        }
    }
    return code == AS_OK ? as_schedule_ask(&p->schedule, mail, e) : code;
}
