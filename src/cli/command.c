/* SPDX-License-Identifier: Apache-2.0
 * What sub-commands leave behind for main.c; apart from it, so that programs with a main of
 * their own can link the sub-commands.
 */
#include "cli/command.h"

int as_tool_usage(as_tool *tool, int code)
{
    tool->usage = tool->usage || code == AS_INVALID || code == AS_SIZE || code == AS_PATTERN;
    return code;
}

void as_tool_set(as_tool *tool, const char *key, json_t *value)
{
    if (!tool->result) {
        json_decref(value);
        return;
    }
    if (!value || json_object_set_new(tool->result, key, value) != 0) {
        /* An object with a hole would mislead: as_output_json says that memory ran out. */
        json_decref(tool->result);
        tool->result = NULL;
    }
}
