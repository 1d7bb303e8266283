/* SPDX-License-Identifier: Apache-2.0 */
#include "api/load.h"

#include <stdlib.h>
#include <string.h>

/* Pointers to the names of a list; without memory the list stays empty. */
static const char **point(const as_buffer *names, size_t *count)
{
    size_t n = 0;
    for (size_t i = 0; i < names->size; i++) {
        n += names->data[i] == '\0';
    }
    const char **pointers = calloc(n ? n : 1, sizeof *pointers);
    const char *name = names->data;
    for (size_t i = 0; pointers && i < n; i++) {
        pointers[i] = name;
        name += strlen(name) + 1;
    }
    *count = pointers ? n : 0;
    return pointers;
}

void as_load_point(allshard *as)
{
    as->missing = point(&as->missing_names, &as->missing_count);
    as->unexpected = point(&as->unexpected_names, &as->unexpected_count);
}

void as_load_call_from(as_load_call *call, allshard_state *s, const char *path,
                       const allshard_load_options *options, as_error *e)
{
    allshard_load_options o;
    (void)as_take_options(&o, sizeof o, options, options ? options->size : 0,
                          "allshard_load_options", e);
    if (o.checksum < ALLSHARD_CHECKSUM_DEFAULT || o.checksum > ALLSHARD_CHECKSUM_XXH3) {
        (void)as_fail(e, AS_INVALID, 0, "%d is no checksum; see enum allshard_checksum",
                      o.checksum);
    }
    *call = (as_load_call){
        .session = &s->context->session,
        .state = &s->state,
        .path = path,
        .pattern = o.pattern,
        .block_bytes = o.block_bytes,
        .allow_missing = o.allow_missing != 0,
        .allow_unexpected = o.allow_unexpected != 0,
        .engine = o.engine,
        .no_checksums = o.checksum == ALLSHARD_CHECKSUM_NONE,
        .cuda_stream = o.cuda_stream,
    };
}

int allshard_load(allshard_state *s, const char *path, const allshard_load_options *options)
{
    if (!s) {
        return ALLSHARD_INVALID;
    }
    allshard *as = s->context;
    as_error *e = as_begin(as);
    if (as_meet(as, "allshard_load") != AS_OK) {
        return as_end(as);
    }
    as_load_call call;
    as_load_call_from(&call, s, path, options, e);
    if (!path || !*path) {
        (void)as_fail(e, AS_INVALID, 0, "no path is given to load from");
    }
    (void)as_load_run(&call, &as->missing_names, &as->unexpected_names, e);
    as_load_point(as);
    return as_end(as);
}

size_t allshard_missing_count(const allshard *as)
{
    return as ? as->missing_count : 0;
}

const char *allshard_missing_name(const allshard *as, size_t i)
{
    return as && i < as->missing_count ? as->missing[i] : NULL;
}

size_t allshard_unexpected_count(const allshard *as)
{
    return as ? as->unexpected_count : 0;
}

const char *allshard_unexpected_name(const allshard *as, size_t i)
{
    return as && i < as->unexpected_count ? as->unexpected[i] : NULL;
}
