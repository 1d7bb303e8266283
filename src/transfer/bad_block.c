/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/bad_block.h"

#include "base/quote.h"
#include "commit/folder.h"

/* Names in one text: more would hide the rest of it. */
enum { MOST_NAMES = 8 };

static size_t count_tensors(const as_table *t, uint64_t low, uint64_t high)
{
    size_t count = 0;
    for (size_t i = 0; i < as_table_count(t); i++) {
        const as_entry *x = as_table_entry(t, i);
        count += x->begin < x->end && x->begin < high && low < x->end;
    }
    return count;
}

int as_bad_block_holds(as_buffer *out, const as_table *table, int64_t low, int64_t high,
                       as_error *e)
{
    size_t count = count_tensors(table, (uint64_t)low, (uint64_t)high);
    bool header = (uint64_t)low < table->data_begin;
    int code = AS_OK;
    if (header) {
        code = as_buffer_format(out, e, count ? "the header and " : "the header");
    }
    if (code == AS_OK && count) {
        code = as_buffer_format(out, e, count == 1 ? "tensor " : "tensors ");
    }
    size_t told = 0;
    for (size_t i = 0; i < as_table_count(table) && told < MOST_NAMES && code == AS_OK; i++) {
        const as_entry *x = as_table_entry(table, i);
        if (x->begin < x->end && x->begin < (uint64_t)high && (uint64_t)low < x->end) {
            code = as_buffer_format(out, e, "%s%s", told ? ", " : "",
                                    as_quote(as_table_name(table, i), x->name_length).text);
            told++;
        }
    }
    if (code == AS_OK && count > told) {
        code = as_buffer_format(out, e, " and %zu more", count - told);
    }
    return code;
}

int as_bad_block_fail(const as_bad_block *b, const char *name, const char *holds, const char *path,
                      as_error *e)
{
    return as_fail(
        e, AS_CORRUPT, 0,
        "%s: bytes %lld to %lld are not those that were saved: their checksum is "
        "%016llx, but " AS_MANIFEST_NAME " says %016llx%s%s. Run `allshard verify %s`; "
        "if another program rewrote the file after allshard saved it, remove " AS_MANIFEST_NAME
        " or load with checksum none (--no-check)",
        name, (long long)b->low, (long long)b->high - 1, (unsigned long long)b->found,
        (unsigned long long)b->expected, holds ? "; they hold " : "", holds ? holds : "", path);
}
