/* SPDX-License-Identifier: Apache-2.0
 * Hostile folders: names that lead out, links, pipes and devices in place of files, and strings
 * that would command a terminal.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/quote.h"
#include "base/sys.h"
#include "base/utf8.h"
#include "checkpoint_folder.h"
#include "commit/view.h"
#include "format/checkpoint.h"
#include "format/index.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static char dir[256];

/* "<dir>/<name>"; static. */
static const char *below(const char *name)
{
    static char path[600];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void make_link(const char *target, const char *name)
{
    must(symlink(target, below(name)) == 0, name);
}

static int set_up(void **state)
{
    (void)state;
    (void)unsetenv("ALLSHARD_LINKS");
    (void)snprintf(dir, sizeof dir, "%s", scratch_folder());
    must(mkdir(below("sub"), 0777) == 0, "sub");
    must(mkdir(below("sub/deep"), 0777) == 0, "sub/deep");
    must(mkdir(below("blobs"), 0777) == 0, "blobs");
    write_text(dir, "plain", "plain");
    write_text(dir, "sub/file", "in sub");
    write_text(dir, "sub/deep/file", "in deep");
    write_text(dir, "blobs/blob", "blob");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)unsetenv("ALLSHARD_LINKS");
    remove_tree(dir);
    return 0;
}

/* Opens a name and looks what it gives: its content, or NULL for the code alone. */
static void expect(as_view *v, const char *name, int code, const char *text)
{
    int fd = -1;
    as_error e = AS_ERROR_INIT;
    if (as_view_open_file(v, name, &fd, &e) != code) {
        fail_msg("\"%s\": code %d, not %d: %s", name, e.code, code, as_error_text(&e));
    }
    assert_true((fd >= 0) == (code == AS_OK));
    if (fd >= 0) {
        char found[64] = "";
        must(read(fd, found, sizeof found - 1) >= 0, name);
        (void)close(fd);
        assert_string_equal(found, text);
    } else if (text) {
        assert_non_null(strstr(as_error_text(&e), text));
    }
    as_error_clear(&e);
}

/* ---- names ---- */

static void test_names(void **state)
{
    (void)state;
    static const char *const out[] = {
        "",          "/etc/passwd", "//etc/passwd", "..",     "../x",
        "sub/../x",  "sub/..",      "sub/../../x",  "./../x", ".//..",
        "sub//../x", "sub/./../x",  "./",           "././",   "sub/deep/../../../x"};
    static const char *const own[] = {".allshard",           ".allshard/lock",  "./.allshard/new/x",
                                      ".ALLSHARD/new/plain", ".//.Allshard//x", ".allshard/"};
    static const char *const absent[] = {"none",      "..x",        "x..",      "...",
                                         "plain/",    "plain/x",    "sub/",     "sub/none",
                                         "none/file", "sub/file/x", "plain ",   ".allshard2/x",
                                         "PLAIN",     "C:plain",    "sub\\file"};
    int descriptors = count_descriptors();
    as_view *v;
    assert_int_equal(as_view_open(&v, dir, NULL), AS_OK);
    for (size_t i = 0; i < COUNT(out); i++) {
        expect(v, out[i], AS_INVALID, "leads out of the folder");
    }
    for (size_t i = 0; i < COUNT(own); i++) {
        expect(v, own[i], AS_INVALID, "unfinished saves");
    }
    for (size_t i = 0; i < COUNT(absent); i++) {
        expect(v, absent[i], AS_NOT_FOUND, NULL);
    }
    expect(v, "./plain", AS_OK, "plain");
    expect(v, "sub/file", AS_OK, "in sub");
    expect(v, ".//sub//.//deep/./file", AS_OK, "in deep");
    /* Longer than any name or path can be. */
    char *longest = malloc(8001);
    must(longest != NULL, "malloc");
    memset(longest, 'x', 8000);
    longest[8000] = '\0';
    expect(v, longest, AS_SYSTEM, NULL);
    longest[300] = '/';
    expect(v, longest, AS_SYSTEM, NULL);
    free(longest);
    as_view_close(v);
    assert_int_equal(count_descriptors(), descriptors);
}

