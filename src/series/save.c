/* SPDX-License-Identifier: Apache-2.0
 * A save of a series until the parts are saved, or staged.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "commit/folder.h"
#include "format/pattern.h"
#include "series/assemble.h"
#include "series/parts.h"
#include "series/tags.h"
#include "series/words.h"
#include "transfer/arguments.h"
#include "transfer/outcome.h"

enum { BUSY_PAUSE_MS = 20, LONGEST_BUSY_WAIT_S = 30 };

/* ---- what is asked for ---- */

static int part_pattern(const as_save_call *call, char **out, as_error *e)
{
    if (!call->pattern) {
        return as_pattern_default(call->state->part, out, e);
    }
    *out = strdup(call->pattern);
    return *out ? AS_OK : as_fail_nomem(e);
}

/* Would two parts write files of the same names? Told before anything is written. */
static int check_pair(const as_save_call *a, const as_save_call *b, as_error *e)
{
    char *first = NULL;
    char *second = NULL;
    if (strcmp(a->state->part, b->state->part) == 0) {
        return as_fail(e, AS_INVALID, 0, "two parts have the name \"%s\"", a->state->part);
    }
    int code = part_pattern(a, &first, e);
    code = code == AS_OK ? part_pattern(b, &second, e) : code;
    if (code == AS_OK && strcmp(first, second) == 0) {
        code =
            as_fail(e, AS_INVALID, 0,
                    "the parts \"%s\" and \"%s\" have the same pattern, \"%s\": give each its own",
                    a->state->part, b->state->part, first);
    }
    free(first);
    free(second);
    return code;
}

static int check_parts(const as_series_call *call, as_error *e)
{
    if (call->count < 1 || call->count > AS_MOST_PARTS) {
        return as_fail(e, AS_INVALID, 0, "%zu parts; 1 to %d are possible", call->count,
                       (int)AS_MOST_PARTS);
    }
    int code = AS_OK;
    for (size_t i = 0; i < call->count && code == AS_OK; i++) {
        if (strcmp(call->parts[i].save.state->part, AS_RANKS_PART) == 0) {
            code = as_fail(e, AS_INVALID, 0,
                           "a part has the name \"" AS_RANKS_PART
                           "\", which is that of the ranks' state");
        }
        for (size_t j = 0; j < i && code == AS_OK; j++) {
            code = check_pair(&call->parts[j].save, &call->parts[i].save, e);
        }
    }
    return code;
}

static int check_rank_state(const as_series_call *call, as_error *e)
{
    if (call->rank_state_bytes > AS_MOST_RANK_STATE) {
        return as_fail(e, AS_LIMIT, 0,
                       "rank_state has %zu bytes, and %d are the most; declare what is so large as "
                       "tensors of a part",
                       call->rank_state_bytes, (int)AS_MOST_RANK_STATE);
    }
    return call->rank_state_bytes && !call->rank_state
               ? as_fail(e, AS_INVALID, 0, "rank_state_bytes is set, but rank_state is NULL")
               : AS_OK;
}

static int copy_text(char **out, const char *text, as_error *e)
{
    *out = text ? strdup(text) : NULL;
    return text && !*out ? as_fail_nomem(e) : AS_OK;
}

static int take_record(const as_series *r, const as_series_call *call, as_record *record,
                       as_error *e)
{
    record->step = call->step;
    record->time_ms = as_stamp_now();
    record->world_size = r->ranks;
    int code = call->metric ? as_metric_check(call->metric, e) : AS_OK;
    if (code == AS_OK) {
        code = copy_text(&record->metric, call->metric, e);
        record->metric_value = call->metric_value;
    }
    for (size_t i = 0; call->fields && i < call->fields->count && code == AS_OK; i++) {
        const as_field *f = &call->fields->items[i];
        code = as_fields_set(&record->fields, f->name, f->value, e);
    }
    return code == AS_OK ? as_record_job(record, e) : code;
}

