/* SPDX-License-Identifier: Apache-2.0 */
#include "io/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/quote.h"
#include "base/sys.h"
#include "io/filesystems.h"
#include "io/uring.h"

enum {
    DEFAULT_ALIGN = 4096,
    LARGEST_ALIGN = 1 << 20, /* what asks for more than that is not worth it */
    SAMPLES = 8
};

/* STATX_DIOALIGN (Linux 6.1), for headers that are older: what the kernel calls stx_dio_mem_align
 * and stx_dio_offset_align lies at this place of struct statx, in spare room of older ones. */
enum { DIOALIGN = 0x2000, DIOALIGN_AT = 0x98 };

typedef struct statx_dio {
    uint32_t memory_align;
    uint32_t offset_align;
} statx_dio;

_Static_assert(sizeof(struct statx) >= DIOALIGN_AT + sizeof(statx_dio), "struct statx is short");

typedef struct trial {
    bool works;
    int64_t offset_align;
    int64_t memory_align;
    char why[80]; /* it does not */
} trial;

int as_probe_name(const char *name, as_error *e)
{
    if (strcmp(name, "auto") == 0 || strcmp(name, "gds") == 0 || as_engine_by_name(name)) {
        return AS_OK;
    }
    return as_fail(e, AS_INVALID, 0,
                   "there is no engine named %s; it must be auto, posix, direct, uring or gds",
                   as_quote(name, strlen(name)).text);
}

/* ---- the trial ---- */

static void refuse(trial *t, const char *call, int sys_errno)
{
    char text[64];
    (void)snprintf(t->why, sizeof t->why, "%s: %s", call, strerror_r(sys_errno, text, sizeof text));
}

/* The trial's file without a name any more, open twice; -1 with errno where that failed. */
typedef struct trial_file {
    int plain;
    int direct; /* with O_DIRECT */
    int why;    /* errno of the failed one */
} trial_file;

