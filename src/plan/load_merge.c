/* SPDX-License-Identifier: Apache-2.0
 * Describe, join and check: declarations and files meet at the owner of each name.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "plan/load_steps.h"
#include "tensor/dtype.h"

/* First word of each record that goes to an owner. */
enum { RECORD_PIECE, RECORD_FOUND, RECORD_LINE, RECORD_ALIAS };

static as_buffer *to_owner(const as_planner *p, as_mail *mail, as_hash name)
{
    return &mail->out[as_hash_owner(name, p->size)];
}

static int put_kind(as_buffer *out, int64_t kind, as_error *e)
{
    return as_words_put(out, &kind, 1, e);
}

static size_t index_count(const as_load_request *r)
{
    bool indexed = r->checkpoint && !as_checkpoint_is_single(r->checkpoint);
    return indexed ? as_index_count(&r->checkpoint->index) : 0;
}

const char *as_load_file_name(const as_load_request *request, size_t k)
{
    if (k < index_count(request)) {
        return as_index_name(&request->checkpoint->index, k);
    }
    k -= index_count(request);
    for (size_t i = 0; i < request->read_count; i++) {
        const as_table *t = &request->files[i].table;
        if (k < as_table_count(t)) {
            return as_table_name(t, k);
        }
        k -= as_table_count(t);
    }
    return "?";
}

static int put_pieces(as_planner *p, as_mail *mail, as_error *e)
{
    const as_state *s;
    int code = as_planner_state(p, &s, e);
    if (code == AS_OK && as_state_count(s) > AS_MOST_PIECES) {
        code = as_fail(e, AS_LIMIT, 0, "a rank declares more than %d pieces", AS_MOST_PIECES);
    }
    for (size_t i = 0; code == AS_OK && i < as_state_count(s); i++) {
        as_buffer *out = to_owner(p, mail, as_state_piece(s, i)->name);
        code = put_kind(out, RECORD_PIECE, e);
        if (code == AS_OK) {
            code = as_descriptor_put(out, s, i, p->rank, true, e);
        }
    }
    return code;
}

static int put_table(const as_planner *p, const as_read_file *file, size_t *label, as_mail *mail,
                     as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; i < as_table_count(&file->table) && code == AS_OK; i++) {
        const as_entry *t = as_table_entry(&file->table, i);
        as_hash name = as_name_hash(as_table_name(&file->table, i), t->name_length);
        as_buffer *out = to_owner(p, mail, name);
        int64_t words[1 + AS_F_HEAD] = {
            RECORD_FOUND,
            [1 + AS_F_NAME] = (int64_t)name.high,
            [1 + AS_F_NAME + 1] = (int64_t)name.low,
            [1 + AS_F_FILE] = file->file,
            [1 + AS_F_LABEL] = -1 - (int64_t)(*label)++,
            [1 + AS_F_DTYPE] = t->dtype,
            [1 + AS_F_BEGIN] = (int64_t)t->begin,
            [1 + AS_F_END] = (int64_t)t->end,
            [1 + AS_F_NDIM] = t->ndim,
        };
        code = as_words_put(out, words, 1 + AS_F_HEAD, e);
        if (code == AS_OK) {
            const uint64_t *shape = as_table_shape(&file->table, i);
            code = as_words_put(out, (const int64_t *)shape, t->ndim, e);
        }
    }
    return code;
}

static int put_lines(const as_planner *p, as_mail *mail, as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; i < index_count(p->load) && code == AS_OK; i++) {
        const as_index *index = &p->load->checkpoint->index;
        const as_index_entry *line = as_index_entry_at(index, i);
        as_hash name = as_name_hash(as_index_name(index, i), line->name_length);
        int64_t words[1 + AS_I_WORDS] = {
            RECORD_LINE,
            [1 + AS_I_NAME] = (int64_t)name.high,
            [1 + AS_I_NAME + 1] = (int64_t)name.low,
            [1 + AS_I_FILE] = line->file,
            [1 + AS_I_LABEL] = -1 - (int64_t)i,
        };
        code = as_words_put(to_owner(p, mail, name), words, 1 + AS_I_WORDS, e);
    }
    return code;
}

/* Metadata that maps a name to a name: what a save records of a dropped tied tensor. Other
 * metadata looks the same and does no harm: it counts only for a declared name that the
 * checkpoint lacks, and only if it leads to one that is there. */
