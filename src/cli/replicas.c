/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/replicas.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "cli/read_checkpoint.h"
#include "cli/replica_probe.h"
#include "cli/shell_word.h"
#include "comm/collect.h"
#include "plan/mail.h"

/* Rank 0's work. */
typedef struct finder {
    const as_bytes *bytes;
    const char *path;
    const char *dir;
    bool path_is_file;
    bool dir_is_file;
    as_contents there;
    size_t *by_name; /* its tensors, sorted; heap; NULL: they are not known */
    as_replicas *out;
    /* The stretch that the last command and the last item of the list are about. */
    char *from_file;
    int64_t file;
    int64_t from;
    int64_t begin;
    int64_t end;
} finder;

static const as_look_run *run_at(const as_bytes *b, size_t i)
{
    return (const as_look_run *)(const void *)b->looked.runs.data + i;
}

static size_t run_count(const as_bytes *b)
{
    return b->looked.runs.size / sizeof(as_look_run);
}

/* ---- the tensors of the other copy ---- */

static int compare_names(const char *a, size_t a_length, const char *b, size_t b_length)
{
    int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
    return order != 0 ? order : (a_length > b_length) - (a_length < b_length);
}

static int compare_tensors(const void *a, const void *b, void *user)
{
    const as_tensors *t = user;
    size_t i = *(const size_t *)a;
    size_t k = *(const size_t *)b;
    return compare_names(as_tensors_name(t, i), as_tensors_row(t, i)->name_length,
                         as_tensors_name(t, k), as_tensors_row(t, k)->name_length);
}

static int read_tensors(finder *d, as_findings *f, as_error *e)
{
    as_error why = AS_ERROR_INIT;
    int code = as_contents_read(&d->there, d->dir, d->bytes->options->pattern, NULL, NULL, &why);
    if (code == AS_FORMAT || code == AS_NOT_FOUND || code == AS_INVALID || code == AS_LIMIT) {
        code = as_findings_warn(f, e, d->dir, NULL,
                                "only files of the same name were looked at, since it is no whole "
                                "checkpoint: %s",
                                as_error_text(&why));
        as_error_clear(&why);
        return code;
    }
    if (code != AS_OK) {
        return as_error_pass(e, &why);
    }
    size_t count = as_tensors_count(&d->there.tensors);
    d->by_name = calloc(count + 1, sizeof *d->by_name);
    if (!d->by_name) {
        return as_fail_nomem(e);
    }
    for (size_t i = 0; i < count; i++) {
        d->by_name[i] = i;
    }
    qsort_r(d->by_name, count, sizeof *d->by_name, compare_tensors, &d->there.tensors);
    return AS_OK;
}

