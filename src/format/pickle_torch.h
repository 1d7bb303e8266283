/* SPDX-License-Identifier: Apache-2.0
 * What pickles of tensors name and call, for the unpickler: the only names that it knows.
 */
#ifndef ALLSHARD_FORMAT_PICKLE_TORCH_H
#define ALLSHARD_FORMAT_PICKLE_TORCH_H

#include "format/pickle_read.h"

enum as_pickle_role {
    AS_PICKLE_ORDERED_DICT,
    AS_PICKLE_SIZE,      /* torch.Size: a tuple */
    AS_PICKLE_DEVICE,    /* torch.device: its name */
    AS_PICKLE_ENCODE,    /* _codecs.encode: how protocol 2 writes bytes */
    AS_PICKLE_REBUILD_1, /* torch._utils._rebuild_tensor and its later forms */
    AS_PICKLE_REBUILD_2,
    AS_PICKLE_REBUILD_3,
    AS_PICKLE_PARAMETER, /* torch._utils._rebuild_parameter */
    AS_PICKLE_PARAMETER_STATE,
    AS_PICKLE_CLASS,   /* a storage class of one dtype */
    AS_PICKLE_UNTYPED, /* the storage class of bytes */
    AS_PICKLE_DTYPE,   /* torch.float32 and so on */
};

typedef struct as_pickle_global {
    const char *module;
    const char *name;
    int role;  /* enum as_pickle_role */
    int dtype; /* of a class or dtype; AS_DTYPE_NONE: one that allshard does not have */
    int bytes; /* of an element of it */
} as_pickle_global;

extern const as_pickle_global as_pickle_globals[];

/* The number of a name. AS_FORMAT, with the name, if it is not one of those. */
int as_pickle_global_find(const char *module, size_t module_length, const char *name,
                          size_t name_length, uint32_t *number, as_error *e);

/* The class of a storage that tensors of `dtype` are saved with: a typed one, or, of dtypes that
 * came after those (torch 2.1), UntypedStorage; *number is the class's, *dtype_number the dtype's.
 * False for a dtype that torch does not have. */
bool as_pickle_class_of(int dtype, uint32_t *number, uint32_t *dtype_number);

/* What a call of global number `global` with the arguments `arguments` (a tuple) gives, without a
 * call. AS_FORMAT. */
int as_pickle_reduce(as_pickle *p, const as_pickle_value *global, const as_pickle_value *arguments,
                     as_pickle_value *out, as_error *e);

/* The storage of a persistent id. */
int as_pickle_persistent(as_pickle *p, const as_pickle_value *id, as_pickle_value *out,
                         as_error *e);

#endif
