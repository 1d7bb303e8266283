/* SPDX-License-Identifier: Apache-2.0
 * allshard info: CUDA and cuFile. Without being asked to, nothing of them is called: to initialise CUDA
 * takes seconds and device memory on some machines.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/settings.h"
#include "base/quote.h"
#include "cli/info.h"
#include "device/cuda_kernel.h"
#include "device/cuda_library.h"
#include "io/gds_probe.h"

enum { NAME_BYTES = 128 };

typedef struct as_gpu {
    char name[NAME_BYTES];
    size_t bytes;
    int major;
    int minor;
    int multiprocessors;
    int rdma;
    char pci[32];
    char trouble[200]; /* why it is of no use; "": it is of use */
} as_gpu;

static int ask_attributes(const as_cuda *cuda, as_cu_device device, as_gpu *out, as_error *e)
{
    int domain = 0;
    int bus = 0;
    int slot = 0;
    const struct {
        int attribute;
        int *value;
    } asked[] = {{AS_CU_DEVICE_MAJOR, &out->major},
                 {AS_CU_DEVICE_MINOR, &out->minor},
                 {AS_CU_DEVICE_MULTIPROCESSORS, &out->multiprocessors},
                 {AS_CU_DEVICE_PCI_DOMAIN, &domain},
                 {AS_CU_DEVICE_PCI_BUS, &bus},
                 {AS_CU_DEVICE_PCI_DEVICE, &slot}};
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        as_cu_result r = cuda->device_attribute(asked[i].value, asked[i].attribute, device);
        if (r != AS_CU_SUCCESS) {
            return as_cuda_fail(e, cuda, "cuDeviceGetAttribute", r, "attribute %d of device %d",
                                asked[i].attribute, device);
        }
    }
    (void)snprintf(out->pci, sizeof out->pci, "%04x:%02x:%02x.0", (unsigned)domain, (unsigned)bus,
                   (unsigned)slot);
    /* Older drivers do not know it. */
    if (cuda->device_attribute(&out->rdma, AS_CU_DEVICE_GPU_DIRECT_RDMA, device) != AS_CU_SUCCESS) {
        out->rdma = 0;
    }
    return AS_OK;
}

/* Does a context come to be there? What is told of devices needs none. */
static void try_context(const as_cuda *cuda, as_cu_device device, as_gpu *out)
{
    as_cu_context context = NULL;
    as_error e = AS_ERROR_INIT;
    as_cu_result r = cuda->primary_retain(&context, device);
    if (r == AS_CU_SUCCESS) {
        (void)cuda->primary_release(device);
        return;
    }
    (void)as_cuda_fail(&e, cuda, "cuDevicePrimaryCtxRetain", r, "device %d", device);
    (void)snprintf(out->trouble, sizeof out->trouble, "%s", as_error_text(&e));
    as_error_clear(&e);
}

static int ask_device(const as_cuda *cuda, int ordinal, as_gpu *out, as_error *e)
{
    as_cu_device device = 0;
    *out = (as_gpu){.bytes = 0};
    const char *call = "cuDeviceGet";
    as_cu_result r = cuda->device_get(&device, ordinal);
    if (r == AS_CU_SUCCESS) {
        call = "cuDeviceGetName";
        r = cuda->device_name(out->name, (int)sizeof out->name, device);
    }
    if (r == AS_CU_SUCCESS) {
        call = "cuDeviceTotalMem";
        r = cuda->device_total(&out->bytes, device);
    }
    if (r != AS_CU_SUCCESS) {
        return as_cuda_fail(e, cuda, call, r, "device %d", ordinal);
    }
    int code = ask_attributes(cuda, device, out, e);
    if (code == AS_OK) {
        try_context(cuda, device, out);
    }
    return code;
}

static json_t *json_of(const as_gpu *g, int ordinal)
{
    char capability[32];
    (void)snprintf(capability, sizeof capability, "%d.%d", g->major, g->minor);
    return json_pack("{s:i, s:o, s:I, s:s, s:i, s:s, s:b, s:b, s:s}", "ordinal", ordinal, "name",
                     as_json_text(g->name, strlen(g->name)), "bytes", (json_int_t)g->bytes,
                     "capability", capability, "multiprocessors", g->multiprocessors, "pci", g->pci,
                     "gpu_direct_rdma", g->rdma != 0, "works", !g->trouble[0], "trouble",
                     g->trouble);
}

/* All devices, or the error of one: half an answer would be taken for the whole. */
static int ask_all(const as_cuda *cuda, int *version, int *count, as_gpu **out, as_error *e)
{
    as_cu_result r = cuda->driver_version(version);
    if (r != AS_CU_SUCCESS) {
        return as_cuda_fail(e, cuda, "cuDriverGetVersion", r, "the driver's version");
    }
    r = cuda->device_count(count);
    if (r != AS_CU_SUCCESS) {
        return as_cuda_fail(e, cuda, "cuDeviceGetCount", r, "the number of devices");
    }
    *out = calloc(*count > 0 ? (size_t)*count : 1, sizeof **out);
    if (!*out) {
        return as_fail_nomem(e);
    }
    int code = AS_OK;
    for (int i = 0; i < *count && code == AS_OK; i++) {
        code = ask_device(cuda, i, &(*out)[i], e);
    }
    return code;
}

