/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/simulate.h"

#include <stdlib.h>
#include <string.h>

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

typedef struct simulator {
    int ranks;
    as_planner *planners; /* borrowed */
    inbox *now;           /* [ranks] */
    inbox *next;          /* [ranks] */
    as_buffer share;      /* what all ranks shared in the last step */
    size_t *share_at;     /* [ranks + 1]: where each rank's bytes begin in it */
    size_t *next_at;      /* the same of what they share in this step */
    as_mail mail;         /* of the rank that runs */
} simulator;

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
    if (!s->now || !s->next || !s->share_at || !s->next_at) {
        return as_fail_nomem(e);
    }
    return as_mail_init(&s->mail, s->ranks, e);
}

/* Gives the rank its messages as an exchange would. */
static void deliver(simulator *s, int rank)
{
    inbox *box = &s->now[rank];
    as_buffer_free(&s->mail.in);
    s->mail.in = box->bytes;
    box->bytes = AS_BUFFER_INIT;
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
    box->senders.size = 0;
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
        if (out->size == 0) {
            continue;
        }
        sender from = {.rank = rank, .bytes = out->size};
        code = as_buffer_append(&s->next[to].bytes, out->data, out->size, e);
        if (code == AS_OK) {
            code = as_buffer_append(&s->next[to].senders, &from, sizeof from, e);
        }
        out->size = 0;
    }
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
    int code = as_planner_next(&s->planners[rank], &s->mail, move, e);
    if (shared) {
        swap_share(s);
    }
    if (code == AS_OK) {
        code = collect(s, rank, e);
    }
    s->next_at[rank] = share->size;
    if (code == AS_OK && *move == AS_MOVE_SHARE) {
        code = as_buffer_append(share, s->mail.share.data, s->mail.share.size, e);
        s->mail.share.size = 0;
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

static int sum_up(const as_planner *planners, int ranks, const as_save_request *request,
                  as_simulation *out, as_error *e)
{
    const as_plan *first = &planners[0].plan;
    size_t files = (size_t)first->file_count;
    out->ranks = ranks;
    out->shard_count = first->file_count;
    out->total_size = first->total_size;
    out->tensor_count = first->tensor_count;
    out->file_bytes = calloc(files, sizeof *out->file_bytes);
    out->file_tensors = calloc(files, sizeof *out->file_tensors);
    out->file_names = calloc(files, sizeof *out->file_names);
    out->writer_bytes = calloc((size_t)ranks, sizeof *out->writer_bytes);
    if (!out->file_bytes || !out->file_tensors || !out->file_names || !out->writer_bytes) {
        return as_fail_nomem(e);
    }
    int code = AS_OK;
    for (size_t f = 0; f < files && code == AS_OK; f++) {
        out->file_bytes[f] = first->file_size[f];
        code = as_pattern_name(request->pattern, f + 1, files, &out->file_names[f], e);
    }
    for (int r = 0; r < ranks; r++) {
        const as_plan *plan = &planners[r].plan;
        out->writer_bytes[r] = plan->own_bytes;
        out->exchanged_bytes += plan->moved_bytes;
        for (size_t i = 0; i < as_plan_built_count(plan); i++) {
            const as_built_file *b = as_plan_built(plan, i);
            out->file_tensors[b->file] = (int64_t)b->tensor_count;
        }
    }
    return code;
}

/* All ranks' states and planners. */
static int prepare(as_state *states, as_planner *planners, int ranks, as_declare declare,
                   void *user, const as_save_request *request, as_error *e)
{
    int code = AS_OK;
    for (int r = 0; r < ranks && code == AS_OK; r++) {
        code = as_state_init(&states[r], "model", e);
        if (code == AS_OK) {
            code = declare(user, r, &states[r], e);
        }
        if (code == AS_OK) {
            code = as_planner_save(&planners[r], r, ranks, &states[r], request, e);
        }
    }
    return code;
}

int as_simulate_save(int ranks, as_declare declare, void *user, const as_save_request *request,
                     as_simulation *out, as_error *e)
{
    *out = (as_simulation){0};
    as_state *states = calloc((size_t)ranks, sizeof *states);
    as_planner *planners = calloc((size_t)ranks, sizeof *planners);
    int code = states && planners ? prepare(states, planners, ranks, declare, user, request, e)
                                  : as_fail_nomem(e);
    if (code == AS_OK) {
        code = as_simulate_planners(planners, ranks, e);
    }
    if (code == AS_OK) {
        code = sum_up(planners, ranks, request, out, e);
    }
    for (int r = 0; states && planners && r < ranks; r++) {
        as_planner_free(&planners[r]);
        as_state_free(&states[r]);
    }
    free(planners);
    free(states);
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
    *s = (as_simulation){0};
}