static trial_file make_file(int folder)
{
    trial_file f = {.direct = -1};
    char name[80];
    (void)snprintf(name, sizeof name, ".allshard-trial-%ld-%llx", (long)getpid(),
                   (unsigned long long)as_clock());
    f.plain = as_open(folder, name, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (f.plain < 0) {
        f.why = errno;
        return f;
    }
    /* Not when the file is made: where O_DIRECT is refused that leaves an empty file. And not by
     * way of /proc when the name is gone: programs' file systems know no such file any more. */
    f.direct = as_open(folder, name, O_WRONLY | O_DIRECT | O_NOFOLLOW, 0);
    f.why = errno;
    if (as_sys_table.unlinkat(folder, name, 0) != 0) {
        /* Once more: a file that stays would puzzle people. */
        (void)as_sys_table.unlinkat(folder, name, 0);
    }
    return f;
}

/* Does the kernel tell the alignment? It may also say that O_DIRECT does not work: 0. */
static bool ask_alignment(int fd, trial *t)
{
    struct statx status;
    memset(&status, 0, sizeof status);
    if (as_sys_table.statx(fd, "", AT_EMPTY_PATH, DIOALIGN, &status) != 0 ||
        !(status.stx_mask & DIOALIGN)) {
        return false;
    }
    statx_dio dio;
    memcpy(&dio, (const char *)&status + DIOALIGN_AT, sizeof dio);
    t->memory_align = dio.memory_align;
    t->offset_align = dio.offset_align;
    return true;
}

static bool power_of_two(int64_t x)
{
    return x > 0 && (x & (x - 1)) == 0;
}

static void write_block(int fd, trial *t)
{
    void *block = NULL;
    size_t bytes = (size_t)(t->offset_align > t->memory_align ? t->offset_align : t->memory_align);
    bytes = bytes > DEFAULT_ALIGN ? bytes : DEFAULT_ALIGN;
    if (posix_memalign(&block, bytes, bytes) != 0) {
        refuse(t, "memory", ENOMEM);
        return;
    }
    memset(block, 0, bytes);
    ssize_t n;
    do {
        n = as_sys_table.pwrite(fd, block, bytes, 0);
    } while (n < 0 && errno == EINTR);
    t->works = n == (ssize_t)bytes;
    if (!t->works) {
        refuse(t, "write", n < 0 ? errno : EIO);
    }
    free(block);
}

static void try_direct(const trial_file *f, trial *t)
{
    if (!ask_alignment(f->plain, t)) {
        t->memory_align = t->offset_align = DEFAULT_ALIGN;
    } else if (!power_of_two(t->memory_align) || !power_of_two(t->offset_align) ||
               t->memory_align > LARGEST_ALIGN || t->offset_align > LARGEST_ALIGN) {
        (void)snprintf(t->why, sizeof t->why, "the kernel says that files here have none");
        return;
    }
    if (f->direct < 0) {
        refuse(t, "open", f->why);
        return;
    }
    write_block(f->direct, t);
}

static trial try_folder(int folder)
{
    trial t = {.offset_align = DEFAULT_ALIGN, .memory_align = DEFAULT_ALIGN};
    trial_file f = make_file(folder);
    if (f.plain < 0) {
        refuse(&t, "no trial file", f.why);
        return t;
    }
    try_direct(&f, &t);
    if (f.direct >= 0) {
        (void)as_sys_table.close(f.direct);
    }
    (void)as_sys_table.close(f.plain);
    return t;
}

/* ---- the choice ---- */

static const as_file_system *look(int folder)
{
    struct statfs status;
    if (as_sys_table.fstatfs(folder, &status) != 0) {
        return as_file_system_by_magic(0);
    }
    return as_file_system_by_magic((uint32_t)status.f_type);
}

static void choose(as_engine_choice *c, const char *engine, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void choose(as_engine_choice *c, const char *engine, const char *format, ...)
{
    (void)snprintf(c->engine, sizeof c->engine, "%s", engine);
    int n = snprintf(c->reason, sizeof c->reason, "%s: ", c->file_system);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(c->reason + n, sizeof c->reason - (size_t)n, format, args);
    va_end(args);
}

/* What `auto` chooses, for a file system that is worth O_DIRECT. */
static void choose_tried(as_engine_choice *c, const trial *t, bool tried)
{
    char why[AS_URING_WHY];
    bool ring = as_uring_works(why);
    if (!t->works) {
        choose(c, "posix", "O_DIRECT does not work (%s)", t->why);
        return;
    }
    c->direct = true;
    if (!tried) {
        choose(c, ring ? "uring" : "direct", "O_DIRECT is tried file by file, %s",
               ring ? "io_uring available" : why);
        return;
    }
    choose(c, ring ? "uring" : "direct", "O_DIRECT works (%lld-byte alignment), %s",
           (long long)t->offset_align, ring ? "io_uring available" : why);
}

/* What the user asked for. */
static void choose_named(as_engine_choice *c, const char *engine, const as_file_system *fs,
                         const trial *t, bool tried)
{
    char why[AS_URING_WHY] = "";
    bool ring = strcmp(engine, "uring") == 0;
    if (strcmp(engine, "posix") == 0) {
        choose(c, engine, "as asked for");
        return;
    }
    /* Whoever names `direct` gets it wherever it is accepted; through the ring both ways exist, and
     * the table knows the better one. */
    c->direct = t->works && (!ring || fs->direct);
    if (ring) {
        (void)as_uring_works(why);
    }
    if (!t->works) {
        choose(c, engine, "as asked for, but O_DIRECT does not work (%s)%s%s", t->why,
               why[0] ? "; " : "", why);
    } else if (!fs->direct) {
        choose(c, engine, "as asked for, %s (%s)%s%s", ring ? "without O_DIRECT" : "with O_DIRECT",
               fs->why, why[0] ? "; " : "", why);
    } else {
        choose(c, engine, "as asked for%s%s%s", tried ? ", O_DIRECT works" : "", why[0] ? "; " : "",
               why);
    }
}

int as_probe_folder(const char *folder, const char *engine, bool write, as_engine_choice *out,
                    as_error *e)
{
    *out = (as_engine_choice){.offset_align = DEFAULT_ALIGN, .memory_align = DEFAULT_ALIGN};
    bool gds = engine && strcmp(engine, "gds") == 0;
    bool named = engine && strcmp(engine, "auto") != 0 && !gds;
    int code = named ? as_probe_name(engine, e) : AS_OK;
    if (code != AS_OK) {
        return code;
    }
    int fd = as_open(AT_FDCWD, folder, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) {
        return as_fail(e, errno == ENOENT ? AS_NOT_FOUND : AS_SYSTEM, errno,
                       "%s: cannot open the folder", folder);
    }
    const as_file_system *fs = look(fd);
    (void)snprintf(out->file_system, sizeof out->file_system, "%s", fs->name);
    bool wanted = named ? strcmp(engine, "posix") != 0 : fs->direct;
    trial t = {.works = true, .offset_align = DEFAULT_ALIGN, .memory_align = DEFAULT_ALIGN};
    if (write && wanted) {
        t = try_folder(fd);
    }
    (void)as_sys_table.close(fd);
    if (named) {
        choose_named(out, engine, fs, &t, write);
    } else if (wanted) {
        choose_tried(out, &t, write);
    } else {
        choose(out, "posix", "%s", fs->why);
    }
    if (out->direct) {
        out->offset_align = t.offset_align > fs->offset_align ? t.offset_align : fs->offset_align;
        out->memory_align = t.memory_align;
    }
    if (!named) {
        out->gds = gds ? AS_GDS_ASKED : out->direct ? AS_GDS_AUTO : AS_GDS_OFF;
    }
    return AS_OK;
}

void as_probe_options(const as_engine_choice *choice, as_engine_options *options)
{
    options->direct = choice->direct;
    options->offset_align = choice->offset_align;
    options->memory_align = choice->memory_align;
}

bool as_probe_cached(int fd, int64_t size)
{
    char byte;
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    int there = 0;
    for (int i = 0; i < SAMPLES && size > 0; i++) {
        int64_t at = size / SAMPLES * i + size / SAMPLES / 2;
        there += as_sys_table.preadv2(fd, &part, 1, (off_t)at, RWF_NOWAIT) == 1;
    }
    return there >= SAMPLES - 1;
}
