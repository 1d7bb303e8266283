/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const double first_after = 1.0; /* seconds */
static const double again_after = 0.1;

enum { WIDEST = 40 };

void as_progress_begin(as_progress *p, const as_output *out, const char *what)
{
    *p = (as_progress){.out = out, .what = what, .began = as_seconds()};
}

static void draw(const as_progress *p, double part, double seconds)
{
    char bar[WIDEST + 1];
    int width = p->out->columns - 36;
    width = width < 10 ? 10 : width > WIDEST ? WIDEST : width;
    int full = (int)(part * width);
    memset(bar, '#', (size_t)full);
    memset(bar + full, '.', (size_t)(width - full));
    bar[width] = '\0';
    as_short_text left = {""};
    if (part > 0.02) {
        left = as_human_seconds(seconds / part * (1 - part));
    }
    char line[160];
    int length = snprintf(line, sizeof line, "\r\033[K%-9s [%s] %3d%%%s%s", p->what, bar,
                          (int)(part * 100), left.text[0] ? "  left: " : "", left.text);
    if (length > 0) {
        /* A terminal that cannot be written to is no reason to stop. */
        ssize_t written = write(p->out->terminal, line, (size_t)length);
        (void)written;
    }
}

void as_progress_update(int64_t done, int64_t total, void *user)
{
    as_progress *p = user;
    if (!p->out || p->out->terminal < 0 || total <= 0) {
        return;
    }
    double now = as_seconds();
    if (now - p->began < first_after || now - p->drawn < again_after) {
        return;
    }
    p->drawn = now;
    double part = (double)done / (double)total;
    draw(p, part < 0 ? 0 : part > 1 ? 1 : part, now - p->began);
}

void as_progress_end(as_progress *p)
{
    if (p->drawn > 0) {
        ssize_t written = write(p->out->terminal, "\r\033[K", 4);
        (void)written;
        p->drawn = 0;
    }
}
