/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/series_root.h"

#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/sys.h"
#include "commit/folder.h"
#include "series/control.h"
#include "series/history.h"
#include "series/latest.h"
#include "series/words.h"

int as_root_check_pattern(const char *pattern, as_error *e)
{
    as_folder_pattern *made = NULL;
    int code = pattern ? as_folder_pattern_make(&made, pattern, e) : AS_OK;
    as_folder_pattern_free(made);
    return code;
}

int as_root_members(as_members *out, as_tool *tool, const char *root, const char *pattern,
                    as_error *e)
{
    as_folder_pattern *made = NULL;
    as_log log = as_output_as_log(&tool->out);
    *out = AS_MEMBERS_INIT;
    int code = pattern ? as_folder_pattern_make(&made, pattern, e) : AS_OK;
    code = code == AS_OK ? as_members_read(out, root, made, &log, e) : code;
    as_folder_pattern_free(made);
    return code;
}

/* ------------------------------------------------------------- is it a series? */

static bool ends_in(const char *name, const char *end)
{
    size_t length = strlen(name);
    size_t tail = strlen(end);
    return length > tail && strcmp(name + length - tail, end) == 0;
}

/* A checkpoint's own files in the folder make it a checkpoint, whatever else lies there: Hugging
 * Face's Trainer puts the final model among the checkpoints that led to it. */
static bool is_checkpoint(const as_names *names)
{
    bool found = as_names_find(names, AS_MANIFEST_NAME);
    for (size_t i = 0; !found && i < names->count; i++) {
        found = ends_in(names->items[i], ".safetensors") ||
                ends_in(names->items[i], ".safetensors.index.json");
    }
    return found;
}

static int look_for_one(int fd, const char *path, const as_names *names, bool *is_one, as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; code == AS_OK && !*is_one && i < names->count; i++) {
        as_member m;
        code = as_member_read(&m, fd, path, names->items[i], NULL, is_one, e);
        if (code == AS_OK && *is_one) {
            as_member_free(&m);
        }
    }
    return code;
}

int as_root_is_series(const char *path, const char *pattern, bool *is_one, as_error *e)
{
    static const char *const own[] = {AS_HISTORY_NAME, AS_CONTROL_NAME};
    as_names names = AS_NAMES_INIT;
    as_error why = AS_ERROR_INIT;
    int fd;
    *is_one = false;
    int code = as_folder_open(path, &fd, &why);
    if (code == AS_NOT_FOUND || code == AS_INVALID) {
        as_error_clear(&why);
        return AS_OK;
    }
    if (code != AS_OK) {
        return as_error_pass(e, &why);
    }
    *is_one = pattern != NULL;
    code = *is_one ? AS_OK : as_folder_list(fd, path, &names, e);
    if (code == AS_OK && !*is_one && !is_checkpoint(&names)) {
        for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
            *is_one = *is_one || as_names_find(&names, own[i]);
        }
        code = *is_one ? AS_OK : look_for_one(fd, path, &names, is_one, e);
    }
    as_names_free(&names);
    (void)as_sys_table.close(fd);
    return code;
}

int as_root_expect(const char *path, const char *pattern, as_error *e)
{
    bool is_one;
    int fd;
    int code = as_folder_open(path, &fd, e);
    if (code != AS_OK) {
        return code;
    }
    (void)as_sys_table.close(fd);
    code = as_root_is_series(path, pattern, &is_one, e);
    if (code == AS_OK && !is_one) {
        code = as_fail(e, AS_NOT_FOUND, 0,
                       "%s: this is no series of checkpoints: give the folder in which their "
                       "folders lie",
                       path);
    }
    return code;
}

/* ---------------------------------------------------------------------- telling */

int as_root_path(const char *root, const char *name, as_buffer *out, as_error *e)
{
    size_t length = strlen(root);
    out->size = 0;
    int code = as_buffer_format(out, e, "%s%s%s", root,
                                length > 0 && root[length - 1] == '/' ? "" : "/", name);
    return code == AS_OK && !as_buffer_string(out) ? as_fail_nomem(e) : code;
}

const char *as_root_why(const as_member *m, const char *root)
{
    as_buffer path = AS_BUFFER_INIT;
    const char *why = m->why;
    /* As as_member_read puts it together. */
    if (why && as_buffer_format(&path, NULL, "%s/%s", root, m->name) == AS_OK &&
        strncmp(why, path.data, path.size) == 0 &&
        (why[path.size] == '/' || strncmp(why + path.size, ": ", 2) == 0)) {
        why += path.size + (why[path.size] == '/' ? 1 : 2);
    }
    as_buffer_free(&path);
    return why;
}

bool as_root_name_is_line(const as_member *m)
{
    return as_is_line(m->name);
}

json_t *as_json_metric(double value)
{
    return isfinite(value) ? json_real(value)
                           : json_string(isnan(value) ? "NaN"
                                         : value > 0  ? "Infinity"
                                                      : "-Infinity");
}

