/* SPDX-License-Identifier: Apache-2.0
 * The CUDA driver's functions, looked up in the running program: one binary for every machine.
 *
 * Nothing here is called unless libcuda.so.1 is in the process already, or it was asked for: to
 * initialise CUDA takes time and device memory, and is wrong in programs that fork afterwards.
 */
#ifndef ALLSHARD_DEVICE_CUDA_LIBRARY_H
#define ALLSHARD_DEVICE_CUDA_LIBRARY_H

#include <stdbool.h>

#include "base/error.h"
#include "device/cuda_abi.h"

/* Enum allshard_cuda of the interface. */
enum as_cuda_wish {
    AS_CUDA_AUTO = 0, /* only if the program has loaded libcuda.so.1 by itself */
    AS_CUDA_OFF = 1,  /* device memory is not looked for */
    AS_CUDA_ON = 2    /* libcuda.so.1 is loaded and initialised if need be */
};

/* name, in-process name, parameters: X(member, "symbol", (types)) */
#define AS_CUDA_FUNCTIONS(X)                                                                       \
    X(init, "cuInit", (unsigned flags))                                                            \
    X(driver_version, "cuDriverGetVersion", (int *version))                                        \
    X(error_name, "cuGetErrorName", (as_cu_result code, const char **name))                        \
    X(error_text, "cuGetErrorString", (as_cu_result code, const char **text))                      \
    X(device_count, "cuDeviceGetCount", (int *count))                                              \
    X(device_get, "cuDeviceGet", (as_cu_device * device, int ordinal))                             \
    X(device_name, "cuDeviceGetName", (char *name, int length, as_cu_device device))               \
    X(device_attribute, "cuDeviceGetAttribute", (int *value, int attribute, as_cu_device device))  \
    X(device_total, "cuDeviceTotalMem_v2", (size_t * bytes, as_cu_device device))                  \
    X(primary_retain, "cuDevicePrimaryCtxRetain", (as_cu_context * context, as_cu_device device))  \
    X(primary_release, "cuDevicePrimaryCtxRelease_v2", (as_cu_device device))                      \
    X(primary_state, "cuDevicePrimaryCtxGetState",                                                 \
      (as_cu_device device, unsigned *flags, int *active))                                         \
    X(context_current, "cuCtxGetCurrent", (as_cu_context * context))                               \
    X(context_push, "cuCtxPushCurrent_v2", (as_cu_context context))                                \
    X(context_pop, "cuCtxPopCurrent_v2", (as_cu_context * context))                                \
    X(context_device, "cuCtxGetDevice", (as_cu_device * device))                                   \
    X(context_priorities, "cuCtxGetStreamPriorityRange", (int *least, int *greatest))              \
    X(pointer_attributes, "cuPointerGetAttributes",                                                \
      (unsigned count, int *attributes, void **values, as_cu_pointer pointer))                     \
    X(memory_alloc, "cuMemAlloc_v2", (as_cu_pointer * out, size_t bytes))                          \
    X(memory_free, "cuMemFree_v2", (as_cu_pointer memory))                                         \
    X(host_register, "cuMemHostRegister_v2", (void *memory, size_t bytes, unsigned flags))         \
    X(host_unregister, "cuMemHostUnregister", (void *memory))                                      \
    X(copy_to_host, "cuMemcpyDtoHAsync_v2",                                                        \
      (void *to, as_cu_pointer from, size_t bytes, as_cu_stream stream))                           \
    X(copy_to_device, "cuMemcpyHtoDAsync_v2",                                                      \
      (as_cu_pointer to, const void *from, size_t bytes, as_cu_stream stream))                     \
    X(copy_on_device, "cuMemcpyDtoDAsync_v2",                                                      \
      (as_cu_pointer to, as_cu_pointer from, size_t bytes, as_cu_stream stream))                   \
    X(copy_2d, "cuMemcpy2DAsync_v2", (const as_cu_copy_2d *copy, as_cu_stream stream))             \
    X(stream_create, "cuStreamCreateWithPriority",                                                 \
      (as_cu_stream * out, unsigned flags, int priority))                                          \
    X(stream_destroy, "cuStreamDestroy_v2", (as_cu_stream stream))                                 \
    X(stream_context, "cuStreamGetCtx", (as_cu_stream stream, as_cu_context * context))            \
    X(stream_wait, "cuStreamWaitEvent", (as_cu_stream stream, as_cu_event event, unsigned flags))  \
    X(stream_capturing, "cuStreamIsCapturing", (as_cu_stream stream, int *status))                 \
    X(stream_capture_mode, "cuThreadExchangeStreamCaptureMode", (int *mode))                       \
    X(stream_query, "cuStreamQuery", (as_cu_stream stream))                                        \
    X(stream_synchronize, "cuStreamSynchronize", (as_cu_stream stream))                            \
    X(event_create, "cuEventCreate", (as_cu_event * out, unsigned flags))                          \
    X(event_destroy, "cuEventDestroy_v2", (as_cu_event event))                                     \
    X(event_record, "cuEventRecord", (as_cu_event event, as_cu_stream stream))                     \
    X(event_query, "cuEventQuery", (as_cu_event event))                                            \
    X(module_load, "cuModuleLoadData", (as_cu_module * out, const void *image))                    \
    X(module_unload, "cuModuleUnload", (as_cu_module module))                                      \
    X(module_function, "cuModuleGetFunction",                                                      \
      (as_cu_function * out, as_cu_module module, const char *name))                               \
    X(launch, "cuLaunchKernel",                                                                    \
      (as_cu_function function, unsigned grid_x, unsigned grid_y, unsigned grid_z,                 \
       unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,                \
       as_cu_stream stream, void **parameters, void **extra))

/* NOLINTBEGIN(bugprone-macro-parentheses): declarations */
typedef struct as_cuda {
#define AS_CUDA_MEMBER(member, symbol, parameters) as_cu_result(*member) parameters;
    AS_CUDA_FUNCTIONS(AS_CUDA_MEMBER)
#undef AS_CUDA_MEMBER
} as_cuda;
/* NOLINTEND(bugprone-macro-parentheses) */

/* The functions, the same table for the whole process; NULL: there is no CUDA here, or it is not
 * wanted, and *reason, a static text, tells why. AS_CUDA_AUTO makes no call of CUDA, AS_CUDA_ON
 * calls cuInit. From any thread. Never unloaded. */
const as_cuda *as_cuda_library(enum as_cuda_wish wish, const char **reason);

/* Can it be had, as far as can be told without a call? Loads libcuda.so.1. NULL, or why not (static). */
const char *as_cuda_lacking(void);

/* Is the call refused because a stream is being captured into a graph? */
static inline bool as_cuda_says_captured(as_cu_result result)
{
    return result >= AS_CU_CAPTURE_FIRST && result <= AS_CU_CAPTURE_LAST;
}

/* Fails with a text that names call ("cuMemcpyDtoHAsync"), code and what it was for (printf):
 * "cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY (2, out of memory): 4194304 bytes on device 0".
 * AS_NOMEM for AS_CU_OUT_OF_MEMORY, else AS_CUDA. Returns the code. */
int as_cuda_fail(as_error *e, const as_cuda *cuda, const char *call, as_cu_result result,
                 const char *format, ...) __attribute__((format(printf, 5, 6)));

#endif
