/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/args.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/checked.h"
#include "base/quote.h"

static as_quoted quote(const char *text)
{
    return as_quote(text, strlen(text));
}

/* ------------------------------------------------------------- near misses */

enum { LONGEST_WORD = 32 };

static int least_of(int a, int b, int c)
{
    int least = a < b ? a : b;
    return least < c ? least : c;
}

/* How many letters must be put in, taken out or changed to make b of a. */
static int distance(const char *a, const char *b)
{
    size_t n = strlen(a);
    size_t m = strlen(b);
    if (n > LONGEST_WORD || m > LONGEST_WORD) {
        return LONGEST_WORD;
    }
    int row[LONGEST_WORD + 1];
    for (size_t j = 0; j <= m; j++) {
        row[j] = (int)j;
    }
    for (size_t i = 1; i <= n; i++) {
        int corner = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            int above = row[j];
            int change = corner + (a[i - 1] != b[j - 1]);
            row[j] = least_of(above + 1, row[j - 1] + 1, change);
            corner = above;
        }
    }
    return row[m];
}

const char *as_args_nearest(const char *word, const void *words, size_t count, size_t stride)
{
    const char *best = NULL;
    int best_distance = LONGEST_WORD;
    for (size_t i = 0; i < count; i++) {
        const char *other = *(const char *const *)(const void *)((const char *)words + i * stride);
        size_t length = strlen(word);
        bool begins = length >= 3 && strncmp(word, other, length) == 0;
        int d = begins ? 1 : distance(word, other);
        if (d < best_distance) {
            best = other;
            best_distance = d;
        }
    }
    return best_distance <= 1 + (int)strlen(word) / 4 ? best : NULL;
}

/* ------------------------------------------------------------------ parsing */

static size_t option_count(const as_arg_option *options)
{
    size_t n = 0;
    while (options[n].name) {
        n++;
    }
    return n;
}

static const as_arg_option *find_option(const as_arg_option *options, const char *name,
                                        size_t length)
{
    for (; options->name; options++) {
        if (strlen(options->name) == length && memcmp(options->name, name, length) == 0) {
            return options;
        }
    }
    return NULL;
}

static int unknown_option(const as_arg_command *c, const char *given, as_error *e)
{
    char name[LONGEST_WORD + 1] = "";
    size_t length = strcspn(given, "=");
    if (length > 2 && length - 2 <= LONGEST_WORD) {
        memcpy(name, given + 2, length - 2);
        name[length - 2] = '\0';
    }
    const char *near =
        as_args_nearest(name, c->options, option_count(c->options), sizeof *c->options);
    if (near && name[0]) {
        return as_fail(e, AS_INVALID, 0,
                       "unknown option %s; did you mean --%s? `allshard %s --help` lists all",
                       quote(given).text, near, c->name);
    }
    return as_fail(e, AS_INVALID, 0, "unknown option %s; `allshard %s --help` lists all",
                   quote(given).text, c->name);
}

static int take_value(const as_arg_option *o, const char *value, as_error *e)
{
    if (o->text) {
        *o->text = value;
        return AS_OK;
    }
    const char **grown = realloc(o->list->items, (o->list->count + 1) * sizeof *grown);
    if (!grown) {
        return as_fail_nomem(e);
    }
    o->list->items = grown;
    o->list->items[o->list->count++] = value;
    return AS_OK;
}

/* Takes argv[*at], an option, and its value, which may be the argument behind it. */
static int take_option(const as_arg_command *c, int argc, char **argv, int *at, as_error *e)
{
    const char *given = argv[*at];
    if (strncmp(given, "--", 2) != 0) {
        return unknown_option(c, given, e);
    }
    const char *equals = strchr(given, '=');
    size_t length = (equals ? (size_t)(equals - given) : strlen(given)) - 2;
    const as_arg_option *o = find_option(c->options, given + 2, length);
    if (!o) {
        return unknown_option(c, given, e);
    }
    if (!o->value) {
        if (equals) {
            return as_fail(e, AS_INVALID, 0, "--%s takes no value; see `allshard %s --help`",
                           o->name, c->name);
        }
        *o->flag = true;
        return AS_OK;
    }
    if (equals) {
        return take_value(o, equals + 1, e);
    }
    if (*at + 1 >= argc) {
        return as_fail(e, AS_INVALID, 0, "--%s needs a value (%s); see `allshard %s --help`",
                       o->name, o->value, c->name);
    }
    *at += 1;
    return take_value(o, argv[*at], e);
}

static int check_operands(const as_arg_command *c, const as_arg_result *r, as_error *e)
{
    if (r->operand_count < c->least) {
        return as_fail(e, AS_INVALID, 0, "%s needs %s; see `allshard %s --help`", c->name,
                       c->operands, c->name);
    }
    if (r->operand_count > c->most) {
        return as_fail(e, AS_INVALID, 0,
                       "one argument too many, %s: %s takes %s; see `allshard %s --help`",
                       quote(r->operands[c->most]).text, c->name, c->operands, c->name);
    }
    return AS_OK;
}

static bool asks_for_help(int argc, char **argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return true;
        }
    }
    return false;
}

/* That the line is wrong is told in the way that all of it asks for. */
static void take_json(const as_arg_command *c, int argc, char **argv)
{
    const as_arg_option *json = find_option(c->options, "json", strlen("json"));
    for (int i = 0; json && json->flag && i < argc && strcmp(argv[i], "--") != 0; i++) {
        *json->flag = *json->flag || strcmp(argv[i], "--json") == 0;
    }
}

