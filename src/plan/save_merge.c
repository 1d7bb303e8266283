/* SPDX-License-Identifier: Apache-2.0
 * Describe and merge: from pieces to tensors, and which of them are tied.
 */
#include <stdlib.h>
#include <string.h>

#include "plan/rows.h"
#include "plan/save_steps.h"
#include "plan/sort.h"
#include "plan/ties.h"

/* Owner → owner of a storage. */
enum {
    TIE_STORAGE = 0,
    TIE_NAME = 2,
    TIE_ORDER = 4,
    TIE_BEGIN = 5,
    TIE_BYTES = 6,
    TIE_STORAGE_BYTES = 7,
    TIE_SOURCE = 8,
    TIE_PIECE = 9,
    TIE_NAME_AT = 10, /* filled in by the receiver: 1 + place of the name, 0: not asked for */
    TIE_WORDS = 11
};

/* Owner of a storage → owner of a tensor, or main process. */
enum { VERDICT_DROP = 0, VERDICT_RECORD = 1 };

int as_save_describe(as_planner *p, as_mail *mail, as_error *e)
{
    const as_state *s;
    int code = as_planner_state(p, &s, e);
    size_t count = code == AS_OK ? as_state_count(s) : 0;
    if (count > AS_MOST_PIECES) {
        return as_fail(e, AS_LIMIT, 0, "a rank declares more than %d pieces", AS_MOST_PIECES);
    }
    as_buffer room = AS_BUFFER_INIT;
    void *place = NULL;
    if (code == AS_OK) {
        code = as_buffer_extend(&room, (size_t)p->size * sizeof(size_t), &place, e);
    }
    if (code != AS_OK) {
        return code;
    }
    size_t *words = place; /* for each owner: so that no buffer grows beyond what it holds */
    for (size_t i = 0; i < count; i++) {
        const as_piece *piece = as_state_piece(s, i);
        p->declared++;
        p->declared_mark += as_row_mark(piece->order, piece->name, piece->bytes);
        if (as_save_leaves_out(s, i)) {
            p->left_out++;
        } else {
            words[as_hash_owner(piece->name, p->size)] += as_descriptor_length(s, i, false);
        }
    }
    for (int owner = 0; owner < p->size && code == AS_OK; owner++) {
        code = as_buffer_reserve(&mail->out[owner], words[owner] * sizeof(int64_t), e);
    }
    as_buffer_free(&room);
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        if (!as_save_leaves_out(s, i)) {
            int owner = as_hash_owner(as_state_piece(s, i)->name, p->size);
            code = as_descriptor_put(&mail->out[owner], s, i, p->rank, false, e);
        }
    }
    return code;
}

/* A tensor of some bytes may share its storage with others. */
static int put_tie(const as_planner *p, const as_owned *t, as_buffer *out, as_error *e)
{
    if (t->bytes == 0 || as_hash_is_zero(t->storage)) {
        return AS_OK;
    }
    const as_descriptor *d = as_catalog_descriptor(&p->catalog, t->first);
    bool stored = d->words[AS_D_KIND] & AS_D_STORED;
    int64_t words[TIE_WORDS] = {
        [TIE_STORAGE] = (int64_t)t->storage.high,
        [TIE_STORAGE + 1] = (int64_t)t->storage.low,
        [TIE_NAME] = (int64_t)t->name.high,
        [TIE_NAME + 1] = (int64_t)t->name.low,
        [TIE_ORDER] = t->order,
        [TIE_BEGIN] = stored ? as_descriptor_extent(d)[1] : 0,
        [TIE_BYTES] = t->bytes,
        [TIE_STORAGE_BYTES] = stored ? as_descriptor_extent(d)[0] : t->bytes,
        [TIE_SOURCE] = t->source,
        [TIE_PIECE] = as_descriptor_piece(d),
    };
    return as_words_put(&out[as_hash_owner(t->storage, p->size)], words, TIE_WORDS, e);
}

int as_save_merge(as_planner *p, as_mail *mail, as_error *e)
{
    as_catalog *c = &p->catalog;
    c->messages[0] = mail->in; /* descriptors are looked at in place from here on */
    mail->in = AS_BUFFER_INIT;
    int code = AS_OK;
    for (int rank = 0; rank < p->size && code == AS_OK; rank++) {
        as_words w =
            as_words_between(c->messages[0].data, mail->in_at[rank], mail->in_at[rank + 1]);
        code = as_catalog_add(c, w, rank, e);
    }
    if (code == AS_OK) {
        code = as_catalog_merge(c, &p->fault, e);
    }
    for (size_t i = 0; i < as_catalog_count(c) && code == AS_OK; i++) {
        code = put_tie(p, as_catalog_tensor(c, i), mail->out, e);
    }
    return code;
}

static int64_t *tie_at(const as_planner *p, size_t i)
{
    return (int64_t *)(void *)p->ties.data + i * TIE_WORDS;
}

