/* SPDX-License-Identifier: Apache-2.0
 * Pieces in the host's memory and the same ones in that of a simulated device, with the channel to
 * it: for tests of copies. Sizes stay small, offsets and strides are of all kinds.
 */
#ifndef ALLSHARD_TESTS_SUPPORT_CUDA_COPIES_H
#define ALLSHARD_TESTS_SUPPORT_CUDA_COPIES_H

#include "box_support.h"
#include "device/cuda_channel.h"
#include "support_simulated.h"

enum { CUDA_MARGIN = 16 };

typedef struct cuda_world {
    const sim_library *sim;
    const as_cuda *cuda;
    as_cu_context context; /* of the channel */
    as_cu_context callers; /* the current one, of another device */
    as_channel *channel;
    as_pins pins;
    char *pinned; /* an area for cuda_pinned */
    int64_t used;
    as_cu_pointer memory; /* of pieces, one at a time */
} cuda_world;

/* A piece in memory of its own, with a margin that must stay as it is, on both sides. */
typedef struct cuda_piece {
    test_box t;
    as_geometry geometry;
    as_geometry device_geometry; /* the same, with seams of its own */
    as_buffer seams;
    as_buffer device_seams;
    char *block; /* on the host */
    int64_t size;
    char *data;           /* the piece's pointer, inside the block */
    as_cu_pointer device; /* where the block is on the device */
    int64_t line;         /* bytes of the tensor in the file */
} cuda_piece;

/* All but the channel. `kernel`: the simulation runs the pack kernel's body. */
void cuda_begin(cuda_world *w, bool kernel);
void cuda_end(cuda_world *w);

/* With the channel; cuda_close fails the test if anything is left over. */
void cuda_open(cuda_world *w, bool kernel);
void cuda_close(cuda_world *w);

void cuda_noise(uint64_t *seed, char *bytes, int64_t count);

/* Pinned memory, anywhere, until the next piece is made; NULL: there is no more. */
char *cuda_pinned(cuda_world *w, int64_t bytes);

/* False: try another. Small pieces are those of box_support.h, large ones have up to 500 KiB; of
 * either those are left out whose tensor or memory has more than `most` bytes. */
bool cuda_make_piece(uint64_t *seed, cuda_world *w, cuda_piece *p, bool large, int64_t most);
void cuda_free_piece(cuda_piece *p);

static inline char *cuda_device_pointer(const cuda_piece *p)
{
    return (char *)(uintptr_t)(p->device + (as_cu_pointer)(p->data - p->block));
}

/* Is the device's memory the host's? */
void cuda_check_memory(const cuda_world *w, const cuda_piece *p);

/* Is the caller's context still the current one? */
void cuda_check_context(const cuda_world *w);

/* Fails the test with the error's text. */
void cuda_no_error(int code, as_error *e);

/* Moves copies on, or not. */
void cuda_maybe_step(uint64_t *seed, cuda_world *w);

/* Until they have ended; an error fails the test. */
void cuda_wait(cuda_world *w, const as_copies *c);

#endif
