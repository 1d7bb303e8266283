/* SPDX-License-Identifier: Apache-2.0
 * Every no of the trial that GPU-direct depends on, with its reason; nothing stays of it, neither
 * files nor memory nor an open driver that nobody needs.
 * simulated: cuda
 */
#include "engine_support.h"

#include <dirent.h>
#include <sys/wait.h>

#include "io/gds_probe.h"
#include "support_cufile.h"
#include "support_faults.h"
#include "support_simulated.h"

static const sim_library *sim;
static const sim_cufile_controls *file;
static as_cu_context context;

static int open_all(void **state)
{
    sim = simulated();
    file = simulated_cufile();
    if (sim->cuda.init(0) || sim->cuda.primary_retain(&context, 1)) {
        return -1;
    }
    return open_scratch(state);
}

static int close_all(void **state)
{
    return sim->cuda.primary_release(1) ? -1 : close_scratch(state);
}

static int begin(void **state)
{
    (void)state;
    sim->reset();
    file->reset();
    sim->attribute(AS_CU_DEVICE_GPU_DIRECT_RDMA, 1);
    file->played(true); /* the folder may be one without O_DIRECT */
    return 0;
}

/* Memory goes when it is the last that this context has; the driver may be open. */
static int end(void **state)
{
    assert_string_equal(sim->faults(), "");
    assert_string_equal(file->faults(), "");
    assert_int_equal(sim->live("memory"), 0);
    assert_int_equal(sim->live("streams"), 0);
    assert_int_equal(sim->live("depth"), 0);
    assert_int_equal(file->live("handles"), 0);
    assert_int_equal(file->live("buffers"), 0);
    DIR *d = opendir(scratch);
    assert_non_null(d);
    struct dirent *entry;
    while ((entry = readdir(d))) {
        if (entry->d_name[0] != '.' || strlen(entry->d_name) > 2) {
            fail_msg("%s was left", entry->d_name);
        }
    }
    (void)closedir(d);
    return restore_table(state);
}

/* Where O_DIRECT is refused. */
static int open_plainly(int folder, const char *path, int flags, mode_t mode)
{
    return good.openat(folder, path, flags & ~O_DIRECT, mode);
}

static as_gds_answer ask_with(enum as_gds_wish wish, const char *folder)
{
    as_gds_answer a;
    as_gds_question q = {
        .wish = wish, .cuda = &sim->cuda, .context = context, .device = 1, .folder = folder};
    if (as_sys_table.openat == good.openat) {
        as_sys_table.openat = open_plainly;
    }
    if (as_sys_table.fstatat == good.fstatat) {
        play_machine(true, NULL);
    }
    as_gds_probe(&q, &a);
    if (a.cufile) {
        assert_null(strstr(a.reason, "cannot"));
    }
    return a;
}

static void check_no(enum as_gds_wish wish, const char *reason)
{
    as_gds_answer a = ask_with(wish, scratch);
    if (a.cufile || !strstr(a.reason, reason)) {
        fail_msg("\"%s\", not \"%s\"", a.reason, reason);
    }
    print_message("no: %s\n", a.reason);
}

static void check_yes(enum as_gds_wish wish, bool compatible)
{
    as_gds_answer a = ask_with(wish, scratch);
    if (!a.cufile) {
        fail_msg("%s", a.reason);
    }
    assert_int_equal(a.compatible, compatible);
    print_message("yes: %s\n", a.reason);
    assert_int_equal(file->live("drivers"), 1);
}

/* First of all tests: before anything is asked for nothing is called. */
static void test_not_asked(void **state)
{
    (void)state;
    int64_t calls = sim->calls(NULL);
    check_no(AS_GDS_OFF, "another engine was asked for");
    assert_int_equal(sim->calls(NULL), calls);
    assert_int_equal(file->calls(NULL), 0);
}

static void test_machine(void **state)
{
    (void)state;
    char path[300];
    play_machine(false, NULL);
    check_no(AS_GDS_ASKED, "/run/udev is no folder here");
    path_of("osrelease", path);
    const char *const releases[] = {"5.15.90.1-microsoft-standard-WSL2\n", "4.4.0-Microsoft\n"};
    for (int i = 0; i < 2; i++) {
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        assert_int_equal(write(fd, releases[i], strlen(releases[i])), strlen(releases[i]));
        assert_int_equal(close(fd), 0);
        as_sys_table.openat = open_plainly;
        play_machine(true, path);
        check_no(AS_GDS_ASKED, "does not work in WSL");
    }
    assert_int_equal(unlink(path), 0);
    play_machine(true, NULL);
    sim->attribute(AS_CU_DEVICE_GPU_DIRECT_RDMA, 0);
    check_no(AS_GDS_ASKED, "the device has no GPUDirect RDMA");
    assert_int_equal(file->calls(NULL), 0);
}

