/* SPDX-License-Identifier: Apache-2.0
 * The option cuda and the environment's ALLSHARD_CUDA, which may differ between ranks: what is wrong
 * with one rank's is told to all, and the stats tell why no device memory was looked for. The driver
 * is the simulated one. (ALLSHARD_NO_MPI: also as one process.)
 */
/* simulated: cuda */
/* ranks: 1 3 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support_ranks.h"
#include "support_simulated.h"

static char logged[2048]; /* the last error of allshard_open */

static void keep(int level, const char *text, void *user)
{
    (void)user;
    if (level == ALLSHARD_LOG_ERROR) {
        (void)snprintf(logged, sizeof logged, "%s", text);
    }
}

static bool is_last(void)
{
    return world_rank() == world_size() - 1;
}

static void set(const char *value)
{
    CHECK(value ? setenv("ALLSHARD_CUDA", value, 1) == 0 : unsetenv("ALLSHARD_CUDA") == 0);
}

static int open_with(allshard **as, int cuda)
{
    allshard_options o = {.size = sizeof o, .log = keep, .cuda = cuda};
    logged[0] = '\0';
    return allshard_open(as, world_comm(), &o);
}

/* Both of the last rank, which all are told of. */
static void refused(const char *variable, int cuda, int code, const char *text)
{
    allshard *as = NULL;
    set(is_last() ? variable : NULL);
    int found = open_with(&as, is_last() ? cuda : ALLSHARD_CUDA_AUTO);
    CHECK_TEXT(found == code && !as, "%s, %d: %s: %s", variable ? variable : "-", cuda,
               allshard_error_name(found), logged);
    CHECK_TEXT(strstr(logged, text), "%s", logged);
    set(NULL);
}

/* A save and a load; then what the stats tell. */
static void used(const char *variable, int cuda, const char *reason)
{
    static float values[12] = {0};
    const int64_t shape[] = {12};
    allshard *as = NULL;
    allshard_state *s = NULL;
    set(is_last() ? variable : NULL);
    int code = open_with(&as, is_last() ? cuda : ALLSHARD_CUDA_AUTO);
    CHECK_TEXT(code == ALLSHARD_OK, "%s: %s", allshard_error_name(code), logged);
    GOOD(as, allshard_state_create(&s, as, "model"));
    allshard_tensor t = {.size = sizeof t,
                         .name = "x",
                         .dtype = ALLSHARD_F32,
                         .ndim = 1,
                         .shape = shape,
                         .data = values};
    GOOD(as, allshard_state_tensor(s, &t));
    for (int load = 0; load < 2; load++) {
        allshard_stats stats = {.size = sizeof stats};
        GOOD(as, load ? allshard_load(s, scratch_path("used"), NULL)
                      : allshard_save(s, scratch_path("used"), NULL));
        GOOD(as, allshard_get_stats(as, world_rank(), &stats));
        CHECK_TEXT(!*stats.device && stats.bytes_device == 0, "%s", stats.device);
        CHECK_TEXT(!is_last() || strstr(stats.device_reason, reason), "%s", stats.device_reason);
    }
    GOOD(as, allshard_state_free(s));
    GOOD(as, allshard_close(as));
    set(NULL);
}

static bool is_loaded(void)
{
    return dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD) != NULL;
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 60);
    if (!is_loaded()) { /* an MPI that knows CUDA may have it */
        used(NULL, ALLSHARD_CUDA_AUTO, "the program has not loaded libcuda.so.1");
        used("auto", ALLSHARD_CUDA_ON, "the program has not loaded libcuda.so.1");
        used("off", ALLSHARD_CUDA_ON, "cuda is off");
        CHECK(!is_loaded());
    }
    refused(NULL, 3, ALLSHARD_INVALID, "cuda is 3; see enum allshard_cuda");
    refused(NULL, -1, ALLSHARD_INVALID, "cuda is -1");
    refused("yes", ALLSHARD_CUDA_OFF, ALLSHARD_INVALID,
            "ALLSHARD_CUDA is \"yes\"; it must be auto, off or on");
    refused("On", ALLSHARD_CUDA_AUTO, ALLSHARD_INVALID, "\"On\"");
    used("off", 77, "cuda is off"); /* the environment goes before the option */
    used("", ALLSHARD_CUDA_OFF, "cuda is off");

    const sim_library *sim = simulated();
    used(NULL, ALLSHARD_CUDA_AUTO, "not initialised");
    int64_t calls = sim->calls(NULL);
    used(NULL, ALLSHARD_CUDA_OFF, "cuda is off");
    CHECK(!is_last() || sim->calls(NULL) == calls);
    if (is_last()) {
        sim->inject("cuInit", -1, AS_CU_NO_DEVICE);
    }
    refused(NULL, ALLSHARD_CUDA_ON, ALLSHARD_CUDA,
            "cuInit: CUDA_ERROR_NO_DEVICE (100, no CUDA-capable device is detected)");
    refused("on", ALLSHARD_CUDA_OFF, ALLSHARD_CUDA, "cuInit: CUDA_ERROR_NO_DEVICE");
    sim->reset();
    used("on", ALLSHARD_CUDA_OFF, "no piece lies in device memory");
    used(NULL, ALLSHARD_CUDA_ON, "no piece lies in device memory");
    CHECK(sim->live("streams") == 0 && sim->live("contexts") == 0);
    CHECK_TEXT(!*sim->faults(), "%s", sim->faults());
    return ranks_end();
}
