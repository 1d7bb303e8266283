/* SPDX-License-Identifier: Apache-2.0
 * What `allshard verify` has to tell: faults and warnings, in the order in which
 * they were found.
 */
#ifndef ALLSHARD_CLI_FINDINGS_H
#define ALLSHARD_CLI_FINDINGS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/name_map.h"
#include "base/log.h"

typedef struct as_finding {
    bool is_fault;
    char *file;   /* name in the folder; heap */
    char *tensor; /* heap; NULL: it is about the whole file */
    char *text;   /* what is wrong and what to do; heap */
    json_t *more; /* further keys for --json; NULL: none */
} as_finding;

typedef struct as_findings {
    as_finding *items; /* heap */
    size_t count;
    size_t capacity;
    size_t faults;
    size_t warnings;
    as_name_map faulty; /* the files of the faults */
} as_findings;

#define AS_FINDINGS_INIT ((as_findings){0})

/* `tensor` may be NULL. AS_OK, AS_NOMEM. */
int as_findings_fault(as_findings *f, as_error *e, const char *file, const char *tensor,
                      const char *format, ...) __attribute__((format(printf, 5, 6)));
int as_findings_warn(as_findings *f, as_error *e, const char *file, const char *tensor,
                     const char *format, ...) __attribute__((format(printf, 5, 6)));

/* A fault out of a room's error text: a leading "file: " goes, and a tensor that the text names
 * first is taken down. */
int as_findings_take(as_findings *f, as_error *e, const char *file, const as_error *why);

/* Gives the last finding further keys for --json, which it takes over; NULL is AS_NOMEM. */
int as_findings_more(as_findings *f, json_t *more, as_error *e);

/* Is there a fault that is about this file, or a tensor in it? */
bool as_findings_has_fault(const as_findings *f, const char *file);

/* A log whose warnings become findings about one file. It must not outlive `l`. */
typedef struct as_findings_log {
    as_findings *findings;
    const char *file;
    as_error *e; /* gets AS_NOMEM */
} as_findings_log;
as_log as_findings_as_log(as_findings_log *l);

void as_findings_free(as_findings *f);

#endif
