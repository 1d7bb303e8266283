/* SPDX-License-Identifier: Apache-2.0 */
#include "series/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "base/quote.h"
#include "base/sys.h"
#include "commit/folder.h"

/* Where the next content is put together; whoever has the lock may clear a dead one's away. */
#define NEXT_NAME ".allshard.control.next"

static const struct {
    unsigned word;
    const char *text;
} known[] = {
    {AS_CONTROL_STOP, "stop"},
    {AS_CONTROL_SAVE, "save-now"},
    {AS_CONTROL_HOLD, "hold"},
};

enum { KNOWN = sizeof known / sizeof *known, LOCK_TRIES = 2000, LOCK_PAUSE_MS = 1 };

const char *as_control_word_text(unsigned word)
{
    for (size_t i = 0; i < KNOWN; i++) {
        if (known[i].word == word) {
            return known[i].text;
        }
    }
    return "";
}

/* ---------------------------------------------------------------------- lines */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

typedef struct line {
    const char *text; /* without blanks around it and without its comment */
    size_t length;
    size_t whole; /* bytes of the line as it is, with its end */
    unsigned word;
} line;

static line read_line(const char *at, size_t left)
{
    const char *end = memchr(at, '\n', left);
    size_t size = end ? (size_t)(end - at) : left;
    line l = {.text = at, .length = size, .whole = size + (end != NULL)};
    const char *comment = memchr(at, '#', size);
    l.length = comment ? (size_t)(comment - at) : size;
    while (l.length > 0 && is_blank(*l.text)) {
        l.text++;
        l.length--;
    }
    while (l.length > 0 && is_blank(l.text[l.length - 1])) {
        l.length--;
    }
    for (size_t i = 0; i < KNOWN; i++) {
        if (strlen(known[i].text) == l.length &&
            strncasecmp(known[i].text, l.text, l.length) == 0) {
            l.word = known[i].word;
        }
    }
    return l;
}

unsigned as_control_parse(const char *text, size_t length, as_buffer *complaint)
{
    unsigned words = 0;
    bool told = complaint == NULL;
    int number = 1;
    for (size_t at = 0; at < length; number++) {
        line l = read_line(text + at, length - at);
        words |= l.word;
        if (l.length > 0 && l.word == 0 && !told) {
            told = true;
            complaint->size = 0;
            (void)as_buffer_format(complaint, NULL,
                                   "line %d, %s, is passed over: the words are stop, save-now and "
                                   "hold, one a line",
                                   number, as_quote(l.text, l.length).text);
        }
        at += l.whole;
    }
    return words;
}

/* ----------------------------------------------------------------------- file */

static int name_of(const char *path, as_buffer *out, as_error *e)
{
    return as_buffer_format(out, e, "%s/" AS_CONTROL_NAME, path);
}

static int read_file(int root, const char *what, as_buffer *out, struct stat *status, bool *found,
                     as_error *e)
{
    return as_file_read(root, AS_CONTROL_NAME, AS_LARGEST_CONTROL, what, out, status, found, e);
}

int as_control_read(int root, const char *path, unsigned *words, as_buffer *complaint, as_error *e)
{
    as_buffer what = AS_BUFFER_INIT;
    as_buffer text = AS_BUFFER_INIT;
    bool found = false;
    *words = 0;
    int code = name_of(path, &what, e);
    if (code == AS_OK) {
        code = read_file(root, what.data, &text, NULL, &found, e);
    }
    if (code == AS_OK && found && text.size > 0) {
        *words = as_control_parse(text.data, text.size, complaint);
    }
    as_buffer_free(&text);
    as_buffer_free(&what);
    return code;
}

