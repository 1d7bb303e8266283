/* SPDX-License-Identifier: Apache-2.0
 * A training loop that saves a series of checkpoints, stops when it is told to, and goes on from the
 * newest good one when it is started again, on any number of ranks.
 *
 *     mpirun -n 2 ./train_loop RUN 100      trains to step 100
 *     mpirun -n 3 ./train_loop RUN 200      goes on from there
 *
 * The "training" adds 1 to every weight and lets every momentum be the step, so that the program can
 * check what it has got back. Exit status 75: told to stop (SIGTERM, SIGUSR2, end of the job's time),
 * the job should be started again.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <allshard.h>

enum { ROWS = 1024, COLUMNS = 256, START_AGAIN = 75 };

typedef struct run {
    allshard *as;
    allshard_series *series;
    allshard_state *parts[2]; /* model, optimizer */
    int rank, ranks;
    int64_t first, rows; /* of the weights, on this rank */
    float *weight;
    float *momentum;
    uint64_t random; /* this rank's generator */
} run;

static void log_line(int level, const char *text, void *user)
{
    (void)user;
    if (level <= ALLSHARD_LOG_WARNING) {
        fprintf(stderr, "%s\n", text);
    }
}

static void stop(const char *what, const run *r)
{
    allshard_error e = {.size = sizeof e};
    (void)allshard_last_error(r->as, &e);
    fprintf(stderr, "%s: %s: %s\n", what, allshard_error_name(e.code), e.text);
#ifdef ALLSHARD_NO_MPI
    exit(1);
#else
    MPI_Abort(MPI_COMM_WORLD, 1);
#endif
}

/* The parts of a checkpoint: each a Hugging Face checkpoint of its own in one folder. */
static void declare(run *r)
{
    int64_t shape[] = {ROWS, COLUMNS}, offset[] = {r->first, 0}, local[] = {r->rows, COLUMNS};
    allshard_tensor t = {.size = sizeof t, .dtype = ALLSHARD_F32, .ndim = 2};
    t.shape = shape, t.offset = offset, t.local_shape = local;
    if (allshard_state_create(&r->parts[0], r->as, "model") ||
        allshard_state_create(&r->parts[1], r->as, "optimizer")) {
        stop("allshard_state_create", r);
    }
    t.name = "weight", t.data = r->weight;
    if (allshard_state_tensor(r->parts[0], &t)) {
        stop("declaring the weights", r);
    }
    t.name = "momentum", t.data = r->momentum;
    if (allshard_state_tensor(r->parts[1], &t)) {
        stop("declaring the momentum", r);
    }
    const char config[] = "{\"model_type\": \"example\"}\n"; /* small files go with the weights */
    if (allshard_state_file(r->parts[0], "config.json", config, sizeof config - 1)) {
        stop("allshard_state_file", r);
    }
}

/* Opens the series: where it lies, what stays, when to save. */
static void open_series(run *r, const char *root)
{
    allshard_series_options o = {.size = sizeof o};
    o.keep_last = 3;                    /* the three newest stay, */
    o.keep_every = 50;                  /* and steps 50, 100, 150, … */
    o.every_steps = 10;                 /* a save every 10 steps, */
    o.every_s = 30 * 60;                /* but at least every half hour */
    o.mtbf_s = 24 * 3600;               /* and as often as a job that fails once a day asks for */
    o.signals = ALLSHARD_SIGNALS_CATCH; /* SIGTERM and SIGUSR2: save and stop */
    if (allshard_series_open(&r->series, r->as, root, &o) != ALLSHARD_OK) {
        stop("allshard_series_open", r);
    }
}

/* The step that the run goes on from; 0: a fresh one. */
static int64_t resume(run *r)
{
    allshard_loaded from = {.size = sizeof from};
    int code = allshard_series_load(r->series, ALLSHARD_NEWEST, r->parts, 2, NULL, &from);
    if (code == ALLSHARD_NOT_FOUND) {
        if (r->rank == 0) {
            printf("a fresh run on %d ranks\n", r->ranks);
        }
        return 0;
    }
    if (code != ALLSHARD_OK) {
        stop("allshard_series_load", r);
    }
    if (from.rank_state_bytes == sizeof r->random) {
        r->random = *(const uint64_t *)from.rank_state; /* this rank was there before */
    }
    for (int64_t i = 0; i < r->rows * COLUMNS; i++) {
        if (r->weight[i] != (float)from.step || r->momentum[i] != (float)from.step) {
            fprintf(stderr, "rank %d: what came back is not that of step %lld\n", r->rank,
                    (long long)from.step);
            exit(1);
        }
    }
    if (r->rank == 0) {
        printf("going on from %s: step %lld, saved by %d ranks, loaded by %d\n", from.name,
               (long long)from.step, (int)from.world, r->ranks);
    }
    return from.step;
}

