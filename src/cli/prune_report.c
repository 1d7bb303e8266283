/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/prune_report.h"

#include <stdio.h>
#include <string.h>

enum fate { STAYS, GOES, CAME_BACK };

static bool holds(const as_names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->items[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static enum fate fate_of(const as_prune_report *r, size_t i)
{
    if (r->plan->reasons[i] != 0) {
        return STAYS;
    }
    return !r->gone || holds(r->gone, r->members->items[i].name) ? GOES : CAME_BACK;
}

/* How many go, and what they hold. */
static size_t count_going(const as_prune_report *r, int64_t *bytes)
{
    size_t count = 0;
    *bytes = 0;
    for (size_t i = 0; i < r->members->count; i++) {
        if (fate_of(r, i) == GOES) {
            int64_t more = r->members->items[i].bytes;
            *bytes = *bytes > INT64_MAX - more ? INT64_MAX : *bytes + more;
            count++;
        }
    }
    return count;
}

static int print_one(const as_prune_report *r, size_t i, int widest, const as_output *o,
                     as_error *e)
{
    static const char came_back[] = "tagged meanwhile, so that it came back";
    const as_member *m = &r->members->items[i];
    enum fate fate = fate_of(r, i);
    as_buffer words = AS_BUFFER_INIT;
    int code = as_prune_words(r->plan->reasons[i], &words, e);
    const char *text = code == AS_OK ? as_buffer_string(&words) : NULL;
    if (text) {
        as_print(o, "  %-*s  %9s  ", widest, m->name, as_human_bytes(m->bytes).text);
        if (fate == GOES) {
            as_print_in(o, AS_YELLOW, "%s\n", r->dry_run ? "would go" : "gone");
        } else {
            as_print(o, "stays: %s\n", fate == STAYS ? text : came_back);
        }
    } else if (code == AS_OK) {
        code = as_fail_nomem(e);
    }
    as_buffer_free(&words);
    return code;
}

int as_prune_print(const as_output *o, const as_prune_report *r, as_error *e)
{
    int widest = 0;
    int64_t bytes;
    size_t going = count_going(r, &bytes);
    for (size_t i = 0; i < r->members->count; i++) {
        int width = (int)strlen(r->members->items[i].name);
        widest = width > widest ? width : widest;
    }
    int code = AS_OK;
    for (size_t i = 0; i < r->members->count && code == AS_OK; i++) {
        code = print_one(r, i, widest, o, e);
    }
    if (code != AS_OK) {
        return code;
    }
    if (r->members->count == 0) {
        as_print(o, "%s: there is no checkpoint here; nothing to remove.\n", r->root);
    } else if (r->dry_run) {
        as_print(o,
                 "%s: %zu of %zu checkpoints would go, %s. Nothing was changed; without "
                 "--dry-run it is done.\n",
                 r->root, going, r->members->count, as_human_bytes(bytes).text);
    } else {
        as_print(o, "%s: %zu of %zu checkpoints are gone, %s.\n", r->root, going, r->members->count,
                 as_human_bytes(bytes).text);
    }
    return AS_OK;
}

/* ---------------------------------------------------------------------- JSON */

/* The words as a list. */
static json_t *json_of_reasons(uint32_t reasons)
{
    json_t *list = json_array();
    for (uint32_t bit = 1; bit && list; bit <<= 1) {
        if (!(reasons & bit)) {
            continue;
        }
        as_buffer words = AS_BUFFER_INIT;
        json_t *one = as_prune_words(bit, &words, NULL) == AS_OK
                          ? json_stringn(words.data, words.size)
                          : NULL;
        if (json_array_append_new(list, one) != 0) {
            json_decref(list);
            list = NULL;
        }
        as_buffer_free(&words);
    }
    return list;
}

static json_t *json_of_member(const as_prune_report *r, size_t i)
{
    const as_member *m = &r->members->items[i];
    enum fate fate = fate_of(r, i);
    json_t *step = m->step < 0 ? json_null() : json_integer((json_int_t)m->step);
    return json_pack("{s:o, s:o, s:I, s:b, s:b, s:o}", "name",
                     as_json_text(m->name, strlen(m->name)), "step", step, "bytes",
                     (json_int_t)m->bytes, "stays", fate != GOES, "came_back", fate == CAME_BACK,
                     "reasons", json_of_reasons(r->plan->reasons[i]));
}

void as_prune_json(as_tool *tool, const as_prune_report *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->members->count && list; i++) {
        if (json_array_append_new(list, json_of_member(r, i)) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    int64_t bytes;
    size_t going = count_going(r, &bytes);
    tool->result = json_object();
    as_tool_set(tool, "root", as_json_text(r->root, strlen(r->root)));
    as_tool_set(tool, "dry_run", json_boolean(r->dry_run));
    as_tool_set(tool, "checkpoints", list);
    as_tool_set(tool, "gone", json_integer((json_int_t)going));
    as_tool_set(tool, "gone_bytes", json_integer((json_int_t)bytes));
}
