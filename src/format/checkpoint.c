/* SPDX-License-Identifier: Apache-2.0 */
#include "format/checkpoint.h"

#include <stdlib.h>
#include <string.h>

#include "base/sys.h"
#include "format/format.h"
#include "format/pattern.h"

static const char index_tail[] = ".index.json";

static bool ends_in(const char *name, const char *tail)
{
    size_t length = strlen(name);
    return length >= strlen(tail) && strcmp(name + length - strlen(tail), tail) == 0;
}

/* ---- what a listing finds ---- */

/* Names of one kind: how many, and the two that come first in byte order. */
typedef struct candidates {
    size_t count;
    char *names[2];
} candidates;

typedef struct listing {
    candidates indexes; /* *.safetensors.index.json */
    candidates files;   /* *.safetensors */
    size_t shards;      /* of the files, those named like shards */
} listing;

static int add(candidates *c, const char *name, as_error *e)
{
    char *copy = strdup(name);
    if (!copy) {
        return as_fail_nomem(e);
    }
    c->count++;
    for (int i = 0; i < 2 && copy; i++) {
        if (!c->names[i] || strcmp(copy, c->names[i]) < 0) {
            char *later = c->names[i];
            c->names[i] = copy;
            copy = later;
        }
    }
    free(copy);
    return AS_OK;
}

/* Steps back over digits; −1 if there are fewer than five. */
static ptrdiff_t before_number(const char *name, ptrdiff_t end)
{
    ptrdiff_t at = end;
    while (at > 0 && name[at - 1] >= '0' && name[at - 1] <= '9') {
        at--;
    }
    return end - at >= 5 ? at : -1;
}

/* Whether a name ends in -00001-of-00003 and a format's extension, whatever the pattern. */
static bool is_shard_name(const char *name, const as_format *format)
{
    ptrdiff_t at =
        before_number(name, (ptrdiff_t)strlen(name) - (ptrdiff_t)strlen(format->extension));
    if (at < 4 || strncmp(name + at - 4, "-of-", 4) != 0) {
        return false;
    }
    at = before_number(name, at - 4);
    return at > 0 && name[at - 1] == '-';
}

static int visit(void *user, const char *name, as_error *e)
{
    listing *l = user;
    if (name[0] == '.') {
        return AS_OK; /* hidden: other programs' leftovers and bookkeeping */
    }
    const as_format *format = as_format_by_name(name);
    if (format) {
        l->shards += is_shard_name(name, format);
        return add(&l->files, name, e);
    }
    if (!ends_in(name, index_tail)) {
        return AS_OK;
    }
    char *stem = strndup(name, strlen(name) - strlen(index_tail));
    if (!stem) {
        return as_fail_nomem(e);
    }
    int code = as_format_by_name(stem) ? add(&l->indexes, name, e) : AS_OK;
    free(stem);
    return code;
}

static void free_listing(listing *l)
{
    for (int i = 0; i < 2; i++) {
        free(l->indexes.names[i]);
        free(l->files.names[i]);
    }
}

/* ---- opening ---- */

/* *there: whether the opener has the file. With `fd` NULL it is closed again. */
static int probe(const as_opener *o, const char *name, int *fd, bool *there, as_error *e)
{
    int opened = -1;
    as_error reason = AS_ERROR_INIT;
    int code = o->open(o->self, name, &opened, &reason);
    *there = code == AS_OK;
    if (code == AS_OK && fd) {
        *fd = opened;
    } else if (code == AS_OK) {
        (void)as_sys_table.close(opened);
    } else if (code == AS_NOT_FOUND) {
        code = AS_OK;
    } else if (e) {
        as_error_move(e, &reason);
    }
    as_error_clear(&reason);
    return code;
}

/* The extension that an index's shards must have is what its own name has before .index.json. */
static int index_extension(const char *name, const char **extension, as_error *e)
{
    char *stem = strndup(name, strlen(name) - strlen(index_tail));
    if (!stem) {
        return as_fail_nomem(e);
    }
    const as_format *format = as_format_by_name(stem);
    free(stem);
    if (!format) {
        return as_fail(e, AS_FORMAT, 0, "%s: this is the index of no format that can be read",
                       name);
    }
    *extension = format->extension;
    return AS_OK;
}

static int read_index(const as_opener *o, const char *name, const int *fd, as_checkpoint *out,
                      const as_log *log, as_error *e)
{
    as_buffer full = AS_BUFFER_INIT; /* for error texts */
    const char *extension = NULL;
    as_source source;
    int code = as_buffer_format(&full, e, "%s/%s", o->path, name);
    code = code == AS_OK ? index_extension(name, &extension, e) : code;
    code = code == AS_OK ? as_source_file(&source, fd, full.data, e) : code;
    code = code == AS_OK && o->guard ? o->guard(o->guarded, name, &source, e) : code;
    if (code == AS_OK && !(out->index_name = strdup(name))) {
        code = as_fail_nomem(e);
    }
    code = code == AS_OK ? as_index_read(&source, extension, &out->index, log, e) : code;
    as_buffer_free(&full);
    return code;
}

static int try_index(const as_opener *o, const char *name, bool *there, as_checkpoint *out,
                     const as_log *log, as_error *e)
{
    int fd = -1;
    int code = probe(o, name, &fd, there, e);
    if (code == AS_OK && *there) {
        code = read_index(o, name, &fd, out, log, e);
        (void)as_sys_table.close(fd);
    }
    return code;
}

