/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/control_words.h"

#include <string.h>

#include "base/sys.h"
#include "cli/series_root.h"
#include "commit/folder.h"
#include "commit/names.h"
#include "series/control.h"

/* Nothing that a person would see: a run has made it, and has not saved yet. */
static int looks_empty(int fd, const char *root, bool *empty, as_error *e)
{
    as_names names = AS_NAMES_INIT;
    int code = as_folder_list(fd, root, &names, e);
    *empty = true;
    for (size_t i = 0; i < names.count; i++) {
        *empty = *empty && names.items[i][0] == '.';
    }
    as_names_free(&names);
    return code;
}

/* In another folder the word would be read by nobody. */
static int expect_root(int fd, const char *root, as_error *e)
{
    bool empty;
    int code = looks_empty(fd, root, &empty, e);
    return code != AS_OK || empty ? code : as_root_expect(root, NULL, e);
}

static json_t *json_of_words(unsigned words)
{
    json_t *list = json_array();
    for (unsigned word = AS_CONTROL_STOP; word <= AS_CONTROL_HOLD; word *= 2) {
        if (words & word) {
            (void)json_array_append_new(list, json_string(as_control_word_text(word)));
        }
    }
    return list;
}

static void tell(as_tool *tool, const char *root, unsigned word, bool take_out, bool json,
                 unsigned before, unsigned after, const as_word_texts *t)
{
    bool was_there = (before & word) != 0;
    if (json) {
        tool->result = json_object();
        as_tool_set(tool, "root", as_json_text(root, strlen(root)));
        as_tool_set(tool, "changed", json_boolean(was_there == take_out));
        as_tool_set(tool, "words", json_of_words(after));
    } else if (take_out) {
        as_print(&tool->out, "%s: %s\n", root, was_there ? t->taken : t->missing);
    } else {
        as_print(&tool->out, "%s: %s\n", root, was_there ? t->there : t->added);
    }
}

static int change(as_tool *tool, int fd, const char *root, unsigned word, bool take_out, bool json,
                  const as_word_texts *texts, as_error *e)
{
    as_buffer complaint = AS_BUFFER_INIT;
    unsigned before;
    unsigned after = 0;
    int code = as_control_read(fd, root, &before, &complaint, e);
    if (code == AS_OK && complaint.size > 0) {
        as_say_warning(&tool->out, "%s/" AS_CONTROL_NAME ": %s", root, complaint.data);
    }
    if (code == AS_OK) {
        code = as_control_change(fd, root, take_out ? word : 0, take_out ? 0 : word, &after, e);
    }
    if (code == AS_OK) {
        tell(tool, root, word, take_out, json, before, after, texts);
    }
    as_buffer_free(&complaint);
    return code;
}

int as_word_run(as_tool *tool, const char *root, unsigned word, bool take_out, bool json,
                const as_word_texts *texts, as_error *e)
{
    if (tool->world.rank == 0) {
        int fd;
        int code = as_folder_open(root, &fd, e);
        if (code == AS_OK) {
            code = expect_root(fd, root, e);
            if (code == AS_OK) {
                (void)change(tool, fd, root, word, take_out, json, texts, e);
            }
            (void)as_sys_table.close(fd);
        }
    }
    return as_world_agree(&tool->world, e);
}
