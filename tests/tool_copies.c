/* SPDX-License-Identifier: Apache-2.0
 * Does many copies in one MPI job, for tests/parity_copy.py: starting mpirun for
 * each would take longer than the copies.
 *
 * Reads jobs from the file argv[1], one a line, tabs between the fields:
 *   ranks layout limit pattern block_bytes memory metadata(K=V or -) SRC DST
 * and does each on the first `ranks` ranks, with the parts that `allshard copy` is made of.
 * Prints "done <number of jobs>" at the end; the first failure ends it with status 1.
 */
/* needs: mpi */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "allshard.h"
#include "cli/layout.h"
#include "cli/read_checkpoint.h"

enum { FIELDS = 9, LINE = 8192, MOST_RANKS = 64 };

typedef struct job {
    int ranks;
    const char *layout;
    const char *limit;
    const char *pattern;
    int64_t block_bytes;
    int64_t memory;
    char *metadata;
    const char *source;
    const char *target;
} job;

static _Noreturn void stop(const char *what, const char *text)
{
    fprintf(stderr, "tool_copies: %s: %s\n", what, text);
    MPI_Abort(MPI_COMM_WORLD, 1);
    exit(1); /* for the compiler: MPI_Abort does not return */
}

static void must(int code, const char *what, const allshard *as)
{
    if (code != ALLSHARD_OK) {
        allshard_error e = {.size = sizeof e};
        if (as) {
            (void)allshard_last_error(as, &e);
        }
        stop(what, e.text ? e.text : allshard_error_name(code));
    }
}

static void must_work(const as_error *e, const char *what)
{
    if (e->code != AS_OK) {
        stop(what, as_error_text(e));
    }
}

static job parse(char *line)
{
    char *fields[FIELDS] = {0};
    int n = 0;
    for (char *at = strtok(line, "\t\n"); at && n < FIELDS; at = strtok(NULL, "\t\n")) {
        fields[n++] = at;
    }
    if (n != FIELDS) {
        stop("a job line is cut off", line);
    }
    return (job){.ranks = (int)strtol(fields[0], NULL, 10),
                 .layout = fields[1],
                 .limit = fields[2],
                 .pattern = fields[3],
                 .block_bytes = strtoll(fields[4], NULL, 10),
                 .memory = strtoll(fields[5], NULL, 10),
                 .metadata = fields[6],
                 .source = fields[7],
                 .target = fields[8]};
}

/* Declares what this rank holds; the memory of each piece goes to memory[i]. */
static void declare(const as_contents *c, const as_layout *l, int rank, allshard *as,
                    allshard_state *state, void **memory)
{
    for (size_t i = 0; i < as_tensors_count(&c->tensors); i++) {
        as_layout_piece piece;
        if (!as_layout_get(l, &c->tensors, i, rank, &piece)) {
            continue;
        }
        memory[i] = calloc(1, (size_t)piece.bytes + 1);
        allshard_tensor t = {
            .size = sizeof t,
            .name = as_tensors_name(&c->tensors, i),
            .dtype = as_tensors_row(&c->tensors, i)->dtype,
            .ndim = as_tensors_row(&c->tensors, i)->ndim,
            .shape = as_tensors_shape(&c->tensors, i),
            .offset = piece.flat ? NULL : piece.offset,
            .local_shape = piece.flat ? NULL : piece.shape,
            .flat = piece.flat,
            .flat_offset = piece.flat ? piece.flat_offset : 0,
            .flat_count = piece.flat ? piece.flat_count : 0,
            .data = memory[i],
            .order = (int64_t)i + 1,
        };
        must(allshard_state_tensor(state, &t), "state_tensor", as);
    }
}

static void copy(const job *j, MPI_Comm comm)
{
    as_error e = AS_ERROR_INIT;
    as_world w = {0};
    as_contents c = AS_CONTENTS_INIT;
    as_layout l = AS_LAYOUT_INIT;
    (void)as_comm_open(&w.comm, &comm, &e);
    must_work(&e, "communicator");
    w.rank = as_comm_rank(w.comm);
    w.size = as_comm_size(w.comm);
    (void)as_contents_share(&c, &w, j->source, NULL, NULL, &e);
    must_work(&e, j->source);
    (void)as_layout_parse(&l, j->layout, w.size, &e);
    must_work(&e, j->layout);
    (void)as_layout_fit(&l, &c.tensors, &e);
    must_work(&e, j->layout);

    allshard *as = NULL;
    allshard_state *state = NULL;
    allshard_options options = {.size = sizeof options, .memory = j->memory};
    must(allshard_open(&as, comm, &options), "open", NULL);
    must(allshard_state_create(&state, as, "model"), "state", as);
    size_t count = as_tensors_count(&c.tensors);
    void **memory = calloc(count + 1, sizeof *memory);
    if (!memory) {
        stop("memory", j->source);
    }
    declare(&c, &l, w.rank, as, state, memory);
    if (strcmp(j->metadata, "-") != 0) {
        char *equals = strchr(j->metadata, '=');
        *equals = '\0';
        must(allshard_state_meta(state, j->metadata, equals + 1), "meta", as);
    }
    allshard_load_options load = {
        .size = sizeof load, .allow_unexpected = 1, .block_bytes = j->block_bytes};
    must(allshard_load(state, j->source, &load), j->source, as);
    allshard_save_options save = {.size = sizeof save,
                                  .max_shard_size = j->limit,
                                  .pattern = j->pattern,
                                  .block_bytes = j->block_bytes};
    must(allshard_save(state, j->target, &save), j->target, as);

    (void)allshard_state_free(state);
    (void)allshard_close(as);
    for (size_t i = 0; i < count; i++) {
        free(memory[i]);
    }
    free((void *)memory);
    as_layout_free(&l);
    as_contents_free(&c);
    as_comm_free(w.comm);
}

/* Ranks without work in a job wait asleep: they would take the cores from those that have some. */
static void meet(void)
{
    MPI_Request all;
    int done = 0;
    MPI_Ibarrier(MPI_COMM_WORLD, &all);
    while (!done) {
        MPI_Test(&all, &done, MPI_STATUS_IGNORE);
        if (!done) {
            (void)usleep(500);
        }
    }
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    int rank = 0;
    int ranks = 0;
    int done = 0;
    char line[LINE];
    MPI_Comm first[MOST_RANKS + 1]; /* first[n]: the first n ranks, on those */
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (ranks > MOST_RANKS) {
        stop("usage", "too many ranks");
    }
    for (int n = 1; n <= ranks; n++) {
        MPI_Comm_split(MPI_COMM_WORLD, rank < n ? 0 : MPI_UNDEFINED, rank, &first[n]);
    }
    FILE *jobs = argc == 2 ? fopen(argv[1], "r") : NULL;
    if (!jobs) {
        stop("usage", "tool_copies JOBS");
    }
    while (fgets(line, sizeof line, jobs)) {
        job j = parse(line);
        if (j.ranks < 1 || j.ranks > ranks) {
            stop("a job asks for more ranks than there are", j.source);
        }
        if (rank < j.ranks) {
            copy(&j, first[j.ranks]);
        }
        meet();
        done++;
    }
    for (int n = rank + 1; n <= ranks; n++) {
        MPI_Comm_free(&first[n]);
    }
    fclose(jobs);
    if (rank == 0) {
        printf("done %d\n", done);
    }
    MPI_Finalize();
    return 0;
}
