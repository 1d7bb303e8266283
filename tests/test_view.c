/* SPDX-License-Identifier: Apache-2.0
 * Reading through the journal: staged names first, nothing changed, nothing outside.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/sys.h"
#include "checkpoint_folder.h"
#include "commit/folder.h"
#include "commit/journal.h"
#include "commit/transaction.h"
#include "commit/view.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static char dir[256];

static void make_folder(const char *name)
{
    char path[600];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    must(mkdir(path, 0777) == 0, path);
}

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "%s", scratch_folder());
    write_text(dir, "both", "old");
    write_text(dir, "out", "old");
    write_text(dir, "moved", "new");
    write_text(dir, "other", "other");
    make_folder("sub");
    write_text(dir, "sub/deep", "deep");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    remove_tree(dir);
    return 0;
}

/* A journal half carried out: "both" waits in staging, "moved" has moved in. */
static void make_journal(void)
{
    static const char *const in[] = {"both", "fresh", "moved"};
    static const char *const out[] = {"both", "out", "gone"};
    static const int64_t sizes[] = {3, 3, 3};
    as_journal j;
    as_buffer bytes = AS_BUFFER_INIT;
    make_folder(AS_META_NAME);
    make_folder(AS_META_NAME "/" AS_NEW_NAME);
    write_text(dir, AS_META_NAME "/" AS_NEW_NAME "/both", "new");
    write_text(dir, AS_META_NAME "/" AS_NEW_NAME "/fresh", "new");
    write_text(dir, AS_META_NAME "/" AS_NEW_NAME "/stray", "new");
    assert_int_equal(as_journal_make(&j, in, sizes, 3, out, 3, NULL), AS_OK);
    assert_int_equal(as_journal_to_bytes(&j, &bytes, NULL), AS_OK);
    write_text(dir, AS_META_NAME "/" AS_JOURNAL_NAME, as_buffer_string(&bytes));
    as_buffer_free(&bytes);
    as_journal_free(&j);
}

/* The content under the name, or NULL with the code in *code; static. */
static const char *content(as_view *v, const char *name, int *code)
{
    static char text[64];
    int fd;
    as_error e = AS_ERROR_INIT;
    *code = as_view_open_file(v, name, &fd, &e);
    assert_int_equal(e.code, *code);
    as_error_clear(&e);
    if (*code != AS_OK) {
        assert_int_equal(fd, -1);
        return NULL;
    }
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    must(n >= 0, name);
    text[n] = '\0';
    (void)close(fd);
    return text;
}

static void expect(as_view *v, const char *name, const char *text)
{
    int code;
    const char *found = content(v, name, &code);
    if (!text) {
        assert_int_equal(code, AS_NOT_FOUND);
    } else {
        assert_int_equal(code, AS_OK);
        assert_string_equal(found, text);
    }
}

static void expect_list(as_view *v, const char *const *names, size_t count)
{
    as_names found = AS_NAMES_INIT;
    assert_int_equal(as_view_list(v, &found, NULL), AS_OK);
    assert_int_equal(found.count, count);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(found.items[i], names[i]);
    }
    as_names_free(&found);
}

static void test_plain(void **state)
{
    (void)state;
    as_view *v;
    bool meta;
    bool journal;
    int descriptors = count_descriptors();
    assert_int_equal(as_view_open(&v, dir, NULL), AS_OK);
    assert_string_equal(as_view_path(v), dir);
    assert_null(as_view_single(v));
    expect(v, "both", "old");
    expect(v, "./other", "other");
    expect(v, "sub/deep", "deep");
    expect(v, "none", NULL);
    expect(v, "both/deep", NULL);
    static const char *const names[] = {"both", "moved", "other", "out", "sub"};
    expect_list(v, names, COUNT(names));
    assert_int_equal(as_view_leftovers(v, &meta, &journal, NULL), AS_OK);
    assert_false(meta || journal);
    assert_int_equal(as_view_check(v, NULL), AS_OK);
    as_view_close(v);
    assert_int_equal(count_descriptors(), descriptors);
}

