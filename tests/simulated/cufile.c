/* SPDX-License-Identifier: Apache-2.0
 * The simulated cuFile's own functions, under their names in libcufile.so.0.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cufile_state.h"
#include "io/cufile_library.h"

enum { ALIGN = 4096, TILE = 1 << 20 };

static as_cufile_error result(int code)
{
    return (as_cufile_error){.code = code};
}

static as_cufile_error cuda_result(int cuda)
{
    return (as_cufile_error){.code = AS_CUFILE_CUDA_DRIVER_ERROR, .cuda = cuda};
}

static void lock(void)
{
    (void)pthread_mutex_lock(&sim_cufile_state.lock);
}

static as_cufile_error leave(as_cufile_error r)
{
    (void)pthread_mutex_unlock(&sim_cufile_state.lock);
    return r;
}

/* What every call but those of the driver begins with. */
static as_cufile_error enter(const char *call)
{
    lock();
    int asked = sim_cufile_count(call);
    if (asked) {
        return (as_cufile_error){
            .code = asked,
            .cuda = asked == AS_CUFILE_CUDA_DRIVER_ERROR ? AS_CU_ILLEGAL_ADDRESS : 0};
    }
    if (!sim_cufile_state.open) {
        sim_cufile_fault("%s before the driver was opened", call);
        return result(AS_CUFILE_DRIVER_NOT_INITIALIZED);
    }
    int cuda = sim_cufile_context();
    if (cuda) {
        if (cuda == AS_CU_INVALID_CONTEXT) {
            sim_cufile_fault("%s without a current context", call);
        }
        return cuda_result(cuda);
    }
    return result(0);
}

/* cuFile's names as assembler names: the compiler checks the types, and names stay our own. */
/* NOLINTBEGIN(bugprone-macro-parentheses): declarations */
#define DECLARE(member, result, symbol, parameters)                                                \
    __attribute__((visibility("default"))) result sim_cufile_##member parameters __asm__(symbol);
AS_CUFILE_FUNCTIONS(DECLARE)
DECLARE(driver_close, as_cufile_error, "cuFileDriverClose_v2", (void))
#undef DECLARE
/* NOLINTEND(bugprone-macro-parentheses) */

/* ---- the driver ---- */

as_cufile_error sim_cufile_driver_open(void)
{
    lock();
    int code = sim_cufile_count("cuFileDriverOpen");
    if (!code && sim_cufile_state.open) {
        code = AS_CUFILE_DRIVER_ALREADY_OPEN;
    }
    int cuda = code ? 0 : sim_cufile_context();
    if (cuda) {
        sim_cufile_fault("cuFileDriverOpen without a current context");
        return leave(cuda_result(cuda));
    }
    sim_cufile_state.open = sim_cufile_state.open || !code;
    return leave(result(code));
}

as_cufile_error sim_cufile_driver_close(void)
{
    lock();
    int code = sim_cufile_count("cuFileDriverClose");
    for (int i = 0; i < MOST_BUFFERS; i++) {
        if (sim_cufile_state.buffers[i].used) {
            sim_cufile_fault("cuFileDriverClose with registered memory");
        }
    }
    code = code || sim_cufile_state.open ? code : AS_CUFILE_DRIVER_NOT_INITIALIZED;
    sim_cufile_state.open = sim_cufile_state.open && code;
    return leave(result(code));
}

as_cufile_error sim_cufile_driver_properties(as_cufile_properties *properties)
{
    as_cufile_error r = enter("cuFileDriverGetProperties");
    if (!r.code) {
        properties->nvfs_major = sim_cufile_state.nvfs_major;
        properties->nvfs_minor = sim_cufile_state.nvfs_minor;
        /* The real one writes more than that. */
        memset(properties->rest, 0x5a, 200);
    }
    return leave(r);
}

/* ---- handles ---- */

