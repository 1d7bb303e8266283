/* SPDX-License-Identifier: Apache-2.0
 * GPU-direct, simulated, in trouble: what cuFile or the machine refuse is done by the host, with the
 * reason shown; storage and devices that fail give one error on all ranks, the old checkpoint stays,
 * and no byte is wrong. (ALLSHARD_NO_MPI: also as one process.)
 */
/* simulated: cuda */
/* ranks: 2 */
/* timeout: 120 */
#include <errno.h>

#include "gds_scene.h"
#include "io/cufile_abi.h"

/* ---- refusals ---- */

static int refuse_direct(int folder, const char *path, int flags, mode_t mode)
{
    if (flags & O_DIRECT) {
        errno = EINVAL;
        return -1;
    }
    return good.openat(folder, path, flags, mode);
}

/* Where cuFile is to fail; on all ranks. */
typedef struct refusal {
    const char *what;
    const char *call; /* NULL: none */
    int nth;          /* of saves; as sim_file_refuse */
    int code;
    bool load;          /* the same, of loads */
    const char *engine; /* that stays: "gds", or NULL: another */
    const char *reason; /* holds this */
} refusal;

static const refusal refusals[] = {
    {"no driver", "cuFileDriverOpen", -1, AS_CUFILE_NVFS_DRIVER_ERROR, false, NULL,
     "GPU-direct: cuFileDriverOpen: CU_FILE_NVFS_DRIVER_ERROR"},
    {"no driver", "cuFileDriverOpen", -1, AS_CUFILE_NVFS_DRIVER_ERROR, true, NULL,
     "GPU-direct: cuFileDriverOpen: CU_FILE_NVFS_DRIVER_ERROR"},
    {"no memory is registered", "cuFileBufRegister", -1, AS_CUFILE_GPU_MEMORY_PINNING_FAILED, false,
     NULL, "GPU-direct: cuFileBufRegister: CU_FILE_GPU_MEMORY_PINNING_FAILED (5036)"},
    {"not after the trial", "cuFileBufRegister", -2, AS_CUFILE_GPU_MEMORY_PINNING_FAILED, false,
     NULL, "GPU-direct: cuFileBufRegister: CU_FILE_GPU_MEMORY_PINNING_FAILED (5036)"},
    {"not so much", "cuFileBufRegister", 2, AS_CUFILE_GPU_MEMORY_PINNING_FAILED, false, "gds",
     NULL},
    {"no handle", "cuFileHandleRegister", -1, AS_CUFILE_INTERNAL_ERROR, false, NULL,
     "GPU-direct: cuFileHandleRegister: CU_FILE_INTERNAL_ERROR (5030)"},
    {"no handle after the trial", "cuFileHandleRegister", -2, AS_CUFILE_INTERNAL_ERROR, false, NULL,
     "GPU-direct: cuFileHandleRegister: CU_FILE_INTERNAL_ERROR (5030)"},
    {"no handle", "cuFileHandleRegister", -1, AS_CUFILE_INTERNAL_ERROR, true, NULL,
     "GPU-direct: cuFileHandleRegister: CU_FILE_INTERNAL_ERROR (5030)"},
    {"no write", "cuFileWrite", 1, AS_CUFILE_IO_NOT_SUPPORTED, false, NULL,
     "GPU-direct: cuFileWrite: CU_FILE_IO_NOT_SUPPORTED (5008)"},
    {"no second write", "cuFileWrite", 2, AS_CUFILE_IO_NOT_SUPPORTED, false, NULL,
     "GPU-direct: cuFileWrite: CU_FILE_IO_NOT_SUPPORTED (5008)"},
    {"no later write", "cuFileWrite", 5, AS_CUFILE_INTERNAL_ERROR, false, NULL,
     "GPU-direct, at first: cuFileWrite: CU_FILE_INTERNAL_ERROR (5030)"},
    {"an odd write", "cuFileWrite", 4, EINVAL, false, NULL,
     "GPU-direct, at first: cuFileWrite: Invalid argument"},
    {"a write again", "cuFileWrite", 4, EINTR, false, "gds", NULL},
    {"no read", "cuFileRead", 1, AS_CUFILE_IO_NOT_SUPPORTED, true, NULL,
     "GPU-direct: cuFileRead: CU_FILE_IO_NOT_SUPPORTED (5008)"},
    {"no later read", "cuFileRead", 3, AS_CUFILE_CUDA_DRIVER_ERROR, true, NULL,
     "GPU-direct, at first: cuFileRead: CU_FILE_CUDA_DRIVER_ERROR (5011"},
    {"an odd read", "cuFileRead", 3, ENODEV, true, NULL,
     "GPU-direct, at first: cuFileRead: No such device"},
};

