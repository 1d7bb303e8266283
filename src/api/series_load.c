/* SPDX-License-Identifier: Apache-2.0
 * Loads from a series.
 */
#include <stdlib.h>
#include <string.h>

#include "api/load.h"
#include "api/series.h"

/* What the caller gets; strings and bytes are the series'. */
static void deliver(allshard_series *r, const as_series_loaded *from, allshard_loaded *out)
{
    const as_fields *f = from->fields;
    free(r->loaded_fields);
    r->loaded_fields = calloc(f->count ? f->count : 1, sizeof *r->loaded_fields);
    for (size_t i = 0; r->loaded_fields && i < f->count; i++) {
        r->loaded_fields[i] =
            (allshard_field){.name = f->items[i].name, .value = f->items[i].value};
    }
    allshard_loaded told = {
        .size = out->size,
        .step = from->step,
        .name = from->name,
        .world = (int32_t)from->world,
        .passed = (int32_t)from->passed,
        .rank_state = from->rank_state,
        .rank_state_bytes = from->rank_state_bytes,
        .fields = r->loaded_fields,
        .field_count = r->loaded_fields ? f->count : 0,
    };
    memcpy(out, &told, out->size < sizeof told ? out->size : sizeof told);
}

static size_t take_calls(allshard_series *r, as_load_call *calls, allshard_state *const *states,
                         size_t count, const allshard_load_options *const *options, as_error *e)
{
    if (count > AS_MOST_PARTS || (count && !states)) {
        (void)as_fail(e, AS_INVALID, 0, "%zu parts%s; 1 to %d are possible", count,
                      states ? "" : ", but states is NULL", (int)AS_MOST_PARTS);
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        if (!states[i] || states[i]->context != r->context) {
            (void)as_fail(e, AS_INVALID, 0, "states[%zu] is %s", i,
                          states[i] ? "of another context" : "NULL");
            return i;
        }
        as_load_call_from(&calls[i], states[i], NULL, options ? options[i] : NULL, e);
    }
    return count;
}

int allshard_series_load(allshard_series *r, int64_t step, allshard_state *const *states,
                         size_t count, const allshard_load_options *const *options,
                         allshard_loaded *out)
{
    if (!r) {
        return ALLSHARD_INVALID;
    }
    allshard *as = r->context;
    as_error *e = as_begin(as);
    if (as_meet(as, "allshard_series_load") != AS_OK) {
        return as_end(as);
    }
    if (out && out->size < sizeof(size_t)) {
        (void)as_fail(e, AS_INVALID, 0,
                      "the member \"size\" of allshard_loaded is not set to its sizeof");
    }
    if (step < ALLSHARD_NEWEST) {
        (void)as_fail(e, AS_INVALID, 0, "step is %lld; it must be 0 or more, or ALLSHARD_NEWEST",
                      (long long)step);
    }
    as_load_call calls[AS_MOST_PARTS];
    size_t taken = take_calls(r, calls, states, count, options, e);
    as_series_loaded loaded = {.step = -1};
    if (as_series_load(r->series, step, calls, taken, &as->missing_names, &as->unexpected_names,
                       &loaded, e) == AS_OK) {
        as_policy_loaded(r->policy, loaded.step, loaded.save_seconds);
        if (out) {
            deliver(r, &loaded, out);
        }
    }
    as_load_point(as);
    return as_end(as);
}
