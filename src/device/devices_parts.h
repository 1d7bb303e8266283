/* SPDX-License-Identifier: Apache-2.0
 * What as_devices is made of. Of devices.c and devices_pin.c alone.
 */
#ifndef ALLSHARD_DEVICE_DEVICES_PARTS_H
#define ALLSHARD_DEVICE_DEVICES_PARTS_H

#include "device/cuda_channel.h"
#include "device/devices.h"

enum { AS_DEVICES_NAMES = 256 };

typedef struct as_reached {
    as_channel *channel;
    bool used; /* pieces of the last save or load lie there */
} as_reached;

struct as_devices {
    const as_cuda *cuda; /* NULL: there is none so far */
    const char *asleep;  /* why no memory of devices can be there; NULL: it can */
    bool awake;          /* CUDA was initialised here, or has known of such memory */
    as_reached *reached; /* [count]: one for each context that pieces were met in */
    int count;
    as_pins pins;
    as_meanwhile meanwhile;
    as_buffer registered;         /* of devices_pin.c */
    char names[AS_DEVICES_NAMES]; /* of the devices of the last save or load */
    as_error unpinned;            /* why memory of it is not pinned */
};

/* What was pinned in a context that is gone is not any more. */
void as_devices_forget_pins(as_devices *d, as_cu_context context);

/* Unpins all that is pinned. */
void as_devices_unpin_all(as_devices *d);

#endif
