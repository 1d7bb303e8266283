/* SPDX-License-Identifier: Apache-2.0
 * --dtype FROM=TO: which tensors are saved in another type than they are read in.
 */
#ifndef ALLSHARD_CLI_CASTS_H
#define ALLSHARD_CLI_CASTS_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "base/error.h"
#include "cli/args.h"
#include "cli/tensors.h"
#include "tensor/dtype.h"

typedef struct as_casts {
    int to[AS_DTYPE_END]; /* AS_DTYPE_NONE: as it is */
    bool any;
} as_casts;

/* Reads the values of the option; names in any case. AS_INVALID with what is accepted: for a name
 * that is no type, a pair that cannot be cast, a type that is to become two. */
int as_casts_read(as_casts *out, const as_arg_list *values, as_error *e);

/* What a tensor of this type is saved as. */
static inline int as_casts_to(const as_casts *c, int dtype)
{
    return c->to[dtype] ? c->to[dtype] : dtype;
}

/* Bytes of all tensors as they are saved. AS_LIMIT if they pass what 63 bits hold. */
int as_casts_bytes(const as_casts *c, const as_tensors *t, int64_t *out, as_error *e);

/* How many tensors have this type. */
int64_t as_casts_count(const as_tensors *t, int dtype);

/* [{"from": "F32", "to": "BF16", "tensors": 290}, …]; NULL without memory. */
json_t *as_casts_json(const as_casts *c, const as_tensors *t);

#endif
