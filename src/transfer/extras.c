/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/extras.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "commit/folder.h"
#include "commit/names.h"
#include "format/pattern.h"
#include "plan/words.h"

enum { RECORD_PAIR, RECORD_FILE };

/* ASCII only, heap; NULL without memory. */
static char *lower_case(const char *text)
{
    char *copy = strdup(text);
    for (char *c = copy; c && *c; c++) {
        *c = (char)(*c >= 'A' && *c <= 'Z' ? *c - 'A' + 'a' : *c);
    }
    return copy;
}

/* May a small file have this name? */
static int check_name(const char *name, const char *pattern, as_error *e)
{
    if (!as_name_is_plain(name)) {
        return as_fail(e, AS_INVALID, 0,
                       "the small file \"%s\" must have a plain name: no '/', no \"..\"", name);
    }
    /* In any case of its letters: there are file systems that see no difference. */
    int kind = AS_PATTERN_NONE;
    uint64_t shard;
    uint64_t count;
    char *small_pattern = lower_case(pattern);
    char *small_name = lower_case(name);
    int code = small_pattern && small_name
                   ? as_pattern_match(small_pattern, small_name, &kind, &shard, &count, e)
                   : as_fail_nomem(e);
    free(small_pattern);
    free(small_name);
    if (code == AS_OK && (kind != AS_PATTERN_NONE || strcasecmp(name, AS_MANIFEST_NAME) == 0)) {
        return as_fail(
            e, AS_INVALID, 0,
            "the name of the small file \"%s\" is the checkpoint's own, in whatever case "
            "of its letters",
            name);
    }
    return code;
}

static int put_records(const as_state *s, const char *pattern, as_buffer *out, as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; i < s->metadata.count && code == AS_OK; i++) {
        const as_pair *m = &s->metadata.items[i];
        code = as_words_put(out, (int64_t[]){RECORD_PAIR}, 1, e);
        if (code == AS_OK) {
            code = as_words_put_bytes(out, m->key, m->key_length + 1, e);
        }
        if (code == AS_OK) {
            code = as_words_put_bytes(out, m->value, m->value_length + 1, e);
        }
    }
    for (size_t i = 0; i < as_state_file_count(s) && code == AS_OK; i++) {
        const as_small_file *f = as_state_file(s, i);
        code = check_name(f->name, pattern, e);
        if (code == AS_OK) {
            int64_t head[4] = {RECORD_FILE, (int64_t)f->size, (int64_t)f->hash.high,
                               (int64_t)f->hash.low};
            code = as_words_put(out, head, 4, e);
        }
        if (code == AS_OK) {
            code = as_words_put_bytes(out, f->name, strlen(f->name) + 1, e);
        }
    }
    return code;
}

static int take_pair(as_extras *x, as_words *w, int rank, as_error *e)
{
    size_t key_length;
    size_t value_length;
    const char *key = as_words_take_bytes(w, &key_length);
    const char *value = key ? as_words_take_bytes(w, &value_length) : NULL;
    if (!value) {
        return as_fail(e, AS_INTERNAL, 0, "a message with metadata is cut off");
    }
    const as_pair *known = as_pairs_find(&x->metadata, key, key_length - 1);
    if (known && strcmp(known->value, value) != 0) {
        return as_fail(e, AS_MISMATCH, 0,
                       "rank %d gives the metadata \"%s\" the value \"%s\", a lower rank gives it "
                       "\"%s\"",
                       rank, key, value, known->value);
    }
    return as_pairs_set(&x->metadata, key, key_length - 1, value, value_length - 1, e);
}

static int take_file(as_extras *x, as_words *w, int rank, as_error *e)
{
    size_t length;
    const int64_t *head = as_words_take(w, 3);
    const char *name = head ? as_words_take_bytes(w, &length) : NULL;
    if (!name) {
        return as_fail(e, AS_INTERNAL, 0, "a message with a file name is cut off");
    }
    as_hash hash = as_words_hash(head + 1);
    for (size_t i = 0; i < as_extras_count(x); i++) {
        const as_extra_file *known = as_extras_file(x, i);
        if (strcmp(known->name, name) != 0) {
            continue;
        }
        return as_hash_equal(known->hash, hash) && known->size == head[0]
                   ? AS_OK
                   : as_fail(e, AS_MISMATCH, 0,
                             "rank %d and rank %d declare different contents for the file \"%s\"",
                             known->rank, rank, name);
    }
    as_extra_file f = {.name = strdup(name), .size = head[0], .hash = hash, .rank = rank};
    int code = f.name ? as_buffer_append(&x->files, &f, sizeof f, e) : as_fail_nomem(e);
    if (code != AS_OK) {
        free(f.name);
    }
    return code;
}

int as_extras_gather(as_extras *x, as_comm *c, const as_state *s, const char *pattern, as_error *e)
{
    *x = (as_extras){0};
    as_mail mail = {0};
    (void)as_mail_init(&mail, as_comm_size(c), e);
    int code = as_comm_agree(c, e);
    if (code != AS_OK) {
        as_mail_free(&mail);
        return code;
    }
    (void)put_records(s, pattern, &mail.share, e);
    code = as_comm_share(c, &mail, e);
    for (int rank = 0; rank < as_comm_size(c) && code == AS_OK; rank++) {
        as_words w = as_words_between(mail.in.data, mail.in_at[rank], mail.in_at[rank + 1]);
        const int64_t *kind;
        while (code == AS_OK && (kind = as_words_take(&w, 1))) {
            code = *kind == RECORD_PAIR ? take_pair(x, &w, rank, e) : take_file(x, &w, rank, e);
        }
    }
    if (as_comm_rank(c) != 0) {
        as_pairs_free(&x->metadata);
        x->metadata = AS_PAIRS_INIT;
    }
    as_mail_free(&mail);
    return as_comm_agree(c, e);
}

void as_extras_free(as_extras *x)
{
    for (size_t i = 0; i < as_extras_count(x); i++) {
        free(as_extras_file(x, i)->name);
    }
    as_pairs_free(&x->metadata);
    as_buffer_free(&x->files);
}
