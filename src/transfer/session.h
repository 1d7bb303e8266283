/* SPDX-License-Identifier: Apache-2.0
 * What lives from one save or load of a context to the next.
 */
#ifndef ALLSHARD_TRANSFER_SESSION_H
#define ALLSHARD_TRANSFER_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/log.h"
#include "comm/arena.h"
#include "comm/comm.h"
#include "device/devices.h"
#include "io/probe.h"
#include "transfer/gds.h"
#include "transfer/lanes.h"
#include "transfer/meter.h"

enum as_operation { AS_NOTHING, AS_SAVE, AS_LOAD, AS_ISAVE };

/* What was found out about a file system that files were staged on. */
typedef struct as_probed {
    bool known;
    dev_t device;
    char asked[16]; /* the engine that the caller named */
    as_engine_choice choice;
} as_probed;

typedef struct as_session {
    as_comm *comm; /* owned */
    as_log log;
    void (*progress)(int64_t done, int64_t total, void *user); /* may be NULL */
    void *progress_user;
    int64_t memory; /* bytes of transfer buffers that this rank may take */

    as_devices *devices; /* owned; NULL: all pieces lie on the host */
    as_arena *arena;     /* the transfer buffers; NULL until they are needed */
    as_pin arena_pin;    /* of them, for devices */
    as_gds *gds;         /* NULL until bytes may go straight between devices and files */
    int64_t moved;       /* as_devices_bytes when the pieces were found */
    int64_t arena_block; /* largest block that they were made for */
    int32_t *nodes;      /* [ranks]: the node of each; NULL until it is asked for */
    as_lanes lanes;      /* of nonblocking saves */
    as_probed probed;    /* main process only */
    bool told_stripes;   /* likewise: that a folder takes no stripes has been told */
    bool told_stream;    /* likewise: that memory does not suffice for snapshots */
    int64_t plans;       /* made so far for saves, the same on all ranks */
    bool check_calls;    /* the ranks make sure that they are in the same function */
    int64_t calls;       /* collective ones so far */

    enum as_operation operation; /* that the meter is of */
    as_meter meter;              /* of the call that runs, or ran last; owns its trace */
    as_meter *meters;            /* main process: [ranks], of the last call if it succeeded */
} as_session;

/* Who waits for a device gives signs of life to the other ranks from now on. The session stays where
 * it is. */
void as_session_watch(as_session *s);

void as_session_close(as_session *s);

/* A save or load begins: the meter starts anew. */
void as_session_begin(as_session *s, enum as_operation operation);

/* Makes the transfer buffers fit for blocks of that size. Collective. */
int as_session_buffers(as_session *s, int64_t block_bytes, as_error *e);

/* Finds out where the pieces lie; copies of those on devices then come after what is in the caller's
 * stream, and find the transfer buffers pinned. An error is for the next agreement. Local. */
int as_session_find(as_session *s, const as_state *state, void *stream, as_homes *out, as_error *e);

/* The transfer is over: the meter tells what devices had to do with it. Frees *homes. */
void as_session_found(as_session *s, as_homes *homes, as_meter *m);

/* The node of every rank, kept after the first time. Collective. */
int as_session_nodes(as_session *s, const int32_t **nodes, as_error *e);

/* Brings the meters of all ranks to the main process, which does without if that fails: a save
 * that counts does not fail for its figures. Collective. */
void as_session_gather(as_session *s);

/* What did the work on all ranks that moved bytes, by `own` and, if they are not NULL, the meters of
 * all ranks: "mixed" if it was not the same everywhere. The texts live as long as the meters; never
 * NULL. */
void as_meters_engine(const as_meter *own, const as_meter *meters, int ranks, const char **engine,
                      const char **reason);

/* What is known of a rank: NULL if nothing. */
const as_meter *as_session_meter(const as_session *s, int rank);

#endif
