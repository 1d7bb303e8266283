/* SPDX-License-Identifier: Apache-2.0
 * Journals and manifests carry a checksum, which no fuzzer guesses: this puts the right one in.
 */
#ifndef ALLSHARD_TESTS_FUZZ_SEALED_H
#define ALLSHARD_TESTS_FUZZ_SEALED_H

#include <jansson.h>

#include "commit/seal.h"
#include "fuzz.h"

/* The object in `data` with its checksum; false if it is no object that can have one. */
static inline bool fuzz_seal(const uint8_t *data, size_t size, as_buffer *out)
{
    json_error_t fault;
    json_t *object = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, &fault);
    bool good = json_is_object(object) && as_seal(object, out, NULL) == AS_OK;
    json_decref(object);
    return good;
}

/* Hands `data` on, with its checksum put right if it can have one. */
static inline void fuzz_sealed(const uint8_t *data, size_t size,
                               void (*read_one)(const char *data, size_t size))
{
    as_buffer sealed = AS_BUFFER_INIT;
    if (fuzz_seal(data, size, &sealed)) {
        read_one(sealed.data, sealed.size);
    } else {
        read_one((const char *)data, size);
    }
    as_buffer_free(&sealed);
}

#endif
