/* SPDX-License-Identifier: Apache-2.0
 * The control file: what people write into it, and how words are added and struck out while others
 * do the same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "commit/folder.h"
#include "series/control.h"
#include "support_faults.h"

static char dir[] = "/tmp/allshard-control.XXXXXX";
static char file_path[300];
static int root;

static void put(const char *text)
{
    FILE *file = fopen(file_path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void holds(const char *wanted)
{
    char text[1000] = "";
    FILE *file = fopen(file_path, "r");
    if (!file) {
        assert_null(wanted);
        return;
    }
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    (void)fclose(file);
    assert_non_null(wanted);
    assert_string_equal(text, wanted);
}

static unsigned parse(const char *text, const char *complaint)
{
    as_buffer told = AS_BUFFER_INIT;
    unsigned words = as_control_parse(text, strlen(text), &told);
    if (complaint) {
        assert_non_null(strstr(as_buffer_string(&told), complaint));
    } else {
        assert_int_equal(told.size, 0);
    }
    as_buffer_free(&told);
    return words;
}

static void test_words(void **state)
{
    (void)state;
    assert_int_equal(parse("", NULL), 0);
    assert_int_equal(parse("stop\n", NULL), AS_CONTROL_STOP);
    assert_int_equal(parse("stop", NULL), AS_CONTROL_STOP);
    assert_int_equal(parse("  Save-Now \t\r\n", NULL), AS_CONTROL_SAVE);
    assert_int_equal(parse("# stop\n\nHOLD # until the disk is there\n", NULL), AS_CONTROL_HOLD);
    assert_int_equal(parse("hold\nsave-now\nstop\nstop\n", NULL), 7);
    assert_int_equal(parse("#only a comment", NULL), 0);
    assert_int_equal(parse("hold\nstopp\nstop it\n", "line 2, \"stopp\", is passed over"), 4);
    assert_int_equal(parse("\x1b[2Jstop\n", "\\x1b"), 0);
    assert_int_equal(parse("save now", "save-now"), 0);
    assert_int_equal(as_control_parse("stop\0x", 6, NULL), 0);
    for (unsigned word = 1; word <= AS_CONTROL_HOLD; word *= 2) {
        assert_int_equal(parse(as_control_word_text(word), NULL), word);
    }
    assert_string_equal(as_control_word_text(8), "");
}

static unsigned read_words(void)
{
    unsigned words = 99;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(as_control_read(root, dir, &words, NULL, &e), AS_OK);
    return words;
}

static unsigned change(unsigned strike, unsigned add)
{
    unsigned words = 99;
    as_error e = AS_ERROR_INIT;
    int code = as_control_change(root, dir, strike, add, &words, &e);
    if (code != AS_OK) {
        fail_msg("%s", as_error_text(&e));
    }
    assert_int_equal(words, read_words());
    return words;
}

static void test_change(void **state)
{
    (void)state;
    holds(NULL);
    assert_int_equal(read_words(), 0);
    assert_int_equal(change(AS_CONTROL_STOP, 0), 0);
    holds(NULL);
    assert_int_equal(change(0, AS_CONTROL_SAVE), AS_CONTROL_SAVE);
    holds("save-now\n");
    assert_int_equal(change(0, AS_CONTROL_SAVE), AS_CONTROL_SAVE);
    holds("save-now\n");
    assert_int_equal(change(AS_CONTROL_SAVE, AS_CONTROL_STOP | AS_CONTROL_HOLD), 5);
    holds("stop\nhold\n");
    assert_int_equal(change(7, 0), 0);
    holds(NULL);
    /* What people wrote stays as they wrote it. */
    put("# ask Jo before you touch this\n  hold # disk\n STOP\nnonsense");
    assert_int_equal(change(AS_CONTROL_STOP, AS_CONTROL_SAVE), 6);
    holds("# ask Jo before you touch this\n  hold # disk\nnonsense\nsave-now\n");
    put("\n  \nstop\n");
    assert_int_equal(change(AS_CONTROL_STOP, 0), 0);
    holds(NULL);
    /* Its mode, too. */
    put("hold\n");
    assert_int_equal(chmod(file_path, 0660), 0);
    assert_int_equal(change(0, AS_CONTROL_STOP), 5);
    struct stat s;
    assert_int_equal(stat(file_path, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0660);
    assert_int_equal(unlink(file_path), 0);
}

static void refuse(int code, const char *text)
{
    unsigned words = 99;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(as_control_read(root, dir, &words, NULL, &e), code);
    assert_int_equal(words, 0);
    assert_non_null(strstr(as_error_text(&e), AS_CONTROL_NAME));
    assert_non_null(strstr(as_error_text(&e), text));
    as_error_clear(&e);
    assert_int_equal(as_control_change(root, dir, 0, AS_CONTROL_STOP, &words, &e), code);
    as_error_clear(&e);
}

