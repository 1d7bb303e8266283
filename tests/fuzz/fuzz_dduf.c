/* SPDX-License-Identifier: Apache-2.0
 * Fuzzes DDUF files. The first byte says which way: read a file, or lay entries out (of lines: the
 * first is the index, the others are names) and read that again, which must then be accepted.
 */
#include "base/crc32.h"
#include "format/dduf.h"
#include "fuzz.h"

enum { MOST = 32 };

static void read_one(const as_source *source, bool good)
{
    as_error e = AS_ERROR_INIT;
    as_zip z;
    int code = as_dduf_read(source, &z, &e);
    if (good && code != AS_OK) {
        (void)fprintf(stderr, "%s\n", as_error_text(&e));
        abort();
    }
    fuzz_end(code, &e);
    if (code == AS_OK) {
        MUST(as_zip_find(&z, AS_DDUF_INDEX) != NULL);
        as_zip_free(&z);
    }
}

static void write_one(char *text)
{
    as_dduf_entry entries[MOST];
    size_t count = 0;
    char *line = strsep(&text, "\n");
    entries[count++] = (as_dduf_entry){.name = AS_DDUF_INDEX,
                                       .name_length = strlen(AS_DDUF_INDEX),
                                       .bytes = line,
                                       .size = strlen(line)};
    while (count < MOST && (line = strsep(&text, "\n"))) {
        entries[count] = (as_dduf_entry){.name = line, .name_length = strlen(line), .size = count};
        count++;
    }
    as_error e = AS_ERROR_INIT;
    as_file_layout l;
    int code = as_dduf_layout(entries, count, AS_ZIP_PYTHON, &l, &e);
    fuzz_end(code, &e);
    if (code != AS_OK) {
        MUST(l.literals == NULL);
        return;
    }
    char *file = calloc(1, l.file_size);
    MUST(file != NULL);
    for (int late = 0; late < 2; late++) {
        for (size_t i = 0; i < l.literal_count; i++) {
            as_literal *x = &l.literals[i];
            if (x->late && late) {
                as_literal_patch(x, as_crc32(0, file + x->sum_of, x->sum_size));
            }
            memcpy(file + x->offset, x->bytes, x->size);
        }
    }
    as_source source = as_source_memory(file, l.file_size, "written");
    read_one(&source, true);
    free(file);
    as_file_layout_free(&l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] == 'W') {
        char *text = fuzz_text(data + 1, size - 1);
        write_one(text);
        free(text);
    } else {
        as_source source = as_source_memory(data, size, "input");
        read_one(&source, false);
    }
    return 0;
}
