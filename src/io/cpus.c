/* SPDX-License-Identifier: Apache-2.0 */
#include "io/cpus.h"

#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/quote.h"

enum { WORDS = AS_CPUS_MOST / AS_CPUS_WORD };

bool as_cpus_has(const as_cpus *c, int number)
{
    return (c->words[number / AS_CPUS_WORD] >> (number % AS_CPUS_WORD) & 1) != 0;
}

void as_cpus_put(as_cpus *c, int number)
{
    c->words[number / AS_CPUS_WORD] |= 1UL << (number % AS_CPUS_WORD);
}

int as_cpus_count(const as_cpus *c)
{
    int count = 0;
    for (int i = 0; i < WORDS; i++) {
        count += __builtin_popcountl(c->words[i]);
    }
    return count;
}

bool as_cpus_equal(const as_cpus *a, const as_cpus *b)
{
    return memcmp(a->words, b->words, sizeof a->words) == 0;
}

as_cpus as_cpus_less(const as_cpus *a, const as_cpus *b)
{
    as_cpus out;
    for (int i = 0; i < WORDS; i++) {
        out.words[i] = a->words[i] & ~b->words[i];
    }
    return out;
}

/* ---- lists ---- */

typedef struct reader {
    const char *list;
    const char *at;
    as_error *e;
} reader;

static int bad(const reader *r, const char *what)
{
    return as_fail(r->e, AS_INVALID, 0,
                   "cpus is %s: %s (at character %td); write processors such as \"2-3,8\"",
                   as_quote(r->list, strlen(r->list)).text, what, r->at - r->list + 1);
}

static bool next_is(reader *r, char c)
{
    if (*r->at != c) {
        return false;
    }
    r->at++;
    return true;
}

static int read_number(reader *r, int *out)
{
    if (*r->at < '0' || *r->at > '9') {
        return bad(r, "a number is missing");
    }
    int number = 0;
    const char *begin = r->at;
    for (; *r->at >= '0' && *r->at <= '9'; r->at++) {
        number = number * 10 + (*r->at - '0');
        if (number >= AS_CPUS_MOST) {
            r->at = begin;
            return bad(r, "no processor has so large a number, which end at 8191");
        }
    }
    *out = number;
    return AS_OK;
}

/* One number, or a range with or without a step. */
static int read_item(reader *r, as_cpus *out)
{
    int first = 0;
    int step = 1;
    const char *begin = r->at;
    int code = read_number(r, &first);
    int last = first;
    if (code == AS_OK && next_is(r, '-')) {
        code = read_number(r, &last);
        if (code == AS_OK && next_is(r, ':')) {
            code = read_number(r, &step);
        }
    }
    const char *end = r->at;
    r->at = code == AS_OK ? begin : end;
    if (code == AS_OK && last < first) {
        code = bad(r, "the range runs backwards");
    } else if (code == AS_OK && step < 1) {
        code = bad(r, "a step is 1 at least");
    }
    for (int i = first; code == AS_OK && i <= last; i += step) {
        code = as_cpus_has(out, i) ? bad(r, "a processor is named twice") : AS_OK;
        as_cpus_put(out, i);
    }
    r->at = end;
    return code;
}

int as_cpus_parse(as_cpus *out, const char *list, as_error *e)
{
    reader r = {.list = list, .at = list, .e = e};
    *out = (as_cpus){0};
    int code = AS_OK;
    do {
        code = read_item(&r, out);
    } while (code == AS_OK && next_is(&r, ','));
    if (code == AS_OK && *r.at != '\0') {
        code = bad(&r, strchr(" \t\r\n", *r.at) ? "a blank has no place there"
                                                : "a comma was expected");
    }
    return code;
}

as_cpus_text as_cpus_tell(const as_cpus *c)
{
    enum { LAST_ITEM = 24 }; /* bytes of ",8190-8191,…" and more */
    as_cpus_text out = {"none"};
    size_t n = 0;
    for (int i = 0; i < AS_CPUS_MOST; i++) {
        if (!as_cpus_has(c, i)) {
            continue;
        }
        int last = i;
        while (last + 1 < AS_CPUS_MOST && as_cpus_has(c, last + 1)) {
            last++;
        }
        const char *comma = n > 0 ? "," : "";
        if (n + LAST_ITEM > sizeof out.text) {
            (void)snprintf(out.text + n, sizeof out.text - n, ",…");
            break;
        }
        n += (size_t)(last > i
                          ? snprintf(out.text + n, sizeof out.text - n, "%s%d-%d", comma, i, last)
                          : snprintf(out.text + n, sizeof out.text - n, "%s%d", comma, i));
        i = last;
    }
    return out;
}

/* ---- threads ---- */

bool as_cpus_of_thread(as_cpus *out)
{
    *out = (as_cpus){0};
    if (sched_getaffinity(0, sizeof out->words, (cpu_set_t *)out->words) != 0) {
        *out = (as_cpus){0};
        return false;
    }
    return true;
}

int as_cpus_bind(const as_cpus *c)
{
    return sched_setaffinity(0, sizeof c->words, (const cpu_set_t *)c->words) == 0 ? 0 : errno;
}
