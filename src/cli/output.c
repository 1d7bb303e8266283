/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/output.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/quote.h"
#include "base/utf8.h"
#include "cli/world.h"

/* ------------------------------------------------------------- the terminal */

/* The terminal that descriptor `fd` ends at, as a descriptor of its own; -1 if there is none. */
static int open_terminal(int fd)
{
    if (!as_world_launched()) {
        return isatty(fd) ? dup(fd) : -1;
    }
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)getppid(), fd);
    int parent = open(path, O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (parent >= 0 && !isatty(parent)) {
        (void)close(parent);
        parent = -1;
    }
    return parent;
}

static bool terminal_has_colours(void)
{
    const char *no = getenv("NO_COLOR");
    const char *kind = getenv("TERM");
    return !(no && *no) && kind && *kind && strcmp(kind, "dumb") != 0;
}

void as_output_open(as_output *o, bool speaks)
{
    *o = (as_output){.speaks = speaks, .terminal = -1, .columns = 80};
    if (!speaks) {
        return;
    }
    int out = open_terminal(STDOUT_FILENO);
    o->terminal = open_terminal(STDERR_FILENO);
    bool colours = terminal_has_colours();
    o->colour = out >= 0 && colours;
    o->colour_2 = o->terminal >= 0 && colours;
    struct winsize size;
    int wide = out >= 0 ? out : o->terminal;
    if (wide >= 0 && ioctl(wide, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        o->columns = size.ws_col;
    }
    if (out >= 0) {
        (void)close(out);
    }
}

void as_output_close(as_output *o)
{
    if (o->terminal >= 0) {
        (void)close(o->terminal);
        o->terminal = -1;
    }
}

static const char *colour_code(enum as_colour colour)
{
    switch (colour) {
    case AS_BOLD:
        return "\033[1m";
    case AS_DIM:
        return "\033[2m";
    case AS_RED:
        return "\033[1;31m";
    case AS_GREEN:
        return "\033[32m";
    case AS_YELLOW:
        return "\033[33m";
    case AS_CYAN:
        return "\033[36m";
    case AS_PLAIN:
        break;
    }
    return "";
}

/* ----------------------------------------------------------------- printing */

/* A line end of ours in a text that holds strings out of files, whose own line ends must not fake
 * lines: the format's line ends are replaced by a mark that nobody can know. */
enum { MARK = 20 };

static const char *line_mark(void)
{
    static char mark[MARK + 1];
    if (!mark[0]) {
        uint64_t number = 0;
        if (getrandom(&number, sizeof number, 0) != (ssize_t)sizeof number) {
            number = (uint64_t)as_clock() ^ (uint64_t)(uintptr_t)mark ^ (uint64_t)getpid() << 40;
        }
        (void)snprintf(mark, sizeof mark, "\001%018" PRIx64 "\002", number);
    }
    return mark;
}

/* The format with marks for its line ends; heap, NULL without memory. */
static char *mark_lines(const char *format)
{
    size_t lines = 0;
    for (const char *c = format; *c; c++) {
        lines += *c == '\n';
    }
    char *marked = malloc(strlen(format) + lines * MARK + 1);
    char *to = marked;
    for (const char *c = format; marked && *c; c++) {
        if (*c == '\n') {
            memcpy(to, line_mark(), MARK);
            to += MARK;
        } else {
            *to++ = *c;
        }
    }
    if (marked) {
        *to = '\0';
    }
    return marked;
}

/* Names out of files can carry escape sequences: what a terminal would obey is escaped. */
static void put_safely(FILE *out, const char *text)
{
    while (*text) {
        const char *end = strstr(text, line_mark());
        size_t length = end ? (size_t)(end - text) : strlen(text);
        char *piece = strndup(text, length);
        piece = piece ? as_quote_text(piece) : NULL;
        (void)fputs(piece ? piece : "out of memory", out);
        free(piece);
        if (end) {
            (void)fputc('\n', out);
        }
        text += length + (end ? MARK : 0);
    }
}

static void print_text(FILE *out, const char *format, va_list arguments)
{
    char *text = NULL;
    char *marked = mark_lines(format);
    if (!marked || vasprintf(&text, marked, arguments) < 0) {
        (void)fputs("out of memory", out);
        text = NULL;
    }
    if (text) {
        put_safely(out, text);
    }
    free(text);
    free(marked);
}

static void say(const as_output *o, enum as_colour colour, const char *kind, const char *format,
                va_list arguments)
{
    if (!o->speaks) {
        return;
    }
    (void)fflush(stdout);
    (void)fprintf(stderr, "allshard: %s%s%s", o->colour_2 ? colour_code(colour) : "", kind,
                  o->colour_2 ? "\033[0m" : "");
    print_text(stderr, format, arguments);
    (void)fputc('\n', stderr);
}

void as_say_error(const as_output *o, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(o, AS_RED, "error: ", format, arguments);
    va_end(arguments);
}

void as_say_warning(const as_output *o, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(o, AS_YELLOW, "warning: ", format, arguments);
    va_end(arguments);
}

void as_print(const as_output *o, const char *format, ...)
{
    if (o->speaks && !o->json) {
        va_list arguments;
        va_start(arguments, format);
        print_text(stdout, format, arguments);
        va_end(arguments);
    }
}

void as_print_in(const as_output *o, enum as_colour colour, const char *format, ...)
{
    if (o->speaks && !o->json) {
        bool on = o->colour && colour != AS_PLAIN;
        (void)fputs(on ? colour_code(colour) : "", stdout);
        va_list arguments;
        va_start(arguments, format);
        print_text(stdout, format, arguments);
        va_end(arguments);
        (void)fputs(on ? "\033[0m" : "", stdout);
    }
}

void as_print_shape(const as_output *o, const int64_t *shape, int ndim)
{
    as_print(o, "[");
    for (int d = 0; d < ndim; d++) {
        as_print(o, "%s%lld", d > 0 ? ", " : "", (long long)shape[d]);
    }
    as_print(o, "]");
}

void as_output_log(int level, const char *text, void *user)
{
    /* Whoever meets a thing tells it: not every warning arises on the rank that speaks. */
    as_output everyone = *(const as_output *)user;
    everyone.speaks = true;
    if (level == AS_LOG_ERROR) {
        as_say_error(&everyone, "%s", text);
    } else if (level == AS_LOG_WARNING) {
        as_say_warning(&everyone, "%s", text);
    }
}

as_log as_output_as_log(as_output *o)
{
    return (as_log){.call = as_output_log, .user = o};
}

bool as_output_flush(const as_output *o)
{
    return !o->speaks || (fflush(stdout) == 0 && !ferror(stdout));
}

/* --------------------------------------------------------------------- JSON */

/* Jansson's ASCII has DEL in it, which is a control character all the same. */
static int put_json(const char *text, size_t length, void *user)
{
    (void)user;
    for (size_t i = 0; i < length; i++) {
        if ((text[i] == 0x7f ? fputs("\\u007f", stdout) : fputc(text[i], stdout)) == EOF) {
            return -1;
        }
    }
    return 0;
}

bool as_output_json(json_t *object)
{
    const size_t how = JSON_INDENT(2) | JSON_ENSURE_ASCII;
    bool good = object && json_dump_callback(object, put_json, NULL, how) == 0 &&
                fputc('\n', stdout) != EOF;
    json_decref(object);
    return good;
}

json_t *as_json_text(const char *text, size_t length)
{
    json_t *whole = json_stringn(text, length);
    if (whole) {
        return whole;
    }
    as_buffer b = AS_BUFFER_INIT;
    int code = AS_OK;
    for (size_t i = 0; i < length && code == AS_OK;) {
        uint32_t character = 0;
        size_t good = as_utf8_decode(text + i, length - i, &character);
        code = good > 0 ? as_buffer_append(&b, text + i, good, NULL)
                        : as_buffer_append(&b, "\xef\xbf\xbd", 3, NULL);
        i += good > 0 ? good : 1;
    }
    json_t *string = code == AS_OK ? json_stringn(b.data ? b.data : "", b.size) : NULL;
    as_buffer_free(&b);
    return string;
}

json_t *as_json_error(const as_error *e)
{
    const char *text = as_error_text(e);
    return json_pack("{s:s, s:o}", "code", as_code_name(e->code), "text",
                     as_json_text(text, strlen(text)));
}

/* ------------------------------------------------------------------ numbers */

as_short_text as_human_bytes(int64_t bytes)
{
    static const char *const names[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    as_short_text s;
    double value = (double)bytes;
    size_t unit = 0;
    /* 999.5 would be shown as 1000. */
    while (value >= 999.5 && unit + 1 < sizeof names / sizeof names[0]) {
        value /= 1000;
        unit++;
    }
    int digits = unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
    (void)snprintf(s.text, sizeof s.text, "%.*f %s", digits, value, names[unit]);
    return s;
}

as_short_text as_human_count(double count)
{
    static const char *const names[] = {"", " thousand", " million", " billion", " trillion"};
    as_short_text s;
    size_t unit = 0;
    if (count >= 10000) {
        while (count >= 999.95 && unit + 1 < sizeof names / sizeof names[0]) {
            count /= 1000;
            unit++;
        }
    }
    int digits = unit == 0 ? 0 : count >= 99.95 ? 1 : 2;
    (void)snprintf(s.text, sizeof s.text, "%.*f%s", digits, count, names[unit]);
    return s;
}

as_short_text as_grouped(int64_t number)
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%lld", (long long)number);
    as_short_text s;
    size_t at = 0;
    for (int i = 0; i < length; i++) {
        s.text[at++] = digits[i];
        int left = length - 1 - i;
        if (left > 0 && left % 3 == 0 && digits[i] != '-') {
            s.text[at++] = ',';
        }
    }
    s.text[at] = '\0';
    return s;
}

as_short_text as_human_seconds(double seconds)
{
    as_short_text s;
    if (seconds < 100) {
        (void)snprintf(s.text, sizeof s.text, "%.*f s", seconds < 10 ? 2 : 1, seconds);
    } else {
        long whole = (long)(seconds + 0.5);
        (void)snprintf(s.text, sizeof s.text, "%ld min %02ld s", whole / 60, whole % 60);
    }
    return s;
}

double as_seconds(void)
{
    return (double)as_clock() * 1e-9;
}
