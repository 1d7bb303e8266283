/* SPDX-License-Identifier: Apache-2.0
 * What is known about file systems: their names, and which of them are worth O_DIRECT, and why.
 */
#ifndef ALLSHARD_IO_FILESYSTEMS_H
#define ALLSHARD_IO_FILESYSTEMS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct as_file_system {
    uint64_t magic; /* statfs.f_type */
    const char *name;
    bool in_memory;       /* its files are memory: nothing in it is durable */
    bool direct;          /* O_DIRECT, if a trial shows that it works; else the page cache */
    int64_t offset_align; /* the least that is worth it, bytes; 0: as the kernel tells */
    const char *why;      /* for people; begins in lower case */
} as_file_system;

/* Never NULL: what is not in the table gets a row of its own, where the trial decides. */
const as_file_system *as_file_system_by_magic(uint64_t magic);

#endif
