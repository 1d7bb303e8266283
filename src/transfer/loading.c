/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/loading.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/sys.h"

/* What a format looks at to read a file's table (format/safetensors.h). */
enum { LONGEST_HEADER = 8 + 100000000 };

void as_loading_close(as_loading *l)
{
    for (size_t i = 0; i < as_loading_read_count(l); i++) {
        as_table_free(&as_loading_read(l, i)->table);
    }
    l->read.size = 0;
    l->names.size = 0;
    l->places.size = 0;
    l->sums.size = 0;
    as_load_checks_free(&l->checks);
    as_checkpoint_free(&l->checkpoint);
    l->checkpoint = (as_checkpoint){0};
    as_plan_free(&l->plan);
    as_view_close(l->view);
    l->view = NULL;
}

/* The main process finds the files and reads the index. */
static int resolve(as_loading *l, as_error *e)
{
    const as_load_call *call = l->call;
    const as_log *log = &call->session->log;
    int code = AS_OK;
    if (!call->no_checksums) {
        code = as_load_checks_read(&l->checks, l->view, e);
        l->opener.guard = as_load_checks_guard;
        l->opener.guarded = &l->checks;
    }
    if (code == AS_OK) {
        code = as_checkpoint_resolve(&l->opener, l->pattern, &l->checkpoint, log, e);
    }
    call->session->meter.tally.bytes_checksum += l->checks.index.hashed;
    if (code == AS_OK) {
        code = as_load_checks_match(&l->checks, &l->checkpoint, log, e);
    }
    for (size_t i = 0; code == AS_OK && i < as_checkpoint_file_count(&l->checkpoint); i++) {
        const char *name = as_checkpoint_file(&l->checkpoint, i);
        code = as_buffer_append(&l->names, name, strlen(name) + 1, e);
    }
    l->indexed = code == AS_OK && !as_checkpoint_is_single(&l->checkpoint);
    return code;
}

static int spread_names(as_loading *l, as_error *e)
{
    int code = as_comm_bcast(l->call->session->comm, 0, &l->indexed, sizeof l->indexed, e);
    if (code == AS_OK) {
        code = as_comm_bcast_buffer(l->call->session->comm, 0, &l->names, e);
    }
    for (size_t at = 0; at < l->names.size && code == AS_OK; at += strlen(l->names.data + at) + 1) {
        code = as_buffer_append(&l->places, &at, sizeof at, e);
    }
    return code;
}

/* A block of a header is bad: which tensors have bytes in it? The header is not to be trusted, but
 * mostly it is one of those that is rotten. */
static int explain(const as_checked_source *c, const as_format *format, as_error *e)
{
    as_table table;
    as_buffer holds = AS_BUFFER_INIT;
    as_error ignored = AS_ERROR_INIT;
    if (format->read(&c->plain, &table, NULL, &ignored) == AS_OK) {
        (void)as_bad_block_holds(&holds, &table, c->bad.low, c->bad.high, NULL);
        as_table_free(&table);
    }
    const char *text = holds.size ? as_buffer_string(&holds) : NULL;
    as_error_clear(&ignored);
    as_error_clear(e);
    (void)as_bad_block_fail(&c->bad, c->plain.name, text ? text : "the header", c->path, e);
    as_buffer_free(&holds);
    return e->code;
}

/* Reads the table of a file whose first blocks must have these checksums. */
static int read_checked(as_loading *l, const as_source *plain, const as_format *format,
                        as_read_file *r, const uint64_t *sums, size_t count, as_error *e)
{
    as_source source;
    as_checked_source checked = {.plain = *plain,
                                 .file = r->file,
                                 .sums = sums,
                                 .sum_count = count,
                                 .block_bytes = l->checks.block_bytes,
                                 .path = l->call->path};
    as_checked_source_open(&checked, &source);
    int code = format->read(&source, &r->table, &l->call->session->log, e);
    l->call->session->meter.tally.bytes_checksum += checked.hashed;
    if (code == AS_CORRUPT && checked.bad.file >= 0) {
        code = explain(&checked, format, e);
    }
    as_checked_source_close(&checked);
    return code;
}