/* ---- links ---- */

static void make_links(void)
{
    make_link("blobs/blob", "inside");
    make_link("/proc/self/cmdline", "outside");
    make_link("inside", "twice");
    make_link("circle", "circle");
    make_link("nowhere", "dangling");
    make_link("sub", "folder");
    make_link("..", "up");
    make_link("/etc", "etc");
    make_link("../../blobs/blob", "sub/deep/back");
}

static void test_links(void **state)
{
    (void)state;
    make_links();
    int descriptors = count_descriptors();
    as_view *v;
    assert_int_equal(as_view_open(&v, dir, NULL), AS_OK);
    expect(v, "inside", AS_OK, "blob");
    expect(v, "twice", AS_OK, "blob");
    expect(v, "sub/deep/back", AS_OK, "blob");
    expect(v, "dangling", AS_NOT_FOUND, NULL);
    expect(v, "circle", AS_INVALID, "in a circle");
    static const char *const through[] = {"folder/file", "./folder/file",     "folder/deep/file",
                                          "up/plain",    "etc/passwd",        "folder/none",
                                          "up/up/x",     "sub/../folder/file"};
    for (size_t i = 0; i < COUNT(through); i++) {
        expect(v, through[i], AS_INVALID, i + 1 < COUNT(through) ? "link" : "out of the folder");
    }
    expect(v, "folder", AS_FORMAT, "regular");
    as_view_close(v);
    assert_int_equal(count_descriptors(), descriptors);
}

static void test_links_off(void **state)
{
    (void)state;
    make_links();
    must(setenv("ALLSHARD_LINKS", "off", 1) == 0, "setenv");
    as_view *v;
    assert_int_equal(as_view_open(&v, dir, NULL), AS_OK);
    static const char *const links[] = {"inside", "outside", "twice", "sub/deep/back", "dangling"};
    for (size_t i = 0; i < COUNT(links); i++) {
        expect(v, links[i], AS_INVALID, "ALLSHARD_LINKS");
    }
    expect(v, "plain", AS_OK, "plain");
    expect(v, "sub/deep/file", AS_OK, "in deep");
    as_view_close(v);
}

/* ---- what is no file ---- */

static int (*real_openat)(int folder, const char *path, int flags, mode_t mode);
static int opened; /* of what is no regular file, for more than a look */

static int watch_openat(int folder, const char *path, int flags, mode_t mode)
{
    struct stat status;
    if (fstatat(folder, path, &status, 0) == 0 && !S_ISREG(status.st_mode) &&
        !S_ISDIR(status.st_mode) && !(flags & (O_PATH | O_DIRECTORY))) {
        opened++;
    }
    return real_openat(folder, path, flags, mode);
}

