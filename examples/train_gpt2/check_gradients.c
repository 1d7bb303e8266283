/* SPDX-License-Identifier: Apache-2.0
 * Compares the gradients of the model with finite differences of its loss, in doubles:
 *
 *     mpirun -n 2 train_gpt2_gradients
 *
 * All ranks share one copy of the weights. Some elements of each piece are changed, dropout is on,
 * with the same random numbers each time. Exit status 1 if a gradient is wrong. */
#include "layers.h"
#include "model.h"
#include "random.h"

#include <math.h>
#include <stdio.h>

enum { SEQUENCES = 2, LENGTH = 6, ROWS = SEQUENCES * LENGTH, TRIES = 6 };

static double loss_of(model *m, const uint16_t *tokens)
{
    uint64_t dropout = 7;
    model_forward(m, tokens, SEQUENCES, LENGTH, &dropout);
    return cross_entropy(m->logits, tokens + 1, ROWS, m->p.c.vocabulary, 1.0 / ROWS) / ROWS;
}

/* Larger weights than GPT-2 begins with: near 0 its norms bend the loss too much for differences.
 * What ranks have in common is the same on all. */
static void fill(model *m)
{
    uint64_t state = 3;
    for (size_t i = 0; i < m->p.count; i++) {
        m->weights[i] = random_unit(random_next(&state)) - 0.5;
    }
}

/* How far the gradient of an element is from the difference; `owner` has it, or all. */
static double compare(model *m, const uint16_t *tokens, size_t at, int owner, int all)
{
    const double step = 1e-5;
    const int mine = all || m->r->rank == owner;
    const double before = m->weights[at];
    double gradient = m->gradients[at], side[2];
    MPI_Bcast(&gradient, 1, MPI_DOUBLE, owner, MPI_COMM_WORLD);
    for (int i = 0; i < 2; i++) {
        m->weights[at] = mine ? before + (i ? step : -step) : before;
        side[i] = loss_of(m, tokens);
    }
    m->weights[at] = before;
    const double difference = (side[1] - side[0]) / (2 * step);
    return fabs(gradient - difference) / (1e-3 + fabs(gradient) + fabs(difference));
}

int main(int argc, char **argv)
{
    ranks r;
    model m;
    int wrong = 0, count = 0;
    double worst = 0;
    uint64_t state = 5;
    uint16_t tokens[ROWS + 1];
    MPI_Init(&argc, &argv);
    MPI_Comm_size(MPI_COMM_WORLD, &count);
    ranks_open(&r, count);
    const config c = config_of("tiny");
    model_open(&m, &c, &r, SEQUENCES);
    fill(&m);
    for (int i = 0; i <= ROWS; i++) {
        tokens[i] = (uint16_t)(random_next(&state) % 20);
    }
    (void)loss_of(&m, tokens);
    model_backward(&m, tokens, SEQUENCES, LENGTH);
    count = 0;
    for (int i = 0; i < m.p.piece_count; i++) {
        const piece *q = &m.p.pieces[i];
        for (int try = 0; try < TRIES; try++, count++) {
            /* Of the embeddings: what these few short sequences have to do with. */
            const size_t among = i < FIRST_LAYER ? (size_t)(LENGTH * m.p.c.width) : q->count;
            const size_t at = q->at + random_next(&state) % among;
            const double error = compare(&m, tokens, at, try % r.tp, q->whole);
            worst = error > worst ? error : worst;
            if (!(error < 1e-6)) {
                wrong++;
                if (r.rank == 0) {
                    printf("%s, element %zu: off by %g\n", q->name, at - q->at, error);
                }
            }
        }
    }
    if (r.rank == 0) {
        printf("%d gradients compared, %d wrong, the worst off by %.1e\n", count, wrong, worst);
    }
    model_close(&m);
    ranks_close(&r);
    MPI_Finalize();
    return wrong > 0;
}
