/* SPDX-License-Identifier: Apache-2.0
 * The devices whose memory a context's pieces lie in: found by the pieces' pointers, and kept from
 * one save or load to the next, with their streams and pinned buffers. All of it is the context's
 * calling thread's. NULL stands for a context that looks for none.
 */
#ifndef ALLSHARD_DEVICE_DEVICES_H
#define ALLSHARD_DEVICE_DEVICES_H

#include "device/cuda_library.h"
#include "device/device.h"
#include "plan/state.h"

typedef struct as_devices as_devices;

/* Makes no call of CUDA unless AS_CUDA_ON. AS_NOMEM; AS_CUDA if AS_CUDA_ON and there is
 * none. */
int as_devices_open(as_devices **out, enum as_cuda_wish wish, as_error *e);

/* Waits for copies that are under way; unpins all memory. NULL is allowed. */
void as_devices_close(as_devices *d);

/* Lets go of devices whose CUDA context the program has destroyed, or reset, since the last save or
 * load: pieces there get new ones. Part of as_devices_find; also to be called before what was made on
 * devices is given back. AS_CUDA. */
int as_devices_check(as_devices *d, as_error *e);

/* What is done from now on while a function here, or one of an as_device, waits for a device. */
void as_devices_meanwhile(as_devices *d, const as_meanwhile *meanwhile);

/* Where the pieces of a state lie. Zero at first. */
typedef struct as_homes {
    const as_device **of; /* [count]; NULL: all pieces lie on the host */
    size_t count;
} as_homes;

static inline const as_device *as_home(const as_homes *h, size_t i)
{
    return h && h->of ? h->of[i] : &as_device_host;
}

/* Looks every piece's pointer up: device and managed memory has its device, all else, memory that is
 * registered or allocated by cuMemHostAlloc among it, is the host's. AS_INVALID, with the tensor's
 * name, if a piece reaches beyond the allocation that it begins in; AS_CUDA; AS_NOMEM.
 * *out, which may hold what was found before, is the caller's to free. */
int as_devices_find(as_devices *d, const as_state *s, as_homes *out, as_error *e);
void as_homes_free(as_homes *h);

/* Copies that are begun from now on come after all work that is in the caller's stream (a
 * CUstream or cudaStream_t; NULL or 1: the legacy default stream, 2: the calling thread's own, of
 * each device that pieces lie on), and in the legacy default streams of the devices that pieces lie
 * on and this stream is not of. AS_CUDA, AS_NOMEM. */
int as_devices_begin(as_devices *d, const as_homes *h, void *stream, as_error *e);

/* Moves copies on: sets *moved if any ended. An error of a copy is in *e and in the code of its
 * as_copies. Never blocks. */
void as_devices_step(as_devices *d, bool *moved, as_error *e);

/* Are any copies under way, or is there news of some for as_devices_step to tell? */
bool as_devices_busy(const as_devices *d);

/* Host memory that devices are to reach without a copy in between (page-locked). */
typedef struct as_pin {
    char *base; /* NULL: it is not pinned */
    size_t bytes;
} as_pin;

/* Pins the memory if any piece lies on a device (h->of); what `pin` held before is unpinned if it is
 * other memory. If it cannot be pinned copies take the way through buffers that are, which is told
 * by as_devices_note. Costs about 0.1 s a GiB, once. Children that the program forks do not have the
 * memory, from then on and until it is unmapped; it is whole pages. */
void as_devices_pin(as_devices *d, const as_homes *h, as_pin *pin, char *base, size_t bytes);

/* To be called before the memory is unmapped. Nothing may be under way there. */
void as_devices_unpin(as_devices *d, as_pin *pin);

/* What there is to say of the last save or load: "cuda:0, cuda:1", or "" if no piece lay on a
 * device; *reason: why not, or what was done a slower way, and why. Static, or as long as `d`. */
const char *as_devices_note(const as_devices *d, const char **reason);

/* Bytes that went out of and into device memory, so far. */
int64_t as_devices_bytes(const as_devices *d);

#endif
