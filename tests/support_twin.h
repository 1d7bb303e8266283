/* SPDX-License-Identifier: Apache-2.0
 * Twins: what a rank holds once on the host, and once more in memory of simulated CUDA devices, of
 * every kind there is. What is done with one must give the same bytes as with the other. For tests
 * with "simulated: cuda" in a comment.
 */
#ifndef ALLSHARD_TESTS_SUPPORT_TWIN_H
#define ALLSHARD_TESTS_SUPPORT_TWIN_H

#include <pthread.h>

#include "support_model.h"
#include "support_simulated.h"

enum twin_memory {
    TWIN_DEVICE_0,
    TWIN_DEVICE_1,
    TWIN_MANAGED,
    TWIN_UNOWNED,    /* of a memory pool: no context's */
    TWIN_REGISTERED, /* of the host */
    TWIN_ALLOCATED,  /* of the host, by cuMemHostAlloc */
    TWIN_HOST,
    TWIN_KINDS
};

enum twin_stream { TWIN_LEGACY, TWIN_NULL, TWIN_PER_THREAD, TWIN_OWN, TWIN_STREAMS };

/* Two devices, whose primary contexts the program has; that of the first is current. */
typedef struct twin_devices {
    const sim_library *sim;
    const as_cuda *cuda;
    as_cu_context context[2];
    as_cu_stream own; /* non-blocking, of the first device */
} twin_devices;

void twin_open(twin_devices *d);
void twin_close(twin_devices *d); /* nothing is left in the simulation, and no rule was broken */

/* The context of the first device is current, no rule was broken. */
void twin_check(const twin_devices *d);

typedef struct twin {
    const twin_devices *devices;
    const holding *host;
    enum twin_memory *kind; /* [pieces] */
    uint64_t *at;           /* [pieces]: where piece->memory has its twin; 0: it has no bytes */
    int64_t on_device;      /* pieces with bytes there */
} twin;

/* `kinds`: a bit for each kind that pieces may be of; which one is random. */
void twin_make(twin *t, const twin_devices *d, const holding *host, unsigned kinds,
               uint64_t *random);
void twin_free(twin *t);

/* As holding_declare_stored. */
void twin_declare(const twin *t, const allshard *as, allshard_state *s,
                  int32_t (*stored)(int32_t dtype));

/* What a call is to be given for a stream. */
void *twin_stream_of(const twin_devices *d, enum twin_stream which);

/* The twin's memory gets the bytes of `from`, laid out as the host's pieces one after the other, or
 * (NULL) of the host's: by the processor where it can, else in the order of that stream, and of the
 * legacy default streams of devices that the stream is not of. `from` stays until all is done. */
void twin_put(const twin *t, enum twin_stream which, const unsigned char *from);

/* At once. Names the first tensor whose memory is not the same on both sides; NULL: none. */
const char *twin_wrong(const twin *t);

/* Bytes of all pieces' memory on the host. */
size_t twin_bytes(const twin *t);

/* From now on nothing runs on the devices, for so many milliseconds. */
typedef struct twin_pause {
    pthread_t thread;
    const sim_library *sim;
    int milliseconds;
} twin_pause;

void twin_stop(twin_pause *p, const twin_devices *d, int milliseconds);
void twin_go_on(twin_pause *p); /* waits for the end of it */

#endif