static size_t tie_count(const as_planner *p)
{
    return p->ties.size / sizeof(int64_t) / TIE_WORDS;
}

static int compare_ties(const void *a, const void *b)
{
    const int64_t *x = a;
    const int64_t *y = b;
    int order = as_hash_compare(as_words_hash(x + TIE_STORAGE), as_words_hash(y + TIE_STORAGE));
    if (order == 0) {
        order = (x[TIE_ORDER] > y[TIE_ORDER]) - (x[TIE_ORDER] < y[TIE_ORDER]);
    }
    return order ? order
                 : as_hash_compare(as_words_hash(x + TIE_NAME), as_words_hash(y + TIE_NAME));
}

/* The end of the storage that begins at tie `first`. */
static size_t storage_end(const as_planner *p, size_t first)
{
    size_t last = first + 1;
    while (last < tie_count(p) &&
           memcmp(tie_at(p, first), tie_at(p, last), 2 * sizeof(int64_t)) == 0) {
        last++;
    }
    return last;
}

int as_save_ask_names(as_planner *p, as_mail *mail, as_error *e)
{
    p->ties = mail->in;
    mail->in = AS_BUFFER_INIT;
    as_sort(p->ties.data, tie_count(p), TIE_WORDS * sizeof(int64_t), compare_ties);
    int code = AS_OK;
    for (size_t first = 0; first < tie_count(p) && code == AS_OK;) {
        size_t last = storage_end(p, first);
        const int64_t *t = tie_at(p, first);
        bool alone = last - first == 1 && t[TIE_BEGIN] == 0 && t[TIE_BYTES] == t[TIE_STORAGE_BYTES];
        for (; first < last && code == AS_OK; first++) {
            t = tie_at(p, first);
            if (!alone) {
                code = as_words_put(&mail->out[t[TIE_SOURCE]],
                                    (int64_t[]){(int64_t)first, t[TIE_PIECE]}, 2, e);
            }
        }
    }
    return code;
}

int as_save_tell_names(as_planner *p, as_mail *mail, as_error *e)
{
    if (mail->in.size == 0) {
        return AS_OK;
    }
    const as_state *s;
    int code = as_planner_state(p, &s, e);
    for (int rank = 0; rank < p->size; rank++) {
        as_words w = as_words_between(mail->in.data, mail->in_at[rank], mail->in_at[rank + 1]);
        const int64_t *ask;
        while (code == AS_OK && (ask = as_words_take(&w, 2))) {
            const char *name = as_state_name(s, (size_t)ask[1]);
            code = as_words_put(&mail->out[rank], ask, 1, e);
            if (code == AS_OK) {
                code = as_words_put_bytes(&mail->out[rank], name, strlen(name) + 1, e);
            }
        }
    }
    return code;
}

/* Tells the tensor's owner and the main process that `name` gives way to `kept`. */
static int put_verdict(const as_planner *p, const as_tied *name, const char *kept,
                       int64_t storage_order, as_buffer *out, as_error *e)
{
    const int64_t *t = tie_at(p, name->tag);
    int owner = as_hash_owner(as_words_hash(t + TIE_NAME), p->size);
    int code =
        as_words_put(&out[owner], (int64_t[]){VERDICT_DROP, t[TIE_NAME], t[TIE_NAME + 1]}, 3, e);
    if (code == AS_OK) {
        code = as_words_put(&out[0], (int64_t[]){VERDICT_RECORD, storage_order, name->place}, 3, e);
    }
    if (code == AS_OK) {
        code = as_words_put_bytes(&out[0], name->name, strlen(name->name) + 1, e);
    }
    return code == AS_OK ? as_words_put_bytes(&out[0], kept, strlen(kept) + 1, e) : code;
}

static int resolve_storage(as_planner *p, size_t first, size_t last, const char *names,
                           as_buffer *out, as_error *e)
{
    size_t count = last - first;
    as_tied *tied = calloc(count, sizeof *tied);
    const char **at = calloc(count, sizeof *at); /* names by tag: the resolution sorts the others */
    if (!tied || !at) {
        free(tied);
        free((void *)at);
        return as_fail_nomem(e);
    }
    for (size_t i = 0; i < count; i++) {
        const int64_t *t = tie_at(p, first + i);
        at[i] = names + (t[TIE_NAME_AT] - 1);
        tied[i] = (as_tied){.name = at[i],
                            .begin = t[TIE_BEGIN],
                            .end = t[TIE_BEGIN] + t[TIE_BYTES],
                            .tag = first + i};
    }
    const int64_t *head = tie_at(p, first);
    size_t culprit = first;
    int code = as_ties_resolve(tied, count, head[TIE_STORAGE_BYTES], p->save->discard,
                               p->save->discard_count, &culprit, e);
    if (code == AS_TIED) {
        as_error_prefix(e, "tensor " AS_NAME_1 " of rank %d", (int)tie_at(p, culprit)[TIE_SOURCE]);
        p->fault.rank[0] = (int32_t)tie_at(p, culprit)[TIE_SOURCE];
        p->fault.label[0] = tie_at(p, culprit)[TIE_PIECE];
    }
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        if (tied[i].kept == tied[i].tag) {
            continue;
        }
        code = put_verdict(p, &tied[i], at[tied[i].kept - first], head[TIE_ORDER], out, e);
    }
    free(tied);
    free((void *)at);
    return code;
}

