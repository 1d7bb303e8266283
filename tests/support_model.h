/* SPDX-License-Identifier: Apache-2.0
 * Models for tests: tensors whose bytes depend on name and place alone, layouts that spread them
 * over ranks, and the pieces of one rank, in memory of all shapes. What is expected is worked out
 * here element by element, without the library's geometry.
 */
#ifndef ALLSHARD_TESTS_SUPPORT_MODEL_H
#define ALLSHARD_TESTS_SUPPORT_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "allshard.h"

typedef struct model_tensor {
    const char *name;
    int32_t dtype;
    int ndim;
    int64_t shape[ALLSHARD_MAX_DIMS];
} model_tensor;

typedef struct model {
    const model_tensor *tensors;
    int count;
} model;

/* Mixed dtypes, scalars, no bytes, odd names, sizes around 12000 bytes. */
extern const model model_mixed;

enum layout {
    LAYOUT_WHOLE,      /* whole tensors, contiguous groups */
    LAYOUT_REPLICATED, /* everything on every rank */
    LAYOUT_FSDP,       /* chunks of dimension 0, the last ones short or empty */
    LAYOUT_COLUMNS,    /* last dimension */
    LAYOUT_FLAT,       /* equal ranges of elements */
    LAYOUT_PARALLEL,   /* tensor parallel by rows and by columns, experts, data parallel */
    LAYOUT_TILES,      /* tiles, dealt out: several boxes of a tensor on one rank */
    LAYOUT_COUNT
};

const char *layout_name(enum layout layout);

typedef struct piece {
    const model_tensor *tensor;
    int number; /* of the tensor in the model */
    bool flat;
    int64_t flat_offset;
    int64_t flat_count;
    int64_t offset[ALLSHARD_MAX_DIMS];
    int64_t local[ALLSHARD_MAX_DIMS];
    bool strided;
    int64_t strides[ALLSHARD_MAX_DIMS]; /* elements */
    unsigned char *memory;              /* with what lies between the elements */
    size_t bytes;                       /* of it */
    unsigned char *first;               /* element */
} piece;

/* What one rank holds. */
typedef struct holding {
    piece *pieces;
    size_t count;
} holding;

/* `strided`: transposed, padded, reversed and spread memory among the pieces. */
void holding_make(holding *h, const model *m, enum layout layout, int rank, int ranks,
                  bool strided);
void holding_free(holding *h);

/* Declares all pieces; order keys are 1 + the tensor's number. */
void holding_declare(const holding *h, const allshard *as, allshard_state *s);

/* The same, with elements that are stored as another dtype: 0 for the one they have. */
void holding_declare_stored(const holding *h, const allshard *as, allshard_state *s,
                            int32_t (*stored)(int32_t dtype));

/* Bytes of its elements. */
int64_t piece_bytes(const piece *p);

void holding_fill(holding *h);  /* with the tensors' bytes */
void holding_clear(holding *h); /* as if nothing had been loaded yet */

/* Does the memory hold the tensors' bytes, and is what lies between them untouched? Names the
 * first tensor that is wrong; NULL if all is well. */
const char *holding_wrong(const holding *h);

/* Saves the mixed model over the whole world into a folder, and loads it again: after an error
 * the context must be as good as before. Collective. */
void check_works(allshard *as, const char *folder);

/* Byte `at` of the tensor's line of bytes, and its length. */
unsigned char tensor_byte(const model_tensor *t, int64_t at);
int64_t tensor_bytes(const model_tensor *t);

/* Elements that fill whole bytes together, and their bytes. */
int dtype_group(int dtype);
int dtype_group_bytes(int dtype);

#endif
