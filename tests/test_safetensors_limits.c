/* SPDX-License-Identifier: Apache-2.0
 * The safetensors reader on files that are large, or claim to be: bounded time and memory.
 */
/* timeout: 300 */
#include "format_support.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "format/safetensors.h"

/* A nameless file. */
typedef struct disk {
    char path[64];
    int fd;
} disk;

static void open_disk(disk *d)
{
    make_folder(d->path);
    int folder = open(d->path, O_DIRECTORY | O_RDONLY);
    assert_true(folder >= 0);
    d->fd = openat(folder, "f", O_CREAT | O_RDWR, 0600);
    assert_true(d->fd >= 0);
    assert_int_equal(unlinkat(folder, "f", 0), 0);
    (void)close(folder);
    assert_int_equal(rmdir(d->path), 0);
}

/* A file of `size` bytes, all zero but for a length field. */
static void claim(const disk *d, uint64_t length, int64_t size)
{
    assert_int_equal(ftruncate(d->fd, 0), 0);
    assert_int_equal(ftruncate(d->fd, size), 0);
    if (size >= 8) {
        assert_int_equal(pwrite(d->fd, &length, 8, 0), 8);
    }
}

static int read_disk(const disk *d, as_table *t, as_error *e)
{
    as_source source;
    assert_int_equal(as_source_file(&source, &d->fd, "f", e), AS_OK);
    int verdict;
    (void)as_safetensors_read(&source, t, NULL, &verdict, e);
    return verdict;
}

static void test_length_field(void **state)
{
    (void)state;
    static const struct {
        uint64_t length;
        int64_t size;
        int verdict;
    } cases[] = {
        {0, 0, AS_SAFETENSORS_HEADER_TOO_SMALL},
        {0, 7, AS_SAFETENSORS_HEADER_TOO_SMALL},
        {0, 8, AS_SAFETENSORS_DESERIALIZATION},
        {100000000, 100, AS_SAFETENSORS_HEADER_LENGTH},
        {100000000, 100000007, AS_SAFETENSORS_HEADER_LENGTH},
        {100000000, 100000008, AS_SAFETENSORS_DESERIALIZATION}, /* NULs */
        {100000001, 100, AS_SAFETENSORS_HEADER_TOO_LARGE},
        {100000001, 200000000, AS_SAFETENSORS_HEADER_TOO_LARGE},
        {UINT64_C(1) << 32, 100, AS_SAFETENSORS_HEADER_TOO_LARGE},
        {UINT64_C(1) << 32, INT64_C(5) << 30, AS_SAFETENSORS_HEADER_TOO_LARGE},
        {UINT64_MAX, 100, AS_SAFETENSORS_HEADER_TOO_LARGE},
        {UINT64_MAX - 7, 100, AS_SAFETENSORS_HEADER_TOO_LARGE},
        {93, 100, AS_SAFETENSORS_HEADER_LENGTH},
    };
    disk d;
    open_disk(&d);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        claim(&d, cases[i].length, cases[i].size);
        as_table t;
        as_error e = AS_ERROR_INIT;
        assert_int_equal(read_disk(&d, &t, &e), cases[i].verdict);
        as_error_clear(&e);
    }
    (void)close(d.fd);
}

static void test_source_file(void **state)
{
    (void)state;
    as_source source;
    int fd = open("/", O_RDONLY);
    ASSERT_FAILS(AS_FORMAT, "a folder", as_source_file(&source, &fd, "d", &e_));
    (void)close(fd);
    fd = open("/dev/null", O_RDONLY);
    ASSERT_FAILS(AS_FORMAT, "a device", as_source_file(&source, &fd, "d", &e_));
    (void)close(fd);
    fd = -1;
    ASSERT_FAILS(AS_SYSTEM, "fstat", as_source_file(&source, &fd, "d", &e_));
    /* A file that shrinks as it is read. */
    disk d;
    open_disk(&d);
    claim(&d, 1000, 2000);
    as_error e = AS_ERROR_INIT;
    assert_int_equal(as_source_file(&source, &d.fd, "shrunk", &e), AS_OK);
    assert_int_equal(ftruncate(d.fd, 500), 0);
    as_table t;
    int verdict;
    assert_int_equal(as_safetensors_read(&source, &t, NULL, &verdict, &e), AS_FORMAT);
    assert_int_equal(verdict, AS_SAFETENSORS_FAILED);
    assert_non_null(strstr(as_error_text(&e), "shrunk: the file ends"));
    as_error_clear(&e);
    (void)close(d.fd);
}

/* ---- large headers ---- */

