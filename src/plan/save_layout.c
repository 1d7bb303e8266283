/* SPDX-License-Identifier: Apache-2.0
 * Split and headers: from rows to files, and where each tensor lies in them.
 */
#include <string.h>

#include "plan/rows.h"
#include "plan/save_steps.h"
#include "plan/sort.h"
#include "plan/split.h"

/* Teller → builder of a file; shape and name follow. */
enum {
    NAMED_PLACE = 0, /* file (32 bits, the higher), place in it (32): sorts by both */
    NAMED_HASH = 1,  /* 2 words: of the name */
    NAMED_BYTES = 3,
    NAMED_KIND = 4, /* dtype (8), ndim (8) */
    NAMED_HEAD = 5
};
/* Builder → owner. */
enum { PLACED_NAME = 0, PLACED_FILE = 2, PLACED_OFFSET = 3, PLACED_WORDS = 4 };

bool as_save_leaves_out(const as_state *s, size_t i)
{
    const as_piece *p = as_state_piece(s, i);
    if (p->order == 0 || p->bytes == 0) {
        return false;
    }
    as_box box = as_state_box(s, i);
    if (box.flat) {
        return box.flat_count == 0;
    }
    for (int d = 0; d < box.ndim; d++) {
        if (box.local[d] == 0) {
            return true;
        }
    }
    return false;
}

/* Every rank sees the same rows and finds the same fault; the teller of each tensor fills in
 * where its name is to be had. */
static int fail_order(as_planner *p, const as_row *a, const as_row *b, as_error *e)
{
    if (p->rank != a->teller) {
        return AS_OK;
    }
    p->fault.rank[0] = a->teller;
    p->fault.label[0] = a->piece;
    if (!as_row_keyed(a)) {
        return as_fail(e, AS_INVALID, 0,
                       "tensor " AS_NAME_1 " (rank %d) has no order key, but others have (one of "
                       "rank %d): give every tensor one, or none",
                       a->teller, b->teller);
    }
    return as_fail(e, AS_INVALID, 0,
                   "tensor " AS_NAME_1 " (rank %d) has the order key %lld, and so has another "
                   "tensor (of rank %d): give every tensor its own",
                   a->teller, (long long)a->order, b->teller);
}

static int check_order(as_planner *p, const as_row *rows, size_t count, as_error *e)
{
    const as_row *keyed = NULL;
    const as_row *bare = NULL;
    const as_row *before = NULL;
    for (size_t i = 0; i < count; i++) {
        const as_row *r = &rows[i];
        if (as_row_dropped(r)) {
            continue;
        }
        if (!as_row_keyed(r)) {
            bare = bare ? bare : r;
            continue;
        }
        keyed = keyed ? keyed : r;
        if (before && before->order == r->order) {
            return fail_order(p, before, r, e);
        }
        before = r;
    }
    if (!keyed && !bare) {
        return as_fail(e, AS_EMPTY, 0,
                       "no rank declares a tensor: there is nothing to save, and the folder is "
                       "left as it is");
    }
    return keyed && bare ? fail_order(p, bare, keyed, e) : AS_OK;
}

/* An empty piece was left out, and nobody has told of the same tensor: why? */
static int fail_left_out(as_planner *p, const as_state *s, size_t piece, const as_row *rows,
                         size_t count, as_error *e)
{
    const as_piece *own = as_state_piece(s, piece);
    p->fault.rank[0] = p->rank;
    p->fault.label[0] = (int64_t)piece;
    for (size_t i = 0; i < count; i++) {
        if (rows[i].name == own->name.low && rows[i].order != own->order) {
            return as_fail(e, AS_MISMATCH, 0,
                           "tensor " AS_NAME_1
                           ": rank %d declares order key %lld, rank %d declares "
                           "%lld",
                           p->rank, (long long)own->order, rows[i].teller,
                           (long long)(as_row_keyed(&rows[i]) ? rows[i].order : 0));
        }
        if (rows[i].name == own->name.low) {
            return as_fail(
                e, AS_MISMATCH, 0,
                "tensor " AS_NAME_1 ": rank %d declares a dtype and shape of %lld bytes, "
                "rank %d of %lld",
                p->rank, (long long)own->bytes, rows[i].teller, (long long)as_row_bytes(&rows[i]));
        }
    }
    return as_fail(e, AS_COVERAGE, 0,
                   "tensor " AS_NAME_1
                   ": no rank declares its bytes from 0 on (of %lld); what rank "
                   "%d declares is empty",
                   (long long)own->bytes, p->rank);
}

/* The tensors of empty pieces that were left out must be those that others have told of. A rank
 * that declares all tensors sees it from a sum; else each is looked up. */
static int check_left_out(as_planner *p, const as_row *rows, size_t count, as_error *e)
{
    if (p->left_out == 0) {
        return AS_OK;
    }
    uint64_t mark = 0;
    for (size_t i = 0; i < count; i++) {
        mark += as_row_mark(rows[i].order, (as_hash){.low = rows[i].name}, as_row_bytes(&rows[i]));
    }
    if (p->declared == count && p->declared_mark == mark) {
        return AS_OK;
    }
    const as_state *s;
    int code = as_planner_state(p, &s, e);
    for (size_t i = 0; code == AS_OK && i < as_state_count(s); i++) {
        const as_piece *own = as_state_piece(s, i);
        if (as_save_leaves_out(s, i) &&
            !as_rows_find(rows, count, own->order, own->name, own->bytes)) {
            code = fail_left_out(p, s, i, rows, count, e);
        }
    }
    return code;
}

