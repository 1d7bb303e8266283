/* SPDX-License-Identifier: Apache-2.0
 * The rows of `allshard info`: what there is, or the reason why not. A row is printed at once, and
 * kept for --json. Rank 0 alone adds rows; those that ask the others say so.
 */
#ifndef ALLSHARD_CLI_INFO_H
#define ALLSHARD_CLI_INFO_H

#include <jansson.h>
#include <stdbool.h>

#include "cli/command.h"
#include "io/probe.h"

typedef struct as_info {
    as_tool *tool;
    const char *folder;      /* whose storage is asked about */
    bool cuda;               /* CUDA may be initialised */
    as_engine_choice chosen; /* by `auto` there */
    as_engine_choice direct; /* O_DIRECT there */
} as_info;

enum as_info_state {
    AS_INFO_NO,
    AS_INFO_YES,
    AS_INFO_UNKNOWN /* it was not tried */
};

/* A row, of which --json has {"works": true, false or null, "text": …} and the members of `more`
 * under `name`. `more`, which is taken over, is json_object() for none; NULL: there was no memory for it. */
void as_info_row(const as_info *i, const char *name, enum as_info_state state, json_t *more,
                 const char *format, ...) __attribute__((format(printf, 5, 6)));

/* A further line of the row before, in the text alone. */
void as_info_line(const as_info *i, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "mpi" and "sharing": the library, and whether ranks of a node reach each other's memory, which
 * several ranks try. Collective. */
int as_info_mpi(const as_info *i, as_error *e);

/* Tries the folder, before any row. AS_NOT_FOUND, AS_SYSTEM. */
int as_info_try_folder(as_info *i, as_error *e);

/* "storage", "posix", "direct", "uring": how bytes get to the folder. */
void as_info_storage(const as_info *i);

/* "cuda", "cufile", "kernel": devices, files without the host between, and the kernel. */
void as_info_cuda(const as_info *i);

/* "hdf5": other formats. */
void as_info_formats(const as_info *i);

/* "limits": of the library, the process and the machine. */
void as_info_limits(const as_info *i);

#endif
