/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/quote.h"

void as_log_say(const as_log *log, int level, const char *format, ...)
{
    if (!log || !log->call) {
        return;
    }
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    text = length < 0 ? NULL : as_quote_text(text);
    log->call(level, text ? text : "out of memory", log->user);
    free(text);
}
