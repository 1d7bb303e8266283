/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/simulate.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/checked.h"
#include "format/pattern.h"

/* Messages of one step on their way to one rank; most ranks send nothing. */
typedef struct inbox {
    as_buffer bytes;
    as_buffer senders; /* sender[] */
} inbox;

typedef struct sender {
    int rank;
    size_t bytes;
} sender;

/* The state of the rank that was asked for last. */
typedef struct state_maker {
    as_declare declare;
    void *user;
    as_state state;
    int rank;       /* −1: none */
    int64_t paused; /* nanoseconds that making states took */
} state_maker;

typedef struct simulator {
    int ranks;
    as_planner *planners; /* borrowed */
    inbox *now;           /* [ranks] */
    inbox *next;          /* [ranks] */
    as_buffer share;      /* what all ranks shared in the last step */
    size_t *share_at;     /* [ranks + 1]: where each rank's bytes begin in it */
    size_t *next_at;      /* the same of what they share in this step */
    as_mail mail;         /* of the rank that runs */
    as_plan_cost *cost;   /* [ranks] */
    int64_t *held;        /* [ranks]: bytes that a planner keeps between steps */
    state_maker *maker;   /* NULL: the planners have their states */
    int (*finished)(void *user, int rank, as_planner *p, as_error *e); /* NULL: nothing to do */
    void *user;
} simulator;

