/* SPDX-License-Identifier: Apache-2.0
 * The text, and the draw of sequences. */
#include "text.h"
#include "random.h"
#include "ranks.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void grow(text *t, size_t *room)
{
    if (t->count == *room) {
        *room = *room ? 2 * *room : 65536;
        uint16_t *more = realloc(t->tokens, *room * sizeof *more);
        if (!more || t->count > INT_MAX / 2) {
            die("the text is too large");
        }
        t->tokens = more;
    }
}

static void read_file(text *t, const char *name, size_t *room)
{
    int byte;
    FILE *f = fopen(name, "rb");
    if (!f) {
        die("cannot open the text %s: %s", name, strerror(errno));
    }
    while ((byte = getc(f)) != EOF) {
        grow(t, room);
        t->tokens[t->count++] = (uint16_t)byte;
    }
    if (ferror(f)) {
        die("cannot read the text %s: %s", name, strerror(errno));
    }
    fclose(f);
    grow(t, room);
    t->tokens[t->count++] = END_OF_TEXT;
}

void text_open(text *t, char **names, int count, size_t least)
{
    int rank;
    size_t room = 0;
    *t = (text){0};
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    for (int i = 0; rank == 0 && i < count; i++) {
        read_file(t, names[i], &room);
    }
    if (rank == 0 && t->count < least) {
        die("the text has %zu tokens, at least %zu are needed: name more files", t->count, least);
    }
    uint64_t tokens = t->count;
    MPI_Bcast(&tokens, 1, MPI_UINT64_T, 0, MPI_COMM_WORLD);
    if (rank != 0) {
        t->count = tokens;
        t->tokens = take(t->count, sizeof *t->tokens);
    }
    MPI_Bcast(t->tokens, (int)t->count, MPI_UINT16_T, 0, MPI_COMM_WORLD);
    for (size_t i = 0; i < t->count; i++) {
        t->hash = random_mix(t->hash + t->tokens[i] + 1);
    }
}

void text_close(text *t)
{
    free(t->tokens);
}

void text_draw(const text *t, uint64_t *state, int batch, int first, int last, int length,
               uint16_t *in, uint16_t *next)
{
    for (int i = 0; i < batch; i++) {
        const double places = (double)(t->count - (size_t)length);
        const size_t at = (size_t)(random_unit(random_next(state)) * places);
        if (i >= first && i < last) {
            const size_t to = (size_t)(i - first) * (size_t)length;
            memcpy(in + to, t->tokens + at, (size_t)length * sizeof *in);
            memcpy(next + to, t->tokens + at + 1, (size_t)length * sizeof *next);
        }
    }
}
