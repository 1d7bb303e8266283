/* SPDX-License-Identifier: Apache-2.0
 * Which files make up the checkpoint at a path.
 */
#include "format_support.h"

#include <errno.h>

#include "base/sys.h"
#include "format/checkpoint.h"

static const char model[] = "model{suffix}.safetensors";
static const char an_index[] =
    "{\"metadata\":{\"a\":\"b\"},\"weight_map\":{\"w\":\"2.safetensors\",\"v\":\"1.safetensors\"}}";

/* Resolves a folder's checkpoint. */
static int resolve(const char *path, const char *pattern, as_checkpoint *c, warnings *w,
                   as_error *e)
{
    as_disk_path disk;
    as_opener opener;
    as_log log = {.call = count_warning, .user = w};
    int code = as_disk_path_open(&disk, path, &opener, e);
    if (code == AS_OK) {
        code = as_checkpoint_resolve(&opener, pattern, c, w ? &log : NULL, e);
        as_disk_path_close(&disk);
    }
    return code;
}

static void expect_index(const char *path, const char *pattern, const char *name)
{
    as_checkpoint c = AS_CHECKPOINT_INIT;
    as_error e = AS_ERROR_INIT;
    ASSERT_CODE(AS_OK, resolve(path, pattern, &c, NULL, &e), &e);
    assert_false(as_checkpoint_is_single(&c));
    assert_string_equal(c.index_name, name);
    assert_int_equal(as_checkpoint_file_count(&c), 2);
    assert_string_equal(as_checkpoint_file(&c, 0), "2.safetensors");
    assert_string_equal(as_checkpoint_file(&c, 1), "1.safetensors");
    assert_string_equal(c.index.metadata.items[0].value, "b");
    as_checkpoint_free(&c);
}

static void expect_single(const char *path, const char *pattern, const char *name, int warned)
{
    as_checkpoint c = AS_CHECKPOINT_INIT;
    as_error e = AS_ERROR_INIT;
    warnings w = {0};
    ASSERT_CODE(AS_OK, resolve(path, pattern, &c, &w, &e), &e);
    assert_true(as_checkpoint_is_single(&c));
    assert_null(c.index_name);
    assert_int_equal(as_checkpoint_file_count(&c), 1);
    assert_string_equal(as_checkpoint_file(&c, 0), name);
    assert_int_equal(w.count, warned);
    as_checkpoint_free(&c);
}

