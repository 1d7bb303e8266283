/* SPDX-License-Identifier: Apache-2.0
 * Every call that touches the disk in a save goes wrong in every way, on the first, the middle, the
 * last and all of three ranks, with each engine: all ranks return one code, which tells what the
 * folder holds; the text names rank, file and cause; nothing leaks; the next save is good. A sample
 * by ALLSHARD_SEED; every case with ALLSHARD_LONG=1.
 */
/* ranks: 3 */
/* timeout: 600 */
/* sanitize: no */
/* long-timeout: 7200 */
#include "fault_saves.h"

static int save(const scene *s)
{
    return save_side(&new_side, s->engine);
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, CASE_SECONDS);
    CHECK(world_size() == 3);
    return try_saves(scenes, COUNT(scenes), save, is_sanitized() ? 150 : 16, "saves");
}
