/* SPDX-License-Identifier: Apache-2.0
 * tool_faulty, the whole command line tool with trouble on purpose, whose every save is a
 * nonblocking one: tests/cli_kills.py kills it in the background. The environment's
 * ALLSHARD_TEST_STAGING is "snapshot", "stream", or not set.
 */
/* wraps: allshard_save */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "allshard.h"
#include "cli/world.h"
#include "support_faults.h"

/* Before main, so that no call is missed. */
__attribute__((constructor)) static void begin_trouble(void)
{
    fault_from_environment(as_world_launched() ? as_world_launched_rank() : -1);
}

/* In place of allshard_save: the linker's --wrap looks for this name. */
int save_nonblocking(allshard_state *s, const char *directory,
                     const allshard_save_options *options) __asm__("__wrap_allshard_save");

int save_nonblocking(allshard_state *s, const char *directory, const allshard_save_options *options)
{
    enum { NAP_NS = 200000 };
    const char *how = getenv("ALLSHARD_TEST_STAGING");
    allshard_save_options o = {.size = sizeof o};
    allshard_request *request = NULL;
    if (options) {
        o = *options;
    }
    if (how && *how) {
        o.staging = strcmp(how, "stream") == 0 ? ALLSHARD_STAGE_STREAM : ALLSHARD_STAGE_SNAPSHOT;
    }
    int code = allshard_isave(s, directory, &o, &request);
    for (int over = 0; code == ALLSHARD_OK && !over;) {
        (void)nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
        code = allshard_test(request, &over);
    }
    return request ? allshard_wait(&request, NULL) : code;
}
