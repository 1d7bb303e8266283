/* SPDX-License-Identifier: Apache-2.0
 * For tests of the I/O engines: a scratch folder, files of known bytes, operations driven to
 * their end, and calls of the system table that go wrong.
 */
#ifndef ALLSHARD_TESTS_ENGINE_SUPPORT_H
#define ALLSHARD_TESTS_ENGINE_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/sys.h"
#include "io/engine.h"

enum { KIB = 1 << 10, MIB = 1 << 20, SEAM = 4096, MEMORY = 24 * MIB };

static char scratch[200];
static char *memory; /* shared, page-aligned, registered as arena where that works */
static as_sys good;

static inline int open_scratch(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(scratch, sizeof scratch, "%s/engines-XXXXXX", tmp ? tmp : "/tmp");
    good = as_sys_table;
    memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return mkdtemp(scratch) && memory != MAP_FAILED ? 0 : -1;
}

static inline int close_scratch(void **state)
{
    (void)state;
    return munmap(memory, MEMORY) == 0 && rmdir(scratch) == 0 ? 0 : -1;
}

static inline int restore_table(void **state)
{
    (void)state;
    as_sys_table = good;
    return 0;
}

static inline void path_of(const char *name, char path[300])
{
    (void)snprintf(path, 300, "%s/%s", scratch, name);
}

/* The byte that a file of these tests holds at an offset. */
static inline unsigned char byte_at(int64_t offset, int salt)
{
    uint64_t x = ((uint64_t)offset / 8 + (uint64_t)salt * 1000003) * 0x9E3779B97F4A7C15ULL;
    return (unsigned char)(x >> (8 * (offset % 8)));
}

static inline void fill(char *at, int64_t offset, int64_t count, int salt)
{
    for (int64_t i = 0; i < count; i++) {
        at[i] = (char)byte_at(offset + i, salt);
    }
}

static inline void check_bytes(const char *at, int64_t offset, int64_t count, int salt)
{
    for (int64_t i = 0; i < count; i++) {
        if ((unsigned char)at[i] != byte_at(offset + i, salt)) {
            fail_msg("byte %lld differs", (long long)(offset + i));
        }
    }
}

/* ---- an engine at work ---- */

typedef struct bench {
    const as_engine_type *type;
    as_engine *engine;
    as_io_file file;
    char path[300];
    as_error error;
} bench;

static inline bench start(const as_engine_type *type, const as_engine_options *options,
                          const char *name, bool write)
{
    bench b = {.type = type, .error = AS_ERROR_INIT};
    path_of(name, b.path);
    int fd = open(b.path, write ? O_RDWR | O_CREAT | O_CLOEXEC : O_RDONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    b.file = (as_io_file){.fd = fd, .write = write, .name = "the file"};
    assert_int_equal(type->open(&b.engine, options, &b.error), AS_OK);
    assert_int_equal(type->attach(b.engine, &b.file, &b.error), AS_OK);
    return b;
}

static inline void stop(bench *b)
{
    b->type->detach(b->engine, &b->file);
    b->type->close(b->engine);
    assert_int_equal(close(b->file.fd), 0);
    as_error_clear(&b->error);
}

/* Reaps until that many are done. The engine's threads need a while; a test that hangs is ended
 * by its time limit. */
static inline void finish(bench *b, int count)
{
    while (count > 0) {
        if (b->type->reap(b->engine, &b->error)) {
            count--;
        } else {
            (void)nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
        }
    }
    assert_null(b->type->reap(b->engine, &b->error));
}

static inline int sync_file(bench *b)
{
    as_io io = {.kind = AS_IO_SYNC, .file = &b->file};
    b->type->submit(b->engine, &io);
    finish(b, 1);
    return io.code;
}

/* One operation on [offset, offset + count) from or to memory + skew, driven to its end. */
static inline int one(bench *b, int64_t offset, int64_t count, int64_t skew)
{
    as_io io = {.kind = b->file.write ? AS_IO_WRITE : AS_IO_READ,
                .file = &b->file,
                .bytes = memory + skew,
                .count = count,
                .offset = offset};
    b->type->submit(b->engine, &io);
    finish(b, 1);
    assert_true(io.nanoseconds > 0);
    return io.code;
}

static inline const char *used(const bench *b, const char **reason)
{
    return b->type->used(b->engine, reason);
}

/* What the page cache's own calls see. */
static inline void check_file(const char *path, int64_t offset, int64_t count, int salt)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *bytes = malloc((size_t)count);
    assert_true(fd >= 0 && bytes);
    assert_int_equal(pread(fd, bytes, (size_t)count, offset), count);
    check_bytes(bytes, offset, count, salt);
    free(bytes);
    assert_int_equal(close(fd), 0);
}

static inline void make_file(const char *name, int64_t count, int salt)
{
    char path[300];
    path_of(name, path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    char *bytes = malloc((size_t)count);
    assert_true(fd >= 0 && bytes);
    fill(bytes, 0, count, salt);
    assert_int_equal(write(fd, bytes, (size_t)count), count);
    assert_int_equal(fsync(fd), 0);
    assert_int_equal(close(fd), 0);
    free(bytes);
}

static inline void remove_file(const char *name)
{
    char path[300];
    path_of(name, path);
    assert_int_equal(unlink(path), 0);
}

#endif
