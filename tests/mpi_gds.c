/* SPDX-License-Identifier: Apache-2.0
 * GPU-direct, simulated: saves and loads with the engine "gds" give the bytes that the host's memory
 * gives, in blocks of all sizes, from pieces that lie dense and strided on two devices; whole pages
 * go by cuFile, as many as there are, and none that breaks a rule of cuFile's; what is refused on the
 * way to that is done by the host, with the reason shown; storage that fails gives one error on all
 * ranks, and the old checkpoint stays.
 */
/* simulated: cuda */
/* ranks: 2 1 3 */
/* timeout: 120 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/sys.h"
#include "io/cufile_abi.h"
#include "support_cufile.h"
#include "support_isave.h"
#include "support_ranks.h"
#include "support_snapshot.h"
#include "support_twin.h"

enum { CASES = 28, CASES_SANITIZED = 10, PAGE = 4096, LEAST = 16 << 10, MOST_TRIALS = 64 << 10 };

static twin_devices devices;
static const sim_library *sim;
static const sim_cufile_controls *file;
static as_sys good; /* the machine's, with udev */
static uint64_t random_state;

/* No trouble any more. */
static void calm(void)
{
    sim->reset();
    file->reset();
    sim->attribute(AS_CU_DEVICE_GPU_DIRECT_RDMA, 1);
}

/* ---- what is saved ---- */

static const model_tensor large_tensors[] = {
    {"large.weight", ALLSHARD_F32, 2, {350, 513}},
    {"large.narrow", ALLSHARD_BF16, 2, {30000, 6}},
    {"large.bytes", ALLSHARD_U8, 1, {600011}},
    {"large.heads", ALLSHARD_F16, 3, {6, 64, 900}},
};
static const model large = {large_tensors, (int)(sizeof large_tensors / sizeof *large_tensors)};

/* The same on the host and on devices. */
typedef struct pair {
    holding h;
    twin t;
    allshard *as;
    allshard_state *host;
    allshard_state *there;
} pair;

static int32_t stored_as_it_is(int32_t dtype)
{
    (void)dtype;
    return 0;
}

static void pair_make(pair *p, enum layout layout, bool strided, unsigned kinds)
{
    allshard_options options = {.size = sizeof options};
    CHECK(allshard_open(&p->as, world_comm(), &options) == ALLSHARD_OK);
    holding_make(&p->h, &large, layout, world_rank(), world_size(), strided);
    twin_make(&p->t, &devices, &p->h, kinds, &random_state);
    GOOD(p->as, allshard_state_create(&p->host, p->as, "model"));
    holding_declare(&p->h, p->as, p->host);
    GOOD(p->as, allshard_state_create(&p->there, p->as, "model"));
    twin_declare(&p->t, p->as, p->there, stored_as_it_is);
    holding_fill(&p->h);
    twin_put(&p->t, TWIN_LEGACY, NULL);
}

static void pair_free(pair *p)
{
    (void)allshard_state_free(p->host);
    (void)allshard_state_free(p->there);
    CHECK(allshard_close(p->as) == ALLSHARD_OK);
    CHECK(sim->context_synchronize() == AS_CU_SUCCESS);
    twin_free(&p->t);
    holding_free(&p->h);
    CHECK(file->live("handles") == 0 && file->live("buffers") == 0);
    CHECK_TEXT(!*file->faults(), "cuFile: %s", file->faults());
    twin_check(&devices);
}

static allshard_save_options save_options(const char *engine, int64_t block_bytes)
{
    return (allshard_save_options){
        .size = sizeof(allshard_save_options), .engine = engine, .block_bytes = block_bytes};
}

static int load_with(const pair *p, const char *engine, const char *folder)
{
    allshard_load_options o = {.size = sizeof o, .engine = engine};
    return allshard_load(p->there, folder, &o);
}

/* All memory is waste, on both sides. */
static void spoil(const pair *p)
{
    size_t bytes = twin_bytes(&p->t);
    unsigned char *waste = malloc(bytes + 1);
    CHECK(waste != NULL);
    memset(waste, 0x3c, bytes);
    twin_put(&p->t, TWIN_LEGACY, waste);
    CHECK(sim->context_synchronize() == AS_CU_SUCCESS);
    for (size_t i = 0; i < p->h.count; i++) {
        memset(p->h.pieces[i].memory, 0x3c, p->h.pieces[i].bytes);
    }
    free(waste);
}

