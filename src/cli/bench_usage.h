/* SPDX-License-Identifier: Apache-2.0
 * What a stretch of work cost this process: processor time, bytes to and from storage, memory.
 */
#ifndef ALLSHARD_CLI_BENCH_USAGE_H
#define ALLSHARD_CLI_BENCH_USAGE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct as_usage {
    int64_t processor; /* nanoseconds, user and system, all threads of the process */
    int64_t written;   /* bytes that it had written to storage; −1: the kernel does not tell */
    int64_t read;      /* bytes that it had read from storage; −1 */
    int64_t peak;      /* most bytes of memory (VmHWM); −1 */
    bool peak_reset;   /* as_usage_begin: the kernel forgot the peaks before */
} as_usage;

/* Begins to count, and makes the kernel forget the peak of memory so far where it lets us. */
void as_usage_begin(as_usage *u);

/* Turns what as_usage_begin noted into what was used since: peak is then what memory had grown by
 * at the most. −1 stays −1. */
void as_usage_end(as_usage *u);

/* Processor seconds of all threads of this process, and of the calling one. */
double as_process_seconds(void);
double as_thread_seconds(void);

/* A number from a file of lines such as "VmHWM:  123 kB" or "read_bytes: 5"; −1 if it is not there.
 * `key` is with its colon. kB are taken as 1024 bytes. */
int64_t as_proc_number(const char *path, const char *key);

#endif
