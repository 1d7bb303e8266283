/* SPDX-License-Identifier: Apache-2.0
 * Trains a small GPT-2 on several ranks, and survives: see README.md.
 *
 *     mpirun -n 4 train_gpt2 --tp 2 --steps 200 --every 50 --root checkpoints docs/cli.md
 */
#include "checkpoint.h"
#include "layers.h"
#include "random.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* One run, of this rank. */
typedef struct trainer {
    options o;
    ranks r;
    text t;
    model m;
    adamw a;
    checkpoints c;
    run now;
    int first, last;     /* this copy's sequences of each step's batch */
    uint16_t *in, *next; /* their tokens, and those that follow */
} trainer;

/* The copy's share of the batch may be nothing: then it only helps with the sums. */
static void trainer_open(trainer *t)
{
    const config c = config_of(t->o.size);
    ranks_open(&t->r, t->o.tp);
    text_open(&t->t, t->o.texts, t->o.text_count, (size_t)c.context + 1);
    t->first = (int)((int64_t)t->o.batch * t->r.dp_rank / t->r.dp);
    t->last = (int)((int64_t)t->o.batch * (t->r.dp_rank + 1) / t->r.dp);
    const int most = t->o.batch / t->r.dp + 1;
    model_open(&t->m, &c, &t->r, most);
    adamw_open(&t->a, &t->m.p, &t->r);
    t->in = take((size_t)(most * c.context), sizeof *t->in);
    t->next = take((size_t)(most * c.context), sizeof *t->next);
    checkpoints_open(&t->c, &t->o, &t->m, &t->a, &t->t);
}

static void trainer_close(trainer *t)
{
    checkpoints_close(&t->c);
    free(t->in), free(t->next);
    adamw_close(&t->a);
    model_close(&t->m);
    text_close(&t->t);
    ranks_close(&t->r);
}

static void begin(trainer *t)
{
    if (checkpoints_resume(&t->c, &t->now)) {
        return;
    }
    params_init(&t->m.p, t->m.weights, t->o.seed);
    t->now.sampler = random_mix(t->o.seed + 1);
    t->now.dropout = random_mix(t->now.sampler ^ random_mix((uint64_t)t->r.dp_rank + 1));
    checkpoints_tell(&t->c, "fresh", 0, "");
}

static void train_step(trainer *t)
{
    const config *c = &t->m.p.c;
    const int count = t->last - t->first, rows = count * c->context;
    const double tokens = (double)t->o.batch * c->context;
    text_draw(&t->t, &t->now.sampler, t->o.batch, t->first, t->last, c->context, t->in, t->next);
    model_forward(&t->m, t->in, count, c->context, &t->now.dropout);
    const double loss = cross_entropy(t->m.logits, t->next, rows, c->vocabulary, 1 / tokens);
    model_backward(&t->m, t->in, count, c->context);
    t->now.step++;
    adamw_step(&t->a, &t->m, t->now.step);
    t->now.loss = sum_over_dp(&t->r, loss) / tokens;
    if (t->r.rank == 0) {
        printf("step %" PRId64 " loss %.7f\n", t->now.step, t->now.loss);
        fflush(stdout);
    }
    const struct timespec pause = {t->o.delay_ms / 1000, t->o.delay_ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

/* For who wants to compare them with another program's. */
static void write_logits(trainer *t, const char *name)
{
    const size_t count = (size_t)(t->m.p.c.context * t->m.p.c.vocabulary);
    model_forward(&t->m, t->t.tokens, 1, t->m.p.c.context, NULL);
    if (t->r.rank == 0) {
        FILE *f = fopen(name, "wb");
        if (!f || fwrite(t->m.logits, sizeof(real), count, f) != count || fclose(f) != 0) {
            die("cannot write the logits to %s", name);
        }
    }
}

/* The exit status. */
static int train(trainer *t)
{
    int stop = 0, status = 0;
    begin(t);
    if (t->o.save_first) {
        checkpoints_save(&t->c, &t->now, "the beginning", 0);
    }
    while (!stop && t->now.step < t->o.steps) {
        train_step(t);
        stop = checkpoints_step(&t->c, &t->now, &status);
    }
    if (!stop && t->c.saved != t->now.step) {
        checkpoints_save(&t->c, &t->now, "the end", 1);
    }
    checkpoints_wait(&t->c);
    if (t->o.logits) {
        write_logits(t, t->o.logits);
    }
    checkpoints_tell(&t->c, "final", t->now.step, "");
    return status;
}

int main(int argc, char **argv)
{
    static trainer t;
    int rank;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    const enum options_result result = options_read(&t.o, argc, argv, rank == 0);
    int status = result == OPTIONS_BAD ? 2 : 0;
    if (result != OPTIONS_GOOD && rank == 0) {
        fputs(options_usage, status ? stderr : stdout);
    }
    if (result == OPTIONS_GOOD) {
        trainer_open(&t);
        status = train(&t);
        trainer_close(&t);
    }
    /* A launcher ends the others when one leaves with another status than 0. */
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Finalize();
    return status;
}
