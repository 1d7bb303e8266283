/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/shell_word.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/quote.h"

/* Would it be printed as it is? Else what is printed is another name, which may be there as well. */
static int is_printed_as_it_is(const char *text, bool *same, as_error *e)
{
    char *copy = strdup(text);
    char *shown = copy ? as_quote_text(copy) : NULL;
    if (!shown) {
        return as_fail_nomem(e);
    }
    *same = strcmp(shown, text) == 0;
    free(shown);
    return AS_OK;
}

/* Within $'…', which bash, zsh, ksh and, since 2024, POSIX know. */
static int put_escaped(as_buffer *out, const char *text, as_error *e)
{
    int code = AS_OK;
    for (const char *at = text; *at && code == AS_OK; at++) {
        bool plain = *at >= ' ' && *at <= '~' && *at != '\'' && *at != '\\';
        code = plain ? as_buffer_char(out, *at, e)
                     : as_buffer_format(out, e, "\\%03o", (unsigned)(unsigned char)*at);
    }
    return code;
}

/* Within '…'. */
static int put_quoted(as_buffer *out, const char *text, as_error *e)
{
    int code = AS_OK;
    for (const char *at = text; *at && code == AS_OK; at++) {
        code = *at == '\'' ? as_buffer_append(out, "'\\''", 4, e) : as_buffer_char(out, *at, e);
    }
    return code;
}

int as_shell_word(as_buffer *out, const char *text, as_error *e)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "/._-+=:,@%";
    if (*text && strspn(text, plain) == strlen(text)) {
        return as_buffer_format(out, e, "%s", text);
    }
    bool same = true;
    int code = is_printed_as_it_is(text, &same, e);
    if (code == AS_OK) {
        code = as_buffer_format(out, e, "%s", same ? "'" : "$'");
    }
    if (code == AS_OK) {
        code = same ? put_quoted(out, text, e) : put_escaped(out, text, e);
    }
    return code == AS_OK ? as_buffer_char(out, '\'', e) : code;
}
