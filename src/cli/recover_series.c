/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/recover_series.h"

#include <stdlib.h>
#include <string.h>

#include "base/sys.h"
#include "cli/series_root.h"
#include "commit/folder.h"
#include "series/latest.h"

static bool has_record(const as_members *m)
{
    for (size_t i = 0; i < m->count; i++) {
        if (m->items[i].has_record) {
            return true;
        }
    }
    return false;
}

/* The checkpoint that ROOT/latest should lead to; NULL: where it leads now. */
static const as_member *wanted(const as_recover_report *report, const as_members *m,
                               const char *latest)
{
    if (report->outcome == AS_RECOVER_FINISHED && report->incoming.count == 1) {
        /* The save was killed before it came to that. */
        return as_members_named(m, report->incoming.items[0]);
    }
    return latest && !as_members_named(m, latest) ? as_members_newest(m) : NULL;
}

static void mend_latest(const char *root, const as_recover_report *report, const as_members *m,
                        const as_log *log)
{
    as_error e = AS_ERROR_INIT;
    int folder;
    char *latest = NULL;
    if (as_folder_open(root, &folder, &e) == AS_OK) {
        int code = as_latest_get(folder, root, &latest, &e);
        const as_member *to = code == AS_OK ? wanted(report, m, latest) : NULL;
        if (to) {
            (void)as_latest_set(folder, root, to->name, &e);
        }
        (void)as_sys_table.close(folder);
    }
    if (e.code != AS_OK) {
        as_log_say(log, AS_LOG_WARNING, "%s", as_error_text(&e));
    }
    free(latest);
    as_error_clear(&e);
}

int as_recover_series(const char *root, const as_recover_report *report, bool dry_run,
                      as_members *out, bool *is_series, const as_log *log, as_error *e)
{
    int code = as_members_read(out, root, NULL, log, e);
    *is_series = code == AS_OK && has_record(out);
    if (code == AS_OK && !*is_series && out->count > 0) { /* no manifest of any can be read, say */
        code = as_root_is_series(root, NULL, is_series, e);
    }
    if (*is_series && !dry_run) {
        mend_latest(root, report, out, log);
    }
    return code;
}

static size_t count_damaged(const as_members *m)
{
    size_t count = 0;
    for (size_t i = 0; i < m->count; i++) {
        count += m->items[i].state == AS_MEMBER_DAMAGED;
    }
    return count;
}

void as_recover_series_print(const as_output *o, const as_members *m)
{
    const as_member *newest = as_members_newest(m);
    size_t damaged = count_damaged(m);
    as_print(o, "%zu checkpoint%s", m->count, m->count == 1 ? "" : "s");
    if (!newest) {
        as_print(o, ", %sdamaged; none is good to go on from", m->count == 1 ? "" : "all ");
    } else if (damaged > 0) {
        as_print(o, ", %zu of them damaged; the newest good one is %s", damaged, newest->name);
    } else if (m->count == 1) {
        as_print(o, ", good: %s", newest->name);
    } else {
        as_print(o, ", all good; the newest is %s", newest->name);
    }
    as_print(o, ".\n");
    for (size_t i = 0; i < m->count; i++) {
        const as_member *one = &m->items[i];
        if (one->state == AS_MEMBER_DAMAGED) {
            as_print(o, "  %s: %s\n", one->name, one->why ? one->why : "damaged");
        }
    }
    if (damaged > 0) {
        as_print(o, "Nothing removes a damaged one by itself: mend it from a copy, or remove it by "
                    "hand.\n");
    }
}

json_t *as_recover_series_json(const as_members *m)
{
    const as_member *newest = as_members_newest(m);
    json_t *damaged = json_array();
    for (size_t i = 0; i < m->count && damaged; i++) {
        const as_member *one = &m->items[i];
        const char *why = one->why ? one->why : "damaged";
        if (one->state == AS_MEMBER_DAMAGED &&
            json_array_append_new(damaged, json_pack("{s:o, s:o}", "name",
                                                     as_json_text(one->name, strlen(one->name)),
                                                     "why", as_json_text(why, strlen(why)))) != 0) {
            json_decref(damaged);
            damaged = NULL;
        }
    }
    return json_pack("{s:I, s:o, s:o}", "checkpoints", (json_int_t)m->count, "newest",
                     newest ? as_json_text(newest->name, strlen(newest->name)) : json_null(),
                     "damaged", damaged);
}
