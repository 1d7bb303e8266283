/* SPDX-License-Identifier: Apache-2.0
 * What the parts of the simulated driver share. One lock guards all of it: calls hold it from
 * sim_enter to sim_leave, the worker whenever it is not copying.
 */
#ifndef ALLSHARD_TESTS_SIMULATED_SIM_STATE_H
#define ALLSHARD_TESTS_SIMULATED_SIM_STATE_H

#include <pthread.h>

#include "sim.h"

/* The driver's names as assembler names: the compiler checks the types, and names stay our own. */
#define SIM_DECLARE(member, symbol, parameters)                                                    \
    SIM_API as_cu_result cu_##member parameters __asm__(symbol);
AS_CUDA_FUNCTIONS(SIM_DECLARE)
SIM_MORE_FUNCTIONS(SIM_DECLARE)
#undef SIM_DECLARE

/* Codes that only the simulation gives; the others are in cuda_abi.h. */
enum {
    SIM_INVALID_DEVICE = 101,
    SIM_INVALID_IMAGE = 200,
    SIM_INVALID_HANDLE = 400,
    SIM_NOT_FOUND = 500,
    SIM_CONTEXT_DESTROYED = 709,
    SIM_MISALIGNED = 716,
    SIM_CAPTURE_IMPLICIT = 906
};

enum { SIM_MAX_DEVICES = 16, SIM_MAX_PITCH = 2147483647 };
#define SIM_DEVICE_BYTES ((size_t)16 << 30)

enum sim_kind { SIM_CONTEXT, SIM_STREAM, SIM_EVENT, SIM_MODULE, SIM_FUNCTION, SIM_KINDS };

typedef struct sim_context sim_context;

/* What a handle stands for. It is kept for ever, so that handles that were destroyed are known. */
typedef struct sim_object {
    bool dead;
    bool forgiven; /* it died by sim_end_context: its use is refused, and not noted */
    size_t place;  /* among those of its kind */
    void *handle;
    sim_context *context; /* NULL: it is one */
} sim_object;

struct sim_context {
    sim_object object;
    int device;
    int retains; /* of a primary one */
    int lost;    /* the code of every call that needs it; 0: it is well */
};

typedef struct sim_op sim_op;

/* Of each stream, by its place among them, the number of an operation; 0: of none. */
typedef struct sim_clock {
    uint64_t *of;
    size_t count;
} sim_clock;

typedef struct sim_stream {
    sim_object object;
    bool is_default; /* not made by a call */
    bool legacy;
    bool captured;
    bool blocking;   /* waits for the legacy stream, and it for this one */
    uint64_t thread; /* whose default stream it is; 0: nobody's */
    unsigned flags;
    int priority;
    sim_op *first; /* under way; the oldest may be running */
    sim_op *last;
    uint64_t asked;    /* number of the last operation that was put into it */
    uint64_t finished; /* number of the last that has ended */
    sim_clock after;   /* what its next operation comes after */
} sim_stream;

typedef struct sim_event {
    sim_object object;
    sim_stream *stream; /* of the last record; NULL: none yet */
    uint64_t number;    /* its */
    sim_clock after;    /* what it came after */
} sim_event;

typedef struct sim_module {
    sim_object object;
    char *text;
} sim_module;

/* ---- control ---- */

/* Every call begins with the first and ends with the second, and with its result. */
enum sim_need {
    SIM_NOTHING, /* cuGetErrorName and the like: not even cuInit, never fails */
    SIM_BEFORE,  /* may come before cuInit */
    SIM_INIT,    /* comes after cuInit */
    SIM_CURRENT  /* needs a current context that is well */
};
int sim_enter(const char *call, enum sim_need need);
int sim_leave(int code);

void sim_lock(void);
void sim_unlock(void);
extern pthread_mutex_t sim_mutex; /* what sim_lock locks, for conditions */

