/* SPDX-License-Identifier: Apache-2.0
 * pack_body.h for CUDA devices. Compiled to PTX, by nvcc or by clang without any of CUDA's files
 * (cmake/AllshardKernel.cmake): so it calls nothing of CUDA's library.
 */
#ifdef __clang__
#define DEVICE static inline __attribute__((device, always_inline))
#define KERNEL extern "C" __attribute__((global)) void
#define BLOCK __nvvm_read_ptx_sreg_ctaid_x()
#define BLOCK_THREADS __nvvm_read_ptx_sreg_ntid_x()
#define THREAD __nvvm_read_ptx_sreg_tid_x()
#define GLOBAL __attribute__((address_space(1)))
#else
#define DEVICE static __device__ __forceinline__
#define KERNEL extern "C" __global__ void
#define BLOCK blockIdx.x
#define BLOCK_THREADS blockDim.x
#define THREAD threadIdx.x
#define GLOBAL
#endif

#define AS_CAST_INLINE DEVICE
#define AS_PACK_INLINE DEVICE

/* One load or store of 16 bytes. */
#define AS_PACK_UNIT16
#ifdef __clang__
typedef unsigned as_unit16 __attribute__((ext_vector_type(4)));
#else
typedef uint4 as_unit16;
#endif

#define AS_PACK_LOAD(type, at) (*(const GLOBAL type *)(at))
#define AS_PACK_STORE(type, at, value) (*(GLOBAL type *)(at) = (value))

#include "device/pack_body.h"

KERNEL as_pack(const as_pack_args a)
{
    as_pack_thread(&a, BLOCK * BLOCK_THREADS + THREAD);
}

KERNEL as_unpack(const as_pack_args a)
{
    as_unpack_thread(&a, BLOCK * BLOCK_THREADS + THREAD);
}
