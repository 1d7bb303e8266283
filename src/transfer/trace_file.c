/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/trace_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/sys.h"
#include "comm/collect.h"

/* CLOCK_REALTIME − as_clock, so that the hosts' times stand on one axis. */
static int64_t clock_offset(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec - as_clock();
}

static int put_name(as_buffer *out, const char *kind, int rank, int thread, const char *name,
                    as_error *e)
{
    return as_buffer_format(out, e,
                            ",\n{\"name\":\"%s\",\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"args\":"
                            "{\"name\":\"%s\"}}",
                            kind, rank, thread, name);
}

/* When the first span of all ranks began, by CLOCK_REALTIME; 0 if there is none. Collective. */
static int find_origin(const as_session *s, int64_t offset, int64_t *origin, as_error *e)
{
    const as_trace *trace = s->meter.trace;
    int64_t least = INT64_MAX; /* spans are in the order of their ends */
    for (size_t i = 0; trace && i < as_trace_count(trace); i++) {
        const as_span *span = as_trace_at(trace, i);
        least = span ? as_min_i64(least, span->begin + offset) : least;
    }
    as_error trouble = AS_ERROR_INIT;
    int64_t negative = -least;
    int code = as_comm_max(s->comm, &negative, 1, &trouble);
    *origin = negative == -INT64_MAX ? 0 : -negative;
    return code == AS_OK ? AS_OK : as_error_pass(e, &trouble);
}

static int put_span(as_buffer *out, int rank, const as_span *s, int64_t shift, as_error *e)
{
    int64_t begin = s->begin + shift;
    int64_t time = s->end - s->begin;
    return as_buffer_format(
        out, e,
        ",\n{\"name\":\"%s\",\"ph\":\"X\",\"pid\":%d,\"tid\":%d,\"ts\":%lld.%03d,\"dur\":%lld.%03d,"
        "\"args\":{\"bytes\":%lld}}",
        s->name, rank, s->thread, (long long)(begin / 1000), (int)(begin % 1000),
        (long long)(time / 1000), (int)(time % 1000), (long long)s->bytes);
}

static const char *thread_name(int thread, char *text, size_t size)
{
    if (thread == 0) {
        return "main";
    }
    if (thread == AS_TRACE_BACKGROUND) {
        return "background";
    }
    if (thread == AS_TRACE_DEVICE) {
        return "devices";
    }
    (void)snprintf(text, size, "io %d", thread);
    return text;
}

/* This rank's events, each after a comma and a line end; `shift` makes times of its clock times of
 * the trace. */
static int put_events(const as_session *s, int64_t shift, as_buffer *out, as_error *e)
{
    const as_trace *trace = s->meter.trace;
    int rank = as_comm_rank(s->comm);
    char host[64] = "?";
    char text[128];
    bool seen[AS_TRACE_THREADS] = {true};
    (void)gethostname(host, sizeof host - 1);
    for (char *c = host; *c; c++) {
        *c = *c == '"' || *c == '\\' || (unsigned char)*c < ' ' ? '?' : *c; /* it goes into JSON */
    }
    (void)snprintf(text, sizeof text, "rank %d (%s)", rank, host);
    int code = put_name(out, "process_name", rank, 0, text, e);
    for (size_t i = 0; i < as_trace_count(trace) && code == AS_OK; i++) {
        const as_span *span = as_trace_at(trace, i);
        if (span) {
            seen[as_min_i64(span->thread, AS_TRACE_THREADS - 1)] = true;
            code = put_span(out, rank, span, shift, e);
        }
    }
    for (int t = 0; t < AS_TRACE_THREADS && code == AS_OK; t++) {
        if (seen[t]) {
            code = put_name(out, "thread_name", rank, t, thread_name(t, text, sizeof text), e);
        }
    }
    return code;
}

typedef struct trace_file {
    int fd;
    int64_t size;
    const char *path;
} trace_file;

static int append(void *user, int from, const char *bytes, size_t count, as_error *e)
{
    (void)from;
    trace_file *f = user;
    int code = as_write_all(f->fd, bytes, count, f->size, f->path, e);
    f->size += (int64_t)count;
    return code;
}

static int begin_file(trace_file *f, int64_t origin, as_error *e)
{
    char head[256];
    int length = snprintf(head, sizeof head,
                          "{\"displayTimeUnit\":\"ms\",\"otherData\":{\"origin_unix_ns\":\"%lld\"},"
                          "\"traceEvents\":[\n"
                          "{\"name\":\"allshard\",\"ph\":\"M\",\"pid\":0,\"args\":{}}",
                          (long long)origin);
    f->fd = as_open(AT_FDCWD, f->path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (f->fd < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot write the trace", f->path);
    }
    return append(f, 0, head, (size_t)length, e);
}

int as_trace_file_write(as_session *s, const char *path, as_error *e)
{
    as_buffer events = AS_BUFFER_INIT;
    trace_file f = {.fd = -1, .path = path};
    bool is_main = as_comm_rank(s->comm) == 0;
    int64_t offset = clock_offset();
    int64_t origin = 0;
    int code = find_origin(s, offset, &origin, e);
    if (code != AS_OK) {
        return code;
    }
    if (e->code == AS_OK) {
        (void)put_events(s, offset - origin, &events, e);
    }
    code = as_comm_agree(s->comm, e); /* an older trace stays if there will be no new one */
    if (code == AS_OK) {
        if (is_main) {
            (void)begin_file(&f, origin, e);
        }
        code = as_comm_collect(s->comm, &events, append, &f, e);
    }
    if (code == AS_OK && is_main) {
        (void)append(&f, 0, "\n]}\n", 4, e);
    }
    if (f.fd >= 0) {
        (void)as_sys_table.close(f.fd);
    }
    if (s->meter.trace && as_trace_dropped(s->meter.trace)) {
        as_log_say(&s->log, AS_LOG_WARNING,
                   "the trace is full: %zu spans of this rank are not in it",
                   as_trace_dropped(s->meter.trace));
    }
    as_buffer_free(&events);
    return code == AS_OK ? as_comm_agree(s->comm, e) : code;
}
