/* SPDX-License-Identifier: Apache-2.0
 * Memory that other processes of the node can map: a file of memory (memfd_create), not one in
 * /dev/shm, which containers limit to 64 MB. Others open it as /proc/PID/fd/N. Under a PID of
 * another namespace there may be any file: its name has a number that nobody else has drawn.
 */
#ifndef ALLSHARD_IO_MEMORY_FILE_H
#define ALLSHARD_IO_MEMORY_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { AS_MEMORY_FILE_TOKEN = 2 };

/* What a process has to know of it to open it; may be sent as it is. */
typedef struct as_memory_file {
    int64_t pid;
    int64_t fd; /* of that process; −1: none */
    int64_t bytes;
    uint64_t token[AS_MEMORY_FILE_TOKEN];
} as_memory_file;

/* Of that size, without any page; f->fd is −1 if there can be none: without memfd_create, or where a
 * limit (RLIMIT_FSIZE) would end the program by a signal. */
void as_memory_file_make(as_memory_file *f, size_t bytes);

/* Has all pages that it lacks, and keeps it from getting smaller: no access ends in SIGBUS then.
 * false: it has not got them, or can be made smaller; then it is to be closed. */
bool as_memory_file_fill(const as_memory_file *f);

/* A descriptor of another process's filled file; −1 if it is not to be had. */
int as_memory_file_open(const as_memory_file *f);

/* What is mapped stays. Nothing happens if there is none. */
void as_memory_file_close(as_memory_file *f);

#endif
