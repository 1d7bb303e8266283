/* SPDX-License-Identifier: Apache-2.0
 * Saves of a series.
 */
#include <stdlib.h>
#include <string.h>

#include "api/flights.h"
#include "api/save.h"
#include "api/series.h"
#include "transfer/arguments.h"

/* A caller's checkpoint, taken apart. */
typedef struct taken {
    as_series_call call;
    as_isave_call parts[AS_MOST_PARTS];
    as_fields fields;
    int32_t if_busy;
} taken;

static void take_parts(taken *t, allshard_series *r, const allshard_checkpoint *c, bool nonblocking,
                       as_error *e)
{
    if (c->state_count > AS_MOST_PARTS || (c->state_count && !c->states)) {
        (void)as_fail(e, AS_INVALID, 0, "%zu parts%s; 1 to %d are possible", c->state_count,
                      c->states ? "" : ", but states is NULL", (int)AS_MOST_PARTS);
        return;
    }
    for (size_t i = 0; i < c->state_count; i++) {
        const allshard_save_options *o = c->options ? c->options[i] : NULL;
        allshard_save_options known = {.size = 0};
        if (!c->states[i] || c->states[i]->context != r->context) {
            (void)as_fail(e, AS_INVALID, 0, "states[%zu] is %s", i,
                          c->states[i] ? "of another context" : "NULL");
            return;
        }
        if (nonblocking) {
            as_isave_call_from(&t->parts[i], c->states[i], NULL, o, &known, e);
        } else {
            as_save_call_from(&t->parts[i].save, c->states[i], NULL, o, e);
        }
        t->if_busy = i == 0 || known.if_busy == ALLSHARD_BUSY_REFUSE ? known.if_busy : t->if_busy;
        t->call.count = i + 1;
    }
}

static void take_fields(taken *t, const allshard_checkpoint *c, as_error *e)
{
    if (c->field_count && !c->fields) {
        (void)as_fail(e, AS_INVALID, 0, "field_count is set, but fields is NULL");
        return;
    }
    for (size_t i = 0; i < c->field_count; i++) {
        const allshard_field *f = &c->fields[i];
        if (!f->name || !f->value) {
            (void)as_fail(e, AS_INVALID, 0, "fields[%zu] has no name, or no value", i);
            return;
        }
        if (as_fields_set(&t->fields, f->name, f->value, e) != AS_OK) {
            return;
        }
    }
}

static void check_tags(const allshard_checkpoint *c, as_error *e)
{
    if (c->tag_count && !c->tags) {
        (void)as_fail(e, AS_INVALID, 0, "tag_count is set, but tags is NULL");
    }
    for (size_t i = 0; c->tags && i < c->tag_count; i++) {
        if (!c->tags[i]) {
            (void)as_fail(e, AS_INVALID, 0, "tags[%zu] is NULL", i);
        }
    }
}

/* Faults go to e, and are agreed on. */
static void take(taken *t, allshard_series *r, const allshard_checkpoint *given, bool nonblocking,
                 as_error *e)
{
    allshard_checkpoint c;
    if (!given) {
        (void)as_fail(e, AS_INVALID, 0, "the checkpoint is NULL");
    }
    (void)as_take_options(&c, sizeof c, given, given ? given->size : 0, "allshard_checkpoint", e);
    if (e->code != AS_OK) {
        return;
    }
    take_parts(t, r, &c, nonblocking, e);
    take_fields(t, &c, e);
    check_tags(&c, e);
    t->call.step = c.step;
    t->call.rank_state = c.rank_state;
    t->call.rank_state_bytes = c.rank_state_bytes;
    t->call.tags = c.tags;
    t->call.tag_count = e->code == AS_OK ? c.tag_count : 0;
    t->call.metric = c.metric;
    t->call.metric_value = c.metric_value;
    t->call.note = c.note;
}