int as_save_resolve(as_planner *p, as_mail *mail, as_error *e)
{
    as_words w = as_words_of(mail->in.data, mail->in.size);
    const int64_t *index;
    while ((index = as_words_take(&w, 1))) {
        size_t length;
        const char *name = as_words_take_bytes(&w, &length);
        if (!name) {
            return as_fail(e, AS_INTERNAL, 0, "a message with a tensor name is cut off");
        }
        tie_at(p, (size_t)*index)[TIE_NAME_AT] = 1 + (name - mail->in.data);
    }
    int code = AS_OK;
    for (size_t first = 0; first < tie_count(p) && code == AS_OK;) {
        size_t last = storage_end(p, first);
        if (tie_at(p, first)[TIE_NAME_AT]) {
            code = resolve_storage(p, first, last, mail->in.data, mail->out, e);
        }
        first = last;
    }
    as_buffer_free(&p->ties);
    return code;
}

/* A dropped name as the main process hears of it. */
typedef struct record {
    int64_t order; /* of the storage's first tensor */
    int64_t place; /* among the storage's dropped names */
    const char *name;
    const char *kept;
} record;

static int compare_records(const void *a, const void *b)
{
    const record *x = a;
    const record *y = b;
    if (x->order != y->order) {
        return x->order < y->order ? -1 : 1;
    }
    return (x->place > y->place) - (x->place < y->place);
}

static int keep_records(as_planner *p, as_buffer *records, as_error *e)
{
    record *r = (record *)(void *)records->data;
    size_t count = records->size / sizeof *r;
    as_sort(r, count, sizeof *r, compare_records);
    for (size_t i = 0; i < count; i++) {
        as_dropped d = {.name = strdup(r[i].name), .kept = strdup(r[i].kept)};
        if (!d.name || !d.kept || as_buffer_append(&p->plan.dropped, &d, sizeof d, e) != AS_OK) {
            free(d.name);
            free(d.kept);
            return as_fail_nomem(e);
        }
    }
    return AS_OK;
}

/* Which of the declarers tells the name is left to chance: a rank that declares something of
 * every tensor is not to tell all names. */
static int put_row(as_planner *p, const as_owned *t, as_mail *mail, as_error *e)
{
    const as_descriptor *teller =
        as_catalog_descriptor(&p->catalog, t->first + (size_t)(t->name.high % t->count));
    as_row row = {.order = t->order,
                  .name = t->name.low,
                  .size = (uint64_t)t->bytes << 2 | (t->keyed ? AS_ROW_KEYED : 0) |
                          (t->dropped ? AS_ROW_DROPPED : 0),
                  .teller = teller->rank,
                  .piece = (uint32_t)as_descriptor_piece(teller)};
    return as_buffer_append(&mail->share, &row, sizeof row, e);
}

int as_save_rows(as_planner *p, as_mail *mail, as_error *e)
{
    as_buffer records = AS_BUFFER_INIT;
    as_words w = as_words_of(mail->in.data, mail->in.size);
    const int64_t *head;
    int code = AS_OK;
    while (code == AS_OK && (head = as_words_take(&w, 3))) {
        if (head[0] == VERDICT_DROP) {
            as_owned *t = as_catalog_find(&p->catalog, as_words_hash(head + 1));
            if (!t) {
                code = as_fail(e, AS_INTERNAL, 0, "a tied tensor is dropped that is not here");
            } else {
                t->dropped = true;
            }
            continue;
        }
        size_t length;
        record r = {.order = head[1], .place = head[2]};
        r.name = as_words_take_bytes(&w, &length);
        r.kept = as_words_take_bytes(&w, &length);
        code = r.name && r.kept
                   ? as_buffer_append(&records, &r, sizeof r, e)
                   : as_fail(e, AS_INTERNAL, 0, "a message with a dropped name is cut off");
    }
    if (code == AS_OK) {
        code = keep_records(p, &records, e);
    }
    as_buffer_free(&records);
    if (code == AS_OK) {
        code = as_buffer_reserve(&mail->share, as_catalog_count(&p->catalog) * sizeof(as_row), e);
    }
    for (size_t i = 0; i < as_catalog_count(&p->catalog) && code == AS_OK; i++) {
        code = put_row(p, as_catalog_tensor(&p->catalog, i), mail, e);
    }
    return code;
}
