/* SPDX-License-Identifier: Apache-2.0
 * What CUDA knows of an address, in whatever context the calling thread is.
 */
#ifndef ALLSHARD_DEVICE_CUDA_POINTER_H
#define ALLSHARD_DEVICE_CUDA_POINTER_H

#include "device/cuda_library.h"

/* cuPointerGetAttributes. The first of the attributes is AS_CU_POINTER_MEMORY_TYPE, an unsigned; all
 * values are zero before. Drivers may want a current context for it (AS_CU_INVALID_CONTEXT), which a
 * thread that only saves need not have, or one that is there (AS_CU_CONTEXT_DESTROYED): then the primary contexts that are active are made current,
 * one after the other, until one knows the address. Where none is active it is the host's: values stay
 * zero, and that is no error. The caller's context is current again. *call: what has failed (static). */
as_cu_result as_cuda_pointer(const as_cuda *cuda, unsigned count, int *attributes, void **values,
                             as_cu_pointer pointer, const char **call);

#endif
