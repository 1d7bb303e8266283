/* SPDX-License-Identifier: Apache-2.0 */
#include "support_trace.h"

#include <errno.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#ifdef ALLSHARD_HAVE_URING
#include <liburing.h>
#endif

#include "base/sys.h"
#include "checkpoint_folder.h"

enum { RING_SLOTS = 1024 };

static as_sys real;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static struct {
    bool on;
    dev_t device;
    _Atomic(uint64_t) own;
    _Atomic(uint64_t) *clock;
    trace_log log;
#ifdef ALLSHARD_HAVE_URING
    size_t ring_events[RING_SLOTS]; /* 1 + the event of an entry that the ring has */
#endif
} trace;

static uint64_t tick(void)
{
    return atomic_fetch_add(trace.clock, 1) + 1;
}

/* ---- the list ---- */

static size_t append(trace_log *log, const trace_event *e)
{
    trace_event *grown = realloc(log->events, (log->count + 1) * sizeof *grown);
    if (!grown) {
        abort();
    }
    log->events = grown;
    log->events[log->count] = *e;
    return log->count++;
}

static size_t record(trace_event e)
{
    (void)pthread_mutex_lock(&mutex);
    if (e.end == 0) {
        e.end = tick();
    }
    size_t i = append(&trace.log, &e);
    (void)pthread_mutex_unlock(&mutex);
    return i;
}

static int compare_events(const void *a, const void *b)
{
    const trace_event *x = a;
    const trace_event *y = b;
    int order = (x->start > y->start) - (x->start < y->start);
    return order ? order : (x->end > y->end) - (x->end < y->end);
}

static void sort(trace_log *log)
{
    if (log->count) {
        qsort(log->events, log->count, sizeof *log->events, compare_events);
    }
}

static unsigned char *copy_bytes(const void *bytes, size_t count)
{
    unsigned char *copy = malloc(count + 1);
    must(copy != NULL, "memory");
    memcpy(copy, bytes, count);
    return copy;
}

static void set_name(char out[TRACE_NAME], const char *name)
{
    must(strlen(name) < TRACE_NAME, "a long name");
    memcpy(out, name, strlen(name) + 1);
}

/* ---- which file ---- */

/* The number of what is open; 0: on another file system, which is of no concern. */
static uint64_t open_inode(int fd)
{
    struct stat status;
    int reason = errno;
    bool ours = trace.on && fstat(fd, &status) == 0 && status.st_dev == trace.device;
    errno = reason;
    return ours ? status.st_ino : 0;
}

static uint64_t name_inode(int folder, const char *path)
{
    struct stat status;
    int reason = errno;
    bool there = fstatat(folder, path, &status, AT_SYMLINK_NOFOLLOW) == 0;
    errno = reason;
    return there && status.st_dev == trace.device ? status.st_ino : 0;
}

