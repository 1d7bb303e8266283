/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/info.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { TEXT_BYTES = 512 };

void as_info_row(const as_info *i, const char *name, enum as_info_state state, json_t *more,
                 const char *format, ...)
{
    static const struct {
        const char *word;
        enum as_colour colour;
    } shown[] = {[AS_INFO_NO] = {"no", AS_YELLOW},
                 [AS_INFO_YES] = {"yes", AS_GREEN},
                 [AS_INFO_UNKNOWN] = {"?", AS_DIM}};
    char text[TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    as_print(&i->tool->out, "%-8s ", name);
    as_print_in(&i->tool->out, shown[state].colour, "%-4s", shown[state].word);
    as_print(&i->tool->out, "%s\n", text);

    json_t *row = json_object();
    json_t *works = state == AS_INFO_UNKNOWN ? json_null() : json_boolean(state == AS_INFO_YES);
    bool whole = row && json_object_set_new(row, "works", works) == 0 &&
                 json_object_set_new(row, "text", as_json_text(text, strlen(text))) == 0 && more &&
                 json_object_update(row, more) == 0;
    json_decref(more);
    if (!whole) {
        json_decref(row);
        row = NULL;
    }
    as_tool_set(i->tool, name, row);
}

void as_info_line(const as_info *i, const char *format, ...)
{
    char text[TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    as_print(&i->tool->out, "%-8s     %s\n", "", text);
}
