/* SPDX-License-Identifier: Apache-2.0
 * Drives the formats that are zip files for parity_torch.py and parity_dduf.py.
 *
 *   tool_archive torch FILE ARCHIVE VERSION KIND < SPEC     lays out and writes a file of torch
 *   tool_archive dduf FILE STYLE < SPEC                     the same for DDUF
 *   tool_archive read FILE                                  prints the table of a file of torch
 *   tool_archive entries FILE                               prints the entries of a DDUF file
 *
 * Lines of a spec of torch: "S bytes" is a storage; "M version name" a module, with KIND ordered;
 * "T dtype storage first flags shape strides name" a tensor (lists with commas, "-" for empty, "="
 * for C order; flags: p parameter, g gradient). Byte i of storage k is i * 7 + k * 13 + 1. Lines of
 * one of DDUF: "B content name", "R bytes name" (bytes that come later, the same way). Names are
 * the rest of the line. With "sparse" in place of FILE's data ("-FILE") nothing but the literals is
 * written.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crc32.h"
#include "format/dduf.h"
#include "format/torch.h"
#include "tensor/dtype.h"

enum { MOST = 4096, MOST_DIMS = 8, PIECE = 1 << 16 };

static _Noreturn void stop(const char *text)
{
    (void)fprintf(stderr, "%s\n", text);
    exit(1);
}

static void must(int code, const as_error *e)
{
    if (code != AS_OK) {
        printf("%s\n%s\n", as_code_name(code), e ? as_error_text(e) : "");
        exit(3);
    }
}

/* The next word of a line, which moves on. */
static char *word(char **line)
{
    char *w = strsep(line, " ");
    if (!w) {
        stop("a line of the spec is too short");
    }
    return w;
}

static uint64_t whole(const char *text)
{
    return strtoull(text, NULL, 10);
}

static void write_at(int fd, const void *bytes, size_t size, uint64_t offset)
{
    if (pwrite(fd, bytes, size, (off_t)offset) != (ssize_t)size) {
        stop(strerror(errno));
    }
}

static void write_storage(int fd, size_t number, uint64_t offset, uint64_t size)
{
    unsigned char piece[PIECE];
    for (uint64_t at = 0; at < size; at += PIECE) {
        size_t count = size - at < PIECE ? (size_t)(size - at) : PIECE;
        for (size_t i = 0; i < count; i++) {
            piece[i] = (unsigned char)((at + i) * 7 + number * 13 + 1);
        }
        write_at(fd, piece, count, offset + at);
    }
}

/* Sums a range of the file in pieces, as ranks would, and joins them. */
static uint32_t sum_range(int fd, uint64_t offset, uint64_t size)
{
    unsigned char piece[PIECE];
    uint32_t sum = 0;
    for (uint64_t at = 0; at < size; at += PIECE) {
        size_t count = size - at < PIECE ? (size_t)(size - at) : PIECE;
        if (pread(fd, piece, count, (off_t)(offset + at)) != (ssize_t)count) {
            stop("cannot read back");
        }
        sum = as_crc32_join(sum, as_crc32(0, piece, count), count);
    }
    return sum;
}

static int open_file(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0666);
    if (fd < 0) {
        stop(strerror(errno));
    }
    return fd;
}

static void write_layout(int fd, as_file_layout *l, bool sparse)
{
    for (int late = 0; late < 2; late++) {
        for (size_t i = 0; i < l->literal_count; i++) {
            as_literal *x = &l->literals[i];
            if (x->late && late && !sparse) {
                as_literal_patch(x, sum_range(fd, x->sum_of, x->sum_size));
            }
            if (x->late == (late == 1)) {
                write_at(fd, x->bytes, x->size, x->offset);
            }
        }
    }
    if (ftruncate(fd, (off_t)l->file_size) != 0) {
        stop(strerror(errno));
    }
    (void)close(fd);
}

static int numbers(char *text, uint64_t *out)
{
    int count = 0;
    while (text && strcmp(text, "-") != 0 && count < MOST_DIMS) {
        out[count++] = whole(strsep(&text, ","));
    }
    return count;
}

typedef struct spec {
    as_torch_tensor tensors[MOST];
    uint64_t shapes[MOST][MOST_DIMS], strides[MOST][MOST_DIMS];
    as_torch_storage storages[MOST];
    as_torch_module modules[MOST];
    as_dduf_entry entries[MOST];
    size_t count, storage_count, module_count, entry_count;
} spec;

static spec given;

static void take_tensor(char *line)
{
    size_t i = given.count++;
    as_torch_tensor *t = &given.tensors[i];
    const char *dtype = word(&line);
    t->dtype = as_dtype_from_name(dtype, strlen(dtype));
    t->storage = (size_t)whole(word(&line));
    t->first = whole(word(&line));
    const char *flags = word(&line);
    t->parameter = strchr(flags, 'p') != NULL;
    t->needs_grad = strchr(flags, 'g') != NULL;
    t->shape = given.shapes[i];
    t->ndim = numbers(word(&line), given.shapes[i]);
    char *strides = word(&line);
    if (strcmp(strides, "=") != 0) {
        (void)numbers(strides, given.strides[i]);
        t->strides = given.strides[i];
    }
    t->name = line ? line : "";
    t->name_length = strlen(t->name);
}

