/* SPDX-License-Identifier: Apache-2.0
 * What there is to learn from: the bytes of files, as tokens, and the draw of sequences. */
#ifndef TRAIN_GPT2_TEXT_H
#define TRAIN_GPT2_TEXT_H

#include <stddef.h>
#include <stdint.h>

enum { END_OF_TEXT = 256 };

typedef struct text {
    uint16_t *tokens;
    size_t count;
    uint64_t hash; /* of the tokens */
} text;

/* Rank 0 reads the files one after another, with an end of text behind each, and gives them to the
 * others. Dies if they cannot be read, or hold fewer than `least` tokens. Collective. */
void text_open(text *t, char **names, int count, size_t least);
void text_close(text *t);

/* Draws `batch` sequences of `length` tokens and copies those numbered [first, last) to `in`, and
 * the tokens that follow each of theirs to `next`. All ranks draw all of them: `state` is the same
 * on all, and is the run's position in its data. */
void text_draw(const text *t, uint64_t *state, int batch, int first, int last, int length,
               uint16_t *in, uint16_t *next);

#endif
