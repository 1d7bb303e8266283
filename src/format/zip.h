/* SPDX-License-Identifier: Apache-2.0
 * Numbers of the zip format that its reader and its writer share, from PKWARE's APPNOTE.TXT 6.3.10.
 */
#ifndef ALLSHARD_FORMAT_ZIP_H
#define ALLSHARD_FORMAT_ZIP_H

#include <stddef.h>
#include <stdint.h>

enum {
    AS_ZIP_LOCAL = 0x04034b50,      /* signatures: "PK" and two bytes, little-endian */
    AS_ZIP_DESCRIPTOR = 0x08074b50, /* behind the data of a record */
    AS_ZIP_CENTRAL = 0x02014b50,
    AS_ZIP_END = 0x06054b50,
    AS_ZIP_END_64 = 0x06064b50,
    AS_ZIP_LOCATOR_64 = 0x07064b50,

    AS_ZIP_LOCAL_BYTES = 30, /* the fixed part of each; name and extra fields follow */
    AS_ZIP_CENTRAL_BYTES = 46,
    AS_ZIP_END_BYTES = 22,
    AS_ZIP_END_64_BYTES = 56,
    AS_ZIP_LOCATOR_64_BYTES = 20,
    AS_ZIP_DESCRIPTOR_BYTES = 16,
    AS_ZIP_DESCRIPTOR_64_BYTES = 24,

    AS_ZIP_FLAG_DESCRIPTOR = 0x0008,
    AS_ZIP_FLAG_UTF8 = 0x0800,

    AS_ZIP_EXTRA_64 = 0x0001, /* an extra field: what has no room in 32 bits */
    AS_ZIP_MOST_16 = 0xffff,  /* "see the zip64 field" */
};

#define AS_ZIP_MOST_32 UINT32_C(0xffffffff)

/* Numbers, little-endian, `at` bytes into something that was read. */
static inline uint64_t as_zip_get(const void *bytes, size_t at, int count)
{
    uint64_t value = 0;
    for (int i = count - 1; i >= 0; i--) {
        value = value << 8 | ((const unsigned char *)bytes)[at + (size_t)i];
    }
    return value;
}

static inline uint32_t as_zip_get_16(const void *bytes, size_t at)
{
    return (uint32_t)as_zip_get(bytes, at, 2);
}

static inline uint32_t as_zip_get_32(const void *bytes, size_t at)
{
    return (uint32_t)as_zip_get(bytes, at, 4);
}

static inline uint64_t as_zip_get_64(const void *bytes, size_t at)
{
    return as_zip_get(bytes, at, 8);
}

#endif
