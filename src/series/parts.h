/* SPDX-License-Identifier: Apache-2.0
 * What the files of a series share: open.c makes it, save.c begins a save, flight.c moves it on,
 * publish.c is what the main process's thread does for it, load.c loads.
 */
#ifndef ALLSHARD_SERIES_PARTS_H
#define ALLSHARD_SERIES_PARTS_H

#include <stdatomic.h>

#include "commit/transaction.h"
#include "series/history.h"
#include "series/members.h"
#include "series/series.h"
#include "transfer/background.h"
#include "transfer/prepare.h"

/* What is under way; see step_on in flight.c. */
enum as_series_step {
    AS_SERIES_IDLE,
    AS_SERIES_PARTS,  /* the parts' nonblocking saves */
    AS_SERIES_COMMIT, /* background, main process only: they become one checkpoint */
    AS_SERIES_AGREE,  /* agreement: it counts, or not */
    AS_SERIES_OVER    /* nobody has taken the outcome yet */
};

/* A save, from its begin to the end of its outcome. */
typedef struct as_saving {
    enum as_series_step step;
    char *name;     /* of the new folder; heap */
    size_t count;   /* of parts, that of the ranks' state among them */
    bool has_ranks; /* there is such a part, the last one */
    as_record record;
    as_names tags;
    char *note;          /* heap; NULL: none */
    int64_t *rank_bytes; /* [ranks]: of the ranks' state; heap; main process: for the manifest */
    mode_t mode;         /* of files */
    bool replaces;       /* main process: a checkpoint of the name is there */

    as_isave *parts[AS_MOST_PARTS + 1]; /* nonblocking: of each part; else NULL */
    as_error error;
    int64_t begun;
    int64_t durable_at; /* 0: not yet */
    int64_t blocked;    /* nanoseconds in calls */
    bool waited_for;    /* in as_series_join, which counts looks within it, too */
    int measured;       /* parts that are in: */
    as_meter meter;     /* sums over the parts of a blocking save */
    as_meter *meters;   /* main process: of all ranks */
} as_saving;

struct as_series {
    as_session *session;
    char *root; /* absolute; heap */
    as_folder_pattern *pattern;
    as_keep_rules keep;
    char *metric;  /* heap; keep.metric */
    char gone[48]; /* AS_GONE_PREFIX…: where this series removes, the same on all ranks */
    as_comm *comm; /* a twin, for agreements that nobody waits for */
    as_background *background;
    as_log log; /* of jobs */
    int rank;
    int ranks;
    bool is_main;
    bool sweeping;      /* the job that is under way removes what went; nobody waits for it */
    atomic_int stop;    /* the save is to be given up */
    atomic_llong steps; /* of jobs */

    char *parent;    /* heap: the checkpoint that this run saved or loaded last; NULL: none yet */
    as_names in_use; /* those that this run loaded from */
    as_members seen; /* main process: the root at the last retention; of its background */
    as_saving saving;

    as_txn *txn;  /* main process; the background's while a job is under way */
    bool counts;  /* main process: the new checkpoint is in its place, durable ... */
    bool settled; /* ... and all that had to be journaled is done */
    bool lost;    /* no agreement can be had any more */

    as_state ranks_state; /* of the last save */
    bool has_ranks_state;
    as_plan_cache ranks_plans;

    /* Main process: the save that failed last, for the history; heap */
    char *failed_name;
    char *failed_text;
    int64_t failed_step;

    /* Of the last load; as_series_loaded points here. */
    char *loaded_name;
    as_fields loaded_fields;
    char *loaded_rank_state;
    size_t loaded_rank_bytes;
};

/* Between the steps of a job, from any thread: AS_CANCELLED if that was asked for. */
int as_series_look(void *series, as_error *e);

/* Jobs; `user` is the as_series. */
int as_series_job_commit(void *user, as_error *e); /* main process */
int as_series_job_abort(void *user, as_error *e);  /* main process */
int as_series_job_sweep(void *user, as_error *e);  /* all ranks */

/* The main process: a line of the series' history, whose failure is only told. */
void as_series_note_event(as_series *r, const as_log *log, const as_event *event);

/* The ranks' state as a part: makes *s with the piece of a rank, named by its number. AS_NOMEM. */
int as_rank_state_declare(as_state *s, int rank, void *bytes, int64_t count, as_error *e);

/* Before as_series_job_abort, which the save and its error may not outlive. Main process. */
void as_series_keep_failure(as_series *r);

/* All parts are staged, or saved: the machine goes on from here. */
void as_series_set_out(as_series *r, enum as_series_step step);

/* Adds the session's figures of the last operation to those of the save. */
void as_saving_add_figures(as_saving *s, const as_session *session);

/* Makes them the session's. */
void as_saving_publish_figures(as_saving *s, as_session *session, enum as_operation operation);

/* Gives up what a save holds but its transaction and its parts' saves. */
void as_saving_free(as_saving *s);

#endif
