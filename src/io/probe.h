/* SPDX-License-Identifier: Apache-2.0
 * `auto`: which engine suits a folder, and how it should be opened.
 */
#ifndef ALLSHARD_IO_PROBE_H
#define ALLSHARD_IO_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "io/engine.h"
#include "io/gds_probe.h"

/* Plain data: the main process may broadcast it. */
typedef struct as_engine_choice {
    char engine[16];      /* for as_engine_by_name */
    char reason[160];     /* one line for people */
    char file_system[24]; /* "ext4"; "unknown" */
    enum as_gds_wish gds; /* whether what lies on devices may go straight to files, and back */
    bool direct;          /* as_engine_options */
    int64_t offset_align;
    int64_t memory_align;
} as_engine_choice;

/* Is that the name of an engine, "gds" among them, or "auto"? AS_INVALID lists the names. */
int as_probe_name(const char *name, as_error *e);

/* engine: NULL or "auto", or what the user asked for, which is given even where `auto` would not
 * choose it. "gds" is `auto` for what lies on the host, and a wish for the rest; `auto` itself wishes
 * for it where it chooses O_DIRECT. With `write` a small file is made in the folder, and unlinked before anything is
 * written to it, to see whether O_DIRECT works; nothing stays. Without, O_DIRECT is tried when a
 * file is attached. Refusals along the way are no errors: they lead to a plainer engine.
 * AS_INVALID: no such engine. AS_NOT_FOUND, AS_SYSTEM: the folder cannot be opened. */
int as_probe_folder(const char *folder, const char *engine, bool write, as_engine_choice *out,
                    as_error *e);

/* Fills in what a choice settles of the options; leaves the rest. */
void as_probe_options(const as_engine_choice *choice, as_engine_options *options);

/* Does the file lie in the page cache, nearly all of it? Then O_DIRECT would fetch again what is
 * there. Looks at a few places; may start to fetch a little around them, so ask once. */
bool as_probe_cached(int fd, int64_t size);

#endif
