/* SPDX-License-Identifier: Apache-2.0
 * The end of a zip file, which says where its directory lies.
 */
#ifndef ALLSHARD_FORMAT_ZIP_END_H
#define ALLSHARD_FORMAT_ZIP_END_H

#include "format/format.h"

typedef struct as_zip_directory {
    uint64_t begin; /* counted from the start of the file */
    uint64_t size;  /* bytes */
    uint64_t count; /* records, as the end has it */
} as_zip_directory;

/* Reads the end records, plain and zip64. The directory lies inside the file, right before them.
 * AS_FORMAT, AS_LIMIT as as_zip_read. */
int as_zip_read_end(const as_source *source, as_zip_directory *d, as_error *e);

/* "name: not a zip file that can be read safely: reason" */
int as_zip_refuse(const as_source *source, as_error *e, const char *reason);

#endif
