/* SPDX-License-Identifier: Apache-2.0 */
#include "series/history.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "base/buffer.h"
#include "base/quote.h"
#include "base/sys.h"
#include "base/utf8.h"
#include "commit/folder.h"
#include "series/words.h"

static const char *const kind_names[] = {
    [AS_EVENT_SAVED] = "saved",       [AS_EVENT_REPLACED] = "replaced",
    [AS_EVENT_FAILED] = "failed",     [AS_EVENT_LOADED] = "loaded",
    [AS_EVENT_PRUNED] = "pruned",     [AS_EVENT_TAGGED] = "tagged",
    [AS_EVENT_UNTAGGED] = "untagged", [AS_EVENT_NOTE] = "note",
    [AS_EVENT_STOP] = "stop",
};

enum {
    KIND_COUNT = sizeof kind_names / sizeof kind_names[0],
    LARGEST_READ = 64 << 20, /* bytes of the file's end */
    LONGEST_TEXT = 64 << 10, /* bytes */
    LOCK_TRIES = 100,
    LOCK_PAUSE_MS = 10,
};

static int open_history(int root, const char *path, int flags, int *fd, struct stat *status,
                        as_error *e)
{
    /* O_NONBLOCK: somebody's named pipe must not make us wait. */
    *fd = as_open(root, AS_HISTORY_NAME, flags | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (*fd < 0) {
        return errno == ENOENT ? AS_NOT_FOUND
                               : as_fail(e, errno == ELOOP ? AS_INVALID : AS_SYSTEM, errno,
                                         "%s/" AS_HISTORY_NAME ": cannot open this file", path);
    }
    int code = AS_OK;
    if (as_sys_table.fstat(*fd, status) < 0) {
        code = as_fail(e, AS_SYSTEM, errno, "%s/" AS_HISTORY_NAME ": cannot stat this file", path);
    } else if (!S_ISREG(status->st_mode)) {
        code =
            as_fail(e, AS_INVALID, 0, "%s/" AS_HISTORY_NAME ": this is not a regular file", path);
    }
    if (code != AS_OK) {
        (void)as_sys_table.close(*fd);
        *fd = -1;
    }
    return code;
}

/* -------------------------------------------------------------------- writing */

/* A text for JSON; what is not UTF-8 (a name of a file) has its broken bytes written out. */
static json_t *json_of(const char *text)
{
    if (as_utf8_valid(text, strlen(text))) {
        return json_string(text);
    }
    char *fit = strdup(text);
    fit = fit ? as_quote_text(fit) : NULL;
    json_t *value = fit ? json_string(fit) : NULL;
    free(fit);
    return value;
}

/* The line with its newline, behind one that ends what a crash may have torn. */
static int make_line(const as_event *event, as_buffer *out, as_error *e)
{
    char stamp[AS_STAMP_SIZE];
    as_stamp_write(event->time_ms ? event->time_ms : as_stamp_now(), stamp);
    json_t *tree = json_pack("{s:s,s:s}", "time", stamp, "event", kind_names[event->kind]);
    int failed = !tree;
    if (!failed && event->name) {
        failed = json_object_set_new(tree, "name", json_of(event->name)) != 0;
    }
    if (!failed && event->step >= 0) {
        failed = json_object_set_new(tree, "step", json_integer((json_int_t)event->step)) != 0;
    }
    if (!failed && event->text) {
        failed = json_object_set_new(tree, "text", json_of(event->text)) != 0;
    }
    char *text = failed ? NULL : json_dumps(tree, 0);
    int code = text ? as_buffer_format(out, e, "\n%s\n", text) : as_fail_nomem(e);
    free(text);
    json_decref(tree);
    return code;
}

/* Appending is one call, and yet writers take turns: on a network file system they else might
 * overwrite each other. Who has the turn for long, or a file system without locks, is not waited
 * for: a line in disorder is the lesser harm. */
static bool take_turn(int fd)
{
    const struct timespec pause = {.tv_nsec = LOCK_PAUSE_MS * 1000000};
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (as_sys_table.flock(fd, LOCK_EX | LOCK_NB) == 0) {
            return true;
        }
        if (errno != EWOULDBLOCK && errno != EINTR) {
            return false;
        }
        (void)nanosleep(&pause, NULL);
    }
    return false;
}

/* Is there an end of line at the file's end? */
static int ends_well(int fd, const char *path, bool *well, int64_t *size, as_error *e)
{
    struct stat status;
    char last = '\n';
    if (as_sys_table.fstat(fd, &status) < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s/" AS_HISTORY_NAME ": cannot stat this file", path);
    }
    int code = AS_OK;
    *size = status.st_size;
    if (status.st_size > 0) {
        code = as_read_all(fd, &last, 1, status.st_size - 1, path, e);
    }
    *well = last == '\n';
    return code;
}

