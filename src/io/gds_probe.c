/* SPDX-License-Identifier: Apache-2.0 */
#include "io/gds_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/sys.h"
#include "io/gds_area.h"

/* Says no. */
static bool refuse(as_gds_answer *a, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool refuse(as_gds_answer *a, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(a->reason, sizeof a->reason, format, args);
    va_end(args);
    return false;
}

static bool refuse_cuda(as_gds_answer *a, const as_gds_question *q, const char *call,
                        as_cu_result r)
{
    as_error e = AS_ERROR_INIT;
    (void)as_cuda_fail(&e, q->cuda, call, r, "a trial");
    (void)refuse(a, "%s", as_error_text(&e));
    as_error_clear(&e);
    return false;
}

static bool refuse_cufile(as_gds_answer *a, const as_gds_question *q, const char *call,
                          as_cufile_error r)
{
    char text[AS_CUFILE_TEXT];
    return refuse(a, "%s", as_cufile_explain(text, q->cuda, call, r));
}

static bool refuse_errno(as_gds_answer *a, const char *what, int sys_errno)
{
    char text[64];
    return refuse(a, "%s: %s", what, strerror_r(sys_errno, text, sizeof text));
}

/* ---- the machine ---- */

/* Windows' Linux has device nodes and libraries that do not lead to the device's memory. */
static bool is_wsl(void)
{
    char release[256] = "";
    int fd = as_open(AT_FDCWD, "/proc/sys/kernel/osrelease", O_RDONLY, 0);
    if (fd < 0) {
        return false;
    }
    ssize_t n = as_sys_table.pread(fd, release, sizeof release - 1, 0);
    release[n > 0 ? n : 0] = '\0';
    (void)as_sys_table.close(fd);
    return strcasestr(release, "microsoft") || strcasestr(release, "wsl");
}

static bool look_at_machine(const as_gds_question *q, as_gds_answer *a)
{
    struct stat status;
    int direct = 0;
    if (as_sys_table.fstatat(AT_FDCWD, "/run/udev", &status, 0) != 0 || !S_ISDIR(status.st_mode)) {
        return refuse(a, "/run/udev is no folder here (in a container it must be mounted), and "
                         "cuFile finds disks by udev");
    }
    if (is_wsl()) {
        return refuse(a, "cuFile does not work in WSL");
    }
    as_cu_result r = q->cuda->device_attribute(&direct, AS_CU_DEVICE_GPU_DIRECT_RDMA, q->device);
    if (r) {
        return refuse_cuda(a, q, "cuDeviceGetAttribute", r);
    }
    return direct ? true : refuse(a, "the device has no GPUDirect RDMA");
}

/* ---- cuFile's driver: with the context current ---- */

static bool look_at_driver(const as_gds_question *q, const as_cufile *cufile, as_gds_answer *a)
{
    as_cufile_error r = cufile->driver_open();
    bool opened = r.code == 0;
    if (!opened && r.code != AS_CUFILE_DRIVER_ALREADY_OPEN) {
        return refuse_cufile(a, q, "cuFileDriverOpen", r);
    }
    as_cufile_properties properties;
    memset(&properties, 0, sizeof properties);
    r = cufile->driver_properties(&properties);
    a->compatible = r.code == 0 && properties.nvfs_major == 0 && properties.nvfs_minor == 0;
    if (r.code == 0 && (!a->compatible || q->wish == AS_GDS_ASKED)) {
        return true;
    }
    if (opened && cufile->driver_close) {
        (void)cufile->driver_close(); /* it has memory and threads, and nobody uses it */
    }
    return r.code ? refuse_cufile(a, q, "cuFileDriverGetProperties", r)
                  : refuse(a, "the kernel module nvidia-fs is not there: cuFile's compatibility "
                              "mode would be slower than copies by the host");
}

/* ---- a trial ---- */

typedef struct trial {
    const as_gds_question *q;
    const as_cufile *cufile;
    as_gds_area area;
    char *host; /* AS_GDS_ALIGN bytes that are known, and room for those that come back */
    int plain;
    int direct;
    as_cufile_handle handle;
} trial;

/* Known bytes into the device's memory. */
static bool fill_area(trial *t, as_gds_answer *a)
{
    const as_cuda *cuda = t->q->cuda;
    as_cu_stream stream = NULL;
    for (int i = 0; i < AS_GDS_ALIGN; i++) {
        t->host[i] = (char)(i * 7 + i / 256 + 1);
    }
    const char *call = "cuStreamCreateWithPriority";
    as_cu_result r = cuda->stream_create(&stream, AS_CU_STREAM_NON_BLOCKING, 0);
    if (r == AS_CU_SUCCESS) {
        call = "cuMemcpyHtoDAsync";
        r = cuda->copy_to_device(t->area.base, t->host, AS_GDS_ALIGN, stream);
        as_cu_result waited = cuda->stream_synchronize(stream);
        if (r == AS_CU_SUCCESS && waited) {
            call = "cuStreamSynchronize";
            r = waited;
        }
        (void)cuda->stream_destroy(stream);
    }
    return r ? refuse_cuda(a, t->q, call, r) : true;
}

static bool write_and_compare(trial *t, as_gds_answer *a)
{
    ssize_t n = t->cufile->write(t->handle, as_gds_pointer(t->area.base), AS_GDS_ALIGN, 0, 0);
    if (n == -1) {
        return refuse_errno(a, "cuFileWrite", errno);
    }
    if (n < 0) {
        return refuse_cufile(a, t->q, "cuFileWrite", (as_cufile_error){.code = (int)-n});
    }
    if (n != AS_GDS_ALIGN) {
        return refuse(a, "cuFileWrite wrote %zd bytes of %d", n, AS_GDS_ALIGN);
    }
    char *back = t->host + AS_GDS_ALIGN;
    n = as_sys_table.pread(t->plain, back, AS_GDS_ALIGN, 0);
    if (n < 0) {
        return refuse_errno(a, "what cuFileWrite wrote cannot be read", errno);
    }
    return n == AS_GDS_ALIGN && memcmp(back, t->host, AS_GDS_ALIGN) == 0
               ? true
               : refuse(a, "cuFileWrite wrote other bytes than those of the device");
}

/* A file with a name, since cuFile refuses those that never had one. */
static bool write_file(trial *t, int folder, const char *name, as_gds_answer *a)
{
    t->plain = as_open(folder, name, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (t->plain < 0) {
        return refuse_errno(a, "no trial file can be made", errno);
    }
    t->direct = as_open(folder, name, O_WRONLY | O_DIRECT, 0);
    if (t->direct < 0) {
        return refuse_errno(a, "O_DIRECT: open", errno);
    }
    as_cufile_descriptor d = {.type = AS_CUFILE_OPAQUE_FD, .file = {.fd = t->direct}};
    as_cufile_error r = t->cufile->handle_register(&t->handle, &d);
    if (r.code) {
        t->handle = NULL;
        return refuse_cufile(a, t->q, "cuFileHandleRegister", r);
    }
    return write_and_compare(t, a);
}

static bool try_folder(trial *t, as_gds_answer *a)
{
    char name[80];
    int folder = as_open(AT_FDCWD, t->q->folder, O_RDONLY | O_DIRECTORY, 0);
    if (folder < 0) {
        return refuse_errno(a, "the folder cannot be opened", errno);
    }
    (void)snprintf(name, sizeof name, ".allshard-trial-%ld-%llx", (long)getpid(),
                   (unsigned long long)as_clock());
    bool works = write_file(t, folder, name, a);
    if (t->handle) {
        t->cufile->handle_deregister(t->handle);
    }
    if (t->direct >= 0) {
        (void)as_sys_table.close(t->direct);
    }
    if (t->plain >= 0) {
        (void)as_sys_table.close(t->plain);
        if (as_sys_table.unlinkat(folder, name, 0) != 0) {
            /* Once more: a file that stays would puzzle people. */
            (void)as_sys_table.unlinkat(folder, name, 0);
        }
    }
    (void)as_sys_table.close(folder);
    return works;
}

static bool try_area(const as_gds_question *q, const as_cufile *cufile, as_gds_answer *a)
{
    trial t = {.q = q, .cufile = cufile, .plain = -1, .direct = -1};
    as_error e = AS_ERROR_INIT;
    t.host = malloc((size_t)2 * AS_GDS_ALIGN);
    if (!t.host) {
        return refuse(a, "out of memory");
    }
    bool works = as_gds_area_open(&t.area, cufile, q->cuda, AS_GDS_BASE, &e) == AS_OK;
    if (!works) {
        (void)refuse(a, "%s", as_error_text(&e));
        as_error_clear(&e);
    } else if (q->folder) {
        works = fill_area(&t, a) && try_folder(&t, a);
    }
    as_gds_area_close(&t.area, cufile, q->cuda);
    free(t.host);
    return works;
}

void as_gds_probe(const as_gds_question *q, as_gds_answer *a)
{
    *a = (as_gds_answer){.cufile = NULL};
    if (q->wish == AS_GDS_OFF) {
        (void)refuse(a, "another engine was asked for");
        return;
    }
    const char *reason;
    const as_cufile *cufile = as_cufile_library(&reason);
    if (!cufile) {
        (void)refuse(a, "%s", reason);
        return;
    }
    if (!look_at_machine(q, a)) {
        return;
    }
    as_cu_result r = q->cuda->context_push(q->context);
    if (r) {
        (void)refuse_cuda(a, q, "cuCtxPushCurrent", r);
        return;
    }
    if (look_at_driver(q, cufile, a) && try_area(q, cufile, a)) {
        a->cufile = cufile;
        (void)snprintf(a->reason, sizeof a->reason, "cuFile works, %s",
                       a->compatible ? "in its compatibility mode (without nvidia-fs)"
                                     : "with nvidia-fs");
    }
    as_cu_context old;
    (void)q->cuda->context_pop(&old);
}