int as_args_parse(const as_arg_command *command, int argc, char **argv, as_arg_result *out,
                  as_error *e)
{
    *out = (as_arg_result){0};
    if (asks_for_help(argc, argv)) {
        out->help = true;
        return AS_OK;
    }
    out->operands = calloc((size_t)argc + 1, sizeof *out->operands);
    if (!out->operands) {
        return as_fail_nomem(e);
    }
    bool options_end = false;
    int code = AS_OK;
    for (int i = 0; i < argc && code == AS_OK; i++) {
        if (!options_end && strcmp(argv[i], "--") == 0) {
            options_end = true;
        } else if (!options_end && argv[i][0] == '-' && argv[i][1] != '\0') {
            code = take_option(command, argc, argv, &i, e);
        } else if (argv[i][0] == '\0') {
            code = as_fail(e, AS_INVALID, 0, "an argument is empty; %s takes %s", command->name,
                           command->operands);
        } else {
            out->operands[out->operand_count++] = argv[i];
        }
    }
    if (code != AS_OK) {
        take_json(command, argc, argv);
        return code;
    }
    return check_operands(command, out, e);
}

void as_arg_result_free(as_arg_result *r)
{
    free(r->operands);
    *r = (as_arg_result){0};
}

void as_arg_list_free(as_arg_list *l)
{
    free(l->items);
    *l = (as_arg_list){0};
}

/* --------------------------------------------------------------------- help */

enum { HELP_COLUMN = 26 };

static void print_choices(FILE *out, const char *(*choice)(size_t i))
{
    enum { WIDEST = 98 };
    int width = fprintf(out, "%*s", HELP_COLUMN, "");
    for (size_t i = 0; choice(i); i++) {
        if (i > 0 && width + (int)strlen(choice(i)) + 1 > WIDEST) {
            width = fprintf(out, "\n%*s", HELP_COLUMN, "") - 1;
        } else if (i > 0) {
            width += fprintf(out, " ");
        }
        width += fprintf(out, "%s%s", choice(i), choice(i + 1) ? "," : "\n");
    }
}

static void print_option(FILE *out, const char *name, const char *value, const char *help)
{
    int width = fprintf(out, "  --%s%s%s", name, value ? " " : "", value ? value : "");
    if (width >= HELP_COLUMN) {
        (void)fputc('\n', out);
        width = 0;
    }
    for (const char *line = help; *line;) {
        size_t length = strcspn(line, "\n");
        (void)fprintf(out, "%*s%.*s\n", HELP_COLUMN - width, "", (int)length, line);
        width = 0;
        line += length + (line[length] == '\n');
    }
}

void as_args_help(const as_arg_command *command, FILE *out)
{
    (void)fprintf(out, "Usage: allshard %s %s\n\n%s\n", command->name, command->usage,
                  command->summary);
    (void)fputs("Options:\n", out);
    for (const as_arg_option *o = command->options; o->name; o++) {
        print_option(out, o->name, o->value, o->help);
        if (o->choice) {
            print_choices(out, o->choice);
        }
    }
    print_option(out, "help", NULL, "show this text");
    (void)fprintf(out, "\nExamples:\n%s", command->examples);
    (void)fputs(
        "\nExit status: 0 good; 1 the checkpoint is bad, or differs, or there is none; 2 wrong "
        "usage;\n3 it could not be done.\n",
        out);
}

/* ------------------------------------------------------------------- values */

/* Digits only: strtoll alone would take blanks, signs and an empty string. */
static bool read_digits(const char *text, size_t length, int base, int64_t *out)
{
    int64_t value = 0;
    for (size_t i = 0; i < length; i++) {
        int digit = text[i] - '0';
        if (digit < 0 || digit >= base || !as_mul_i64(value, base, &value) ||
            !as_add_i64(value, digit, &value)) {
            return false;
        }
    }
    *out = value;
    return length > 0;
}

int as_args_number(const char *text, const char *what, int64_t least, int64_t most, int64_t *out,
                   as_error *e)
{
    if (!read_digits(text, strlen(text), 10, out) || *out < least || *out > most) {
        return as_fail(e, AS_INVALID, 0, "%s is %s; it must be a whole number from %lld to %lld",
                       what, quote(text).text, (long long)least, (long long)most);
    }
    return AS_OK;
}

int as_args_mode(const char *text, int *out, as_error *e)
{
    int64_t value = 0;
    if (!read_digits(text, strlen(text), 8, &value) || value < 1 || value > 0777) {
        return as_fail(e, AS_INVALID, 0,
                       "--mode is %s; it must be permission bits in octal from 1 to 777, such as "
                       "640 (0, files that nobody may read, is not possible)",
                       quote(text).text);
    }
    *out = (int)value;
    return AS_OK;
}

static const struct {
    const char *name;
    int64_t bytes;
} units[] = {
    {"", 1},
    {"KB", 1000},
    {"MB", 1000000},
    {"GB", 1000000000},
    {"TB", 1000000000000},
    {"KiB", INT64_C(1) << 10},
    {"MiB", INT64_C(1) << 20},
    {"GiB", INT64_C(1) << 30},
    {"TiB", INT64_C(1) << 40},
};

int as_args_memory(const char *text, const char *what, int64_t *out, as_error *e)
{
    size_t digits = strspn(text, "0123456789");
    int64_t value = 0;
    if (read_digits(text, digits, 10, &value)) {
        for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
            if (strcasecmp(text + digits, units[i].name) == 0 &&
                as_mul_i64(value, units[i].bytes, out)) {
                return AS_OK;
            }
        }
    }
    return as_fail(e, AS_INVALID, 0, "%s is %s; it must be an amount such as 64MiB, 4MB or 65536",
                   what, quote(text).text);
}
