/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/planner.h"

#include <stdlib.h>

#include "plan/load_steps.h"
#include "plan/save_steps.h"

static const as_planner_step save_steps[] = {
    {as_save_describe, AS_MOVE_EXCHANGE},  {as_save_merge, AS_MOVE_EXCHANGE},
    {as_save_ask_names, AS_MOVE_EXCHANGE}, {as_save_tell_names, AS_MOVE_EXCHANGE},
    {as_save_resolve, AS_MOVE_EXCHANGE},   {as_save_rows, AS_MOVE_SHARE},
    {as_save_split, AS_MOVE_EXCHANGE},     {as_save_headers, AS_MOVE_EXCHANGE},
    {as_save_sizes, AS_MOVE_SHARE},        {as_save_regions, AS_MOVE_EXCHANGE},
    {as_planner_answer, AS_MOVE_EXCHANGE}, {as_planner_cut, AS_MOVE_EXCHANGE},
    {as_planner_settle, AS_MOVE_EXCHANGE}, {as_planner_weigh, AS_MOVE_SHARE},
    {as_planner_level, AS_MOVE_EXCHANGE},  {as_planner_hand, AS_MOVE_EXCHANGE},
    {as_planner_finish, AS_MOVE_DONE},
};

static const as_planner_step load_steps[] = {
    {as_load_describe, AS_MOVE_EXCHANGE},  {as_load_join, AS_MOVE_EXCHANGE},
    {as_load_check, AS_MOVE_EXCHANGE},     {as_load_tell_names, AS_MOVE_EXCHANGE},
    {as_load_sizes, AS_MOVE_SHARE},        {as_load_regions, AS_MOVE_EXCHANGE},
    {as_planner_answer, AS_MOVE_EXCHANGE}, {as_planner_cut, AS_MOVE_EXCHANGE},
    {as_planner_settle, AS_MOVE_EXCHANGE}, {as_planner_weigh, AS_MOVE_SHARE},
    {as_planner_level, AS_MOVE_EXCHANGE},  {as_planner_hand, AS_MOVE_EXCHANGE},
    {as_planner_finish, AS_MOVE_DONE},
};

static void init(as_planner *p, int rank, int size, const as_state *state, int64_t block_bytes)
{
    p->rank = rank;
    p->size = size;
    p->state = state;
    p->fault = AS_FAULT_INIT;
    p->plan.block_bytes = block_bytes;
    p->schedule = (as_schedule){.rank = rank,
                                .size = size,
                                .load = p->load != NULL,
                                .block_bytes = block_bytes,
                                .catalog = &p->catalog};
}

/* Whoever writes for others writes for itself. */
static int check_writers(as_planner *p, as_error *e)
{
    const int32_t *writers = p->save->writers;
    for (int r = 0; writers && r < p->size; r++) {
        bool known = writers[r] >= 0 && writers[r] < p->size;
        if (!known || writers[writers[r]] != writers[r]) {
            return as_fail(e, AS_INTERNAL, 0,
                           "rank %d is to write for rank %d, but does not write for itself",
                           (int)writers[r], r);
        }
    }
    p->schedule.writers = writers;
    return AS_OK;
}

int as_planner_save(as_planner *p, int rank, int size, const as_state *state,
                    const as_save_request *request, as_error *e)
{
    *p = (as_planner){.save = request, .steps = save_steps};
    init(p, rank, size, state, request->block_bytes);
    return check_writers(p, e);
}

int as_planner_load(as_planner *p, int rank, int size, const as_state *state,
                    const as_load_request *request, as_error *e)
{
    *p = (as_planner){.load = request, .steps = load_steps};
    (void)e; /* there is nothing that could fail yet */
    p->plan.file_count = request->file_count;
    init(p, rank, size, state, request->block_bytes);
    return AS_OK;
}

int as_planner_state(as_planner *p, const as_state **out, as_error *e)
{
    *out = p->state;
    return p->state ? AS_OK : p->source->get(p->source->user, p->rank, out, e);
}

int as_planner_next(as_planner *p, as_mail *mail, enum as_planner_move *move, as_error *e)
{
    const as_planner_step *step = p->steps++;
    p->steps_run++;
    *move = step->move;
    return step->run(p, mail, e);
}

void as_planner_free(as_planner *p)
{
    as_catalog_free(&p->catalog);
    as_regions_free(&p->schedule.regions);
    as_seams_free(&p->schedule.seams);
    as_plan_free(&p->plan);
    as_buffer_free(&p->ties);
    as_found_free(&p->found);
    as_buffer_free(&p->missing);
    as_buffer_free(&p->unexpected);
}

