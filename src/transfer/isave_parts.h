/* SPDX-License-Identifier: Apache-2.0
 * What the files of a nonblocking save share: isave_begin.c stages, isave.c moves it on,
 * isave_jobs.c is what the thread in the background does, isave_report.c tells the main process.
 */
#ifndef ALLSHARD_TRANSFER_ISAVE_PARTS_H
#define ALLSHARD_TRANSFER_ISAVE_PARTS_H

#include <stdatomic.h>

#include "commit/transaction.h"
#include "transfer/isave.h"
#include "transfer/lanes.h"
#include "transfer/outbox.h"
#include "transfer/publish.h"
#include "transfer/stage.h"

/* What is under way; see step_on in isave.c. */
enum as_isave_step {
    AS_ISAVE_WRITING,    /* background: blocks are written and synced */
    AS_ISAVE_WRITTEN,    /* agreement: by all ranks, or not */
    AS_ISAVE_CHECKING,   /* background: modes are set, bytes read back, if asked for */
    AS_ISAVE_CHECKED,    /* agreement */
    AS_ISAVE_REPORTING,  /* each rank's checksums and meter go to the main process */
    AS_ISAVE_COMMITTING, /* background, main process only: the save is made to count */
    AS_ISAVE_COMMITTED,  /* agreement: it does, or not */
    AS_ISAVE_CLEANING,   /* background, main process only: the old files go, or the new ones */
    AS_ISAVE_OVER
};

enum { AS_REPORT_SUMS = 32 << 10 }; /* as_block_sum, in one message */

/* One message to the main process; more follow while `left` is not 0. */
typedef struct as_report {
    int64_t own_bytes; /* in the first; then 0 */
    int64_t left;      /* sums that follow in later messages */
    int64_t cancelled; /* asked for on that rank */
    as_meter meter;
    uint64_t count;
    as_block_sum sums[AS_REPORT_SUMS];
} as_report;

struct as_isave {
    as_isave_call call;
    char *directory;      /* heap; call.save.directory */
    char *cpus;           /* heap; call.manners */
    char *priority;       /* heap */
    as_manners_home home; /* how the calling thread runs */
    as_session *session;
    as_lane *lane; /* NULL: given back */
    enum as_staging staging;
    int copiers;  /* threads that stage */
    bool crowded; /* the background has no processor of its own */
    char staging_reason[160];

    as_stage stage;
    as_engine_choice storage;
    as_outbox *outbox;
    as_txn *txn; /* main process; the background's while a job is under way */
    as_log log;  /* of jobs */
    as_publication publication;
    as_buffer checksums; /* as_block_sum[]: of this rank's small files, then of what it wrote */
    size_t small_sums;   /* bytes of the former */
    as_write_watch watch;
    _Atomic int64_t steps; /* of jobs that write no blocks */
    _Atomic int phase;     /* enum as_phase */

    enum as_isave_step step;
    as_error error;

    as_report *report; /* heap; what is being sent, or was received */
    as_message message;
    size_t sums_told;
    int received_from; /* main process: the rank of the report that is on its way */
    int ranks_told;    /* main process: ranks that are through */

    as_meter meter;    /* of this rank; the background's while the writing job is under way */
    as_meter *meters;  /* main process: [ranks] */
    as_meter written;  /* of the writing job */
    int64_t own_bytes; /* that this rank writes */
    int64_t memory;    /* bytes of the ring */
    int64_t touched;   /* bytes of memory that were had for this save */
    int64_t begun;     /* as_clock */
    int64_t staged_at;
    int64_t durable_at; /* 0: not yet */
    int64_t over_at;
    int64_t blocking; /* nanoseconds in calls */

    bool is_main;
    bool told;       /* the first report of this rank was made */
    bool receiving;  /* main process: a report is on its way */
    bool lost;       /* no agreement can be had any more */
    bool durable;    /* main process: it counts, and all moves are made */
    bool waited_for; /* in as_isave_wait, which counts looks within it, too */
};

/* Between the steps of a job, from any thread: AS_CANCELLED if that was asked for. */
int as_isave_look(void *user, as_error *e);

/* While no job is under way: what the background measured is added to s->meter. */
void as_isave_merge_meters(as_isave *s);

/* Puts what was measured so far into s->meter. */
void as_isave_settle_meter(as_isave *s);

/* Jobs; `user` is the as_isave. */
int as_isave_job_begin(void *user, as_error *e);  /* main process */
int as_isave_job_write(void *user, as_error *e);  /* all ranks */
int as_isave_job_check(void *user, as_error *e);  /* all ranks */
int as_isave_job_commit(void *user, as_error *e); /* main process */
int as_isave_job_clean(void *user, as_error *e);  /* main process */

/* Is anything to be done by as_isave_job_check? The same on all ranks. */
bool as_isave_checks(const as_isave *s);

/* Moves the reports on. *done: this rank's is sent; main process: all have come. AS_MPI; never
 * blocks. */
int as_isave_report(as_isave *s, bool *done, as_error *e);

#endif