static void test_driver(void **state)
{
    (void)state;
    file->refuse("cuFileDriverOpen", 1, AS_CUFILE_NVFS_DRIVER_ERROR);
    check_no(AS_GDS_ASKED, "cuFileDriverOpen: CU_FILE_NVFS_DRIVER_ERROR (5010)");
    file->refuse("cuFileDriverGetProperties", 1, AS_CUFILE_INTERNAL_ERROR);
    check_no(AS_GDS_ASKED, "cuFileDriverGetProperties: CU_FILE_INTERNAL_ERROR (5030)");
    assert_int_equal(file->live("drivers"), 0);
    file->nvfs(0, 0);
    check_no(AS_GDS_AUTO, "the kernel module nvidia-fs is not there");
    assert_int_equal(file->live("drivers"), 0);
    check_yes(AS_GDS_ASKED, true);
    /* It is open now, by us or by others: it stays so, whatever the answer is. */
    check_no(AS_GDS_AUTO, "the kernel module nvidia-fs is not there");
    assert_int_equal(file->live("drivers"), 1);
    file->nvfs(0, 1);
    check_yes(AS_GDS_AUTO, false);
    file->nvfs(2, 0);
    check_yes(AS_GDS_AUTO, false);
}

static void test_memory(void **state)
{
    (void)state;
    sim->inject("cuMemAlloc", 1, AS_CU_OUT_OF_MEMORY);
    check_no(AS_GDS_ASKED, "cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY (2");
    file->refuse("cuFileBufRegister", 1, AS_CUFILE_GPU_MEMORY_PINNING_FAILED);
    check_no(AS_GDS_ASKED, "cuFileBufRegister: CU_FILE_GPU_MEMORY_PINNING_FAILED (5036)");
    file->refuse("cuFileBufRegister", 1, AS_CUFILE_CUDA_DRIVER_ERROR);
    check_no(AS_GDS_ASKED, "CU_FILE_CUDA_DRIVER_ERROR (5011; CUDA_ERROR_ILLEGAL_ADDRESS 700)");
    /* Reading needs no more than that. */
    int64_t handles = file->calls("cuFileHandleRegister");
    as_gds_answer a = ask_with(AS_GDS_AUTO, NULL);
    assert_non_null(a.cufile);
    assert_int_equal(file->calls("cuFileHandleRegister"), handles);
}

/* Calls of CUDA that fail for whatever reason. */
static void test_cuda(void **state)
{
    (void)state;
    const char *const calls[] = {"cuDeviceGetAttribute",       "cuCtxPushCurrent",
                                 "cuStreamCreateWithPriority", "cuMemcpyHtoDAsync",
                                 "cuStreamSynchronize",        "cuMemAlloc"};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        char said[100];
        sim->inject(calls[i], 1, AS_CU_NOT_SUPPORTED);
        (void)snprintf(said, sizeof said, "%s: CUDA_ERROR_NOT_SUPPORTED (801", calls[i]);
        check_no(AS_GDS_ASKED, said);
    }
    check_yes(AS_GDS_AUTO, false);
}

/* ---- files ---- */

static int refuse_direct(int folder, const char *path, int flags, mode_t mode)
{
    if (flags & O_DIRECT) {
        errno = EINVAL;
        return -1;
    }
    return good.openat(folder, path, flags, mode);
}

static int refuse_files(int folder, const char *path, int flags, mode_t mode)
{
    if (flags & O_CREAT) {
        errno = EACCES;
        return -1;
    }
    return good.openat(folder, path, flags, mode);
}

static int spoil(int folder, const char *path, int flags, mode_t mode)
{
    int append = (flags & O_CREAT) ? 0 : O_APPEND;
    return good.openat(folder, path, (flags & ~O_DIRECT) | append, mode);
}

static ssize_t read_badly(int fd, void *bytes, size_t count, off_t offset)
{
    ssize_t n = good.pread(fd, bytes, count, offset);
    if (n == 4096) {
        ((char *)bytes)[4095] ^= 1;
    }
    return n;
}

