/* SPDX-License-Identifier: Apache-2.0
 * A rank that computes, and makes no call of MPI meanwhile, at every stage of a nonblocking save:
 * the others' tests return all the same, also while long reports are under way, and the save is
 * good when it is back. Who blocks waits for ever: the one that is away comes back when the others
 * have tested often.
 */
/* ranks: 3 2 */
/* timeout: 120 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "support_gate.h"
#include "support_model.h"
#include "support_ranks.h"

enum { TESTS = 60, REST_US = 100, STAGES = 14, HANG_SECONDS = 100 };

static allshard *as;
static allshard_state *s;
static holding h;
static char folder[512];

static bool test(allshard_request *request)
{
    int over = 0;
    GOOD(as, allshard_test(request, &over));
    (void)usleep(REST_US);
    return over != 0;
}

/* One rank is away after so many tests of its own. */
static void be_away(int who, int after)
{
    /* Small blocks make reports that no MPI sends before they are asked for. */
    allshard_save_options o = {.size = sizeof o, .max_shard_size = "50KB", .block_bytes = 64};
    allshard_request *request = NULL;
    gate_round++;
    ranks_scene("rank %d is away after %d tests", who, after);
    holding_fill(&h);
    GOOD(as, allshard_isave(s, folder, &o, &request));
    holding_clear(&h);
    if (world_rank() == who) {
        for (int i = 0; i < after; i++) {
            (void)test(request);
        }
        for (int r = 0; r < world_size(); r++) {
            char name[32];
            (void)snprintf(name, sizeof name, "back-%d", r);
            if (r != who) {
                gate_wait(name);
            }
        }
    } else {
        char name[32];
        for (int i = 0; i < TESTS; i++) {
            (void)test(request);
        }
        (void)snprintf(name, sizeof name, "back-%d", world_rank());
        gate_mark(name);
    }
    while (!test(request)) {
    }
    GOOD(as, allshard_wait(&request, NULL));
    GOOD(as, allshard_load(s, folder, NULL));
    CHECK(holding_wrong(&h) == NULL);
}

int main(int argc, char **argv)
{
    /* What two processes of a host send each other needs both of them, as it does between hosts. */
    (void)setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 1);
    ranks_start(&argc, &argv, HANG_SECONDS);
    (void)snprintf(folder, sizeof folder, "%s", scratch_path("folder"));
    allshard_options options = {.size = sizeof options, .check_calls = 1};
    CHECK(allshard_open(&as, world_comm(), &options) == ALLSHARD_OK);
    GOOD(as, allshard_state_create(&s, as, "model"));
    holding_make(&h, &model_mixed, LAYOUT_COLUMNS, world_rank(), world_size(), true);
    holding_declare(&h, as, s);
    for (int after = 0; after < STAGES; after++) {
        for (int who = 0; who < world_size(); who++) {
            be_away(who, after * after / 2);
        }
    }
    if (world_rank() == 0) {
        (void)printf("%d saves during which a rank was away\n", STAGES * world_size());
    }
    (void)allshard_state_free(s);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    holding_free(&h);
    return ranks_end();
}