/* The folder that a path leads to, and the last part of the path; 0: of no concern. */
static uint64_t place_of(int folder, const char *path, char name[TRACE_NAME])
{
    const char *slash = strrchr(path, '/');
    set_name(name, slash ? slash + 1 : path);
    if (!trace.on) {
        return 0;
    }
    if (!slash && folder != AT_FDCWD) {
        return open_inode(folder);
    }
    char *parent = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    must(parent != NULL, "memory");
    int reason = errno;
    int fd = openat(folder, parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
    uint64_t inode = fd >= 0 ? open_inode(fd) : 0;
    if (fd >= 0) {
        (void)close(fd);
    }
    errno = reason;
    free(parent);
    return inode;
}

/* ---- calls ---- */

static int trace_openat(int folder, const char *path, int flags, mode_t mode)
{
    trace_event e = {.kind = TRACE_CREATE};
    if (trace.on && (flags & (O_CREAT | O_TRUNC))) {
        /* Only new files can be told. */
        must((flags & O_EXCL) && (flags & O_TMPFILE) != O_TMPFILE, "an open that is not modelled");
        e.folder = place_of(folder, path, e.name);
        e.start = tick();
    }
    int fd = real.openat(folder, path, flags, mode);
    if (fd >= 0 && e.folder) {
        e.inode = open_inode(fd);
        (void)record(e);
    }
    return fd;
}

static ssize_t trace_pwrite(int fd, const void *bytes, size_t count, off_t offset)
{
    trace_event e = {.kind = TRACE_WRITE, .inode = open_inode(fd), .offset = offset};
    if (e.inode) {
        e.start = tick();
    }
    ssize_t n = real.pwrite(fd, bytes, count, offset);
    if (n > 0 && e.inode) {
        e.count = n;
        e.bytes = copy_bytes(bytes, (size_t)n);
        (void)record(e);
    }
    return n;
}

static int trace_fsync(int fd)
{
    trace_event e = {.kind = TRACE_FSYNC, .inode = open_inode(fd)};
    if (e.inode) {
        e.start = tick();
    }
    int result = real.fsync(fd);
    if (result == 0 && e.inode) {
        (void)record(e);
    }
    return result;
}

static int trace_ftruncate(int fd, off_t size)
{
    trace_event e = {.kind = TRACE_SIZE, .inode = open_inode(fd), .count = size};
    if (e.inode) {
        e.start = tick();
    }
    int result = real.ftruncate(fd, size);
    if (result == 0 && e.inode) {
        (void)record(e);
    }
    return result;
}

static int trace_fallocate(int fd, int mode, off_t offset, off_t count)
{
    trace_event e = {.kind = TRACE_GROW, .inode = open_inode(fd), .offset = offset, .count = count};
    if (e.inode) {
        must(mode == 0 || mode == FALLOC_FL_KEEP_SIZE, "an allocation that is not modelled");
        e.start = tick();
    }
    int result = real.fallocate(fd, mode, offset, count);
    if (result == 0 && e.inode && mode == 0) {
        (void)record(e);
    }
    return result;
}

static int trace_mkdirat(int folder, const char *path, mode_t mode)
{
    trace_event e = {.kind = TRACE_MKDIR};
    e.folder = place_of(folder, path, e.name);
    if (e.folder) {
        e.start = tick();
    }
    int result = real.mkdirat(folder, path, mode);
    if (result == 0 && e.folder) {
        e.inode = name_inode(folder, path);
        (void)record(e);
    }
    return result;
}

static int trace_unlinkat(int folder, const char *path, int flags)
{
    trace_event e = {.kind = TRACE_UNLINK};
    e.folder = place_of(folder, path, e.name);
    if (e.folder) {
        e.inode = name_inode(folder, path);
        e.start = tick();
    }
    int result = real.unlinkat(folder, path, flags);
    if (result == 0 && e.folder) {
        (void)record(e);
    }
    return result;
}

static int trace_renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    trace_event e = {.kind = TRACE_RENAME};
    e.from_folder = place_of(from_folder, from, e.from);
    e.folder = place_of(to_folder, to, e.name);
    bool same = false;
    if (e.folder) {
        e.inode = name_inode(from_folder, from);
        /* Of two names of one file neither goes: that is the rule of rename(2). */
        same = e.inode == name_inode(to_folder, to);
        e.start = tick();
    }
    int result = real.renameat(from_folder, from, to_folder, to);
    if (result == 0 && e.folder && !same) {
        (void)record(e);
    }
    return result;
}

static int trace_linkat(int from_folder, const char *from, int to_folder, const char *to, int flags)
{
    trace_event e = {.kind = TRACE_LINK};
    e.folder = place_of(to_folder, to, e.name);
    if (e.folder) {
        e.inode = name_inode(from_folder, from);
        e.start = tick();
    }
    int result = real.linkat(from_folder, from, to_folder, to, flags);
    if (result == 0 && e.folder) {
        (void)record(e);
    }
    return result;
}

#ifdef ALLSHARD_HAVE_URING
/* Told when it is given to the kernel; what becomes of it shows at its completion. */
static void record_entry(const struct io_uring_sqe *entry)
{
    trace_event e = {.kind = TRACE_NOTHING, .inode = open_inode(entry->fd)};
    if (!e.inode) {
        return;
    }
    bool writes = entry->opcode == IORING_OP_WRITE || entry->opcode == IORING_OP_WRITE_FIXED;
    if (!writes && entry->opcode != IORING_OP_FSYNC) {
        must(entry->opcode == IORING_OP_READ || entry->opcode == IORING_OP_READ_FIXED ||
                 entry->opcode == IORING_OP_SYNC_FILE_RANGE,
             "an operation of io_uring that is not modelled");
        return;
    }
    e.kind = writes ? TRACE_WRITE : TRACE_FSYNC;
    if (writes) {
        e.offset = (int64_t)entry->off;
        e.count = entry->len;
        e.bytes = copy_bytes((const void *)(uintptr_t)entry->addr, entry->len); // NOLINT
    }
    must(entry->user_data < RING_SLOTS, "many entries of io_uring");
    e.start = tick();
    e.end = UINT64_MAX;
    trace.ring_events[entry->user_data] = record(e) + 1;
}

static int trace_uring_submit(struct io_uring *ring)
{
    unsigned queued = 0;
    if (trace.on) {
        for (unsigned i = ring->sq.sqe_head; i != ring->sq.sqe_tail; i++, queued++) {
            record_entry(&ring->sq.sqes[i & *ring->sq.kring_mask]);
        }
    }
    int taken = real.uring_submit(ring);
    must(!trace.on || taken == (int)queued, "io_uring took a part only, which is not modelled");
    return taken;
}

static int trace_uring_peek(struct io_uring *ring, struct io_uring_cqe **out)
{
    int result = real.uring_peek(ring, out);
    if (trace.on && result == 0 && *out && (*out)->user_data < RING_SLOTS) {
        (void)pthread_mutex_lock(&mutex);
        size_t *place = &trace.ring_events[(*out)->user_data];
        trace_event *e = *place ? &trace.log.events[*place - 1] : NULL;
        if (e) {
            *place = 0;
            e->end = tick();
            if ((*out)->res < 0) {
                e->kind = TRACE_NOTHING;
            } else if (e->kind == TRACE_WRITE) {
                e->count = (*out)->res;
            }
        }
        (void)pthread_mutex_unlock(&mutex);
    }
    return result;
}
#endif

