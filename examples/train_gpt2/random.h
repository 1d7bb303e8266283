/* SPDX-License-Identifier: Apache-2.0
 * Random numbers whose whole state is one number, which a checkpoint can hold. */
#ifndef TRAIN_GPT2_RANDOM_H
#define TRAIN_GPT2_RANDOM_H

#include <stdint.h>

/* Scatters the bits of x: the output function of Steele, Lea and Flood's SplitMix64 (2014). */
static inline uint64_t random_mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* The next number of a generator. */
static inline uint64_t random_next(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    return random_mix(*state);
}

/* In [0, 1), from 53 of the bits. */
static inline double random_unit(uint64_t bits)
{
    return (double)(bits >> 11) * 0x1p-53;
}

#endif
