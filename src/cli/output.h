/* SPDX-License-Identifier: Apache-2.0
 * What the tool says: messages on stderr, results on stdout, by one rank only;
 * colours where a person looks on, JSON where a machine does.
 */
#ifndef ALLSHARD_CLI_OUTPUT_H
#define ALLSHARD_CLI_OUTPUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"

enum as_colour { AS_PLAIN, AS_BOLD, AS_DIM, AS_RED, AS_GREEN, AS_YELLOW, AS_CYAN };

typedef struct as_output {
    bool speaks;   /* this rank is the one that prints */
    bool json;     /* results go out as one JSON object */
    bool colour;   /* stdout ends at a terminal that shows colours */
    bool colour_2; /* stderr does */
    int terminal;  /* descriptor of the terminal that stderr ends at; -1: none */
    int columns;   /* its width, 80 if there is none */
} as_output;

/* Looks at the terminal, NO_COLOR and TERM. Under a launcher a rank's own stdout is a
 * pseudo-terminal or a pipe to it, so that the launcher's is looked at. */
void as_output_open(as_output *o, bool speaks);
void as_output_close(as_output *o);

/* Lines on stderr. Control characters in the text are shown, not obeyed. */
void as_say_error(const as_output *o, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void as_say_warning(const as_output *o, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Text on stdout; nothing where the rank does not speak or --json was asked for. Line ends stand in
 * the format: those of an argument are shown as \n, as are other control characters. */
void as_print(const as_output *o, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same in a colour. */
void as_print_in(const as_output *o, enum as_colour colour, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* "[2, 3]" */
void as_print_shape(const as_output *o, const int64_t *shape, int ndim);

/* A log callback that prints warnings and errors of the rooms; `user` is an as_output. */
void as_output_log(int level, const char *text, void *user);

/* Warnings of the rooms, printed as they come, on the rank that they meet. */
as_log as_output_as_log(as_output *o);

/* Prints the one JSON object of the command, in ASCII, and frees it. False if it could not be written, or is
 * NULL for lack of memory. */
bool as_output_json(json_t *object);

/* A JSON string of any bytes: what is no UTF-8 is replaced by U+FFFD. */
json_t *as_json_text(const char *text, size_t length);

/* {"code": "ALLSHARD_FORMAT", "text": …} */
json_t *as_json_error(const as_error *e);

/* Flushes stdout; false if something that was printed got lost (a full disk, a closed pipe). */
bool as_output_flush(const as_output *o);

/* "4.99 GB": decimal units, three digits. */
typedef struct as_short_text {
    char text[32];
} as_short_text;
as_short_text as_human_bytes(int64_t bytes);

/* "124.4 million", "8.03 billion"; whole below 10,000. */
as_short_text as_human_count(double count);

/* "124,439,808" */
as_short_text as_grouped(int64_t number);

/* "0.8 s", "2 min 05 s" */
as_short_text as_human_seconds(double seconds);

/* Seconds of a clock that only goes forward. */
double as_seconds(void);

#endif
