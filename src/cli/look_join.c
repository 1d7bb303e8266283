/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/look_join.h"

#include <stdlib.h>
#include <string.h>

enum { HEAD = 4 }; /* words */

int as_look_found_write(const as_look_found *f, as_buffer *out, as_error *e)
{
    const int64_t head[HEAD] = {f->bytes, f->blocks, (int64_t)(f->runs.size / sizeof(as_look_run)),
                                (int64_t)(f->specials.size / sizeof(as_look_special))};
    int code = as_buffer_append(out, head, sizeof head, e);
    if (code == AS_OK && f->runs.size > 0) {
        code = as_buffer_append(out, f->runs.data, f->runs.size, e);
    }
    if (code == AS_OK && f->specials.size > 0) {
        code = as_buffer_append(out, f->specials.data, f->specials.size, e);
    }
    return code;
}

void as_look_found_free(as_look_found *f)
{
    as_buffer_free(&f->runs);
    as_buffer_free(&f->specials);
    *f = (as_look_found){0};
}

static int compare_runs(const void *a, const void *b)
{
    const as_look_run *x = a;
    const as_look_run *y = b;
    return x->file != y->file ? (x->file > y->file) - (x->file < y->file)
                              : (x->first > y->first) - (x->first < y->first);
}

static int compare_specials(const void *a, const void *b)
{
    const as_look_special *x = a;
    const as_look_special *y = b;
    return x->file != y->file ? (x->file > y->file) - (x->file < y->file)
                              : (x->entry > y->entry) - (x->entry < y->entry);
}

/* Runs that go on from one rank to the next become one. */
static void join_runs(as_buffer *runs)
{
    as_look_run *all = (as_look_run *)(void *)runs->data;
    size_t count = runs->size / sizeof *all;
    size_t kept = 0;
    for (size_t i = 1; i < count; i++) {
        as_look_run *last = &all[kept];
        if (last->file == all[i].file && last->first + last->count == all[i].first &&
            last->kind == all[i].kind && last->sys_errno == all[i].sys_errno) {
            last->count += all[i].count;
        } else {
            all[++kept] = all[i];
        }
    }
    runs->size = count ? (kept + 1) * sizeof *all : 0;
}

/* A tensor that several ranks looked at is told once. */
static void join_specials(as_buffer *specials)
{
    as_look_special *all = (as_look_special *)(void *)specials->data;
    size_t count = specials->size / sizeof *all;
    size_t kept = 0;
    for (size_t i = 1; i < count; i++) {
        if (all[kept].file == all[i].file && all[kept].entry == all[i].entry) {
            as_specials_add(&all[kept].specials, &all[i].specials);
        } else {
            all[++kept] = all[i];
        }
    }
    specials->size = count ? (kept + 1) * sizeof *all : 0;
}

int as_look_join(as_looked *out, const as_buffer *told, as_error *e)
{
    const char *at = told->data;
    const char *end = at ? at + told->size : at;
    int code = AS_OK;
    while (at < end && code == AS_OK) {
        int64_t head[HEAD];
        memcpy(head, at, sizeof head);
        at += sizeof head;
        out->bytes += head[0];
        out->blocks += head[1];
        size_t size = (size_t)head[2] * sizeof(as_look_run);
        code = size ? as_buffer_append(&out->runs, at, size, e) : AS_OK;
        at += size;
        size = (size_t)head[3] * sizeof(as_look_special);
        code = size && code == AS_OK ? as_buffer_append(&out->specials, at, size, e) : code;
        at += size;
    }
    if (out->runs.size > 0) {
        qsort(out->runs.data, out->runs.size / sizeof(as_look_run), sizeof(as_look_run),
              compare_runs);
        join_runs(&out->runs);
    }
    if (out->specials.size > 0) {
        qsort(out->specials.data, out->specials.size / sizeof(as_look_special),
              sizeof(as_look_special), compare_specials);
        join_specials(&out->specials);
    }
    return code;
}