static int64_t cpu_time(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* as_state_source: neither time nor memory of this are the plan's. */
static int make_state(void *user, int rank, const as_state **out, as_error *e)
{
    state_maker *m = user;
    *out = &m->state;
    if (m->rank == rank) {
        return AS_OK;
    }
    as_buffer_meter *meter = as_buffer_meter_set(NULL);
    int64_t begin = cpu_time();
    /* The memory stays: to get a fresh one of some hundred MiB takes longer than to fill it. */
    m->state.pieces.size = 0;
    m->state.names.size = 0;
    m->state.dims.size = 0;
    m->rank = -1;
    int code = m->declare(m->user, rank, &m->state, e);
    m->rank = code == AS_OK ? rank : -1;
    m->paused += cpu_time() - begin;
    (void)as_buffer_meter_set(meter);
    return code;
}

static void free_inboxes(inbox *boxes, int ranks)
{
    for (int r = 0; boxes && r < ranks; r++) {
        as_buffer_free(&boxes[r].bytes);
        as_buffer_free(&boxes[r].senders);
    }
    free(boxes);
}

static void free_simulator(simulator *s)
{
    free_inboxes(s->now, s->ranks);
    free_inboxes(s->next, s->ranks);
    free(s->share_at);
    free(s->next_at);
    free(s->cost);
    free(s->held);
    as_buffer_free(&s->share);
    as_mail_free(&s->mail);
}

static int init_simulator(simulator *s, as_error *e)
{
    size_t n = (size_t)s->ranks;
    s->now = calloc(n, sizeof *s->now);
    s->next = calloc(n, sizeof *s->next);
    s->share_at = calloc(n + 1, sizeof *s->share_at);
    s->next_at = calloc(n + 1, sizeof *s->next_at);
    s->cost = calloc(n, sizeof *s->cost);
    s->held = calloc(n, sizeof *s->held);
    if (!s->now || !s->next || !s->share_at || !s->next_at || !s->cost || !s->held) {
        return as_fail_nomem(e);
    }
    return as_mail_init(&s->mail, s->ranks, e);
}

/* What is received fits its buffer. */
static void fit(as_buffer *b)
{
    char *fitted = b->size ? realloc(b->data, b->size) : NULL;
    if (fitted) {
        b->data = fitted;
        b->capacity = b->size;
    }
}

/* Gives the rank its messages as an exchange would, in a buffer of just their size. */
static void deliver(simulator *s, int rank)
{
    inbox *box = &s->now[rank];
    as_buffer_free(&s->mail.in);
    s->mail.in = box->bytes;
    box->bytes = AS_BUFFER_INIT;
    fit(&s->mail.in);
    const sender *from = (const sender *)(const void *)box->senders.data;
    size_t count = box->senders.size / sizeof *from;
    size_t at = 0;
    size_t k = 0;
    for (int r = 0; r < s->ranks; r++) {
        s->mail.in_at[r] = at;
        if (k < count && from[k].rank == r) {
            at += from[k++].bytes;
        }
    }
    s->mail.in_at[s->ranks] = at;
    as_buffer_free(&box->senders);
}

/* All ranks get the same bytes, so one buffer goes from rank to rank: lent before the step and
 * taken back after it. What one rank has sorted, the next ones need not. */
static void swap_share(simulator *s)
{
    as_buffer in = s->mail.in;
    s->mail.in = s->share;
    s->share = in;
    memcpy(s->mail.in_at, s->share_at, ((size_t)s->ranks + 1) * sizeof *s->share_at);
}

/* Takes what the rank sends; ranks run in ascending order, so inboxes are sorted by sender. */
static int collect(simulator *s, int rank, as_error *e)
{
    int code = AS_OK;
    for (int to = 0; to < s->ranks && code == AS_OK; to++) {
        as_buffer *out = &s->mail.out[to];
        if (out->capacity == 0) {
            continue;
        }
        sender from = {.rank = rank, .bytes = out->size};
        if (out->size) {
            code = as_buffer_append(&s->next[to].bytes, out->data, out->size, e);
        }
        if (code == AS_OK && out->size) {
            code = as_buffer_append(&s->next[to].senders, &from, sizeof from, e);
        }
        if (to != rank) {
            s->cost[rank].messages += out->size > 0;
            s->cost[rank].bytes += (int64_t)out->size;
        }
        as_buffer_free(out);
    }
    return code;
}

/* What the buffers hold that the step leaves to the exchange. */
static int64_t outgoing(const as_mail *m)
{
    int64_t bytes = (int64_t)m->share.capacity;
    for (int r = 0; r < m->size; r++) {
        bytes += (int64_t)m->out[r].capacity;
    }
    return bytes;
}

/* Runs the step under the meter and the clock. */
static int run_measured(simulator *s, int rank, enum as_planner_move *move, as_error *e)
{
    as_buffer_meter meter = {0};
    int64_t in = (int64_t)s->mail.in.capacity;
    int64_t own = (int64_t)s->ranks * (int64_t)(sizeof *s->mail.out + sizeof *s->mail.in_at);
    int64_t paused = s->maker ? s->maker->paused : 0;
    int64_t begin = cpu_time();
    (void)as_buffer_meter_set(&meter);
    int code = as_planner_next(&s->planners[rank], &s->mail, move, e);
    (void)as_buffer_meter_set(NULL);
    paused = s->maker ? s->maker->paused - paused : 0;
    as_plan_cost *cost = &s->cost[rank];
    cost->nanoseconds += cpu_time() - begin - paused;
    cost->memory = as_max_i64(cost->memory, own + s->held[rank] + in + meter.most);
    bool moved = s->mail.in.data == NULL; /* the planner has it now, or has freed it */
    s->held[rank] += meter.now - outgoing(&s->mail) + (moved ? in : 0);
    return code;
}

static int step_rank(simulator *s, int rank, bool shared, as_buffer *share,
                     enum as_planner_move *move, as_error *e)
{
    if (shared) {
        swap_share(s);
    } else {
        deliver(s, rank);
    }
    int code = run_measured(s, rank, move, e);
    if (shared) {
        swap_share(s);
    } else {
        as_buffer_free(&s->mail.in);
    }
    if (code == AS_OK) {
        code = collect(s, rank, e);
    }
    s->next_at[rank] = share->size;
    if (code == AS_OK && *move == AS_MOVE_SHARE) {
        s->cost[rank].messages++;
        s->cost[rank].bytes += (int64_t)s->mail.share.size;
        code = as_buffer_append(share, s->mail.share.data, s->mail.share.size, e);
        as_buffer_free(&s->mail.share);
    }
    if (code == AS_OK && *move == AS_MOVE_DONE && s->finished) {
        code = s->finished(s->user, rank, &s->planners[rank], e);
    }
    return code;
}

static const char *fault_name(const simulator *s, const as_fault *fault, int k)
{
    return fault->rank[k] < 0 ? NULL
                              : as_planner_name(&s->planners[fault->rank[k]], fault->label[k]);
}

static int run(simulator *s, as_error *e)
{
    enum as_planner_move move = AS_MOVE_EXCHANGE;
    bool shared = false;
    int code = AS_OK;
    while (code == AS_OK && move != AS_MOVE_DONE) {
        as_buffer share = AS_BUFFER_INIT;
        int rank = 0;
        for (; rank < s->ranks && code == AS_OK; rank++) {
            code = step_rank(s, rank, shared, &share, &move, e);
        }
        s->next_at[s->ranks] = share.size;
        size_t *at = s->share_at;
        s->share_at = s->next_at;
        s->next_at = at;
        as_buffer_free(&s->share);
        fit(&share);
        s->share = share;
        shared = move == AS_MOVE_SHARE;
        inbox *boxes = s->now;
        s->now = s->next;
        s->next = boxes;
        if (code != AS_OK) {
            const as_fault *fault = &s->planners[rank - 1].fault;
            as_fault_fill(e, fault_name(s, fault, 0), fault_name(s, fault, 1));
        }
    }
    return code;
}

int as_simulate_planners(as_planner *planners, int ranks, as_error *e)
{
    simulator s = {.ranks = ranks, .planners = planners};
    int code = init_simulator(&s, e);
    if (code == AS_OK) {
        code = run(&s, e);
    }
    free_simulator(&s);
    return code;
}

/* ------------------------------------------------------------------------------- the summary */

typedef struct summary {
    const as_save_request *request;
    as_simulation *out;
} summary;

static int sum_up_files(const as_plan *first, summary *s, as_error *e)
{
    as_simulation *out = s->out;
    size_t files = (size_t)first->file_count;
    out->shard_count = first->file_count;
    out->total_size = first->total_size;
    out->tensor_count = first->tensor_count;
    out->file_bytes = calloc(files, sizeof *out->file_bytes);
    out->file_tensors = calloc(files, sizeof *out->file_tensors);
    out->file_names = calloc(files, sizeof *out->file_names);
    if (!out->file_bytes || !out->file_tensors || !out->file_names) {
        return as_fail_nomem(e);
    }
    int code = AS_OK;
    for (size_t f = 0; f < files && code == AS_OK; f++) {
        out->file_bytes[f] = first->file_size[f];
        code = as_pattern_name(s->request->pattern, f + 1, files, &out->file_names[f], e);
    }
    return code;
}

/* Keeps of a plan what is told, and frees it: those of all ranks are too much at once. */
static int sum_up_rank(void *user, int rank, as_planner *p, as_error *e)
{
    summary *s = user;
    const as_plan *plan = &p->plan;
    int code = rank == 0 ? sum_up_files(plan, s, e) : AS_OK;
    if (code == AS_OK) {
        s->out->writer_bytes[rank] = plan->own_bytes;
        s->out->exchanged_bytes += plan->moved_bytes;
        s->out->described += (int64_t)(p->declared - p->left_out);
        s->out->left_out += (int64_t)p->left_out;
        for (size_t i = 0; i < as_plan_built_count(plan); i++) {
            const as_built_file *b = as_plan_built(plan, i);
            s->out->file_tensors[b->file] = (int64_t)b->tensor_count;
        }
    }
    as_planner_free(p);
    *p = (as_planner){0};
    return code;
}

static int simulate(simulator *s, int ranks, const as_save_request *request, as_error *e)
{
    as_state_source source = {.get = make_state, .user = s->maker};
    int code = init_simulator(s, e);
    for (int r = 0; r < ranks && code == AS_OK; r++) {
        code = as_planner_save(&s->planners[r], r, ranks, NULL, request, e);
        s->planners[r].source = &source;
    }
    return code == AS_OK ? run(s, e) : code;
}

int as_simulate_save(int ranks, as_declare declare, void *user, const as_save_request *request,
                     as_simulation *out, as_error *e)
{
    *out = (as_simulation){.ranks = ranks};
    summary sum = {.request = request, .out = out};
    state_maker maker = {.declare = declare, .user = user, .rank = -1};
    simulator s = {.ranks = ranks, .maker = &maker, .finished = sum_up_rank, .user = &sum};
    s.planners = calloc((size_t)ranks, sizeof *s.planners);
    out->writer_bytes = calloc((size_t)ranks, sizeof *out->writer_bytes);
    int code = AS_OK;
    if (!s.planners || !out->writer_bytes) {
        code = as_fail_nomem(e);
    } else {
        code = as_state_init(&maker.state, "model", e);
        if (code == AS_OK) {
            code = simulate(&s, ranks, request, e);
        }
    }
    for (int r = 0; s.planners && r < ranks; r++) {
        as_planner_free(&s.planners[r]);
    }
    free(s.planners);
    out->cost = s.cost;
    s.cost = NULL;
    free_simulator(&s);
    as_state_free(&maker.state);
    if (code != AS_OK) {
        as_simulation_free(out);
    }
    return code;
}

void as_simulation_free(as_simulation *s)
{
    for (int32_t f = 0; s->file_names && f < s->shard_count; f++) {
        free(s->file_names[f]);
    }
    free(s->file_names);
    free(s->file_bytes);
    free(s->file_tensors);
    free(s->writer_bytes);
    free(s->cost);
    *s = (as_simulation){0};
}
