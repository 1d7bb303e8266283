/* SPDX-License-Identifier: Apache-2.0
 * What one thread of the pack kernel does: one unit of a piece in memory ↔ its place among the
 * packed bytes. A unit is an element that is cast, or as many bytes (1, 2, 4, 8 or 16) as lie
 * together and aligned on both sides everywhere in the piece.
 *
 * Compiled for devices by pack_kernel.cu, and for the host by the tests. So it includes nothing
 * that a compiler for devices lacks, and goes to memory through AS_PACK_LOAD and AS_PACK_STORE,
 * which may be defined before.
 *
 * Neighbours of a group of threads have neighbouring packed bytes; in the piece's memory they go
 * where its strides take them. What that costs is hidden behind the link to the host, which is
 * slower by an order of magnitude: so a thread does no more than it must, and divides, for which
 * devices have no instruction, by multiplying.
 */
#ifndef ALLSHARD_DEVICE_PACK_BODY_H
#define ALLSHARD_DEVICE_PACK_BODY_H

#include <stdint.h>

#include "tensor/cast_element.h"
#include "tensor/dtype.h"

#ifndef AS_PACK_INLINE
#define AS_PACK_INLINE static inline __attribute__((always_inline))
#endif

typedef uint64_t as_unit8 __attribute__((may_alias));
typedef uint32_t as_unit4 __attribute__((may_alias));
typedef uint16_t as_unit2 __attribute__((may_alias));
typedef uint8_t as_unit1 __attribute__((may_alias));
#ifndef AS_PACK_UNIT16
typedef unsigned __int128 as_unit16 __attribute__((may_alias));
#endif

#ifndef AS_PACK_LOAD
#define AS_PACK_LOAD(type, at) (*(const type *)(uintptr_t)(at))
#define AS_PACK_STORE(type, at, value) (*(type *)(uintptr_t)(at) = (value))
#endif

/* As many as a geometry has (tensor/geometry.h). */
enum { AS_PACK_DIMS = 17 };

/* A launch has this many units at the most: they are numbered with 32 bits, and what is added to
 * them stays there (as_pack_memory). */
#define AS_PACK_MOST (UINT32_C(1) << 30)

/* From outer to inner, counted in units. */
typedef struct as_pack_dim {
    int64_t extent;  /* of the outermost it does not count */
    int64_t start;   /* where the launch's first unit is; < extent */
    int64_t stride;  /* bytes of memory between neighbours */
    uint32_t factor; /* n / extent is (n * factor / 2^32 + n) / 2^shift for every n < 2^32; */
    uint32_t shift;  /* factor 0: the extent is more than 2^31, n / extent 0 or 1 */
} as_pack_dim;

/* The kernel's one parameter, by value; pack_args.h makes it. */
typedef struct as_pack_args {
    uint64_t memory;      /* addresses on the device: the piece's pointer, */
    uint64_t packed;      /* and the place of the launch's first unit */
    uint32_t count;       /* units, ≤ AS_PACK_MOST */
    int32_t ndim;         /* ≥ 1 */
    int32_t memory_bytes; /* of a unit; if it is not cast the two are equal */
    int32_t packed_bytes;
    int32_t memory_access; /* bytes of a load or store of a unit that is cast: the unit's, */
    int32_t packed_access; /* or 1 where it is not aligned */
    int32_t memory_dtype;  /* AS_DTYPE_NONE: not cast */
    int32_t packed_dtype;
    as_pack_dim dims[AS_PACK_DIMS];
} as_pack_args;

/* n / extent */
AS_PACK_INLINE uint32_t as_pack_divide(const as_pack_dim *d, uint64_t n)
{
    if (d->factor == 0) {
        return n >= (uint64_t)d->extent;
    }
    uint64_t high = (n * d->factor) >> 32;
    return (uint32_t)((high + n) >> d->shift);
}

/* The address of unit i of the launch. What goes over from a dimension to the next outer one is at
 * most i < 2^31; with a start below 2^31 it stays below 2^32, and beyond that extent no sum reaches
 * it twice. */
AS_PACK_INLINE uint64_t as_pack_memory(const as_pack_args *a, uint32_t i)
{
    uint64_t at = a->memory;
    uint32_t over = i;
    for (int d = a->ndim - 1; d > 0; d--) {
        const as_pack_dim *x = &a->dims[d];
        uint64_t n = (uint64_t)x->start + over;
        over = as_pack_divide(x, n);
        at += (n - (uint64_t)over * (uint64_t)x->extent) * (uint64_t)x->stride;
    }
    return at + ((uint64_t)a->dims[0].start + over) * (uint64_t)a->dims[0].stride;
}