static ssize_t read_nothing(int fd, void *bytes, size_t count, off_t offset)
{
    if (count != 4096) {
        return good.pread(fd, bytes, count, offset);
    }
    errno = EIO;
    return -1;
}

static void test_files(void **state)
{
    (void)state;
    as_gds_answer a = ask_with(AS_GDS_ASKED, "/nowhere/at/all");
    assert_null(a.cufile);
    assert_string_equal(a.reason, "the folder cannot be opened: No such file or directory");
    as_sys_table.openat = refuse_files;
    check_no(AS_GDS_ASKED, "no trial file can be made: Permission denied");
    as_sys_table.openat = refuse_direct;
    check_no(AS_GDS_ASKED, "O_DIRECT: open: Invalid argument");
    as_sys_table.openat = open_plainly;
    file->refuse("cuFileHandleRegister", 1, AS_CUFILE_INTERNAL_ERROR);
    check_no(AS_GDS_ASKED, "cuFileHandleRegister: CU_FILE_INTERNAL_ERROR (5030)");
    file->refuse("cuFileWrite", 1, AS_CUFILE_IO_NOT_SUPPORTED);
    check_no(AS_GDS_ASKED, "cuFileWrite: CU_FILE_IO_NOT_SUPPORTED (5008)");
    file->refuse("cuFileWrite", 1, ENOTSUP);
    check_no(AS_GDS_ASKED, "cuFileWrite: Operation not supported");
    file->shorten(512);
    check_no(AS_GDS_ASKED, "cuFileWrite wrote 512 bytes of 4096");
    file->shorten(0);
    as_sys_table.pread = read_badly;
    check_no(AS_GDS_ASKED, "cuFileWrite wrote other bytes than those of the device");
    as_sys_table.pread = read_nothing;
    check_no(AS_GDS_ASKED, "what cuFileWrite wrote cannot be read: Input/output error");
    as_sys_table.pread = good.pread;
    check_yes(AS_GDS_ASKED, false);
}

/* Flags that cuFile refuses would be noticed here. */
static void test_flags(void **state)
{
    (void)state;
    as_sys_table.openat = spoil;
    check_no(AS_GDS_ASKED, "cuFileHandleRegister: CU_FILE_INVALID_FILE_OPEN_FLAG (5019)");
    assert_non_null(strstr(file->faults(), "open with flags"));
    file->reset();
}

/* What a process says that has no library: it looks for one once. */
static void test_no_library(void **state)
{
    (void)state;
    int ends[2];
    char self[1024] = "";
    char said[512] = "";
    assert_true(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)dup2(ends[1], 1);
        (void)setenv("ALLSHARD_CUFILE", "/nowhere/libcufile.so.0", 1);
        (void)execl(self, self, "ask", (char *)NULL);
        _exit(9);
    }
    (void)close(ends[1]);
    assert_true(read(ends[0], said, sizeof said - 1) > 0);
    (void)close(ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_non_null(strstr(said, "cuFile cannot be loaded (/nowhere/libcufile.so.0: "));
}

static int ask(void)
{
    const as_cuda nothing = {.init = NULL}; /* is not reached */
    as_gds_question q = {.wish = AS_GDS_ASKED, .cuda = &nothing, .folder = "/"};
    as_gds_answer a;
    as_gds_probe(&q, &a);
    (void)puts(a.reason);
    return a.cufile != NULL;
}

/* As it is here, with O_DIRECT if the folder has it. */
static void test_here(void **state)
{
    (void)state;
    file->played(false);
    as_sys_table = good;
    play_machine(true, NULL);
    as_gds_question q = {.wish = AS_GDS_AUTO,
                         .cuda = &sim->cuda,
                         .context = context,
                         .device = 1,
                         .folder = scratch};
    as_gds_answer a;
    as_gds_probe(&q, &a);
    print_message("here: %s\n", a.reason);
    assert_true(a.cufile || strstr(a.reason, "O_DIRECT: open"));
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "ask") == 0) {
        return ask();
    }
#define GDS_TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        GDS_TEST(test_not_asked), GDS_TEST(test_machine), GDS_TEST(test_driver),
        GDS_TEST(test_memory),    GDS_TEST(test_cuda),    GDS_TEST(test_files),
        GDS_TEST(test_flags),     GDS_TEST(test_here),    GDS_TEST(test_no_library),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