static int take_tags(const as_series_call *call, as_names *tags, as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; i < call->tag_count && code == AS_OK; i++) {
        code = as_tag_check(call->tags[i], e);
        code = code == AS_OK ? as_names_add(tags, call->tags[i], e) : code;
    }
    if (code == AS_OK && tags->count > AS_MOST_TAGS) {
        code = as_fail(e, AS_LIMIT, 0, "%zu tags; %d are the most", tags->count, (int)AS_MOST_TAGS);
    }
    as_names_sort(tags);
    return code;
}

static int take_name(const as_series *r, const as_series_call *call, char **out, as_error *e)
{
    as_buffer name = AS_BUFFER_INIT;
    int code = as_folder_pattern_write(r->pattern, call->step, call->fields, &name, e);
    code = code == AS_OK ? copy_text(out, name.data, e) : code;
    as_buffer_free(&name);
    return code;
}

/* Copies and checks. An error is for the next agreement. */
static int take_call(as_series *r, const as_series_call *call, as_error *e)
{
    as_saving *s = &r->saving;
    int code = call->step >= 0 ? AS_OK
                               : as_fail(e, AS_INVALID, 0, "step is %lld; it must be 0 or more",
                                         (long long)call->step);
    if (code == AS_OK) {
        code = check_parts(call, e);
    }
    if (code == AS_OK) {
        code = check_rank_state(call, e);
    }
    if (code == AS_OK) {
        code = take_record(r, call, &s->record, e);
    }
    if (code == AS_OK) {
        code = take_tags(call, &s->tags, e);
    }
    if (code == AS_OK && call->note && !as_is_line(call->note)) {
        code = as_fail(e, AS_INVALID, 0, "the note is not one line of UTF-8");
    }
    if (code == AS_OK) {
        code = copy_text(&s->note, call->note, e);
    }
    s->mode = call->count ? (mode_t)call->parts[0].save.mode : 0;
    return code == AS_OK ? take_name(r, call, &s->name, e) : code;
}

