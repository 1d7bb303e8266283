/* SPDX-License-Identifier: Apache-2.0
 * The history of a series: torn lines, lines of others, several writers.
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

#include "series/history.h"
#include "series_scene.h"

/* --------------------------------------------------------------------- history */

static void append(enum as_event_kind kind, const char *name, int64_t step, const char *text)
{
    const as_event event = {
        .time_ms = 1769860800123 + step, .kind = kind, .name = name, .step = step, .text = text};
    as_error e = AS_ERROR_INIT;
    if (as_history_append(root, "R", &event, &e) != AS_OK) {
        fail_msg("%s", as_error_text(&e));
    }
}

static void test_history(void **state)
{
    (void)state;
    as_history h;
    assert_int_equal(as_history_read(root, "R", &h, NULL), AS_OK);
    assert_int_equal(h.count, 0);
    as_history_free(&h);
    append(AS_EVENT_SAVED, "checkpoint-1", 1, "a \"note\"\nof two lines \xe2\x80\xa8 \x7f");
    append(AS_EVENT_NOTE, NULL, -1, "x");
    append(AS_EVENT_FAILED, "na\xffme", 0, "bro\xffken\n");
    append(AS_EVENT_STOP, NULL, -1, NULL);
    assert_int_equal(as_history_read(root, "R", &h, NULL), AS_OK);
    assert_int_equal(h.count, 4);
    assert_int_equal(h.damaged, 0);
    assert_int_equal(h.items[0].kind, AS_EVENT_SAVED);
    assert_string_equal(h.items[0].kind_name, "saved");
    assert_string_equal(h.items[0].name, "checkpoint-1");
    assert_string_equal(h.items[0].text, "a \"note\"\nof two lines \xe2\x80\xa8 \x7f");
    assert_true(h.items[0].step == 1 && h.items[0].time_ms == 1769860800124);
    assert_true(h.items[1].step == -1 && !h.items[1].name);
    assert_string_equal(h.items[2].name, "na\\xffme");
    assert_string_equal(h.items[2].text, "bro\\xffken\\n");
    assert_null(h.items[3].text);
    assert_string_equal(h.items[3].kind_name, "stop");
    as_history_free(&h);
    /* All kinds come back as what they were. */
    (void)unlinkat(root, AS_HISTORY_NAME, 0);
    for (int k = 0; k < AS_EVENT_OTHER; k++) {
        append((enum as_event_kind)k, NULL, k, NULL);
    }
    assert_int_equal(as_history_read(root, "R", &h, NULL), AS_OK);
    assert_int_equal(h.count, AS_EVENT_OTHER);
    for (int k = 0; k < AS_EVENT_OTHER; k++) {
        assert_int_equal(h.items[k].kind, k);
    }
    as_history_free(&h);
    const as_event none = {.kind = AS_EVENT_OTHER};
    assert_int_equal(as_history_append(root, "R", &none, NULL), AS_INTERNAL);
    char *text = calloc(1, (64 << 10) + 2);
    memset(text, 't', (64 << 10) + 1);
    const as_event long_one = {.kind = AS_EVENT_NOTE, .step = -1, .text = text};
    assert_int_equal(as_history_append(root, "R", &long_one, NULL), AS_LIMIT);
    text[64 << 10] = '\0';
    assert_int_equal(as_history_append(root, "R", &long_one, NULL), AS_OK);
    assert_int_equal(as_history_read(root, "R", &h, NULL), AS_OK);
    assert_string_equal(h.items[AS_EVENT_OTHER].text, text);
    assert_true(h.items[AS_EVENT_OTHER].time_ms > INT64_C(1700000000000));
    as_history_free(&h);
    free(text);
}

/* Cut off at each byte of the last line: what was before stays, and what comes after is whole. */
static void test_torn_history(void **state)
{
    (void)state;
    append(AS_EVENT_SAVED, "checkpoint-1", 1, NULL);
    struct stat first;
    must(fstatat(root, AS_HISTORY_NAME, &first, 0) == 0, "stat");
    append(AS_EVENT_SAVED, "checkpoint-2", 2, "second");
    struct stat second;
    must(fstatat(root, AS_HISTORY_NAME, &second, 0) == 0, "stat");
    char whole[4096];
    (void)snprintf(whole, sizeof whole, "%s", read_text(folder, AS_HISTORY_NAME));
    for (off_t cut = first.st_size; cut < second.st_size; cut++) {
        char text[4096];
        (void)snprintf(text, sizeof text, "%.*s", (int)cut, whole);
        write_text(folder, AS_HISTORY_NAME, text);
        as_history h;
        assert_int_equal(as_history_read(root, "R", &h, NULL), AS_OK);
        assert_int_equal(h.count, 1);
        assert_int_equal(h.damaged, 0);
        as_history_free(&h);
        append(AS_EVENT_SAVED, "checkpoint-3", 3, NULL);
        assert_int_equal(as_history_read(root, "R", &h, NULL), AS_OK);
        /* Of the torn line only its newline may be missing. */
        bool complete = cut == second.st_size - 1;
        bool nothing = cut == first.st_size;
        assert_int_equal(h.count, complete ? 3 : 2);
        assert_int_equal(h.damaged, complete || nothing ? 0 : 1);
        assert_string_equal(h.items[h.count - 1].name, "checkpoint-3");
        as_history_free(&h);
    }
}