/* Tells the builder name and shape of a tensor. */
static int put_named(const as_planner *p, const as_state *s, const as_row *row,
                     const as_split_place *at, as_buffer *out, as_error *e)
{
    const as_piece *piece = as_state_piece(s, row->piece);
    as_box box = as_state_box(s, row->piece);
    const char *name = as_state_name(s, row->piece);
    as_buffer *to = &out[as_plan_builder(at->shard, p->plan.file_count, p->size)];
    int64_t head[NAMED_HEAD] = {[NAMED_PLACE] = (int64_t)at->shard << 32 | at->place,
                                [NAMED_HASH] = (int64_t)piece->name.high,
                                [NAMED_HASH + 1] = (int64_t)piece->name.low,
                                [NAMED_BYTES] = piece->bytes,
                                [NAMED_KIND] = piece->dtype | (int64_t)box.ndim << 8};
    int code = as_words_put(to, head, NAMED_HEAD, e);
    if (code == AS_OK) {
        code = as_words_put(to, box.shape, (size_t)box.ndim, e);
    }
    return code == AS_OK ? as_words_put_bytes(to, name, strlen(name), e) : code;
}

/* What this rank is the teller of, it tells the builders. */
static int put_all_named(as_planner *p, const as_row *rows, const as_splitter *split,
                         as_buffer *out, as_error *e)
{
    size_t at = 0; /* among the rows, dropped ones included, which the splitter has not seen */
    size_t item = 0;
    const as_state *s = NULL;
    int code = as_splitter_count(split) ? as_planner_state(p, &s, e) : AS_OK;
    for (size_t i = 0; i < as_splitter_count(split) && code == AS_OK; i++) {
        const as_split_place *place = as_splitter_place(split, i);
        for (; as_row_dropped(&rows[at]) || item < place->item; at++) {
            item += !as_row_dropped(&rows[at]);
        }
        code = put_named(p, s, &rows[at], place, out, e);
    }
    return code;
}

/* The same on every rank, but for the places that it keeps. */
static int split_rows(as_planner *p, const as_row *rows, size_t count, as_buffer *out, as_error *e)
{
    as_splitter split;
    as_splitter_init(&split, p->save->limit);
    int code = AS_OK;
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        if (!as_row_dropped(&rows[i])) {
            code = as_splitter_add(&split, as_row_bytes(&rows[i]), rows[i].teller == p->rank, e);
        }
    }
    as_split_result result = {0};
    if (code == AS_OK) {
        code = as_splitter_end(&split, &result, e);
    }
    p->plan.file_count = result.shard_count;
    p->plan.total_size = result.total_size;
    p->plan.tensor_count = (int64_t)split.count;
    if (code == AS_OK) {
        code = put_all_named(p, rows, &split, out, e);
    }
    as_splitter_free(&split);
    return code;
}

int as_save_split(as_planner *p, as_mail *mail, as_error *e)
{
    as_row *rows = (as_row *)(void *)mail->in.data;
    size_t count = mail->in.size / sizeof *rows;
    as_rows_sort(rows, count); /* in a simulation the rank before has done so */
    int code = check_left_out(p, rows, count, e);
    if (code == AS_OK) {
        code = check_order(p, rows, count, e);
    }
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
    int64_t x = ((const named *)a)->head[NAMED_PLACE];
    int64_t y = ((const named *)b)->head[NAMED_PLACE];
    return (x > y) - (x < y);
}

static int32_t named_file(const named *n)
{
    return (int32_t)(n->head[NAMED_PLACE] >> 32);
}

static size_t named_ndim(const int64_t *head)
{
    return (size_t)(head[NAMED_KIND] >> 8);
}

static int take_named(const as_mail *mail, as_buffer *out, as_error *e)
{
    as_words w = as_words_of(mail->in.data, mail->in.size);
    const int64_t *head;
    int code = AS_OK;
    while (code == AS_OK && (head = as_words_take(&w, NAMED_HEAD))) {
        named n = {.head = head};
        bool whole = as_words_take(&w, named_ndim(head)) || named_ndim(head) == 0;
        n.name = whole ? as_words_take_bytes(&w, &n.length) : NULL;
        code = n.name ? as_buffer_append(out, &n, sizeof n, e)
                      : as_fail(e, AS_INTERNAL, 0, "a message with a tensor name is cut off");
    }
    as_sort(out->data, out->size / sizeof(named), sizeof(named), compare_named);
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
    int32_t file = named_file(&tensors[0]);
    as_buffer room = AS_BUFFER_INIT;
    void *place = NULL;
    int code = as_buffer_extend(&room, count * sizeof(as_format_tensor), &place, e);
    if (code != AS_OK) {
        return code;
    }
    as_format_tensor *placed = place;
    for (size_t i = 0; i < count; i++) {
        const int64_t *head = tensors[i].head;
        placed[i] = (as_format_tensor){
            .name = tensors[i].name,
            .name_length = tensors[i].length,
            .shape = (const uint64_t *)(const void *)(head + NAMED_HEAD),
            .ndim = (int)named_ndim(head),
            .dtype = (int)(head[NAMED_KIND] & 0xff),
            .bytes = (uint64_t)head[NAMED_BYTES],
        };
    }
    as_pairs metadata = AS_PAIRS_INIT;
    as_file_layout layout = {0};
    code = header_metadata(p, &metadata, e);
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
    as_buffer_free(&room);
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
        while (last < count && named_file(&tensors[last]) == named_file(&tensors[first])) {
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
            code = as_regions_add(&p->schedule.regions, &p->catalog, i, true, &p->fault, e);
        }
    }
    return code == AS_OK ? as_schedule_ask(&p->schedule, mail, e) : code;
}
