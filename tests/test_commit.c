/* SPDX-License-Identifier: Apache-2.0
 * Commit: what a save leaves, in which order it goes about it, what it refuses, and what it
 * makes of damage.
 */
#include "save_scene.h"

static void test_plain_save(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(scenes); i++) {
        const scene *s = &scenes[i];
        set_scene(s);
        int before = count_descriptors();
        int finish;
        as_error e = AS_ERROR_INIT;
        assert_int_equal(look_at_folder(s), OLD);
        assert_int_equal(save(s, &finish, &e), AS_OK);
        assert_int_equal(finish, AS_OK);
        assert_int_equal(look_at_folder(s), NEW);
        assert_false(has_leftovers());
        assert_int_equal(count_descriptors(), before);
        as_error_clear(&e);
    }
}

static void test_foreign_files_stay(void **state)
{
    (void)state;
    const scene *s = &scenes[0];
    static const char *const foreign[] = {"README.md", "model-1-of-2.safetensors",
                                          "model-00001-of-00002.safetensors.bak",
                                          "other.safetensors", NULL};
    const file_set foreign_set = {"mine", foreign};
    set_scene(s);
    make_set(dir, &foreign_set);
    int finish;
    assert_int_equal(save(s, &finish, NULL), AS_OK);
    for (size_t i = 0; foreign[i]; i++) {
        char text[512];
        content_of("mine", foreign[i], text, sizeof text);
        const char *now = read_text(dir, foreign[i]);
        assert_non_null(now);
        assert_string_equal(now, text);
    }
    assert_false(exists(dir, "model-00001-of-00002.safetensors"));
    assert_false(exists(dir, "model.safetensors"));
}

/* The order of DESIGN section 6, call by call. */
static void test_order_of_calls(void **state)
{
    (void)state;
    const scene *s = &scenes[3];
    set_scene(s);
    char *text = NULL;
    size_t size = 0;
    fault_trace = open_memstream(&text, &size);
    must(fault_trace != NULL, "open_memstream");
    int finish;
    assert_int_equal(save(s, &finish, NULL), AS_OK);
    (void)fclose(fault_trace);
    fault_trace = NULL;
    static const char *const order[] = {
        "fsync model-00001-of-00003.safetensors\n",
        "fsync config.json\n",
        "fsync allshard.manifest.json\n",
        "fsync new\n",
        "fsync .allshard\n",
        "fsync f\n", /* DIR */
        "fsync d\n", /* what was made above it */
        "fsync e\n",
        "fsync journal-",
        "renameat .allshard/journal-",
        "fsync .allshard\n",
        "renameat new/model-00001-of-00003.safetensors ",
        "renameat new/allshard.manifest.json ",
        "renameat new/model.safetensors.index.json ",
        "fsync f\n",
        "unlinkat .allshard/journal\n",
        "fsync .allshard\n",
        "unlinkat .allshard/old\n",
        "unlinkat .allshard/lock\n",
        "unlinkat f/.allshard\n",
        "fsync f\n",
    };
    const char *at = text;
    for (size_t i = 0; at && i < COUNT(order); i++) {
        const char *next = strstr(at, order[i]);
        if (!next) {
            (void)fprintf(stderr, "\"%s\" is not where it belongs in:\n%s", order[i], text);
            fail();
        }
        at = next ? next + strlen(order[i]) : NULL;
    }
    free(text);

    /* Over an old checkpoint: the old index is the first to go. */
    set_scene(&scenes[0]);
    fault_trace = open_memstream(&text, &size);
    must(fault_trace != NULL, "open_memstream");
    assert_int_equal(save(&scenes[0], &finish, NULL), AS_OK);
    (void)fclose(fault_trace);
    fault_trace = NULL;
    at = strstr(text, "renameat a/");
    assert_non_null(at);
    assert_memory_equal(at, "renameat a/model.safetensors.index.json ", 40);
    /* DIR was there already; whether its own entry is durable nobody knows. */
    char parent[300];
    (void)snprintf(parent, sizeof parent, "fsync %s\n", strrchr(root, '/') + 1);
    at = strstr(text, "fsync a\n");
    at = at ? strstr(at, parent) : NULL;
    assert_true(at && strstr(at, "renameat .allshard/journal-"));
    free(text);
}

static int told;

static void count_told(int level, const char *text, void *user)
{
    (void)user;
    told += level == AS_LOG_INFO && strstr(text, "folder above may not be opened") != NULL;
}

static as_sys real_table;
static int parent_errno;

static int closed_parent(int folder, const char *path, int flags, mode_t mode)
{
    if (parent_errno && strcmp(path, "..") == 0) {
        errno = parent_errno;
        return -1;
    }
    return real_table.openat(folder, path, flags, mode);
}

