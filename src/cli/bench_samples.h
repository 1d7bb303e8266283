/* SPDX-License-Identifier: Apache-2.0
 * What a benchmark measures, by name, and how the samples of several repetitions are summed up.
 */
#ifndef ALLSHARD_CLI_BENCH_SAMPLES_H
#define ALLSHARD_CLI_BENCH_SAMPLES_H

#include <stddef.h>

/* X(identifier, group, key). Seconds are those of the slowest rank, bytes and processor seconds the
 * sum over ranks, peaks the largest of any rank. What could not be measured is NaN. From
 * DIRECT_GIB_S on they are those of --baseline, from COPY_GIB_S on those of --nonblocking. */
#define AS_METRICS(X)                                                                              \
    X(SAVE_GIB_S, "save", "write_gib_s")                                                           \
    X(SAVE_DURABLE_S, "save", "durable_s")                                                         \
    X(SAVE_BLOCKING_S, "save", "blocking_s")                                                       \
    X(SAVE_COUNTS_S, "save", "counts_s")                                                           \
    X(SAVE_PLAN_S, "save", "plan_s")                                                               \
    X(SAVE_PLAN_CACHED, "save", "plan_cached")                                                     \
    X(SAVE_BEGIN_S, "save", "begin_s")                                                             \
    X(SAVE_TRANSFER_S, "save", "transfer_s")                                                       \
    X(SAVE_COPY_S, "save", "copy_s")                                                               \
    X(SAVE_CHECKSUM_S, "save", "checksum_s")                                                       \
    X(SAVE_IO_S, "save", "io_s")                                                                   \
    X(SAVE_SYNC_S, "save", "sync_s")                                                               \
    X(SAVE_WAIT_S, "save", "wait_s")                                                               \
    X(SAVE_COMMIT_S, "save", "commit_s")                                                           \
    X(SAVE_CLEAN_S, "save", "clean_s")                                                             \
    X(SAVE_CPU_S, "save", "cpu_s")                                                                 \
    X(SAVE_CPU_S_PER_GB, "save", "cpu_s_per_gb")                                                   \
    X(SAVE_WRITTEN, "save", "bytes_written")                                                       \
    X(SAVE_WRITTEN_RATIO, "save", "written_ratio")                                                 \
    X(SAVE_READ, "save", "bytes_read")                                                             \
    X(SAVE_PEAK, "save", "peak_bytes")                                                             \
    X(SAVE_SENT, "save", "bytes_sent")                                                             \
    X(SAVE_SHARED, "save", "bytes_shared")                                                         \
    X(SAVE_UNCOPIED, "save", "bytes_uncopied")                                                     \
    X(LOAD_GIB_S, "load", "read_gib_s")                                                            \
    X(LOAD_S, "load", "load_s")                                                                    \
    X(LOAD_PLAN_S, "load", "plan_s")                                                               \
    X(LOAD_PLAN_CACHED, "load", "plan_cached")                                                     \
    X(LOAD_BEGIN_S, "load", "begin_s")                                                             \
    X(LOAD_TRANSFER_S, "load", "transfer_s")                                                       \
    X(LOAD_COPY_S, "load", "copy_s")                                                               \
    X(LOAD_CHECKSUM_S, "load", "checksum_s")                                                       \
    X(LOAD_IO_S, "load", "io_s")                                                                   \
    X(LOAD_SYNC_S, "load", "sync_s")                                                               \
    X(LOAD_WAIT_S, "load", "wait_s")                                                               \
    X(LOAD_COMMIT_S, "load", "commit_s")                                                           \
    X(LOAD_CPU_S, "load", "cpu_s")                                                                 \
    X(LOAD_CPU_S_PER_GB, "load", "cpu_s_per_gb")                                                   \
    X(LOAD_READ, "load", "bytes_read")                                                             \
    X(LOAD_READ_RATIO, "load", "read_ratio")                                                       \
    X(LOAD_PEAK, "load", "peak_bytes")                                                             \
    X(LOAD_SENT, "load", "bytes_sent")                                                             \
    X(LOAD_SHARED, "load", "bytes_shared")                                                         \
    X(LOAD_UNCOPIED, "load", "bytes_uncopied")                                                     \
    X(DIRECT_GIB_S, "plain_direct", "write_gib_s")                                                 \
    X(DIRECT_S, "plain_direct", "seconds")                                                         \
    X(BUFFERED_GIB_S, "plain_buffered", "write_gib_s")                                             \
    X(BUFFERED_S, "plain_buffered", "seconds")                                                     \
    X(READ_GIB_S, "plain_read", "read_gib_s")                                                      \
    X(READ_S, "plain_read", "seconds")                                                             \
    X(WRITE_RATIO, "ratios", "write")                                                              \
    X(READ_RATIO, "ratios", "read")                                                                \
    X(COPY_GIB_S, "memcpy", "gib_s")                                                               \
    X(COPY_S, "memcpy", "seconds")                                                                 \
    X(COPY_CPU_S, "memcpy", "cpu_s")                                                               \
    X(FLIGHT_BLOCKING_S, "nonblocking", "blocking_s")                                              \
    X(FLIGHT_STAGED_S, "nonblocking", "staged_s")                                                  \
    X(FLIGHT_STAGED_CPU_S, "nonblocking", "staged_cpu_s")                                          \
    X(FLIGHT_DURABLE_S, "nonblocking", "durable_s")                                                \
    X(FLIGHT_COUNTS_S, "nonblocking", "counts_s")                                                  \
    X(FLIGHT_PLAN_S, "nonblocking", "plan_s")                                                      \
    X(FLIGHT_PLAN_CACHED, "nonblocking", "plan_cached")                                            \
    X(FLIGHT_BEGIN_S, "nonblocking", "begin_s")                                                    \
    X(FLIGHT_TRANSFER_S, "nonblocking", "transfer_s")                                              \
    X(FLIGHT_COPY_S, "nonblocking", "copy_s")                                                      \
    X(FLIGHT_CHECKSUM_S, "nonblocking", "checksum_s")                                              \
    X(FLIGHT_IO_S, "nonblocking", "io_s")                                                          \
    X(FLIGHT_SYNC_S, "nonblocking", "sync_s")                                                      \
    X(FLIGHT_WAIT_S, "nonblocking", "wait_s")                                                      \
    X(FLIGHT_COMMIT_S, "nonblocking", "commit_s")                                                  \
    X(FLIGHT_CLEAN_S, "nonblocking", "clean_s")                                                    \
    X(FLIGHT_TESTS, "nonblocking", "tests")                                                        \
    X(FLIGHT_TESTS_S, "nonblocking", "tests_s")                                                    \
    X(FLIGHT_TEST_S, "nonblocking", "longest_test_s")                                              \
    X(FLIGHT_CPU_S, "nonblocking", "cpu_s")                                                        \
    X(FLIGHT_CPU_S_PER_GB, "nonblocking", "cpu_s_per_gb")                                          \
    X(FLIGHT_WRITTEN, "nonblocking", "bytes_written")                                              \
    X(FLIGHT_WRITTEN_RATIO, "nonblocking", "written_ratio")                                        \
    X(FLIGHT_READ, "nonblocking", "bytes_read")                                                    \
    X(FLIGHT_PEAK, "nonblocking", "peak_bytes")                                                    \
    X(FLIGHT_SENT, "nonblocking", "bytes_sent")                                                    \
    X(FLIGHT_SHARED, "nonblocking", "bytes_shared")                                                \
    X(FLIGHT_UNCOPIED, "nonblocking", "bytes_uncopied")                                            \
    X(FLIGHT_STAGED, "nonblocking", "bytes_staged")                                                \
    X(FLIGHT_SNAPSHOT, "nonblocking", "snapshot_bytes")                                            \
    X(FLIGHT_TOUCHED, "nonblocking", "touched_bytes")                                              \
    X(LOOP_PER_S, "loop", "per_s")                                                                 \
    X(LOOP_ALONE_PER_S, "loop", "alone_per_s")                                                     \
    X(LOOP_PER_CPU_S, "loop", "per_cpu_s")                                                         \
    X(LOOP_ALONE_PER_CPU_S, "loop", "alone_per_cpu_s")                                             \
    X(BLOCKING_RATIO, "ratios", "blocking")                                                        \
    X(STAGED_CPU_RATIO, "ratios", "staged_cpu")                                                    \
    X(DURABLE_RATIO, "ratios", "durable")                                                          \
    X(LOOP_LOSS, "ratios", "slowdown_percent")                                                     \
    X(LOOP_CPU_LOSS, "ratios", "cpu_slowdown_percent")

enum as_metric {
#define AS_METRIC_ENUM(id, group, key) AS_M_##id,
    AS_METRICS(AS_METRIC_ENUM)
#undef AS_METRIC_ENUM
        AS_METRIC_COUNT
};

const char *as_metric_group(enum as_metric m);
const char *as_metric_key(enum as_metric m);

/* One repetition. */
typedef struct as_sample {
    double value[AS_METRIC_COUNT];
} as_sample;

/* All NaN. */
void as_sample_init(as_sample *s);

typedef struct as_summary {
    double least, quarter, median, three_quarters, most; /* NaN: there is no value */
} as_summary;

/* Of one metric over the repetitions that have it. Quartiles lie between two samples by linear
 * interpolation. `scratch` has room for `count` numbers. */
as_summary as_summarize(const as_sample *samples, size_t count, enum as_metric m, double *scratch);

#endif
