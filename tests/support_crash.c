/* SPDX-License-Identifier: Apache-2.0 */
#include "support_crash.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "checkpoint_folder.h"
#include "support_crash_state.h"

enum { MOST_PRINTED = 3 };

static const uint64_t never = UINT64_MAX;

static void *grow(void *list, int count, size_t each)
{
    /* By doubling: at each power of two. */
    if (count & (count - 1)) {
        return list;
    }
    void *grown = realloc(list, (size_t)(count ? count * 2 : 1) * each);
    must(grown != NULL, "memory");
    return grown;
}

static uint64_t next_random(crash *c)
{
    c->random += 0x9E3779B97F4A7C15U;
    return as_hash_bytes(&c->random, sizeof c->random).low;
}

/* ---- from events to ops ---- */

static int add_node(crash *c, uint64_t inode, bool is_folder)
{
    c->nodes = grow(c->nodes, c->node_count, sizeof *c->nodes);
    c->nodes[c->node_count] = (crash_node){.inode = inode, .is_folder = is_folder};
    return c->node_count++;
}

/* The newest of that number. */
static int find_node(const crash *c, uint64_t inode)
{
    int i = c->node_count - 1;
    while (i >= 0 && c->nodes[i].inode != inode) {
        i--;
    }
    must(i >= 0, "a file that the trace does not know");
    return i;
}

static int find_place(crash *c, uint64_t folder, const char *name)
{
    int in = find_node(c, folder);
    for (int i = 0; i < c->place_count; i++) {
        if (c->places[i].folder == in && strcmp(c->places[i].name, name) == 0) {
            return i;
        }
    }
    c->places = grow(c->places, c->place_count, sizeof *c->places);
    c->places[c->place_count] = (crash_place){.folder = in, .name = name};
    return c->place_count++;
}

static crash_op *add_op(crash *c, const trace_event *e)
{
    c->ops = grow(c->ops, c->op_count, sizeof *c->ops);
    crash_op *o = &c->ops[c->op_count++];
    *o = (crash_op){
        .event = e, .durable = e->start == 0 ? 0 : never, .node = -1, .place = -1, .after = -1};
    return o;
}

static void add_name(crash *c, const trace_event *e, uint64_t folder, const char *name, int to)
{
    int at = find_place(c, folder, name);
    crash_op *o = add_op(c, e);
    o->is_name = true;
    o->place = at;
    o->node = to;
}

static void add_moment(crash *c, uint64_t moment)
{
    c->moments = grow(c->moments, c->moment_count, sizeof *c->moments);
    c->moments[c->moment_count++] = moment;
}

/* What has ended before the fsync begins is durable when it ends. */
static void apply_fsync(crash *c, const trace_event *e)
{
    int what = find_node(c, e->inode);
    for (int i = 0; i < c->op_count; i++) {
        crash_op *o = &c->ops[i];
        int covers = o->is_name ? c->places[o->place].folder : o->node;
        if (covers != what || o->event->end >= e->start || o->durable <= e->end) {
            continue;
        }
        o->durable = e->end;
        if (o->after >= 0 && c->ops[o->after].durable > e->end) {
            c->ops[o->after].durable = e->end;
        }
    }
    add_moment(c, e->end);
}

static void add_event(crash *c, const trace_event *e)
{
    switch (e->kind) {
    case TRACE_CREATE:
    case TRACE_MKDIR: {
        int made = add_node(c, e->inode, e->kind == TRACE_MKDIR);
        add_name(c, e, e->folder, e->name, made);
        break;
    }
    case TRACE_LINK:
        add_name(c, e, e->folder, e->name, find_node(c, e->inode));
        break;
    case TRACE_RENAME:
        add_name(c, e, e->folder, e->name, find_node(c, e->inode));
        add_name(c, e, e->from_folder, e->from, -1);
        c->ops[c->op_count - 1].after = c->op_count - 2;
        break;
    case TRACE_UNLINK:
        add_name(c, e, e->folder, e->name, -1);
        break;
    case TRACE_WRITE:
    case TRACE_GROW:
    case TRACE_SIZE: {
        int what = find_node(c, e->inode);
        add_op(c, e)->node = what;
        break;
    }
    case TRACE_FSYNC:
        apply_fsync(c, e);
        break;
    case TRACE_TOLD:
        c->told = e->start < c->told ? e->start : c->told;
        add_moment(c, e->start);
        break;
    default:
        break;
    }
}

