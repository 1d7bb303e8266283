/* SPDX-License-Identifier: Apache-2.0
 * One checkpoint out of the folders that its parts were saved into.
 */
#ifndef ALLSHARD_SERIES_ASSEMBLE_H
#define ALLSHARD_SERIES_ASSEMBLE_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "commit/names.h"
#include "commit/transaction.h"

typedef struct as_assembly {
    size_t parts;             /* staged folders part-0, part-1, … (as_part_folder) */
    const char *name;         /* that the staged folder gets in the end */
    const json_t *checkpoint; /* for the manifest */
    const as_names *tags;     /* none: no file of tags */
    mode_t mode;              /* of manifest and tags; as in as_file_create */
    const as_tick *tick;      /* called between steps */
} as_assembly;

enum { AS_PART_FOLDER_SIZE = 24 };

/* "part-<number>" */
void as_part_folder(size_t number, char out[AS_PART_FOLDER_SIZE]);

/* Moves the files of all parts into the folder of the first, which gets the manifest of all and its
 * name, all of it synced; the commit makes the name durable. AS_INVALID: two parts have a file of one
 * name (small files that are the same in all of them may be), or one has a file that is the series'
 * own. After a failure staging holds anything. Main process, any thread. */
int as_assemble(const as_assembly *a, as_txn *t, as_error *e);

#endif
