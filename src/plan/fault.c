/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/fault.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/quote.h"

void as_fault_fill(as_error *e, const char *first, const char *second)
{
    as_buffer text = AS_BUFFER_INIT;
    int code = AS_OK;
    const size_t length = sizeof AS_NAME_1 - 1;
    for (const char *c = as_error_text(e); *c && code == AS_OK; c++) {
        bool is_first = strncmp(c, AS_NAME_1, length) == 0;
        if (!is_first && strncmp(c, AS_NAME_2, length) != 0) {
            code = as_buffer_char(&text, *c, NULL);
            continue;
        }
        c += length - 1;
        const char *name = is_first ? first : second;
        code = as_buffer_format(&text, NULL, "%s",
                                name ? as_quote(name, strlen(name)).text : "(name unknown)");
    }
    const char *filled = code == AS_OK ? as_buffer_string(&text) : NULL;
    if (filled) {
        as_error named = AS_ERROR_INIT;
        (void)as_fail(&named, e->code, 0, "%s", filled);
        named.sys_errno = e->sys_errno;
        named.rank = e->rank;
        memcpy(named.host, e->host, sizeof named.host);
        as_error_move(e, &named);
    }
    as_buffer_free(&text);
}
