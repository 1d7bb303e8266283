/* SPDX-License-Identifier: Apache-2.0
 * Reads every byte of files once, the ranks sharing them, and tells which blocks are not what the
 * manifest says, and which tensors hold NaN or infinities.
 */
#ifndef ALLSHARD_CLI_LOOK_H
#define ALLSHARD_CLI_LOOK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "cli/progress.h"
#include "cli/world.h"
#include "format/table.h"
#include "tensor/specials.h"

/* All is borrowed. */
typedef struct as_look_file {
    const char *name;      /* in the folder */
    int64_t size;          /* bytes; −1: it is not there */
    const uint64_t *sums;  /* of its blocks; NULL: none to compare with */
    int64_t saved_size;    /* bytes that the sums are of */
    int64_t block_bytes;   /* of a block, of which the last one has what is left */
    const as_table *table; /* tensors to look into; NULL: none */
} as_look_file;

typedef struct as_look_order {
    const char *path;   /* on all ranks, as the next two */
    const char *engine; /* NULL: auto */
    as_progress *progress;
    /* On rank 0: */
    bool in_place; /* the journal cannot be read: the files as they lie there */
    const as_look_file *files;
    size_t file_count;
} as_look_order;

enum as_look_kind {
    AS_LOOK_DIFFERS = 1, /* the bytes are others */
    AS_LOOK_UNREAD = 2,  /* the bytes cannot be read */
    AS_LOOK_LOST = 3     /* the file ends before, or is not there */
};

/* Consecutive blocks of one file in which the same is wrong. */
typedef struct as_look_run {
    int64_t file;  /* number in the order */
    int64_t first; /* block */
    int64_t count;
    int64_t kind;
    int64_t sys_errno; /* unread: why; 0: not known */
    uint64_t found;    /* differs, and count is 1: the sum of what is there */
} as_look_run;

/* Of a tensor that holds any. */
typedef struct as_look_special {
    int64_t file;
    int64_t entry; /* of the file's table */
    as_specials specials;
} as_look_special;

typedef struct as_looked {
    as_buffer runs;     /* as_look_run[], by file and block */
    as_buffer specials; /* as_look_special[], by file and entry */
    int64_t bytes;      /* read by all ranks */
    int64_t blocks;     /* compared with their sums, by all ranks */
    double seconds;
    char engine[16]; /* that did the work on rank 0 */
} as_looked;

#define AS_LOOKED_INIT ((as_looked){0})

/* What cannot be read is a result. An error says that it could not be done: AS_BUSY if files were
 * replaced meanwhile, AS_SYSTEM, AS_NOMEM, AS_MPI. *out is filled on rank 0. Collective. */
int as_look(as_looked *out, as_world *w, const as_look_order *order, as_error *e);

void as_looked_free(as_looked *l);

#endif
