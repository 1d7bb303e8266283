/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/lanes.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

enum { AT_ONCE = 16 /* lanes that are looked at in one reduction */, PAGE = 4096 };

static void free_reserve(const as_lanes *l, as_lane *lane)
{
    as_devices_unpin(l->devices, &lane->pin);
    as_reserve_free(&lane->reserve);
}

static void free_lane(const as_lanes *l, as_lane *lane, bool lost)
{
    as_background_close(lane->background);
    free(lane->cpus);
    as_arena_close(lane->ring);
    free_reserve(l, lane);
    if (lost && lane->comm) {
        as_comm_give_up(lane->comm);
    } else {
        as_comm_free(lane->comm);
    }
    free(lane);
}

/* For one lane more. */
static bool make_room(as_lanes *l)
{
    as_lane **list = realloc(l->list, (l->count + 1) * sizeof *list);
    if (list) {
        l->list = list;
    }
    return list != NULL;
}

static int make_lane(as_lanes *l, as_comm *c, as_error *e)
{
    as_lane *lane = calloc(1, sizeof *lane);
    if (lane && make_room(l)) {
        (void)as_background_open(&lane->background, e);
    } else {
        (void)as_fail_nomem(e);
    }
    int code = as_comm_agree(c, e);
    if (code == AS_OK) {
        code = as_comm_twin(&lane->comm, c, e);
    }
    if (code != AS_OK) {
        if (lane) {
            free_lane(l, lane, as_comm_is_lost(code));
        }
        return code;
    }
    l->list[l->count++] = lane;
    return AS_OK;
}

/* The first lane that is free on all ranks; l->count: none. A rank may have given back one that
 * another still has, since it has not asked yet whether its save is over. Collective. */
static int find_free(const as_lanes *l, size_t *out, as_comm *c, as_error *e)
{
    int64_t taken[AT_ONCE];
    *out = l->count;
    for (size_t from = 0; from < l->count; from += AT_ONCE) {
        size_t count = (size_t)as_min_i64((int64_t)(l->count - from), AT_ONCE);
        for (size_t i = 0; i < count; i++) {
            taken[i] = l->list[from + i]->taken;
        }
        int code = as_comm_max(c, taken, (int)count, e);
        for (size_t i = 0; i < count && code == AS_OK; i++) {
            if (!taken[i]) {
                *out = from + i;
                return AS_OK;
            }
        }
        if (code != AS_OK) {
            return code;
        }
    }
    return AS_OK;
}

int as_lanes_take(as_lanes *l, as_lane **out, as_comm *c, as_error *e)
{
    size_t i;
    int code = find_free(l, &i, c, e);
    if (code == AS_OK && i == l->count) {
        code = make_lane(l, c, e);
    }
    if (code == AS_OK) {
        *out = l->list[i];
        (*out)->taken = true;
    }
    return code;
}

int as_lane_settle(as_lane *lane, const char *cpus, as_error *e)
{
    if (cpus == lane->cpus || (cpus && lane->cpus && strcmp(cpus, lane->cpus) == 0)) {
        return AS_OK;
    }
    as_background *made = NULL;
    char *kept = cpus ? strdup(cpus) : NULL;
    int code = cpus && !kept ? as_fail_nomem(e) : as_background_open(&made, e);
    if (code != AS_OK) {
        free(kept);
        return code;
    }
    as_background_close(lane->background);
    free(lane->cpus);
    lane->background = made;
    lane->cpus = kept;
    return AS_OK;
}

void as_lanes_give(as_lanes *l, as_lane *lane, bool lost)
{
    lane->taken = false;
    if (!lost) {
        return;
    }
    /* No other save may begin on a communicator whose ranks are apart. */
    size_t i = 0;
    while (l->list[i] != lane) {
        i++;
    }
    free_lane(l, lane, true);
    l->list[i] = l->list[--l->count];
}

bool as_lane_is_short(const as_lane *lane, int64_t bytes)
{
    return !lane->ring || as_max_i64(bytes, PAGE) > (int64_t)lane->reserve.bytes;
}

int as_lane_fit(const as_lanes *l, as_lane *lane, as_comm *c, int64_t bytes, int threads,
                size_t quota, size_t *touched, as_error *e)
{
    /* Never nothing: who writes no block has bytes of others' to give, and who has no memory is not
     * seen as one that reaches theirs. */
    size_t all = (size_t)as_max_i64(bytes, PAGE);
    *touched = 0;
    as_arena_close(lane->ring);
    lane->ring = NULL;
    if (all > lane->reserve.bytes) {
        as_devices_unpin(l->devices, &lane->pin); /* it will be other memory */
    }
    if (e->code == AS_OK) {
        (void)(as_arena_may_share(c)
                   ? as_reserve_fit_shared(&lane->reserve, all, threads, touched, e)
                   : as_reserve_fit(&lane->reserve, all, threads, touched, e));
    }
    int code = as_comm_agree(c, e);
    if (code == AS_OK) {
        code = as_arena_open_over(&lane->ring, c, lane->reserve.base,
                                  lane->reserve.shared ? &lane->reserve.file : NULL, quota, e);
    }
    return code;
}

void as_lane_pin(const as_lanes *l, as_lane *lane, const as_homes *h)
{
    if (h->of && lane->reserve.bytes > 0) {
        as_devices_pin(l->devices, h, &lane->pin, lane->reserve.base, lane->reserve.bytes);
    }
}

int64_t as_lanes_room(const as_lanes *l, const as_lane *lane)
{
    int64_t room = l->limit;
    for (size_t i = 0; i < l->count; i++) {
        room -= l->list[i] != lane ? (int64_t)l->list[i]->reserve.bytes : 0;
    }
    return room > 0 ? room / PAGE * PAGE : 0;
}

void as_lanes_trim(as_lanes *l, const as_lane *keep)
{
    for (size_t i = 0; i < l->count; i++) {
        if (!l->list[i]->taken && l->list[i] != keep) {
            free_reserve(l, l->list[i]);
        }
    }
}

void as_lanes_close(as_lanes *l, bool lost)
{
    for (size_t i = 0; i < l->count; i++) {
        free_lane(l, l->list[i], lost);
    }
    free(l->list);
    *l = (as_lanes){0};
}