static int check_descriptor(int fd, struct stat *status)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fstat(fd, status) != 0 || !S_ISREG(status->st_mode)) {
        sim_cufile_fault("cuFileHandleRegister of what is no open file");
        return AS_CUFILE_INVALID_FILE_TYPE;
    }
    if (flags & (O_APPEND | O_NONBLOCK) || (flags & O_TMPFILE) == O_TMPFILE) {
        sim_cufile_fault("cuFileHandleRegister of a file that is open with flags %#x", flags);
        return AS_CUFILE_INVALID_FILE_OPEN_FLAG;
    }
    if (!(flags & O_DIRECT) && !sim_cufile_state.played) {
        sim_cufile_fault("cuFileHandleRegister of a file that is open without O_DIRECT");
        return AS_CUFILE_DIO_NOT_SET;
    }
    return 0;
}

static int add_handle(int fd, const struct stat *status, as_cufile_handle *out)
{
    sim_handle *spare = NULL;
    for (int i = 0; i < MOST_HANDLES; i++) {
        sim_handle *h = &sim_cufile_state.handles[i];
        if (h->used && h->fd == fd) {
            sim_cufile_fault("cuFileHandleRegister of a descriptor that is registered");
            return AS_CUFILE_HANDLE_ALREADY_REGISTERED;
        }
        spare = !spare && !h->used ? h : spare;
    }
    if (!spare) {
        return AS_CUFILE_NOMEM;
    }
    *spare = (sim_handle){.used = true, .fd = fd, .device = status->st_dev, .file = status->st_ino};
    *out = spare;
    return 0;
}

as_cufile_error sim_cufile_handle_register(as_cufile_handle *handle,
                                           as_cufile_descriptor *descriptor)
{
    as_cufile_error r = enter("cuFileHandleRegister");
    struct stat status;
    if (!r.code && descriptor->type != AS_CUFILE_OPAQUE_FD) {
        r.code = AS_CUFILE_INVALID_VALUE;
    }
    if (!r.code) {
        r.code = check_descriptor(descriptor->file.fd, &status);
    }
    if (!r.code) {
        r.code = add_handle(descriptor->file.fd, &status, handle);
    }
    return leave(r);
}

/* The handle, if it stands for an open file still. */
static sim_handle *find_handle(const char *call, as_cufile_handle handle)
{
    struct stat status;
    for (int i = 0; i < MOST_HANDLES; i++) {
        sim_handle *h = &sim_cufile_state.handles[i];
        if (h != handle || !h->used) {
            continue;
        }
        if (fstat(h->fd, &status) != 0 || status.st_dev != h->device || status.st_ino != h->file) {
            sim_cufile_fault("%s of a file that was closed before", call);
        }
        return h;
    }
    sim_cufile_fault("%s of a handle that is not registered", call);
    return NULL;
}

void sim_cufile_handle_deregister(as_cufile_handle handle)
{
    as_cufile_error r = enter("cuFileHandleDeregister");
    sim_handle *h = find_handle("cuFileHandleDeregister", handle);
    if (h && h->busy) {
        sim_cufile_fault("cuFileHandleDeregister of a handle that is used");
    }
    if (h) {
        h->used = false;
    }
    (void)leave(r);
}

/* ---- buffers ---- */

static sim_buffer *find_buffer(uint64_t base)
{
    for (int i = 0; i < MOST_BUFFERS; i++) {
        if (sim_cufile_state.buffers[i].used && sim_cufile_state.buffers[i].base == base) {
            return &sim_cufile_state.buffers[i];
        }
    }
    return NULL;
}

static as_cufile_error add_buffer(uint64_t base, size_t bytes)
{
    int cuda = 0;
    uint64_t allocation = sim_cufile_allocation(base, bytes, &cuda);
    if (cuda) {
        return cuda_result(cuda);
    }
    if (!allocation || base % ALIGN != 0 || bytes == 0) {
        sim_cufile_fault("cuFileBufRegister of %zu bytes at %#llx, which no allocation has", bytes,
                         (unsigned long long)base);
        return result(AS_CUFILE_CUDA_POINTER_INVALID);
    }
    sim_buffer *spare = NULL;
    for (int i = 0; i < MOST_BUFFERS; i++) {
        sim_buffer *b = &sim_cufile_state.buffers[i];
        if (b->used && b->base < base + bytes && base < b->base + b->bytes) {
            sim_cufile_fault("cuFileBufRegister of memory that is registered");
            return result(AS_CUFILE_MEMORY_ALREADY_REGISTERED);
        }
        spare = !spare && !b->used ? b : spare;
    }
    if (!spare) {
        return result(AS_CUFILE_NOMEM);
    }
    *spare = (sim_buffer){.used = true, .base = base, .bytes = bytes, .allocation = allocation};
    return result(0);
}

