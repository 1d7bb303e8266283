/* SPDX-License-Identifier: Apache-2.0
 * What lies in a checkpoint folder, byte for byte: taken once, compared after a crash.
 */
#ifndef ALLSHARD_TESTS_SUPPORT_SNAPSHOT_H
#define ALLSHARD_TESTS_SUPPORT_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct snapshot_file {
    char *name; /* "x/" for a folder, which has no bytes */
    unsigned char *bytes;
    size_t size;
} snapshot_file;

typedef struct snapshot {
    snapshot_file *files; /* by name */
    size_t count;
} snapshot;

#define SNAPSHOT_INIT ((snapshot){0})

/* All that lies in the folder, .allshard/ included, whose content is not looked at. A folder that
 * is not there is an empty one. False if something cannot be read; then errno tells why. */
bool snapshot_take(snapshot *s, const char *folder);

/* The same through the journal of a save that was cut off, as a load sees it. */
bool snapshot_view(snapshot *s, const char *folder);

/* Makes manifests of the same save at different times alike: dashes in place of the time, and of the
 * checksum over it. */
void snapshot_forget_time(snapshot *s);

/* Takes out of manifests what tells how files were written: the engine, and why that one. */
void snapshot_forget_engine(snapshot *s);

bool snapshot_same(const snapshot *a, const snapshot *b);

/* What is different, for messages; static text. */
const char *snapshot_difference(const snapshot *a, const snapshot *b);

/* Writes the files into a folder, which is made; aborts if that fails. */
void snapshot_write(const snapshot *s, const char *folder);

size_t snapshot_bytes(const snapshot *s);

void snapshot_free(snapshot *s);

#endif
