/* SPDX-License-Identifier: Apache-2.0
 * Agreement in steps that are tested: on a twin of a communicator, while other things go on on the
 * communicator itself, and with ranks that come and look when they like. (ALLSHARD_NO_MPI: also as
 * one process.)
 */
/* ranks: 1 2 3 5 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "comm/comm.h"
#include "support_ranks.h"

enum { ROUNDS = 40 };

static as_comm *comm;
static as_comm *twin;

/* The same on all ranks for the same number. */
static unsigned common(unsigned number)
{
    return number * 2654435761u >> 7;
}

static void nap(unsigned number)
{
    struct timespec t = {.tv_nsec =
                             common(number * 31 + (unsigned)world_rank() * 7 + 1) % 3000 * 1000};
    (void)nanosleep(&t, NULL);
}

/* Looks until it is done; every now and then something collective is done besides. */
static int finish(unsigned round, as_error *e)
{
    bool done = false;
    int code = AS_OK;
    unsigned looks = 0;
    while (!done && code == AS_OK) {
        nap(round + looks++);
        code = as_comm_agree_test(twin, &done, e);
    }
    return code;
}

static void check_round(unsigned round)
{
    as_error e = AS_ERROR_INIT;
    as_error trouble = AS_ERROR_INIT;
    int size = as_comm_size(comm);
    int first = (int)(common(round) % (unsigned)(size + 1)); /* lowest with an error; size: none */
    bool fails = world_rank() == first || (world_rank() > first && world_rank() % 2);
    if (fails) {
        (void)as_fail(&e, AS_SYSTEM, 28, "round %u on rank %d", round, world_rank());
    }
    nap(round);
    CHECK(as_comm_agree_begin(twin, &e, &trouble) == AS_OK);
    int64_t ranks = 1;
    CHECK(as_comm_sum(comm, &ranks, 1, &trouble) == AS_OK && ranks == size);
    int code = finish(round, &e);
    if (first == size) {
        CHECK(code == AS_OK && e.code == AS_OK);
    } else {
        char text[64];
        (void)snprintf(text, sizeof text, "round %u on rank %d", round, first);
        CHECK(code == AS_SYSTEM && e.sys_errno == 28 && e.rank == first && e.host[0]);
        CHECK_TEXT(strstr(as_error_text(&e), text), "%s", as_error_text(&e));
    }
    as_error_clear(&e);
}

/* A text longer than what travels is cut, and is the same everywhere. */
static void check_long_text(void)
{
    enum { LENGTH = 30000 };
    char *text = malloc(LENGTH + 1);
    CHECK(text);
    memset(text, 'x', LENGTH);
    text[LENGTH] = '\0';
    as_error e = AS_ERROR_INIT;
    as_error trouble = AS_ERROR_INIT;
    if (world_rank() == as_comm_size(comm) - 1) {
        (void)as_fail(&e, AS_LIMIT, 0, "%s", text);
    }
    CHECK(as_comm_agree_begin(twin, &e, &trouble) == AS_OK);
    CHECK(finish(1, &e) == AS_LIMIT);
    size_t length = strlen(as_error_text(&e));
    CHECK(length > 100 && ranks_agree(world_comm(), as_error_text(&e), length));
    as_error_clear(&e);
    free(text);
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 120);
    as_error e = AS_ERROR_INIT;
    allshard_comm world = world_comm();
    CHECK(as_comm_open(&comm, &world, &e) == AS_OK);
    CHECK(as_comm_twin(&twin, comm, &e) == AS_OK);
    CHECK(as_comm_rank(twin) == as_comm_rank(comm) && as_comm_size(twin) == as_comm_size(comm));
    for (unsigned round = 0; round < ROUNDS; round++) {
        check_round(round);
    }
    check_long_text();
    as_comm_free(twin);
    as_comm_free(comm);
    return ranks_end();
}
