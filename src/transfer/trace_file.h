/* SPDX-License-Identifier: Apache-2.0
 * The spans of all ranks as one file in Chrome's trace-event format ("JSON Object Format" with
 * complete events,
 * https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMh4h6I0nSsKchNAySU).
 */
#ifndef ALLSHARD_TRANSFER_TRACE_FILE_H
#define ALLSHARD_TRANSFER_TRACE_FILE_H

#include "transfer/session.h"

/* The main process writes `path`, anew. A process of the trace is a rank, a row one of its
 * threads; times are microseconds since the first span of all, by each host's own clock: small
 * numbers, since readers that take them as doubles would round those since 1970 to a quarter of
 * a microsecond, and spans that touch would overlap. That moment is in otherData. Collective. */
int as_trace_file_write(as_session *s, const char *path, as_error *e);

#endif