static json_t *json_of_names(const as_names *names)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < names->count; i++) {
        if (json_array_append_new(list, as_json_text(names->items[i], strlen(names->items[i]))) !=
            0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

static json_t *json_of_fields(const as_fields *fields)
{
    json_t *object = json_object();
    for (size_t i = 0; object && i < fields->count; i++) {
        if (json_object_set_new(object, fields->items[i].name,
                                json_string(fields->items[i].value)) != 0) {
            json_decref(object);
            object = NULL;
        }
    }
    return object;
}

static json_t *json_of_text(const char *text)
{
    return text ? as_json_text(text, strlen(text)) : json_null();
}

/* What the manifest's "checkpoint" tells; nulls and empty objects without it. */
static int add_record(json_t *o, const as_member *m)
{
    static const as_fields none = {.count = 0};
    const as_record *r = m->has_record ? &m->record : NULL;
    json_t *metric = r && r->metric ? json_pack("{s:o,s:o}", "name", json_of_text(r->metric),
                                                "value", as_json_metric(r->metric_value))
                                    : json_null();
    int failed = json_object_set_new(o, "metric", metric);
    failed |= json_object_set_new(o, "save_seconds", r ? json_real(r->save_seconds) : json_null());
    failed |= json_object_set_new(o, "world_size", r ? json_integer(r->world_size) : json_null());
    failed |= json_object_set_new(o, "parent", json_of_text(r ? r->parent : NULL));
    failed |= json_object_set_new(o, "fields", json_of_fields(r ? &r->fields : &none));
    failed |= json_object_set_new(o, "job", json_of_fields(r ? &r->job : &none));
    return failed;
}

json_t *as_root_json(const as_member *m, const char *root, int64_t now_ms)
{
    char stamp[AS_STAMP_SIZE];
    as_buffer path = AS_BUFFER_INIT;
    json_t *o = json_object();
    as_stamp_write(m->time_ms, stamp);
    int failed = !o || as_root_path(root, m->name, &path, NULL) != AS_OK;
    if (!failed) {
        failed |= json_object_set_new(o, "name", json_of_text(m->name));
        failed |= json_object_set_new(o, "path", json_of_text(path.data));
        failed |= json_object_set_new(o, "step", m->step < 0 ? json_null() : json_integer(m->step));
        failed |= json_object_set_new(o, "time", json_string(stamp));
        failed |=
            json_object_set_new(o, "age_seconds", json_real((double)(now_ms - m->time_ms) * 1e-3));
        failed |= json_object_set_new(o, "bytes", json_integer(m->bytes));
        failed |= json_object_set_new(o, "good", json_boolean(m->state == AS_MEMBER_GOOD));
        failed |= json_object_set_new(o, "why", json_of_text(as_root_why(m, root)));
        failed |= json_object_set_new(o, "manifest", json_boolean(m->has_manifest));
        failed |= json_object_set_new(o, "parts", json_of_names(&m->parts));
        failed |=
            json_object_set_new(o, "tags", m->tags_unknown ? json_null() : json_of_names(&m->tags));
        failed |= add_record(o, m);
    }
    as_buffer_free(&path);
    if (failed) {
        json_decref(o);
        return NULL;
    }
    return o;
}

as_short_text as_human_age(int64_t ms)
{
    as_short_text s;
    int64_t minutes = ms / 60000;
    if (ms < -1000) {
        (void)snprintf(s.text, sizeof s.text, "ahead");
    } else if (minutes < 2) {
        (void)snprintf(s.text, sizeof s.text, "%" PRId64 " s", ms < 0 ? 0 : ms / 1000);
    } else if (minutes < 60) {
        (void)snprintf(s.text, sizeof s.text, "%" PRId64 " min", minutes);
    } else if (minutes < INT64_C(48) * 60) {
        (void)snprintf(s.text, sizeof s.text, "%" PRId64 " h %02" PRId64 " min", minutes / 60,
                       minutes % 60);
    } else {
        (void)snprintf(s.text, sizeof s.text, "%" PRId64 " days", minutes / (INT64_C(24) * 60));
    }
    return s;
}

void as_root_tell_history(as_tool *tool, const char *root, const as_member *m, int kind,
                          const char *text)
{
    const as_event event = {.kind = (enum as_event_kind)kind,
                            .name = m ? m->name : NULL,
                            .step = m ? m->step : -1,
                            .text = text};
    as_error why = AS_ERROR_INIT;
    int fd = -1;
    int code = as_folder_open(root, &fd, &why);
    code = code == AS_OK ? as_history_append(fd, root, &event, &why) : code;
    if (code != AS_OK) {
        as_say_warning(&tool->out, "the history was not written: %s", as_error_text(&why));
    }
    if (fd >= 0) {
        (void)as_sys_table.close(fd);
    }
    as_error_clear(&why);
}
