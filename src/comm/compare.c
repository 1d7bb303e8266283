/* SPDX-License-Identifier: Apache-2.0 */
#include "comm/compare.h"

#include <stdio.h>
#include <string.h>

#include "base/quote.h"

enum { MOST_VALUES = 3, MOST_RANKS = 4 }; /* that a text tells of */

void as_value_show_text(as_value *v, const char *text)
{
    if (!text) {
        (void)snprintf(v->shown, sizeof v->shown, "the default");
        return;
    }
    as_quoted q = as_quote(text, strlen(text));
    size_t length = strlen(q.text);
    if (length < sizeof v->shown) {
        memcpy(v->shown, q.text, length + 1);
        return;
    }
    /* Paths differ at their ends, as a rule. */
    size_t whole = strlen(text);
    const char *end = text + whole;
    const char *from = whole > AS_SHOWN_BYTES / 2 ? end - AS_SHOWN_BYTES / 2 : text;
    while (from < end && ((unsigned char)*from & 0xC0) == 0x80) {
        from++;
    }
    q = as_quote(from, (size_t)(end - from));
    if (strlen(q.text) + 4 > sizeof v->shown) {
        (void)snprintf(v->shown, sizeof v->shown, "a text of %zu bytes", whole);
        return;
    }
    (void)snprintf(v->shown, sizeof v->shown, "…%.*s", (int)sizeof v->shown - 4, q.text);
}

/* The values of all ranks as they came. */
typedef struct values {
    const as_value *all;
    int count;
} values;

static int count_like(const values *v, int rank, int from)
{
    int count = 0;
    for (int r = from; r < v->count; r++) {
        count += as_hash_equal(v->all[r].hash, v->all[rank].hash);
    }
    return count;
}

/* "VALUE on ranks 1, 2 and 5 more" */
static int put_value(const values *v, int first, int count, as_buffer *out, as_error *e)
{
    int code = as_buffer_format(out, e, "%s%s on rank%s", out->size ? "; " : "",
                                v->all[first].shown, count == 1 ? "" : "s");
    int told = 0;
    for (int r = first; r < v->count && told < MOST_RANKS && code == AS_OK; r++) {
        if (as_hash_equal(v->all[r].hash, v->all[first].hash)) {
            code = as_buffer_format(out, e, "%s %d", told ? "," : "", r);
            told++;
        }
    }
    return code == AS_OK && count > told ? as_buffer_format(out, e, " and %d more", count - told)
                                         : code;
}

/* The next value in the telling: of the fewest ranks that are more than `count`, or as many and
 * begin after `after`. −1: there is none. */
static int find_next(const values *v, int count, int after, int *found)
{
    int best = -1;
    for (int r = 0; r < v->count; r++) {
        int like = count_like(v, r, r);
        if (like < count_like(v, r, 0)) {
            continue; /* not the first of its value */
        }
        if ((like > count || (like == count && r > after)) && (best < 0 || like < *found)) {
            best = r;
            *found = like;
        }
    }
    return best;
}

static int put_values(const values *v, as_buffer *out, as_error *e)
{
    int count = 0;
    int rank = -1;
    int code = AS_OK;
    for (int i = 0; i < MOST_VALUES && code == AS_OK; i++) {
        int found = 0;
        rank = find_next(v, count, rank, &found);
        if (rank < 0) {
            return AS_OK;
        }
        count = found;
        code = put_value(v, rank, count, out, e);
    }
    int ignored = 0;
    return code == AS_OK && find_next(v, count, rank, &ignored) >= 0
               ? as_buffer_format(out, e, "; others on others")
               : code;
}

static int odd_rank(const values *v)
{
    int r = 1;
    while (r < v->count && as_hash_equal(v->all[r].hash, v->all[0].hash)) {
        r++;
    }
    return r;
}

int as_comm_tell_values(as_comm *c, const char *what, const as_value *mine, as_error *e)
{
    as_mail mail = {0};
    if (as_mail_init(&mail, as_comm_size(c), e) == AS_OK) {
        (void)as_buffer_append(&mail.share, mine, sizeof *mine, e);
    }
    int code = as_comm_agree(c, e); /* without its mail a rank cannot even poison a sharing */
    if (code == AS_OK) {
        code = as_comm_share(c, &mail, e);
    }
    values v = {.all = (const as_value *)(const void *)mail.in.data, .count = as_comm_size(c)};
    if (code == AS_OK && odd_rank(&v) == as_comm_rank(c)) {
        as_buffer text = AS_BUFFER_INIT;
        if (put_values(&v, &text, e) == AS_OK) {
            (void)as_fail(e, AS_MISMATCH, 0, "%s: %.*s", what, (int)text.size, text.data);
        }
        as_buffer_free(&text);
    }
    as_mail_free(&mail);
    return code == AS_OK ? as_comm_agree(c, e) : code;
}

int as_comm_meet(as_comm *c, const char *function, int64_t number, as_error *e)
{
    as_value v = {.hash = as_hash_bytes(function, strlen(function))};
    int64_t one = (int64_t)(v.hash.low >> 2);
    int64_t both[] = {one, -one};
    as_comm_meeting(c, true);
    int code = as_comm_max(c, both, 2, e);
    as_comm_meeting(c, false);
    if (code != AS_OK || both[0] == -both[1]) {
        return code;
    }
    char what[128];
    (void)snprintf(v.shown, sizeof v.shown, "%s", function);
    (void)snprintf(what, sizeof what,
                   "the ranks are in different functions (collective call %lld of this context)",
                   (long long)number);
    return as_comm_tell_values(c, what, &v, e);
}
