/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/ties.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static int compare_area(const void *a, const void *b)
{
    const as_tied *x = a;
    const as_tied *y = b;
    if (x->begin != y->begin) {
        return x->begin < y->begin ? -1 : 1;
    }
    if (x->end != y->end) {
        return x->end < y->end ? -1 : 1;
    }
    return strcmp(x->name, y->name);
}

static int compare_name(const void *a, const void *b)
{
    /* UTF-8 bytes sort as the code points that Python compares. */
    return strcmp(((const as_tied *)a)->name, ((const as_tied *)b)->name);
}

static bool is_discarded(const char *name, const char *const *discard, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(name, discard[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* The names of one area: keeps the smallest complete one, preferably not a discarded one. */
static bool resolve_area(as_tied *names, size_t count, int64_t bytes, const char *const *discard,
                         size_t discard_count, int64_t *place)
{
    qsort(names, count, sizeof *names, compare_name);
    const as_tied *smallest = NULL;
    const as_tied *preferred = NULL;
    for (size_t i = 0; i < count; i++) {
        if (names[i].begin != 0 || names[i].end != bytes) {
            continue;
        }
        smallest = smallest ? smallest : &names[i];
        if (!preferred && !is_discarded(names[i].name, discard, discard_count)) {
            preferred = &names[i];
        }
    }
    if (!smallest) {
        return false;
    }
    size_t kept = preferred ? preferred->tag : smallest->tag;
    for (size_t i = 0; i < count; i++) {
        names[i].kept = kept;
        if (names[i].tag != kept) {
            names[i].place = (*place)++;
        }
    }
    return true;
}

int as_ties_resolve(as_tied *names, size_t count, int64_t bytes, const char *const *discard,
                    size_t discard_count, size_t *culprit, as_error *e)
{
    qsort(names, count, sizeof *names, compare_area);
    int64_t place = 0;
    size_t first = 0;
    for (size_t i = 1; i <= count; i++) {
        /* The reference compares with the end of the tensor before, not with the farthest end
         * so far: a large tensor followed by two small ones inside it is told apart wrongly.
         * The result is an error there and here, never other bytes. */
        if (i < count && names[i].begin < names[i - 1].end) {
            continue;
        }
        size_t tag = names[first].tag;
        if (!resolve_area(names + first, i - first, bytes, discard, discard_count, &place)) {
            *culprit = tag;
            return as_fail(e, AS_TIED, 0,
                           "it is a part of a shared storage of %lld bytes that no tensor covers "
                           "whole, so no name can stand for it; declare a tensor over the whole "
                           "storage, or save a copy of this part",
                           (long long)bytes);
        }
        first = i;
    }
    return AS_OK;
}