static void test_through_journal(void **state)
{
    (void)state;
    make_journal();
    as_view *v;
    bool meta;
    bool journal;
    assert_int_equal(as_view_open(&v, dir, NULL), AS_OK);
    expect(v, "both", "new");
    expect(v, "./both", "new");
    expect(v, "fresh", "new");
    expect(v, "moved", "new");
    expect(v, "other", "other");
    expect(v, "out", NULL);
    expect(v, "stray", NULL);
    static const char *const names[] = {"both", "fresh", "moved", "other", "sub"};
    expect_list(v, names, COUNT(names));
    assert_int_equal(as_view_leftovers(v, &meta, &journal, NULL), AS_OK);
    assert_true(meta && journal);
    as_view_close(v);
    /* Nothing was changed by looking. */
    assert_string_equal(read_text(dir, "both"), "old");
    assert_true(exists(dir, "out"));
}

/* Staged files without a journal do not count. */
static void test_without_journal(void **state)
{
    (void)state;
    make_journal();
    char path[600];
    (void)snprintf(path, sizeof path, "%s/" AS_META_NAME "/" AS_JOURNAL_NAME, dir);
    must(unlink(path) == 0, path);
    as_view *v;
    assert_int_equal(as_view_open(&v, dir, NULL), AS_OK);
    expect(v, "both", "old");
    expect(v, "out", "old");
    expect(v, "fresh", NULL);
    as_view_close(v);
}

static void test_names(void **state)
{
    (void)state;
    static const char *const bad[] = {"",       "/etc/passwd", "..",      "../x", "sub/../../x",
                                      "sub/..", "./../x",      ".//../x", "./",   "././/"};
    as_view *v;
    assert_int_equal(as_view_open(&v, dir, NULL), AS_OK);
    for (size_t i = 0; i < COUNT(bad); i++) {
        int code;
        assert_null(content(v, bad[i], &code));
        assert_int_equal(code, AS_INVALID);
    }
    expect(v, "..x", NULL);
    expect(v, "x..", NULL);
    int code;
    assert_null(content(v, "sub", &code));
    assert_int_equal(code, AS_FORMAT);
    char path[600];
    (void)snprintf(path, sizeof path, "%s/pipe", dir);
    must(mkfifo(path, 0666) == 0, path);
    assert_null(content(v, "pipe", &code));
    assert_int_equal(code, AS_FORMAT);
    /* The Hub's cache is made of links. */
    (void)snprintf(path, sizeof path, "%s/link", dir);
    must(symlink("sub/deep", path) == 0, path);
    expect(v, "link", "deep");
    as_view_close(v);
}

static void test_single(void **state)
{
    (void)state;
    char path[600];
    as_view *v;
    for (int with_journal = 0; with_journal < 2; with_journal++) {
        if (with_journal) {
            make_journal();
        }
        (void)snprintf(path, sizeof path, "%s/both", dir);
        assert_int_equal(as_view_open(&v, path, NULL), AS_OK);
        assert_string_equal(as_view_single(v), "both");
        expect(v, "both", with_journal ? "new" : "old");
        expect(v, "other", NULL);
        static const char *const names[] = {"both"};
        expect_list(v, names, 1);
        as_view_close(v);
        (void)snprintf(path, sizeof path, "%s/fresh", dir);
        assert_int_equal(as_view_open(&v, path, NULL), with_journal ? AS_OK : AS_NOT_FOUND);
        as_view_close(v);
        (void)snprintf(path, sizeof path, "%s/out", dir);
        assert_int_equal(as_view_open(&v, path, NULL), with_journal ? AS_NOT_FOUND : AS_OK);
        as_view_close(v);
    }
    static const char *const missing[] = {"none", "none/", "none/x", "other/x", "other/"};
    for (size_t i = 0; i < COUNT(missing); i++) {
        (void)snprintf(path, sizeof path, "%s/%s", dir, missing[i]);
        as_error e = AS_ERROR_INIT;
        assert_int_equal(as_view_open(&v, path, &e), AS_NOT_FOUND);
        assert_null(v);
        assert_non_null(strstr(as_error_text(&e), path));
        as_error_clear(&e);
    }
    /* Relative, and without a slash. */
    char *before = getcwd(NULL, 0);
    must(before && chdir(dir) == 0, dir);
    assert_int_equal(as_view_open(&v, "other", NULL), AS_OK);
    expect(v, "other", "other");
    as_view_close(v);
    assert_int_equal(as_view_open(&v, ".", NULL), AS_OK);
    expect(v, "other", "other");
    as_view_close(v);
    assert_int_equal(as_view_open(&v, "", NULL), AS_NOT_FOUND);
    must(chdir(before) == 0, before);
    free(before);
}

