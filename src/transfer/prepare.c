/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/prepare.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "comm/make_plan.h"
#include "format/pattern.h"
#include "plan/planner.h"
#include "transfer/arguments.h"

/* With all that goes with a block in a message it stays below 1 GiB. */
enum { LARGEST_BLOCK = 512 << 20 };

/* huggingface_hub's default. */
static const char default_size[] = "5GB";

int as_check_block_bytes(int64_t block_bytes, as_error *e)
{
    if (block_bytes < AS_BLOCK_UNIT || block_bytes > LARGEST_BLOCK ||
        block_bytes % AS_BLOCK_UNIT != 0) {
        return as_fail(e, AS_INVALID, 0,
                       "a block of %lld bytes; it must be a multiple of %d up to 512 MiB",
                       (long long)block_bytes, (int)AS_BLOCK_UNIT);
    }
    return AS_OK;
}

/* This rank's own arguments. */
static int check(as_prepared *p, const as_save_call *call, as_error *e)
{
    int code = AS_OK;
    if (call->pattern) {
        p->pattern = strdup(call->pattern);
        code = p->pattern ? AS_OK : as_fail_nomem(e);
    } else {
        code = as_pattern_default(call->state->part, &p->pattern, e);
    }
    if (code == AS_OK) {
        code = as_pattern_check(p->pattern, e);
    }
    as_save_request *r = &p->request;
    if (code == AS_OK) {
        const char *size = call->max_shard_size ? call->max_shard_size : default_size;
        code = as_size_parse(size, &r->limit, e);
    }
    r->block_bytes = call->block_bytes ? call->block_bytes : AS_BLOCK_BYTES;
    if (code == AS_OK) {
        code = as_check_block_bytes(r->block_bytes, e);
    }
    if (code == AS_OK && (call->mode & ~07777)) {
        code = as_fail(e, AS_INVALID, 0, "the file mode %o has more than permission bits",
                       (unsigned)call->mode);
    }
    r->pattern = p->pattern;
    r->format = code == AS_OK ? as_format_by_name(p->pattern) : NULL;
    r->discard = call->discard;
    r->discard_count = call->discard_count;
    return code;
}

static int compare(const as_prepared *p, const as_save_call *call, as_error *e)
{
    const as_save_request *r = &p->request;
    as_argument arguments[] = {
        as_argument_text("directory", call->directory),
        as_argument_text("part of the state", call->state->part),
        as_argument_text("pattern", p->pattern),
        as_argument_number("max_shard_size", r->limit),
        as_argument_number("block_bytes", r->block_bytes),
        as_argument_number("mode", call->mode),
        as_argument_list("discard list", r->discard, r->discard_count),
    };
    return as_arguments_agree(call->comm, arguments, sizeof arguments / sizeof *arguments, e);
}

int as_prepare(as_prepared *p, const as_save_call *call, as_error *e)
{
    *p = (as_prepared){0};
    as_planner planner = {0};
    (void)check(p, call, e);
    int code = compare(p, call, e);
    if (code == AS_OK) {
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): as_prepared_free frees the pattern */
        code = as_extras_gather(&p->extras, call->comm, call->state, p->pattern, e);
    }
    if (code != AS_OK) {
        return code;
    }
    p->request.metadata = &p->extras.metadata;
    (void)as_planner_save(&planner, as_comm_rank(call->comm), as_comm_size(call->comm), call->state,
                          &p->request, e);
    code = as_make_plan(call->comm, &planner, e);
    if (code == AS_OK) {
        p->plan = planner.plan;
        planner.plan = (as_plan){0};
    }
    as_planner_free(&planner);
    return code;
}

int as_prepared_file_name(const as_prepared *p, int32_t file, char **out, as_error *e)
{
    return as_pattern_name(p->pattern, (uint64_t)file + 1, (uint64_t)p->plan.file_count, out, e);
}

void as_prepared_free(as_prepared *p)
{
    free(p->pattern);
    as_extras_free(&p->extras);
    as_plan_free(&p->plan);
}

int as_save_plan(const as_save_call *call, as_plan *out, char **pattern, as_error *e)
{
    as_prepared p;
    int code = as_prepare(&p, call, e);
    if (code == AS_OK) {
        *out = p.plan;
        *pattern = p.pattern;
        p.plan = (as_plan){0};
        p.pattern = NULL;
    }
    as_prepared_free(&p);
    return code;
}
