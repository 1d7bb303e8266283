/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/replica_probe.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/checked.h"
#include "base/checksum.h"
#include "base/sys.h"
#include "series/shards.h"
#include "commit/view.h"
#include "plan/words.h"

enum { TASK = 5, PIECE = 3, CHUNK = 1 << 20 }; /* words, words, bytes */

int as_replica_put_task(as_buffer *out, const as_replica_task *t, as_error *e)
{
    const int64_t words[TASK] = {t->file_size, t->begin, t->bytes, (int64_t)t->sum, t->piece_count};
    int code = as_words_put(out, words, TASK, e);
    return code == AS_OK ? as_words_put_bytes(out, t->file, strlen(t->file), e) : code;
}

int as_replica_put_piece(as_buffer *out, const as_replica_piece *p, as_error *e)
{
    const int64_t words[PIECE] = {p->own, p->from, p->bytes};
    int code = as_words_put(out, words, PIECE, e);
    return code == AS_OK ? as_words_put_bytes(out, p->file, strlen(p->file), e) : code;
}

/* The file of one folder that was read last. */
typedef struct place {
    as_view *view;
    as_buffer name; /* empty: none yet */
    int fd;         /* -1: it could not be opened */
    int64_t size;
} place;

typedef struct prober {
    place own;
    place other;
    as_checksum_stream *sum;
    char *chunk;
} prober;

static void leave(place *p)
{
    if (p->fd >= 0) {
        (void)as_sys_table.close(p->fd);
    }
    p->fd = -1;
    p->size = -1;
    as_buffer_free(&p->name);
}

/* Makes the file of that name the open one. AS_NOMEM. */
static int go_to(place *p, const char *name, size_t length, as_error *e)
{
    if (p->name.size > 0 && p->name.size == length && memcmp(p->name.data, name, length) == 0) {
        return AS_OK;
    }
    leave(p);
    int code = as_buffer_append(&p->name, name, length, e);
    if (code != AS_OK || !as_buffer_string(&p->name)) {
        return as_fail_nomem(e);
    }
    struct stat status;
    as_error why = AS_ERROR_INIT;
    if (as_shard_open(p->view, p->name.data, &p->fd, &why) == AS_OK) {
        p->size = as_sys_table.fstat(p->fd, &status) == 0 ? (int64_t)status.st_size : -1;
    }
    as_error_clear(&why);
    return AS_OK;
}

/* Adds bytes of the open file to the sum; false if they are not to be had. */
static bool add(const prober *p, const place *at, int64_t from, int64_t bytes)
{
    as_error why = AS_ERROR_INIT;
    bool good = at->fd >= 0 && from >= 0 && bytes <= at->size - from;
    for (int64_t done = 0; done < bytes && good; done += CHUNK) {
        size_t count = (size_t)as_min_i64(CHUNK, bytes - done);
        good = as_read_all(at->fd, p->chunk, count, from + done, at->name.data, &why) == AS_OK;
        if (good) {
            as_checksum_add(p->sum, p->chunk, count);
        }
    }
    as_error_clear(&why);
    return good;
}

static int broken(as_error *e)
{
    return as_fail(e, AS_INTERNAL, 0, "the list of rotten blocks cannot be read");
}

/* One task, of which all pieces are taken from the message whatever comes of it. */
static int probe(prober *p, as_words *w, int64_t *how, as_error *e)
{
    size_t length;
    const int64_t *task = as_words_take(w, TASK);
    const char *name = task ? as_words_take_bytes(w, &length) : NULL;
    if (!name) {
        return broken(e);
    }
    uint64_t sum = (uint64_t)task[3];
    *how = AS_REPLICA_NONE;
    int code = go_to(&p->other, name, length, e);
    as_checksum_begin(p->sum);
    if (code == AS_OK && p->other.size == task[0] && add(p, &p->other, task[1], task[2]) &&
        as_checksum_end(p->sum) == sum) {
        *how = AS_REPLICA_FILE;
    }
    bool good = task[4] > 0 && *how == AS_REPLICA_NONE;
    as_checksum_begin(p->sum);
    for (int64_t i = 0; i < task[4] && code == AS_OK; i++) {
        const int64_t *piece = as_words_take(w, PIECE);
        name = piece ? as_words_take_bytes(w, &length) : NULL;
        if (!name) {
            return broken(e);
        }
        place *from = piece[0] ? &p->own : &p->other;
        code = good ? go_to(from, name, length, e) : AS_OK;
        good = good && code == AS_OK && add(p, from, piece[1], piece[2]);
    }
    if (good && as_checksum_end(p->sum) == sum) {
        *how = AS_REPLICA_TENSORS;
    }
    return code;
}

/* What lies in place if the journal is damaged: the checksums tell whether it is of use. */
static int open_place(place *p, const char *path, as_error *e)
{
    as_error why = AS_ERROR_INIT;
    int code = as_view_open(&p->view, path, &why);
    as_error_clear(&why);
    return code == AS_OK ? AS_OK : as_view_open_in_place(&p->view, path, e);
}

int as_replica_probe(const as_buffer *tasks, const char *path, const char *dir, as_buffer *result,
                     as_error *e)
{
    prober p = {.own.fd = -1, .other.fd = -1, .chunk = malloc(CHUNK)};
    as_words w = as_words_of(tasks->data, tasks->size);
    int code = p.chunk ? as_checksum_open(&p.sum, e) : as_fail_nomem(e);
    code = code == AS_OK ? open_place(&p.own, path, e) : code;
    code = code == AS_OK ? open_place(&p.other, dir, e) : code;
    while (code == AS_OK && w.at < w.end) {
        int64_t how = AS_REPLICA_NONE;
        code = probe(&p, &w, &how, e);
        code = code == AS_OK ? as_buffer_append(result, &how, sizeof how, e) : code;
    }
    leave(&p.own);
    leave(&p.other);
    as_view_close(p.own.view);
    as_view_close(p.other.view);
    as_checksum_close(p.sum);
    free(p.chunk);
    return code;
}
