/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/files.h"

#include <stdlib.h>
#include <string.h>

#include "base/sys.h"

static as_open_file **list_of(const as_open_files *f, size_t *count)
{
    *count = f->list.size / sizeof(as_open_file *);
    return (as_open_file **)(void *)f->list.data;
}

static void drop(as_open_files *f, size_t i)
{
    size_t count;
    as_open_file **list = list_of(f, &count);
    f->transfer->engine->detach(f->engine, &list[i]->io);
    (void)as_sys_table.close(list[i]->io.fd);
    free(list[i]->name);
    free(list[i]);
    list[i] = list[count - 1];
    f->list.size -= sizeof *list;
}

/* Closes the files that are through; one that cannot be fsynced has failed for good. */
static int sweep(as_open_files *f, as_error *e)
{
    size_t count;
    as_open_file **list = list_of(f, &count);
    int code = AS_OK;
    for (size_t i = count; i-- > 0;) {
        if (!list[i]->ended || list[i]->under_way > 0) {
            continue;
        }
        if (f->sync && code == AS_OK) {
            code = as_sync(list[i]->io.fd, list[i]->name, e);
        }
        drop(f, i);
    }
    return code;
}

int as_open_files_get(as_open_files *f, int32_t file, as_open_file **out, as_error *e)
{
    size_t count;
    as_open_file **list = list_of(f, &count);
    for (size_t i = 0; i < count; i++) {
        if (list[i]->file == file && !list[i]->ended) {
            *out = list[i];
            return AS_OK;
        }
    }
    int code = as_open_files_end(f, e);
    if (code != AS_OK) {
        return code;
    }
    as_open_file *opened = calloc(1, sizeof *opened);
    if (!opened) {
        return as_fail_nomem(e);
    }
    opened->file = file;
    const char *name = NULL;
    code = f->transfer->open_file(f->transfer->user, file, &opened->io.fd, &name, e);
    if (code != AS_OK) {
        free(opened);
        return code;
    }
    opened->name = strdup(name);
    opened->io.name = opened->name;
    opened->io.write = f->sync;
    code = opened->name ? f->transfer->engine->attach(f->engine, &opened->io, e) : as_fail_nomem(e);
    if (code == AS_OK) {
        code = as_buffer_append(&f->list, &opened, sizeof opened, e);
        if (code != AS_OK) {
            f->transfer->engine->detach(f->engine, &opened->io);
        }
    }
    if (code != AS_OK) {
        (void)as_sys_table.close(opened->io.fd);
        free(opened->name);
        free(opened);
        return code;
    }
    *out = opened;
    return AS_OK;
}

int as_open_files_done(as_open_files *f, as_open_file *file, as_error *e)
{
    file->under_way--;
    return file->ended ? sweep(f, e) : AS_OK;
}

int as_open_files_end(as_open_files *f, as_error *e)
{
    size_t count;
    as_open_file **list = list_of(f, &count);
    for (size_t i = 0; i < count; i++) {
        list[i]->ended = true;
    }
    return sweep(f, e);
}

void as_open_files_free(as_open_files *f)
{
    size_t count;
    (void)list_of(f, &count);
    while (count-- > 0) {
        drop(f, count);
    }
    as_buffer_free(&f->list);
}
