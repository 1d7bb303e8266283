/* SPDX-License-Identifier: Apache-2.0
 * verify where things go wrong on the way: blocks that cannot be read, manifests that lie, copies
 * that are no copies. Whatever it is, it ends in findings or a clear error.
 */
#include "verify_scene.h"

#include <errno.h>
#include <jansson.h>

#include "base/sys.h"

static as_sys good;

static scene two_shards(const char *folder)
{
    static const int64_t a[] = {9 << 20, 2 << 20, 5};
    static const int64_t b[] = {3 << 20};
    scene s = {.folder = folder, .block_bytes = 1 << 20};
    add_shard(&s, "model-00001-of-00002.safetensors", a, 3);
    add_shard(&s, "model-00002-of-00002.safetensors", b, 1);
    add_index(&s);
    put_scene(&s);
    return s;
}

static const as_finding *find(const as_verdict *v, const char *file, const char *text)
{
    for (size_t i = 0; i < v->findings.count; i++) {
        if (strcmp(v->findings.items[i].file, file) == 0 &&
            strstr(v->findings.items[i].text, text)) {
            return &v->findings.items[i];
        }
    }
    for (size_t i = 0; i < v->findings.count; i++) {
        print_message("%s: %s\n", v->findings.items[i].file, v->findings.items[i].text);
    }
    fail_msg("nothing says \"%s\" of %s", text, file);
    return NULL;
}

/* ---- reading fails ---- */

enum { FIRST_BAD = (5 << 20) + 100, LAST_BAD = (7 << 20) + 5 };

static ssize_t bad_pread(int fd, void *bytes, size_t count, off_t offset)
{
    struct stat status;
    bool first = fstat(fd, &status) == 0 && status.st_size > (10 << 20);
    if (first && offset <= LAST_BAD && FIRST_BAD < offset + (off_t)count) {
        errno = EIO;
        return -1;
    }
    return good.pread(fd, bytes, count, offset);
}

static void test_unreadable(void **state)
{
    (void)state;
    scene s = two_shards(scratch_folder());
    for (int deep = 0; deep < 2; deep++) {
        as_verify_options o = {.engine = "posix", .deep = deep};
        as_verdict v;
        as_error e = AS_ERROR_INIT;
        change_byte(s.folder, s.files[1].name, s.files[1].size - 1, 0);
        change_byte(s.folder, s.files[0].name, s.files[0].size - 1, 0);
        as_sys_table.pread = bad_pread;
        assert_int_equal(verify_now(&v, s.folder, &o, &e), AS_OK);
        as_sys_table = good;
        const as_finding *x = find(&v, s.files[0].name, "cannot be read: Input/output error");
        assert_true(number_of(x, "begin") <= FIRST_BAD && LAST_BAD < number_of(x, "end"));
        assert_true(x->is_fault && names_tensor(x, "layer.0"));
        /* What can be read is compared all the same. */
        (void)find(&v, s.files[0].name, "are not those that were saved");
        (void)find(&v, s.files[1].name, "are not those that were saved");
        as_verdict_free(&v);
    }
    remove_tree(s.folder);
    free_scene(&s);
}

/* NOLINTNEXTLINE(readability-non-const-parameter): it has the type of pthread_create */
static int no_thread(pthread_t *out, const pthread_attr_t *how, void *(*run)(void *), void *user)
{
    (void)out, (void)how, (void)run, (void)user;
    return EAGAIN;
}

static void test_without_threads(void **state)
{
    (void)state;
    scene s = two_shards(scratch_folder());
    as_verify_options o = {.engine = "direct"};
    as_verdict v;
    as_error e = AS_ERROR_INIT;
    as_sys_table.pthread_create = no_thread;
    assert_int_equal(verify_now(&v, s.folder, &o, &e), AS_OK);
    as_sys_table = good;
    assert_int_equal(v.findings.count, 0);
    as_verdict_free(&v);
    remove_tree(s.folder);
    free_scene(&s);
}

/* ---- manifests that lie ---- */

typedef void (*lie)(as_manifest_part *p, as_manifest_file *f, scene *s);

static void check_lie(lie tell, const char *file, const char *text)
{
    scene s = two_shards(scratch_folder());
    as_manifest_file files[MOST_FILES];
    as_manifest_part part = describe(&s, files);
    as_verify_options o = {0};
    as_verdict v;
    as_error e = AS_ERROR_INIT;
    as_manifest_file kept[MOST_FILES];
    memcpy(kept, files, sizeof kept);
    tell(&part, files, &s);
    put_manifest(s.folder, &part);
    assert_int_equal(verify_now(&v, s.folder, &o, &e), AS_OK);
    (void)find(&v, file, text);
    as_verdict_free(&v);
    /* The same with a copy at hand: what is lost is looked for there. */
    o.against = s.folder;
    int code = verify_now(&v, s.folder, &o, &e);
    if (code == AS_OK) {
        (void)find(&v, file, text);
    } else {
        assert_int_equal(code, AS_LIMIT);
        assert_non_null(strstr(as_error_text(&e), "2^63"));
    }
    as_error_clear(&e);
    as_verdict_free(&v);
    free_sums(kept, s.count);
    remove_tree(s.folder);
    free_scene(&s);
}

static const uint64_t some_sums[4] = {1, 2, 3, 4};

