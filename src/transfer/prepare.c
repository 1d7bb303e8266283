/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/prepare.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "comm/make_plan.h"
#include "format/pattern.h"
#include "plan/planner.h"
#include "transfer/arguments.h"
#include "transfer/writers.h"

enum { LARGEST_ALIGN = 1 << 20, STRIPE_UNIT = 64 << 10 };

/* huggingface_hub's default. */
static const char default_size[] = "5GB";

int as_check_block_bytes(int64_t block_bytes, as_error *e)
{
    if (block_bytes < AS_BLOCK_UNIT || block_bytes > AS_MOST_BLOCK_BYTES ||
        block_bytes % AS_BLOCK_UNIT != 0) {
        return as_fail(e, AS_INVALID, 0,
                       "a block of %lld bytes; it must be a multiple of %d up to 512 MiB",
                       (long long)block_bytes, (int)AS_BLOCK_UNIT);
    }
    return AS_OK;
}

static int check_align(int64_t align, as_error *e)
{
    if (align < 0 || align > LARGEST_ALIGN || (align & (align - 1)) != 0) {
        return as_fail(e, AS_INVALID, 0,
                       "tensor data cannot be aligned to %lld bytes: it must be a power of two up "
                       "to 1 MiB, or 0",
                       (long long)align);
    }
    return AS_OK;
}

static int check_limits(const as_save_call *call, as_error *e)
{
    if (call->writers_per_node < 0 || call->creators < 0) {
        return as_fail(e, AS_INVALID, 0,
                       "%d writers per node, %d creators of files: give at least 1 of each, or 0 "
                       "for no limit",
                       call->writers_per_node, call->creators);
    }
    if (call->stripe_count < -1 || call->stripe_bytes < 0 || call->stripe_bytes % STRIPE_UNIT) {
        return as_fail(e, AS_INVALID, 0,
                       "%d stripes of %lld bytes: the count is at least 1, -1 for all targets, and "
                       "a stripe a multiple of 64 KiB; 0 leaves either as the folder has it",
                       call->stripe_count, (long long)call->stripe_bytes);
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
    if (code == AS_OK) {
        code = check_align(call->align, e);
    }
    if (code == AS_OK && (call->mode & ~07777)) {
        code = as_fail(e, AS_INVALID, 0, "the file mode %o has more than permission bits",
                       (unsigned)call->mode);
    }
    if (code == AS_OK) {
        code = check_limits(call, e);
    }
    if (code == AS_OK && call->engine) {
        code = as_probe_name(call->engine, e);
    }
    r->align = call->align;
    r->pattern = p->pattern;
    r->format = code == AS_OK ? as_format_by_name(p->pattern) : NULL;
    r->discard = call->discard;
    r->discard_count = call->discard_count;
    return code;
}

enum { ARGUMENTS = 15, PLAN_ARGUMENTS = 7 };

/* What all ranks must give alike; the plan depends on the first PLAN_ARGUMENTS. */
static void list_arguments(const as_prepared *p, const as_save_call *call, as_argument *out)
{
    const as_save_request *r = &p->request;
    const as_argument list[ARGUMENTS] = {
        as_argument_text("part of the state", call->state->part),
        as_argument_text("pattern", p->pattern),
        as_argument_read("max_shard_size", call->max_shard_size, r->limit),
        as_argument_number("block_bytes", r->block_bytes),
        as_argument_list("discard list", r->discard, r->discard_count),
        as_argument_number("align", r->align),
        as_argument_number("writers_per_node", call->writers_per_node),
        as_argument_text("directory", call->directory),
        as_argument_octal("mode", call->mode),
        as_argument_text("engine", call->engine),
        as_argument_text("checksum", call->no_checksums ? "none" : "xxh3"),
        as_argument_number("verify_after_write", call->read_back),
        as_argument_number("creators", call->creators),
        as_argument_number("stripe_count", call->stripe_count),
        as_argument_number("stripe_bytes", call->stripe_bytes),
    };
    memcpy(out, list, sizeof list);
}

static as_hash hash_arguments(const as_argument *arguments, int count, as_hash seed)
{
    as_hash sum = seed;
    for (int i = 0; i < count; i++) {
        const as_hash *value = &arguments[i].hash;
        sum = as_hash_seeded(value, sizeof *value, sum.low ^ sum.high);
    }
    return sum;
}

/* One reduction: may every rank's plan serve again, is it one plan (a rank may come with another of
 * its states than last time), and are all arguments alike? */
static int look_up(const as_save_call *call, const as_argument *arguments, as_hash key, bool *found,
                   as_error *e)
{
    const as_plan_cache *c = call->cache;
    int64_t given = (int64_t)(hash_arguments(arguments, ARGUMENTS, (as_hash){0}).low >> 2);
    int64_t values[] = {e->code != AS_OK || !c->filled || !as_hash_equal(c->key, key), given,
                        -given, c->number, -c->number};
    as_error trouble = AS_ERROR_INIT;
    int code = as_comm_max(call->session->comm, values, sizeof values / sizeof *values, &trouble);
    if (code != AS_OK) {
        as_error_move(e, &trouble);
        return code;
    }
    /* Where arguments differ the comparison that follows tells which, and on what rank. */
    *found = values[0] == 0 && values[1] == -values[2] && values[3] == -values[4];
    return AS_OK;
}

/* Sets the ranks that write, if not all do: the caller frees. Collective. */
static int choose_writers(const as_save_call *call, int32_t **out, as_error *e)
{
    int ranks = as_comm_size(call->session->comm);
    const int32_t *nodes;
    if (call->writers_per_node == 0) {
        return AS_OK;
    }
    int code = as_session_nodes(call->session, &nodes, e);
    if (code != AS_OK) {
        return code;
    }
    *out = calloc((size_t)ranks, sizeof **out);
    if (!*out) {
        (void)as_fail_nomem(e);
    } else {
        (void)as_writers_choose(nodes, ranks, call->writers_per_node, *out, e);
    }
    return as_comm_agree(call->session->comm, e);
}

static int make_plan(as_prepared *p, const as_save_call *call, as_error *e)
{
    as_comm *comm = call->session->comm;
    as_planner planner = {0};
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): as_plan_cache_clear frees the pattern */
    int code = as_extras_gather(&p->extras, comm, call->state, p->pattern, e);
    if (code != AS_OK) {
        return code;
    }
    int32_t *writers = NULL;
    code = choose_writers(call, &writers, e);
    if (code != AS_OK) {
        free(writers);
        return code;
    }
    p->request.writers = writers;
    p->request.metadata = &p->extras.metadata;
    (void)as_planner_save(&planner, as_comm_rank(comm), as_comm_size(comm), call->state,
                          &p->request, e);
    code = as_make_plan(comm, &planner, e);
    call->session->meter.tally.plan_steps = planner.steps_run;
    if (code == AS_OK) {
        p->plan = planner.plan;
        planner.plan = (as_plan){0};
    }
    as_planner_free(&planner);
    p->request.writers = NULL;
    free(writers);
    return code;
}

