/* SPDX-License-Identifier: Apache-2.0
 * What GPU-direct keeps from one save or load of a context to the next: what was found out about the
 * devices and file systems, and registered memory on each device. All of it is the context's calling
 * thread's.
 */
#ifndef ALLSHARD_TRANSFER_GDS_H
#define ALLSHARD_TRANSFER_GDS_H

#include <sys/types.h>

#include "io/gds_area.h"
#include "io/gds_engine.h"
#include "io/gds_probe.h"
#include "transfer/context.h"

enum { AS_GDS_BUFFERS = 64 /* of a device, at the most; as slots */ };

/* A device in a context of CUDA. */
typedef struct as_gds_device {
    const as_device *device;
    as_cu_context context;
    as_gds_area area;
    int64_t step;              /* bytes of a buffer: of a block and a page */
    int spare[AS_GDS_BUFFERS]; /* numbers of buffers */
    int spare_count;
    bool works; /* for the save or load that runs */

    /* What the last trial found, and of what. */
    bool known;
    bool for_save;
    enum as_gds_wish wish;
    dev_t file_system;
    as_gds_answer answer;
} as_gds_device;

typedef struct as_gds {
    as_gds_device *devices; /* [count] */
    int count;
    as_gds_options options;
    enum as_gds_wish wish;
    char reason
        [200]; /* why no device writes straight to files in the transfer that runs; "": some do */
    char told[200]; /* the last line that went to the log */
} as_gds;

/* Sees for which of the devices that the transfer's pieces lie on bytes can go straight to files and
 * back, in `folder` (of new files; NULL: a load). If for any, t->engine becomes
 * as_engine_gds, with what was t->engine behind it, and t->gds is set; else it stays as it is, and
 * *out tells why. Local; refusals are no errors: AS_NOMEM alone. *out is NULL at first. */
int as_gds_prepare(as_gds **out, as_transfer *t, enum as_gds_wish wish, const char *folder,
                   as_error *e);

/* After the transfer: why GPU-direct had no part in it, before what the meter tells already; or, once
 * for each reason, that it had one. Both go to the log, too. */
void as_gds_explain(as_gds *g, enum as_gds_wish wish, as_meter *m, const as_log *log);

/* The same of a nonblocking save, which writes from the host's memory whatever was asked for. */
void as_gds_explain_nonblocking(enum as_gds_wish wish, as_meter *m);

/* Nothing may be under way; before as_devices_close. NULL is allowed. */
void as_gds_close(as_gds *g);

/* A buffer: the address of its first byte; *number is its own. 0: all are taken. */
as_cu_pointer as_gds_take(as_gds_device *d, int *number);
void as_gds_give(as_gds_device *d, int number);

/* The engine for files that no device writes. */
const as_engine_type *as_gds_host_engine(const as_transfer *t);

#endif
