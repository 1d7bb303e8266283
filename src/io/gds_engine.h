/* SPDX-License-Identifier: Apache-2.0
 * The engine `gds`: what lies in device memory goes to files and comes from them by cuFile, whole
 * pages of it; ragged ends, and all of it once cuFile has refused something, by way of the host and
 * the page cache. What lies in the host's memory is another engine's work.
 */
#ifndef ALLSHARD_IO_GDS_ENGINE_H
#define ALLSHARD_IO_GDS_ENGINE_H

#include "io/cufile_library.h"
#include "io/engine.h"

/* as_engine_options.gds; all borrowed. */
typedef struct as_gds_options {
    const as_engine_type *other; /* for what lies in the host's memory */
    const as_cuda *cuda;
    const as_cufile *cufile; /* whose driver is open */
    as_cu_context context;   /* one of those that bytes lie in; files are registered in it */
} as_gds_options;

/* Its `used` says "gds" as long as cuFile moves what lies on devices, and has moved something; else
 * what the other engine says, and why. */
extern const as_engine_type as_engine_gds;

/* Is cuFile still the way? If not, operations on device memory work, more slowly: by copies. */
bool as_gds_engine_on(const as_engine *engine);

/* Takes other ways from now on; `why` goes into what `used` tells. */
void as_gds_engine_stop(as_engine *engine, const char *why);

/* What `used` is to tell beside the name, unless it was stopped by then. */
void as_gds_engine_note(as_engine *engine, const char *text);

#endif