static void test_no_file(void **state)
{
    (void)state;
    must(mkfifo(below("pipe"), 0666) == 0, "pipe");
    make_link("/dev/zero", "zero");
    make_link("/dev/tty", "tty");
    make_link("pipe", "to-pipe");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    must(fd >= 0, "socket");
    if (strlen(below("socket")) < sizeof address.sun_path) {
        (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", below("socket"));
        must(bind(fd, (const struct sockaddr *)&address, sizeof address) == 0, "bind");
    }
    static const char *const names[] = {"pipe", "zero", "to-pipe", "socket", "sub", "folder"};
    make_link("sub", "folder");
    real_openat = as_sys_table.openat;
    as_sys_table.openat = watch_openat;
    opened = 0;
    int descriptors = count_descriptors();
    as_view *v;
    assert_int_equal(as_view_open(&v, dir, NULL), AS_OK);
    for (size_t i = 0; i < COUNT(names); i++) {
        expect(v, names[i], AS_FORMAT, "not a regular file");
    }
    as_view_close(v);
    /* A single file, as the user names it. */
    for (size_t i = 0; i < 4; i++) {
        as_error e = AS_ERROR_INIT;
        assert_int_equal(as_view_open(&v, below(names[i]), &e), AS_FORMAT);
        as_error_clear(&e);
    }
    as_sys_table.openat = real_openat;
    assert_int_equal(opened, 0);
    assert_int_equal(count_descriptors(), descriptors);
    (void)close(fd);
}

/* As a shard of an index: the same, by the name in the index. */
static void test_index_of_no_files(void **state)
{
    (void)state;
    write_text(dir, "model.safetensors.index.json",
               "{\"weight_map\":{\"a\":\"pipe.safetensors\",\"b\":\"up/x.safetensors\"}}");
    must(mkfifo(below("pipe.safetensors"), 0666) == 0, "pipe");
    make_link("..", "up");
    as_view *v;
    as_checkpoint c;
    assert_int_equal(as_view_open(&v, dir, NULL), AS_OK);
    as_opener o = as_view_opener(v);
    assert_int_equal(as_checkpoint_resolve(&o, NULL, &c, NULL, NULL), AS_OK);
    assert_int_equal(as_checkpoint_file_count(&c), 2);
    expect(v, as_checkpoint_file(&c, 0), AS_FORMAT, "not a regular file");
    expect(v, as_checkpoint_file(&c, 1), AS_INVALID, "link");
    as_checkpoint_free(&c);
    as_view_close(v);
}

/* ---- somebody else's staging ---- */

static int open_code(void)
{
    as_view *v;
    as_error e = AS_ERROR_INIT;
    int code = as_view_open(&v, dir, &e);
    assert_true(code == AS_OK || code == AS_INVALID);
    assert_true(code == AS_OK || strstr(as_error_text(&e), ".allshard: ") != NULL);
    as_error_clear(&e);
    as_view_close(v);
    return code;
}

static void test_staging(void **state)
{
    (void)state;
    static const struct {
        mode_t outer, inner;
        uid_t owner; /* of .allshard; 0: whoever runs this */
        int code;
    } cases[] = {{0755, 0755, 0, AS_OK},           {0755, 0775, 0, AS_OK},
                 {0775, 0775, 0, AS_OK},           {0755, 0777, 0, AS_INVALID},
                 {0777, 0777, 0, AS_OK}, /* no modes there */
                 {01777, 0777, 0, AS_INVALID},     {01777, 0755, 0, AS_OK},
                 {01777, 0755, 65534, AS_INVALID}, {01775, 0775, 65534, AS_INVALID},
                 {01755, 0755, 65534, AS_OK}, /* nobody but the owner could have made it */
                 {0775, 0775, 65534, AS_OK},       {02775, 02775, 65534, AS_OK}};
    must(mkdir(below(".allshard"), 0755) == 0, ".allshard");
    for (size_t i = 0; i < COUNT(cases); i++) {
        if (cases[i].owner && geteuid() != 0) {
            continue; /* only root can give files away */
        }
        must(chmod(dir, cases[i].outer) == 0 && chmod(below(".allshard"), cases[i].inner) == 0,
             "chmod");
        must(chown(below(".allshard"), cases[i].owner ? cases[i].owner : geteuid(), (gid_t)-1) == 0,
             "chown");
        must(chmod(below(".allshard"), cases[i].inner) == 0, "chmod");
        if (open_code() != cases[i].code) {
            fail_msg("case %zu: not %d", i, cases[i].code);
        }
    }
}

/* ---- names that differ in case ---- */

static void count_warning(int level, const char *text, void *user)
{
    int *count = user;
    assert_int_equal(level, AS_LOG_WARNING);
    *count += strstr(text, "differ in the case of letters") != NULL;
}

static void test_case(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        int warnings;
    } cases[] = {{"a.safetensors", "A.safetensors", 1},
                 {"sub/Ab.safetensors", "SUB/aB.safetensors", 1},
                 {"./a.safetensors", "A.safetensors", 1},
                 {"a.safetensors", "b.safetensors", 0},
                 {"a.safetensors", "./a.safetensors", 0},
                 {"[.safetensors", "{.safetensors", 0},
                 {"\\u00e9.safetensors", "\\u00c9.safetensors", 0} /* ASCII only */};
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[256];
        int count = 0;
        as_index x;
        as_log log = {.call = count_warning, .user = &count};
        (void)snprintf(text, sizeof text, "{\"weight_map\":{\"x\":\"%s\",\"y\":\"%s\"}}",
                       cases[i].a, cases[i].b);
        as_source source = as_source_memory(text, strlen(text), "index");
        assert_int_equal(as_index_read(&source, ".safetensors", &x, &log, NULL), AS_OK);
        assert_int_equal(count, cases[i].warnings);
        as_index_free(&x);
    }
}