/* Has the device's memory what the host's gets from the same files? */
static void check_loaded(const pair *p, const char *folder)
{
    allshard_load_options o = {.size = sizeof o, .engine = "posix"};
    GOOD(p->as, allshard_load(p->host, folder, &o));
    const char *wrong = twin_wrong(&p->t);
    CHECK_TEXT(!wrong, "tensor %s came back otherwise", wrong ? wrong : "");
}

static allshard_stats stats_of(const pair *p)
{
    allshard_stats s = {.size = sizeof s};
    CHECK(allshard_get_stats(p->as, world_rank(), &s) == ALLSHARD_OK);
    return s;
}

/* What GPU-direct did or did not, by what the stats tell. A rank that moves nothing tells nothing. */
static void check_engine(const pair *p, const char *engine, const char *reason)
{
    allshard_stats s = stats_of(p);
    if (s.bytes_written + s.bytes_read > 0) {
        bool is = strcmp(s.engine, "gds") == 0;
        CHECK_TEXT(!engine || is == (strcmp(engine, "gds") == 0), "engine %s: %s", s.engine,
                   s.engine_reason);
        CHECK_TEXT(!reason || strstr(s.engine_reason, reason), "reason \"%s\", not \"%s\"",
                   s.engine_reason, reason);
    }
}

/* The same files, but for the manifest, which tells the engines. */
static void compare_folders(const char *expected, const char *found)
{
    ranks_wait(world_comm());
    if (world_rank() == 0) {
        snapshot a;
        snapshot b;
        CHECK(snapshot_take(&a, expected) && snapshot_take(&b, found));
        CHECK(a.count == b.count && a.count > 1);
        for (size_t i = 0; i < a.count; i++) {
            const snapshot_file *x = &a.files[i];
            const snapshot_file *y = &b.files[i];
            CHECK(strcmp(x->name, y->name) == 0);
            CHECK_TEXT(strcmp(x->name, "allshard.manifest.json") == 0 ||
                           (x->size == y->size && memcmp(x->bytes, y->bytes, x->size) == 0),
                       "%s is another", x->name);
        }
        snapshot_free(&a);
        snapshot_free(&b);
    }
    ranks_wait(world_comm());
}

/* ---- bit-equal ---- */

static void check_case(int number)
{
    static const int64_t blocks[] = {65536, 100032, 1 << 20, 28672, 0};
    static const unsigned kinds[] = {
        1U << TWIN_DEVICE_0, (1U << TWIN_DEVICE_0) | (1U << TWIN_DEVICE_1) | (1U << TWIN_MANAGED),
        (1U << TWIN_KINDS) - 1, (1U << TWIN_UNOWNED) | (1U << TWIN_DEVICE_1)};
    enum layout layout = (enum layout)(number % LAYOUT_COUNT);
    allshard_save_options o = save_options("posix", blocks[number % 5]);
    o.max_shard_size = number % 2 ? "5GB" : "1MB";
    o.checksum = number % 3 == 2 ? ALLSHARD_CHECKSUM_NONE : 0;
    o.verify_after_write = number % 4 == 3;
    ranks_scene("case %d: %s, blocks of %lld", number, layout_name(layout),
                (long long)o.block_bytes);
    const char *expected = scratch_path("expected");
    const char *found = scratch_path("found");
    pair p;
    pair_make(&p, layout, number >= LAYOUT_COUNT, kinds[number % 4]);
    sim->delay((unsigned)number, number % 3 ? 100 : 0);
    file->delay((unsigned)number, number % 3 ? 100 : 0);
    file->shorten(number % 7 == 5 ? 5000 : number % 7 == 6 ? 12288 : 0);
    int64_t written = file->live("written");
    GOOD(p.as, allshard_save(p.host, expected, &o));
    CHECK(file->live("written") == written);
    o.engine = "gds";
    GOOD(p.as, allshard_save(p.there, found, &o));
    compare_folders(expected, found);
    written = ranks_sum(world_comm(), file->live("written") - written);
    bool plain = number < LAYOUT_COUNT && number % 4 != 2 && o.block_bytes &&
                 (layout == LAYOUT_WHOLE || layout == LAYOUT_FSDP || layout == LAYOUT_FLAT);
    CHECK_TEXT(written > MOST_TRIALS || !plain, "nothing went by cuFile: %s",
               stats_of(&p).engine_reason);
    spoil(&p);
    int64_t read = file->live("read");
    GOOD(p.as, load_with(&p, "gds", expected));
    check_loaded(&p, expected);
    read = ranks_sum(world_comm(), file->live("read") - read);
    CHECK_TEXT(read > 0 || !plain, "nothing came by cuFile");
    pair_free(&p);
    calm();
}