static void save(const char *const *names, const char *text, size_t count)
{
    as_txn *t;
    assert_int_equal(as_txn_begin(&t, dir, NULL, NULL, NULL), AS_OK);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(as_txn_put(t, names[i], text, strlen(text), NULL), AS_OK);
    }
    assert_int_equal(as_txn_commit(t, names, count, NULL, 0, NULL), AS_OK);
    assert_int_equal(as_txn_finish(t, NULL), AS_OK);
}

static void test_check(void **state)
{
    (void)state;
    static const char *const one[] = {"both"};
    static const char *const two[] = {"none"};
    as_view *v;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(as_view_open(&v, dir, NULL), AS_OK);
    expect(v, "both", "old");
    expect(v, "none", NULL);
    save(&one[0], "old", 1);
    assert_int_equal(as_view_check(v, &e), AS_BUSY);
    assert_non_null(strstr(as_error_text(&e), "\"both\""));
    as_error_clear(&e);
    as_view_close(v);

    assert_int_equal(as_view_open(&v, dir, NULL), AS_OK);
    expect(v, "other", "other");
    save(&one[0], "newer", 1);
    assert_int_equal(as_view_check(v, &e), AS_OK);
    expect(v, "none", NULL);
    save(&two[0], "x", 1);
    assert_int_equal(as_view_check(v, &e), AS_BUSY);
    as_error_clear(&e);
    as_view_close(v);
}

/* One process saves over and over, another reads: whatever passes the check is one save's. */
static void test_reader_beside_saver(void **state)
{
    (void)state;
    static const char *const names[] = {"a", "b", "c", "d"};
    save(names, "0", COUNT(names));
    pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        for (int i = 1;; i = (i + 1) % 10) {
            char text[2] = {(char)('0' + i), '\0'};
            save(names, text, COUNT(names));
        }
    }
    int good = 0;
    int torn = 0;
    for (int i = 0; i < 3000; i++) {
        as_view *v;
        char first = 0;
        bool mixed = false;
        assert_int_equal(as_view_open(&v, dir, NULL), AS_OK);
        int code = AS_OK;
        for (size_t k = 0; k < COUNT(names); k++) {
            int one;
            const char *text = content(v, names[k], &one);
            /* The names are in every save: absent they never are. */
            assert_int_not_equal(one, AS_NOT_FOUND);
            code = one != AS_OK ? one : code;
            first = text && !first ? *text : first;
            mixed = mixed || (text && *text != first);
        }
        if (code == AS_OK) {
            code = as_view_check(v, NULL);
        }
        if (code == AS_OK) {
            assert_false(mixed);
            good++;
        } else {
            assert_int_equal(code, AS_BUSY);
            torn++;
        }
        as_view_close(v);
    }
    must(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child, "kill");
    print_message("readings: %d good, %d given up\n", good, torn);
    assert_true(good > 0);
}

typedef struct visits {
    as_names names;
    int stop_at;
} visits;

static int visit(void *user, const char *name, as_error *e)
{
    visits *seen = user;
    if ((int)seen->names.count == seen->stop_at) {
        return as_fail(e, AS_LIMIT, 0, "enough");
    }
    return as_names_add(&seen->names, name, e);
}

static void test_opener(void **state)
{
    (void)state;
    make_journal();
    as_view *v;
    assert_int_equal(as_view_open(&v, dir, NULL), AS_OK);
    as_opener o = as_view_opener(v);
    assert_string_equal(o.path, dir);
    assert_null(o.file);
    int fd;
    assert_int_equal(o.open(o.self, "fresh", &fd, NULL), AS_OK);
    (void)close(fd);
    assert_int_equal(o.open(o.self, "out", &fd, NULL), AS_NOT_FOUND);
    visits seen = {.stop_at = 100};
    assert_int_equal(o.list(o.self, visit, &seen, NULL), AS_OK);
    assert_int_equal(seen.names.count, 5);
    as_names_free(&seen.names);
    seen.stop_at = 2;
    assert_int_equal(o.list(o.self, visit, &seen, NULL), AS_LIMIT);
    assert_int_equal(seen.names.count, 2);
    as_names_free(&seen.names);
    as_view_close(v);
}

int main(void)
{
#define VIEW_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        VIEW_TEST(test_plain),           VIEW_TEST(test_through_journal),
        VIEW_TEST(test_without_journal), VIEW_TEST(test_names),
        VIEW_TEST(test_single),          VIEW_TEST(test_check),
        VIEW_TEST(test_opener),          VIEW_TEST(test_reader_beside_saver),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