static int put_aliases(const as_planner *p, as_mail *mail, as_error *e)
{
    const as_load_request *r = p->load;
    const as_pairs *pairs = NULL;
    if (r->checkpoint && r->indexed) {
        pairs = &r->checkpoint->index.metadata;
    } else if (r->checkpoint && r->read_count) {
        pairs = &r->files[0].table.metadata;
    }
    int code = AS_OK;
    for (size_t i = 0; pairs && i < pairs->count && code == AS_OK; i++) {
        const as_pair *m = &pairs->items[i];
        as_hash name = as_name_hash(m->key, m->key_length);
        as_hash kept = as_name_hash(m->value, m->value_length);
        int64_t words[1 + AS_A_WORDS] = {
            RECORD_ALIAS,
            [1 + AS_A_NAME] = (int64_t)name.high,
            [1 + AS_A_NAME + 1] = (int64_t)name.low,
            [1 + AS_A_KEPT] = (int64_t)kept.high,
            [1 + AS_A_KEPT + 1] = (int64_t)kept.low,
        };
        code = as_words_put(to_owner(p, mail, name), words, 1 + AS_A_WORDS, e);
    }
    return code;
}

int as_load_describe(as_planner *p, as_mail *mail, as_error *e)
{
    int code = put_pieces(p, mail, e);
    size_t label = index_count(p->load);
    for (size_t i = 0; i < p->load->read_count && code == AS_OK; i++) {
        code = put_table(p, &p->load->files[i], &label, mail, e);
    }
    if (code == AS_OK) {
        code = put_lines(p, mail, e);
    }
    return code == AS_OK ? put_aliases(p, mail, e) : code;
}

static int keep_words(as_buffer *list, const int64_t *words, as_error *e)
{
    return words ? as_buffer_append(list, &words, sizeof words, e)
                 : as_fail(e, AS_INTERNAL, 0, "a message of the plan is cut off");
}

/* Sorts one sender's records into the lists; their words stay where they are. */
static int take_records(as_planner *p, as_words *w, int rank, as_error *e)
{
    const int64_t *kind;
    int code = AS_OK;
    while (code == AS_OK && (kind = as_words_take(w, 1))) {
        as_descriptor d;
        as_found f = {.rank = rank};
        switch (*kind) {
        case RECORD_PIECE:
            code = as_descriptor_take(w, rank, &d)
                       ? as_buffer_append(&p->catalog.descriptors, &d, sizeof d, e)
                       : as_fail(e, AS_INTERNAL, 0, "a message of the plan is cut off");
            break;
        case RECORD_FOUND:
            f.words = as_words_take(w, AS_F_HEAD);
            if (!f.words || (f.words[AS_F_NDIM] && !as_words_take(w, (size_t)f.words[AS_F_NDIM]))) {
                return as_fail(e, AS_INTERNAL, 0, "a message of the plan is cut off");
            }
            code = as_buffer_append(&p->found.tensors, &f, sizeof f, e);
            break;
        case RECORD_LINE:
            code = keep_words(&p->found.lines, as_words_take(w, AS_I_WORDS), e);
            break;
        default:
            code = keep_words(&p->found.aliases, as_words_take(w, AS_A_WORDS), e);
            break;
        }
    }
    return code;
}

/* Pieces of a name that is not in the checkpoint, but was dropped for another, go to the owner
 * of that one, so that its bytes are read once for both. */
static int forward_aliases(as_planner *p, as_mail *mail, as_error *e)
{
    as_descriptor *all = (as_descriptor *)(void *)p->catalog.descriptors.data;
    size_t count = p->catalog.descriptors.size / sizeof *all;
    size_t kept = 0;
    int code = AS_OK;
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        as_hash name = as_descriptor_name(&all[i]);
        const int64_t *alias =
            as_found_find(&p->found, name) ? NULL : as_found_alias(&p->found, name);
        if (!alias) {
            all[kept++] = all[i];
            continue;
        }
        as_buffer *out = to_owner(p, mail, as_words_hash(alias + AS_A_KEPT));
        size_t start = out->size / sizeof(int64_t) + 1;
        code = as_words_put(out, (int64_t[]){all[i].rank}, 1, e);
        if (code == AS_OK) {
            code = as_words_put(out, all[i].words, as_descriptor_size(&all[i]), e);
        }
        if (code == AS_OK) {
            int64_t *words = (int64_t *)(void *)out->data + start;
            memcpy(words + AS_D_NAME, alias + AS_A_KEPT, 2 * sizeof *words);
            words[AS_D_KIND] |= AS_D_ALIAS;
        }
    }
    p->catalog.descriptors.size = kept * sizeof *all;
    return code;
}

int as_load_join(as_planner *p, as_mail *mail, as_error *e)
{
    p->catalog.messages[0] = mail->in;
    mail->in = AS_BUFFER_INIT;
    int code = AS_OK;
    for (int rank = 0; rank < p->size && code == AS_OK; rank++) {
        as_words w =
            as_words_between(p->catalog.messages[0].data, mail->in_at[rank], mail->in_at[rank + 1]);
        code = take_records(p, &w, rank, e);
    }
    if (code == AS_OK) {
        code = as_found_settle(&p->found, p->load->indexed, &p->fault, e);
    }
    return code == AS_OK ? forward_aliases(p, mail, e) : code;
}