/* ---- how much goes which way ---- */

/* One tensor of bytes, all of it on rank 0's device: what of the file is in whole pages of blocks
 * that hold nothing but it. */
static int64_t pages_of(int64_t size, int64_t data, int64_t block)
{
    int64_t bytes = 0;
    for (int64_t low = 0; low < size; low += block) {
        int64_t high = low + block < size ? low + block : size;
        int64_t first = (low + PAGE - 1) / PAGE * PAGE;
        int64_t last = high / PAGE * PAGE;
        bytes += low >= data && last - first >= LEAST ? last - first : 0;
    }
    return bytes;
}

static void check_count(int64_t block, bool sums)
{
    enum { BYTES = 3000007 };
    ranks_scene("pages of blocks of %lld", (long long)block);
    bool mine = world_rank() == 0;
    allshard *as;
    allshard_state *s;
    allshard_options options = {.size = sizeof options};
    as_cu_pointer memory = 0;
    unsigned char *bytes = malloc(BYTES);
    CHECK(bytes != NULL);
    for (int i = 0; i < BYTES; i++) {
        bytes[i] = (unsigned char)(i * 31 + i / 251);
    }
    CHECK(devices.cuda->memory_alloc(&memory, BYTES) == AS_CU_SUCCESS);
    sim->write(memory, bytes, BYTES);
    CHECK(allshard_open(&as, world_comm(), &options) == ALLSHARD_OK);
    GOOD(as, allshard_state_create(&s, as, "model"));
    allshard_tensor t = {.size = sizeof t,
                         .name = "t",
                         .dtype = ALLSHARD_U8,
                         .ndim = 1,
                         .shape = (const int64_t[]){BYTES},
                         .data = (void *)(uintptr_t)memory};
    if (mine) {
        GOOD(as, allshard_state_tensor(s, &t));
    }
    allshard_save_options o = save_options("gds", block);
    o.checksum = sums ? 0 : ALLSHARD_CHECKSUM_NONE;
    int64_t before = file->live("written");
    int64_t copies = sim->calls("cuMemcpyDtoHAsync");
    int64_t probe = PAGE; /* of the trial */
    GOOD(as, allshard_save(s, scratch_path("count"), &o));
    if (mine) {
        int64_t size = 0;
        snapshot files;
        CHECK(snapshot_take(&files, scratch_path("count")));
        for (size_t i = 0; i < files.count; i++) {
            size = strcmp(files.files[i].name, "model.safetensors") == 0
                       ? (int64_t)files.files[i].size
                       : size;
        }
        snapshot_free(&files);
        int64_t pages = pages_of(size, size - BYTES, block);
        CHECK(pages > 0);
        CHECK_TEXT(file->live("written") - before == pages + probe, "%lld bytes, not %lld",
                   (long long)(file->live("written") - before), (long long)(pages + probe));
        /* Without checksums only ragged ends come to the host, and the block with the header. */
        copies = sim->calls("cuMemcpyDtoHAsync") - copies;
        CHECK_TEXT(sums || copies <= 1 + 2 * (size / block + 1), "%lld copies", (long long)copies);
        before = file->live("read");
    }
    allshard_load_options l = {.size = sizeof l, .engine = "gds"};
    l.checksum = sums ? 0 : ALLSHARD_CHECKSUM_NONE;
    l.block_bytes = block;
    GOOD(as, allshard_load(s, scratch_path("count"), &l));
    if (mine) {
        CHECK(file->live("read") > before);
        unsigned char *back = malloc(BYTES);
        CHECK(back != NULL);
        sim->read(back, memory, BYTES);
        CHECK(memcmp(back, bytes, BYTES) == 0);
        free(back);
    }
    (void)allshard_state_free(s);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    CHECK(devices.cuda->memory_free(memory) == AS_CU_SUCCESS);
    CHECK_TEXT(!*file->faults(), "cuFile: %s", file->faults());
    free(bytes);
}

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