static void huge(as_manifest_part *p, as_manifest_file *f, scene *s)
{
    (void)s;
    p->block_size = INT64_C(1) << 62;
    for (size_t i = 0; i < p->file_count; i++) {
        f[i].size = INT64_C(1) << 62;
        f[i].sums = some_sums;
        f[i].sum_count = 1;
    }
}

static void largest(as_manifest_part *p, as_manifest_file *f, scene *s)
{
    (void)s;
    p->block_size = INT64_MAX;
    f[0].size = INT64_MAX;
    for (size_t i = 0; i < p->file_count; i++) {
        f[i].sums = some_sums;
        f[i].sum_count = 1;
    }
}

static void no_block(as_manifest_part *p, as_manifest_file *f, scene *s)
{
    (void)f, (void)s;
    p->block_size = 0;
}

static void too_few_sums(as_manifest_part *p, as_manifest_file *f, scene *s)
{
    (void)p, (void)s;
    f[0].sum_count--;
}

static void other_kind(as_manifest_part *p, as_manifest_file *f, scene *s)
{
    (void)f, (void)s;
    p->checksum = "crc32\x1b[2J";
}

static void a_folder(as_manifest_part *p, as_manifest_file *f, scene *s)
{
    char path[512];
    f[p->file_count++] = (as_manifest_file){
        .name = "sub", .role = AS_ROLE_SHARD, .size = 4, .sums = some_sums, .sum_count = 1};
    (void)snprintf(path, sizeof path, "%s/sub", s->folder);
    must(mkdir(path, 0777) == 0, path);
}

static void a_device(as_manifest_part *p, as_manifest_file *f, scene *s)
{
    char path[512];
    f[p->file_count++] = (as_manifest_file){
        .name = "zero", .role = AS_ROLE_SHARD, .size = 4, .sums = some_sums, .sum_count = 1};
    (void)snprintf(path, sizeof path, "%s/zero", s->folder);
    must(symlink("/dev/zero", path) == 0, path);
}

static void way_out(as_manifest_part *p, as_manifest_file *f, scene *s)
{
    (void)p, (void)s;
    f[0].name = "../x";
}

static void twice(as_manifest_part *p, as_manifest_file *f, scene *s)
{
    (void)s;
    f[p->file_count] = f[0];
    f[p->file_count++].size--;
}

static void foreign(as_manifest_part *p, as_manifest_file *f, scene *s)
{
    static uint64_t sums[32];
    (void)s;
    for (size_t i = 0; i < 32; i++) {
        sums[i] = draw();
    }
    for (size_t i = 0; i + 1 < p->file_count; i++) {
        f[i].sums = sums;
    }
}

static void test_lies(void **state)
{
    (void)state;
    static const char first[] = "model-00001-of-00002.safetensors";
    check_lie(huge, first, "says 4611686018427387904");
    check_lie(largest, first, "says 9223372036854775807");
    check_lie(no_block, AS_MANIFEST_NAME, "\"checksums\" is missing or not what it should be");
    check_lie(too_few_sums, AS_MANIFEST_NAME, "\"checksums\" is missing");
    check_lie(other_kind, AS_MANIFEST_NAME, "of the kind \"crc32\\x1b[2J\", which this allshard");
    check_lie(a_folder, "sub", "it is not there");
    check_lie(a_device, "zero", "it is not there");
    check_lie(way_out, AS_MANIFEST_NAME, "\"files\" is missing");
    check_lie(twice, first, "says 1153");
    check_lie(foreign, AS_MANIFEST_NAME, "seems to be of another checkpoint");
    check_lie(foreign, first, "(12 blocks) are not those that were saved");
}

/* A save that takes the place of the files while they are read, again and again. */
static int changes;
static const char *changing;

static int change_open(int folder, const char *path, int flags, mode_t mode)
{
    int fd = good.openat(folder, path, flags, mode);
    if (changing && strstr(path, "00002-of") && !(flags & O_DIRECT)) {
        char name[512];
        char new_name[520];
        (void)snprintf(name, sizeof name, "%s/model-00002-of-00002.safetensors", changing);
        (void)snprintf(new_name, sizeof new_name, "%s.new", name);
        FILE *f = fopen(new_name, "w");
        must(f != NULL, new_name);
        bool written = fputs("another", f) >= 0;
        must(fclose(f) == 0 && written, new_name);
        must(rename(new_name, name) == 0, name);
        changes++;
    }
    return fd;
}

static void test_replaced_meanwhile(void **state)
{
    (void)state;
    scene s = two_shards(scratch_folder());
    as_verify_options o = {0};
    as_verdict v;
    as_error e = AS_ERROR_INIT;
    changing = s.folder;
    as_sys_table.openat = change_open;
    assert_int_equal(verify_now(&v, s.folder, &o, &e), AS_BUSY);
    as_sys_table = good;
    changing = NULL;
    assert_true(changes >= 5);
    assert_non_null(e.text);
    as_error_clear(&e);
    remove_tree(s.folder);
    free_scene(&s);
}

int main(void)
{
    seed_from_environment();
    good = as_sys_table;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unreadable),
        cmocka_unit_test(test_without_threads),
        cmocka_unit_test(test_lies),
        cmocka_unit_test(test_replaced_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
