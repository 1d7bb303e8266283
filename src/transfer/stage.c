/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/sys.h"
#include "commit/staged.h"

/* Of an allocation that signals interrupt: tmpfs then begins anew, and with a profiler's timer would
 * never come to an end. */
enum { MOST_TRIES = 16 };

/* Does this rank make or write files? */
static bool is_needed(const as_stage *s)
{
    const as_plan *plan = &s->prepared->plan;
    bool needed = plan->own_bytes > 0 || as_plan_built_count(plan) > 0;
    for (size_t i = 0; i < as_extras_count(&s->prepared->extras) && !needed; i++) {
        needed =
            as_extras_file(&s->prepared->extras, i)->rank == as_comm_rank(s->call->session->comm);
    }
    return needed;
}

int as_stage_enter(as_stage *s, as_error *e)
{
    if (e->code != AS_OK || !is_needed(s)) {
        return e->code;
    }
    as_error own = AS_ERROR_INIT;
    int code = as_staged_open(s->call->directory, &s->folder, &own);
    s->is_open = code == AS_OK;
    if (code == AS_NOT_FOUND) {
        code = as_fail(e, AS_SYSTEM, ENOENT,
                       "%s: this rank cannot see the staging folder there (is it on a file system "
                       "that all hosts share?)",
                       s->call->directory);
        as_error_clear(&own);
        return code;
    }
    return as_error_pass(e, &own);
}

void as_stage_free(as_stage *s)
{
    if (s->is_open) {
        (void)as_sys_table.close(s->folder);
        s->is_open = false;
    }
    as_buffer_free(&s->path);
}

/* Until all bytes are there every writer must be able to open the file, whatever the caller wants
 * its mode to be in the end. */
static mode_t first_mode(const as_stage *s)
{
    return s->call->mode ? (mode_t)s->call->mode | 0600 : 0;
}

/* All its blocks are had now: a full disk is known before the first byte, and writers of one file
 * do not wait for each other to make it longer. */
static int give_size(int fd, int64_t size, const char *path, as_error *e)
{
    int result = size > 0 ? -1 : 0;
    errno = EINTR;
    for (int i = 0; i < MOST_TRIES && result < 0 && errno == EINTR; i++) {
        result = as_sys_table.fallocate(fd, 0, 0, (off_t)size);
    }
    if (result < 0 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL ||
                       errno == EINTR || errno == EPERM)) {
        /* The file system cannot, or a sandbox knows no such call. */
        result = as_sys_table.ftruncate(fd, (off_t)size);
    }
    if (result < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot give the file its size of %lld bytes", path,
                       (long long)size);
    }
    return AS_OK;
}

/* Makes a staged file of its full size, so that all writers can open it. */
static int create_file(as_stage *s, const char *name, mode_t mode, int64_t size, const void *bytes,
                       as_error *e)
{
    as_buffer path = AS_BUFFER_INIT;
    int fd = -1;
    int code = as_staged_path(s->call->directory, name, &path, e);
    if (code == AS_OK) {
        code = as_staged_create_file(s->folder, name, mode, path.data, &fd, e);
    }
    if (code == AS_OK) {
        code = give_size(fd, size, path.data, e);
    }
    if (code == AS_OK && bytes) {
        code = as_write_all(fd, bytes, (size_t)size, 0, path.data, e);
        if (code == AS_OK) {
            code = as_sync(fd, path.data, e);
        }
    }
    if (fd >= 0) {
        (void)as_sys_table.close(fd);
    }
    as_buffer_free(&path);
    return code;
}

/* All that this rank makes. */
static int create_files(as_stage *s, as_error *e)
{
    const as_plan *plan = &s->prepared->plan;
    int rank = as_comm_rank(s->call->session->comm);
    int code = AS_OK;
    for (size_t i = 0; i < as_plan_built_count(plan) && code == AS_OK; i++) {
        const as_built_file *b = as_plan_built(plan, i);
        char *name = NULL;
        code = as_prepared_file_name(s->prepared, b->file, &name, e);
        if (code == AS_OK) {
            code = as_comm_look(s->call->session->comm, e);
        }
        if (code == AS_OK) {
            code = create_file(s, name, first_mode(s), b->size, NULL, e);
        }
        free(name);
    }
    for (size_t i = 0; i < as_extras_count(&s->prepared->extras) && code == AS_OK; i++) {
        const as_extra_file *x = as_extras_file(&s->prepared->extras, i);
        const as_small_file *f = as_state_file_find(s->call->state, x->name);
        if (x->rank == rank && f) {
            code = create_file(s, f->name, (mode_t)s->call->mode, (int64_t)f->size, f->bytes, e);
        }
    }
    return code;
}