static int take_single(const char *name, as_checkpoint *out, as_error *e)
{
    out->single = strdup(name);
    return out->single ? AS_OK : as_fail_nomem(e);
}

/* ---- the rules ---- */

/* What a folder is looked through for first if the caller names no pattern. */
static const char default_pattern[] = "model{suffix}.safetensors";

static int resolve_pattern(const as_opener *o, const char *pattern, bool *there, as_checkpoint *out,
                           const as_log *log, as_error *e)
{
    char *index = NULL;
    char *single = NULL;
    int code = as_pattern_index_name(pattern, &index, e);
    code = code == AS_OK ? as_pattern_name(pattern, 1, 1, &single, e) : code;
    code = code == AS_OK ? try_index(o, index, there, out, log, e) : code;
    if (code == AS_OK && !*there) {
        code = probe(o, single, NULL, there, e);
        code = code == AS_OK && *there ? take_single(single, out, e) : code;
    }
    free(index);
    free(single);
    return code;
}

static int refuse_several(const as_opener *o, const candidates *c, const char *what, as_error *e)
{
    return as_fail(e, AS_FORMAT, 0,
                   "%s: there are %zu %s (%s, %s%s), and which one is meant is not clear: say so "
                   "by the file name pattern, or name one file",
                   o->path, c->count, what, c->names[0], c->names[1], c->count > 2 ? ", ..." : "");
}

static int resolve_listing(const as_opener *o, const listing *l, as_checkpoint *out,
                           const as_log *log, as_error *e)
{
    if (l->indexes.count > 1) {
        return refuse_several(o, &l->indexes, "indexes", e);
    }
    if (l->indexes.count == 1) {
        bool there;
        int code = try_index(o, l->indexes.names[0], &there, out, log, e);
        return code == AS_OK && !there
                   ? as_fail(e, AS_NOT_FOUND, 0, "%s/%s vanished while the folder was read",
                             o->path, l->indexes.names[0])
                   : code;
    }
    if (l->files.count > 1 && l->shards > 0) {
        return as_fail(e, AS_FORMAT, 0,
                       "%s: there are %zu shards (%s, ...), but no index "
                       "(*.safetensors.index.json) that says what belongs together: fetch or save "
                       "the index as well",
                       o->path, l->shards, l->files.names[0]);
    }
    if (l->files.count > 1) {
        return refuse_several(o, &l->files, "safetensors files", e);
    }
    if (l->files.count == 0) {
        return as_fail(e, AS_NOT_FOUND, 0,
                       "%s: there is no checkpoint here: no *.safetensors.index.json and no "
                       "*.safetensors; name the folder or file that holds one",
                       o->path);
    }
    if (l->shards == 1) {
        as_log_say(log, AS_LOG_WARNING,
                   "%s: %s is named like one shard of several, but there is neither an index nor "
                   "another shard: it is read as if it were all",
                   o->path, l->files.names[0]);
    }
    return take_single(l->files.names[0], out, e);
}

/* The caller has said which checkpoint is meant: no other one will do. */
static int refuse_absent(const as_opener *o, const char *pattern, as_error *e)
{
    char *index = NULL;
    char *single = NULL;
    int code = as_pattern_index_name(pattern, &index, e);
    code = code == AS_OK ? as_pattern_name(pattern, 1, 1, &single, e) : code;
    if (code == AS_OK) {
        code = as_fail(e, AS_NOT_FOUND, 0,
                       "%s: there is no checkpoint of the pattern %s here: neither %s nor %s",
                       o->path, pattern, index, single);
    }
    free(index);
    free(single);
    return code;
}

static int resolve_folder(const as_opener *o, const char *pattern, as_checkpoint *out,
                          const as_log *log, as_error *e)
{
    bool there = false;
    int code = resolve_pattern(o, pattern ? pattern : default_pattern, &there, out, log, e);
    if (code != AS_OK || there) {
        return code;
    }
    if (pattern) {
        return refuse_absent(o, pattern, e);
    }
    listing l = {.shards = 0};
    code = o->list(o->self, visit, &l, e);
    code = code == AS_OK ? resolve_listing(o, &l, out, log, e) : code;
    free_listing(&l);
    return code;
}

static int resolve_file(const as_opener *o, as_checkpoint *out, as_error *e)
{
    if (ends_in(o->file, index_tail)) {
        return as_fail(e, AS_FORMAT, 0,
                       "%s: this is an index, not the checkpoint: name the folder that it lies in",
                       o->path);
    }
    if (!as_format_by_name(o->file)) {
        return as_fail(e, AS_FORMAT, 0,
                       "%s: this is a file of no known format: its name should end in %s", o->path,
                       as_format_safetensors.extension);
    }
    return take_single(o->file, out, e);
}

int as_checkpoint_resolve(const as_opener *opener, const char *pattern, as_checkpoint *out,
                          const as_log *log, as_error *e)
{
    *out = AS_CHECKPOINT_INIT;
    int code =
        opener->file ? resolve_file(opener, out, e) : resolve_folder(opener, pattern, out, log, e);
    if (code != AS_OK) {
        as_checkpoint_free(out);
    }
    return code;
}

void as_checkpoint_free(as_checkpoint *c)
{
    free(c->index_name);
    free(c->single);
    as_index_free(&c->index);
    *c = AS_CHECKPOINT_INIT;
}
