/* SPDX-License-Identifier: Apache-2.0
 * Inside the simulated cuFile: what is registered, failures on request, and the simulated devices.
 * The functions of this file are called with the lock held, unless told otherwise.
 */
#ifndef ALLSHARD_TESTS_SIMULATED_CUFILE_STATE_H
#define ALLSHARD_TESTS_SIMULATED_CUFILE_STATE_H

#include <pthread.h>
#include <sys/types.h>

#include "device/cuda_abi.h"
#include "io/cufile_abi.h"

enum { MOST_HANDLES = 1024, MOST_BUFFERS = 256 };

typedef struct sim_handle {
    bool used;
    int fd;
    dev_t device;
    ino_t file;
    int busy; /* reads and writes under way */
} sim_handle;

typedef struct sim_buffer {
    bool used;
    uint64_t base;
    size_t bytes;
    uint64_t allocation; /* that it lay in when it was registered */
    int busy;
} sim_buffer;

typedef struct sim_cufile {
    pthread_mutex_t lock;
    bool open;
    bool played;
    unsigned nvfs_major;
    unsigned nvfs_minor;
    int64_t most;
    uint64_t random;
    int delay;
    int64_t read;
    int64_t written;
    sim_handle handles[MOST_HANDLES];
    sim_buffer buffers[MOST_BUFFERS];
    char fault[256];
} sim_cufile;

extern sim_cufile sim_cufile_state;

/* Notes a broken rule; the first one stays. */
void sim_cufile_fault(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Counts a call; the code that it is to fail with, 0: none. */
int sim_cufile_count(const char *call);

/* Without the lock: waits as long as the next read or write takes. */
void sim_cufile_wait(int microseconds);
int sim_cufile_next_delay(void);

/* The allocation of the device memory that all of [at, at + bytes) lies in; 0: there is none. With
 * *cuda ≠ 0: CUDA failed. */
uint64_t sim_cufile_allocation(uint64_t at, size_t bytes, int *cuda);

/* 0, or what cuCtxGetCurrent says; AS_CU_INVALID_CONTEXT if there is none. */
int sim_cufile_context(void);

/* Bytes of device memory, at once. */
void sim_cufile_from(void *to, uint64_t from, size_t bytes);
void sim_cufile_to(uint64_t to, const void *from, size_t bytes);

#endif
