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

/* Moves on the files that are through. One that cannot be fsynced has failed for good. */
static void sweep(as_open_files *f, const as_error *e)
{
    size_t count;
    as_open_file **list = list_of(f, &count);
    for (size_t i = count; i-- > 0;) {
        as_open_file *file = list[i];
        if (!file->ended || file->under_way > 0) {
            continue;
        }
        if (f->sync && !file->synced && e->code == AS_OK) {
            file->synced = true;
            file->under_way++;
            file->sync = (as_io){.kind = AS_IO_SYNC, .file = &file->io, .owner = file};
            f->transfer->engine->submit(f->engine, &file->sync);
        } else {
            drop(f, i);
        }
    }
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
    as_open_files_end(f, e);
    as_open_file *opened = calloc(1, sizeof *opened);
    if (!opened) {
        return as_fail_nomem(e);
    }
    opened->file = file;
    const char *name = NULL;
    int code = f->transfer->open_file(f->transfer->user, file, &opened->io.fd, &name, e);
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

void as_open_files_done(as_open_files *f, as_open_file *file, as_error *e)
{
    file->under_way--;
    if (file->ended) {
        sweep(f, e);
    }
}

void as_open_files_end(as_open_files *f, as_error *e)
{
    size_t count;
    as_open_file **list = list_of(f, &count);
    for (size_t i = 0; i < count; i++) {
        list[i]->ended = true;
    }
    sweep(f, e);
}

bool as_open_files_closed(const as_open_files *f)
{
    return f->list.size == 0;
}

bool as_open_files_syncing(const as_open_files *f)
{
    size_t count;
    as_open_file **list = list_of(f, &count);
    for (size_t i = 0; i < count; i++) {
        if (list[i]->synced && list[i]->under_way > 0) {
            return true;
        }
    }
    return false;
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
