/* SPDX-License-Identifier: Apache-2.0
 * What of cuFile (GPUDirect Storage) is used, told anew so that no toolkit is needed to build: values
 * and layouts are those of the 64-bit Linux ABI of libcufile.so.0 (cuFile API reference guide).
 */
#ifndef ALLSHARD_IO_CUFILE_ABI_H
#define ALLSHARD_IO_CUFILE_ABI_H

#include <stddef.h>

/* CUfileError_t, given back by value. */
typedef struct as_cufile_error {
    int code; /* CUfileOpError: 0, or AS_CUFILE_… */
    int cuda; /* CUresult, where `code` is AS_CUFILE_CUDA_DRIVER_ERROR */
} as_cufile_error;

/* CUfileOpError: X(name, value), without those of functions that are not used. */
#define AS_CUFILE_CODES(X)                                                                         \
    X(DRIVER_NOT_INITIALIZED, 5001)                                                                \
    X(DRIVER_INVALID_PROPS, 5002)                                                                  \
    X(DRIVER_UNSUPPORTED_LIMIT, 5003)                                                              \
    X(DRIVER_VERSION_MISMATCH, 5004)                                                               \
    X(DRIVER_VERSION_READ_ERROR, 5005)                                                             \
    X(DRIVER_CLOSING, 5006)                                                                        \
    X(PLATFORM_NOT_SUPPORTED, 5007)                                                                \
    X(IO_NOT_SUPPORTED, 5008)                                                                      \
    X(DEVICE_NOT_SUPPORTED, 5009)                                                                  \
    X(NVFS_DRIVER_ERROR, 5010)                                                                     \
    X(CUDA_DRIVER_ERROR, 5011)                                                                     \
    X(CUDA_POINTER_INVALID, 5012)                                                                  \
    X(CUDA_MEMORY_TYPE_INVALID, 5013)                                                              \
    X(CUDA_POINTER_RANGE_ERROR, 5014)                                                              \
    X(CUDA_CONTEXT_MISMATCH, 5015)                                                                 \
    X(INVALID_MAPPING_SIZE, 5016)                                                                  \
    X(INVALID_MAPPING_RANGE, 5017)                                                                 \
    X(INVALID_FILE_TYPE, 5018)                                                                     \
    X(INVALID_FILE_OPEN_FLAG, 5019)                                                                \
    X(DIO_NOT_SET, 5020)                                                                           \
    X(INVALID_VALUE, 5022)                                                                         \
    X(MEMORY_ALREADY_REGISTERED, 5023)                                                             \
    X(MEMORY_NOT_REGISTERED, 5024)                                                                 \
    X(PERMISSION_DENIED, 5025)                                                                     \
    X(DRIVER_ALREADY_OPEN, 5026)                                                                   \
    X(HANDLE_NOT_REGISTERED, 5027)                                                                 \
    X(HANDLE_ALREADY_REGISTERED, 5028)                                                             \
    X(DEVICE_NOT_FOUND, 5029)                                                                      \
    X(INTERNAL_ERROR, 5030)                                                                        \
    X(GETNEWFD_FAILED, 5031)                                                                       \
    X(NVFS_SETUP_ERROR, 5033)                                                                      \
    X(IO_DISABLED, 5034)                                                                           \
    X(GPU_MEMORY_PINNING_FAILED, 5036)                                                             \
    X(NOMEM, 5043)                                                                                 \
    X(IO_ERROR, 5044)                                                                              \
    X(INTERNAL_BUF_REGISTER, 5045)

enum {
#define AS_CUFILE_CODE(name, value) AS_CUFILE_##name = (value),
    AS_CUFILE_CODES(AS_CUFILE_CODE)
#undef AS_CUFILE_CODE
};

enum { AS_CUFILE_OPAQUE_FD = 1 }; /* CU_FILE_HANDLE_TYPE_OPAQUE_FD */

/* CUfileDescr_t */
typedef struct as_cufile_descriptor {
    int type;
    union {
        int fd;
        void *handle;
    } file;
    const void *operations; /* of file systems in user space: NULL */
} as_cufile_descriptor;

_Static_assert(sizeof(as_cufile_error) == 8, "CUfileError_t");
_Static_assert(sizeof(as_cufile_descriptor) == 24, "CUfileDescr_t");
_Static_assert(offsetof(as_cufile_descriptor, file) == 8, "CUfileDescr_t");

typedef void *as_cufile_handle; /* CUfileHandle_t */

/* CUfileDrvProps_t, of which the beginning is looked at alone: it grew from version to version, and
 * a library may write more of it than is known here. */
typedef struct as_cufile_properties {
    unsigned nvfs_major; /* both 0: the kernel module nvidia-fs is not there */
    unsigned nvfs_minor;
    char rest[1016];
} as_cufile_properties;

#endif
