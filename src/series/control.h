/* SPDX-License-Identifier: Apache-2.0
 * Words of a person to a run, in ROOT/allshard.control: one a line, in any case; what begins with
 * '#' is a comment. Written by hand (`echo stop >> ROOT/allshard.control`) or by the tool.
 *
 *   stop      save and stop, not to be started again   struck out when that was done
 *   save-now  save and go on                           struck out when the save is durable
 *   hold      saves that can wait, and removals, wait  stays until somebody takes it out
 */
#ifndef ALLSHARD_SERIES_CONTROL_H
#define ALLSHARD_SERIES_CONTROL_H

#include "base/buffer.h"
#include "base/error.h"

#define AS_CONTROL_NAME "allshard.control"

/* As bits. */
enum as_control_word { AS_CONTROL_STOP = 1, AS_CONTROL_SAVE = 2, AS_CONTROL_HOLD = 4 };

enum { AS_LARGEST_CONTROL = 1 << 16 };

/* "stop" for AS_CONTROL_STOP. */
const char *as_control_word_text(unsigned word);

/* The words of a text; of lines that are none the first is told in `complaint` (NUL-terminated;
 * NULL: it does not matter), and passed over. */
unsigned as_control_parse(const char *text, size_t length, as_buffer *complaint);

/* The words that are there; none where there is no file. `root` is open, `path` its path for texts.
 * AS_SYSTEM; AS_INVALID: something else lies under the name; AS_LIMIT: it is too large; AS_NOMEM. */
int as_control_read(int root, const char *path, unsigned *words, as_buffer *complaint, as_error *e);

/* Strikes out words and adds others, in one rename, durably; *words: what is there after it.
 * Nothing is written if nothing changes; other lines stay as they are; a file with nothing left in
 * it goes. Those who change it wait for each other, on file systems that know locks; who edits by
 * hand at the same moment may lose what he wrote, or what was changed here. AS_BUSY: somebody else
 * has been changing it for 2 seconds; and as above. */
int as_control_change(int root, const char *path, unsigned strike, unsigned add, unsigned *words,
                      as_error *e);

#endif