/* Somebody else's folder above, which may be entered only: told, and no error. */
static void test_closed_parent(void **state)
{
    (void)state;
    const as_log log = {.call = count_told};
    const char *const name = "a";
    real_table = as_sys_table;
    as_sys_table.openat = closed_parent;
    for (int i = 0; i < 2; i++) {
        set_scene(&scenes[4]);
        parent_errno = 0;
        as_txn *t;
        assert_int_equal(as_txn_begin(&t, dir, NULL, &log, NULL), AS_OK);
        assert_int_equal(as_txn_put(t, name, "x", 1, NULL), AS_OK);
        parent_errno = i ? EIO : EACCES;
        assert_int_equal(as_txn_commit(t, &name, 1, NULL, 0, NULL), i ? AS_SYSTEM : AS_OK);
        if (i) {
            as_txn_abort(t);
        } else {
            assert_int_equal(as_txn_finish(t, NULL), AS_OK);
        }
        assert_int_equal(exists(dir, name), i == 0);
        assert_false(has_leftovers());
    }
    as_sys_table = real_table;
    assert_int_equal(told, 1);
}

static void test_abort(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(scenes); i++) {
        const scene *s = &scenes[i];
        set_scene(s);
        as_txn *t;
        as_error e = AS_ERROR_INIT;
        as_names incoming = AS_NAMES_INIT;
        assert_int_equal(as_txn_begin(&t, dir, NULL, NULL, &e), AS_OK);
        assert_int_equal(write_all_files(t, s, &incoming, &e), AS_OK);
        as_txn_abort(t);
        assert_int_equal(look_at_folder(s), OLD);
        assert_false(has_leftovers());
        assert_int_equal(access(dir, F_OK) == 0, s->exists);
        as_names_free(&incoming);
    }
    char above[300];
    (void)snprintf(above, sizeof above, "%s/d", root);
    assert_int_not_equal(access(above, F_OK), 0);
}