/* The text without some words and with others. */
static int rewrite(const as_buffer *from, unsigned strike, unsigned add, as_buffer *to, as_error *e)
{
    int code = AS_OK;
    for (size_t at = 0; at < from->size && code == AS_OK;) {
        line l = read_line(from->data + at, from->size - at);
        if ((l.word & strike) == 0) {
            code = as_buffer_append(to, from->data + at, l.whole, e);
        }
        add &= ~(l.word & ~strike);
        at += l.whole;
    }
    if (code == AS_OK && add && to->size > 0 && to->data[to->size - 1] != '\n') {
        code = as_buffer_char(to, '\n', e);
    }
    for (size_t i = 0; i < KNOWN && code == AS_OK; i++) {
        if (add & known[i].word) {
            code = as_buffer_format(to, e, "%s\n", known[i].text);
        }
    }
    return code;
}

static bool is_empty(const as_buffer *text)
{
    size_t i = 0;
    while (i < text->size && (is_blank(text->data[i]) || text->data[i] == '\n')) {
        i++;
    }
    return i == text->size;
}

static int put(int root, const char *what, const as_buffer *text, mode_t mode, as_error *e)
{
    (void)as_sys_table.unlinkat(root, NEXT_NAME, 0);
    int code = as_file_put(root, NEXT_NAME, mode, what, text->data, text->size, e);
    if (code == AS_OK && as_sys_table.renameat(root, NEXT_NAME, root, AS_CONTROL_NAME) != 0) {
        code = as_fail(e, AS_SYSTEM, errno, "%s: cannot be replaced", what);
        (void)as_sys_table.unlinkat(root, NEXT_NAME, 0);
    }
    return code;
}

static int take_away(int root, const char *what, as_error *e)
{
    if (as_sys_table.unlinkat(root, AS_CONTROL_NAME, 0) != 0 && errno != ENOENT) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot be removed", what);
    }
    return AS_OK;
}

static int change(int root, const char *path, const char *what, unsigned strike, unsigned add,
                  unsigned *words, as_error *e)
{
    as_buffer from = AS_BUFFER_INIT;
    as_buffer to = AS_BUFFER_INIT;
    struct stat status = {0};
    bool found = false;
    int code = read_file(root, what, &from, &status, &found, e);
    if (code == AS_OK) {
        code = rewrite(&from, strike, add, &to, e);
    }
    bool same = to.size == from.size && (to.size == 0 || memcmp(to.data, from.data, to.size) == 0);
    if (code == AS_OK && !same) {
        mode_t mode = found ? status.st_mode & 0777 : 0;
        code = is_empty(&to) ? take_away(root, what, e) : put(root, what, &to, mode, e);
        code = code == AS_OK ? as_folder_sync(root, path, e) : code;
    }
    if (code == AS_OK) {
        *words = to.size > 0 ? as_control_parse(to.data, to.size, NULL) : 0;
    }
    as_buffer_free(&from);
    as_buffer_free(&to);
    return code;
}

/* Of the root's folder, so that it holds while the file comes and goes. Some file systems (NFS) lock
 * no folders: there it goes without. */
static int lock_root(int root, const char *what, bool *locked, as_error *e)
{
    const struct timespec pause = {.tv_nsec = LOCK_PAUSE_MS * 1000000L};
    *locked = false;
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (as_sys_table.flock(root, LOCK_EX | LOCK_NB) == 0) {
            *locked = true;
            return AS_OK;
        }
        if (errno != EWOULDBLOCK && errno != EINTR) {
            return AS_OK;
        }
        (void)nanosleep(&pause, NULL);
    }
    return as_fail(e, AS_BUSY, 0, "%s: somebody else is changing it; try again", what);
}

int as_control_change(int root, const char *path, unsigned strike, unsigned add, unsigned *words,
                      as_error *e)
{
    as_buffer what = AS_BUFFER_INIT;
    bool locked = false;
    *words = 0;
    int code = name_of(path, &what, e);
    if (code == AS_OK) {
        code = lock_root(root, what.data, &locked, e);
    }
    if (code == AS_OK) {
        code = change(root, path, what.data, strike, add, words, e);
    }
    if (locked) {
        (void)as_sys_table.flock(root, LOCK_UN);
    }
    as_buffer_free(&what);
    return code;
}
