/* SPDX-License-Identifier: Apache-2.0 */
#include "support_crash.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "checkpoint_folder.h"

enum { SECTOR = 512, MOST_PRINTED = 3 };

static const uint64_t never = UINT64_MAX;

/* One thing that a crash may lose. */
typedef struct op {
    const trace_event *event;
    uint64_t durable; /* the moment from which it cannot be lost */
    bool is_name;
    int node;  /* of the data; of the name: what it stands for, -1: nothing any more */
    int place; /* of the name */
    int after; /* this op only where that one is, too; -1: none */
} op;

typedef struct node {
    uint64_t inode;
    bool is_folder;
} node;

typedef struct place {
    int folder; /* node */
    const char *name;
} place;

typedef struct crash {
    const crash_rules *rules;
    crash_visit *visit;
    void *user;
    crash_counts *counts;
    const char *scratch;
    op *ops;
    int op_count;
    node *nodes;
    int node_count;
    place *places;
    int place_count;
    uint64_t told;
    uint64_t *moments;
    int moment_count;
    /* the state at hand */
    uint64_t moment;
    unsigned char *choice; /* [op_count] */
    uint64_t *torn;        /* [op_count] seed of which sectors are there */
    int *at_place;         /* [place_count] node or -1 */
    int *open;             /* pending ops of the moment */
    int open_count;
    uint64_t *seen; /* hash set */
    size_t seen_size;
    size_t seen_count;
    uint64_t random;
} crash;

enum { LOST, DONE, TORN };

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
    c->nodes[c->node_count] = (node){.inode = inode, .is_folder = is_folder};
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
    c->places[c->place_count] = (place){.folder = in, .name = name};
    return c->place_count++;
}

static op *add_op(crash *c, const trace_event *e)
{
    c->ops = grow(c->ops, c->op_count, sizeof *c->ops);
    op *o = &c->ops[c->op_count++];
    *o = (op){
        .event = e, .durable = e->start == 0 ? 0 : never, .node = -1, .place = -1, .after = -1};
    return o;
}