static int read_header(as_loading *l, int32_t file, const uint64_t *sums, size_t count, as_error *e)
{
    const char *name = as_loading_file(l, (size_t)file);
    const as_format *format = as_format_by_name(name);
    as_read_file r = {.file = file};
    as_source source;
    int fd = -1;
    if (!format) {
        /* A single file may have any name; safetensors is what such files hold. */
        format = &as_format_safetensors;
    }
    int code = l->opener.open(l->opener.self, name, &fd, e);
    if (code == AS_OK) {
        code = as_source_file(&source, &fd, name, e);
    }
    if (code == AS_OK) {
        code = as_load_checks_size(&l->checks, file, name, source.size, e);
    }
    if (code == AS_OK) {
        code = l->checks.summed ? read_checked(l, &source, format, &r, sums, count, e)
                                : format->read(&source, &r.table, &l->call->session->log, e);
    }
    if (code == AS_OK) {
        code = as_buffer_append(&l->read, &r, sizeof r, e);
    }
    if (code != AS_OK) {
        as_table_free(&r.table);
    }
    if (fd >= 0) {
        (void)as_sys_table.close(fd);
    }
    return code;
}

static bool is_mine(const as_loading *l, int32_t file)
{
    const as_comm *c = l->call->session->comm;
    return as_plan_builder(file, (int32_t)as_loading_file_count(l), as_comm_size(c)) ==
           as_comm_rank(c);
}

/* Blocks that the header of a file may reach into. */
static size_t header_blocks(const as_loading *l, int32_t file)
{
    int64_t size = ((const int64_t *)(const void *)l->checks.sizes.data)[file];
    return (size_t)as_ceil_div(as_min_i64(size, LONGEST_HEADER), l->checks.block_bytes);
}

/* Gets the checksums of what read_headers will read. */
static int fetch_header_sums(as_loading *l, as_error *e)
{
    as_buffer runs = AS_BUFFER_INIT;
    for (int32_t file = 0; file < (int32_t)as_loading_file_count(l); file++) {
        if (is_mine(l, file)) {
            as_block_run run = {.file = file, .count = (int64_t)header_blocks(l, file)};
            (void)as_buffer_append(&runs, &run, sizeof run, e);
        }
    }
    int code = as_load_checks_fetch(&l->checks, l->call->session->comm, &runs, &l->sums, e);
    as_buffer_free(&runs);
    return code;
}

static int read_headers(as_loading *l, as_error *e)
{
    const uint64_t *sums = (const uint64_t *)(const void *)l->sums.data;
    int code = AS_OK;
    for (int32_t file = 0; file < (int32_t)as_loading_file_count(l) && code == AS_OK; file++) {
        if (is_mine(l, file)) {
            size_t count = l->checks.summed ? header_blocks(l, file) : 0;
            code = as_comm_look(l->call->session->comm, e);
            code = code == AS_OK ? read_header(l, file, sums, count, e) : code;
            sums = sums ? sums + count : NULL; /* none at all: no address to add to */
        }
    }
    return code;
}

int as_loading_open(as_loading *l, as_error *e)
{
    bool is_main = as_comm_rank(l->call->session->comm) == 0;
    if (as_view_open(&l->view, l->call->path, e) == AS_OK) {
        l->opener = as_view_opener(l->view);
        if (is_main) {
            (void)resolve(l, e);
        }
    }
    int code = as_comm_agree(l->call->session->comm, e);
    if (code == AS_OK) {
        (void)spread_names(l, e);
        code = as_load_checks_share(&l->checks, l->call->session->comm, e);
    }
    if (code == AS_OK && l->checks.summed) {
        code = fetch_header_sums(l, e);
    }
    if (code == AS_OK) {
        (void)read_headers(l, e);
        code = as_comm_agree(l->call->session->comm, e);
    }
    return code;
}

void as_loading_free(as_loading *l)
{
    as_buffer_free(&l->names);
    as_buffer_free(&l->places);
    as_buffer_free(&l->read);
    as_buffer_free(&l->sums);
    free(l->pattern);
}
