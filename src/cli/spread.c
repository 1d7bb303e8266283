/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/spread.h"

#include <stdlib.h>
#include <string.h>

#include "base/quote.h"
#include "base/size.h"

/* ------------------------------------------------------------------ contexts */

int as_spread_error(const as_spread *s, int code, as_error *e)
{
    allshard_error error = {.size = sizeof error};
    if (code == ALLSHARD_TIMEOUT) {
        as_world_lose();
    }
    if (allshard_last_error(s->context, &error) != code) {
        return as_fail(e, code, 0, "%s", as_code_text(code));
    }
    bool first = e->code == AS_OK;
    (void)as_fail(e, code, 0, "%s", error.text ? error.text : as_code_text(code));
    if (first) {
        e->rank = error.rank;
        e->sys_errno = error.sys_errno;
        size_t length = error.host ? strnlen(error.host, sizeof e->host - 1) : 0;
        memcpy(e->host, error.host ? error.host : "", length);
        e->host[length] = '\0';
    }
    return e->code;
}

/* The part's name: the single file's without its extension. */
static int part_of(const char *pattern, char **out, as_error *e)
{
    int code = as_pattern_name(pattern, 1, 1, out, e);
    char *dot = code == AS_OK ? strrchr(*out, '.') : NULL;
    if (dot) {
        *dot = '\0';
    }
    return code;
}

static allshard_comm everyone(void)
{
#ifdef ALLSHARD_NO_MPI
    return ALLSHARD_COMM_SELF;
#else
    return MPI_COMM_WORLD;
#endif
}

static int create_state(as_spread *s, const char *pattern, as_error *e)
{
    char *part = NULL;
    int code = part_of(pattern, &part, e);
    if (code == AS_OK) {
        code = as_tool_usage(s->tool, allshard_state_create(&s->state, s->context, part));
        if (code != AS_OK) {
            (void)as_spread_error(s, code, e);
        }
    }
    free(part);
    return code;
}

/* An error that the library tells is that of allshard_open, which every rank tells. */
static void take_log(int level, const char *text, void *user)
{
    as_spread *s = user;
    if (level == ALLSHARD_LOG_ERROR) {
        free(s->trouble);
        s->trouble = strdup(text);
    } else if (s->log.call) {
        s->log.call(level, text, s->log.user);
    }
}

int as_spread_start(as_spread *s, as_tool *tool, const allshard_comm *ranks,
                    const allshard_options *options, as_error *e)
{
    allshard_options own = *options;
    *s = (as_spread){.tool = tool, .log = {.call = options->log, .user = options->log_user}};
    own.log = take_log;
    own.log_user = s;
    int code = allshard_open(&s->context, ranks ? *ranks : everyone(), &own);
    if (code == AS_OK) {
        return AS_OK;
    }
    const char *why = s->trouble ? s->trouble : as_code_text(code);
    return as_fail(e, as_tool_usage(tool, code), 0, "the library could not be started: %s", why);
}

int as_spread_open(as_spread *s, as_tool *tool, const char *pattern, int64_t memory, bool trace,
                   as_error *e)
{
    allshard_options options = {
        .size = sizeof options,
        .log = as_output_log,
        .log_user = &tool->out,
        .progress = as_progress_update,
        .progress_user = &s->progress,
        .memory = memory,
        .trace = trace,
    };
    int code = as_spread_start(s, tool, NULL, &options, e);
    if (code != AS_OK) {
        return code;
    }
    as_progress_begin(&s->progress, &tool->out, "working");
    (void)create_state(s, pattern, e);
    return as_world_agree(&tool->world, e);
}

void as_spread_close(as_spread *s)
{
    as_progress_end(&s->progress);
    (void)allshard_state_free(s->state);
    if (s->context) {
        (void)allshard_close(s->context);
    }
    for (size_t i = 0; s->memory && i < s->count; i++) {
        free(s->memory[i]);
    }
    free((void *)s->memory);
    free(s->trouble);
    *s = (as_spread){.tool = NULL};
}

/* -------------------------------------------------------------------- pieces */

