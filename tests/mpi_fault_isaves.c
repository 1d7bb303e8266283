/* SPDX-License-Identifier: Apache-2.0
 * Every call that touches the disk in a nonblocking save goes wrong in every way, on the first, the
 * middle, the last and all of three ranks, with each engine, as a snapshot and as a stream: all
 * ranks get one code, from allshard_isave or from allshard_wait, which tells what the folder holds;
 * the text names rank, file and cause; nothing leaks; the next save is good. A sample by
 * ALLSHARD_SEED; every case with ALLSHARD_LONG=1.
 */
/* ranks: 3 */
/* timeout: 600 */
/* long-timeout: 10800 */
#include "fault_saves.h"

static const scene isave_scenes[] = {
    {"posix", false, ALLSHARD_STAGE_SNAPSHOT}, {"posix", false, ALLSHARD_STAGE_STREAM},
    {"direct", false, ALLSHARD_STAGE_STREAM},  {"uring", false, ALLSHARD_STAGE_SNAPSHOT},
    {"uring", true, ALLSHARD_STAGE_STREAM},    {NULL, true, ALLSHARD_STAGE_SNAPSHOT},
};

/* Each rank tests as often as it likes, then waits. */
static int end(allshard_request **request)
{
    enum { NAP_NS = 100000, OFTEN = 1 << 30 };
    static const int often[] = {0, 1, 3, 10, OFTEN};
    int tests = often[(matrix.tried + world_rank()) % (int)COUNT(often)];
    int over = 0;
    int tested = ALLSHARD_OK;
    for (int i = 0; i < tests && !over; i++) {
        tested = allshard_test(*request, &over);
        CHECK_TEXT(over || tested == ALLSHARD_OK, "%s, in flight", allshard_error_name(tested));
        (void)nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    }
    int code = allshard_wait(request, NULL);
    CHECK(!*request);
    CHECK_TEXT(!over || tested == code, "allshard_test: %s, allshard_wait: %s",
               allshard_error_name(tested), allshard_error_name(code));
    return code;
}

static int isave(const scene *s)
{
    allshard_save_options o = side_options(s->engine);
    allshard_request *request = NULL;
    o.staging = s->staging;
    int code = allshard_isave(new_side.s, folder, &o, &request);
    CHECK_TEXT((code == ALLSHARD_OK) == (request != NULL), "%s, and a request",
               allshard_error_name(code));
    if (request) {
        spoil_side(&new_side);
        code = end(&request);
        holding_fill(&new_side.h);
    }
    return code;
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, CASE_SECONDS);
    CHECK(world_size() <= 3);
    return try_saves(isave_scenes, COUNT(isave_scenes), isave, is_sanitized() ? 400 : 50,
                     "nonblocking saves");
}
