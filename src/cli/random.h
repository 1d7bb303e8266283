/* SPDX-License-Identifier: Apache-2.0
 * Seeded random weights: each element depends on the seed, the tensor's name and the
 * element's place alone, so that any layout on any number of ranks gives the same bytes.
 */
#ifndef ALLSHARD_CLI_RANDOM_H
#define ALLSHARD_CLI_RANDOM_H

#include <stddef.h>
#include <stdint.h>

#include "cli/layout.h"
#include "cli/tensors.h"

/* Writes the elements of a piece of tensor i, in C order without gaps. Floats lie between −0.05
 * and 0.05; other types get random bits (BOOL: 0 or 1; FP8 no NaN). */
void as_random_fill(const as_tensors *t, size_t i, uint64_t seed, const as_layout_piece *piece,
                    void *out);

/* The same with random bits, whatever the type: fast, and no two words alike for a file system or
 * a drive to compress. */
void as_random_bits(const as_tensors *t, size_t i, uint64_t seed, const as_layout_piece *piece,
                    void *out);

/* Random words of a seed. */
void as_random_words(void *out, size_t count, uint64_t seed);

#endif
