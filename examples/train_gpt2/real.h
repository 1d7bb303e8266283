/* SPDX-License-Identifier: Apache-2.0
 * The numbers that the model is made of: floats; doubles where gradients are compared with finite
 * differences, which floats are too coarse for. */
#ifndef TRAIN_GPT2_REAL_H
#define TRAIN_GPT2_REAL_H

#include <mpi.h>

#ifdef TRAIN_GPT2_DOUBLE
typedef double real;
#define MPI_REAL_TYPE MPI_DOUBLE
#else
typedef float real;
#define MPI_REAL_TYPE MPI_FLOAT
#endif

#endif