/* ---- texts ---- */

static void test_texts(void **state)
{
    (void)state;
    static const struct {
        const char *name, *shown;
    } cases[] = {
        {"plain name", "plain name"},
        {"\x1b[2J\x1b]0;owned\x07", "\\x1b[2J\\x1b]0;owned\\x07"},
        {"a\nallshard: good", "a\\nallshard: good"},
        {"a\rb\tc\x7f", "a\\rb\\tc\\u007f"},
        {"\xc2\x9b"
         "2J",
         "\\u009b2J"},
        {"\x9b"
         "2J\xff",
         "\\x9b2J\\xff"},
        {"evil\xe2\x80\xaetxt.exe", "evil\\u202etxt.exe"},
        {"\xe2\x81\xa6x\xe2\x81\xa9\xef\xbb\xbf", "\\u2066x\\u2069\\ufeff"},
        {"\xf3\xa0\x81\x81", "\\U000e0041"},
        {"caf\xc3\xa9 \xf0\x9f\x98\x80", "caf\xc3\xa9 \xf0\x9f\x98\x80"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        as_error e = AS_ERROR_INIT;
        char expected[256];
        (void)as_fail(&e, AS_FORMAT, ENOENT, "%s: is bad", cases[i].name);
        (void)snprintf(expected, sizeof expected, "%s: is bad: No such file or directory",
                       cases[i].shown);
        assert_string_equal(as_error_text(&e), expected);
        as_error_prefix(&e, "%s", cases[i].name);
        assert_int_equal(strncmp(as_error_text(&e), cases[i].shown, strlen(cases[i].shown)), 0);
        as_error_clear(&e);
    }
}

/* A text of megabytes is none: beginning and end stay. */
static void test_long_texts(void **state)
{
    (void)state;
    for (size_t length = 3900; length < 100000; length += length < 4100 ? 1 : 30011) {
        char *name = malloc(length + 1);
        must(name != NULL, "malloc");
        for (size_t i = 0; i < length; i++) {
            name[i] = "\xe2\x82\xac"[i % 3];
        }
        name[length - length % 3] = '\0';
        as_error e = AS_ERROR_INIT;
        (void)as_fail(&e, AS_FORMAT, 0, "begin %s end", name);
        const char *text = as_error_text(&e);
        size_t shown = strlen(text);
        assert_true(shown <= 4000 && as_utf8_valid(text, shown));
        assert_int_equal(strncmp(text, "begin ", 6), 0);
        assert_string_equal(text + shown - 4, " end");
        assert_true((strstr(text, " [...] ") != NULL) == (strlen(name) + 10 > 4000));
        as_error_clear(&e);
        free(name);
    }
}

static void keep_text(int level, const char *text, void *user)
{
    (void)level;
    (void)snprintf(user, 64, "%s", text);
}

static void test_logs(void **state)
{
    (void)state;
    char text[64] = "";
    as_log log = {.call = keep_text, .user = text};
    as_log_say(&log, AS_LOG_WARNING, "file %s", "\x1b[1m\nfake");
    assert_string_equal(text, "file \\x1b[1m\\nfake");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_links, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_links_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_index_of_no_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_staging, set_up, tear_down),
        cmocka_unit_test(test_case),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_long_texts),
        cmocka_unit_test(test_logs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