static void install(void)
{
    if (real.openat) {
        return;
    }
    real = as_sys_table;
    as_sys_table.openat = trace_openat;
    as_sys_table.pwrite = trace_pwrite;
    as_sys_table.fsync = trace_fsync;
    as_sys_table.ftruncate = trace_ftruncate;
    as_sys_table.fallocate = trace_fallocate;
    as_sys_table.mkdirat = trace_mkdirat;
    as_sys_table.unlinkat = trace_unlinkat;
    as_sys_table.renameat = trace_renameat;
    as_sys_table.linkat = trace_linkat;
#ifdef ALLSHARD_HAVE_URING
    as_sys_table.uring_submit = trace_uring_submit;
    as_sys_table.uring_peek = trace_uring_peek;
#endif
}

/* ---- begin and end ---- */

void trace_begin(const char *folder, const char *counter)
{
    struct stat status;
    install();
    must(stat(folder, &status) == 0, folder);
    trace.device = status.st_dev;
    trace.log = TRACE_LOG_INIT;
    trace.clock = &trace.own;
    if (counter) {
        int fd = open(counter, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        must(fd >= 0 && ftruncate(fd, sizeof *trace.clock) == 0, counter);
        void *place = mmap(NULL, sizeof *trace.clock, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        must(place != MAP_FAILED, counter);
        trace.clock = place;
        (void)close(fd);
    }
    trace.on = true;
}

void trace_told(void)
{
    (void)record((trace_event){.kind = TRACE_TOLD, .start = tick()});
}

void trace_end(trace_log *out)
{
    trace.on = false;
    if (trace.clock != &trace.own) {
        (void)munmap((void *)trace.clock, sizeof *trace.clock);
    }
    *out = trace.log;
    trace.log = TRACE_LOG_INIT;
    sort(out);
}

/* ---- what is there already ---- */

static void add_tree(trace_log *log, int fd, uint64_t folder)
{
    DIR *stream = fdopendir(fd);
    if (!stream) {
        abort();
    }
    const struct dirent *entry;
    while ((entry = readdir(stream))) {
        struct stat status;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        must(fstatat(dirfd(stream), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0, "stat");
        trace_event e = {.inode = status.st_ino, .folder = folder, .end = log->count};
        set_name(e.name, entry->d_name);
        bool known = false;
        for (size_t i = 0; i < log->count && !S_ISDIR(status.st_mode); i++) {
            known = known || log->events[i].inode == status.st_ino;
        }
        int below = openat(dirfd(stream), entry->d_name, O_RDONLY | O_CLOEXEC);
        must(below >= 0, entry->d_name);
        e.kind = S_ISDIR(status.st_mode) ? TRACE_MKDIR : known ? TRACE_LINK : TRACE_CREATE;
        (void)append(log, &e);
        if (S_ISDIR(status.st_mode)) {
            add_tree(log, below, status.st_ino);
            continue;
        }
        if (!known) {
            trace_event w = {
                .kind = TRACE_WRITE, .inode = e.inode, .end = log->count, .count = status.st_size};
            w.bytes = malloc((size_t)w.count + 1);
            if (!w.bytes) {
                abort();
            }
            must(pread(below, w.bytes, (size_t)w.count, 0) == w.count, entry->d_name);
            (void)append(log, &w);
        }
        (void)close(below);
    }
    (void)closedir(stream);
}

void trace_tree(trace_log *log, const char *folder, uint64_t *inode)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat status;
    must(fd >= 0 && fstat(fd, &status) == 0, folder);
    *inode = status.st_ino;
    add_tree(log, fd, status.st_ino);
}

/* ---- files ---- */

void trace_write(const trace_log *log, const char *path)
{
    FILE *f = fopen(path, "w");
    must(f != NULL, path);
    for (size_t i = 0; i < log->count; i++) {
        const trace_event *e = &log->events[i];
        must(fwrite(e, sizeof *e, 1, f) == 1, path);
        must(!e->bytes || fwrite(e->bytes, 1, (size_t)e->count, f) == (size_t)e->count, path);
    }
    must(fclose(f) == 0, path);
}

void trace_read(trace_log *log, const char *path)
{
    FILE *f = fopen(path, "r");
    must(f != NULL, path);
    trace_event e;
    while (fread(&e, sizeof e, 1, f) == 1) {
        if (e.bytes) {
            e.bytes = malloc((size_t)e.count + 1);
            must(e.bytes && fread(e.bytes, 1, (size_t)e.count, f) == (size_t)e.count, path);
        }
        (void)append(log, &e);
    }
    (void)fclose(f);
    sort(log);
}

void trace_free(trace_log *log)
{
    for (size_t i = 0; i < log->count; i++) {
        free(log->events[i].bytes);
    }
    free(log->events);
    *log = TRACE_LOG_INIT;
}
