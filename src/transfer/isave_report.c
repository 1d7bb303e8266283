/* SPDX-License-Identifier: Apache-2.0
 * When all bytes are on disk: each rank tells the main process what it wrote, in messages of a
 * bounded size, for which all memory was had when the save began.
 */
#include <string.h>

#include "base/checked.h"
#include "transfer/isave_parts.h"

enum { TAG_REPORT = 3 };

static size_t report_bytes(const as_report *r)
{
    return offsetof(as_report, sums) + (size_t)r->count * sizeof r->sums[0];
}

/* The next message of this rank. */
static void fill(as_isave *s)
{
    as_report *r = s->report;
    as_isave_settle_meter(s);
    size_t all = s->checksums.size / sizeof(as_block_sum);
    size_t count = (size_t)as_min_i64((int64_t)(all - s->sums_told), AS_REPORT_SUMS);
    r->own_bytes = s->sums_told == 0 ? s->stage.prepared->plan.own_bytes : 0;
    r->left = (int64_t)(all - s->sums_told - count);
    r->cancelled = atomic_load(&s->watch.stop);
    r->meter = s->meter;
    r->count = count;
    if (count) {
        memcpy(r->sums, (as_block_sum *)(void *)s->checksums.data + s->sums_told,
               count * sizeof r->sums[0]);
    }
    s->sums_told += count;
}

static int send(as_isave *s, bool *done, as_error *e)
{
    bool sent = false;
    int code = as_comm_test(s->lane->comm, &s->message, &sent, e);
    if (code != AS_OK || !sent) {
        return code;
    }
    *done = s->told && s->report->left == 0;
    if (!*done) {
        fill(s);
        s->told = true;
        code = as_comm_send(s->lane->comm, 0, TAG_REPORT, s->report, report_bytes(s->report),
                            &s->message, e);
    }
    return code;
}

/* What a rank has reported. After an error reports are taken all the same: their senders wait. */
static void take(as_isave *s, int from)
{
    const as_report *r = s->report;
    if (r->cancelled) {
        atomic_store(&s->watch.stop, 1);
    }
    s->meters[from] = r->meter;
    s->ranks_told += r->left == 0;
    if (s->error.code == AS_OK) {
        (void)as_publish_report(&s->publication, from, r->own_bytes, r->sums, (size_t)r->count,
                                r->left == 0, &s->error);
    }
}

static int receive(as_isave *s, bool *done, as_error *e)
{
    as_comm *c = s->lane->comm;
    if (!s->told) {
        s->told = true;
        do {
            fill(s);
            take(s, as_comm_rank(c));
        } while (s->report->left > 0);
    }
    int code = AS_OK;
    while (code == AS_OK && s->ranks_told < as_comm_size(c)) {
        if (!s->receiving) {
            bool there = false;
            size_t size;
            code = as_comm_probe(c, TAG_REPORT, &there, &s->received_from, &size, e);
            if (code != AS_OK || !there) {
                break;
            }
            code = as_comm_receive(c, s->received_from, TAG_REPORT, s->report, sizeof *s->report,
                                   &s->message, e);
            s->receiving = code == AS_OK;
        }
        /* It was begun, but the rest of a long one comes when its sender is in MPI again. */
        bool came = false;
        code = code == AS_OK ? as_comm_test(c, &s->message, &came, e) : code;
        if (code != AS_OK || !came) {
            break;
        }
        s->receiving = false;
        take(s, s->received_from);
    }
    *done = s->ranks_told == as_comm_size(c);
    return code;
}

int as_isave_report(as_isave *s, bool *done, as_error *e)
{
    *done = false;
    return s->is_main ? receive(s, done, e) : send(s, done, e);
}
