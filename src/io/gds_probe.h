/* SPDX-License-Identifier: Apache-2.0
 * Can files be written from, and read into, the memory of a device with nothing in between
 * (GPUDirect Storage)? Tried step by step, since cuFile fails late and in many ways: no driver
 * in a container, no udev, a file system that it does not know.
 */
#ifndef ALLSHARD_IO_GDS_PROBE_H
#define ALLSHARD_IO_GDS_PROBE_H

#include "io/cufile_library.h"

enum as_gds_wish {
    AS_GDS_OFF,  /* another engine was asked for */
    AS_GDS_AUTO, /* if it is likely to be faster: with the kernel module nvidia-fs */
    AS_GDS_ASKED /* wherever it works, in cuFile's compatibility mode too */
};

typedef struct as_gds_question {
    enum as_gds_wish wish;
    const as_cuda *cuda;
    as_cu_context context;
    as_cu_device device;
    /* Where files are to be written: a small file is made there, and removed. NULL: they are only to
     * be read. Borrowed. */
    const char *folder;
} as_gds_question;

typedef struct as_gds_answer {
    const as_cufile *cufile; /* NULL: it does not work */
    bool compatible;         /* without nvidia-fs: by cuFile's own copies */
    char reason[200];        /* one line for people: the first step that failed, or what works */
} as_gds_answer;

/* The current context is left as it was. Refusals are no errors. */
void as_gds_probe(const as_gds_question *q, as_gds_answer *a);

#endif