static void check_refusal(const refusal *r)
{
    ranks_scene("%s, %s %d", r->what, r->call, r->nth);
    const char *expected = scratch_path("expected");
    const char *found = scratch_path("found");
    pair p;
    pair_make(&p, LAYOUT_FSDP, false, 1U << TWIN_DEVICE_0);
    allshard_save_options o = save_options("posix", 65536);
    GOOD(p.as, allshard_save(p.host, expected, &o));
    o.engine = "gds";
    file->refuse(r->call, r->nth, r->code);
    if (r->load) {
        spoil(&p);
        GOOD(p.as, load_with(&p, "gds", expected));
        check_engine(&p, r->engine ? r->engine : "another", r->reason);
        check_loaded(&p, expected);
    } else {
        GOOD(p.as, allshard_save(p.there, found, &o));
        check_engine(&p, r->engine ? r->engine : "another", r->reason);
        compare_folders(expected, found);
    }
    pair_free(&p);
    calm();
}

/* The machine's refusals. */
static void check_machine(void)
{
    const char *const reasons[] = {"GPU-direct: /run/udev is no folder here",
                                   "GPU-direct: O_DIRECT: open: Invalid argument",
                                   "GPU-direct: the device has no GPUDirect RDMA"};
    for (int i = 0; i < 3; i++) {
        ranks_scene("no, since: %s", reasons[i]);
        pair p;
        as_sys_table = good;
        play_machine(i != 0, NULL);
        if (i == 1) {
            as_sys_table.openat = refuse_direct;
        }
        sim->attribute(AS_CU_DEVICE_GPU_DIRECT_RDMA, i != 2);
        pair_make(&p, LAYOUT_WHOLE, false, 1U << TWIN_DEVICE_0);
        allshard_save_options o = save_options("gds", 65536);
        GOOD(p.as, allshard_save(p.there, scratch_path("found"), &o));
        check_engine(&p, "another", reasons[i]);
        spoil(&p);
        GOOD(p.as, load_with(&p, "gds", scratch_path("found")));
        if (i != 1) {
            check_engine(&p, "another", reasons[i]);
        }
        check_loaded(&p, scratch_path("found"));
        pair_free(&p);
        calm();
    }
    as_sys_table = good;
    play_machine(true, NULL);
}

/* ---- failures: on the last rank alone ---- */

typedef struct failure {
    const char *call;
    int nth;
    int code;
    bool load;
    bool cuda; /* a call of CUDA's */
    int expected;
    const char *text;
} failure;

static const failure failures[] = {
    {"cuFileWrite", 3, ENOSPC, false, false, ALLSHARD_SYSTEM, "cuFileWrite: "},
    {"cuFileWrite", 3, EDQUOT, false, false, ALLSHARD_SYSTEM, "cuFileWrite: "},
    {"cuFileWrite", 4, AS_CUFILE_IO_ERROR, false, false, ALLSHARD_SYSTEM, "Input/output error"},
    {"cuFileRead", 2, EIO, true, false, ALLSHARD_SYSTEM, "cuFileRead: "},
    {"cuFileRead", 2, AS_CUFILE_IO_ERROR, true, false, ALLSHARD_SYSTEM, "cuFileRead: "},
    {"cuMemcpyDtoDAsync", 2, AS_CU_ILLEGAL_ADDRESS, false, true, ALLSHARD_CUDA,
     "cuMemcpyDtoDAsync"},
    {"cuMemcpyDtoDAsync", 2, AS_CU_ILLEGAL_ADDRESS, true, true, ALLSHARD_CUDA, "cuMemcpyDtoDAsync"},
};

static void check_failure(const failure *f)
{
    ranks_scene("%s %d gives %d", f->call, f->nth, f->code);
    const char *folder = scratch_path("failed");
    bool mine = world_rank() == world_size() - 1;
    pair p;
    pair_make(&p, LAYOUT_FSDP, false, 1U << TWIN_DEVICE_0);
    allshard_save_options o = save_options("gds", 65536);
    GOOD(p.as, allshard_save(p.there, folder, &o));
    if (mine && f->cuda) {
        sim->inject(f->call, f->nth, f->code);
    } else if (mine) {
        file->refuse(f->call, f->nth, f->code);
    }
    if (f->load) {
        FAILS(p.as, load_with(&p, "gds", folder), f->expected, f->text);
    } else {
        FAILS(p.as, allshard_save(p.there, folder, &o), f->expected, f->text);
    }
    calm();
    /* The old checkpoint is there, and the context as good as before. */
    spoil(&p);
    GOOD(p.as, load_with(&p, "gds", folder));
    check_loaded(&p, folder);
    pair_free(&p);
}