/* What must be refused before anything changes. */
static void test_refused(void **state)
{
    (void)state;
    const scene *s = &scenes[1];
    set_scene(s);
    char path[512];
    (void)snprintf(path, sizeof path, "%s/extra", dir);
    must(mkdir(path, 0777) == 0, path);
    (void)snprintf(path, sizeof path, "%s/extra/kept", dir);
    must(mkdir(path, 0777) == 0, path);
    as_txn *t;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(as_txn_begin(&t, dir, NULL, NULL, &e), AS_OK);
    assert_int_equal(as_txn_put(t, "extra", "x", 1, &e), AS_OK);
    assert_int_equal(as_txn_put(t, "a", "x", 1, &e), AS_OK);
    static const struct {
        const char *in;
        const char *out;
        int code;
        const char *tells;
    } cases[] = {
        {"extra", "model-00001-of-00002.safetensors", AS_INVALID, "\"extra\" is a folder"},
        {"a", "extra", AS_INVALID, "\"extra\" is a folder"},
        {"missing", "a", AS_SYSTEM, "\"missing\""},
        {"../a", "a", AS_INVALID, "\"../a\""},
        {"a", ".allshard", AS_INVALID, "\".allshard\""},
        {"a", "..", AS_INVALID, "\"..\""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        int code = as_txn_commit(t, &cases[i].in, 1, &cases[i].out, 1, &e);
        assert_int_equal(code, cases[i].code);
        assert_non_null(strstr(as_error_text(&e), cases[i].tells));
        assert_false(exists(dir, AS_META_NAME "/" AS_JOURNAL_NAME));
        as_error_clear(&e);
    }
    assert_int_equal(as_txn_put(t, "a/b", "x", 1, &e), AS_INVALID);
    as_error_clear(&e);
    assert_int_equal(as_txn_put(t, ".allshard", "x", 1, &e), AS_INVALID);
    as_error_clear(&e);
    as_txn_abort(t);
    assert_true(exists(dir, "extra/kept"));
    assert_false(exists(dir, "a"));
    assert_false(has_leftovers());
}

/* A link in the place of .allshard/ or of a file is not followed. */
static void test_links(void **state)
{
    (void)state;
    const scene *s = &scenes[1];
    set_scene(s);
    char path[512];
    char outside[512];
    (void)snprintf(outside, sizeof outside, "%s/outside", root);
    must(mkdir(outside, 0777) == 0, outside);
    write_text(outside, "precious", "mine");
    (void)snprintf(path, sizeof path, "%s/" AS_META_NAME, dir);
    must(symlink(outside, path) == 0, path);
    int finish;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(save(s, &finish, &e), AS_INVALID);
    assert_non_null(strstr(as_error_text(&e), "remove it"));
    as_error_clear(&e);
    assert_int_equal(recover(NULL, NULL), AS_INVALID);
    must(unlink(path) == 0, path);

    /* Leftovers with a link in them, and a checkpoint file that is a link. */
    must(mkdir(path, 0777) == 0, path);
    (void)snprintf(path, sizeof path, "%s/" AS_META_NAME "/new", dir);
    must(symlink(outside, path) == 0, path);
    (void)snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
    must(unlink(path) == 0, path);
    char target[600];
    (void)snprintf(target, sizeof target, "%s/precious", outside);
    must(symlink(target, path) == 0, path);
    assert_int_equal(save(s, &finish, &e), AS_OK);
    assert_int_equal(look_at_folder(s), NEW);
    assert_string_equal(read_text(outside, "precious"), "mine");
    as_error_clear(&e);
}

/* A journal that was damaged, or whose files are gone: everything is kept. */
static void test_damaged_journal(void **state)
{
    (void)state;
    const scene *s = &scenes[0];
    int at = 1;
    do {
        set_scene(s);
        assert_true(killed_at(at++, act_save, s));
    } while (!exists(dir, AS_META_NAME "/" AS_JOURNAL_NAME));
    const char *journal = read_text(dir, AS_META_NAME "/" AS_JOURNAL_NAME);
    assert_non_null(journal);
    char *kept = strdup(journal);
    assert_non_null(kept);
    char *damaged = strdup(journal);
    assert_non_null(damaged);
    damaged[30] ^= 1;
    write_text(dir, AS_META_NAME "/" AS_JOURNAL_NAME, damaged);
    as_error e = AS_ERROR_INIT;
    assert_int_equal(recover(NULL, &e), AS_FORMAT);
    assert_non_null(strstr(as_error_text(&e), AS_META_NAME "/" AS_JOURNAL_NAME));
    as_error_clear(&e);
    assert_int_equal(look_at_folder(s), OLD);
    assert_true(exists(dir, AS_META_NAME "/new/model-00001-of-00003.safetensors"));
    int finish;
    assert_int_equal(save(s, &finish, NULL), AS_FORMAT);
    assert_true(exists(dir, AS_META_NAME "/new/model-00001-of-00003.safetensors"));
    as_view *v;
    assert_int_equal(as_view_open(&v, dir, &e), AS_FORMAT);
    as_error_clear(&e);

    write_text(dir, AS_META_NAME "/" AS_JOURNAL_NAME, kept);
    write_text(dir, AS_META_NAME "/new/config.json", "shorter");
    assert_int_equal(recover(NULL, &e), AS_FORMAT);
    assert_non_null(strstr(as_error_text(&e), "config.json"));
    as_error_clear(&e);
    assert_int_equal(look_at_folder(s), OLD);
    write_text(dir, AS_META_NAME "/new/config.json", "new:config.json");
    assert_int_equal(recover(NULL, &e), AS_OK);
    assert_int_equal(look_at_folder(s), NEW);
    free(kept);
    free(damaged);
}

static mode_t mode_of(const char *name)
{
    char path[512];
    struct stat status;
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    must(stat(path, &status) == 0, path);
    return status.st_mode & 07777;
}

static void test_modes(void **state)
{
    (void)state;
    static const struct {
        mode_t umask, asked, got;
    } cases[] = {{022, 0, 0644}, {077, 0, 0600}, {0, 0, 0666}, {077, 0644, 0644}, {0, 0440, 0440}};
    const char *const name = "config.json";
    for (size_t i = 0; i < COUNT(cases); i++) {
        set_scene(&scenes[4]);
        mode_t before = umask(cases[i].umask);
        const as_txn_options options = {.mode = cases[i].asked};
        as_txn *t;
        assert_int_equal(as_txn_begin(&t, dir, &options, NULL, NULL), AS_OK);
        assert_int_equal(mode_of(AS_META_NAME) & 002, 0);
        assert_int_equal(as_txn_put(t, name, "{}", 2, NULL), AS_OK);
        assert_int_equal(as_txn_commit(t, &name, 1, NULL, 0, NULL), AS_OK);
        assert_int_equal(as_txn_finish(t, NULL), AS_OK);
        (void)umask(before);
        assert_int_equal(mode_of(name), cases[i].got);
    }
}

static void test_second_save_is_busy(void **state)
{
    (void)state;
    const scene *s = &scenes[1];
    set_scene(s);
    as_txn *t;
    as_txn *other;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(as_txn_begin(&t, dir, NULL, NULL, &e), AS_OK);
    assert_int_equal(as_txn_begin(&other, dir, NULL, NULL, &e), AS_BUSY);
    assert_null(other);
    as_error_clear(&e);
    assert_int_equal(recover(NULL, &e), AS_BUSY);
    as_error_clear(&e);
    assert_int_equal(as_recover(dir, true, lease_ms, NULL, NULL, &e), AS_BUSY);
    as_error_clear(&e);
    as_buffer bytes = AS_BUFFER_INIT;
    bool found;
    assert_int_equal(as_txn_read(t, "model.safetensors.index.json", 4096, &bytes, &found, &e),
                     AS_OK);
    assert_true(found);
    assert_int_equal(bytes.size, strlen("old:model.safetensors.index.json"));
    as_buffer_free(&bytes);
    assert_int_equal(as_txn_read(t, "none", 4096, &bytes, &found, &e), AS_OK);
    assert_false(found);
    as_txn_abort(t);
    assert_int_equal(look_at_folder(s), OLD);
    assert_int_equal(recover(NULL, &e), AS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_save),     cmocka_unit_test(test_foreign_files_stay),
        cmocka_unit_test(test_order_of_calls), cmocka_unit_test(test_closed_parent),
        cmocka_unit_test(test_abort),          cmocka_unit_test(test_refused),
        cmocka_unit_test(test_links),          cmocka_unit_test(test_damaged_journal),
        cmocka_unit_test(test_modes),          cmocka_unit_test(test_second_save_is_busy),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
