/* SPDX-License-Identifier: Apache-2.0 */
#include "series/walltime_read.h"

#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

static const double longest = 10 * 366 * 86400.0; /* what is more is no limit, or garbage */

/* ---------------------------------------------------------------- durations */

/* Digits, at most nine of them. */
static bool read_number(const char **at, long *out)
{
    int digits = 0;
    *out = 0;
    while (isdigit((unsigned char)**at) && digits < 10) {
        *out = *out * 10 + (**at - '0');
        (*at)++;
        digits++;
    }
    return digits > 0 && digits < 10;
}

typedef struct duration {
    bool has_days;
    long days;
    long parts[3]; /* that stood between colons */
    int count;
} duration;

/* "[D-]A[:B[:C]]" */
static bool read_duration(const char **at, duration *d)
{
    *d = (duration){0};
    long number;
    if (!read_number(at, &number)) {
        return false;
    }
    if (**at == '-') {
        d->has_days = true;
        d->days = number;
        (*at)++;
        if (!read_number(at, &number)) {
            return false;
        }
    }
    d->parts[d->count++] = number;
    while (**at == ':' && d->count < 3) {
        (*at)++;
        if (!read_number(at, &d->parts[d->count++])) {
            return false;
        }
    }
    return true;
}

/* With days before it "A" are hours and "A:B" hours and minutes, else seconds, and minutes and
 * seconds. */
static double seconds_of(const duration *d)
{
    double unit = d->has_days || d->count == 3 ? 3600 : d->count == 2 ? 60 : 1;
    double sum = (double)d->days * 86400;
    for (int i = 0; i < d->count; i++) {
        sum += (double)d->parts[i] * unit;
        unit /= 60;
    }
    return sum;
}

static const char *skip_blanks(const char *at)
{
    while (*at == ' ' || *at == '\t' || *at == '\r') {
        at++;
    }
    return at;
}

static bool line_ends(const char *at)
{
    at = skip_blanks(at);
    return *at == '\0' || *at == '\n';
}

/* A duration that is all there is in the line. */
static bool read_alone(const char *at, double *seconds)
{
    duration d;
    at = skip_blanks(at);
    if (!read_duration(&at, &d) || !line_ends(at)) {
        return false;
    }
    *seconds = seconds_of(&d);
    return *seconds <= longest;
}

static bool begins(const char *at, const char *word)
{
    return strncmp(at, word, strlen(word)) == 0;
}

static const char *next_line(const char *at)
{
    const char *end = strchr(at, '\n');
    return end ? end + 1 : at + strlen(at);
}

/* -------------------------------------------------------------------- Slurm */

enum as_left as_left_slurm(const char *text, double *seconds)
{
    enum as_left found = AS_LEFT_UNKNOWN;
    for (const char *at = text; *at; at = next_line(at)) {
        double here;
        if (read_alone(at, &here)) {
            *seconds = found == AS_LEFT_KNOWN ? fmin(*seconds, here) : here;
            found = AS_LEFT_KNOWN;
        } else if (begins(skip_blanks(at), "UNLIMITED") && found == AS_LEFT_UNKNOWN) {
            found = AS_LEFT_ENDLESS;
        }
    }
    return found;
}

/* ---------------------------------------------------------------------- PBS */

/* The value of "  KEY = value" if the line at `at` is that. */
static const char *value_of(const char *at, const char *key)
{
    at = skip_blanks(at);
    if (!begins(at, key)) {
        return NULL;
    }
    at = skip_blanks(at + strlen(key));
    return *at == '=' ? skip_blanks(at + 1) : NULL;
}

/* 0 to 11, and past it; −1: it is none. */
static int read_month(const char **at)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    for (int i = 0; i < 12; i++) {
        if (strncmp(*at, months + (ptrdiff_t)i * 3, 3) == 0) {
            *at += 3;
            return i;
        }
    }
    return -1;
}

/* "Sun Nov 22 15:00:00 2026", in local time. */
static bool read_date(const char *at, double *out)
{
    struct tm t = {.tm_isdst = -1};
    duration clock;
    long day;
    long year;
    while (isalpha((unsigned char)*at)) {
        at++;
    }
    at = skip_blanks(at);
    t.tm_mon = read_month(&at);
    at = skip_blanks(at);
    if (t.tm_mon < 0 || !read_number(&at, &day)) {
        return false;
    }
    at = skip_blanks(at);
    if (!read_duration(&at, &clock) || clock.has_days || clock.count != 3) {
        return false;
    }
    at = skip_blanks(at);
    if (!read_number(&at, &year) || year > 9999 || day > 31) {
        return false;
    }
    t.tm_mday = (int)day;
    t.tm_hour = (int)clock.parts[0];
    t.tm_min = (int)clock.parts[1];
    t.tm_sec = (int)clock.parts[2];
    t.tm_year = (int)year - 1900;
    time_t when = mktime(&t);
    *out = (double)when;
    return when != (time_t)-1;
}

typedef struct pbs {
    bool is_job;
    double limit; /* all of these negative: not told */
    double used;
    double start;
    double remaining;
} pbs;

static void read_pbs_line(const char *at, pbs *p)
{
    const char *value;
    double number;
    p->is_job = p->is_job || begins(skip_blanks(at), "Job Id");
    if ((value = value_of(at, "Resource_List.walltime")) && read_alone(value, &number)) {
        p->limit = number;
    } else if ((value = value_of(at, "resources_used.walltime")) && read_alone(value, &number)) {
        p->used = number;
    } else if ((value = value_of(at, "Walltime.Remaining")) && read_alone(value, &number)) {
        p->remaining = number;
    } else if (((value = value_of(at, "stime")) || (value = value_of(at, "start_time"))) &&
               read_date(value, &number)) {
        p->start = number;
    }
}

enum as_left as_left_pbs(const char *text, double now, double *seconds)
{
    pbs p = {.limit = -1, .used = -1, .start = -1, .remaining = -1};
    for (const char *at = text; *at; at = next_line(at)) {
        read_pbs_line(at, &p);
    }
    double left = INFINITY;
    if (p.remaining >= 0) {
        left = p.remaining;
    }
    if (p.limit >= 0 && p.start >= 0) {
        left = fmin(left, p.limit - (now - p.start));
    }
    if (isinf(left) && p.limit >= 0 && p.used >= 0) {
        left = p.limit - p.used;
    }
    if (isinf(left)) {
        return p.is_job && p.limit < 0 ? AS_LEFT_ENDLESS : AS_LEFT_UNKNOWN;
    }
    *seconds = fmax(left, 0);
    return AS_LEFT_KNOWN;
}

/* ---------------------------------------------------------------------- LSF */

enum as_left as_left_lsf(const char *text, double *seconds)
{
    const char *at = skip_blanks(text);
    if (*at == '-' && line_ends(at + 1)) {
        return AS_LEFT_ENDLESS;
    }
    duration d;
    if (!read_duration(&at, &d) || d.has_days || d.count != 2) {
        return AS_LEFT_UNKNOWN;
    }
    at = skip_blanks(at);
    if ((*at == 'E' || *at == 'X') && line_ends(at + 1)) {
        return AS_LEFT_ENDLESS;
    }
    double left = ((double)d.parts[0] * 60 + (double)d.parts[1]) * 60;
    if (!(line_ends(at) || (*at == 'L' && line_ends(at + 1))) || left > longest) {
        return AS_LEFT_UNKNOWN;
    }
    *seconds = fmax(left - 60, 0);
    return AS_LEFT_KNOWN;
}
