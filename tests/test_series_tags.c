/* SPDX-License-Identifier: Apache-2.0
 * Tags of a checkpoint, whoever changes them, and ROOT/latest.
 */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "series/latest.h"
#include "series/tags.h"
#include "series_scene.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* ------------------------------------------------------------------------ tags */

static as_names names_of(const char *text)
{
    as_names n = AS_NAMES_INIT;
    char *copy = strdup(text);
    char *rest = copy;
    for (char *word; (word = strsep(&rest, " "));) {
        if (*word) {
            assert_int_equal(as_names_add(&n, word, NULL), AS_OK);
        }
    }
    free(copy);
    return n;
}

static void expect_names(const as_names *n, const char *text)
{
    char joined[512] = "";
    for (size_t i = 0; i < n->count; i++) {
        size_t at = strlen(joined);
        (void)snprintf(joined + at, sizeof joined - at, "%s%s", i ? " " : "", n->items[i]);
    }
    assert_string_equal(joined, text);
}

static void expect_tags(const char *text)
{
    as_names n = names_of("rubbish");
    as_error e = AS_ERROR_INIT;
    if (as_tags_read(root, "F", &n, &e) != AS_OK) {
        fail_msg("%s", as_error_text(&e));
    }
    expect_names(&n, text);
    as_names_free(&n);
}

static int change(const char *add, const char *gone, const char *before, const char *after)
{
    as_names a = names_of(add);
    as_names g = names_of(gone);
    as_names was = AS_NAMES_INIT;
    as_names is = AS_NAMES_INIT;
    int code = as_tags_change(root, "F", &a, &g, &was, &is, NULL);
    if (code == AS_OK) {
        expect_names(&was, before);
        expect_names(&is, after);
    }
    as_names_free(&a);
    as_names_free(&g);
    as_names_free(&was);
    as_names_free(&is);
    return code;
}

static void test_tags(void **state)
{
    (void)state;
    expect_tags("");
    as_names n = names_of("zebra best a best \xc3\xa9");
    assert_int_equal(as_tags_write(root, "F", &n, NULL), AS_OK);
    as_names_free(&n);
    expect_tags("a best zebra \xc3\xa9");
    assert_non_null(strstr(read_text(folder, AS_TAGS_NAME), "\"allshard_tags\": 1"));
    assert_int_equal(change("new a", "best none", "a best zebra \xc3\xa9", "a new zebra \xc3\xa9"),
                     AS_OK);
    expect_tags("a new zebra \xc3\xa9");
    assert_int_equal(change("", "a new zebra \xc3\xa9", "a new zebra \xc3\xa9", ""), AS_OK);
    assert_int_equal(count_files(), 0);
    assert_int_equal(change("", "x", "", ""), AS_OK);
    assert_int_equal(count_files(), 0);
    as_names none = AS_NAMES_INIT;
    assert_int_equal(as_tags_write(root, "F", &none, NULL), AS_OK);
    /* Left by one that was killed. */
    write_text(folder, AS_TAGS_NAME ".77-1", "half");
    assert_int_equal(change("b", "", "", "b"), AS_OK);
    assert_int_equal(count_files(), 1);
}

static void test_bad_tags(void **state)
{
    (void)state;
    char long_tag[AS_LONGEST_TAG + 2];
    memset(long_tag, 't', sizeof long_tag);
    long_tag[sizeof long_tag - 1] = '\0';
    const char *const bad[] = {"",        "a b",  "a/b",      "a,b",   "a\n",
                               "\x1b[0m", "\xff", "\xc2\x85", long_tag};
    for (size_t i = 0; i < COUNT(bad); i++) {
        as_error e = AS_ERROR_INIT;
        assert_int_equal(as_tag_check(bad[i], &e), AS_INVALID);
        assert_non_null(strstr(as_error_text(&e), "cannot be a tag"));
        as_error_clear(&e);
    }
    long_tag[AS_LONGEST_TAG] = '\0';
    assert_int_equal(as_tag_check(long_tag, NULL), AS_OK);
    assert_int_equal(change("a,b", "", "", ""), AS_INVALID);
    as_names many = AS_NAMES_INIT;
    for (int i = 0; i <= AS_MOST_TAGS; i++) {
        char tag[16];
        (void)snprintf(tag, sizeof tag, "t%d", i);
        assert_int_equal(as_names_add(&many, tag, NULL), AS_OK);
    }
    assert_int_equal(as_tags_write(root, "F", &many, NULL), AS_LIMIT);
    assert_int_equal(count_files(), 0);
    free(many.items[--many.count]);
    assert_int_equal(as_tags_write(root, "F", &many, NULL), AS_OK);
    as_names_free(&many);
    /* One more is one too many; the file is as it was. */
    as_names more = names_of("another");
    as_names was = AS_NAMES_INIT;
    as_names is = AS_NAMES_INIT;
    assert_int_equal(as_tags_change(root, "F", &more, NULL, &was, &is, NULL), AS_LIMIT);
    assert_int_equal(was.count + is.count, 0);
    assert_int_equal(as_tags_read(root, "F", &was, NULL), AS_OK);
    assert_int_equal(was.count, AS_MOST_TAGS);
    as_names_free(&more);
    as_names_free(&was);
}

