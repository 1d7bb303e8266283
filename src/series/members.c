/* SPDX-License-Identifier: Apache-2.0 */
#include "series/members.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/name_map.h"
#include "base/sys.h"
#include "commit/folder.h"
#include "commit/journal.h"
#include "commit/meta.h"

static int compare(const void *a, const void *b)
{
    const as_member *x = a;
    const as_member *y = b;
    if (x->step != y->step) {
        return x->step < y->step ? -1 : 1;
    }
    if (x->time_ms != y->time_ms) {
        return x->time_ms < y->time_ms ? -1 : 1;
    }
    return strcmp(x->name, y->name);
}

/* A save that was killed between its journal and the last rename counts, but is not in its place. */
static void warn_of_journal(int root, const char *path, const as_names *names, const as_log *log)
{
    as_buffer meta_path = AS_BUFFER_INIT;
    as_journal journal;
    bool found = false;
    int meta = -1;
    if (as_buffer_format(&meta_path, NULL, "%s/" AS_META_NAME, path) == AS_OK &&
        as_meta_open_to_read(root, meta_path.data, &meta, NULL) == AS_OK) {
        (void)as_journal_read(meta, meta_path.data, &journal, NULL, &found, NULL);
        (void)as_sys_table.close(meta);
    }
    if (found) {
        for (size_t i = 0; i < journal.incoming.count; i++) {
            const char *name = journal.incoming.items[i];
            if (!as_names_find(names, name)) {
                as_log_say(log, AS_LOG_WARNING,
                           "%s: \"%s\" is just taking its place, or its save was killed after it "
                           "counted; `allshard recover` finishes that",
                           path, name);
            }
        }
        as_journal_free(&journal);
    }
    as_buffer_free(&meta_path);
}

/* `known`: what an earlier look gave, which is used up. */
static int read_all(as_members *out, as_members *known, int root, const char *path,
                    const as_names *names, const as_folder_pattern *pattern, as_error *e)
{
    as_buffer items = AS_BUFFER_INIT;
    as_name_map places = AS_NAME_MAP_INIT;
    int code = AS_OK;
    for (size_t i = 0; code == AS_OK && i < known->count; i++) {
        code = as_name_map_add(&places, known->items[i].name, i, e);
    }
    for (size_t i = 0; code == AS_OK && i < names->count; i++) {
        as_member m;
        bool is_one;
        size_t place;
        bool seen = as_name_map_find(&places, names->items[i], &place);
        code = as_member_read_again(&m, seen ? &known->items[place] : NULL, root, path,
                                    names->items[i], pattern, &is_one, e);
        if (code == AS_OK && is_one) {
            code = as_buffer_append(&items, &m, sizeof m, e);
            if (code != AS_OK) {
                as_member_free(&m);
            }
        }
    }
    as_name_map_free(&places);
    out->items = (as_member *)(void *)items.data;
    out->count = items.size / sizeof(as_member);
    if (out->count > 1) {
        qsort(out->items, out->count, sizeof *out->items, compare);
    }
    return code;
}

int as_members_read(as_members *out, const char *root, const as_folder_pattern *pattern,
                    const as_log *log, as_error *e)
{
    *out = AS_MEMBERS_INIT;
    return as_members_read_again(out, root, pattern, log, e);
}

int as_members_read_again(as_members *m, const char *root, const as_folder_pattern *pattern,
                          const as_log *log, as_error *e)
{
    int fd = -1;
    as_names names = AS_NAMES_INIT;
    as_members now = AS_MEMBERS_INIT;
    int code = as_folder_open(root, &fd, e);
    if (code == AS_OK) {
        code = as_folder_list(fd, root, &names, e);
    }
    if (code == AS_OK) {
        code = read_all(&now, m, fd, root, &names, pattern, e);
    }
    as_members_free(m);
    if (code == AS_OK) {
        warn_of_journal(fd, root, &names, log);
        *m = now;
    } else {
        as_members_free(&now);
    }
    as_names_free(&names);
    if (fd >= 0) {
        (void)as_sys_table.close(fd);
    }
    return code;
}

const as_member *as_members_newest(const as_members *m)
{
    for (size_t i = m->count; i-- > 0;) {
        if (m->items[i].state == AS_MEMBER_GOOD) {
            return &m->items[i];
        }
    }
    return NULL;
}

const as_member *as_members_of_step(const as_members *m, int64_t step)
{
    for (size_t i = m->count; i-- > 0;) {
        if (m->items[i].step == step) {
            return &m->items[i];
        }
    }
    return NULL;
}

const as_member *as_members_named(const as_members *m, const char *name)
{
    for (size_t i = 0; i < m->count; i++) {
        if (strcmp(m->items[i].name, name) == 0) {
            return &m->items[i];
        }
    }
    return NULL;
}

void as_members_free(as_members *m)
{
    for (size_t i = 0; i < m->count; i++) {
        as_member_free(&m->items[i]);
    }
    free(m->items);
    *m = AS_MEMBERS_INIT;
}