as_cufile_error sim_cufile_buffer_register(const void *base, size_t bytes, int flags)
{
    as_cufile_error r = enter("cuFileBufRegister");
    if (!r.code) {
        r = flags ? result(AS_CUFILE_INVALID_VALUE) : add_buffer((uintptr_t)base, bytes);
    } else if (r.code == AS_CUFILE_MEMORY_ALREADY_REGISTERED) { /* a test says so: it is, then */
        (void)add_buffer((uintptr_t)base, bytes);
    }
    return leave(r);
}

as_cufile_error sim_cufile_buffer_deregister(const void *base)
{
    as_cufile_error r = enter("cuFileBufDeregister");
    sim_buffer *b = find_buffer((uintptr_t)base);
    int cuda = 0;
    if (!b) {
        sim_cufile_fault("cuFileBufDeregister of memory that is not registered");
        r.code = r.code ? r.code : AS_CUFILE_MEMORY_NOT_REGISTERED;
    } else if (b->busy) {
        sim_cufile_fault("cuFileBufDeregister of memory that is used");
    } else if (!r.code && sim_cufile_allocation(b->base, b->bytes, &cuda) != b->allocation &&
               !cuda) {
        sim_cufile_fault("cuFileBufDeregister of memory that was freed before");
    }
    if (b) {
        b->used = false;
    }
    return leave(r);
}

/* ---- reads and writes ---- */

/* A read or write on its way. */
typedef struct transfer {
    const char *call;
    sim_handle *handle;
    sim_buffer *buffer;
    uint64_t at; /* on the device */
    size_t bytes;
    off_t offset;
    int delay;
} transfer;

static as_cufile_error find_range(transfer *t, uint64_t base, off_t buffer_offset)
{
    int cuda = 0;
    t->buffer = find_buffer(base);
    if (!t->buffer) {
        sim_cufile_fault("%s of memory that is not registered", t->call);
        return result(AS_CUFILE_MEMORY_NOT_REGISTERED);
    }
    t->at = base + (uint64_t)buffer_offset;
    if (buffer_offset < 0 || (uint64_t)buffer_offset > t->buffer->bytes ||
        t->bytes > t->buffer->bytes - (uint64_t)buffer_offset) {
        sim_cufile_fault("%s beyond the registered range", t->call);
        return result(AS_CUFILE_CUDA_POINTER_RANGE_ERROR);
    }
    if (t->offset < 0 || t->offset % ALIGN || t->bytes % ALIGN || buffer_offset % ALIGN ||
        t->bytes == 0) {
        sim_cufile_fault("%s of %zu bytes from offset %lld of the file and %lld of the buffer",
                         t->call, t->bytes, (long long)t->offset, (long long)buffer_offset);
        return result(AS_CUFILE_INVALID_VALUE);
    }
    uint64_t allocation = sim_cufile_allocation(base, t->buffer->bytes, &cuda);
    if (cuda) {
        return cuda_result(cuda);
    }
    if (allocation != t->buffer->allocation) {
        sim_cufile_fault("%s of memory that was freed", t->call);
        return result(AS_CUFILE_CUDA_POINTER_INVALID);
    }
    return result(0);
}

