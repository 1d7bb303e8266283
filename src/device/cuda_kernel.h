/* SPDX-License-Identifier: Apache-2.0
 * The one kernel, on a device: elements that lie anywhere in a piece's memory ↔ the bytes of the
 * file one after the other, with the cast between them. Its body is pack_body.h, which the tests run
 * on the host; its code for devices (PTX, which drivers translate for the device that they have) is
 * part of the library where a compiler for it was there when it was built.
 */
#ifndef ALLSHARD_DEVICE_CUDA_KERNEL_H
#define ALLSHARD_DEVICE_CUDA_KERNEL_H

#include <stdbool.h>

#include "device/cuda_library.h"
#include "tensor/geometry.h"

typedef struct as_kernel {
    as_cu_module module; /* NULL: there is none */
    as_cu_function pack;
    as_cu_function unpack;
    const char *reason; /* why there is none: static, or `text`; NULL: there is one */
    char text[240];
} as_kernel;

/* The code for devices that was built in, PTX that ends with a 0; NULL: none was. Tests put a text of
 * their own here, which the simulated driver takes for it. */
extern const char *as_kernel_image;

/* Was a kernel built in? *reason: how, or why not; static. */
bool as_kernel_built(const char **reason);

/* Loads it into the current context, the context of all calls that follow; the driver's translation
 * takes some tenths of a second, the first time on a machine. Without it all works, more slowly: no
 * error. *k stays where it is. */
void as_kernel_load(as_kernel *k, const as_cuda *cuda);
void as_kernel_unload(as_kernel *k, const as_cuda *cuda);

/* Can it move the piece's bytes of the range? Not if the range cuts an element that is cast. */
bool as_kernel_can(const as_kernel *k, const as_geometry *g, int64_t low, int64_t high);

/* The piece's bytes of [low, high), one after the other, to or from `packed`, in device memory as
 * `memory`, the piece's pointer: put into the stream. Addresses of any alignment; where they and the
 * range are multiples of 16 bytes it takes the fewest steps. AS_CUDA. */
int as_kernel_pack(const as_kernel *k, const as_cuda *cuda, const as_geometry *g,
                   as_cu_pointer memory, int64_t low, int64_t high, as_cu_pointer packed,
                   as_cu_stream stream, as_error *e);
int as_kernel_unpack(const as_kernel *k, const as_cuda *cuda, const as_geometry *g,
                     as_cu_pointer memory, int64_t low, int64_t high, as_cu_pointer packed,
                     as_cu_stream stream, as_error *e);

#endif
