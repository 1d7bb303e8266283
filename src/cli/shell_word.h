/* SPDX-License-Identifier: Apache-2.0
 * Names in commands that are printed for the user to run: whatever is in a name, the shell must
 * take it for one word, and for that name.
 */
#ifndef ALLSHARD_CLI_SHELL_WORD_H
#define ALLSHARD_CLI_SHELL_WORD_H

#include "base/buffer.h"
#include "base/error.h"

/* Adds the text as one word of a shell: as it is, in '…', or, where it holds what the tool's output
 * escapes (base/quote.h), in $'…', which stays the same name when it is printed. AS_OK, AS_NOMEM. */
int as_shell_word(as_buffer *out, const char *text, as_error *e);

#endif