static void test_damaged_tags(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "[]",
        "{",
        "{\"tags\": []}",
        "{\"allshard_tags\": \"1\", \"tags\": []}",
        "{\"allshard_tags\": 2, \"tags\": []}",
        "{\"allshard_tags\": 1}",
        "{\"allshard_tags\": 1, \"tags\": {}}",
        "{\"allshard_tags\": 1, \"tags\": [1]}",
        "{\"allshard_tags\": 1, \"tags\": [\"a b\"]}",
        "{\"allshard_tags\": 1, \"tags\": [], \"tags\": []}",
    };
    as_names n = names_of("as it was");
    for (size_t i = 0; i <= COUNT(bad) + 1; i++) {
        as_error e = AS_ERROR_INIT;
        (void)unlinkat(root, AS_TAGS_NAME, 0);
        if (i < COUNT(bad)) {
            write_text(folder, AS_TAGS_NAME, bad[i]);
        } else if (i == COUNT(bad)) {
            must(symlinkat("elsewhere", root, AS_TAGS_NAME) == 0, "symlink");
        } else {
            must(mkdirat(root, AS_TAGS_NAME, 0777) == 0, "mkdir");
        }
        assert_int_equal(as_tags_read(root, "F", &n, &e), AS_FORMAT);
        assert_non_null(strstr(as_error_text(&e), "F/" AS_TAGS_NAME));
        as_error_clear(&e);
        expect_names(&n, "as it was");
        assert_int_equal(change("b", "", "", ""), AS_FORMAT);
    }
    as_names_free(&n);
}

/* Several who tag at the same time: nobody's tag is lost. */
static void test_tagging_together(void **state)
{
    (void)state;
    enum { PEOPLE = 4, EACH = 25 };
    pid_t pids[PEOPLE];
    for (int p = 0; p < PEOPLE; p++) {
        pids[p] = fork();
        must(pids[p] >= 0, "fork");
        if (pids[p] == 0) {
            int own = open(folder, O_RDONLY | O_DIRECTORY);
            int failed = own < 0;
            for (int i = 0; i < EACH && !failed; i++) {
                char tag[32];
                as_names add = AS_NAMES_INIT;
                as_names was = AS_NAMES_INIT;
                as_names is = AS_NAMES_INIT;
                (void)snprintf(tag, sizeof tag, "p%d-%d", p, i);
                failed = as_names_add(&add, tag, NULL) != AS_OK ||
                         as_tags_change(own, "F", &add, NULL, &was, &is, NULL) != AS_OK;
                as_names_free(&add);
                as_names_free(&was);
                as_names_free(&is);
            }
            _exit(failed);
        }
    }
    for (int p = 0; p < PEOPLE; p++) {
        int status;
        assert_int_equal(waitpid(pids[p], &status, 0), pids[p]);
        assert_int_equal(status, 0);
    }
    as_names n = AS_NAMES_INIT;
    assert_int_equal(as_tags_read(root, "F", &n, NULL), AS_OK);
    assert_int_equal(n.count, PEOPLE * EACH);
    as_names_free(&n);
    assert_int_equal(count_files(), 1);
}

/* ---------------------------------------------------------------------- latest */

static void expect_latest(const char *name)
{
    char *found;
    assert_int_equal(as_latest_get(root, "R", &found, NULL), AS_OK);
    if (name) {
        assert_non_null(found);
        assert_string_equal(found, name);
    } else {
        assert_null(found);
    }
    free(found);
}