/* The tensor of that name, dtype and shape there; NULL if there is none. */
static const as_tensor_row *find_tensor(const finder *d, const as_table *t, size_t i)
{
    const as_tensors *all = &d->there.tensors;
    const as_entry *x = as_table_entry(t, i);
    size_t low = 0;
    size_t high = as_tensors_count(all);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        size_t k = d->by_name[middle];
        const as_tensor_row *row = as_tensors_row(all, k);
        int order = compare_names(as_tensors_name(all, k), row->name_length, as_table_name(t, i),
                                  x->name_length);
        if (order == 0) {
            bool same = row->dtype == x->dtype && row->ndim == (int32_t)x->ndim &&
                        row->bytes == (int64_t)(x->end - x->begin);
            for (uint32_t n = 0; same && n < x->ndim; n++) {
                same = (uint64_t)as_tensors_shape(all, k)[n] == as_table_shape(t, i)[n];
            }
            return same ? row : NULL;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

static int add_piece(as_buffer *pieces, as_replica_piece piece, as_error *e)
{
    return piece.bytes > 0 ? as_buffer_append(pieces, &piece, sizeof piece, e) : AS_OK;
}

/* What the bytes [begin, end) of a file are made of in the other copy: as_replica_piece[]; none if
 * a tensor is not there. */
static int find_pieces(const finder *d, const as_look_file *file, int64_t begin, int64_t end,
                       as_buffer *pieces, as_error *e)
{
    const as_table *t = d->by_name ? as_bytes_table(d->bytes, file->name) : NULL;
    int64_t at = begin;
    int code = AS_OK;
    pieces->size = 0;
    for (size_t i = 0; t && i < as_table_count(t) && code == AS_OK; i++) {
        const as_entry *x = as_table_entry(t, i);
        int64_t first = as_max_i64((int64_t)x->begin, at);
        int64_t last = as_min_i64((int64_t)x->end, end);
        if (first >= last) {
            continue;
        }
        const as_tensor_row *row = find_tensor(d, t, i);
        if (!row) {
            pieces->size = 0;
            return AS_OK;
        }
        as_replica_piece gap = {.own = true, .file = file->name, .from = at, .bytes = first - at};
        as_replica_piece piece = {.file = d->there.files.items[row->file],
                                  .from = (int64_t)row->begin + (first - (int64_t)x->begin),
                                  .bytes = last - first};
        code = add_piece(pieces, gap, e);
        code = code == AS_OK ? add_piece(pieces, piece, e) : code;
        at = last;
    }
    if (pieces->size > 0 && code == AS_OK) {
        as_replica_piece rest = {.own = true, .file = file->name, .from = at, .bytes = end - at};
        code = add_piece(pieces, rest, e);
    }
    return code;
}

/* ---- tasks ---- */

static int64_t block_end(const as_look_file *f, int64_t block)
{
    return block >= f->saved_size / f->block_bytes ? f->saved_size : (block + 1) * f->block_bytes;
}

static int put_block(const finder *d, const as_look_file *file, int64_t block, as_buffer *out,
                     as_error *e)
{
    int64_t begin = block * file->block_bytes;
    int64_t end = block_end(file, block);
    as_buffer pieces = AS_BUFFER_INIT;
    int code = find_pieces(d, file, begin, end, &pieces, e);
    const as_replica_piece *piece = (const as_replica_piece *)(const void *)pieces.data;
    size_t count = pieces.size / sizeof *piece;
    as_replica_task task = {.file = file->name,
                            .file_size = file->saved_size,
                            .begin = begin,
                            .bytes = end - begin,
                            .sum = file->sums[block],
                            .piece_count = (int64_t)count};
    code = code == AS_OK ? as_replica_put_task(out, &task, e) : code;
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        code = as_replica_put_piece(out, &piece[i], e);
    }
    as_buffer_free(&pieces);
    return code;
}

/* The blocks of all runs, in their order, an equal number to each rank. */
static int put_all(const finder *d, as_mail *mail, as_error *e)
{
    int64_t total = 0;
    int64_t done = 0;
    int code = AS_OK;
    for (size_t i = 0; i < run_count(d->bytes); i++) {
        const as_look_run *run = run_at(d->bytes, i);
        total += as_bytes_file(d->bytes, (size_t)run->file)->sums ? run->count : 0;
    }
    for (size_t i = 0; i < run_count(d->bytes) && code == AS_OK; i++) {
        const as_look_run *run = run_at(d->bytes, i);
        const as_look_file *file = as_bytes_file(d->bytes, (size_t)run->file);
        for (int64_t k = 0; file->sums && k < run->count && code == AS_OK; k++) {
            int rank = (int)(done++ * mail->size / total);
            code = put_block(d, file, run->first + k, &mail->out[rank], e);
        }
    }
    return code;
}

/* ---- what came of it ---- */

/* As a shell takes it: `name` in the folder, or, for what is a file itself, that alone. */
static int put_path(as_buffer *out, const char *folder, bool is_file, const char *name, as_error *e)
{
    size_t length = strlen(folder);
    bool slash = is_file || (length > 0 && folder[length - 1] == '/');
    as_buffer path = AS_BUFFER_INIT;
    int code = as_buffer_format(&path, e, "%s%s%s", folder, slash ? "" : "/", is_file ? "" : name);
    code = code == AS_OK ? as_shell_word(out, path.data, e) : code;
    as_buffer_free(&path);
    return code;
}

/* The stretch that was found is complete: the command that brings it over. */
static int end_stretch(finder *d, as_error *e)
{
    if (!d->from_file) {
        return AS_OK;
    }
    const as_look_file *file = as_bytes_file(d->bytes, (size_t)d->file);
    bool whole = file->size < 0 && d->begin == 0 && d->from == 0 && d->end == file->saved_size;
    as_buffer text = AS_BUFFER_INIT;
    int code = as_buffer_format(&text, e, whole ? "cp " : "dd if=");
    code = code == AS_OK ? put_path(&text, d->dir, d->dir_is_file, d->from_file, e) : code;
    code = code == AS_OK ? as_buffer_format(&text, e, whole ? " " : " of=") : code;
    code = code == AS_OK ? put_path(&text, d->path, d->path_is_file, file->name, e) : code;
    if (code == AS_OK && !whole) {
        code =
            as_buffer_format(&text, e,
                             " bs=4M iflag=skip_bytes,count_bytes oflag=seek_bytes "
                             "conv=notrunc,fsync skip=%" PRId64 " seek=%" PRId64 " count=%" PRId64,
                             d->from, d->begin, d->end - d->begin);
    }
    code = code == AS_OK ? as_names_add(&d->out->mend, text.data, e) : code;
    as_buffer_free(&text);
    json_t *one = json_pack(
        "{s:o, s:I, s:I, s:o, s:I}", "file", as_json_text(file->name, strlen(file->name)), "begin",
        (json_int_t)d->begin, "end", (json_int_t)d->end, "from_file",
        as_json_text(d->from_file, strlen(d->from_file)), "from_begin", (json_int_t)d->from);
    if (code == AS_OK && json_array_append_new(d->out->list, one) != 0) {
        code = as_fail_nomem(e);
    }
    free(d->from_file);
    d->from_file = NULL;
    return code;
}

/* [begin, begin + bytes) of a file can be had there: one more stretch, or the last one goes on. */
static int add_stretch(finder *d, int64_t file, int64_t begin, int64_t bytes, const char *from_file,
                       int64_t from, as_error *e)
{
    if (d->from_file && d->file == file && d->end == begin &&
        d->from + (d->end - d->begin) == from && strcmp(d->from_file, from_file) == 0) {
        d->end += bytes;
        return AS_OK;
    }
    int code = end_stretch(d, e);
    if (code != AS_OK) {
        return code;
    }
    d->from_file = strdup(from_file);
    d->file = file;
    d->from = from;
    d->begin = begin;
    d->end = begin + bytes;
    return d->from_file ? AS_OK : as_fail_nomem(e);
}

static int tell_block(finder *d, int64_t number, int64_t block, int64_t how, as_error *e)
{
    const as_look_file *file = as_bytes_file(d->bytes, (size_t)number);
    int64_t begin = block * file->block_bytes;
    int64_t end = block_end(file, block);
    if (how == AS_REPLICA_FILE) {
        return add_stretch(d, number, begin, end - begin, file->name, begin, e);
    }
    as_buffer pieces = AS_BUFFER_INIT;
    int code = how == AS_REPLICA_TENSORS ? find_pieces(d, file, begin, end, &pieces, e) : AS_OK;
    const as_replica_piece *piece = (const as_replica_piece *)(const void *)pieces.data;
    for (size_t i = 0; i < pieces.size / sizeof *piece && code == AS_OK; i++) {
        if (!piece[i].own) {
            code = add_stretch(d, number, begin, piece[i].bytes, piece[i].file, piece[i].from, e);
        }
        begin += piece[i].bytes;
    }
    as_buffer_free(&pieces);
    return code;
}

static int tell_run(finder *d, const as_look_run *run, const int64_t *how, as_error *e)
{
    const as_look_file *file = as_bytes_file(d->bytes, (size_t)run->file);
    int64_t counts[3] = {0};
    int code = AS_OK;
    as_buffer word = AS_BUFFER_INIT;
    for (int64_t i = 0; file->sums && i < run->count && code == AS_OK; i++) {
        counts[how[i]]++;
        code = tell_block(d, run->file, run->first + i, how[i], e);
    }
    int64_t had = counts[AS_REPLICA_FILE] + counts[AS_REPLICA_TENSORS];
    if (code != AS_OK) {
        return code;
    }
    if (!file->sums) {
        code = as_buffer_format(&word, e, "without checksums nothing tells whether %s has them",
                                d->dir);
    } else if (had == 0 && run->kind == AS_LOOK_LOST) {
        code = as_buffer_format(&word, e,
                                "cannot be had from %s block by block; if `allshard verify` calls "
                                "that copy good, use it in place of this one",
                                d->dir);
    } else if (had == 0) {
        code = as_buffer_format(&word, e, "cannot be had from %s", d->dir);
    } else if (had < run->count) {
        code =
            as_buffer_format(&word, e, "%" PRId64 " of the %" PRId64 " blocks can be had from %s",
                             had, run->count, d->dir);
    } else {
        code = as_buffer_format(&word, e, "can be had from %s%s", d->dir,
                                counts[AS_REPLICA_TENSORS] ? ", where the same tensors are" : "");
    }
    code = code == AS_OK ? as_names_add(&d->out->words, word.data, e) : code;
    as_buffer_free(&word);
    return code;
}

static int tell(finder *d, const as_buffer *results, as_error *e)
{
    const int64_t *how = (const int64_t *)(const void *)results->data;
    int code = AS_OK;
    d->out->list = json_array();
    if (!d->out->list) {
        return as_fail_nomem(e);
    }
    for (size_t i = 0; i < run_count(d->bytes) && code == AS_OK; i++) {
        const as_look_run *run = run_at(d->bytes, i);
        code = tell_run(d, run, how, e);
        how += as_bytes_file(d->bytes, (size_t)run->file)->sums ? run->count : 0;
    }
    return code == AS_OK ? end_stretch(d, e) : code;
}

static int gather(void *user, int from, const char *bytes, size_t count, as_error *e)
{
    (void)from;
    return as_buffer_append(user, bytes, count, e);
}

/* On rank 0, before anything is looked for. */
static int begin_search(finder *d, as_findings *f, as_error *e)
{
    const char *const paths[] = {d->path, d->dir};
    bool *const are_files[] = {&d->path_is_file, &d->dir_is_file};
    for (int i = 0; i < 2; i++) {
        as_view *v = NULL;
        if (as_view_open(&v, paths[i], e) != AS_OK) {
            return e->code;
        }
        *are_files[i] = as_view_single(v) != NULL;
        as_view_close(v);
    }
    return read_tensors(d, f, e);
}

int as_replicas_find(as_replicas *out, as_world *w, const as_bytes *bytes, const char *path,
                     const char *dir, as_findings *f, as_error *e)
{
    *out = AS_REPLICAS_INIT;
    finder d = {.bytes = bytes, .path = path, .dir = dir, .out = out};
    as_mail mail = {0};
    as_buffer mine = AS_BUFFER_INIT;
    as_buffer all = AS_BUFFER_INIT;
    int code = as_mail_init(&mail, w->size, e);
    if (code == AS_OK && w->rank == 0 && begin_search(&d, f, e) == AS_OK) {
        (void)put_all(&d, &mail, e);
    }
    code = as_world_agree(w, e);
    if (code == AS_OK && w->comm) {
        code = as_comm_exchange(w->comm, &mail, e);
    }
    if (code == AS_OK) {
        (void)as_replica_probe(w->comm ? &mail.in : &mail.out[0], path, dir, &mine, e);
        code = w->comm ? as_comm_collect(w->comm, &mine, gather, &all, e) : e->code;
    }
    if (code == AS_OK && w->rank == 0) {
        (void)tell(&d, w->comm ? &all : &mine, e);
    }
    free(d.by_name);
    free(d.from_file);
    as_contents_free(&d.there);
    as_mail_free(&mail);
    as_buffer_free(&mine);
    as_buffer_free(&all);
    return as_world_agree(w, e);
}

void as_replicas_free(as_replicas *r)
{
    as_names_free(&r->words);
    as_names_free(&r->mend);
    json_decref(r->list);
    *r = AS_REPLICAS_INIT;
}
