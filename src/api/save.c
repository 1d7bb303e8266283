/* SPDX-License-Identifier: Apache-2.0 */
#include "api/save.h"

#include "api/flights.h"

void as_save_call_from(as_save_call *call, allshard_state *s, const char *directory,
                       const allshard_save_options *options, as_error *e)
{
    allshard_save_options o;
    (void)as_take_options(&o, sizeof o, options, options ? options->size : 0,
                          "allshard_save_options", e);
    if (o.discard_count && !o.discard) {
        (void)as_fail(e, AS_INVALID, 0, "discard_count is set, but discard is NULL");
        o.discard_count = 0;
    }
    for (size_t i = 0; i < o.discard_count; i++) {
        if (!o.discard[i]) {
            (void)as_fail(e, AS_INVALID, 0, "discard[%zu] is NULL", i);
            o.discard_count = i;
        }
    }
    if (o.checksum < ALLSHARD_CHECKSUM_DEFAULT || o.checksum > ALLSHARD_CHECKSUM_XXH3) {
        (void)as_fail(e, AS_INVALID, 0, "%d is no checksum; see enum allshard_checksum",
                      o.checksum);
    }
    allshard *as = s->context;
    *call = (as_save_call){
        .session = &as->session,
        .state = &s->state,
        .cache = &s->plans,
        .directory = directory,
        .max_shard_size = o.max_shard_size,
        .pattern = o.pattern,
        .discard = o.discard,
        .discard_count = o.discard_count,
        .block_bytes = o.block_bytes,
        .mode = o.mode,
        .engine = o.engine,
        .align = o.align,
        .no_checksums = o.checksum == ALLSHARD_CHECKSUM_NONE,
        .read_back = o.verify_after_write != 0,
        .writers_per_node = o.writers_per_node,
        .creators = o.creators,
        .stripe_count = o.stripe_count,
        .stripe_bytes = o.stripe_bytes,
        .cuda_stream = o.cuda_stream,
    };
}

int allshard_save(allshard_state *s, const char *directory, const allshard_save_options *options)
{
    if (!s) {
        return ALLSHARD_INVALID;
    }
    as_error *e = as_begin(s->context);
    if (as_meet(s->context, "allshard_save") != AS_OK) {
        return as_end(s->context);
    }
    as_save_call call;
    as_save_call_from(&call, s, directory, options, e);
    if (!directory || !*directory) {
        (void)as_fail(e, AS_INVALID, 0, "no directory is given to save to");
    }
    if (as_flights_settle(s, false, e) == AS_OK) {
        (void)as_save_run(&call, e);
    }
    return as_end(s->context);
}
