/* SPDX-License-Identifier: Apache-2.0
 * A finished plan as one rank sees it: which ranges of which files it writes (or,
 * to load, reads), and who holds what of them.
 */
#ifndef ALLSHARD_PLAN_PLAN_H
#define ALLSHARD_PLAN_PLAN_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/hash.h"
#include "format/format.h"
#include "format/pairs.h"
#include "plan/regions.h"
#include "plan/request.h"
#include "plan/words.h"
#include "tensor/geometry.h"

/* A range of one file that this rank writes or reads, all of one tensor or literal. */
typedef struct as_part {
    int32_t file;
    int32_t box_count;
    int64_t low; /* in the file */
    int64_t high;
    int64_t tensor_at; /* the tensor's first byte in the file */
    as_hash name;
    size_t boxes_at; /* word in as_plan.words where the boxes begin */
} as_part;

/* One box of a part: to save, one holder that sends it; to load, all that want it. */
typedef struct as_part_box {
    as_geometry geometry;   /* in the file */
    const int64_t *holders; /* pairs (rank, piece) */
    size_t holder_count;
} as_part_box;

/* Literal bytes that this rank built. */
typedef struct as_plan_literal {
    int32_t file;
    int64_t offset;
    int64_t size;
    char *bytes; /* heap, owned */
} as_plan_literal;

/* A file whose header this rank built: its tensors in the order of the index. */
typedef struct as_built_file {
    int32_t file;
    int64_t size; /* bytes of the file */
    size_t tensor_count;
    as_buffer names; /* each followed by a NUL */
} as_built_file;

/* A tied name that is not saved. */
typedef struct as_dropped {
    char *name; /* heap, owned */
    char *kept; /* heap, owned */
} as_dropped;

typedef struct as_plan {
    int32_t file_count;
    int64_t *file_size;   /* [file_count] bytes */
    int64_t total_size;   /* bytes of tensors, a storage once */
    int64_t tensor_count; /* saved, over all ranks */
    int64_t block_bytes;
    as_buffer parts;     /* as_part[], sorted by file and offset */
    as_buffer words;     /* boxes of the parts */
    as_buffer literals;  /* as_plan_literal[] */
    as_buffer built;     /* as_built_file[], ascending */
    as_buffer dropped;   /* as_dropped[]; main process only */
    int64_t own_bytes;   /* this rank writes or reads */
    int64_t moved_bytes; /* of them (times receivers, to load), what crosses between ranks */
} as_plan;

void as_plan_free(as_plan *p);

static inline size_t as_plan_part_count(const as_plan *p)
{
    return p->parts.size / sizeof(as_part);
}

static inline const as_part *as_plan_part(const as_plan *p, size_t i)
{
    return (const as_part *)(const void *)p->parts.data + i;
}

static inline size_t as_plan_built_count(const as_plan *p)
{
    return p->built.size / sizeof(as_built_file);
}

static inline as_built_file *as_plan_built(const as_plan *p, size_t i)
{
    return (as_built_file *)(void *)p->built.data + i;
}

static inline size_t as_plan_dropped_count(const as_plan *p)
{
    return p->dropped.size / sizeof(as_dropped);
}

static inline const as_dropped *as_plan_dropped(const as_plan *p, size_t i)
{
    return (const as_dropped *)(const void *)p->dropped.data + i;
}

static inline const as_plan_literal *as_plan_literal_at(const as_plan *p, size_t i)
{
    return (const as_plan_literal *)(const void *)p->literals.data + i;
}

/* The boxes of a part, one after the other. */
as_words as_part_boxes(const as_plan *p, const as_part *part);
int as_part_box_take(as_words *w, as_part_box *out, as_error *e);

/* Adds to `out` what the user gave as metadata, then the dropped names (dropped → kept) that
 * are no keys yet: what huggingface_hub records. Main process. */
int as_plan_metadata(const as_plan *p, const as_save_request *request, as_pairs *out, as_error *e);

/* Sets own_bytes and moved_bytes from the parts. */
int as_plan_sum_up(as_plan *p, int rank, as_error *e);

/* The rank that reads or builds the header of a file. */
static inline int as_plan_builder(int32_t file, int32_t file_count, int ranks)
{
    return (int)((int64_t)file * ranks / file_count);
}

#endif
