/* SPDX-License-Identifier: Apache-2.0
 * One checkpoint of a series: what its folder tells.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/sys.h"
#include "commit/folder.h"
#include "commit/view.h"
#include "series/inspect.h"
#include "series/members.h"
#include "series/tags.h"
#include "series/words.h"

enum { MOST_LOOKS = 5 }; /* at a folder that a save changes just now */

static bool is_folder(int root, const char *name, struct stat *status)
{
    return as_sys_table.fstatat(root, name, status, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISDIR(status->st_mode);
}

/* Not the checkpoint's fault, but this process's or this moment's. */
static bool is_ours(const as_error *e)
{
    return e->code == AS_NOMEM || e->code == AS_INTERNAL ||
           (e->code == AS_SYSTEM &&
            (e->sys_errno == EMFILE || e->sys_errno == ENFILE || e->sys_errno == ENOMEM));
}

/* It is damaged: takes the text over, unless there is one. What is ours stays in *why. */
static int blame(as_member *m, as_error *why, as_error *e)
{
    if (why->code == AS_OK || is_ours(why)) {
        return as_error_pass(e, why);
    }
    m->state = AS_MEMBER_DAMAGED;
    if (!m->why) {
        m->why = why->text;
        why->text = NULL;
    }
    as_error_clear(why);
    return AS_OK;
}

/* What the manifest tells of the whole. */
static int take_manifest(as_member *m, const as_manifest *manifest, const char *path, as_error *e)
{
    int code = AS_OK;
    bool has_time = false;
    m->has_manifest = true;
    for (size_t i = 0; code == AS_OK && i < manifest->part_count; i++) {
        const as_manifest_part *p = &manifest->parts[i];
        int64_t time;
        code = as_names_add(&m->parts, p->part, e);
        m->step = m->step < 0 && p->has_step && p->step >= 0 ? p->step : m->step;
        if (as_stamp_read(p->created, &time) && (!has_time || time > m->time_ms)) {
            m->time_ms = time;
            has_time = true;
        }
    }
    if (code != AS_OK || !manifest->checkpoint) {
        return code;
    }
    as_error why = AS_ERROR_INIT;
    if (as_record_from_json(manifest->checkpoint, path, &m->record, &why) == AS_OK) {
        m->has_record = true;
        m->step = m->record.step;
        m->time_ms = m->record.time_ms;
    }
    return blame(m, &why, e);
}

/* Adds what one can tell of an entry without opening it: any write leaves its mark. */
static void add_to_print(as_member *m, const char *name, const struct stat *s)
{
    const int64_t marks[] = {(int64_t)s->st_dev,         (int64_t)s->st_ino,
                             (int64_t)s->st_mode,        (int64_t)s->st_size,
                             (int64_t)s->st_mtim.tv_sec, (int64_t)s->st_mtim.tv_nsec,
                             (int64_t)s->st_ctim.tv_sec, (int64_t)s->st_ctim.tv_nsec};
    as_hash own = as_hash_bytes(name, strlen(name));
    m->print = as_hash_sum(m->print, as_hash_seeded(marks, sizeof marks, own.high ^ own.low));
}

/* Bytes of the files, tags, the print. Whatever cannot be had is left out. */
static int look_around(as_member *m, int folder, const char *path, as_error *e)
{
    as_names names = AS_NAMES_INIT;
    as_error why = AS_ERROR_INIT;
    int code = as_folder_list(folder, path, &names, &why);
    for (size_t i = 0; code == AS_OK && i < names.count; i++) {
        struct stat status = {.st_size = 0};
        if (as_sys_table.fstatat(folder, names.items[i], &status, 0) == 0 &&
            S_ISREG(status.st_mode)) {
            m->bytes += status.st_size;
        }
        add_to_print(m, names.items[i], &status);
    }
    m->has_print = code == AS_OK;
    as_names_free(&names);
    code = code == AS_OK ? as_tags_read(folder, path, &m->tags, &why) : code;
    m->tags_unknown = code != AS_OK;
    if (is_ours(&why)) {
        return as_error_pass(e, &why);
    }
    as_error_clear(&why);
    return AS_OK;
}

/* *ours: there is a manifest or there are weights, as far as one can see. */
static int look(as_member *m, const char *path, bool *ours, as_error *e)
{
    as_view *view = NULL;
    as_inspected found = AS_INSPECTED_INIT;
    as_error why = AS_ERROR_INIT;
    int code = as_view_open(&view, path, &why);
    if (code == AS_OK) {
        code = as_inspect(&found, view, &why);
    }
    /* A manifest, an index or a journal breaks its rules: nobody else's folder has such. */
    *ours = found.has_manifest || found.has_weights || code == AS_FORMAT;
    if (code == AS_BUSY) {
        code = as_error_pass(e, &why);
    } else {
        code = blame(m, &why, e);
    }
    if (code == AS_OK && found.has_manifest) {
        code = take_manifest(m, &found.manifest, path, e);
    }
    as_inspected_free(&found);
    as_view_close(view);
    return code;
}

static int nothing_there(as_member *m, const char *path, as_error *e)
{
    as_error why = AS_ERROR_INIT;
    (void)as_fail(&why, AS_NOT_FOUND, 0, "%s: there are no weights in this folder", path);
    return blame(m, &why, e);
}

/* Nothing can have changed since it was looked at. */
static bool is_known(const as_member *m, const as_member *known)
{
    return known && known->state == AS_MEMBER_GOOD && m->has_print && known->has_print &&
           as_hash_equal(m->print, known->print);
}

/* What the files of `known` told. */
static void take_over(as_member *m, as_member *known)
{
    m->step = known->step;
    m->time_ms = known->time_ms;
    m->has_manifest = known->has_manifest;
    m->has_record = known->has_record;
    m->record = known->record;
    m->parts = known->parts;
    known->has_record = false;
    known->parts = AS_NAMES_INIT;
}

static int look_once(as_member *m, const as_member *known, int root, const char *path,
                     const char *name, bool by_name, bool *is_one, as_error *e)
{
    struct stat before;
    struct stat after;
    if (!is_folder(root, name, &before)) {
        return AS_OK;
    }
    bool ours = false;
    m->time_ms = (int64_t)before.st_mtim.tv_sec * 1000 + before.st_mtim.tv_nsec / 1000000;
    int fd = as_open(root, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    int code = AS_OK;
    if (fd >= 0) {
        code = look_around(m, fd, path, e);
        (void)as_sys_table.close(fd);
    }
    if (is_known(m, known)) {
        ours = true;
    } else if (code == AS_OK) {
        code = look(m, path, &ours, e);
    }
    if (code == AS_OK && !ours && by_name) {
        code = nothing_there(m, path, e);
    }
    /* One that is renamed away meanwhile looks like one that lost its files. */
    bool stays = is_folder(root, name, &after) && after.st_ino == before.st_ino &&
                 after.st_dev == before.st_dev;
    if (code == AS_OK && !stays) {
        return as_fail(e, AS_BUSY, 0, "%s: this folder is being replaced or removed", path);
    }
    *is_one = ours || by_name;
    return code;
}

/* The step in the name, by the pattern, or by the usual one if there is none. */
static int read_name(const char *name, const as_folder_pattern *pattern, int64_t *step,
                     bool *matches, as_error *e)
{
    as_folder_pattern *usual = NULL;
    int code = pattern ? AS_OK : as_folder_pattern_make(&usual, NULL, e);
    if (code == AS_OK) {
        *matches = as_folder_pattern_read(pattern ? pattern : usual, name, step, NULL);
    }
    as_folder_pattern_free(usual);
    return code;
}

int as_member_read(as_member *out, int root, const char *root_path, const char *name,
                   const as_folder_pattern *pattern, bool *is_one, as_error *e)
{
    return as_member_read_again(out, NULL, root, root_path, name, pattern, is_one, e);
}

int as_member_read_again(as_member *out, as_member *known, int root, const char *root_path,
                         const char *name, const as_folder_pattern *pattern, bool *is_one,
                         as_error *e)
{
    as_buffer path = AS_BUFFER_INIT;
    as_error own = AS_ERROR_INIT;
    as_member m = {0};
    int64_t step = -1;
    bool matches = false;
    *is_one = false;
    int code = read_name(name, pattern, &step, &matches, e);
    if (code != AS_OK || name[0] == '.' || (pattern && !matches)) {
        return code;
    }
    code = as_buffer_format(&path, &own, "%s/%s", root_path, name);
    for (int i = 0; code == AS_OK || (code == AS_BUSY && i < MOST_LOOKS); i++) {
        as_error_clear(&own);
        as_member_free(&m);
        *is_one = false;
        m = (as_member){.step = -1, .state = AS_MEMBER_GOOD, .name = strdup(name)};
        code = m.name ? look_once(&m, known, root, path.data, name, matches, is_one, &own)
                      : as_fail_nomem(&own);
        if (code == AS_OK) {
            break;
        }
    }
    if (code == AS_BUSY) {
        *is_one = true;
        code = blame(&m, &own, e);
    } else {
        code = as_error_pass(e, &own);
    }
    *is_one = *is_one && code == AS_OK;
    if (*is_one) {
        if (is_known(&m, known)) {
            take_over(&m, known);
        }
        m.step = m.step < 0 ? step : m.step;
        *out = m;
    } else {
        as_member_free(&m);
    }
    as_buffer_free(&path);
    return code;
}

void as_member_free(as_member *m)
{
    free(m->name);
    free(m->why);
    if (m->has_record) {
        as_record_free(&m->record);
    }
    as_names_free(&m->parts);
    as_names_free(&m->tags);
    *m = (as_member){0};
}