static void test_rules(void **state)
{
    (void)state;
    char d[64];
    make_folder(d);
    as_checkpoint c;
    ASSERT_FAILS(AS_NOT_FOUND, "no checkpoint here", resolve(d, NULL, &c, NULL, &e_));
    put_file(d, "config.json", "{}");
    put_file(d, "tokenizer.index.json", "{}");
    put_file(d, ".x.safetensors", "");
    ASSERT_FAILS(AS_NOT_FOUND, d, resolve(d, NULL, &c, NULL, &e_));

    put_file(d, "other.safetensors", "");
    expect_single(d, NULL, "other.safetensors", 0);
    /* Who names a checkpoint gets that one or none. */
    ASSERT_FAILS(AS_NOT_FOUND, "neither model.safetensors.index.json nor model.safetensors",
                 resolve(d, model, &c, NULL, &e_));
    put_file(d, "another.safetensors", "");
    ASSERT_FAILS(AS_FORMAT,
                 "there are 2 safetensors files (another.safetensors, other.safetensors)",
                 resolve(d, NULL, &c, NULL, &e_));
    put_file(d, "model.safetensors", "");
    expect_single(d, model, "model.safetensors", 0);
    expect_single(d, NULL, "model.safetensors", 0);
    expect_single(d, "other{suffix}.safetensors", "other.safetensors", 0);

    put_file(d, "fp16.safetensors.index.json", an_index);
    expect_single(d, NULL, "model.safetensors", 0);
    drop_file(d, "model.safetensors");
    expect_index(d, NULL, "fp16.safetensors.index.json");
    ASSERT_FAILS(AS_NOT_FOUND, "absent{suffix}.safetensors",
                 resolve(d, "absent{suffix}.safetensors", &c, NULL, &e_));
    put_file(d, "two.safetensors.index.json", an_index);
    ASSERT_FAILS(AS_FORMAT, "there are 2 indexes (fp16.safetensors.index.json, two",
                 resolve(d, NULL, &c, NULL, &e_));
    drop_file(d, "two.safetensors.index.json");
    put_file(d, "model.safetensors", "");
    put_file(d, "model.safetensors.index.json", an_index);
    expect_index(d, model, "model.safetensors.index.json");
    expect_index(d, NULL, "model.safetensors.index.json");

    drop_file(d, "fp16.safetensors.index.json");
    put_file(d, "model.safetensors.index.json", "{\"weight_map\":{\"w\":\"x.bin\"}}");
    ASSERT_FAILS(AS_FORMAT,
                 "/model.safetensors.index.json: the index is bad: the file name "
                 "\"x.bin\" is refused",
                 resolve(d, model, &c, NULL, &e_));
    ASSERT_FAILS(AS_FORMAT, d, resolve(d, NULL, &c, NULL, &e_));
    drop_file(d, "model.safetensors.index.json");
    drop_file(d, "model.safetensors");
    drop_file(d, "other.safetensors");
    drop_file(d, "another.safetensors");

    put_file(d, "model-00002-of-00003.safetensors", "");
    expect_single(d, NULL, "model-00002-of-00003.safetensors", 1);
    put_file(d, "model-00001-of-00003.safetensors", "");
    ASSERT_FAILS(AS_FORMAT, "2 shards (model-00001-of-00003.safetensors, ...), but no index",
                 resolve(d, NULL, &c, NULL, &e_));
    ASSERT_FAILS(AS_PATTERN, "{suffix}", resolve(d, "model", &c, NULL, &e_));
    drop_file(d, "model-00001-of-00003.safetensors");
    drop_file(d, "model-00002-of-00003.safetensors");

    /* A folder under the index's name. */
    char path[200];
    (void)snprintf(path, sizeof path, "%s/model.safetensors.index.json", d);
    assert_int_equal(mkdir(path, 0700), 0);
    ASSERT_FAILS(AS_FORMAT, "a folder", resolve(d, NULL, &c, NULL, &e_));
    assert_int_equal(rmdir(path), 0);
    /* A pipe without a writer does not hold us up. */
    assert_int_equal(mkfifo(path, 0600), 0);
    ASSERT_FAILS(AS_FORMAT, "pipe", resolve(d, NULL, &c, NULL, &e_));
    drop_file(d, "model.safetensors.index.json");

    drop_file(d, "config.json");
    drop_file(d, "tokenizer.index.json");
    drop_file(d, ".x.safetensors");
    assert_int_equal(rmdir(d), 0);
}

static void test_shard_names(void **state)
{
    (void)state;
    /* One file alone: which names warn that shards are missing. */
    static const struct {
        const char *name;
        int warned;
    } cases[] = {{"m-00001-of-00002.safetensors", 1},
                 {"-00001-of-00002.safetensors", 1},
                 {"m-1-of-2.safetensors", 0},
                 {"m-00001_of_00002.safetensors", 0},
                 {"00001-of-00002.safetensors", 0},
                 {"m-00001-of-100000.safetensors", 1},
                 {"m-of-00002.safetensors", 0},
                 {"f-00002.safetensors", 0},
                 {"12345.safetensors", 0}};
    char d[64];
    make_folder(d);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put_file(d, cases[i].name, "");
        expect_single(d, NULL, cases[i].name, cases[i].warned);
        drop_file(d, cases[i].name);
    }
    assert_int_equal(rmdir(d), 0);
}

static void test_paths(void **state)
{
    (void)state;
    char d[64];
    char path[200];
    make_folder(d);
    as_checkpoint c;
    (void)snprintf(path, sizeof path, "%s/none", d);
    ASSERT_FAILS(AS_NOT_FOUND, "there is no such file or folder",
                 resolve(path, NULL, &c, NULL, &e_));
    ASSERT_FAILS(AS_NOT_FOUND, "there is no such file or folder", resolve("", NULL, &c, NULL, &e_));
    put_file(d, "any.safetensors", "");
    put_file(d, "model.safetensors", "");
    (void)snprintf(path, sizeof path, "%s/any.safetensors", d);
    expect_single(path, NULL, "any.safetensors", 0);
    assert_int_equal(chdir(d), 0);
    expect_single("any.safetensors", NULL, "any.safetensors", 0);
    expect_single(".", NULL, "model.safetensors", 0);
    (void)snprintf(path, sizeof path, "%s///", d);
    expect_single(path, NULL, "model.safetensors", 0);
    put_file(d, "a.bin", "");
    put_file(d, "m.safetensors.index.json", an_index);
    ASSERT_FAILS(AS_FORMAT, "no known format", resolve("a.bin", NULL, &c, NULL, &e_));
    ASSERT_FAILS(AS_FORMAT, "name the folder",
                 resolve("m.safetensors.index.json", NULL, &c, NULL, &e_));
    ASSERT_FAILS(AS_FORMAT, "neither a file nor a folder",
                 resolve("/dev/null", NULL, &c, NULL, &e_));
    assert_int_equal(chdir("/"), 0);
    drop_file(d, "a.bin");
    drop_file(d, "m.safetensors.index.json");
    drop_file(d, "model.safetensors");
    drop_file(d, "any.safetensors");
    assert_int_equal(rmdir(d), 0);
}