/* Notes a broken rule; the first one stays. */
void sim_note_rule(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same, and the code is the value. */
#define SIM_NOTE(code, ...) (sim_note_rule(__VA_ARGS__), (code))

int sim_device_count(void);
int sim_device_attribute(int attribute, int *value); /* 0: a test has set it */
bool sim_is_initialised(void);
void sim_set_initialised(void);

/* The code that the operation which the running call asks for is to end with; 0: none. */
int sim_late(const char *call);

/* Microseconds that the next operation takes. */
int64_t sim_next_delay(void);
bool sim_is_held(void);
bool sim_is_stalled(void);
bool sim_pointers_are_strict(void);
void sim_count_pageable(void);

/* Objects get handles, numbers that are no addresses. NULL: no memory. */
void *sim_new(enum sim_kind kind, size_t bytes, sim_context *context);
void *sim_object_of(enum sim_kind kind, const void *handle); /* NULL: it never was one */
size_t sim_object_count(enum sim_kind kind);
void *sim_object_at(enum sim_kind kind, size_t i);
int64_t sim_alive(enum sim_kind kind);

/* The object of a handle that is to belong to the current context; else SIM_INVALID_HANDLE,
 * noted. */
int sim_use(enum sim_kind kind, const void *handle, const char *call, void **out);

/* ---- contexts ---- */

sim_context *sim_current(void); /* NULL: none */
int64_t sim_depth(void);
int64_t sim_retained(void);
void sim_heal_contexts(void);
bool sim_loses(int code); /* is a context lost after it? */

/* ---- memory ---- */

enum sim_memory_kind { SIM_DEVICE, SIM_MANAGED, SIM_HOST, SIM_REGISTERED };

typedef struct sim_memory {
    unsigned long long id;
    enum sim_memory_kind kind;
    uint64_t base;
    size_t bytes;
    int device;
    sim_context *context; /* NULL: of none */
    unsigned flags;
    char *real;   /* the simulation's address of the same bytes */
    void *map[2]; /* what there is to unmap: of the program's, of the simulation's */
    size_t mapped;
} sim_memory;

/* The one that the address lies in; NULL: none. */
sim_memory *sim_memory_at(uint64_t address);
bool sim_memory_overlaps(uint64_t address, size_t bytes); /* any of the program's that is locked */
int sim_memory_new(enum sim_memory_kind kind, int device, sim_context *context, size_t bytes,
                   sim_memory **out);
int sim_memory_add(const sim_memory *m); /* one that is mapped already */
void sim_memory_drop(sim_memory *m);
/* Was memory that began there unlocked by the end of its context? Says so once. */
bool sim_memory_was_let_go(uint64_t address);
void sim_memory_drop_of(const sim_context *context);
int64_t sim_memory_live(enum sim_memory_kind kind, bool bytes);
size_t sim_memory_allocated(int device); /* bytes */

/* A range that a device is to reach: 0, or a noted fault. */
int sim_device_range(int device, uint64_t address, size_t bytes, const char *call, char **real);

/* Is all of it mapped? */
bool sim_is_mapped(uint64_t address, size_t bytes);

/* For the worker: the device that translations are for, and what one failed with since. */
void sim_translate_begin(int device);
int sim_translate_failed(void);

/* ---- streams and what is under way in them ---- */

enum sim_act { SIM_ACT_NOTHING, SIM_ACT_RECORD, SIM_ACT_WAIT, SIM_ACT_COPY, SIM_ACT_LAUNCH };

/* Bytes in rows. */
typedef struct sim_area {
    bool device;
    bool locked; /* memory of the host: it was page-locked at the call */
    uint64_t address;
    size_t pitch; /* >= width */
    size_t width;
    size_t height;
} sim_area;

typedef struct sim_copy {
    sim_area from;
    sim_area to;
    char *staged; /* what `from` held at the call, without gaps; NULL: it is read later */
    bool summed;  /* `sum` is that of `from` at the call */
    uint64_t sum;
    bool scribbled; /* `to` was overwritten at the call */
} sim_copy;

typedef struct sim_function {
    sim_object object;
    const sim_module *module;
    char name[80];
    sim_body body;
    int parameters;
    size_t bytes[32];
} sim_function;

typedef struct sim_launch {
    const sim_function *function;
    unsigned grid_x;
    unsigned block_x;
    void **parameters; /* one block of memory, with the values */
} sim_launch;

struct sim_op {
    sim_op *next;
    sim_stream *stream;
    uint64_t number; /* in the order of the calls, of all streams */
    const char *call;
    enum sim_act act;
    int64_t delay; /* microseconds */
    int64_t due;   /* nanoseconds; 0: its turn has not come */
    int late;
    const sim_stream *awaited; /* of SIM_ACT_WAIT, with the number that is waited for */
    uint64_t awaited_number;
    sim_copy copy;
    sim_launch launch;
};

/* 0, or what calls are refused with that may not be made while a stream is captured. */
int sim_unsafe(void);

/* A stream handle of the current context, the default streams' among them. */
int sim_use_stream(as_cu_stream stream, const char *call, sim_stream **out);
int sim_stream_new(sim_context *context, sim_stream **out);

int sim_start_worker(void);

/* Puts an operation, which it copies, into the stream. Returns its number; 0: no memory. */
uint64_t sim_ask(const sim_op *op, sim_stream *stream);

/* Until it has ended; 0, or the code that the context was lost for. */
int sim_wait(const sim_stream *stream, uint64_t number);
void sim_wait_context(const sim_context *context);
void sim_wake(void); /* the worker: something has changed */

/* Is anything under way that reaches the area? `writes`: only what writes there. */
bool sim_under_way(const sim_area *area, bool writes);
/* Waits until nothing is. */
void sim_wait_area(const sim_area *area);

static inline sim_area sim_range(bool device, uint64_t address, size_t bytes)
{
    return (sim_area){
        .device = device, .address = address, .pitch = bytes, .width = bytes, .height = 1};
}

/* Bytes from the first to the last. */
static inline size_t sim_reach(const sim_area *area)
{
    return (area->height - 1) * area->pitch + area->width;
}

/* Have they a byte in common? */
bool sim_meet(const sim_area *a, const sim_area *b);
/* Does a word of the kernel's parameters point there? */
bool sim_points(const sim_launch *l, const sim_area *area);

/* ---- what comes after what ---- */

/* The stream's later operations come after that one of the other stream, and what that came after. */
void sim_learn_event(sim_stream *s, const sim_event *e);
/* What an event that is recorded in the stream now stands for. */
int sim_remember(sim_event *e, const sim_stream *s);
/* To be called before an operation is put into the stream: what default streams wait for; and notes
 * what is under way in other streams, reaches the same memory and may run before or after it. */
void sim_order(const sim_op *op, sim_stream *s);

/* ---- what the worker runs: with the lock, which they let go while they move bytes ---- */

int sim_run_copy(const sim_op *op); /* 0, or what the context is lost for */
int sim_run_launch(const sim_op *op);

#endif
