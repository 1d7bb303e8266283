/* SPDX-License-Identifier: Apache-2.0
 * The checksum of blocks: XXH3 with 64 bits and no seed.
 */
#ifndef ALLSHARD_BASE_CHECKSUM_H
#define ALLSHARD_BASE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* As manifests name it. */
#define AS_CHECKSUM_NAME "xxh3-64"
#define AS_CHECKSUM_NONE "none"

uint64_t as_checksum(const void *bytes, size_t count);

/* The same over bytes that come one after the other. */
typedef struct as_checksum_stream as_checksum_stream;

int as_checksum_open(as_checksum_stream **out, as_error *e);
void as_checksum_begin(as_checksum_stream *s);
void as_checksum_add(as_checksum_stream *s, const void *bytes, size_t count);
uint64_t as_checksum_end(const as_checksum_stream *s);
void as_checksum_close(as_checksum_stream *s); /* NULL is allowed */

#endif