static int no_links(const char *target, int at, const char *path)
{
    (void)target;
    (void)at;
    (void)path;
    errno = EPERM;
    return -1;
}

static void test_latest(void **state)
{
    (void)state;
    expect_latest(NULL);
    assert_int_equal(as_latest_set(root, "R", NULL, NULL), AS_OK);
    assert_int_equal(as_latest_set(root, "R", "checkpoint-5", NULL), AS_OK);
    expect_latest("checkpoint-5");
    char target[64] = "";
    assert_int_equal(readlinkat(root, AS_LATEST_NAME, target, sizeof target - 1), 12);
    assert_string_equal(target, "checkpoint-5");
    /* What a killed one left is in nobody's way. */
    must(symlinkat("rubbish", root, ".latest.new") == 0, "symlink");
    assert_int_equal(as_latest_set(root, "R", "checkpoint-6", NULL), AS_OK);
    expect_latest("checkpoint-6");
    /* Without links, a file; and back. */
    as_sys_table.symlinkat = no_links;
    assert_int_equal(as_latest_set(root, "R", "checkpoint-7", NULL), AS_OK);
    assert_string_equal(read_text(folder, AS_LATEST_NAME), "checkpoint-7\n");
    expect_latest("checkpoint-7");
    assert_int_equal(as_latest_set(root, "R", "checkpoint-8", NULL), AS_OK);
    expect_latest("checkpoint-8");
    as_sys_table.symlinkat = real.symlinkat;
    assert_int_equal(as_latest_set(root, "R", "checkpoint-9", NULL), AS_OK);
    expect_latest("checkpoint-9");
    assert_int_equal(count_files(), 1);
    assert_int_equal(as_latest_set(root, "R", NULL, NULL), AS_OK);
    assert_int_equal(count_files(), 0);
    const char *const bad[] = {"", ".", "..", "a/b", ".hidden", ".allshard"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_int_equal(as_latest_set(root, "R", bad[i], NULL), AS_INVALID);
    }
    assert_int_equal(count_files(), 0);
}

static void test_latest_of_others(void **state)
{
    (void)state;
    /* Links that lead elsewhere are replaced, and never believed. */
    const char *const targets[] = {"/etc", "../x", "a/b", "a/", ".", "..", ".hidden"};
    for (size_t i = 0; i < COUNT(targets); i++) {
        must(symlinkat(targets[i], root, AS_LATEST_NAME) == 0, "symlink");
        expect_latest(NULL);
        assert_int_equal(as_latest_set(root, "R", "a", NULL), AS_OK);
        expect_latest("a");
        assert_int_equal(as_latest_set(root, "R", NULL, NULL), AS_OK);
    }
    char long_target[600];
    memset(long_target, 'x', sizeof long_target);
    long_target[sizeof long_target - 1] = '\0';
    must(symlinkat(long_target, root, AS_LATEST_NAME) == 0, "symlink");
    expect_latest(NULL);
    must(unlinkat(root, AS_LATEST_NAME, 0) == 0, "unlink");
    /* Files and folders of somebody's stay. */
    const char *const texts[] = {"", "\n", "a", "a\nb\n", "a/b\n", "a\n\n", long_target};
    for (size_t i = 0; i <= COUNT(texts); i++) {
        as_error e = AS_ERROR_INIT;
        if (i < COUNT(texts)) {
            write_text(folder, AS_LATEST_NAME, texts[i]);
        } else {
            must(unlinkat(root, AS_LATEST_NAME, 0) == 0, "unlink");
            must(mkdirat(root, AS_LATEST_NAME, 0777) == 0, "mkdir");
        }
        expect_latest(NULL);
        assert_int_equal(as_latest_set(root, "R", "a", &e), AS_INVALID);
        assert_non_null(strstr(as_error_text(&e), "rename it"));
        as_error_clear(&e);
        assert_int_equal(as_latest_set(root, "R", NULL, NULL), AS_INVALID);
        assert_int_equal(count_files(), 1);
    }
}

int main(void)
{
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_tags),         CASE(test_bad_tags),
        CASE(test_damaged_tags), CASE(test_tagging_together),
        CASE(test_latest),       CASE(test_latest_of_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
