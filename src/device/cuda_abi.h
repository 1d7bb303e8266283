/* SPDX-License-Identifier: Apache-2.0
 * What of CUDA's driver interface is used, told anew so that no toolkit is needed to build: values
 * and layouts are those of the 64-bit Linux ABI, which the driver keeps from version to version
 * (CUDA Driver API reference manual; names with _v2 are the functions that the header's plain names
 * stand for).
 */
#ifndef ALLSHARD_DEVICE_CUDA_ABI_H
#define ALLSHARD_DEVICE_CUDA_ABI_H

#include <stddef.h>
#include <stdint.h>

typedef int as_cu_result;       /* CUresult */
typedef int as_cu_device;       /* CUdevice: an ordinal */
typedef uint64_t as_cu_pointer; /* CUdeviceptr */
typedef struct as_cu_context_opaque *as_cu_context;
typedef struct as_cu_stream_opaque *as_cu_stream;
typedef struct as_cu_event_opaque *as_cu_event;
typedef struct as_cu_module_opaque *as_cu_module;
typedef struct as_cu_function_opaque *as_cu_function;

enum {
    AS_CU_SUCCESS = 0,
    AS_CU_INVALID_VALUE = 1,
    AS_CU_OUT_OF_MEMORY = 2,
    AS_CU_NOT_INITIALIZED = 3,
    AS_CU_DEINITIALIZED = 4,
    AS_CU_STUB_LIBRARY = 34,
    AS_CU_DEVICE_UNAVAILABLE = 46,
    AS_CU_NO_DEVICE = 100,
    AS_CU_INVALID_CONTEXT = 201,
    AS_CU_INVALID_HANDLE = 400,
    AS_CU_NOT_READY = 600,
    AS_CU_ILLEGAL_ADDRESS = 700,
    AS_CU_CONTEXT_DESTROYED = 709,
    AS_CU_ALREADY_REGISTERED = 712,
    AS_CU_NOT_REGISTERED = 713,
    AS_CU_NOT_SUPPORTED = 801,
    AS_CU_SYSTEM_NOT_READY = 802,
    AS_CU_DRIVER_MISMATCH = 803,      /* CUDA_ERROR_SYSTEM_DRIVER_MISMATCH */
    AS_CU_COMPAT_NOT_SUPPORTED = 804, /* CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE */
    AS_CU_CAPTURE_FIRST = 900, /* CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, and those that follow it */
    AS_CU_CAPTURE_LAST = 908   /* CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD */
};

/* CUstreamCaptureStatus: 0 is none. CUstreamCaptureMode: what a thread may call while streams are
 * captured. */
enum { AS_CU_CAPTURE_MODE_RELAXED = 2 };

/* Streams that need not be made: CU_STREAM_LEGACY and CU_STREAM_PER_THREAD. NULL is the former in
 * the functions that are looked up here. */
#define AS_CU_STREAM_LEGACY ((as_cu_stream)(uintptr_t)1)
#define AS_CU_STREAM_PER_THREAD ((as_cu_stream)(uintptr_t)2)

/* CUpointer_attribute */
enum {
    AS_CU_POINTER_CONTEXT = 1,     /* CUcontext; NULL: allocated by none */
    AS_CU_POINTER_MEMORY_TYPE = 2, /* unsigned: CUmemorytype; 0: memory that CUDA does not know */
    AS_CU_POINTER_BUFFER_ID = 7,   /* unsigned long long: another one for each allocation, ever */
    AS_CU_POINTER_IS_MANAGED = 8,  /* unsigned */
    AS_CU_POINTER_DEVICE_ORDINAL = 9, /* int */
    AS_CU_POINTER_RANGE_START = 11,   /* CUdeviceptr */
    AS_CU_POINTER_RANGE_SIZE = 12     /* size_t */
};

/* CUmemorytype */
enum {
    AS_CU_MEMORY_HOST = 1,
    AS_CU_MEMORY_DEVICE = 2,
    AS_CU_MEMORY_ARRAY = 3,
    AS_CU_MEMORY_UNIFIED = 4
};

/* CUdevice_attribute */
enum {
    AS_CU_DEVICE_MAX_PITCH = 11,
    AS_CU_DEVICE_MULTIPROCESSORS = 16,
    AS_CU_DEVICE_PCI_BUS = 33,
    AS_CU_DEVICE_PCI_DEVICE = 34,
    AS_CU_DEVICE_PCI_DOMAIN = 50,
    AS_CU_DEVICE_MAJOR = 75, /* of the compute capability */
    AS_CU_DEVICE_MINOR = 76,
    AS_CU_DEVICE_GPU_DIRECT_RDMA = 116
};

enum {
    AS_CU_STREAM_NON_BLOCKING = 1,  /* CU_STREAM_NON_BLOCKING */
    AS_CU_EVENT_DISABLE_TIMING = 2, /* CU_EVENT_DISABLE_TIMING */
    AS_CU_REGISTER_PORTABLE = 1     /* CU_MEMHOSTREGISTER_PORTABLE */
};

/* CUDA_MEMCPY2D of the _v2 functions: pitches, widths and places in bytes. */
typedef struct as_cu_copy_2d {
    size_t from_x;
    size_t from_y;
    unsigned from_type; /* CUmemorytype */
    const void *from_host;
    as_cu_pointer from_device;
    void *from_array;
    size_t from_pitch;
    size_t to_x;
    size_t to_y;
    unsigned to_type;
    void *to_host;
    as_cu_pointer to_device;
    void *to_array;
    size_t to_pitch;
    size_t width;
    size_t height;
} as_cu_copy_2d;

#endif
