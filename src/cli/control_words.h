/* SPDX-License-Identifier: Apache-2.0
 * What stop, save-now and hold share: a word that is written into a series' control file, or taken
 * out of it.
 */
#ifndef ALLSHARD_CLI_CONTROL_WORDS_H
#define ALLSHARD_CLI_CONTROL_WORDS_H

#include <stdbool.h>

#include "cli/command.h"

typedef struct as_word_texts {
    const char *added;   /* what a run does now; these follow "ROOT: " */
    const char *there;   /* the word was there already */
    const char *taken;   /* it was taken out */
    const char *missing; /* there was nothing to take out */
} as_word_texts;

/* Writes the word (of enum as_control_word) into ROOT's control file, or takes it out, on the main
 * process, and tells it; lines of the file that no run understands are warned of. Collective.
 * AS_NOT_FOUND: no folder, or one that is no series (an empty one may become one); else as
 * as_control_change. */
int as_word_run(as_tool *tool, const char *root, unsigned word, bool take_out, bool json,
                const as_word_texts *texts, as_error *e);

#endif