/* What decides how the ranks go on together. Collective. */
static int compare(as_comm *c, const taken *t, as_error *e)
{
    int64_t count = (int64_t)t->call.count;
    int64_t values[] = {e->code != AS_OK, count, -count, t->if_busy, -t->if_busy};
    as_error trouble = AS_ERROR_INIT;
    int code = as_comm_max(c, values, sizeof values / sizeof *values, &trouble);
    if (code != AS_OK) {
        as_error_move(e, &trouble);
        return code;
    }
    if (values[0]) {
        return as_comm_agree(c, e);
    }
    if (values[1] == -values[2] && values[3] == -values[4]) {
        return AS_OK;
    }
    const as_argument arguments[] = {as_argument_number("state_count", count),
                                     as_argument_number("if_busy", t->if_busy)};
    return as_arguments_agree(c, arguments, sizeof arguments / sizeof *arguments, e);
}

/* Earlier saves of the series, and of its states. Collective. */
static int clear_way(allshard_series *r, const allshard_checkpoint *c, const taken *t, as_error *e)
{
    as_series_clear_way(r);
    int code = AS_OK;
    for (size_t i = 0; i < t->call.count && code == AS_OK; i++) {
        code = as_flights_settle(c->states[i], t->if_busy == ALLSHARD_BUSY_REFUSE, e);
    }
    return code;
}

/* So that other saves of the states wait for this one. */
static void add_flights(allshard_series *r, const allshard_checkpoint *c, size_t count,
                        allshard_request **made)
{
    for (size_t i = 0; i < count; i++) {
        as_flights_add(made[i], c->states[i], as_series_part(r->series, i));
        made[i]->borrowed = true;
        r->parts[i] = made[i];
        made[i] = NULL;
    }
}

static void make_flights(allshard_request **out, size_t count, as_error *e)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = calloc(1, sizeof *out[i]);
        if (!out[i]) {
            (void)as_fail_nomem(e);
        }
    }
}

static int run_nonblocking(allshard_series *r, const allshard_checkpoint *c, taken *t, as_error *e)
{
    allshard_request *made[AS_MOST_PARTS] = {NULL};
    make_flights(made, t->call.count, e); /* an error is for the next agreement */
    int code = as_series_isave(r->series, &t->call, e);
    if (code == AS_OK) {
        add_flights(r, c, t->call.count, made);
    }
    for (size_t i = 0; i < t->call.count; i++) {
        free(made[i]);
    }
    return code;
}

static int run_blocking(allshard_series *r, taken *t, as_error *e)
{
    as_series_news news = {.step = t->call.step};
    int code = as_series_save(r->series, &t->call, &news, e);
    if (code == AS_OK) {
        as_policy_saved(r->policy, news.step, news.blocked_s, news.durable_s);
    }
    return code;
}

static int run(allshard_series *r, const allshard_checkpoint *c, taken *t, bool nonblocking,
               as_error *e)
{
    int code = compare(r->context->session.comm, t, e);
    if (code == AS_OK) {
        code = clear_way(r, c, t, e);
    }
    if (code != AS_OK) {
        return code;
    }
    as_policy_began(r->policy, t->call.step);
    code = nonblocking ? run_nonblocking(r, c, t, e) : run_blocking(r, t, e);
    if (code != AS_OK) {
        as_policy_failed(r->policy, t->call.step);
    }
    return code;
}

static int save(allshard_series *r, const allshard_checkpoint *c, const char *function,
                bool nonblocking)
{
    if (!r) {
        return ALLSHARD_INVALID;
    }
    as_error *e = as_begin(r->context);
    if (as_meet(r->context, function) != AS_OK) {
        return as_end(r->context);
    }
    taken *t = calloc(1, sizeof *t);
    taken none = {.if_busy = 0};
    if (t) {
        t->call.parts = t->parts;
        t->call.fields = &t->fields;
        take(t, r, c, nonblocking, e);
    } else {
        (void)as_fail_nomem(e);
    }
    (void)run(r, c, t ? t : &none, nonblocking, e);
    if (t) {
        as_fields_free(&t->fields);
    }
    free(t);
    return as_end(r->context);
}

int allshard_series_save(allshard_series *r, const allshard_checkpoint *c)
{
    return save(r, c, "allshard_series_save", false);
}

int allshard_series_isave(allshard_series *r, const allshard_checkpoint *c)
{
    return save(r, c, "allshard_series_isave", true);
}