static void take_line(char *line)
{
    const char *kind = word(&line);
    if (given.count == MOST || given.storage_count == MOST || given.module_count == MOST ||
        given.entry_count == MOST) {
        stop("the spec is too long");
    }
    if (kind[0] == 'T') {
        take_tensor(line);
    } else if (kind[0] == 'S') {
        given.storages[given.storage_count++].bytes = whole(word(&line));
    } else if (kind[0] == 'M') {
        as_torch_module *m = &given.modules[given.module_count++];
        m->version = (int64_t)whole(word(&line));
        m->name = line ? line : "";
        m->name_length = strlen(m->name);
    } else {
        as_dduf_entry *x = &given.entries[given.entry_count++];
        const char *content = word(&line);
        x->bytes = kind[0] == 'B' ? content : NULL;
        x->size = kind[0] == 'B' ? strlen(content) : whole(content);
        x->name = line ? line : "";
        x->name_length = strlen(x->name);
    }
}

/* Names are borrowed from it until the end. */
static as_buffer spec_text;

static void take_spec(void)
{
    char piece[PIECE];
    size_t count;
    while ((count = fread(piece, 1, sizeof piece, stdin)) > 0) {
        must(as_buffer_append(&spec_text, piece, count, NULL), NULL);
    }
    must(as_buffer_char(&spec_text, '\0', NULL), NULL);
    char *rest = spec_text.data;
    for (char *line; (line = strsep(&rest, "\n"));) {
        if (line[0] != '\0') {
            take_line(line);
        }
    }
}

static int write_torch(char **argv)
{
    bool sparse = argv[2][0] == '-';
    as_error e = AS_ERROR_INIT;
    as_file_layout l;
    bool ordered = strcmp(argv[5], "ordered") == 0;
    as_torch_options o = {.archive = argv[3],
                          .version = (int)whole(argv[4]),
                          .ordered = ordered,
                          .modules = given.module_count > 0 ? given.modules : NULL,
                          .module_count = given.module_count};
    must(as_torch_layout(given.tensors, given.count, given.storages, given.storage_count, &o, &l,
                         &e),
         &e);
    int fd = open_file(argv[2] + sparse);
    for (size_t k = 0; k < given.storage_count && !sparse; k++) {
        write_storage(fd, k, given.storages[k].offset, given.storages[k].bytes);
    }
    write_layout(fd, &l, sparse);
    as_file_layout_free(&l);
    return 0;
}

static int write_dduf(char **argv)
{
    bool sparse = argv[2][0] == '-';
    as_error e = AS_ERROR_INIT;
    as_file_layout l;
    int style = strcmp(argv[3], "old") == 0 ? AS_ZIP_PYTHON_3_11_3 : AS_ZIP_PYTHON;
    must(as_dduf_layout(given.entries, given.entry_count, style, &l, &e), &e);
    int fd = open_file(argv[2] + sparse);
    for (size_t k = 0; k < given.entry_count && !sparse; k++) {
        if (!given.entries[k].bytes) {
            write_storage(fd, k, given.entries[k].offset, given.entries[k].size);
        }
    }
    write_layout(fd, &l, sparse);
    as_file_layout_free(&l);
    return 0;
}

static void print_hex(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        printf("%02x", (unsigned char)text[i]);
    }
}

/* "kind dtype begin end storage_begin storage_end shape strides dense name", the name in hex */
static void print_table(const as_table *t)
{
    for (size_t i = 0; i < as_table_count(t); i++) {
        const as_entry *x = as_table_entry(t, i);
        as_storage s = as_table_storage(t, i);
        printf("T %s %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " ", as_dtype_name(x->dtype),
               x->begin, x->end, s.begin, s.end);
        for (uint32_t d = 0; d < x->ndim; d++) {
            printf("%s%" PRIu64, d ? "," : "", as_table_shape(t, i)[d]);
        }
        printf("%s ", x->ndim ? "" : "-");
        for (uint32_t d = 0; d < x->ndim; d++) {
            printf("%s%" PRIu64, d ? "," : "", as_table_strides(t, i)[d]);
        }
        printf("%s %d ", x->ndim ? "" : "-", as_table_is_dense(t, i));
        print_hex(as_table_name(t, i), x->name_length);
        printf("\n");
    }
    for (size_t i = 0; i < t->metadata.count; i++) {
        printf("M ");
        print_hex(t->metadata.items[i].key, t->metadata.items[i].key_length);
        printf(" ");
        print_hex(t->metadata.items[i].value, t->metadata.items[i].value_length);
        printf("\n");
    }
}

static int read_file(char **argv, bool dduf)
{
    int fd = open(argv[2], O_RDONLY);
    as_source source;
    as_error e = AS_ERROR_INIT;
    if (fd < 0) {
        stop(strerror(errno));
    }
    must(as_source_file(&source, &fd, "file", &e), &e);
    if (dduf) {
        as_zip z;
        must(as_dduf_read(&source, &z, &e), &e);
        for (size_t i = 0; i < as_zip_count(&z); i++) {
            const as_zip_entry *x = as_zip_entry_at(&z, i);
            printf("E %" PRIu64 " %" PRIu64 " %s\n", x->begin, x->end, as_zip_name(&z, i));
        }
        as_zip_free(&z);
    } else {
        as_table t;
        must(as_torch_read(&source, &t, NULL, &e), &e);
        print_table(&t);
        as_table_free(&t);
    }
    (void)close(fd);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 6 && strcmp(argv[1], "torch") == 0) {
        take_spec();
        return write_torch(argv);
    }
    if (argc == 4 && strcmp(argv[1], "dduf") == 0) {
        take_spec();
        return write_dduf(argv);
    }
    if (argc == 3 && strcmp(argv[1], "read") == 0) {
        return read_file(argv, false);
    }
    if (argc == 3 && strcmp(argv[1], "entries") == 0) {
        return read_file(argv, true);
    }
    stop("usage: see the head of tool_archive.c");
}