/* ---- auto, nonblocking saves, and nothing on devices ---- */

static void check_auto(void)
{
    const char *expected = scratch_path("expected");
    const char *found = scratch_path("found");
    for (int i = 0; i < 3; i++) {
        ranks_scene("auto, %d", i);
        pair p;
        pair_make(&p, LAYOUT_WHOLE, false, 1U << TWIN_DEVICE_0);
        /* On one rank there are blocks enough for a trial, on three each has too few. */
        allshard_save_options o = save_options("posix", 16384);
        GOOD(p.as, allshard_save(p.host, expected, &o));
        o.engine = NULL;
        file->delay(1, i == 0 ? 30000 : 0);
        file->nvfs(i == 2 ? 0 : 2, i == 2 ? 0 : 17);
        GOOD(p.as, allshard_save(p.there, found, &o));
        allshard_stats s = stats_of(&p);
        if (strstr(s.engine_reason, "GPU-direct") || strcmp(s.engine, "gds") == 0) {
            bool few = strstr(s.engine_reason, "not tried for fewer than 128 blocks") != NULL;
            bool tried = strstr(s.engine_reason, "in a trial it moved ") != NULL;
            bool none = strstr(s.engine_reason, "nvidia-fs is not there") != NULL;
            CHECK_TEXT(few || (i == 2 ? none : tried), "%s: %s", s.engine, s.engine_reason);
            CHECK_TEXT(i > 0 || strcmp(s.engine, "gds") != 0, "the slower way has won");
            CHECK(world_size() > 1 || !few);
        }
        compare_folders(expected, found);
        spoil(&p);
        GOOD(p.as, load_with(&p, NULL, found));
        check_loaded(&p, found);
        pair_free(&p);
        calm();
    }
}

static void check_others(void)
{
    ranks_scene("a nonblocking save");
    pair p;
    pair_make(&p, LAYOUT_FSDP, false, 1U << TWIN_DEVICE_0);
    allshard_save_options o = save_options("gds", 65536);
    allshard_request *request = NULL;
    GOOD(p.as, allshard_isave(p.there, scratch_path("later"), &o, &request));
    GOOD(p.as, allshard_wait(&request, NULL));
    check_engine(&p, "another", "GPU-direct: nonblocking saves write from the host's memory");
    ranks_scene("nothing on devices");
    int64_t calls = file->calls(NULL);
    GOOD(p.as, allshard_save(p.host, scratch_path("host"), &o));
    check_engine(&p, "another", "GPU-direct: no piece lies on a device");
    CHECK(file->calls(NULL) == calls);
    pair_free(&p);
}

static bool has_direct(void)
{
    char name[40];
    (void)snprintf(name, sizeof name, "direct-%d", world_rank());
    const char *path = scratch_path(name);
    int fd = open(path, O_RDWR | O_CREAT | O_DIRECT, 0600);
    (void)unlink(path);
    return fd >= 0 && close(fd) == 0;
}

static void check_the_rest(void)
{
    for (int i = 0; i < 4; i++) {
        check_count(i % 2 ? 100032 : 65536, i < 2);
    }
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        check_refusal(&refusals[i]);
    }
    check_machine();
    for (size_t i = 0; i < sizeof failures / sizeof *failures; i++) {
        check_failure(&failures[i]);
    }
    check_rot();
    check_auto();
    check_others();
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 120);
    twin_open(&devices);
    sim = devices.sim;
    file = simulated_cufile();
    random_state = 7 + (uint64_t)world_rank();
    good = as_sys_table;
    play_machine(true, NULL);
    calm();
    double start = seconds_now();
    int count = is_sanitized() ? CASES_SANITIZED : CASES;
    int steps = ranks_max(world_comm(), !has_direct()) ? 0 : count; /* the same on all ranks */
    for (int i = 0; i < steps; i++) {
        check_case(is_sanitized() ? i * 3 : i);
    }
    if (steps) {
        check_the_rest();
    }
    ranks_scene("the end");
    as_sys_table = good;
    twin_close(&devices);
    if (world_rank() == 0) {
        (void)printf("%d cases in %.1f s, on simulated devices%s\n", steps, seconds_now() - start,
                     steps ? "" : ": the folder has no O_DIRECT");
    }
    return ranks_end();
}