int as_history_append(int root, const char *path, const as_event *event, as_error *e)
{
    as_buffer line = AS_BUFFER_INIT;
    struct stat status;
    int fd = -1;
    if ((event->text && strlen(event->text) > LONGEST_TEXT) ||
        (event->name && strlen(event->name) > LONGEST_TEXT)) {
        return as_fail(e, AS_LIMIT, 0,
                       "a text for the history can have 65,536 bytes; this one is longer");
    }
    if ((int)event->kind < 0 || event->kind >= AS_EVENT_OTHER) {
        return as_fail(e, AS_INTERNAL, 0, "no such event of a history: %d", (int)event->kind);
    }
    int code = make_line(event, &line, e);
    if (code == AS_OK) {
        code = open_history(root, path, O_RDWR | O_APPEND | O_CREAT, &fd, &status, e);
    }
    if (code == AS_OK) {
        bool turn = take_turn(fd);
        bool well = true;
        int64_t size = 0;
        code = ends_well(fd, path, &well, &size, e);
        size_t skip = well ? 1 : 0;
        if (code == AS_OK) {
            /* O_APPEND: the place does not count on Linux. */
            code = as_write_all(fd, line.data + skip, line.size - skip, size, path, e);
        }
        if (turn) {
            (void)as_sys_table.flock(fd, LOCK_UN);
        }
        code = code == AS_OK ? as_sync(fd, path, e) : code;
        (void)as_sys_table.close(fd);
        /* The first line: its file's name is to last, too. */
        if (code == AS_OK && size == 0) {
            code = as_folder_sync(root, path, e);
        }
    }
    as_buffer_free(&line);
    return code;
}

/* -------------------------------------------------------------------- reading */

/* Puts the text behind *at, in place of the line that it was read from: decoded it is no longer. */
static const char *keep(char **at, const char *text)
{
    if (!text) {
        return NULL;
    }
    size_t size = strlen(text) + 1;
    char *place = *at;
    memcpy(place, text, size);
    *at += size;
    return place;
}

static enum as_event_kind kind_of(const char *name)
{
    for (int i = 0; i < KIND_COUNT; i++) {
        if (strcmp(name, kind_names[i]) == 0) {
            return (enum as_event_kind)i;
        }
    }
    return AS_EVENT_OTHER;
}

/* False: it is no event. The line's bytes are used up. */
static bool take_event(const json_t *tree, char *line, as_event *out)
{
    const json_t *name = json_object_get(tree, "name");
    const json_t *step = json_object_get(tree, "step");
    const json_t *text = json_object_get(tree, "text");
    const char *kind = json_string_value(json_object_get(tree, "event"));
    const char *time = json_string_value(json_object_get(tree, "time"));
    *out = (as_event){.step = -1};
    if (!kind || !time || !as_stamp_read(time, &out->time_ms) || (name && !json_is_string(name)) ||
        (text && !json_is_string(text)) ||
        (step && (!json_is_integer(step) || json_integer_value(step) < 0))) {
        return false;
    }
    out->kind = kind_of(kind);
    out->step = step ? json_integer_value(step) : -1;
    out->kind_name = keep(&line, kind);
    out->name = keep(&line, json_string_value(name));
    out->text = keep(&line, json_string_value(text));
    return true;
}

static int take_line(char *line, size_t length, as_buffer *events, int64_t *bad, as_error *e)
{
    json_error_t where;
    as_event event;
    json_t *tree = json_loadb(line, length, JSON_REJECT_DUPLICATES, &where);
    if (!tree && json_error_code(&where) == json_error_out_of_memory) {
        return as_fail_nomem(e);
    }
    int code = AS_OK;
    if (take_event(tree, line, &event)) {
        code = as_buffer_append(events, &event, sizeof event, e);
    } else {
        ++*bad;
    }
    json_decref(tree);
    return code;
}

/* All whole lines; what follows the last newline is torn, or just being written. */
static int take_lines(char *bytes, size_t size, as_buffer *events, int64_t *bad, as_error *e)
{
    int code = AS_OK;
    size_t at = 0;
    while (code == AS_OK && at < size) {
        char *end = memchr(bytes + at, '\n', size - at);
        if (!end) {
            break;
        }
        size_t length = (size_t)(end - (bytes + at));
        code = length > 0 ? take_line(bytes + at, length, events, bad, e) : AS_OK;
        at += length + 1;
    }
    return code;
}

int as_history_read(int root, const char *path, as_history *out, as_error *e)
{
    struct stat status = {.st_size = 0};
    int fd;
    *out = AS_HISTORY_INIT;
    int code = open_history(root, path, O_RDONLY, &fd, &status, e);
    if (code != AS_OK) {
        return code == AS_NOT_FOUND ? AS_OK : code;
    }
    as_buffer bytes = AS_BUFFER_INIT;
    as_buffer events = AS_BUFFER_INIT;
    void *place = NULL;
    int64_t skipped = status.st_size > LARGEST_READ ? status.st_size - LARGEST_READ : 0;
    size_t size = (size_t)(status.st_size - skipped);
    code = as_buffer_extend(&bytes, size, &place, e);
    code = code == AS_OK ? as_read_all(fd, place, size, skipped, path, e) : code;
    (void)as_sys_table.close(fd);
    if (code == AS_OK) {
        char *first = skipped > 0 ? memchr(bytes.data, '\n', size) : bytes.data;
        size_t left = first ? size - (size_t)(first - bytes.data) : 0;
        code = take_lines(first, left, &events, &out->damaged, e);
    }
    if (code != AS_OK) {
        as_buffer_free(&bytes);
        as_buffer_free(&events);
        *out = AS_HISTORY_INIT;
        return code;
    }
    out->items = (as_event *)(void *)events.data;
    out->count = events.size / sizeof(as_event);
    out->store = bytes.data;
    return AS_OK;
}

void as_history_free(as_history *h)
{
    free(h->items);
    free(h->store);
    *h = AS_HISTORY_INIT;
}