static int compare_moments(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* ---- a state ---- */

/* False: it has been tried, or another process tries it. */
static bool is_new(crash *c, uint64_t hash)
{
    if (2 * c->seen_count >= c->seen_size) {
        size_t size = c->seen_size ? 2 * c->seen_size : 1024;
        uint64_t *grown = calloc(size, sizeof *grown);
        if (!grown) {
            abort();
        }
        for (size_t i = 0; i < c->seen_size; i++) {
            size_t at = c->seen[i] % size;
            while (c->seen[i] && grown[at]) {
                at = (at + 1) % size;
            }
            grown[at] = c->seen[i] ? c->seen[i] : grown[at];
        }
        free(c->seen);
        c->seen = grown;
        c->seen_size = size;
    }
    hash = hash ? hash : 1;
    size_t at = hash % c->seen_size;
    while (c->seen[at] && c->seen[at] != hash) {
        at = (at + 1) % c->seen_size;
    }
    if (c->seen[at]) {
        return false;
    }
    c->seen[at] = hash;
    c->seen_count++;
    return hash / 3 % (uint64_t)c->rules->parts == (uint64_t)c->rules->part;
}

static void print_state(const crash *c)
{
    static const char *const kinds[] = {"-",     "create", "mkdir", "link",  "rename", "unlink",
                                        "write", "grow",   "size",  "fsync", "told"};
    static const char *const states[] = {"LOST", "done", "TORN"};
    (void)printf("  a crash before moment %" PRIu64 "; what was uncertain:\n", c->moment);
    for (int k = 0; k < c->open_count; k++) {
        const crash_op *o = &c->ops[c->open[k]];
        const trace_event *e = o->event;
        (void)printf("    %s %6" PRIu64 " %s %s%s%s node %d offset %lld count %lld%s\n",
                     states[c->choice[c->open[k]]], e->start, kinds[e->kind], e->from,
                     e->from[0] ? " -> " : "", e->name, o->node, (long long)e->offset,
                     (long long)e->count, o->after >= 0 ? " (old name)" : "");
    }
}

static bool is_over(const crash *c)
{
    return c->rules->first_only && c->counts->refused > 0;
}

/* The state that the choices make. */
static void try_state(crash *c)
{
    for (int k = 0; k < c->open_count; k++) {
        int i = c->open[k];
        if (c->ops[i].after >= 0 && c->choice[c->ops[i].after] == CRASH_LOST) {
            c->choice[i] = CRASH_LOST;
        }
    }
    bool told = c->told < c->moment;
    uint64_t hash = told ? 2 : 1;
    crash_settle(c);
    crash_hash(c, &hash);
    if (is_over(c)) {
        return;
    }
    if (!is_new(c, hash)) {
        c->counts->seen++;
        return;
    }
    crash_rebuild(c);
    c->counts->tried++;
    if (!c->visit(c->user, c->scratch, told, hash)) {
        c->counts->refused++;
        if (c->counts->refused <= MOST_PRINTED && !c->rules->first_only) {
            print_state(c);
        }
    }
}

/* ---- which states ---- */

static void set_all(crash *c, int choice)
{
    for (int k = 0; k < c->open_count; k++) {
        c->choice[c->open[k]] = (unsigned char)choice;
    }
}

static void tear(crash *c, int i)
{
    if (c->ops[i].event->kind == TRACE_WRITE && !c->ops[i].is_name) {
        c->choice[i] = CRASH_TORN;
        c->torn[i] = next_random(c) | 1;
        try_state(c);
    }
}

static void set_alone(crash *c, int i)
{
    c->choice[i] = CRASH_DONE;
    if (c->ops[i].after >= 0 && c->choice[c->ops[i].after] == CRASH_LOST) {
        c->choice[c->ops[i].after] = CRASH_DONE;
    }
}

static void try_simple(crash *c)
{
    for (int k = 0; k <= c->open_count; k++) {
        set_all(c, CRASH_LOST);
        for (int i = 0; i < k; i++) {
            c->choice[c->open[i]] = CRASH_DONE;
        }
        try_state(c);
        if (k < c->open_count) {
            tear(c, c->open[k]);
        }
    }
    for (int k = 0; k < c->open_count; k++) {
        set_all(c, CRASH_LOST);
        set_alone(c, c->open[k]);
        try_state(c);
        set_all(c, CRASH_LOST);
        tear(c, c->open[k]);
        set_all(c, CRASH_DONE);
        c->choice[c->open[k]] = CRASH_LOST;
        try_state(c);
        set_all(c, CRASH_DONE);
        tear(c, c->open[k]);
    }
}

static void try_pairs(crash *c)
{
    for (int k = 0; k < c->open_count; k++) {
        for (int i = 0; i < k; i++) {
            set_all(c, CRASH_DONE);
            c->choice[c->open[i]] = CRASH_LOST;
            c->choice[c->open[k]] = CRASH_LOST;
            try_state(c);
        }
    }
}

/* A rename, which is two ops, has three ways: lost, half done, done. */
static int64_t count_all(const crash *c)
{
    int64_t count = 1;
    for (int k = 0; k < c->open_count && count <= c->rules->exhaustive; k++) {
        bool is_half = c->ops[c->open[k]].after >= 0;
        count = is_half ? count / 2 * 3 : count * 2;
    }
    return count;
}

/* Ops of a rename lie side by side. */
static void try_all(crash *c, int k)
{
    if (k == c->open_count) {
        try_state(c);
        return;
    }
    int i = c->open[k];
    c->choice[i] = CRASH_LOST;
    try_all(c, k + 1);
    if (c->ops[i].after < 0 || c->choice[c->ops[i].after] != CRASH_LOST) {
        c->choice[i] = CRASH_DONE;
        try_all(c, k + 1);
        c->choice[i] = CRASH_LOST;
    }
}

static void try_random(crash *c)
{
    for (int n = 0; n < c->rules->random; n++) {
        /* From nearly nothing to nearly everything. */
        uint64_t share = 1 + next_random(c) % 15;
        for (int k = 0; k < c->open_count; k++) {
            int i = c->open[k];
            uint64_t dice = next_random(c);
            c->choice[i] = dice % 16 < share ? CRASH_DONE : CRASH_LOST;
            if (c->choice[i] == CRASH_DONE && dice / 16 % 4 == 0 && !c->ops[i].is_name &&
                c->ops[i].event->kind == TRACE_WRITE) {
                c->choice[i] = CRASH_TORN;
                c->torn[i] = dice | 1;
            }
        }
        try_state(c);
    }
}

/* A crash before `moment`. What begins later never was. */
static void try_moment(crash *c, uint64_t moment)
{
    c->moment = moment;
    c->open_count = 0;
    for (int i = 0; i < c->op_count; i++) {
        const crash_op *o = &c->ops[i];
        bool is_durable = o->durable < moment || o->event->start == 0;
        c->choice[i] = is_durable ? CRASH_DONE : CRASH_LOST;
        if (!is_durable && o->event->start < moment) {
            c->open[c->open_count++] = i;
        }
    }
    c->counts->moments++;
    if (c->open_count > c->counts->uncertain) {
        c->counts->uncertain = c->open_count;
    }
    try_simple(c);
    if (count_all(c) <= c->rules->exhaustive) {
        c->counts->complete++;
        try_all(c, 0);
    } else if (c->rules->pairs) {
        try_pairs(c);
    }
    try_random(c);
}

void crash_explore(const trace_log *log, uint64_t root, const crash_rules *rules,
                   const char *scratch, crash_visit *visit, void *user, crash_counts *counts)
{
    crash c = {.rules = rules,
               .visit = visit,
               .user = user,
               .counts = counts,
               .scratch = scratch,
               .told = never,
               .random = rules->seed};
    *counts = (crash_counts){0};
    (void)add_node(&c, root, true);
    for (size_t i = 0; i < log->count; i++) {
        add_event(&c, &log->events[i]);
    }
    add_moment(&c, never);
    qsort(c.moments, (size_t)c.moment_count, sizeof *c.moments, compare_moments);
    c.choice = calloc((size_t)c.op_count + 1, sizeof *c.choice);
    c.torn = calloc((size_t)c.op_count + 1, sizeof *c.torn);
    c.open = calloc((size_t)c.op_count + 1, sizeof *c.open);
    c.at_place = calloc((size_t)c.place_count + 1, sizeof *c.at_place);
    must(c.choice && c.torn && c.open && c.at_place, "memory");
    for (int i = 0; i < c.moment_count && !is_over(&c); i++) {
        try_moment(&c, c.moments[i]);
    }
    remove_tree(scratch);
    free(c.choice);
    free(c.torn);
    free(c.open);
    free(c.at_place);
    free(c.ops);
    free(c.nodes);
    free(c.places);
    free(c.moments);
    free(c.seen);
}