/* A byte of the file is another. */
static void check_rot(void)
{
    ranks_scene("rot");
    const char *folder = scratch_path("rot");
    pair p;
    pair_make(&p, LAYOUT_FSDP, false, 1U << TWIN_DEVICE_0);
    allshard_save_options o = save_options("gds", 65536);
    GOOD(p.as, allshard_save(p.there, folder, &o));
    if (world_rank() == 0) {
        char path[512];
        unsigned char byte;
        (void)snprintf(path, sizeof path, "%s/model.safetensors", folder);
        int fd = open(path, O_RDWR);
        CHECK(fd >= 0 && pread(fd, &byte, 1, 1000003) == 1);
        byte ^= 4;
        CHECK(pwrite(fd, &byte, 1, 1000003) == 1 && fsync(fd) == 0 && close(fd) == 0);
    }
    ranks_wait(world_comm());
    FAILS(p.as, load_with(&p, "gds", folder), ALLSHARD_CORRUPT, "model.safetensors");
    pair_free(&p);
}

/* ---- CUDA: any call, on the last rank alone ---- */

static const char *const cuda_calls[] = {
    "cuCtxPushCurrent",
    "cuStreamCreateWithPriority",
    "cuMemcpyDtoHAsync",
    "cuMemcpyHtoDAsync",
    "cuMemcpyDtoDAsync",
    "cuStreamSynchronize",
    "cuMemAlloc",
    "cuMemHostRegister",
    "cuPointerGetAttributes",
    "cuEventRecord",
    "cuEventQuery",
    "cuCtxPopCurrent",
};

/* AS_OK, and all is well, or an error of CUDA's that names a call, the same on all ranks. */
static bool check_outcome(const pair *p, int code)
{
    if (code == ALLSHARD_OK) {
        return true;
    }
    allshard_error e = {.size = sizeof e};
    CHECK(allshard_last_error(p->as, &e) == code);
    CHECK_TEXT(code == ALLSHARD_CUDA || code == ALLSHARD_NOMEM, "%d: %s", code, e.text);
    CHECK_TEXT(strstr(e.text, "cu") != NULL, "%s", e.text);
    CHECK(ranks_agree(world_comm(), e.text, strlen(e.text)));
    return false;
}

static bool check_trouble(const char *call, int nth, int code, bool load)
{
    ranks_scene("%s %d gives %d in a %s", call, nth, code, load ? "load" : "save");
    const char *old = scratch_path("old");
    const char *folder = scratch_path("trouble");
    bool mine = world_rank() == world_size() - 1;
    pair p;
    pair_make(&p, LAYOUT_FSDP, false, 1U << TWIN_DEVICE_0);
    allshard_save_options o = save_options("gds", 65536);
    GOOD(p.as, allshard_save(p.there, folder, &o));
    GOOD(p.as, allshard_save(p.host, old, &o));
    if (mine) {
        sim->inject(call, nth, code);
    }
    int outcome = load ? load_with(&p, "gds", folder) : allshard_save(p.there, folder, &o);
    bool well = check_outcome(&p, outcome);
    calm();
    if (!load) {
        compare_folders(old, folder);
    } else if (well) {
        check_loaded(&p, folder);
    }
    pair_free(&p);
    return well;
}

static int check_troubles(void)
{
    int cases = 0;
    int failed = 0;
    for (size_t i = 0; i < sizeof cuda_calls / sizeof *cuda_calls; i++) {
        for (int nth = 1; nth < 12; nth += is_sanitized() ? 8 : 3) {
            bool lost = (cases / 2) % 2;
            int code = lost ? AS_CU_ILLEGAL_ADDRESS : AS_CU_NOT_SUPPORTED;
            failed += !check_trouble(cuda_calls[i], nth, code, cases++ % 2);
        }
    }
    CHECK_TEXT(failed > 0 && failed < cases, "%d of %d fail", failed, cases);
    if (world_rank() == 0) {
        (void)printf("%d of %d calls of CUDA that failed made the call fail\n", failed, cases);
    }
    return cases;
}

int main(int argc, char **argv)
{
    double start = seconds_now();
    int cases = 0;
    if (gds_start(&argc, &argv)) {
        for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i += is_sanitized() ? 3 : 1) {
            check_refusal(&refusals[i]);
            cases++;
        }
        check_machine();
        for (size_t i = 0; i < sizeof failures / sizeof *failures; i++, cases++) {
            check_failure(&failures[i]);
        }
        check_rot();
        cases += check_troubles();
    }
    return gds_end(cases, start);
}