static int declare_piece(as_spread *s, const as_tensors *t, const as_layout *l, size_t i,
                         int stored, as_error *e)
{
    as_layout_piece piece;
    if (!as_layout_get(l, t, i, s->tool->world.rank, &piece)) {
        return AS_OK;
    }
    if (piece.bytes > 0 && !s->memory[i]) {
        s->memory[i] = calloc(1, (size_t)piece.bytes);
        if (!s->memory[i]) {
            return as_fail(e, AS_NOMEM, 0,
                           "%lld bytes for tensor %s are more than the memory that is free; run on "
                           "more ranks or nodes, with a layout that spreads the model",
                           (long long)piece.bytes,
                           as_quote(as_tensors_name(t, i), as_tensors_row(t, i)->name_length).text);
        }
    }
    allshard_tensor tensor = {
        .size = sizeof tensor,
        .name = as_tensors_name(t, i),
        .dtype = as_tensors_row(t, i)->dtype,
        .ndim = as_tensors_row(t, i)->ndim,
        .shape = as_tensors_shape(t, i),
        .offset = piece.flat ? NULL : piece.offset,
        .local_shape = piece.flat ? NULL : piece.shape,
        .flat = piece.flat,
        .flat_offset = piece.flat ? piece.flat_offset : 0,
        .flat_count = piece.flat ? piece.flat_count : 0,
        .data = s->memory[i],
        .order = (int64_t)i + 1,
        .stored_dtype = stored,
    };
    int code = allshard_state_tensor(s->state, &tensor);
    return code == AS_OK ? AS_OK : as_spread_error(s, code, e);
}

int as_spread_declare(as_spread *s, const as_tensors *t, const as_layout *l, as_error *e)
{
    s->count = as_tensors_count(t);
    s->memory = calloc(s->count + 1, sizeof *s->memory);
    if (!s->memory) {
        (void)as_fail_nomem(e);
    }
    int code = AS_OK;
    for (size_t i = 0; s->memory && i < s->count && code == AS_OK; i++) {
        code = declare_piece(s, t, l, i, AS_DTYPE_NONE, e);
    }
    return as_world_agree(&s->tool->world, e);
}

int as_spread_store_as(as_spread *s, const char *pattern, const as_tensors *t, const as_layout *l,
                       const as_casts *casts, as_error *e)
{
    (void)allshard_state_free(s->state);
    s->state = NULL;
    int code = create_state(s, pattern, e);
    for (size_t i = 0; i < s->count && code == AS_OK; i++) {
        code = declare_piece(s, t, l, i, as_casts_to(casts, as_tensors_row(t, i)->dtype), e);
    }
    return as_world_agree(&s->tool->world, e);
}

/* ------------------------------------------------------------------- options */

int as_metadata_check(const as_arg_list *pairs, as_error *e)
{
    for (size_t i = 0; i < pairs->count; i++) {
        const char *equals = strchr(pairs->items[i], '=');
        if (!equals || equals == pairs->items[i]) {
            return as_fail(e, AS_INVALID, 0, "--metadata is %s; it must be KEY=VALUE",
                           as_quote(pairs->items[i], strlen(pairs->items[i])).text);
        }
    }
    return AS_OK;
}

int as_spread_metadata(as_spread *s, const as_arg_list *pairs, as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; i < pairs->count && code == AS_OK; i++) {
        const char *equals = strchr(pairs->items[i], '=');
        char *key = strndup(pairs->items[i], (size_t)(equals - pairs->items[i]));
        if (!key) {
            return as_fail_nomem(e);
        }
        code = allshard_state_meta(s->state, key, equals + 1);
        if (code != AS_OK) {
            code = as_spread_error(s, code, e);
        }
        free(key);
    }
    return code;
}

int as_save_options_check(const char *max_shard_size, const char *pattern, as_error *e)
{
    int64_t bytes = 0;
    int code = AS_OK;
    if (max_shard_size && as_size_parse(max_shard_size, &bytes, e) != AS_OK) {
        as_error_prefix(e, "--max-shard-size");
        code = e->code;
    }
    if (code == AS_OK && pattern && as_pattern_check(pattern, e) != AS_OK) {
        as_error_prefix(e, "--pattern");
        code = e->code;
    }
    return code;
}

int as_block_size_read(const char *text, int64_t *out, as_error *e)
{
    if (!text) {
        return AS_OK;
    }
    int code = as_args_memory(text, "--block-size", out, e);
    if (code == AS_OK && (*out < 64 || *out % 64 != 0)) {
        code = as_fail(e, AS_INVALID, 0, "--block-size is %s; it must be a multiple of 64 bytes",
                       as_quote(text, strlen(text)).text);
    }
    return code;
}

int as_memory_read(const char *text, int64_t *out, as_error *e)
{
    return text ? as_args_memory(text, "--memory", out, e) : AS_OK;
}