static void tell_devices(const as_info *info, const as_cuda *cuda)
{
    int version = 0;
    int count = 0;
    as_gpu *gpus = NULL;
    as_error e = AS_ERROR_INIT;
    if (ask_all(cuda, &version, &count, &gpus, &e) != AS_OK) {
        as_info_row(info, "cuda", AS_INFO_NO, json_object(), "%s", as_error_text(&e));
        as_error_clear(&e);
        free(gpus);
        return;
    }
    json_t *devices = json_array();
    int works = 0;
    for (int i = 0; gpus && i < count; i++) {
        works += !gpus[i].trouble[0];
        if (json_array_append_new(devices, json_of(&gpus[i], i)) != 0) {
            json_decref(devices);
            devices = NULL;
        }
    }
    json_t *more = json_pack("{s:i, s:o}", "driver", version, "devices", devices);
    char broken[64] = "";
    if (works < count) {
        (void)snprintf(broken, sizeof broken, ", %d of no use", count - works);
    }
    as_info_row(info, "cuda", works > 0 ? AS_INFO_YES : AS_INFO_NO, more,
                "driver for CUDA %d.%d, %d device%s%s", version / 1000, version % 1000 / 10, count,
                count == 1 ? "" : "s", broken);
    for (int i = 0; gpus && i < count; i++) {
        as_info_line(info, "cuda:%d %s, %s, compute capability %d.%d, PCI %s%s", i, gpus[i].name,
                     as_human_bytes((int64_t)gpus[i].bytes).text, gpus[i].major, gpus[i].minor,
                     gpus[i].pci, gpus[i].rdma ? ", GPUDirect RDMA" : "");
        if (gpus[i].trouble[0]) {
            as_info_line(info, "cuda:%d is of no use: %s", i, gpus[i].trouble);
        }
    }
    free(gpus);
}

static const char *wished(void)
{
    const char *wish = getenv(AS_CUDA_VARIABLE);
    return wish ? wish : "";
}

static bool is_off(void)
{
    return strcmp(wished(), "off") == 0;
}

/* Saves and loads would not begin. */
static bool is_wrong(void)
{
    const char *wish = wished();
    return *wish && !is_off() && strcmp(wish, "auto") != 0 && strcmp(wish, "on") != 0;
}

static void tell_cuda(const as_info *i)
{
    const char *reason = NULL;
    if (is_off()) {
        as_info_row(i, "cuda", AS_INFO_NO, json_object(), AS_CUDA_VARIABLE " is off");
        return;
    }
    if (is_wrong()) {
        as_info_row(i, "cuda", AS_INFO_NO, json_object(),
                    AS_CUDA_VARIABLE " is %s; it must be auto, off or on",
                    as_quote(wished(), strlen(wished())).text);
        return;
    }
    if (i->cuda) {
        const as_cuda *cuda = as_cuda_library(AS_CUDA_ON, &reason);
        if (cuda) {
            tell_devices(i, cuda);
            return;
        }
    } else {
        reason = as_cuda_lacking();
        if (!reason) {
            as_info_row(i, "cuda", AS_INFO_UNKNOWN, json_object(),
                        "libcuda.so.1 is there; with --cuda it is initialised and its devices are "
                        "shown");
            return;
        }
    }
    as_info_row(i, "cuda", AS_INFO_NO, json_object(), "%s", reason);
}

/* On the first device; in the compatibility mode, too, which is told. */
static void try_cufile(const as_info *i, const as_cuda *cuda)
{
    as_gds_question q = {.wish = AS_GDS_ASKED, .cuda = cuda, .folder = i->folder};
    as_gds_answer a = {.cufile = NULL};
    as_error e = AS_ERROR_INIT;
    const char *call = "cuDeviceGet";
    as_cu_result r = cuda->device_get(&q.device, 0);
    if (r == AS_CU_SUCCESS) {
        call = "cuDevicePrimaryCtxRetain";
        r = cuda->primary_retain(&q.context, q.device);
    }
    if (r != AS_CU_SUCCESS) {
        (void)as_cuda_fail(&e, cuda, call, r, "device 0");
        as_info_row(i, "cufile", AS_INFO_NO, json_object(), "%s", as_error_text(&e));
        as_error_clear(&e);
        return;
    }
    as_gds_probe(&q, &a);
    as_info_row(i, "cufile", a.cufile ? AS_INFO_YES : AS_INFO_NO,
                a.cufile ? json_pack("{s:b}", "compatible", (int)a.compatible) : json_object(),
                "%s%s%s", a.reason, a.cufile ? ": tried with cuda:0 in " : "",
                a.cufile ? i->folder : "");
    (void)cuda->primary_release(q.device);
}

static void tell_cufile(const as_info *i)
{
    const char *reason = NULL;
    if (is_off() || is_wrong() || (i->cuda && !as_cuda_library(AS_CUDA_ON, &reason))) {
        as_info_row(i, "cufile", AS_INFO_NO, json_object(),
                    "it needs CUDA, which is not to be had here");
    } else if (!as_cufile_library(&reason)) {
        as_info_row(i, "cufile", AS_INFO_NO, json_object(), "%s", reason);
    } else if (i->cuda) {
        try_cufile(i, as_cuda_library(AS_CUDA_AUTO, &reason));
    } else {
        as_info_row(i, "cufile", AS_INFO_UNKNOWN, json_object(),
                    "libcufile is there; with --cuda it is tried");
    }
}

void as_info_cuda(const as_info *i)
{
    const char *how = NULL;
    tell_cuda(i);
    tell_cufile(i);
    bool built = as_kernel_built(&how);
    as_info_row(i, "kernel", built ? AS_INFO_YES : AS_INFO_NO, json_object(), "%s%s",
                built ? "packs strided pieces on devices: " : "", how);
}
