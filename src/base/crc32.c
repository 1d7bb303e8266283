/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crc32.h"

#include <zlib.h>

uint32_t as_crc32(uint32_t crc, const void *bytes, size_t count)
{
    /* For zlib a NULL asks for the value to begin with. */
    return count == 0 ? crc : (uint32_t)crc32_z(crc, bytes, count);
}

uint32_t as_crc32_join(uint32_t first, uint32_t second, uint64_t count)
{
    return (uint32_t)crc32_combine(first, second, (z_off_t)count);
}
