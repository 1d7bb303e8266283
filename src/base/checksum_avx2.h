/* SPDX-License-Identifier: Apache-2.0
 * XXH3 for processors with AVX2, three times as fast as the library that distributions
 * build for every processor. The sums are the same. Only checksum.c calls this, after it has
 * asked the processor.
 */
#ifndef ALLSHARD_BASE_CHECKSUM_AVX2_H
#define ALLSHARD_BASE_CHECKSUM_AVX2_H

#include "base/checksum.h"

/* As the functions without _avx2. A stream is used with these alone. */
uint64_t as_checksum_avx2(const void *bytes, size_t count);
int as_checksum_avx2_open(as_checksum_stream **out, as_error *e);
void as_checksum_avx2_begin(as_checksum_stream *s);
void as_checksum_avx2_add(as_checksum_stream *s, const void *bytes, size_t count);
uint64_t as_checksum_avx2_end(const as_checksum_stream *s);
void as_checksum_avx2_close(as_checksum_stream *s);

#endif