static int compare_ranks(const void *a, const void *b)
{
    int x = *(const int *)a;
    int y = *(const int *)b;
    return (x > y) - (x < y);
}

/* All ranks that make files, each once, ascending. */
static int list_creators(const as_stage *s, as_buffer *ranks, as_error *e)
{
    const as_plan *plan = &s->prepared->plan;
    int size = as_comm_size(s->call->session->comm);
    int code = AS_OK;
    for (int32_t f = 0; f < plan->file_count && code == AS_OK; f++) {
        int rank = as_plan_builder(f, plan->file_count, size);
        code = as_buffer_append(ranks, &rank, sizeof rank, e);
    }
    for (size_t i = 0; i < as_extras_count(&s->prepared->extras) && code == AS_OK; i++) {
        int rank = as_extras_file(&s->prepared->extras, i)->rank;
        code = as_buffer_append(ranks, &rank, sizeof rank, e);
    }
    if (code != AS_OK) {
        return code;
    }
    int *list = (int *)(void *)ranks->data;
    size_t count = ranks->size / sizeof *list;
    if (count) {
        qsort(list, count, sizeof *list, compare_ranks);
    }
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || list[kept - 1] != list[i]) {
            list[kept++] = list[i];
        }
    }
    ranks->size = kept * sizeof *list;
    return AS_OK;
}

/* Waves of `creators` ranks; some file systems serve many creators at once very slowly. */
static int create_in_waves(as_stage *s, as_error *e)
{
    as_comm *comm = s->call->session->comm;
    as_buffer ranks = AS_BUFFER_INIT;
    (void)list_creators(s, &ranks, e);
    int code = as_comm_agree(comm, e);
    const int *list = (const int *)(const void *)ranks.data;
    size_t count = ranks.size / sizeof *list;
    size_t wave = (size_t)s->call->creators;
    for (size_t first = 0; first < count && code == AS_OK; first += wave) {
        if (first > 0) {
            code = as_comm_agree(comm, e);
        }
        for (size_t i = first; i < count && i < first + wave && code == AS_OK; i++) {
            if (list[i] == as_comm_rank(comm)) {
                (void)create_files(s, e);
            }
        }
    }
    as_buffer_free(&ranks);
    return as_comm_is_lost(code) ? code : e->code;
}

int as_stage_create(as_stage *s, as_error *e)
{
    return s->call->creators > 0 ? create_in_waves(s, e) : create_files(s, e);
}

/* Opens the staged file of that number; its path is then in s->path. */
static int open_file(as_stage *s, int32_t file, int flags, int *fd, as_error *e)
{
    char *plain = NULL;
    int code = as_prepared_file_name(s->prepared, file, &plain, e);
    if (code == AS_OK) {
        code = as_staged_path(s->call->directory, plain, &s->path, e);
    }
    if (code == AS_OK) {
        code = as_staged_open_file(s->folder, plain, flags, s->path.data, fd, e);
    }
    free(plain);
    return code;
}

int as_stage_open(as_stage *s, int32_t file, int *fd, const char **name, as_error *e)
{
    int code = open_file(s, file, O_WRONLY, fd, e);
    *name = s->path.data;
    return code;
}

int as_stage_open_written(as_stage *s, int32_t file, int *fd, const char **name, as_error *e)
{
    int code = open_file(s, file, O_RDONLY, fd, e);
    *name = s->path.data;
    return code;
}

/* Files of a mode that keeps their owner out get it only when they are written. */
static int settle_modes(as_stage *s, as_error *e)
{
    const as_plan *plan = &s->prepared->plan;
    int code = AS_OK;
    for (size_t i = 0; i < as_plan_built_count(plan) && code == AS_OK; i++) {
        int fd = -1;
        code = open_file(s, as_plan_built(plan, i)->file, O_RDONLY, &fd, e);
        if (code == AS_OK && as_sys_table.fchmod(fd, (mode_t)s->call->mode) < 0) {
            code = as_fail(e, AS_SYSTEM, errno, "%s: cannot give this file the mode %04o",
                           s->path.data, (unsigned)s->call->mode);
        }
        if (code == AS_OK) {
            code = as_sync(fd, s->path.data, e);
        }
        if (fd >= 0) {
            (void)as_sys_table.close(fd);
        }
    }
    return code;
}

bool as_stage_settles(const as_stage *s)
{
    return first_mode(s) != (mode_t)s->call->mode;
}

int as_stage_settle(as_stage *s, as_error *e)
{
    if (!as_stage_settles(s)) {
        return AS_OK;
    }
    (void)settle_modes(s, e);
    return as_comm_agree(s->call->session->comm, e);
}

int as_stage_settle_own(as_stage *s, as_error *e)
{
    return as_stage_settles(s) ? settle_modes(s, e) : AS_OK;
}