/* 0: the transfer may begin; else what the call returns. */
static ssize_t begin(transfer *t, as_cufile_handle handle, const void *base, off_t buffer_offset)
{
    as_cufile_error r = enter(t->call);
    if (!r.code) {
        t->handle = find_handle(t->call, handle);
        r.code = t->handle ? 0 : AS_CUFILE_HANDLE_NOT_REGISTERED;
    }
    if (!r.code) {
        r = find_range(t, (uintptr_t)base, buffer_offset);
    }
    if (!r.code) {
        t->handle->busy++;
        t->buffer->busy++;
        t->bytes = sim_cufile_state.most > 0 && (int64_t)t->bytes > sim_cufile_state.most
                       ? (size_t)sim_cufile_state.most
                       : t->bytes;
        t->delay = sim_cufile_next_delay();
    }
    (void)leave(r);
    if (r.code > 0 && r.code < AS_CUFILE_DRIVER_NOT_INITIALIZED) {
        errno = r.code;
        return -1;
    }
    return -r.code;
}

static void end(const transfer *t, ssize_t done, int64_t *count)
{
    lock();
    t->handle->busy--;
    t->buffer->busy--;
    *count += done > 0 ? done : 0;
    (void)leave(result(0));
}

/* What is no whole page, in a write that is to be short, goes through the page cache. */
static ssize_t write_ragged(int fd, const char *tile, size_t bytes, off_t offset)
{
    char path[40];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int plain = open(path, O_WRONLY | O_CLOEXEC);
    if (plain < 0) {
        return -1;
    }
    ssize_t n = pwrite(plain, tile, bytes, offset);
    (void)close(plain);
    return n;
}

static ssize_t move_tile(const transfer *t, bool write, char *tile, size_t done, size_t step)
{
    size_t whole = (step + ALIGN - 1) / ALIGN * ALIGN;
    off_t offset = t->offset + (off_t)done;
    if (write) {
        sim_cufile_from(tile, t->at + done, step);
        return step == whole ? pwrite(t->handle->fd, tile, whole, offset)
                             : write_ragged(t->handle->fd, tile, step, offset);
    }
    ssize_t n = pread(t->handle->fd, tile, whole, offset);
    n = n > (ssize_t)step ? (ssize_t)step : n;
    if (n > 0) {
        sim_cufile_to(t->at + done, tile, (size_t)n);
    }
    return n;
}

static ssize_t move(const transfer *t, bool write, char *tile)
{
    size_t done = 0;
    while (done < t->bytes) {
        ssize_t step = (ssize_t)(t->bytes - done < TILE ? t->bytes - done : TILE);
        ssize_t n = move_tile(t, write, tile, done, (size_t)step);
        if (n < 0) {
            return done > 0 ? (ssize_t)done : -1;
        }
        done += (size_t)n;
        if (n != step) {
            break;
        }
    }
    return (ssize_t)done;
}

static ssize_t transfer_bytes(transfer *t, bool write, as_cufile_handle handle, const void *base,
                              off_t buffer_offset, int64_t *count)
{
    void *tile = NULL;
    ssize_t n = begin(t, handle, base, buffer_offset);
    if (n < 0 || !t->handle || !t->buffer) {
        return n;
    }
    sim_cufile_wait(t->delay);
    if (posix_memalign(&tile, ALIGN, TILE) != 0) {
        n = -AS_CUFILE_NOMEM;
    } else {
        n = move(t, write, tile);
    }
    int kept = errno;
    free(tile);
    end(t, n, count);
    errno = kept;
    return n;
}

ssize_t sim_cufile_write(as_cufile_handle handle, const void *base, size_t bytes, off_t file_offset,
                         off_t buffer_offset)
{
    transfer t = {.call = "cuFileWrite", .bytes = bytes, .offset = file_offset};
    return transfer_bytes(&t, true, handle, base, buffer_offset, &sim_cufile_state.written);
}

ssize_t sim_cufile_read(as_cufile_handle handle, void *base, size_t bytes, off_t file_offset,
                        off_t buffer_offset)
{
    transfer t = {.call = "cuFileRead", .bytes = bytes, .offset = file_offset};
    return transfer_bytes(&t, false, handle, base, buffer_offset, &sim_cufile_state.read);
}