static void test_opener(void **state)
{
    (void)state;
    char d[64];
    make_folder(d);
    put_file(d, "f", "x");
    as_disk_path disk;
    as_opener o;
    as_error e = AS_ERROR_INIT;
    int fd;
    ASSERT_CODE(AS_OK, as_disk_path_open(&disk, d, &o, &e), &e);
    assert_null(o.file);
    ASSERT_CODE(AS_OK, o.open(o.self, "f", &fd, &e), &e);
    (void)close(fd);
    char part[100];
    (void)snprintf(part, sizeof part, "%s/g: there is no such file", d);
    ASSERT_FAILS(AS_NOT_FOUND, part, o.open(o.self, "g", &fd, &e_));
    ASSERT_FAILS(AS_NOT_FOUND, "f/g: ", o.open(o.self, "f/g", &fd, &e_));
    as_disk_path_close(&disk);
    drop_file(d, "f");
    assert_int_equal(rmdir(d), 0);
}

/* ---- faults of the system ---- */

static int countdown;

static int failing_openat(int folder, const char *path, int flags, mode_t mode)
{
    if (countdown-- == 0) {
        errno = EIO;
        return -1;
    }
    return openat(folder, path, flags, mode);
}

static struct dirent *failing_readdir(DIR *dir)
{
    if (countdown-- == 0) {
        errno = EIO;
        return NULL;
    }
    return readdir(dir);
}

static ssize_t failing_pread(int fd, void *bytes, size_t count, off_t offset)
{
    (void)fd;
    (void)bytes;
    (void)count;
    (void)offset;
    errno = EIO;
    return -1;
}

static int failing_fstatat(int folder, const char *path, struct stat *out, int flags)
{
    (void)folder;
    (void)path;
    (void)out;
    (void)flags;
    errno = EACCES;
    return -1;
}

static void test_faults(void **state)
{
    (void)state;
    char d[64];
    make_folder(d);
    put_file(d, "x.safetensors.index.json", an_index);
    as_sys good = as_sys_table;
    as_checkpoint c;
    /* Opens: folder, index and single file of the pattern, listing, the index found. */
    as_sys_table.openat = failing_openat;
    for (int n = 0; n < 5; n++) {
        countdown = n;
        ASSERT_FAILS(AS_SYSTEM, "Input/output error", resolve(d, NULL, &c, NULL, &e_));
        countdown = n;
        ASSERT_FAILS(AS_SYSTEM, d, resolve(d, NULL, &c, NULL, &e_));
    }
    countdown = 5;
    expect_index(d, NULL, "x.safetensors.index.json");
    as_sys_table = good;
    as_sys_table.readdir = failing_readdir;
    for (int n = 0; n < 3; n++) {
        countdown = n;
        ASSERT_FAILS(AS_SYSTEM, "cannot list", resolve(d, NULL, &c, NULL, &e_));
    }
    as_sys_table = good;
    as_sys_table.pread = failing_pread;
    ASSERT_FAILS(AS_SYSTEM, "x.safetensors.index.json: cannot read",
                 resolve(d, NULL, &c, NULL, &e_));
    as_sys_table = good;
    as_sys_table.fstatat = failing_fstatat;
    ASSERT_FAILS(AS_SYSTEM, "Permission denied", resolve(d, NULL, &c, NULL, &e_));
    as_sys_table = good;
    drop_file(d, "x.safetensors.index.json");
    assert_int_equal(rmdir(d), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),  cmocka_unit_test(test_shard_names),
        cmocka_unit_test(test_paths),  cmocka_unit_test(test_opener),
        cmocka_unit_test(test_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
