/* SPDX-License-Identifier: Apache-2.0
 * What the commands for a series (ls, log, latest, wait, tag, best) share: the checkpoints in its
 * root, by a pattern or without, and how they are told.
 */
#ifndef ALLSHARD_CLI_SERIES_ROOT_H
#define ALLSHARD_CLI_SERIES_ROOT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "cli/command.h"
#include "series/members.h"

/* The row of that option in a table of options; `place` is where its text goes. */
#define AS_ROOT_PATTERN_OPTION(place)                                                              \
    {                                                                                              \
        .name = "pattern", .value = "P",                                                           \
        .help = "look only at folders that are named so, such as\n"                                \
                "'checkpoint-{step}'; default: at all checkpoints in ROOT",                        \
        .text = (place)                                                                            \
    }

/* The option --pattern of these commands (--series-pattern of ls) is well-formed, or NULL.
 * AS_PATTERN. */
int as_root_check_pattern(const char *pattern, as_error *e);

/* as_members_read by the pattern's text (NULL: all checkpoints). Warnings go to the tool's output. */
int as_root_members(as_members *out, as_tool *tool, const char *root, const char *pattern,
                    as_error *e);

/* Is the folder a series' root: no checkpoint itself, but one of a series' files, or a checkpoint's
 * folder, is in it? With a pattern it is one if it can be a folder at all. What is no folder is
 * none. AS_NOMEM, AS_SYSTEM. */
int as_root_is_series(const char *path, const char *pattern, bool *is_one, as_error *e);

/* AS_NOT_FOUND, with a text that says so, if it is none. */
int as_root_expect(const char *path, const char *pattern, as_error *e);

/* "ROOT/NAME", NUL-terminated, in place of what *out held. */
int as_root_path(const char *root, const char *name, as_buffer *out, as_error *e);

/* What is wrong with a damaged one, without the path of its folder, which stands beside it. */
const char *as_root_why(const as_member *m, const char *root);

/* Can the name be handed to a script as a line? What a series names always can. */
bool as_root_name_is_line(const as_member *m);

/* All that is known of it; NULL without memory. now_ms: since the epoch. */
json_t *as_root_json(const as_member *m, const char *root, int64_t now_ms);

/* How long ago, roughly: "12 s", "5 min", "2 h 03 min", "12 days"; "ahead" of this clock. */
as_short_text as_human_age(int64_t ms);

/* A metric's value, or one that JSON has no number for as a text. */
json_t *as_json_metric(double value);

/* Appends to the history; a failure is only a warning. */
void as_root_tell_history(as_tool *tool, const char *root, const as_member *m, int kind,
                          const char *text);

/* allshard ls ROOT (ls_series.c). tool->bad: one is damaged. */
int as_ls_series(as_tool *tool, const char *root, const char *pattern, bool json, as_error *e);

#endif