AS_PACK_INLINE uint64_t as_pack_get(uint64_t at, int bytes, int access)
{
    switch (access) {
    case 8:
        return AS_PACK_LOAD(as_unit8, at);
    case 4:
        return AS_PACK_LOAD(as_unit4, at);
    case 2:
        return AS_PACK_LOAD(as_unit2, at);
    default:
        break;
    }
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++) {
        value |= (uint64_t)AS_PACK_LOAD(as_unit1, at + (uint64_t)i) << (8 * i);
    }
    return value;
}

AS_PACK_INLINE void as_pack_put(uint64_t at, int bytes, int access, uint64_t value)
{
    switch (access) {
    case 8:
        AS_PACK_STORE(as_unit8, at, value);
        return;
    case 4:
        AS_PACK_STORE(as_unit4, at, (uint32_t)value);
        return;
    case 2:
        AS_PACK_STORE(as_unit2, at, (uint16_t)value);
        return;
    default:
        break;
    }
    for (int i = 0; i < bytes; i++) {
        AS_PACK_STORE(as_unit1, at + (uint64_t)i, (uint8_t)(value >> (8 * i)));
    }
}

/* The bits of an element of another type; what as_cast does. */
AS_PACK_INLINE uint64_t as_pack_cast(int from, int to, uint64_t x)
{
    uint32_t wide;
    switch (from) {
    case AS_F64:
        if (to == AS_F32) {
            return as_f64_to_f32(x);
        }
        wide = as_from_F64(x);
        break;
    case AS_BF16:
        wide = as_from_BF16((uint16_t)x);
        break;
    case AS_F16:
        wide = as_from_F16((uint16_t)x);
        break;
    case AS_F8_E4M3:
        wide = as_from_F8_E4M3((uint8_t)x);
        break;
    case AS_F8_E5M2:
        wide = as_from_F8_E5M2((uint8_t)x);
        break;
    default:
        wide = (uint32_t)x;
        break;
    }
    switch (to) {
    case AS_F64:
        return as_to_F64(wide);
    case AS_BF16:
        return as_to_BF16(wide);
    case AS_F16:
        return as_to_F16(wide);
    case AS_F8_E4M3:
        return as_to_F8_E4M3(wide);
    case AS_F8_E5M2:
        return as_to_F8_E5M2(wide);
    default:
        return wide;
    }
}

AS_PACK_INLINE void as_pack_copy(uint64_t to, uint64_t from, int bytes)
{
    switch (bytes) {
    case 16:
        AS_PACK_STORE(as_unit16, to, AS_PACK_LOAD(as_unit16, from));
        break;
    case 8:
        AS_PACK_STORE(as_unit8, to, AS_PACK_LOAD(as_unit8, from));
        break;
    case 4:
        AS_PACK_STORE(as_unit4, to, AS_PACK_LOAD(as_unit4, from));
        break;
    case 2:
        AS_PACK_STORE(as_unit2, to, AS_PACK_LOAD(as_unit2, from));
        break;
    default:
        AS_PACK_STORE(as_unit1, to, AS_PACK_LOAD(as_unit1, from));
        break;
    }
}

/* Thread i of a launch of "as_pack": out of the piece. */
AS_PACK_INLINE void as_pack_thread(const as_pack_args *a, uint32_t i)
{
    if (i >= a->count) {
        return;
    }
    uint64_t memory = as_pack_memory(a, i);
    uint64_t packed = a->packed + (uint64_t)i * (uint64_t)a->packed_bytes;
    if (a->memory_dtype == AS_DTYPE_NONE) {
        as_pack_copy(packed, memory, a->packed_bytes);
    } else {
        uint64_t x = as_pack_get(memory, a->memory_bytes, a->memory_access);
        as_pack_put(packed, a->packed_bytes, a->packed_access,
                    as_pack_cast(a->memory_dtype, a->packed_dtype, x));
    }
}

/* Of "as_unpack": into the piece. */
AS_PACK_INLINE void as_unpack_thread(const as_pack_args *a, uint32_t i)
{
    if (i >= a->count) {
        return;
    }
    uint64_t memory = as_pack_memory(a, i);
    uint64_t packed = a->packed + (uint64_t)i * (uint64_t)a->packed_bytes;
    if (a->memory_dtype == AS_DTYPE_NONE) {
        as_pack_copy(memory, packed, a->packed_bytes);
    } else {
        uint64_t x = as_pack_get(packed, a->packed_bytes, a->packed_access);
        as_pack_put(memory, a->memory_bytes, a->memory_access,
                    as_pack_cast(a->packed_dtype, a->memory_dtype, x));
    }
}

#endif