static void add_name(crash *c, const trace_event *e, uint64_t folder, const char *name, int to)
{
    int at = find_place(c, folder, name);
    op *o = add_op(c, e);
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
        op *o = &c->ops[i];
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

/* What of the op's bytes from `at` on is there, up to *end. */
static bool has_bytes(const crash *c, int i, int64_t at, int64_t *end)
{
    const trace_event *e = c->ops[i].event;
    *end = e->count;
    if (c->choice[i] != TORN) {
        return c->choice[i] == DONE;
    }
    /* Sectors of the file, not of the write. */
    int64_t sector = (e->offset + at) / SECTOR;
    int64_t next = (sector + 1) * SECTOR - e->offset;
    *end = next < e->count ? next : e->count;
    uint64_t key[2] = {c->torn[i], (uint64_t)sector};
    return as_hash_bytes(key, sizeof key).low & 1;
}

static unsigned char *content_of_node(const crash *c, int which, int64_t *size)
{
    unsigned char *bytes = NULL;
    int64_t have = 0;
    *size = 0;
    for (int i = 0; i < c->op_count; i++) {
        const op *o = &c->ops[i];
        const trace_event *e = o->event;
        if (o->is_name || o->node != which || c->choice[i] == LOST) {
            continue;
        }
        int64_t least = e->kind == TRACE_SIZE ? e->count : e->offset + e->count;
        if (least > have) {
            bytes = realloc(bytes, (size_t)least);
            if (!bytes) {
                abort();
            }
            memset(bytes + have, 0, (size_t)(least - have));
            have = least;
        }
        if (bytes && e->kind == TRACE_SIZE && e->count < *size) {
            memset(bytes + e->count, 0, (size_t)(*size - e->count));
        }
        int64_t end = 0;
        int64_t last = 0;
        for (int64_t at = 0; bytes && e->kind == TRACE_WRITE && at < e->count; at = end) {
            if (has_bytes(c, i, at, &end)) {
                memcpy(bytes + e->offset + at, e->bytes + at, (size_t)(end - at));
                last = e->offset + end;
            }
        }
        if (e->kind == TRACE_SIZE) {
            *size = e->count;
        } else if (e->kind == TRACE_GROW) {
            *size = least > *size ? least : *size;
        } else {
            *size = last > *size ? last : *size;
        }
    }
    return bytes;
}

static void settle_places(crash *c)
{
    for (int i = 0; i < c->place_count; i++) {
        c->at_place[i] = -1;
    }
    for (int i = 0; i < c->op_count; i++) {
        if (c->ops[i].is_name && c->choice[i] != LOST) {
            c->at_place[c->ops[i].place] = c->ops[i].node;
        }
    }
}

static void hash_in(uint64_t *hash, uint64_t value)
{
    *hash = as_hash_seeded(&value, sizeof value, *hash).low;
}

static void hash_tree(const crash *c, int folder, uint64_t *hash)
{
    for (int i = 0; i < c->place_count; i++) {
        int what = c->at_place[i];
        if (c->places[i].folder != folder || what < 0) {
            continue;
        }
        hash_in(hash, (uint64_t)i);
        hash_in(hash, (uint64_t)what);
        if (c->nodes[what].is_folder) {
            hash_tree(c, what, hash);
            continue;
        }
        for (int k = 0; k < c->op_count; k++) {
            if (!c->ops[k].is_name && c->ops[k].node == what && c->choice[k] != LOST) {
                hash_in(hash, (uint64_t)k);
                hash_in(hash, c->choice[k] == TORN ? c->torn[k] : 0);
            }
        }
    }
}

static void build_file(const crash *c, const char *path, int which, char **known)
{
    /* A second name of a file that is there already. */
    if (known[which]) {
        must(link(known[which], path) == 0, path);
        return;
    }
    int64_t size = 0;
    unsigned char *bytes = content_of_node(c, which, &size);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    must(fd >= 0 && (size == 0 || write(fd, bytes, (size_t)size) == size) && close(fd) == 0, path);
    free(bytes);
    known[which] = strdup(path);
    must(known[which] != NULL, "memory");
}

static void build_tree(const crash *c, const char *path, int folder, char **known)
{
    must(mkdir(path, 0777) == 0, path);
    for (int i = 0; i < c->place_count; i++) {
        int what = c->at_place[i];
        if (c->places[i].folder != folder || what < 0) {
            continue;
        }
        char *below;
        must(asprintf(&below, "%s/%s", path, c->places[i].name) >= 0, "memory");
        if (c->nodes[what].is_folder) {
            build_tree(c, below, what, known);
        } else {
            build_file(c, below, what, known);
        }
        free(below);
    }
}

static void rebuild(const crash *c)
{
    char **known = calloc((size_t)c->node_count, sizeof *known);
    if (!known) {
        abort();
    }
    remove_tree(c->scratch);
    build_tree(c, c->scratch, 0, known);
    for (int i = 0; i < c->node_count; i++) {
        free(known[i]);
    }
    free((void *)known);
}

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
        const op *o = &c->ops[c->open[k]];
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
        if (c->ops[i].after >= 0 && c->choice[c->ops[i].after] == LOST) {
            c->choice[i] = LOST;
        }
    }
    bool told = c->told < c->moment;
    uint64_t hash = told ? 2 : 1;
    settle_places(c);
    hash_tree(c, 0, &hash);
    if (is_over(c)) {
        return;
    }
    if (!is_new(c, hash)) {
        c->counts->seen++;
        return;
    }
    rebuild(c);
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
        c->choice[i] = TORN;
        c->torn[i] = next_random(c) | 1;
        try_state(c);
    }
}

static void set_alone(crash *c, int i)
{
    c->choice[i] = DONE;
    if (c->ops[i].after >= 0 && c->choice[c->ops[i].after] == LOST) {
        c->choice[c->ops[i].after] = DONE;
    }
}

static void try_simple(crash *c)
{
    for (int k = 0; k <= c->open_count; k++) {
        set_all(c, LOST);
        for (int i = 0; i < k; i++) {
            c->choice[c->open[i]] = DONE;
        }
        try_state(c);
        if (k < c->open_count) {
            tear(c, c->open[k]);
        }
    }
    for (int k = 0; k < c->open_count; k++) {
        set_all(c, LOST);
        set_alone(c, c->open[k]);
        try_state(c);
        set_all(c, LOST);
        tear(c, c->open[k]);
        set_all(c, DONE);
        c->choice[c->open[k]] = LOST;
        try_state(c);
        set_all(c, DONE);
        tear(c, c->open[k]);
    }
}

static void try_pairs(crash *c)
{
    for (int k = 0; k < c->open_count; k++) {
        for (int i = 0; i < k; i++) {
            set_all(c, DONE);
            c->choice[c->open[i]] = LOST;
            c->choice[c->open[k]] = LOST;
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
    c->choice[i] = LOST;
    try_all(c, k + 1);
    if (c->ops[i].after < 0 || c->choice[c->ops[i].after] != LOST) {
        c->choice[i] = DONE;
        try_all(c, k + 1);
        c->choice[i] = LOST;
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
            c->choice[i] = dice % 16 < share ? DONE : LOST;
            if (c->choice[i] == DONE && dice / 16 % 4 == 0 && !c->ops[i].is_name &&
                c->ops[i].event->kind == TRACE_WRITE) {
                c->choice[i] = TORN;
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
        const op *o = &c->ops[i];
        bool is_durable = o->durable < moment || o->event->start == 0;
        c->choice[i] = is_durable ? DONE : LOST;
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