static int64_t bits_of(double value)
{
    int64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Does everybody save the same? Collective. */
static int compare(as_series *r, const as_series_call *call, as_error *e)
{
    const char *parts[AS_MOST_PARTS];
    const char *fields[2 * AS_MOST_FIELDS];
    size_t part_count = call->count <= AS_MOST_PARTS ? call->count : 0;
    size_t field_count = call->fields ? call->fields->count : 0;
    for (size_t i = 0; i < part_count; i++) {
        parts[i] = call->parts[i].save.state->part;
    }
    for (size_t i = 0; i < field_count; i++) {
        fields[2 * i] = call->fields->items[i].name;
        fields[2 * i + 1] = call->fields->items[i].value;
    }
    const as_argument arguments[] = {
        as_argument_number("step", call->step),
        as_argument_text("root", r->root),
        as_argument_list("states", parts, part_count),
        as_argument_list("fields", fields, 2 * field_count),
        as_argument_list("tags", (const char *const *)r->saving.tags.items, r->saving.tags.count),
        as_argument_text("metric", call->metric),
        as_argument_number("metric_value", bits_of(call->metric_value)),
        as_argument_text("note", call->note),
    };
    return as_arguments_agree(r->session->comm, arguments, sizeof arguments / sizeof *arguments, e);
}

/* ---- the beginning ---- */

static int declare_ranks(as_series *r, const as_series_call *call, as_error *e)
{
    if (r->has_ranks_state) {
        as_state_free(&r->ranks_state);
    }
    int code = as_rank_state_declare(&r->ranks_state, r->rank, (void *)(uintptr_t)call->rank_state,
                                     (int64_t)call->rank_state_bytes, e);
    r->has_ranks_state = code == AS_OK;
    return code;
}

/* How large each rank's state is; a part comes of it if any has one. Collective. */
static int gather_ranks(as_series *r, const as_series_call *call, as_error *e)
{
    as_saving *s = &r->saving;
    as_comm *c = r->session->comm;
    int ranks = as_comm_size(c);
    s->rank_bytes = calloc((size_t)ranks, sizeof *s->rank_bytes);
    if (!s->rank_bytes) {
        (void)as_fail_nomem(e);
    }
    int code = as_comm_agree(c, e);
    if (code != AS_OK || !s->rank_bytes) {
        return code;
    }
    s->rank_bytes[as_comm_rank(c)] = (int64_t)call->rank_state_bytes;
    code = as_comm_sum(c, s->rank_bytes, ranks, e);
    for (int i = 0; i < ranks; i++) {
        s->has_ranks = s->has_ranks || s->rank_bytes[i] > 0;
    }
    s->count = call->count + s->has_ranks;
    if (code == AS_OK && s->has_ranks) { /* an error is for the next agreement */
        (void)declare_ranks(r, call, e);
    }
    return code;
}

/* Who removes checkpoints or looks after the root holds it for a moment, and one that replaces much
 * for some seconds: that must not cost a save. Another job's save lasts longer, and is an error. The
 * other ranks wait in the agreement that follows, so that they get signs of life. */
static int take_root(as_series *r, as_error *e)
{
    const as_txn_options options = {.mode = r->saving.mode,
                                    .tick = {.call = as_series_look, .self = r}};
    const struct timespec pause = {.tv_nsec = BUSY_PAUSE_MS * 1000000L};
    int64_t until = as_clock() + LONGEST_BUSY_WAIT_S * INT64_C(1000000000);
    bool told = false;
    for (;;) {
        as_error own = AS_ERROR_INIT;
        int code = as_txn_begin(&r->txn, r->root, &options, &r->log, &own);
        if (code != AS_BUSY || as_clock() >= until) {
            return as_error_pass(e, &own);
        }
        if (!told) {
            as_log_say(&r->session->log, AS_LOG_INFO, "%s; it is waited for, %d s at most",
                       as_error_text(&own), LONGEST_BUSY_WAIT_S);
            told = true;
        }
        as_error_clear(&own);
        (void)nanosleep(&pause, NULL);
        code = as_comm_look(r->session->comm, e);
        if (code != AS_OK) {
            return code;
        }
    }
}

/* The main process's transaction. Jobs of the background take it over, so that what it has to tell
 * is told as they tell it. */
static int begin_txn(as_series *r, as_error *e)
{
    int code = take_root(r, e);
    if (code == AS_OK) {
        code = as_txn_check_name(r->txn, r->saving.name, true, &r->saving.replaces, e);
    }
    as_background_tell(r->background, &r->session->log);
    return code;
}

/* Nothing of it is left on any rank. */
static void give_up(as_series *r, as_error *e)
{
    as_saving *s = &r->saving;
    if (r->is_main && s->name) {
        as_error_clear(&s->error);
        (void)as_fail(&s->error, e->code, 0, "%s", as_error_text(e));
        as_series_keep_failure(r);
        (void)as_series_job_abort(r, NULL);
        as_background_tell(r->background, &r->session->log);
    }
    if (as_comm_is_lost(e->code)) {
        r->lost = true;
    }
    as_saving_free(s);
}

/* Arguments, and the root's lock. Collective. */
static int begin(as_series *r, const as_series_call *call, as_error *e)
{
    as_saving *s = &r->saving;
    as_comm *c = r->session->comm;
    as_comm_outcome(c, as_outcome_unchanged);
    *s = (as_saving){.record = AS_RECORD_INIT, .error = AS_ERROR_INIT, .begun = as_clock()};
    atomic_store(&r->stop, 0);
    r->counts = false;
    r->settled = false;
    if (r->lost) {
        (void)as_fail(e, AS_MPI, 0, "%s: an earlier save of this series has lost the other ranks",
                      r->root);
    } else if (e->code == AS_OK) {
        (void)take_call(r, call, e);
    }
    int code = compare(r, call, e);
    if (code != AS_OK) {
        as_saving_free(s);
        return code;
    }
    code = gather_ranks(r, call, e);
    if (code == AS_OK) {
        (void)copy_text(&s->record.parent, r->parent, e); /* an error is for the next agreement */
        if (r->is_main && e->code == AS_OK) {
            (void)begin_txn(r, e);
        }
        code = as_comm_agree(c, e);
    }
    if (code != AS_OK) {
        give_up(r, e);
    }
    return code;
}

/* ---- the parts ---- */

/* What the caller wants of part `i`; the ranks' state is saved as the first part is. */
static as_isave_call part_call(const as_series *r, const as_series_call *call, size_t i)
{
    if (i < call->count) {
        return call->parts[i];
    }
    as_isave_call ranks = call->parts[0];
    as_save_call *save = &ranks.save;
    *save = (as_save_call){.session = save->session,
                           .state = &r->ranks_state,
                           .cache = (as_plan_cache *)(uintptr_t)&r->ranks_plans,
                           .pattern = AS_RANKS_PATTERN,
                           .block_bytes = save->block_bytes,
                           .mode = save->mode,
                           .engine = save->engine,
                           .no_checksums = save->no_checksums,
                           .read_back = save->read_back,
                           .creators = save->creators};
    return ranks;
}

/* *path is the caller's. */
static int part_path(const as_series *r, size_t i, as_buffer *path, as_error *e)
{
    char folder[AS_PART_FOLDER_SIZE];
    as_part_folder(i, folder);
    path->size = 0;
    return as_buffer_format(path, e, "%s/" AS_META_NAME "/" AS_NEW_NAME "/%s", r->root, folder);
}

static void name_checkpoint(const as_series *r, as_error *e)
{
    as_error_prefix(e, "%s/%s", r->root, r->saving.name);
}

/* The save of one part ends with a figure and a word about that part alone. */
static void end_part(as_series *r, const as_session *session)
{
    as_comm_outcome(session->comm, as_outcome_unchanged);
    as_saving_add_figures(&r->saving, session);
}

static int save_parts(as_series *r, const as_series_call *call, as_error *e)
{
    as_buffer path = AS_BUFFER_INIT;
    int code = AS_OK;
    for (size_t i = 0; i < r->saving.count && code == AS_OK; i++) {
        as_isave_call part = part_call(r, call, i);
        (void)part_path(r, i, &path, e); /* an error is for the next agreement */
        part.save.directory = path.data;
        part.save.inner = true;
        code = as_save_run(&part.save, e);
        end_part(r, r->session);
    }
    as_buffer_free(&path);
    return code;
}

int as_series_save(as_series *r, const as_series_call *call, as_series_news *news, as_error *e)
{
    int code = begin(r, call, e);
    if (code != AS_OK) {
        return code;
    }
    code = save_parts(r, call, e);
    if (code != AS_OK) {
        name_checkpoint(r, e);
        give_up(r, e);
        return code;
    }
    r->saving.blocked = as_clock() - r->saving.begun;
    as_series_set_out(r, AS_SERIES_COMMIT);
    as_series_await(r);
    return as_series_take(r, news, e);
}

/* After a failure nothing of any part is in flight any more. Collective. */
static void recall_parts(as_series *r)
{
    as_saving *s = &r->saving;
    for (size_t i = 0; i < s->count && s->parts[i]; i++) {
        as_isave_cancel(s->parts[i]);
    }
    for (size_t i = 0; i < s->count && s->parts[i]; i++) {
        as_isave_wait(s->parts[i]);
        as_isave_end(s->parts[i]);
        as_isave_free(s->parts[i]);
        s->parts[i] = NULL;
    }
}

static int stage_parts(as_series *r, const as_series_call *call, as_error *e)
{
    as_buffer path = AS_BUFFER_INIT;
    int code = AS_OK;
    for (size_t i = 0; i < r->saving.count && code == AS_OK; i++) {
        as_isave_call part = part_call(r, call, i);
        (void)part_path(r, i, &path, e);
        part.save.directory = path.data;
        part.save.inner = true;
        code = as_isave_begin(&r->saving.parts[i], &part, e);
    }
    as_buffer_free(&path);
    return code;
}

int as_series_isave(as_series *r, const as_series_call *call, as_error *e)
{
    int code = begin(r, call, e);
    if (code != AS_OK) {
        return code;
    }
    code = stage_parts(r, call, e);
    if (code != AS_OK) {
        name_checkpoint(r, e);
        recall_parts(r);
        give_up(r, e);
        return code;
    }
    r->saving.blocked = as_clock() - r->saving.begun;
    as_series_set_out(r, AS_SERIES_PARTS);
    return AS_OK;
}
