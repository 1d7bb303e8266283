/* SPDX-License-Identifier: Apache-2.0
 * The simulated CUDA driver's own controls, for tests. It is a libcuda.so.1 that is found by
 * LD_LIBRARY_PATH in tests with "simulated: cuda" in a comment, has the functions of
 * AS_CUDA_FUNCTIONS and SIM_MORE_FUNCTIONS under the driver's names, and those below under their
 * own. Programs find all of them with dlsym; support_simulated.h does it.
 *
 * Device memory is address space that the CPU cannot touch; what is freed is never used again.
 * Copies and kernels run in a thread of the simulation, one at a time, in the order of their streams
 * and at times that sim_delay makes random. The memory of the host that a copy writes is overwritten
 * when the copy is asked for, so that who reads too early reads nonsense; memory that a copy reads
 * must not change before it has run, and what different streams do to the same memory must have an
 * order. Broken rules are refused where the driver does so, and noted in sim_faults in any case.
 *
 * Environment: SIM_CUDA_LOG=file gets a line with the name of every call, SIM_CUDA_DEVICES=count and
 * SIM_CUDA_FAIL=call:nth:code are sim_devices and sim_fail for programs that are not our own.
 */
#ifndef ALLSHARD_TESTS_SIMULATED_SIM_H
#define ALLSHARD_TESTS_SIMULATED_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "device/cuda_library.h"

#define SIM_API __attribute__((visibility("default")))

/* Names of calls are the driver's, with or without _v2: "cuMemAlloc". */

/* Of how many devices the machine has, 0 to 16; 2 unless told. Before cuInit; else not 0. */
SIM_API int sim_devices(int count);

/* A device attribute's value from now on, on all devices. */
SIM_API void sim_attribute(int attribute, int value);

/* The nth call (1..) of that name from now on returns the code; those before and after it do their
 * work. nth 0: none does any more; negative: the -nth and all that follow. "": any call but
 * cuGetErrorName and cuGetErrorString. Functions that release something or wait do their work in any
 * case. Codes after which a context is lost (700 and the like) are the answer of every later call
 * that needs that context. A second one for the same name takes the first one's place; those for
 * other names stay. */
SIM_API void sim_fail(const char *call, int nth, int code);

/* The same, but the call succeeds: the copy or launch fails when its turn comes. It, and all that
 * is under way in the context, is not done; every later call that needs the context returns the
 * code. */
SIM_API void sim_fail_late(const char *call, int nth, int code);

/* How many calls failed for these two, since sim_reset. */
SIM_API int64_t sim_failed(void);

/* Calls so far; NULL: of all functions. */
SIM_API int64_t sim_calls(const char *call);

/* Copies so far that had memory of the host that is not page-locked. */
SIM_API int64_t sim_pageable(void);

/* Copies and launches take a random time up to that. */
SIM_API void sim_delay(unsigned seed, int microseconds);

/* While it is on nothing that was asked for runs but while a call waits for something. */
SIM_API void sim_hold(bool on);

/* The program destroys a context that it has made or resets the
 * device of a primary one, which a later cuDevicePrimaryCtxRetain brings back with the same handle:
 * what it had is gone, and who uses it is refused, which is no broken rule. As in any case all
 * that is under way ends first. */
SIM_API int sim_end_context(as_cu_context context);

/* The program captures the stream into a graph, in the mode "global", or ends that: then work that is
 * put into the stream by others is a broken rule, the legacy default stream is refused if the stream
 * is one that it waits for (906), and so are calls that wait or lock memory (900) in threads that have
 * not called cuThreadExchangeStreamCaptureMode for CU_STREAM_CAPTURE_MODE_RELAXED (2). */
SIM_API void sim_capture(as_cu_stream stream, bool on);

/* While it is on nothing that was asked for runs at all: a device that hangs. */
SIM_API void sim_stall(bool on);

/* While it is on cuPointerGetAttributes needs a current context (201), as some drivers' may. */
SIM_API void sim_strict_pointers(bool on);

/* "", or the first broken rule since sim_reset, one line. */
SIM_API const char *sim_faults(void);

/* Controls, faults and lost contexts are as at first; allocations stay, calls are counted on. */
SIM_API void sim_reset(void);

/* Device or managed memory from the test: at once, not a call. A range outside of allocations is a
 * fault, and nothing is done. */
SIM_API void sim_read(void *to, uint64_t from, size_t n);
SIM_API void sim_write(uint64_t to, const void *from, size_t n);

/* Is nothing under way in any stream? */
SIM_API bool sim_idle(void);

