/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/rows.h"

enum { DIGIT_BITS = 8, DIGITS = 1 << DIGIT_BITS, FEW = 32 };

static bool is_before(const as_row *a, const as_row *b)
{
    return a->order != b->order ? a->order < b->order : a->name < b->name;
}

static bool is_sorted(const as_row *rows, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        if (is_before(&rows[i], &rows[i - 1])) {
            return false;
        }
    }
    return true;
}

static void insertion_sort(as_row *rows, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        as_row row = rows[i];
        size_t k = i;
        for (; k > 0 && is_before(&row, &rows[k - 1]); k--) {
            rows[k] = rows[k - 1];
        }
        rows[k] = row;
    }
}

static uint64_t key_of(const as_row *r, bool by_name)
{
    return by_name ? r->name : (uint64_t)r->order;
}

/* The number of low bits in which keys of the range differ. */
static int bits_that_differ(const as_row *rows, size_t count, bool by_name)
{
    uint64_t first = key_of(&rows[0], by_name);
    uint64_t differ = 0;
    for (size_t i = 1; i < count; i++) {
        differ |= first ^ key_of(&rows[i], by_name);
    }
    return differ ? 64 - __builtin_clzll(differ) : 0;
}

/* Brings each row to the range of its digit, row by row in a cycle. */
static void permute(as_row *rows, const size_t *ends, size_t *next, int shift, bool by_name)
{
    for (size_t digit = 0; digit < DIGITS; digit++) {
        while (next[digit] < ends[digit]) {
            as_row row = rows[next[digit]];
            size_t to = key_of(&row, by_name) >> shift & (DIGITS - 1);
            while (to != digit) {
                as_row other = rows[next[to]];
                rows[next[to]++] = row;
                row = other;
                to = key_of(&row, by_name) >> shift & (DIGITS - 1);
            }
            rows[next[digit]++] = row;
        }
    }
}

/* Radix sort in place from the highest digit that differs; a digit's range is small, or differs in
 * lower digits alone, so that calls nest 8 deep for each of the two keys. */
static void sort_range(as_row *rows, size_t count, bool by_name) /* NOLINT(misc-no-recursion) */
{
    if (count <= FEW) {
        insertion_sort(rows, count);
        return;
    }
    int bits = bits_that_differ(rows, count, by_name);
    if (bits == 0) {
        if (!by_name) {
            sort_range(rows, count, true);
        }
        return;
    }
    int shift = bits > DIGIT_BITS ? bits - DIGIT_BITS : 0;
    size_t ends[DIGITS] = {0};
    size_t next[DIGITS];
    for (size_t i = 0; i < count; i++) {
        ends[key_of(&rows[i], by_name) >> shift & (DIGITS - 1)]++;
    }
    size_t at = 0;
    for (size_t digit = 0; digit < DIGITS; digit++) {
        next[digit] = at;
        at += ends[digit];
        ends[digit] = at;
    }
    permute(rows, ends, next, shift, by_name);
    size_t begin = 0;
    for (size_t digit = 0; digit < DIGITS; digit++) {
        if (shift > 0 || !by_name) {
            sort_range(rows + begin, ends[digit] - begin, by_name);
        }
        begin = ends[digit];
    }
}

void as_rows_sort(as_row *rows, size_t count)
{
    if (count > 1 && !is_sorted(rows, count)) {
        sort_range(rows, count, false);
    }
}

uint64_t as_row_mark(int64_t order, as_hash name, int64_t bytes)
{
    uint64_t mixed = ((uint64_t)order * UINT64_C(0x9E3779B97F4A7C15)) ^ name.low ^
                     ((uint64_t)bytes * UINT64_C(0xC2B2AE3D27D4EB4F));
    mixed ^= mixed >> 29;
    return mixed * UINT64_C(0xBF58476D1CE4E5B9);
}

const as_row *as_rows_find(const as_row *rows, size_t count, int64_t order, as_hash name,
                           int64_t bytes)
{
    as_row wanted = {.order = order, .name = name.low};
    size_t low = 0;
    size_t high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (is_before(&rows[middle], &wanted)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    bool found = low < count && rows[low].order == order && rows[low].name == name.low &&
                 as_row_bytes(&rows[low]) == bytes;
    return found ? &rows[low] : NULL;
}
