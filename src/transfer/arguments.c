/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/arguments.h"

#include <stdio.h>
#include <string.h>

enum { MOST_ARGUMENTS = 32 };

as_argument as_argument_text(const char *name, const char *text)
{
    as_argument a = {.name = name, .text = text};
    if (text) {
        a.hash = as_hash_bytes(text, strlen(text));
    }
    return a;
}

static as_argument number_of(const char *name, enum as_argument_kind kind, int64_t number)
{
    return (as_argument){.name = name,
                         .kind = kind,
                         .number = number,
                         .hash = as_hash_bytes(&number, sizeof number)};
}

as_argument as_argument_number(const char *name, int64_t number)
{
    return number_of(name, AS_ARGUMENT_NUMBER, number);
}

as_argument as_argument_octal(const char *name, int64_t number)
{
    return number_of(name, AS_ARGUMENT_OCTAL, number);
}

as_argument as_argument_read(const char *name, const char *text, int64_t number)
{
    as_argument a = number_of(name, AS_ARGUMENT_TEXT, number);
    a.text = text;
    return a;
}

as_argument as_argument_list(const char *name, const char *const *texts, size_t count)
{
    as_hash sum = {.low = count};
    for (size_t i = 0; i < count; i++) {
        /* The place is the seed, so that the order counts. */
        sum = as_hash_sum(sum, as_hash_seeded(texts[i], strlen(texts[i]), i + 1));
    }
    return (as_argument){
        .name = name, .kind = AS_ARGUMENT_LIST, .number = (int64_t)count, .hash = sum};
}

static void show(const as_argument *a, as_value *v)
{
    *v = (as_value){.hash = a->hash};
    switch (a->kind) {
    case AS_ARGUMENT_TEXT:
        as_value_show_text(v, a->text);
        break;
    case AS_ARGUMENT_NUMBER:
        (void)snprintf(v->shown, sizeof v->shown, "%lld", (long long)a->number);
        break;
    case AS_ARGUMENT_OCTAL:
        (void)snprintf(v->shown, sizeof v->shown, "%04llo", (unsigned long long)a->number);
        break;
    case AS_ARGUMENT_LIST:
        (void)snprintf(v->shown, sizeof v->shown, "a list of %lld name%s (hash %08x)",
                       (long long)a->number, a->number == 1 ? "" : "s", (unsigned)a->hash.low);
        break;
    }
}

int as_arguments_agree(as_comm *c, const as_argument *arguments, size_t count, as_error *e)
{
    as_hash values[MOST_ARGUMENTS] = {{0}};
    int code = as_comm_agree(c, e);
    if (code != AS_OK) {
        return code;
    }
    if (count > MOST_ARGUMENTS) {
        return as_fail(e, AS_INTERNAL, 0, "more arguments than can be compared");
    }
    for (size_t i = 0; i < count; i++) {
        values[i] = arguments[i].hash;
    }
    code = as_comm_bcast(c, 0, values, count * sizeof *values, e);
    int64_t like = 0; /* so many of the first are those of the main process */
    while (like < (int64_t)count && as_hash_equal(values[like], arguments[like].hash)) {
        like++;
    }
    int64_t first = -like;
    code = code == AS_OK ? as_comm_max(c, &first, 1, e) : code;
    first = -first;
    if (code != AS_OK || first == (int64_t)count) {
        return code;
    }
    char what[128];
    as_value mine;
    show(&arguments[first], &mine);
    (void)snprintf(what, sizeof what, "all ranks must give the same %s", arguments[first].name);
    return as_comm_tell_values(c, what, &mine, e);
}
