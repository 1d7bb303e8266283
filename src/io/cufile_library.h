/* SPDX-License-Identifier: Apache-2.0
 * cuFile's functions, looked up in the running program: one binary for every machine.
 *
 * The library is loaded by the first call of as_cufile_library, and stays: programs that have no
 * device memory to save never load it. Its driver is not closed when the process ends either, since
 * CUDA may be gone by then.
 */
#ifndef ALLSHARD_IO_CUFILE_LIBRARY_H
#define ALLSHARD_IO_CUFILE_LIBRARY_H

#include <sys/types.h>

#include "base/error.h"
#include "device/cuda_library.h"
#include "io/cufile_abi.h"

/* X(member, result, "symbol", (parameters)). Those that give a ssize_t: −1, and errno is set; else
 * negative: −AS_CUFILE_…; may be short. Offsets in a buffer count from its registered base. From any
 * thread, with a CUDA context that is current. */
#define AS_CUFILE_FUNCTIONS(X)                                                                     \
    X(driver_open, as_cufile_error, "cuFileDriverOpen", (void))                                    \
    X(driver_properties, as_cufile_error, "cuFileDriverGetProperties",                             \
      (as_cufile_properties * properties))                                                         \
    X(handle_register, as_cufile_error, "cuFileHandleRegister",                                    \
      (as_cufile_handle * handle, as_cufile_descriptor * descriptor))                              \
    X(handle_deregister, void, "cuFileHandleDeregister", (as_cufile_handle handle))                \
    X(buffer_register, as_cufile_error, "cuFileBufRegister",                                       \
      (const void *base, size_t bytes, int flags))                                                 \
    X(buffer_deregister, as_cufile_error, "cuFileBufDeregister", (const void *base))               \
    X(write, ssize_t, "cuFileWrite",                                                               \
      (as_cufile_handle handle, const void *base, size_t bytes, off_t file_offset,                 \
       off_t buffer_offset))                                                                       \
    X(read, ssize_t, "cuFileRead",                                                                 \
      (as_cufile_handle handle, void *base, size_t bytes, off_t file_offset, off_t buffer_offset))

typedef struct as_cufile {
    /* NOLINTBEGIN(bugprone-macro-parentheses): declarations */
#define AS_CUFILE_MEMBER(member, result, symbol, parameters) result(*member) parameters;
    AS_CUFILE_FUNCTIONS(AS_CUFILE_MEMBER)
#undef AS_CUFILE_MEMBER
    /* NOLINTEND(bugprone-macro-parentheses) */
    /* Under its newest name, cuFileDriverClose_v2 or cuFileDriverClose: for tools that try whether the
     * driver opens, before any buffer is registered. NULL where there is none. */
    as_cufile_error (*driver_close)(void);
} as_cufile;

/* The functions, the same table for the whole process; NULL: there is no cuFile here, and *reason, as
 * long as the process, tells why. The environment variable ALLSHARD_CUFILE, if it is set, is the file
 * of the library, or "off"; else it is libcufile.so.0 or libcufile.so. From any thread. */
const as_cufile *as_cufile_library(const char **reason);

/* "CU_FILE_NVFS_DRIVER_ERROR"; NULL for a number that is no known code. */
const char *as_cufile_name(int code);

enum { AS_CUFILE_TEXT = 120 };

/* What went wrong, in `text`: "cuFileBufRegister: CU_FILE_CUDA_DRIVER_ERROR (5011; CUDA_ERROR_… 2)".
 * `cuda` NULL: its errors have no names. Returns text. */
const char *as_cufile_explain(char text[AS_CUFILE_TEXT], const as_cuda *cuda, const char *call,
                              as_cufile_error result);

/* Fails with that and what it was for (printf): "cuFileBufRegister: CU_FILE_NOMEM (5043): 4194304
 * bytes of cuda:0". AS_NOMEM for NOMEM and CUDA's own lack of memory, AS_SYSTEM for IO_ERROR, else
 * AS_CUDA. Returns the code. */
int as_cufile_fail(as_error *e, const as_cuda *cuda, const char *call, as_cufile_error result,
                   const char *format, ...) __attribute__((format(printf, 5, 6)));

#endif