static void test_strange_files(void **state)
{
    (void)state;
    assert_int_equal(symlink("/etc/passwd", file_path), 0);
    refuse(AS_INVALID, "link");
    assert_int_equal(unlink(file_path), 0);
    assert_int_equal(mkdir(file_path, 0755), 0);
    refuse(AS_INVALID, "regular");
    assert_int_equal(rmdir(file_path), 0);
    assert_int_equal(mkfifo(file_path, 0600), 0);
    refuse(AS_INVALID, "regular");
    assert_int_equal(unlink(file_path), 0);
    put("stop\n");
    assert_int_equal(truncate(file_path, AS_LARGEST_CONTROL + 1), 0);
    refuse(AS_LIMIT, "bytes");
    assert_int_equal(truncate(file_path, 5), 0);
    /* What a killed one left is cleared away. */
    char left[300];
    (void)snprintf(left, sizeof left, "%s/.allshard.control.next", dir);
    int fd = open(left, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    assert_int_equal(change(AS_CONTROL_STOP, AS_CONTROL_HOLD), AS_CONTROL_HOLD);
    assert_int_equal(access(left, F_OK), -1);
    assert_int_equal(change(AS_CONTROL_HOLD, 0), 0);
}

static void test_somebody_else(void **state)
{
    (void)state;
    int other = open(dir, O_RDONLY | O_DIRECTORY);
    assert_int_equal(flock(other, LOCK_EX), 0);
    unsigned words;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(as_control_change(root, dir, 0, AS_CONTROL_STOP, &words, &e), AS_BUSY);
    as_error_clear(&e);
    (void)close(other);
    holds(NULL);
}

/* Several processes add and strike out their words many times; none is lost. */
static void test_together(void **state)
{
    (void)state;
    enum { PROCESSES = 3, ROUNDS = 30 };
    pid_t children[PROCESSES];
    for (int i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            unsigned word = 1U << i;
            unsigned words = 0;
            int own = open(dir, O_RDONLY | O_DIRECTORY);
            const struct timespec pause = {.tv_nsec = 2000000};
            for (int round = 0; round < ROUNDS; round++) {
                (void)nanosleep(&pause, NULL); /* the lock is not fair */
                if (as_control_change(own, dir, 0, word, &words, NULL) != AS_OK ||
                    !(words & word) || as_control_read(own, dir, &words, NULL, NULL) != AS_OK ||
                    !(words & word) ||
                    as_control_change(own, dir, word, 0, &words, NULL) != AS_OK || (words & word)) {
                    _exit(1);
                }
            }
            _exit(0);
        }
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    holds(NULL);
}

/* Whatever call fails the file holds what it held, or the new text, whole; and what says that it
 * was changed was. Afterwards all goes as ever. */
static void test_faults(void **state)
{
    (void)state;
    fault_install();
    int calls = 1;
    int failed = 0;
    for (int at = 1; at <= calls; at++) {
        for (int lies = 0; lies < 2; lies++) {
            put("# mine\nsave-now\n");
            unsigned words = 99;
            as_error e = AS_ERROR_INIT;
            fault_set(lies ? FAULT_LIE : FAULT_FAIL, at, EIO);
            int code = as_control_change(root, dir, AS_CONTROL_SAVE, AS_CONTROL_HOLD, &words, &e);
            int made = fault_end();
            calls = calls > made ? calls : made;
            char text[100] = "";
            FILE *file = fopen(file_path, "r");
            assert_non_null(file);
            (void)fread(text, 1, sizeof text - 1, file);
            (void)fclose(file);
            bool old = strcmp(text, "# mine\nsave-now\n") == 0;
            bool new = strcmp(text, "# mine\nhold\n") == 0;
            assert_true(code == AS_OK ? new &&words == AS_CONTROL_HOLD : old || new);
            failed += code != AS_OK;
            as_error_clear(&e);
            assert_int_equal(change(7, AS_CONTROL_STOP), AS_CONTROL_STOP);
            holds("# mine\nstop\n");
        }
    }
    assert_true(calls >= 12 && failed > 12);
    print_message("%d calls, %d failures\n", calls, failed);
    assert_int_equal(unlink(file_path), 0);
}

static int begin(void **state)
{
    (void)state;
    if (!mkdtemp(dir)) {
        return -1;
    }
    (void)snprintf(file_path, sizeof file_path, "%s/" AS_CONTROL_NAME, dir);
    root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return root < 0;
}

static int finish(void **state)
{
    (void)state;
    (void)close(root);
    return as_tree_remove(AT_FDCWD, dir, dir, NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),         cmocka_unit_test(test_change),
        cmocka_unit_test(test_strange_files), cmocka_unit_test(test_somebody_else),
        cmocka_unit_test(test_together),      cmocka_unit_test(test_faults),
    };
    return cmocka_run_group_tests(tests, begin, finish);
}
