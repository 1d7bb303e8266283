/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bench_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/sys.h"
#include "cli/output.h"

enum { MOST_TRIES = 10000 };

/* ------------------------------------------------------------- making, ending */

/* A folder of a new name; `path` has room for DIR and the name. */
static int make_in(int directory, const char *parent, as_buffer *path, as_error *e)
{
    for (int n = 1; n <= MOST_TRIES; n++) {
        char name[64];
        (void)snprintf(name, sizeof name, "allshard-bench.%d", n);
        if (as_sys_table.mkdirat(directory, name, 0777) == 0) {
            return as_buffer_format(path, e, "%s/%s", parent, name);
        }
        if (errno != EEXIST) {
            return as_fail(e, AS_SYSTEM, errno, "%s: no folder can be made in it", parent);
        }
    }
    return as_fail(e, AS_SYSTEM, EEXIST,
                   "%s: it holds %d folders allshard-bench.N of killed benchmarks; remove them",
                   parent, (int)MOST_TRIES);
}

static int make(as_bench_folder *f, const char *directory, as_buffer *path, as_error *e)
{
    int fd = -1;
    int code = as_folder_make(directory, &f->made, e);
    code = code == AS_OK ? as_folder_open(directory, &fd, e) : code;
    if (code == AS_OK) {
        code = make_in(fd, directory, path, e);
        (void)as_sys_table.close(fd);
    }
    return code;
}

int as_bench_folder_make(as_bench_folder *f, as_world *w, const char *directory, as_error *e)
{
    as_buffer path = AS_BUFFER_INIT;
    if (w->rank == 0) {
        (void)make(f, directory, &path, e);
    }
    int code = as_world_agree(w, e);
    code = code == AS_OK ? as_world_bcast(w, 0, &path, e) : code;
    if (code == AS_OK) {
        f->path = strndup(path.data, path.size);
        if (!f->path) {
            (void)as_fail_nomem(e);
        } else if (as_folder_open(f->path, &f->fd, e) != AS_OK) {
            as_error_prefix(e, "DIR must be a folder that all nodes share");
        }
        code = as_world_agree(w, e);
    }
    as_buffer_free(&path);
    return code;
}

/* Rank 0. */
static int remove_all(as_bench_folder *f, as_error *e)
{
    char *slash = strrchr(f->path, '/');
    int parent = -1;
    *slash = '\0';
    int code = as_folder_open(f->path, &parent, e);
    *slash = '/';
    if (code == AS_OK) {
        code = as_tree_remove(parent, slash + 1, f->path, NULL, e);
        (void)as_sys_table.close(parent);
    }
    return code;
}

int as_bench_folder_end(as_bench_folder *f, as_world *w, bool keep, as_error *e)
{
    if (f->fd >= 0) {
        (void)as_sys_table.close(f->fd);
        f->fd = -1;
    }
    /* All have left the folder before it goes. The error of before stays the one that is told. */
    as_error later = AS_ERROR_INIT;
    (void)as_world_agree(w, &later);
    if (w->rank == 0 && f->path && !keep) {
        (void)remove_all(f, &later);
    }
    if (w->rank == 0 && !keep) {
        as_made_undo(&f->made);
    }
    as_made_free(&f->made);
    free(f->path);
    *f = AS_BENCH_FOLDER_INIT;
    (void)as_world_agree(w, &later);
    return as_error_pass(e, &later);
}

int as_bench_folder_remove(as_bench_folder *f, as_world *w, const char *name, as_error *e)
{
    if (w->rank == 0) {
        (void)as_tree_remove(f->fd, name, name, NULL, e);
    }
    return as_world_agree(w, e);
}

/* -------------------------------------------------------------------- files */

static bool ends_in(const char *name, const char *tail)
{
    size_t length = strlen(name);
    return length >= strlen(tail) && strcmp(name + length - strlen(tail), tail) == 0;
}

static int add_file(int folder, const char *name, as_buffer *out, as_error *e)
{
    struct stat status;
    if (as_sys_table.fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot be looked at", name);
    }
    as_bench_file file = {.bytes = (int64_t)status.st_size,
                          .tensors = ends_in(name, ".safetensors")};
    (void)snprintf(file.name, sizeof file.name, "%s", name);
    return S_ISREG(status.st_mode) ? as_buffer_append(out, &file, sizeof file, e) : AS_OK;
}

static int list_files(const as_bench_folder *f, const char *name, as_buffer *out, as_error *e)
{
    as_names names = AS_NAMES_INIT;
    int folder = -1;
    int code = as_folder_open_at(f->fd, name, name, &folder, e);
    code = code == AS_OK ? as_folder_list(folder, name, &names, e) : code;
    for (size_t i = 0; i < names.count && code == AS_OK; i++) {
        code = add_file(folder, names.items[i], out, e);
    }
    if (folder >= 0) {
        (void)as_sys_table.close(folder);
    }
    as_names_free(&names);
    return code;
}

int as_bench_folder_files(as_bench_folder *f, as_world *w, const char *name, as_buffer *out,
                          as_error *e)
{
    out->size = 0;
    if (w->rank == 0) {
        (void)list_files(f, name, out, e);
    }
    int code = as_world_agree(w, e);
    return code == AS_OK ? as_world_bcast(w, 0, out, e) : code;
}

/* ------------------------------------------------------------------- caches */

/* False if one of the files could not be dropped. */
static bool drop_files(const as_bench_folder *f, const char *name, const as_buffer *files)
{
    const as_bench_file *file = (const void *)files->data;
    bool good = true;
    for (size_t i = 0; i < files->size / sizeof *file; i++) {
        char path[320];
        (void)snprintf(path, sizeof path, "%s/%s", name, file[i].name);
        int fd = as_open(f->fd, path, O_RDONLY, 0);
        good = fd >= 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0 && good;
        if (fd >= 0) {
            (void)as_sys_table.close(fd);
        }
    }
    return good;
}

static bool drop_system(void)
{
    int fd = as_open(AT_FDCWD, "/proc/sys/vm/drop_caches", O_WRONLY, 0);
    if (fd < 0) {
        return false;
    }
    bool good = as_sys_table.pwrite(fd, "3", 1, 0) == 1;
    return as_sys_table.close(fd) == 0 && good;
}

int as_bench_chill(as_bench_folder *f, as_world *w, const char *name, const as_buffer *files,
                   int ways, int *done, as_error *e)
{
    int code = as_bench_settle(f, w, e);
    if (code != AS_OK) {
        return code;
    }
    int64_t failed[2] = {
        (ways & AS_CHILL_FILES) && !drop_files(f, name, files),
        (ways & AS_CHILL_SYSTEM) && !drop_system(),
    };
    code = as_world_max(w, failed, 2, e);
    *done = (failed[0] ? 0 : AS_CHILL_FILES) | (failed[1] ? 0 : AS_CHILL_SYSTEM);
    return code;
}

int as_bench_settle(as_bench_folder *f, as_world *w, as_error *e)
{
    if (syncfs(f->fd) < 0) {
        (void)as_fail(e, AS_SYSTEM, errno, "%s: cannot be synced", f->path);
    }
    return as_world_agree(w, e);
}