static void test_history_of_others(void **state)
{
    (void)state;
    static const char text[] =
        "\n"
        "rubbish\n"
        "{}\n"
        "[]\n"
        "7\n"
        "{\"time\": \"2026-01-31T12:00:00Z\", \"event\": \"saved\"}\n"
        "{\"time\": \"2026-01-31T12:00:00Z\", \"event\": \"from the future\", \"more\": [1]}\n"
        "{\"time\": \"yesterday\", \"event\": \"saved\"}\n"
        "{\"time\": \"2026-01-31T12:00:00Z\", \"event\": 7}\n"
        "{\"time\": \"2026-01-31T12:00:00Z\", \"event\": \"saved\", \"step\": -1}\n"
        "{\"time\": \"2026-01-31T12:00:00Z\", \"event\": \"saved\", \"step\": 1.5}\n"
        "{\"time\": \"2026-01-31T12:00:00Z\", \"event\": \"saved\", \"name\": null}\n"
        "{\"time\": \"2026-01-31T12:00:00Z\", \"event\": \"saved\", \"text\": {}}\n"
        "{\"event\":\"\",\"time\":\"2026-01-31T12:00:00Z\",\"name\":\"\",\"text\":\"\"}\n"
        "{\"time\": \"2026-01-31T12:00:00Z\", \"event\": \"saved\", \"event\": \"saved\"}\n"
        "{\"time\": \"2026-01-31T12:00:00Z\", \"event\": \"note\", \"text\": \"\\u0000\"}\n"
        "{\"time\": \"2026-01-31T12:00:00Z\", \"event\": \"note\", \"text\": \"being writ";
    write_text(folder, AS_HISTORY_NAME, text);
    as_history h;
    assert_int_equal(as_history_read(root, "R", &h, NULL), AS_OK);
    assert_int_equal(h.count, 3);
    assert_int_equal(h.damaged, 12);
    assert_int_equal(h.items[1].kind, AS_EVENT_OTHER);
    assert_string_equal(h.items[1].kind_name, "from the future");
    assert_string_equal(h.items[2].text, "");
    as_history_free(&h);
    /* A link, a pipe, a folder: told, and not waited for. */
    for (int i = 0; i < 3; i++) {
        must(unlinkat(root, AS_HISTORY_NAME, 0) == 0, "unlink");
        must((i == 0   ? symlinkat("elsewhere", root, AS_HISTORY_NAME)
              : i == 1 ? mkfifoat(root, AS_HISTORY_NAME, 0666)
                       : mkdirat(root, AS_HISTORY_NAME, 0777)) == 0,
             "make");
        const as_event event = {.kind = AS_EVENT_NOTE, .step = -1, .text = "x"};
        as_error e = AS_ERROR_INIT;
        assert_int_equal(as_history_read(root, "R", &h, &e), AS_INVALID);
        assert_non_null(strstr(as_error_text(&e), "R/" AS_HISTORY_NAME));
        as_error_clear(&e);
        int code = as_history_append(root, "R", &event, &e);
        assert_true(code == AS_INVALID || (i == 2 && code == AS_SYSTEM));
        as_error_clear(&e);
    }
    assert_false(exists(folder, "elsewhere"));
}

/* Only the end of a huge one is read, from the begin of a line on. */
static void test_long_history(void **state)
{
    (void)state;
    enum { LINE = 1 << 20, LINES = 70 };
    int out = openat(root, AS_HISTORY_NAME, O_WRONLY | O_CREAT, 0666);
    char *line = malloc(LINE);
    must(out >= 0 && line, "open");
    for (int i = 0; i < LINES; i++) {
        memset(line, ' ', LINE);
        int n =
            snprintf(line, LINE,
                     "{\"time\": \"2026-01-31T12:00:00Z\", \"event\": \"note\", \"step\": %d}", i);
        line[n] = ' ';
        line[LINE - 1] = '\n';
        must(write(out, line, LINE) == LINE, "write");
    }
    (void)close(out);
    free(line);
    as_history h;
    assert_int_equal(as_history_read(root, "R", &h, NULL), AS_OK);
    /* Of the first line that lies in the last 64 MiB the begin cannot be told. */
    assert_int_equal(h.count, 63);
    assert_true(h.items[0].step == LINES - 63 && h.items[62].step == LINES - 1);
    assert_int_equal(h.damaged, 0);
    as_history_free(&h);
}

static int no_lock(int file, int operation)
{
    (void)file;
    (void)operation;
    errno = ENOTSUP;
    return -1;
}

/* Several writers at the same time, with and without locks: no line gets lost or torn. */
static void test_writing_together(void **state)
{
    (void)state;
    enum { WRITERS = 4, EACH = 50 };
    pid_t pids[WRITERS];
    for (int w = 0; w < WRITERS; w++) {
        pids[w] = fork();
        must(pids[w] >= 0, "fork");
        if (pids[w] == 0) {
            int own = open(folder, O_RDONLY | O_DIRECTORY);
            int failed = own < 0;
            if (w % 2 == 1) {
                as_sys_table.flock = no_lock;
            }
            for (int i = 0; i < EACH && !failed; i++) {
                const as_event event = {.kind = AS_EVENT_NOTE, .step = w * 1000 + i, .text = "t"};
                failed = as_history_append(own, "R", &event, NULL) != AS_OK;
            }
            _exit(failed);
        }
    }
    for (int w = 0; w < WRITERS; w++) {
        int status;
        assert_int_equal(waitpid(pids[w], &status, 0), pids[w]);
        assert_int_equal(status, 0);
    }
    as_history h;
    int64_t next[WRITERS] = {0};
    assert_int_equal(as_history_read(root, "R", &h, NULL), AS_OK);
    assert_int_equal(h.count, WRITERS * EACH);
    assert_int_equal(h.damaged, 0);
    for (size_t i = 0; i < h.count; i++) {
        int64_t *n = &next[h.items[i].step / 1000];
        assert_true(h.items[i].step % 1000 == (*n)++);
    }
    as_history_free(&h);
}

int main(void)
{
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_history),      CASE(test_torn_history),     CASE(test_history_of_others),
        CASE(test_long_history), CASE(test_writing_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