/* For leak checks, what there is of: "memory" (bytes on devices), "host" (bytes of cuMemHostAlloc),
 * "events", "streams", "modules", "registered" (ranges), "contexts" (retained or made), "depth" (of
 * the calling thread's stack of contexts). -1: no such thing. */
SIM_API int64_t sim_live(const char *what);

/* Device memory that belongs to no context, as that of memory pools; freed by cuMemFree. 0: none. */
SIM_API uint64_t sim_alloc_unowned(int ordinal, size_t bytes);

/* One thread of a kernel; grids have one dimension. Parameters are as cuLaunchKernel's. */
typedef void (*sim_body)(void **parameters, unsigned grid_x, unsigned block_x, unsigned block,
                         unsigned thread);

/* What a launch of the function of that name runs, and the bytes of each of its parameters. Modules
 * have the functions that are known here; what is PTX must have an .entry of that name, too. */
SIM_API void sim_kernel(const char *name, sim_body body, const size_t *bytes, int parameters);

/* What cuModuleLoadData takes in place of PTX. */
#define SIM_MODULE_IMAGE "allshard simulated module"

/* Where a body finds `bytes` (64 at most) of device memory. Outside of allocations of the device, or
 * where 2, 4, 8 or 16 bytes are not aligned, it is a fault, the launch fails as on a device (700,
 * 716), and the memory is waste. */
SIM_API void *sim_translate(uint64_t address, size_t bytes);

/* Members of sim_library and the functions; `fail` is a macro of cmocka's. */
/* clang-format off */
#define SIM_CONTROLS(X)                                                                            \
    X(devices, sim_devices) X(attribute, sim_attribute) X(inject, sim_fail)                        \
    X(inject_late, sim_fail_late) X(failed, sim_failed) X(calls, sim_calls)                        \
    X(pageable, sim_pageable) X(delay, sim_delay) X(hold, sim_hold) X(stall, sim_stall)            \
    X(capture, sim_capture)                                                                        \
    X(end_context, sim_end_context)                                                                \
    X(strict_pointers, sim_strict_pointers) X(faults, sim_faults)                                  \
    X(reset, sim_reset) X(read, sim_read) X(write, sim_write) X(idle, sim_idle)                    \
    X(live, sim_live) X(alloc_unowned, sim_alloc_unowned) X(kernel, sim_kernel)                    \
    X(translate, sim_translate)
/* clang-format on */

/* The driver's functions that only tests call, as programs do; like AS_CUDA_FUNCTIONS. */
#define SIM_MORE_FUNCTIONS(X)                                                                      \
    X(context_create, "cuCtxCreate_v2",                                                            \
      (as_cu_context * context, unsigned flags, as_cu_device device))                              \
    X(context_destroy, "cuCtxDestroy_v2", (as_cu_context context))                                 \
    X(context_set, "cuCtxSetCurrent", (as_cu_context context))                                     \
    X(context_synchronize, "cuCtxSynchronize", (void))                                             \
    X(stream_create_plain, "cuStreamCreate", (as_cu_stream * out, unsigned flags))                 \
    X(event_synchronize, "cuEventSynchronize", (as_cu_event event))                                \
    X(stream_priority, "cuStreamGetPriority", (as_cu_stream stream, int *priority))                \
    X(stream_flags, "cuStreamGetFlags", (as_cu_stream stream, unsigned *flags))                    \
    X(managed_alloc, "cuMemAllocManaged", (as_cu_pointer * out, size_t bytes, unsigned flags))     \
    X(host_alloc, "cuMemHostAlloc", (void **out, size_t bytes, unsigned flags))                    \
    X(host_alloc_plain, "cuMemAllocHost_v2", (void **out, size_t bytes))                           \
    X(host_free, "cuMemFreeHost", (void *memory))                                                  \
    X(copy_to_host_now, "cuMemcpyDtoH_v2", (void *to, as_cu_pointer from, size_t bytes))           \
    X(copy_to_device_now, "cuMemcpyHtoD_v2", (as_cu_pointer to, const void *from, size_t bytes))

/* All of it, as dlsym finds it. */
typedef struct sim_library {
    as_cuda cuda;
/* NOLINTBEGIN(bugprone-macro-parentheses): declarations */
#define SIM_MEMBER(member, symbol, parameters) as_cu_result(*member) parameters;
    SIM_MORE_FUNCTIONS(SIM_MEMBER)
#undef SIM_MEMBER
#define SIM_MEMBER(member, function) __typeof__(function) *member;
    SIM_CONTROLS(SIM_MEMBER)
#undef SIM_MEMBER
    /* NOLINTEND(bugprone-macro-parentheses) */
} sim_library;

#endif