static void free_prepared(as_prepared *p)
{
    free(p->pattern);
    as_extras_free(&p->extras);
    as_plan_free(&p->plan);
    *p = (as_prepared){0};
}

void as_plan_cache_clear(as_plan_cache *c)
{
    free_prepared(&c->prepared);
    *c = (as_plan_cache){.filled = false};
}

int as_prepare(const as_save_call *call, as_error *e)
{
    as_plan_cache *cache = call->cache;
    as_prepared fresh = {0};
    as_argument arguments[ARGUMENTS];
    (void)check(&fresh, call, e);
    list_arguments(&fresh, call, arguments);
    as_hash key = hash_arguments(arguments, PLAN_ARGUMENTS, call->state->revision);
    bool found = false;
    int code = look_up(call, arguments, key, &found, e);
    if (code == AS_OK && found) {
        free_prepared(&fresh);
        call->session->meter.tally.plan_cached = 1;
        return AS_OK;
    }
    as_plan_cache_clear(cache);
    cache->number = ++call->session->plans; /* all ranks are here, or MPI is of no more use */
    if (code == AS_OK) {
        code = as_arguments_agree(call->session->comm, arguments, ARGUMENTS, e);
    }
    cache->prepared = fresh; /* the request points into it */
    if (code == AS_OK) {
        code = make_plan(&cache->prepared, call, e);
    }
    if (code != AS_OK) {
        as_plan_cache_clear(cache);
        return code;
    }
    cache->prepared.request.discard = NULL; /* the caller's, who may free it after the call */
    cache->prepared.request.discard_count = 0;
    cache->filled = true;
    cache->key = key;
    return AS_OK;
}

int as_prepared_file_name(const as_prepared *p, int32_t file, char **out, as_error *e)
{
    return as_pattern_name(p->pattern, (uint64_t)file + 1, (uint64_t)p->plan.file_count, out, e);
}

int as_save_plan(const as_save_call *call, as_plan *out, char **pattern, as_error *e)
{
    as_plan_cache cache = {.filled = false};
    as_save_call own = *call;
    own.cache = &cache;
    int code = as_prepare(&own, e);
    if (code == AS_OK) {
        *out = cache.prepared.plan;
        *pattern = cache.prepared.pattern;
        cache.prepared.plan = (as_plan){0};
        cache.prepared.pattern = NULL;
    }
    as_plan_cache_clear(&cache);
    return code;
}
