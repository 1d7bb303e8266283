/* SPDX-License-Identifier: Apache-2.0 */
#include "series/shards.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/sys.h"
#include "format/format.h"

/* A file of that name is not there, whatever else the system call says. */
static bool cannot_exist(int sys_errno)
{
    return sys_errno == ENAMETOOLONG || sys_errno == ENOTDIR || sys_errno == ELOOP;
}

int as_shard_open(as_view *v, const char *name, int *fd, as_error *e)
{
    as_error why = AS_ERROR_INIT;
    int code = as_view_open_file(v, name, fd, &why);
    if (code == AS_SYSTEM && cannot_exist(why.sys_errno)) {
        code = as_fail(e, AS_NOT_FOUND, 0, "%s", as_error_text(&why));
        as_error_clear(&why);
        return code;
    }
    return as_error_pass(e, &why);
}

int as_shard_size(as_view *v, const char *name, int64_t *size, as_error *e)
{
    int fd = -1;
    as_error why = AS_ERROR_INIT;
    struct stat status;
    int code = as_shard_open(v, name, &fd, &why);
    *size = -1;
    if (code == AS_NOT_FOUND || code == AS_FORMAT || code == AS_INVALID) {
        as_error_clear(&why);
        return AS_OK;
    }
    if (code == AS_OK && as_sys_table.fstat(fd, &status) < 0) {
        (void)as_fail(&why, AS_SYSTEM, errno, "%s: cannot be looked at", name);
    } else if (code == AS_OK) {
        *size = (int64_t)status.st_size;
    }
    if (fd >= 0) {
        (void)as_sys_table.close(fd);
    }
    return as_error_pass(e, &why);
}

int as_shard_read(as_view *v, const char *name, const char *what, as_table *out, const as_log *log,
                  as_error *e)
{
    int fd = -1;
    int code = as_shard_open(v, name, &fd, e);
    if (code != AS_OK) {
        return code;
    }
    as_source source;
    const as_format *format = as_format_by_name(name);
    code = as_source_file(&source, &fd, what, e);
    if (code == AS_OK) {
        code = (format ? format : &as_format_safetensors)->read(&source, out, log, e);
    }
    (void)as_sys_table.close(fd);
    return code;
}

static int compare_names(const char *a, size_t a_length, const char *b, size_t b_length)
{
    int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
    return order != 0 ? order : (a_length > b_length) - (a_length < b_length);
}

static int compare_entries(const void *a, const void *b, void *user)
{
    const as_table *t = user;
    size_t i = *(const size_t *)a;
    size_t k = *(const size_t *)b;
    return compare_names(as_table_name(t, i), as_table_entry(t, i)->name_length,
                         as_table_name(t, k), as_table_entry(t, k)->name_length);
}

int as_shard_sort(as_shard *s, as_error *e)
{
    size_t count = as_table_count(&s->table);
    s->by_name = calloc(count + 1, sizeof *s->by_name);
    s->used = calloc(count + 1, sizeof *s->used);
    if (!s->by_name || !s->used) {
        return as_fail_nomem(e);
    }
    for (size_t i = 0; i < count; i++) {
        s->by_name[i] = i;
    }
    qsort_r(s->by_name, count, sizeof *s->by_name, compare_entries, &s->table);
    return AS_OK;
}

size_t as_shard_find(const as_shard *s, const char *name, size_t length)
{
    size_t low = 0;
    size_t high = as_table_count(&s->table);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        size_t entry = s->by_name[middle];
        int order = compare_names(as_table_name(&s->table, entry),
                                  as_table_entry(&s->table, entry)->name_length, name, length);
        if (order == 0) {
            return entry;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return as_table_count(&s->table);
}

size_t as_shard_take(as_shard *s, const char *name, size_t length)
{
    size_t entry = as_shard_find(s, name, length);
    if (entry < as_table_count(&s->table)) {
        s->used[entry] = true;
    }
    return entry;
}

size_t as_shard_unused(const as_shard *s, size_t *first)
{
    size_t unused = 0;
    *first = 0;
    for (size_t i = as_table_count(&s->table); i-- > 0;) {
        if (!s->used[i]) {
            unused++;
            *first = i;
        }
    }
    return unused;
}

void as_shards_free(as_shard *shards, size_t count)
{
    for (size_t i = 0; shards && i < count; i++) {
        as_table_free(&shards[i].table);
        free(shards[i].by_name);
        free(shards[i].used);
    }
    free(shards);
}
