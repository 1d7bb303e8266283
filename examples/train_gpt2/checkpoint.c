/* SPDX-License-Identifier: Apache-2.0
 * The run's checkpoints, by allshard's series. */
#include "checkpoint.h"
#include "declare.h"
#include "hf_files.h"
#include "random.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What each rank wants back. */
typedef struct rank_state {
    uint64_t sampler, dropout;
    double loss;
    int64_t tp;
} rank_state;

static void log_line(int level, const char *line, void *user)
{
    (void)user;
    if (level <= ALLSHARD_LOG_WARNING) {
        fprintf(stderr, "train_gpt2: %s\n", line);
    }
}

/* Goes on only after success. */
static void check(const checkpoints *c, int code, const char *what)
{
    allshard_error e = {.size = sizeof e};
    if (code != ALLSHARD_OK) {
        (void)allshard_last_error(c->as, &e);
        die("%s: %s: %s", what, allshard_error_name(code), e.text ? e.text : "");
    }
}

void checkpoints_open(checkpoints *c, const options *o, const model *m, const adamw *a,
                      const text *t)
{
    const allshard_options general = {.size = sizeof general, .log = log_line};
    const allshard_series_options policy = {.size = sizeof policy,
                                            .keep_last = o->keep_last,
                                            .every_steps = o->every_steps,
                                            .every_s = o->every_s,
                                            .mtbf_s = o->mtbf_s,
                                            .signals = ALLSHARD_SIGNALS_CATCH};
    *c = (checkpoints){.o = o, .m = m, .a = a, .r = m->r, .t = t, .saved = -1, .in_flight = -1};
    if (allshard_open(&c->as, MPI_COMM_WORLD, &general) != ALLSHARD_OK) {
        die("allshard cannot be opened");
    }
    check(c, allshard_state_create(&c->model, c->as, "model"), "the model");
    check(c, declare_weights(c->model, m), "the model");
    check(c, allshard_state_create(&c->optimizer, c->as, "optimizer"), "the optimizer");
    check(c, declare_averages(c->optimizer, m, a), "the optimizer");
    if (c->r->rank == 0) {
        check(c, hf_files_add(c->model, &m->p.c), "config.json and the tokenizer's files");
    }
    check(c, allshard_series_open(&c->series, c->as, o->root, &policy), o->root);
}

void checkpoints_close(checkpoints *c)
{
    check(c, allshard_series_close(c->series), "closing the series");
    check(c, allshard_state_free(c->model), "the model");
    check(c, allshard_state_free(c->optimizer), "the optimizer");
    allshard_close(c->as);
}

void checkpoints_tell(const checkpoints *c, const char *what, int64_t step, const char *more)
{
    const adamw *a = c->a;
    uint64_t sums[2] = {0, 0};
    if (c->r->dp_rank == 0) { /* the other copies are the same */
        sums[0] = params_checksum(&c->m->p, c->m->weights, 0, c->m->p.count, c->r->tp_rank > 0);
    }
    sums[1] = params_checksum(&c->m->p, a->mean, a->begin, a->end, c->r->tp_rank > 0) +
              3 * params_checksum(&c->m->p, a->square, a->begin, a->end, c->r->tp_rank > 0);
    MPI_Allreduce(MPI_IN_PLACE, sums, 2, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);
    if (c->r->rank == 0) {
        printf("%s step %" PRId64 "%s weights %016" PRIx64 " optimizer %016" PRIx64 "\n", what,
               step, more, sums[0], sums[1]);
        fflush(stdout);
    }
}

/* The value of a field, or "". */
static const char *field(const allshard_loaded *l, const char *name)
{
    for (size_t i = 0; i < l->field_count; i++) {
        if (strcmp(l->fields[i].name, name) == 0) {
            return l->fields[i].value;
        }
    }
    return "";
}

int checkpoints_resume(checkpoints *c, run *now)
{
    allshard_state *const states[] = {c->model, c->optimizer};
    allshard_loaded l = {.size = sizeof l};
    char line[256], hash[24];
    rank_state mine = {0};
    const int code = allshard_series_load(c->series, ALLSHARD_NEWEST, states, 2, NULL, &l);
    if (code == ALLSHARD_NOT_FOUND) {
        return 0;
    }
    check(c, code, c->o->root);
    const int known = l.rank_state_bytes == sizeof mine;
    if (known) {
        memcpy(&mine, l.rank_state, sizeof mine);
    } else if (c->r->rank == 0) {
        die("%s/%s is not this trainer's: it has no state of rank 0", c->o->root, l.name);
    }
    const int same_ranks = known && l.world == c->r->count && mine.tp == c->r->tp;
    snprintf(line, sizeof line, " from %s of %d ranks", l.name, (int)l.world);
    snprintf(hash, sizeof hash, "%016" PRIx64, c->t->hash);
    if (c->r->rank == 0 && strcmp(field(&l, "text"), hash) != 0) {
        fprintf(stderr, "train_gpt2: %s learned from another text\n", l.name);
    }
    /* Position in the data and loss are the same on all ranks. Each copy has its own random
     * numbers: on other ranks these begin anew, from that position. */
    now->step = c->saved = l.step;
    now->sampler = mine.sampler, now->loss = mine.loss;
    MPI_Bcast(&now->sampler, 1, MPI_UINT64_T, 0, MPI_COMM_WORLD);
    MPI_Bcast(&now->loss, 1, MPI_DOUBLE, 0, MPI_COMM_WORLD);
    now->dropout = same_ranks ? mine.dropout
                              : random_mix(now->sampler ^ random_mix((uint64_t)c->r->dp_rank + 1));
    checkpoints_tell(c, "resumed", now->step, line);
    return 1;
}

