/* SPDX-License-Identifier: Apache-2.0
 * Fuzzes the reader of zip files: the input is a whole file. The records of what is accepted lie in
 * the file without overlap, under safe names.
 */
#include "format/zip_read.h"
#include "fuzz.h"

static void check_entry(const as_zip *z, size_t i, uint64_t file_size)
{
    const as_zip_entry *x = as_zip_entry_at(z, i);
    const char *name = as_zip_name(z, i);
    MUST(x->header < x->begin && x->begin <= x->end && x->end <= file_size);
    MUST(strlen(name) == x->name_length && x->name_length > 0);
    MUST(as_utf8_valid(name, x->name_length));
    MUST(name[0] != '/' && name[x->name_length - 1] != '/' && !strchr(name, '\\'));
    MUST(strcmp(name, "..") != 0 && strncmp(name, "../", 3) != 0 && !strstr(name, "/../"));
    MUST(as_zip_find(z, name) == x);
    for (size_t k = 0; k < as_zip_count(z) && k < 64; k++) {
        const as_zip_entry *y = as_zip_entry_at(z, k);
        MUST(k == i || x->end <= y->header || y->end <= x->header);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    as_source source = as_source_memory(data, size, "input");
    as_error e = AS_ERROR_INIT;
    as_zip z;
    int code = as_zip_read(&source, &z, &e);
    fuzz_end(code, &e);
    for (size_t i = 0; code == AS_OK && i < as_zip_count(&z); i++) {
        check_entry(&z, i, size);
        as_buffer payload = AS_BUFFER_INIT;
        int got = as_zip_payload(&source, &z, as_zip_entry_at(&z, i), 4096, &payload, &e);
        MUST(got == AS_OK || got == AS_CORRUPT || got == AS_LIMIT);
        fuzz_end(got, &e);
        as_buffer_free(&payload);
    }
    if (code == AS_OK) {
        as_zip_free(&z);
    } else {
        MUST(z.entries.data == NULL && z.names.data == NULL);
    }
    return 0;
}
