/* SPDX-License-Identifier: Apache-2.0
 * The other end of parity_reader.py: takes requests from stdin, one a line, and
 * answers each with one line. Strings and file contents travel as hexadecimal, "-" being empty.
 *
 *   st FILE            verdict of the safetensors reader; if OK also name,dtype,shape,begin,end
 *   size TEXT          the size in bytes, or "refused"
 *   file NAME          "OK" or "refused": may an index name this file?
 *   index FILE         "refused", or the weight_map as name:file pairs
 *   dump TOTAL PAIRS.. : NAME FILE ..     bytes of an index (pairs, a colon, lines)
 *   layout PAIRS.. : NAME DTYPE DIMS ..   header of a file; PAIRS may be "none"; DIMS as 2,3 or -
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "format/index.h"
#include "format/safetensors.h"
#include "tensor/dtype.h"

static void *need(void *memory)
{
    if (!memory) {
        (void)fputs("out of memory\n", stderr);
        exit(3);
    }
    return memory;
}

static unsigned digit(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
}

/* Hexadecimal → bytes, in place, NUL behind them. Returns their number. */
static size_t decode(char *text)
{
    if (strcmp(text, "-") == 0) {
        *text = '\0';
        return 0;
    }
    size_t count = strlen(text) / 2;
    for (size_t i = 0; i < count; i++) {
        text[i] = (char)(digit(text[2 * i]) << 4 | digit(text[2 * i + 1]));
    }
    text[count] = '\0';
    return count;
}

static void print_hex(const char *bytes, size_t count)
{
    if (count == 0) {
        (void)putchar('-');
    }
    for (size_t i = 0; i < count; i++) {
        (void)printf("%02x", (unsigned char)bytes[i]);
    }
}

static char *word(void)
{
    return strtok(NULL, " \n");
}

static void answer_st(void)
{
    char *file = word();
    size_t size = decode(file);
    as_source source = as_source_memory(file, size, "file");
    as_table t;
    as_error e = AS_ERROR_INIT;
    int verdict;
    (void)as_safetensors_read(&source, &t, NULL, &verdict, &e);
    (void)printf("%s", as_safetensors_verdict_name(verdict));
    for (size_t i = 0; verdict == AS_SAFETENSORS_OK && i < as_table_count(&t); i++) {
        const as_entry *x = as_table_entry(&t, i);
        (void)putchar(' ');
        print_hex(as_table_name(&t, i), x->name_length);
        (void)printf(",%s,[", as_dtype_name(x->dtype));
        for (uint32_t d = 0; d < x->ndim; d++) {
            (void)printf("%s%" PRIu64, d ? "," : "", as_table_shape(&t, i)[d]);
        }
        (void)printf("],%" PRIu64 ",%" PRIu64, x->begin, x->end);
    }
    as_table_free(&t);
    as_error_clear(&e);
}

static void answer_size(void)
{
    char *text = word();
    (void)decode(text);
    int64_t bytes;
    as_error e = AS_ERROR_INIT;
    if (as_size_parse(text, &bytes, &e) == AS_OK) {
        (void)printf("%" PRId64, bytes);
    } else {
        (void)printf("refused");
    }
    as_error_clear(&e);
}

static void answer_file(void)
{
    char *name = word();
    size_t length = decode(name);
    (void)printf(
        "%s", as_index_check_file(name, length, ".safetensors", NULL) == AS_OK ? "OK" : "refused");
}

static void answer_index(void)
{
    char *file = word();
    size_t size = decode(file);
    as_source source = as_source_memory(file, size, "index");
    as_index x;
    as_error e = AS_ERROR_INIT;
    if (as_index_read(&source, ".safetensors", &x, NULL, &e) == AS_OK) {
        (void)printf("OK");
        for (size_t i = 0; i < as_index_count(&x); i++) {
            const as_index_entry *entry = as_index_entry_at(&x, i);
            const char *name = as_index_file(&x, entry->file);
            (void)putchar(' ');
            print_hex(as_index_name(&x, i), entry->name_length);
            (void)putchar(':');
            print_hex(name, strlen(name));
        }
        as_index_free(&x);
    } else {
        (void)printf("refused");
    }
    as_error_clear(&e);
}

/* Pairs up to ":". False if the list is "none". */
static int read_pairs(as_pairs *pairs)
{
    int some = 1;
    for (char *key = word(); key && strcmp(key, ":") != 0; key = word()) {
        if (strcmp(key, "none") == 0) {
            some = 0;
            continue;
        }
        char *value = word();
        size_t key_length = decode(key);
        size_t value_length = decode(value);
        (void)as_pairs_set(pairs, key, key_length, value, value_length, NULL);
    }
    return some;
}

static void answer_dump(void)
{
    int64_t total = strtoll(word(), NULL, 10);
    as_pairs pairs = AS_PAIRS_INIT;
    as_buffer b = AS_BUFFER_INIT;
    (void)read_pairs(&pairs);
    (void)as_index_write_begin(&b, total, &pairs, NULL);
    bool first = true;
    for (char *name = word(); name; name = word()) {
        char *file = word();
        size_t length = decode(name);
        (void)decode(file);
        (void)as_index_write_line(&b, first, name, length, file, NULL);
        first = false;
    }
    (void)as_index_write_end(&b, first, NULL);
    print_hex(b.data, b.size);
    as_buffer_free(&b);
    as_pairs_free(&pairs);
}

/* "2,3" → dimensions; returns their number. */
static int read_shape(const char *text, uint64_t *shape)
{
    int ndim = 0;
    while (*text && *text != '-') {
        char *end;
        shape[ndim++] = strtoull(text, &end, 10);
        text = end + (*end == ',');
    }
    return ndim;
}

static void answer_layout(void)
{
    enum { MOST = 64, DIMS = 16 };
    static uint64_t shapes[MOST][DIMS];
    as_format_tensor tensors[MOST];
    size_t count = 0;
    as_pairs pairs = AS_PAIRS_INIT;
    int has_pairs = read_pairs(&pairs);
    for (char *name = word(); name && count < MOST; name = word(), count++) {
        const char *dtype = word();
        as_format_tensor *t = &tensors[count];
        *t = (as_format_tensor){.name = name, .name_length = decode(name), .shape = shapes[count]};
        t->dtype = as_dtype_from_name(dtype, strlen(dtype));
        t->ndim = read_shape(word(), shapes[count]);
        uint64_t numel;
        bool whole;
        if (!as_shape_numel(t->shape, t->ndim, &numel) ||
            !as_dtype_bytes(t->dtype, numel, &t->bytes, &whole)) {
            t->bytes = 0;
        }
    }
    as_file_layout layout;
    as_error e = AS_ERROR_INIT;
    if (as_safetensors_layout(tensors, count, has_pairs ? &pairs : NULL, 0, &layout, &e) == AS_OK) {
        print_hex(layout.literals[0].bytes, layout.literals[0].size);
        as_file_layout_free(&layout);
    } else {
        (void)printf("refused");
    }
    as_error_clear(&e);
    as_pairs_free(&pairs);
}

static const struct {
    const char *name;
    void (*answer)(void);
} requests[] = {{"st", answer_st},       {"size", answer_size}, {"file", answer_file},
                {"index", answer_index}, {"dump", answer_dump}, {"layout", answer_layout}};

int main(void)
{
    char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, stdin) > 0) {
        const char *request = need(strtok(line, " \n"));
        for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
            if (strcmp(request, requests[i].name) == 0) {
                requests[i].answer();
            }
        }
        (void)putchar('\n');
    }
    free(line);
    return 0;
}
