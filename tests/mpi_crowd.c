/* SPDX-License-Identifier: Apache-2.0
 * Far more ranks than cores: a save and a load of each layout end, long before the time that a
 * test has.
 */
/* ranks: 64 */
/* timeout: 240 */
#include <stdio.h>
#include <stdlib.h>

#include "support_model.h"
#include "support_ranks.h"

static void run(allshard *as, int layout)
{
    holding h;
    allshard_state *s = NULL;
    allshard_save_options save = {.size = sizeof save, .max_shard_size = "12KB"};
    save.block_bytes = 4096;
    allshard_load_options load = {.size = sizeof load, .block_bytes = 4096};
    holding_make(&h, &model_mixed, (enum layout)layout, world_rank(), world_size(), false);
    GOOD(as, allshard_state_create(&s, as, "model"));
    holding_declare(&h, as, s);
    holding_fill(&h);
    double begin = seconds_now();
    GOOD(as, allshard_save(s, scratch_path("folder"), &save));
    double saved = seconds_now();
    holding_clear(&h);
    GOOD(as, allshard_load(s, scratch_path("folder"), &load));
    double end = seconds_now();
    CHECK(holding_wrong(&h) == NULL);
    if (world_rank() == 0) {
        (void)printf("%s: saved in %.2f s, loaded in %.2f s\n", layout_name((enum layout)layout),
                     saved - begin, end - saved);
    }
    (void)allshard_state_free(s);
    holding_free(&h);
}

int main(int argc, char **argv)
{
    static const int layouts[] = {LAYOUT_FSDP, LAYOUT_COLUMNS, LAYOUT_REPLICATED};
    allshard *as = NULL;
    ranks_start(&argc, &argv, 900);
    CHECK(allshard_open(&as, world_comm(), NULL) == ALLSHARD_OK);
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        run(as, layouts[i]);
    }
    CHECK(allshard_close(as) == ALLSHARD_OK);
    return ranks_end();
}