static void train(run *r, int64_t step)
{
    r->random = r->random * 6364136223846793005u + 1442695040888963407u;
    for (int64_t i = 0; i < r->rows * COLUMNS; i++) {
        r->weight[i] += 1;
        r->momentum[i] = (float)step;
    }
}

/* What a checkpoint of this step is to hold. */
static allshard_checkpoint checkpoint(run *r, int64_t step)
{
    allshard_checkpoint c = {.size = sizeof c, .step = step};
    c.states = r->parts, c.state_count = 2;
    c.rank_state = &r->random, c.rank_state_bytes = sizeof r->random;
    c.metric = "loss", c.metric_value = 10.0 / (double)step;
    return c;
}

/* Trains to the last step, or until told to stop; the exit status. */
static int loop(run *r, int64_t step, int64_t last)
{
    int64_t saved = step;
    allshard_verdict v = {.size = sizeof v};
    while (step < last) {
        train(r, ++step);
        if (allshard_series_poll(r->series, step, &v) != ALLSHARD_OK) {
            stop("allshard_series_poll", r);
        }
        if (v.failed && r->rank == 0) {
            fprintf(stderr, "a save failed (%s); the checkpoint before it stays\n",
                    allshard_error_name(v.failed));
        }
        if (v.save) {
            allshard_checkpoint c = checkpoint(r, step);
            if (allshard_series_isave(r->series, &c) != ALLSHARD_OK) {
                stop("allshard_series_isave", r); /* or go on, and try again later */
            }
            saved = step; /* the weights may change again */
        }
        if (v.stop) {
            break;
        }
    }
    if (saved != step) {
        allshard_checkpoint c = checkpoint(r, step);
        c.note = "the last step";
        if (allshard_series_save(r->series, &c) != ALLSHARD_OK) {
            stop("allshard_series_save", r);
        }
    }
    if (allshard_series_wait(r->series, NULL) != ALLSHARD_OK) {
        stop("allshard_series_wait", r); /* the last save must not be lost in silence */
    }
    if (r->rank == 0) {
        printf("step %lld of %lld is saved%s\n", (long long)step, (long long)last,
               v.stop ? ": told to stop" : "");
    }
    return step < last && v.requeue ? START_AGAIN : 0;
}

int main(int argc, char **argv)
{
    run r = {.ranks = 1};
    allshard_comm comm = ALLSHARD_COMM_SELF;
#ifndef ALLSHARD_NO_MPI
    MPI_Init(&argc, &argv);
    comm = MPI_COMM_WORLD;
    MPI_Comm_rank(comm, &r.rank);
    MPI_Comm_size(comm, &r.ranks);
#endif
    const char *root = argc > 1 ? argv[1] : "example-run";
    long long last = argc > 2 ? atoll(argv[2]) : 100;
    r.first = (int64_t)ROWS * r.rank / r.ranks;
    r.rows = (int64_t)ROWS * (r.rank + 1) / r.ranks - r.first;
    r.random = (uint64_t)r.rank + 1;
    r.weight = calloc((size_t)r.rows * COLUMNS + 1, sizeof *r.weight);
    r.momentum = calloc((size_t)r.rows * COLUMNS + 1, sizeof *r.momentum);
    allshard_options options = {.size = sizeof options, .log = log_line};
    if (!r.weight || !r.momentum || allshard_open(&r.as, comm, &options) != ALLSHARD_OK) {
        return 1;
    }
    declare(&r);
    open_series(&r, root);
    int status = loop(&r, resume(&r), last);
    if (allshard_series_close(r.series) != ALLSHARD_OK) {
        stop("allshard_series_close", &r);
    }
    allshard_state_free(r.parts[0]);
    allshard_state_free(r.parts[1]);
    allshard_close(r.as);
    free(r.weight);
    free(r.momentum);
#ifndef ALLSHARD_NO_MPI
    MPI_Barrier(comm); /* a launcher kills the others when one leaves with another status than 0 */
    MPI_Finalize();
#endif
    return status;
}
