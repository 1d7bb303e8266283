/* SPDX-License-Identifier: Apache-2.0
 * What comes after what by the rules of streams and events, whatever happens to run first; and which
 * operations reach the same memory without such an order.
 */
#include "sim_state.h"

#include <stdlib.h>
#include <string.h>

/* The row of `b` that begins last before the end of [at, end) is the one that can meet it: rows do
 * not meet each other. */
static bool row_meets(uint64_t at, uint64_t end, const sim_area *b)
{
    if (end <= b->address) {
        return false;
    }
    size_t y = b->pitch ? (size_t)((end - 1 - b->address) / b->pitch) : 0;
    y = y < b->height ? y : b->height - 1;
    return b->address + y * b->pitch + b->width > at;
}

bool sim_meet(const sim_area *a, const sim_area *b)
{
    if (a->device != b->device || a->address >= b->address + sim_reach(b) ||
        b->address >= a->address + sim_reach(a)) {
        return false;
    }
    for (size_t y = 0; y < a->height; y++) {
        uint64_t at = a->address + y * a->pitch;
        if (row_meets(at, at + a->width, b)) {
            return true;
        }
    }
    return false;
}

bool sim_points(const sim_launch *l, const sim_area *area)
{
    for (int i = 0; i < l->function->parameters; i++) {
        for (size_t at = 0; at + 8 <= l->function->bytes[i]; at += 8) {
            uint64_t word = 0;
            memcpy(&word, (const char *)l->parameters[i] + at, sizeof word);
            sim_area byte = sim_range(true, word, 1);
            if (sim_meet(&byte, area)) {
                return true;
            }
        }
    }
    return false;
}

/* ---- clocks ---- */

static bool make_room(sim_clock *c, size_t count)
{
    if (c->count < count) {
        uint64_t *of = realloc(c->of, count * sizeof *of);
        if (!of) {
            return false;
        }
        memset(of + c->count, 0, (count - c->count) * sizeof *of);
        c->of = of;
        c->count = count;
    }
    return true;
}

/* Without memory less is known, and more is noted. */
static void learn(sim_stream *s, const sim_stream *other, uint64_t number, const sim_clock *after)
{
    if (!make_room(&s->after, sim_object_count(SIM_STREAM))) {
        return;
    }
    for (size_t i = 0; i < after->count; i++) {
        s->after.of[i] = after->of[i] > s->after.of[i] ? after->of[i] : s->after.of[i];
    }
    size_t place = other->object.place;
    s->after.of[place] = number > s->after.of[place] ? number : s->after.of[place];
}

void sim_learn_event(sim_stream *s, const sim_event *e)
{
    learn(s, e->stream, e->number, &e->after);
}

int sim_remember(sim_event *e, const sim_stream *s)
{
    if (!make_room(&e->after, sim_object_count(SIM_STREAM))) {
        return AS_CU_OUT_OF_MEMORY;
    }
    memset(e->after.of, 0, e->after.count * sizeof *e->after.of);
    if (s->after.count) {
        memcpy(e->after.of, s->after.of, s->after.count * sizeof *s->after.of);
    }
    return 0;
}

/* ---- races ---- */

static bool copies_race(const sim_copy *a, const sim_copy *b)
{
    return sim_meet(&a->to, &b->to) || (!a->staged && sim_meet(&a->from, &b->to)) ||
           (!b->staged && sim_meet(&a->to, &b->from));
}

/* Of kernels it is known where they may go, not whether they write there. */
static bool race(const sim_op *a, const sim_op *b)
{
    if (a->act == SIM_ACT_COPY && b->act == SIM_ACT_COPY) {
        return copies_race(&a->copy, &b->copy);
    }
    if (a->act == SIM_ACT_COPY && b->act == SIM_ACT_LAUNCH) {
        return sim_points(&b->launch, &a->copy.to);
    }
    return a->act == SIM_ACT_LAUNCH && b->act == SIM_ACT_COPY &&
           sim_points(&a->launch, &b->copy.to);
}

static void look_for_races(const sim_op *op, const sim_stream *s)
{
    for (size_t i = 0; i < sim_object_count(SIM_STREAM); i++) {
        const sim_stream *other = sim_object_at(SIM_STREAM, i);
        uint64_t after = i < s->after.count ? s->after.of[i] : 0;
        for (const sim_op *o = other->first; o && other != s; o = o->next) {
            if (o->number > after && race(op, o)) {
                sim_note_rule("%s: a %s of another stream, under way, reaches the same memory",
                              op->call, o->call);
                return;
            }
        }
    }
}

void sim_order(const sim_op *op, sim_stream *s)
{
    for (size_t i = 0; s->blocking && i < sim_object_count(SIM_STREAM); i++) {
        const sim_stream *other = sim_object_at(SIM_STREAM, i);
        if (other != s && other->blocking && other->legacy != s->legacy &&
            other->object.context == s->object.context) {
            learn(s, other, other->asked, &other->after);
        }
    }
    look_for_races(op, s);
}
