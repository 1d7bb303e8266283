/* SPDX-License-Identifier: Apache-2.0
 * What the thread in the background does for a nonblocking save: all that touches the disk, and no
 * MPI call.
 */
#include <time.h>

#include "transfer/gds.h"
#include "transfer/isave_parts.h"
#include "transfer/read_back.h"
#include "transfer/storage.h"

enum { LET_OUT = 2000000 /* nanoseconds */ };

static as_tally *tally(as_isave *s)
{
    return &s->written.tally;
}

int as_isave_look(void *user, as_error *e)
{
    as_isave *s = user;
    (void)atomic_fetch_add(&s->steps, 1);
    if (!atomic_load(&s->watch.stop)) {
        return AS_OK;
    }
    return as_fail(e, AS_CANCELLED, 0,
                   "%s: the save was cancelled; the folder holds what it held before",
                   s->directory);
}

int as_isave_job_begin(void *user, as_error *e)
{
    as_isave *s = user;
    int64_t from = as_clock();
    as_txn_options options = {.mode = (mode_t)s->call.save.mode,
                              .inner = s->call.save.inner,
                              .tick = {.call = as_isave_look, .self = s}};
    int code = as_txn_begin(&s->txn, s->directory, &options, &s->log, e);
    (void)as_meter_end(&s->written, "begin", from, 0, &tally(s)->begin);
    return code;
}

static int refresh_lock(void *user, as_error *e)
{
    as_isave *s = user;
    int code = as_isave_look(s, e);
    return code == AS_OK && s->txn ? as_txn_refresh(s->txn, e) : code;
}

static int open_staged(void *user, int32_t file, int *fd, const char **name, as_error *e)
{
    as_isave *s = user;
    return as_stage_open(&s->stage, file, fd, name, e);
}

static int open_written(void *user, int32_t file, int *fd, const char **name, as_error *e)
{
    as_isave *s = user;
    return as_stage_open_written(&s->stage, file, fd, name, e);
}

static as_transfer transfer_of(as_isave *s)
{
    bool sums = !s->call.save.no_checksums || s->call.save.read_back;
    as_transfer t = {
        .plan = &s->stage.prepared->plan,
        .engine = as_engine_by_name(s->storage.engine),
        .engine_options = {.threads = s->call.io_threads,
                           .bind_workers = s->call.manners.cpus != NULL},
        .meter = &s->written,
        .checksums = sums ? &s->checksums : NULL,
        .open_file = open_staged,
        .open_written = s->call.save.read_back ? open_written : NULL,
        .tick = refresh_lock,
        .user = s,
    };
    as_probe_options(&s->storage, &t.engine_options);
    return t;
}

/* Ranks come out of the last agreement of allshard_isave one after the other. Where they share
 * processors, a thread that is busy from the first moment on takes them from those that are still to
 * come out: for many times as long as it waits here. */
static void let_out(const as_isave *s)
{
    if (s->crowded && s->staging == AS_STAGE_SNAPSHOT) {
        (void)nanosleep(&(struct timespec){.tv_nsec = LET_OUT}, NULL);
    }
}

int as_isave_job_write(void *user, as_error *e)
{
    as_isave *s = user;
    let_out(s);
    int64_t from = as_clock();
    as_error refused = AS_ERROR_INIT;
    if (as_manners_take(&s->call.manners, &s->home, &refused) != AS_OK) {
        as_log_say(&s->log, AS_LOG_WARNING, "%s", as_error_text(&refused));
        as_error_clear(&refused);
    }
    as_transfer t = transfer_of(s);
    int code = as_write_out(&t, s->outbox, s->call.manners.bytes_per_s, &s->watch, e);
    as_storage_explain(&s->written, &s->storage);
    as_gds_explain_nonblocking(s->storage.gds, &s->written);
    (void)as_meter_end(&s->written, "transfer", from, t.plan->own_bytes, &tally(s)->transfer);
    return code;
}

bool as_isave_checks(const as_isave *s)
{
    return s->call.save.read_back || as_stage_settles(&s->stage);
}

int as_isave_job_check(void *user, as_error *e)
{
    as_isave *s = user;
    int64_t from = as_clock();
    int code = as_stage_settle_own(&s->stage, e);
    if (code == AS_OK && s->call.save.read_back) {
        as_transfer t = transfer_of(s);
        code =
            as_read_back_own(&t, s->small_sums, s->lane->reserve.base, s->lane->reserve.bytes, e);
    }
    (void)as_meter_end(&s->written, "check", from, 0, &tally(s)->transfer);
    return code;
}

int as_isave_job_commit(void *user, as_error *e)
{
    as_isave *s = user;
    int64_t from = as_clock();
    int code = as_publication_commit(&s->publication, e);
    s->durable = code == AS_OK;
    (void)as_meter_end(&s->written, "commit", from, 0, &tally(s)->commit);
    return code;
}

/* The save counts, or not, whatever happens here: a fault is told, not returned. */
int as_isave_job_clean(void *user, as_error *e)
{
    (void)e;
    as_isave *s = user;
    int64_t from = as_clock();
    if (s->durable) {
        as_error own = AS_ERROR_INIT;
        if (as_txn_finish(s->txn, &own) != AS_OK) {
            as_log_say(&s->log, AS_LOG_WARNING,
                       "the save is complete, but its leftovers wait for `allshard recover`: %s",
                       as_error_text(&own));
        }
        as_error_clear(&own);
    } else {
        as_txn_abort(s->txn);
    }
    s->txn = NULL;
    (void)as_meter_end(&s->written, "clean", from, 0, &tally(s)->clean);
    return AS_OK;
}