const char *as_planner_name(as_planner *p, int64_t label)
{
    if (label <= AS_LABEL_FILE(0)) {
        size_t file = (size_t)(AS_LABEL_FILE(0) - label);
        const as_checkpoint *c = p->load ? p->load->checkpoint : NULL;
        return c && file < as_checkpoint_file_count(c) ? as_checkpoint_file(c, file) : "?";
    }
    if (label >= 0) {
        const as_state *s;
        bool known = as_planner_state(p, &s, NULL) == AS_OK && (size_t)label < as_state_count(s);
        return known ? as_state_name(s, (size_t)label) : "?";
    }
    return p->load ? as_load_file_name(p->load, (size_t)(-1 - label)) : "?";
}

int as_planner_share_size(as_mail *mail, int32_t file, int64_t bytes, as_error *e)
{
    return as_words_put(&mail->share, (int64_t[]){file, bytes}, 2, e);
}

int as_planner_take_sizes(as_planner *p, const as_mail *mail, as_error *e)
{
    size_t count = (size_t)p->plan.file_count;
    p->plan.file_size = calloc(count ? count : 1, sizeof *p->plan.file_size);
    if (!p->plan.file_size) {
        return as_fail_nomem(e);
    }
    as_words w = as_words_of(mail->in.data, mail->in.size);
    const int64_t *words;
    while ((words = as_words_take(&w, 2))) {
        p->plan.file_size[words[0]] = words[1];
    }
    p->schedule.file_size = p->plan.file_size;
    return AS_OK;
}

int as_planner_answer(as_planner *p, as_mail *mail, as_error *e)
{
    return as_schedule_answer(&p->schedule, mail, e);
}

int as_planner_cut(as_planner *p, as_mail *mail, as_error *e)
{
    int code = as_schedule_cut(&p->schedule, mail, e);
    as_regions_free(&p->schedule.regions); /* all that was in them is on its way */
    as_found_free(&p->found);
    as_catalog_free(&p->catalog);
    return code;
}

int as_planner_settle(as_planner *p, as_mail *mail, as_error *e)
{
    return as_seams_settle(&p->schedule, mail, &p->plan, e);
}

int as_planner_weigh(as_planner *p, as_mail *mail, as_error *e)
{
    return as_seams_weigh(&p->schedule, mail, e);
}

int as_planner_level(as_planner *p, as_mail *mail, as_error *e)
{
    return as_seams_level(&p->schedule, mail, e);
}

int as_planner_hand(as_planner *p, as_mail *mail, as_error *e)
{
    return as_seams_hand(&p->schedule, mail, e);
}

/* Replaces the sender of a box by this rank if it has the same one. */
static void take_own(const as_planner *p, const as_state *s, const size_t *sorted,
                     const as_part *part, const as_part_box *box)
{
    int64_t *holder = (int64_t *)(uintptr_t)box->holders;
    if (holder[0] == p->rank || holder[1] < 0) {
        return;
    }
    size_t count = as_state_count(s);
    for (size_t at = as_state_find(s, sorted, part->name); at < count; at++) {
        size_t piece = sorted[at];
        if (!as_hash_equal(as_state_piece(s, piece)->name, part->name)) {
            return;
        }
        as_geometry g;
        as_box own = as_state_box(s, piece);
        if (as_geometry_file(&own, &g, NULL) == AS_OK && as_geometry_same(&g, &box->geometry)) {
            holder[0] = p->rank;
            holder[1] = (int64_t)piece;
            return;
        }
    }
}

/* To save, a writer that was given a block of several regions may hold a box itself that the
 * owner let another replica send: it takes its own. */
static int prefer_own(as_planner *p, as_error *e)
{
    const as_state *s;
    size_t *sorted = NULL;
    int code = as_planner_state(p, &s, e);
    if (code == AS_OK) {
        code = as_state_sorted(s, &sorted, e);
    }
    for (size_t i = 0; i < as_plan_part_count(&p->plan) && code == AS_OK; i++) {
        const as_part *part = as_plan_part(&p->plan, i);
        as_words boxes = as_part_boxes(&p->plan, part);
        for (int k = 0; k < part->box_count && code == AS_OK; k++) {
            as_part_box box;
            code = as_part_box_take(&boxes, &box, e);
            if (code == AS_OK) {
                take_own(p, s, sorted, part, &box);
            }
        }
    }
    free(sorted);
    return code;
}

int as_planner_finish(as_planner *p, as_mail *mail, as_error *e)
{
    int code = as_schedule_finish(&p->schedule, mail, &p->plan, e);
    if (code == AS_OK && p->save && p->schedule.choice) {
        code = prefer_own(p, e);
    }
    return code == AS_OK ? as_plan_sum_up(&p->plan, p->rank, e) : code;
}
