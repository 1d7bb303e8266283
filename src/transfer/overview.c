/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/overview.h"

#include <stdlib.h>
#include <string.h>

#include "format/pattern.h"
#include "plan/words.h"

enum { RECORD_FILE, RECORD_DROPPED, RECORD_WRITER };

/* What this rank knows: the files that it built, its own bytes, dropped names. */
static int put_records(const as_plan *plan, as_buffer *out, as_error *e)
{
    int code =
        as_words_put(out, (int64_t[]){RECORD_WRITER, plan->own_bytes, plan->moved_bytes}, 3, e);
    for (size_t i = 0; i < as_plan_built_count(plan) && code == AS_OK; i++) {
        const as_built_file *b = as_plan_built(plan, i);
        code = as_words_put(out, (int64_t[]){RECORD_FILE, b->file, (int64_t)b->tensor_count}, 3, e);
        if (code == AS_OK) {
            code = as_words_put_bytes(out, b->names.data, b->names.size, e);
        }
    }
    for (size_t i = 0; i < as_plan_dropped_count(plan) && code == AS_OK; i++) {
        const as_dropped *d = as_plan_dropped(plan, i);
        code = as_words_put(out, (int64_t[]){RECORD_DROPPED, 0, 0}, 3, e);
        if (code == AS_OK) {
            code = as_words_put_bytes(out, d->name, strlen(d->name) + 1, e);
        }
        if (code == AS_OK) {
            code = as_words_put_bytes(out, d->kept, strlen(d->kept) + 1, e);
        }
    }
    return code;
}

/* Builders have rising files, so that names come in the order of the index. */
static int take_file(as_overview *o, const int64_t *head, as_words *w, as_error *e)
{
    size_t size;
    const char *name = as_words_take_bytes(w, &size);
    if (!name) {
        return as_fail(e, AS_INTERNAL, 0, "a message with tensor names is cut off");
    }
    o->first_tensor[head[1]] = o->tensor_count;
    for (int64_t i = 0; i < head[2]; i++) {
        o->tensors[o->tensor_count++] = name;
        name += strlen(name) + 1;
    }
    o->first_tensor[head[1] + 1] = o->tensor_count;
    return AS_OK;
}

static int take_dropped(as_overview *o, as_words *w, as_error *e)
{
    size_t size;
    const char *name = as_words_take_bytes(w, &size);
    const char *kept = name ? as_words_take_bytes(w, &size) : NULL;
    const char **grown =
        kept ? realloc((void *)o->dropped, 2 * (o->dropped_count + 1) * sizeof *grown) : NULL;
    if (!grown) {
        return as_fail_nomem(e);
    }
    o->dropped = grown;
    o->dropped[2 * o->dropped_count] = name;
    o->dropped[2 * o->dropped_count + 1] = kept;
    o->dropped_count++;
    return AS_OK;
}

static int take_records(as_overview *o, as_words w, int rank, as_error *e)
{
    const int64_t *head;
    int code = AS_OK;
    while (code == AS_OK && (head = as_words_take(&w, 3))) {
        switch (head[0]) {
        case RECORD_FILE:
            code = take_file(o, head, &w, e);
            break;
        case RECORD_DROPPED:
            code = take_dropped(o, &w, e);
            break;
        default:
            o->writer_bytes[rank] = head[1];
            o->exchanged_bytes += head[2];
            break;
        }
    }
    return code;
}

static int allocate(as_overview *o, const as_plan *plan, const char *pattern, int ranks,
                    as_error *e)
{
    size_t files = (size_t)plan->file_count;
    o->ranks = ranks;
    o->total_size = plan->total_size;
    o->file_count = files;
    o->file_names = calloc(files, sizeof *o->file_names);
    o->file_bytes = calloc(files, sizeof *o->file_bytes);
    o->first_tensor = calloc(files + 1, sizeof *o->first_tensor);
    o->tensors = calloc((size_t)plan->tensor_count, sizeof *o->tensors);
    o->writer_bytes = calloc((size_t)ranks, sizeof *o->writer_bytes);
    if (!o->file_names || !o->file_bytes || !o->first_tensor || !o->tensors || !o->writer_bytes) {
        return as_fail_nomem(e);
    }
    int code = AS_OK;
    for (size_t f = 0; f < files && code == AS_OK; f++) {
        o->file_bytes[f] = plan->file_size[f];
        code = as_pattern_name(pattern, f + 1, files, &o->file_names[f], e);
    }
    return code;
}

static int compare_names(const void *a, const void *b, void *tensors)
{
    const char *const *names = tensors;
    return strcmp(names[*(const size_t *)a], names[*(const size_t *)b]);
}

static int sort_names(as_overview *o, as_error *e)
{
    o->by_name = calloc(o->tensor_count + 1, sizeof *o->by_name);
    if (!o->by_name) {
        return as_fail_nomem(e);
    }
    for (size_t i = 0; i < o->tensor_count; i++) {
        o->by_name[i] = i;
    }
    qsort_r(o->by_name, o->tensor_count, sizeof *o->by_name, compare_names, (void *)o->tensors);
    return AS_OK;
}

size_t as_overview_find(const as_overview *o, const char *name)
{
    size_t low = 0;
    size_t high = o->tensor_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(o->tensors[o->by_name[middle]], name);
        if (order == 0) {
            return o->by_name[middle];
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return o->tensor_count;
}

size_t as_overview_file(const as_overview *o, size_t tensor)
{
    size_t low = 0;
    size_t high = o->file_count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (o->first_tensor[middle] <= tensor) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

int as_overview_gather(as_overview *o, as_comm *c, const as_plan *plan, const char *pattern,
                       as_error *e)
{
    *o = (as_overview){0};
    as_mail mail = {0};
    int ranks = as_comm_size(c);
    if (as_mail_init(&mail, ranks, e) == AS_OK && allocate(o, plan, pattern, ranks, e) == AS_OK) {
        (void)put_records(plan, &mail.share, e);
    }
    int code = as_comm_agree(c, e);
    if (code == AS_OK) {
        code = as_comm_share(c, &mail, e);
    }
    if (code == AS_OK) {
        o->text = mail.in;
        mail.in = AS_BUFFER_INIT;
    }
    for (int r = 0; r < ranks && code == AS_OK; r++) {
        as_words w = as_words_between(o->text.data, mail.in_at[r], mail.in_at[r + 1]);
        code = take_records(o, w, r, e);
    }
    if (code == AS_OK) {
        (void)sort_names(o, e);
    }
    as_mail_free(&mail);
    return as_comm_agree(c, e);
}

void as_overview_free(as_overview *o)
{
    for (size_t f = 0; o->file_names && f < o->file_count; f++) {
        free(o->file_names[f]);
    }
    free(o->file_names);
    free(o->file_bytes);
    free(o->first_tensor);
    free((void *)o->tensors);
    free(o->by_name);
    free((void *)o->dropped);
    free(o->writer_bytes);
    as_buffer_free(&o->text);
}
