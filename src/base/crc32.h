/* SPDX-License-Identifier: Apache-2.0
 * The CRC-32 of zip files (zlib's: polynomial 0xedb88320, reflected), which, unlike the checksum of
 * blocks, can be put together of the sums of parts that several ranks hold.
 */
#ifndef ALLSHARD_BASE_CRC32_H
#define ALLSHARD_BASE_CRC32_H

#include <stddef.h>
#include <stdint.h>

/* The sum of the bytes that `crc` stands for with these behind them; begin with 0. */
uint32_t as_crc32(uint32_t crc, const void *bytes, size_t count);

/* The sum of two runs of bytes, one behind the other, of their own sums; the second has `count`
 * bytes, fewer than 2^63. */
uint32_t as_crc32_join(uint32_t first, uint32_t second, uint64_t count);

#endif
