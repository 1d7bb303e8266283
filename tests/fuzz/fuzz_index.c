/* SPDX-License-Identifier: Apache-2.0
 * Fuzzes the reader of model.safetensors.index.json. No file name that it lets through may lead
 * out of the folder; what our writer makes of it is read as the same.
 */
#include "format/index.h"
#include "fuzz.h"

static const char extension[] = ".safetensors";

/* By POSIX's rules and by Windows': neither rooted nor upwards, and no device. */
static void check_file(const char *name)
{
    size_t length = strlen(name);
    MUST(length >= sizeof extension - 1);
    MUST(strcmp(name + length - (sizeof extension - 1), extension) == 0);
    MUST(name[0] != '/' && name[0] != '\\' && name[1] != ':');
    for (const char *part = name; part; part = strpbrk(part, "/\\")) {
        part += part > name || *part == '/' || *part == '\\';
        size_t end = strcspn(part, "/\\");
        MUST(!(end == 2 && part[0] == '.' && part[1] == '.'));
    }
    as_error e = AS_ERROR_INIT;
    MUST(as_index_check_file(name, length, extension, &e) == AS_OK);
}

static bool writable(const as_index *x)
{
    for (size_t i = 0; i < as_index_count(x); i++) {
        const as_index_entry *entry = as_index_entry_at(x, i);
        const char *file = as_index_file(x, entry->file);
        if (!as_utf8_valid(as_index_name(x, i), entry->name_length) ||
            !as_utf8_valid(file, strlen(file))) {
            return false;
        }
    }
    for (size_t i = 0; i < x->metadata.count; i++) {
        const as_pair *p = &x->metadata.items[i];
        if (!as_utf8_valid(p->key, p->key_length) || !as_utf8_valid(p->value, p->value_length)) {
            return false;
        }
    }
    return true;
}

static void compare(const as_index *x, const as_index *y)
{
    MUST(as_index_count(x) == as_index_count(y));
    MUST(as_index_file_count(x) == as_index_file_count(y));
    for (size_t i = 0; i < as_index_count(x); i++) {
        const as_index_entry *a = as_index_entry_at(x, i);
        const as_index_entry *b = as_index_entry_at(y, i);
        MUST(a->name_length == b->name_length && a->file == b->file);
        MUST(memcmp(as_index_name(x, i), as_index_name(y, i), a->name_length) == 0);
    }
    for (size_t i = 0; i < as_index_file_count(x); i++) {
        MUST(strcmp(as_index_file(x, i), as_index_file(y, i)) == 0);
    }
}

static void write_again(const as_index *x)
{
    as_error e = AS_ERROR_INIT;
    as_buffer b = AS_BUFFER_INIT;
    int code = as_index_write_begin(&b, x->total_size, &x->metadata, &e);
    for (size_t i = 0; code == AS_OK && i < as_index_count(x); i++) {
        const as_index_entry *entry = as_index_entry_at(x, i);
        code = as_index_write_line(&b, i == 0, as_index_name(x, i), entry->name_length,
                                   as_index_file(x, entry->file), &e);
    }
    code = code == AS_OK ? as_index_write_end(&b, as_index_count(x) == 0, &e) : code;
    MUST(code == (writable(x) ? AS_OK : AS_INVALID));
    fuzz_end(code, &e);
    if (code == AS_OK) {
        as_source source = as_source_memory(b.data, b.size, "written");
        as_index again;
        MUST(as_index_read(&source, extension, &again, NULL, &e) == AS_OK);
        compare(x, &again);
        as_index_free(&again);
    }
    as_buffer_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    as_source source = as_source_memory(data, size, "input");
    as_error e = AS_ERROR_INIT;
    as_index x;
    int code = as_index_read(&source, extension, &x, NULL, &e);
    if (code == AS_OK) {
        for (size_t i = 0; i < as_index_count(&x); i++) {
            MUST(as_index_entry_at(&x, i)->file < as_index_file_count(&x));
            MUST(as_index_name(&x, i)[as_index_entry_at(&x, i)->name_length] == '\0');
        }
        for (size_t i = 0; i < as_index_file_count(&x); i++) {
            check_file(as_index_file(&x, i));
        }
        write_again(&x);
        as_index_free(&x);
    }
    fuzz_end(code, &e);
    return 0;
}
