/* SPDX-License-Identifier: Apache-2.0
 * What the last save or load did, and the trace of all.
 */
#include <string.h>

#include "api/handles.h"
#include "transfer/arguments.h"
#include "transfer/trace_file.h"

static double seconds(int64_t nanoseconds)
{
    return (double)nanoseconds * 1e-9;
}

int allshard_get_stats(const allshard *as, int rank, allshard_stats *out)
{
    const as_meter *m = as ? as_session_meter(&as->session, rank) : NULL;
    if (!m || !out || out->size < sizeof(size_t)) {
        return ALLSHARD_INVALID;
    }
    const as_tally *t = &m->tally;
    allshard_stats s = {
        .size = out->size,
        .operation = (int32_t)as->session.operation,
        .rank = rank,
        .ranks = as_comm_size(as->session.comm),
        .plan_cached = (int32_t)t->plan_cached,
        .plan_s = seconds(t->plan),
        .begin_s = seconds(t->begin),
        .transfer_s = seconds(t->transfer),
        .commit_s = seconds(t->commit),
        .clean_s = seconds(t->clean),
        .durable_s = seconds(t->durable),
        .total_s = seconds(t->total),
        .copy_s = seconds(t->copy),
        .checksum_s = seconds(t->checksum),
        .io_s = seconds(t->io),
        .sync_s = seconds(t->sync),
        .wait_s = seconds(t->wait),
        .bytes_written = t->bytes_written,
        .bytes_read = t->bytes_read,
        .bytes_direct = t->bytes_direct,
        .bytes_sent = t->bytes_sent,
        .bytes_shared = t->bytes_shared,
        .bytes_checksum = t->bytes_checksum,
        .messages = t->messages,
        .operations = t->operations,
        .memory = t->memory,
        .plan_steps = t->plan_steps,
        .engine = m->engine,
        .engine_reason = m->engine_reason,
        .staging = (int32_t)t->staging,
        .staging_reason = m->staging_reason,
        .blocking_s = seconds(t->blocking),
        .staged_s = seconds(t->staged),
        .background_s = seconds(t->background),
        .bytes_staged = t->bytes_staged,
        .snapshot_bytes = t->snapshot_bytes,
        .touched_bytes = t->touched_bytes,
        .bytes_device = t->bytes_device,
        .device = m->device,
        .device_reason = m->device_reason,
    };
    memcpy(out, &s, out->size < sizeof s ? out->size : sizeof s);
    return ALLSHARD_OK;
}

int allshard_trace_write(allshard *as, const char *path)
{
    if (!as) {
        return ALLSHARD_INVALID;
    }
    as_error *e = as_begin(as);
    if (as_meet(as, "allshard_trace_write") != AS_OK) {
        return as_end(as);
    }
    if (!as->session.meter.trace) {
        (void)as_fail(e, AS_INVALID, 0,
                      "nothing was remembered: open the context with allshard_options.trace set");
    } else if (!path || !*path) {
        (void)as_fail(e, AS_INVALID, 0, "no path is given to write the trace to");
    }
    as_argument same = as_argument_text("path", path);
    if (as_arguments_agree(as->session.comm, &same, 1, e) == AS_OK) {
        (void)as_trace_file_write(&as->session, path, e);
    }
    return as_end(as);
}