static int take_forwarded(as_planner *p, as_mail *mail, as_error *e)
{
    p->catalog.messages[1] = mail->in;
    mail->in = AS_BUFFER_INIT;
    as_words w = as_words_of(p->catalog.messages[1].data, p->catalog.messages[1].size);
    const int64_t *head; /* the rank that declares it */
    int code = AS_OK;
    while (code == AS_OK && (head = as_words_take(&w, 1))) {
        as_descriptor d;
        code = as_descriptor_take(&w, (int)head[0], &d)
                   ? as_buffer_append(&p->catalog.descriptors, &d, sizeof d, e)
                   : as_fail(e, AS_INTERNAL, 0, "a message of the plan is cut off");
    }
    return code;
}

/* Dimensions in a header go up to 2^64−1. */
static void put_shape(as_buffer *text, const int64_t *shape, int64_t ndim)
{
    (void)as_buffer_char(text, '[', NULL);
    for (int64_t d = 0; d < ndim; d++) {
        (void)as_buffer_format(text, NULL, d ? ",%" PRIu64 : "%" PRIu64, (uint64_t)shape[d]);
    }
    (void)as_buffer_char(text, ']', NULL);
}

/* The declaration must be of the dtype and shape that the file has. */
static int compare(as_planner *p, const as_owned *t, const as_found *f, as_error *e)
{
    const as_descriptor *d = as_catalog_descriptor(&p->catalog, t->first);
    const int64_t *shape = f->words + AS_F_HEAD;
    int ndim = as_descriptor_ndim(d);
    as_dims room;
    const int64_t *own = as_descriptor_shape(d, &room);
    if (as_descriptor_dtype(d) == f->words[AS_F_DTYPE] && ndim == f->words[AS_F_NDIM] &&
        memcmp(own, shape, (size_t)ndim * sizeof *shape) == 0) {
        return AS_OK;
    }
    as_buffer declared = AS_BUFFER_INIT;
    as_buffer stored = AS_BUFFER_INIT;
    put_shape(&declared, own, ndim);
    put_shape(&stored, shape, f->words[AS_F_NDIM]);
    const char *x = as_buffer_string(&declared);
    const char *y = as_buffer_string(&stored);
    p->fault.rank[0] = d->rank;
    p->fault.label[0] = as_descriptor_piece(d);
    int code = as_fail(e, AS_MISMATCH, 0,
                       "tensor " AS_NAME_1 ": rank %d declares %s %s, the checkpoint has %s %s",
                       d->rank, as_dtype_name(as_descriptor_dtype(d)), x ? x : "?",
                       as_dtype_name((int)f->words[AS_F_DTYPE]), y ? y : "?");
    as_buffer_free(&declared);
    as_buffer_free(&stored);
    return code;
}

/* Asks who knows it for the name of a tensor that only one side has. */
static int ask_name(as_mail *mail, int32_t rank, bool missing, int64_t label, as_error *e)
{
    return as_words_put(&mail->out[rank], (int64_t[]){missing, label}, 2, e);
}

/* A tensor is missing under each of its names: its own and those dropped for it. Every rank
 * tells the name of each of its pieces; the main process keeps each name once. */
static int ask_missing(as_planner *p, const as_owned *t, as_mail *mail, as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; i < t->count && code == AS_OK; i++) {
        const as_descriptor *d = as_catalog_descriptor(&p->catalog, t->first + i);
        code = ask_name(mail, d->rank, true, as_descriptor_piece(d), e);
    }
    return code;
}

int as_load_check(as_planner *p, as_mail *mail, as_error *e)
{
    int code = take_forwarded(p, mail, e);
    if (code == AS_OK) {
        code = as_catalog_merge(&p->catalog, &p->fault, e);
    }
    for (size_t i = 0; i < as_catalog_count(&p->catalog) && code == AS_OK; i++) {
        as_owned *t = as_catalog_tensor(&p->catalog, i);
        const as_found *f = as_found_find(&p->found, t->name);
        if (!f) {
            code = ask_missing(p, t, mail, e);
            continue;
        }
        code = compare(p, t, f, e);
        t->file = (int32_t)f->words[AS_F_FILE];
        t->offset = f->words[AS_F_BEGIN];
    }
    const as_found *found = (const as_found *)(const void *)p->found.tensors.data;
    for (size_t i = 0; i < p->found.tensors.size / sizeof *found && code == AS_OK; i++) {
        if (!as_catalog_find(&p->catalog, as_words_hash(found[i].words))) {
            code = ask_name(mail, found[i].rank, false, found[i].words[AS_F_LABEL], e);
        }
    }
    return code;
}