/* The outcome of the save of a step. */
static void tell_outcome(const checkpoints *c, int64_t step, int code, int last)
{
    if (code && (last || code == ALLSHARD_TIMEOUT)) {
        check(c, code, "the last save");
    }
    if (c->r->rank == 0 && code) { /* the log has told why */
        fprintf(stderr, "train_gpt2: step %" PRId64 " is not saved: %s; training goes on\n", step,
                allshard_error_name(code));
    } else if (c->r->rank == 0) {
        printf("saved step %" PRId64 "\n", step);
        fflush(stdout);
    }
}

void checkpoints_wait(checkpoints *c)
{
    if (c->in_flight >= 0) {
        tell_outcome(c, c->in_flight, allshard_series_wait(c->series, NULL), 0);
        c->in_flight = -1;
    }
}

void checkpoints_save(checkpoints *c, const run *now, const char *why, int last)
{
    const char *const discard[] = {"lm_head.weight"}; /* transformers keeps the embedding's name */
    const allshard_save_options of_model = {.size = sizeof of_model,
                                            .max_shard_size = c->o->max_shard_size,
                                            .discard = discard,
                                            .discard_count = 1};
    const allshard_save_options of_averages = {.size = sizeof of_averages,
                                               .max_shard_size = c->o->max_shard_size};
    const allshard_save_options *const both[] = {&of_model, &of_averages};
    allshard_state *const states[] = {c->model, c->optimizer};
    const rank_state mine = {now->sampler, now->dropout, now->loss, c->r->tp};
    char hash[24], tp[16];
    snprintf(hash, sizeof hash, "%016" PRIx64, c->t->hash);
    snprintf(tp, sizeof tp, "%d", c->r->tp);
    const allshard_field fields[] = {{"size", c->o->size}, {"text", hash}, {"tp", tp}};
    const allshard_checkpoint what = {.size = sizeof what,
                                      .step = now->step,
                                      .states = states,
                                      .state_count = 2,
                                      .options = both,
                                      .rank_state = &mine,
                                      .rank_state_bytes = sizeof mine,
                                      .fields = fields,
                                      .field_count = sizeof fields / sizeof *fields,
                                      .metric = now->step > 0 ? "loss" : NULL,
                                      .metric_value = now->loss,
                                      .note = why};
    char line[128];
    checkpoints_wait(c);
    snprintf(line, sizeof line, " because of %s", why);
    checkpoints_tell(c, "saving", now->step, line);
    const int background = c->o->nonblocking && !last;
    const int code = background ? allshard_series_isave(c->series, &what)
                                : allshard_series_save(c->series, &what);
    if (background && code == ALLSHARD_OK) {
        c->in_flight = now->step;
    } else {
        tell_outcome(c, now->step, code, last);
    }
    c->saved = code == ALLSHARD_OK ? now->step : c->saved;
}

/* "steps, signal 12": why, in words. */
static void write_reasons(char *out, size_t room, const allshard_verdict *v)
{
    static const char *const words[] = {"steps",  "seconds",  "overhead",    "failures",
                                        "signal", "walltime", "control file"};
    size_t n = 0;
    out[0] = '\0';
    for (int bit = 0; bit < (int)(sizeof words / sizeof *words); bit++) {
        if (v->reasons >> bit & 1 && n < room) {
            n += (size_t)snprintf(out + n, room - n, "%s%s", n ? ", " : "", words[bit]);
        }
    }
}

int checkpoints_step(checkpoints *c, const run *now, int *status)
{
    allshard_verdict v = {.size = sizeof v};
    char why[96];
    check(c, allshard_series_poll(c->series, now->step, &v), "what the policy says");
    if (c->in_flight >= 0 && (v.saved || v.failed)) {
        tell_outcome(c, c->in_flight, v.failed, 0);
        c->in_flight = -1;
    }
    write_reasons(why, sizeof why, &v);
    if (v.save) {
        checkpoints_save(c, now, why, v.stop);
    }
    if (v.stop) {
        *status = v.requeue && now->step < c->o->steps ? 75 : 0;
        if (c->r->rank == 0) {
            printf("stopping at step %" PRId64 " because of %s\n", now->step, why);
            fflush(stdout);
        }
    }
    return v.stop;
}
