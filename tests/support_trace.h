/* SPDX-License-Identifier: Apache-2.0
 * Records what reaches the disk through as_sys_table, on all ranks in one order: the bytes of every
 * write, sizes, names that come and go, and fsyncs. support_crash.h makes of it what a power cut
 * could leave.
 */
#ifndef ALLSHARD_TESTS_SUPPORT_TRACE_H
#define ALLSHARD_TESTS_SUPPORT_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum trace_kind {
    TRACE_NOTHING, /* was taken back */
    TRACE_CREATE,  /* a file `inode` under `name` in `folder` */
    TRACE_MKDIR,   /* a folder */
    TRACE_LINK,    /* another name of `inode` */
    TRACE_RENAME,  /* `inode` from `from` in `from_folder` to `name` in `folder` */
    TRACE_UNLINK,  /* `name` in `folder` goes; it was `inode` */
    TRACE_WRITE,   /* `bytes` at `offset` of `inode` */
    TRACE_GROW,    /* `inode` has at least offset + count bytes */
    TRACE_SIZE,    /* `inode` has `count` bytes */
    TRACE_FSYNC,   /* of a file or folder */
    TRACE_TOLD     /* this rank has learned that the save is good */
};

enum { TRACE_NAME = 128 };

typedef struct trace_event {
    uint64_t start; /* places in the one order of all ranks; events overlap if these do */
    uint64_t end;
    int kind;
    uint64_t inode; /* numbers come again after a file is gone: then they mean the newer file */
    uint64_t folder;
    uint64_t from_folder;
    int64_t offset;
    int64_t count; /* of `bytes` too, in a TRACE_WRITE */
    char name[TRACE_NAME];
    char from[TRACE_NAME];
    unsigned char *bytes;
} trace_event;

typedef struct trace_log {
    trace_event *events;
    size_t count;
} trace_log;

#define TRACE_LOG_INIT ((trace_log){0})

/* Begins to record everything on the file system that `folder` lies on. `counter` is a small
 * file that all ranks share, or NULL: then this process counts alone. Must not be called while
 * threads of an engine run. A call that cannot be told in these events aborts. */
void trace_begin(const char *folder, const char *counter);
void trace_told(void);
void trace_end(trace_log *out); /* in the order of `start` */

/* What is there already, as events of time 0: the folder's tree, and the number of the folder. */
void trace_tree(trace_log *log, const char *folder, uint64_t *inode);

/* To and from a file; loading adds to the log and puts it in order. Abort on failure. */
void trace_write(const trace_log *log, const char *path);
void trace_read(trace_log *log, const char *path);

void trace_free(trace_log *log);

#endif
