/* SPDX-License-Identifier: Apache-2.0
 * A rank whose device comes to no end, while copies are waited for or while there is no place for
 * more of them: the others name it and return, as where storage hangs; it returns itself when its
 * device goes on, with the same error. The device is a simulated one.
 */
/* simulated: cuda */
/* ranks: 3 */
/* timeout: 200 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint_folder.h"
#include "stall_scene.h"
#include "stall_waker.h"
#include "support_gate.h"
#include "support_twin.h"

enum { BLOCK = 512, TRIES = 4 };
enum way { SAVE, SNAPSHOT, STREAM, LOAD, WAYS };
static const char *const way_names[] = {"save", "snapshot", "stream", "load"};

/* What is cast goes through buffers, of which there are few: the second has more blocks than those. */
static const model_tensor few[] = {{"dense", ALLSHARD_F32, 2, {16, 16}}};
static const model_tensor many[] = {{"cast", ALLSHARD_F64, 2, {2048, 16}}};
static const model models[] = {{few, 1}, {many, 1}};

static twin_devices devices;
static char hosts[16][64];
static char said[1024];

typedef struct scene {
    allshard *as;
    allshard_state *s;
    holding h;
    twin t;
} scene;

static int32_t stored(int32_t dtype)
{
    return dtype == ALLSHARD_F64 ? ALLSHARD_BF16 : 0;
}

static void open_scene(scene *x, const model *m, double timeout)
{
    uint64_t own = 5;
    allshard_options o = {.size = sizeof o, .memory = 256 << 10, .timeout_s = timeout};
    CHECK(allshard_open(&x->as, world_comm(), &o) == ALLSHARD_OK);
    GOOD(x->as, allshard_state_create(&x->s, x->as, "model"));
    holding_make(&x->h, m, LAYOUT_FLAT, world_rank(), world_size(), true);
    holding_fill(&x->h);
    twin_make(&x->t, &devices, &x->h, 1U << TWIN_DEVICE_0, &own);
    twin_declare(&x->t, x->as, x->s, stored);
    twin_put(&x->t, TWIN_LEGACY, NULL);
    CHECK(devices.sim->context_synchronize() == AS_CU_SUCCESS);
}

static void close_scene(scene *x)
{
    (void)allshard_state_free(x->s);
    CHECK(allshard_close(x->as) == ALLSHARD_OK);
    twin_free(&x->t);
    holding_free(&x->h);
}

static int act(scene *x, enum way way)
{
    allshard_save_options to = {.size = sizeof to, .block_bytes = BLOCK};
    allshard_load_options from = {.size = sizeof from, .block_bytes = BLOCK};
    if (way == LOAD) {
        return allshard_load(x->s, folder, &from);
    }
    if (way == SAVE) {
        return allshard_save(x->s, folder, &to);
    }
    allshard_request *request = NULL;
    to.staging = way == STREAM ? ALLSHARD_STAGE_STREAM : ALLSHARD_STAGE_SNAPSHOT;
    int code = allshard_isave(x->s, folder, &to, &request);
    return code == ALLSHARD_OK ? allshard_wait(&request, NULL) : code;
}

static void *go_on(void *unused)
{
    gate_wait("wake");
    devices.sim->stall(false);
    return unused;
}

/* False: a rank that is only slow was named. */
static bool be_victim(scene *x, enum way way)
{
    pthread_t thread;
    allshard_error e = {.size = sizeof e};
    devices.sim->stall(true);
    gate_mark("there");
    CHECK(pthread_create(&thread, NULL, go_on, NULL) == 0);
    int code = act(x, way);
    CHECK(pthread_join(thread, NULL) == 0);
    (void)allshard_last_error(x->as, &e);
    CHECK_TEXT(code == ALLSHARD_TIMEOUT, "%s: %s", allshard_error_name(code), e.text);
    CHECK(devices.sim->idle());
    return e.rank == world_rank();
}

static bool be_other(const scene *x, enum way way, int victim)
{
    allshard_error e = {.size = sizeof e};
    char who[128];
    begin_waker(0);
    int code = act((scene *)(uintptr_t)x, way);
    double stood = gate_age("there");
    ranks_wait(others);
    end_waker(victim);
    (void)allshard_last_error(x->as, &e);
    CHECK_TEXT(code == ALLSHARD_TIMEOUT, "%s: %s", allshard_error_name(code), e.text);
    CHECK_TEXT(ranks_agree(others, e.text, strlen(e.text)), "other ranks say other than: %s",
               e.text);
    bool right = e.rank == victim && strncmp(e.text, "ranks ", 6) != 0 && stood > limit / 2 &&
                 strstr(e.text, "storage or devices");
    (void)snprintf(said, sizeof said, "%s", e.text);
    (void)snprintf(who, sizeof who, "rank %d (%s) ", victim, hosts[victim]);
    CHECK_TEXT(!right || strstr(e.text, who), "%s: %s", who, e.text);
    if (world_rank() == lowest) {
        gate_mark("wake");
    }
    return ranks_max(others, !right) == 0;
}

static bool try_case(enum way way, const model *m, int victim)
{
    scene x;
    begin_scene();
    ranks_scene("%s of %s, rank %d, %g s", way_names[way], m->tensors->name, victim, limit);
    if (way == LOAD) {
        open_scene(&x, m, 0);
        GOOD(x.as, act(&x, SAVE));
        close_scene(&x);
    } else if (world_rank() == 0) {
        make_old();
    }
    open_scene(&x, m, limit);
    ranks_wait(world_comm());
    bool right = world_rank() == victim ? be_victim(&x, way) : be_other(&x, way, victim);
    right = ranks_max(world_comm(), !right) == 0;
    close_scene(&x);
    CHECK_TEXT(!*devices.sim->faults(), "%s", devices.sim->faults());
    ranks_wait(world_comm());
    if (world_rank() == 0 && way != LOAD) {
        CHECK_TEXT(holds(&model_old), "not the old checkpoint");
    }
    ranks_wait(world_comm());
    return right;
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 180);
    twin_open(&devices);
    gate_install();
    gate_idle = let_leave;
    folder = strdup(scratch_path("folder"));
    char own[64] = "";
    int cases = 0;
    (void)gethostname(own, sizeof own - 1);
    (void)MPI_Allgather(own, sizeof own, MPI_BYTE, hosts, sizeof own, MPI_BYTE, MPI_COMM_WORLD);
    for (int v = 0; v < 2; v++) {
        int victim = v ? world_size() - 1 : 0;
        choose_victim(victim);
        for (int way = 0; way < WAYS; way++) {
            for (int m = 0; m < 2; m++) {
                for (int i = 0; !try_case((enum way)way, &models[m], victim); i++) {
                    CHECK_TEXT(i < TRIES, "within %g s neither: %s", limit, said);
                    be_patient();
                }
                be_quick();
                cases++;
            }
        }
    }
    if (world_rank() == 0) {
        (void)printf("%d devices that hang, named; %d tries with more time\n", cases, anew);
    }
    if (others != MPI_COMM_NULL) {
        (void)MPI_Comm_free(&others);
    }
    twin_close(&devices);
    free((void *)(uintptr_t)folder);
    return ranks_end();
}