static double seconds(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

enum shape_of_header { REAL, SHORT, METADATA, ONE_SHAPE, NAMES_TWICE };

/* Member i of a large header. */
static int member(char *text, size_t size, int kind, unsigned i)
{
    switch (kind) {
    case REAL:
        return snprintf(text, size,
                        "\"model.layers.%07u.mlp.down_proj.weight\":{\"dtype\":\"BF16\","
                        "\"shape\":[8,1],\"data_offsets\":[%u,%u]}",
                        i, 16 * i, 16 * i + 16);
    case SHORT:
        return snprintf(text, size, "\"%x\":[\"U8\",[0],[0,0]]", i);
    case NAMES_TWICE:
        return snprintf(text, size, "\"%x\":[\"U8\",[0],[0,0]]", i % 1000);
    case METADATA:
        return snprintf(text, size, "\"%x\":\"\"", i);
    default:
        return snprintf(text, size, "0");
    }
}

/* Writes a header of about `target` bytes; returns the number of members. */
static unsigned write_large(const disk *d, int kind, uint64_t target)
{
    FILE *f = fdopen(dup(d->fd), "wb");
    assert_non_null(f);
    assert_int_equal(ftruncate(d->fd, 0), 0);
    static const char *const heads[] = {"{", "{", "{\"__metadata__\":{", "{\"t\":[\"U8\",[", "{"};
    static const char *const tails[] = {"}", "}", "}}", "],[0,0]]}", "}"};
    uint64_t length = strlen(heads[kind]);
    assert_int_equal(fseek(f, 8, SEEK_SET), 0);
    (void)fputs(heads[kind], f);
    unsigned count = 0;
    while (length < target - 200) {
        char text[200];
        int size = member(text, sizeof text, kind, count);
        (void)fputs(count ? "," : "", f);
        (void)fputs(text, f);
        length += (uint64_t)size + (count ? 1 : 0);
        count++;
    }
    (void)fputs(tails[kind], f);
    length += strlen(tails[kind]);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(pwrite(d->fd, &length, 8, 0), 8);
    int64_t data = kind == REAL ? 16 * (int64_t)count : 0;
    assert_int_equal(ftruncate(d->fd, 8 + (int64_t)length + data), 0);
    return count;
}

/* Reads the file in a child; peak memory beyond what the child began with, in bytes. */
static int64_t read_in_child(const disk *d, size_t entries, size_t pairs)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        as_table t;
        as_error e = AS_ERROR_INIT;
        int verdict = read_disk(d, &t, &e);
        if (verdict != AS_SAFETENSORS_OK) {
            (void)fprintf(stderr, "%s\n", as_error_text(&e));
        }
        _exit(verdict == AS_SAFETENSORS_OK && as_table_count(&t) == entries &&
                      t.metadata.count == pairs
                  ? 0
                  : 1);
    }
    int status;
    struct rusage usage;
    assert_int_equal(wait4(child, &status, 0, &usage), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    return (int64_t)usage.ru_maxrss * 1024;
}

static void test_large_headers(void **state)
{
    (void)state;
    /* The sanitizers' shadow memory and red zones say nothing about ours. */
    const uint64_t target = UNDER_SANITIZER ? 4000000 : 90000000;
    disk d;
    open_disk(&d);
    static const char *const names[] = {"real", "short", "metadata", "one shape", "names twice"};
    for (int kind = REAL; kind <= NAMES_TWICE; kind++) {
        unsigned count = write_large(&d, kind, target);
        double begin = seconds();
        int64_t peak = read_in_child(&d,
                                     kind == METADATA      ? 0
                                     : kind == ONE_SHAPE   ? 1
                                     : kind == NAMES_TWICE ? 1000
                                                           : count,
                                     kind == METADATA ? count : 0);
        double took = seconds() - begin;
        print_message("%s: %u members, peak %.2f times the header, %.2f s\n", names[kind], count,
                      (double)peak / (double)target, took);
        assert_true(UNDER_SANITIZER || peak < 6 * (int64_t)target);
        assert_true(took < 60);
    }
    (void)close(d.fd);
}

static void test_ten_million(void **state)
{
    (void)state;
    /* The reference's second attack: the claim alone decides. */
    disk d;
    open_disk(&d);
    claim(&d, 555000000, 555000100);
    as_table t;
    as_error e = AS_ERROR_INIT;
    double begin = seconds();
    assert_int_equal(read_disk(&d, &t, &e), AS_SAFETENSORS_HEADER_TOO_LARGE);
    assert_true(seconds() - begin < 1);
    as_error_clear(&e);
    (void)close(d.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_length_field),
        cmocka_unit_test(test_source_file),
        cmocka_unit_test(test_large_headers),
        cmocka_unit_test(test_ten_million),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
