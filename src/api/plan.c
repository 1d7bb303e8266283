/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "api/save.h"
#include "transfer/overview.h"

struct allshard_plan {
    as_overview overview;
};

int allshard_plan_create(allshard_plan **out, allshard_state *s,
                         const allshard_save_options *options)
{
    if (!s) {
        return ALLSHARD_INVALID;
    }
    as_error *e = as_begin(s->context);
    if (out) {
        *out = NULL;
    }
    if (as_meet(s->context, "allshard_plan_create") != AS_OK) {
        return as_end(s->context);
    }
    if (!out) {
        (void)as_fail(e, AS_INVALID, 0, "there is no place to put the plan: out is NULL");
    }
    as_save_call call;
    as_plan plan = {0};
    char *pattern = NULL;
    as_save_call_from(&call, s, NULL, options, e);
    allshard_plan *p = calloc(1, sizeof *p);
    if (!p) { /* the others hear of it in as_save_plan */
        (void)as_fail_nomem(e);
    }
    int code = as_save_plan(&call, &plan, &pattern, e);
    if (code == AS_OK) {
        code = as_overview_gather(&p->overview, call.session->comm, &plan, pattern, e);
    }
    as_plan_free(&plan);
    free(pattern);
    if (code == AS_OK && out) {
        *out = p;
    } else {
        allshard_plan_free(p);
    }
    return as_end(s->context);
}

int allshard_plan_is_sharded(const allshard_plan *p)
{
    return p && p->overview.file_count > 1;
}

int64_t allshard_plan_total_size(const allshard_plan *p)
{
    return p ? p->overview.total_size : 0;
}

size_t allshard_plan_file_count(const allshard_plan *p)
{
    return p ? p->overview.file_count : 0;
}

const char *allshard_plan_file_name(const allshard_plan *p, size_t file)
{
    return p && file < p->overview.file_count ? p->overview.file_names[file] : NULL;
}

int64_t allshard_plan_file_bytes(const allshard_plan *p, size_t file)
{
    return p && file < p->overview.file_count ? p->overview.file_bytes[file] : 0;
}

size_t allshard_plan_tensor_count(const allshard_plan *p)
{
    return p ? p->overview.tensor_count : 0;
}

const char *allshard_plan_tensor_name(const allshard_plan *p, size_t tensor)
{
    return p && tensor < p->overview.tensor_count ? p->overview.tensors[tensor] : NULL;
}

size_t allshard_plan_tensor_file(const allshard_plan *p, size_t tensor)
{
    return p && tensor < p->overview.tensor_count ? as_overview_file(&p->overview, tensor) : 0;
}

void allshard_plan_file_tensors(const allshard_plan *p, size_t file, size_t *first, size_t *count)
{
    bool known = p && file < p->overview.file_count;
    *first = known ? p->overview.first_tensor[file] : 0;
    *count = known ? p->overview.first_tensor[file + 1] - *first : 0;
}

const char *allshard_plan_find(const allshard_plan *p, const char *name)
{
    size_t tensor = p && name ? as_overview_find(&p->overview, name) : SIZE_MAX;
    return p && tensor < p->overview.tensor_count
               ? p->overview.file_names[as_overview_file(&p->overview, tensor)]
               : NULL;
}

size_t allshard_plan_dropped_count(const allshard_plan *p)
{
    return p ? p->overview.dropped_count : 0;
}

const char *allshard_plan_dropped_name(const allshard_plan *p, size_t i)
{
    return p && i < p->overview.dropped_count ? p->overview.dropped[2 * i] : NULL;
}

const char *allshard_plan_dropped_for(const allshard_plan *p, size_t i)
{
    return p && i < p->overview.dropped_count ? p->overview.dropped[2 * i + 1] : NULL;
}

int64_t allshard_plan_writer_bytes(const allshard_plan *p, int rank)
{
    return p && rank >= 0 && rank < p->overview.ranks ? p->overview.writer_bytes[rank] : 0;
}

int64_t allshard_plan_exchanged_bytes(const allshard_plan *p)
{
    return p ? p->overview.exchanged_bytes : 0;
}

void allshard_plan_free(allshard_plan *p)
{
    if (p) {
        as_overview_free(&p->overview);
        free(p);
    }
}
