/* SPDX-License-Identifier: Apache-2.0
 * Every call of CUDA's driver, simulated, that a save, a nonblocking save and a load of device memory
 * make goes wrong once, on the first and on the last rank: as a call that fails, as one that fails
 * and takes its context with it, and, where something is put into a stream, as one that fails later.
 * All ranks return one error that names call and code; or the save is good all the same, where there
 * is another way. The old checkpoint stays until the new one is whole, the next save or load on the
 * context works, the caller's own context is current, and nothing is left when it is closed.
 * A sample by ALLSHARD_SEED; every case with ALLSHARD_LONG=1.
 */
/* simulated: cuda */
/* ranks: 3 2 */
/* timeout: 200 */
/* long-timeout: 7200 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint_folder.h"
#include "support_isave.h"
#include "support_ranks.h"
#include "support_snapshot.h"
#include "support_twin.h"

enum { ONE_IN = 60, ONE_IN_SANITIZED = 400, MOST = 400, TEXT = 200, WASTE = 0x3c };

/* ---- calls ---- */

static const char *const calls[] = {
#define NAME(member, symbol, parameters) symbol,
    AS_CUDA_FUNCTIONS(NAME)
#undef NAME
};
enum { CALLS = sizeof calls / sizeof *calls };

/* What a save does without: there is another way, or the work was done before. */
static const char *const spare[] = {
    "cuGetErrorName",      "cuGetErrorString",    "cuMemHostRegister",  "cuMemHostUnregister",
    "cuMemAlloc",          "cuMemFree",           "cuModuleLoadData",   "cuModuleUnload",
    "cuModuleGetFunction", "cuStreamDestroy",     "cuEventDestroy",     "cuDevicePrimaryCtxRelease",
    "cuStreamQuery",       "cuStreamSynchronize", "cuDriverGetVersion", "cuCtxPushCurrent",
    "cuCtxPopCurrent",
};

/* Without _v2. */
static const char *plain_name(int call)
{
    static char name[64];
    (void)snprintf(name, sizeof name, "%s", calls[call]);
    char *at = strstr(name, "_v2");
    if (at) {
        *at = '\0';
    }
    return name;
}

static bool is_spare(int call)
{
    for (size_t i = 0; i < sizeof spare / sizeof *spare; i++) {
        if (strcmp(spare[i], plain_name(call)) == 0) {
            return true;
        }
    }
    return false;
}

/* ---- the scene ---- */

enum way { SAVE, SNAPSHOT, STREAM, LOAD, WAYS };
static const char *const way_names[] = {"save", "snapshot", "stream", "load"};

static const model_tensor tensors[] = {
    {"dense", ALLSHARD_F32, 2, {8, 32}},
    {"narrow", ALLSHARD_BF16, 2, {40, 6}},
    {"cast", ALLSHARD_F64, 2, {9, 5}},
    {"bytes", ALLSHARD_U8, 1, {1501}},
};
static const model small = {tensors, (int)(sizeof tensors / sizeof *tensors)};

static twin_devices devices;
static holding h;
static holding loaded; /* what the host's memory holds after a load */
static twin t;
static unsigned char *waste;
static const char *folder;
/* Main process: the old checkpoint and the new one, and both without their times. */
enum checkpoint { OLD, NEW };
static snapshot files[2];
static snapshot timeless[2];
static allshard *as;
static allshard_state *state;
static uint64_t own;

static int32_t stored(int32_t dtype)
{
    return dtype == ALLSHARD_F64 ? ALLSHARD_BF16 : 0;
}

static void open_context(void)
{
    allshard_options options = {.size = sizeof options, .memory = 64 << 10};
    CHECK(allshard_open(&as, world_comm(), &options) == ALLSHARD_OK);
    GOOD(as, allshard_state_create(&state, as, "model"));
    twin_declare(&t, as, state, stored);
}

static void close_context(void)
{
    (void)allshard_state_free(state);
    CHECK(allshard_close(as) == ALLSHARD_OK);
}

static void put(const unsigned char *from)
{
    twin_put(&t, TWIN_LEGACY, from);
    CHECK(devices.sim->context_synchronize() == AS_CU_SUCCESS);
}

/* What is saved is new, what is loaded is not there yet. */
static int act(enum way way)
{
    allshard_save_options o = {.size = sizeof o, .block_bytes = 512, .cuda_stream = devices.own};
    allshard_load_options from = {
        .size = sizeof from, .block_bytes = 512, .cuda_stream = devices.own};
    if (way == LOAD) {
        return allshard_load(state, folder, &from);
    }
    if (way == SAVE) {
        return allshard_save(state, folder, &o);
    }
    allshard_request *request = NULL;
    o.staging = way == STREAM ? ALLSHARD_STAGE_STREAM : ALLSHARD_STAGE_SNAPSHOT;
    int code = allshard_isave(state, folder, &o, &request);
    CHECK((code == ALLSHARD_OK) == (request != NULL));
    return code == ALLSHARD_OK ? allshard_wait(&request, NULL) : code;
}

static void set_folder(enum checkpoint which)
{
    ranks_wait(world_comm());
    if (world_rank() == 0) {
        remove_tree(folder);
        snapshot_write(&files[which], folder);
    }
    ranks_wait(world_comm());
}

static void check_folder(const char *text, enum checkpoint which)
{
    ranks_wait(world_comm());
    if (world_rank() == 0) {
        snapshot now;
        CHECK(snapshot_take(&now, folder));
        snapshot_forget_time(&now);
        snapshot_forget_engine(&now); /* of device memory it tells of GPU-direct, too */
        CHECK_TEXT(snapshot_same(&now, &timeless[which]), "%s: %s", text,
                   snapshot_difference(&now, &timeless[which]));
        snapshot_free(&now);
    }
    ranks_wait(world_comm());
}

static void begin(enum way way)
{
    set_folder(way == LOAD ? NEW : OLD);
    put(way == LOAD ? waste : NULL);
}

/* After an error a load may have brought some of the bytes. */
static void check_result(const char *text, enum way way, int code)
{
    if (way == LOAD && code == ALLSHARD_OK) {
        twin same = t;
        same.host = &loaded;
        const char *wrong = twin_wrong(&same);
        CHECK_TEXT(!wrong, "%s: tensor %s", text, wrong ? wrong : "");
    }
    check_folder(text, way == LOAD || code == ALLSHARD_OK ? NEW : OLD);
}

/* ---- a case ---- */

enum mode { FAILS_ONCE, FAILS_AND_LOSES, FAILS_LATE, MODES };

typedef struct fault_case {
    enum way way;
    bool second; /* save or load of the context */
    enum mode mode;
    int call;
    int nth;
    int victim;
} fault_case;

static int64_t tried;
static int64_t failed;
static int64_t absorbed;

static const char *left_over(void)
{
    static const char *const kinds[] = {"events", "modules", "streams", "registered"};
    static char text[64];
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        int64_t expected = i == 2; /* the test's stream */
        int64_t live = devices.sim->live(kinds[i]);
        if (live != expected) {
            (void)snprintf(text, sizeof text, "%lld %s are left", (long long)live, kinds[i]);
            return text;
        }
    }
    return NULL;
}

static void arm(const fault_case *c)
{
    int codes[] = {c->nth % 2 ? AS_CU_INVALID_VALUE : AS_CU_OUT_OF_MEMORY, AS_CU_ILLEGAL_ADDRESS,
                   AS_CU_ILLEGAL_ADDRESS};
    if (world_rank() == c->victim && c->mode == FAILS_LATE) {
        devices.sim->inject_late(plain_name(c->call), c->nth, codes[c->mode]);
    } else if (world_rank() == c->victim) {
        devices.sim->inject(plain_name(c->call), c->nth, codes[c->mode]);
    }
}

/* Of all ranks: what they return, and whether the call was made. */
static void check_error(const fault_case *c, const char *text, int code, bool hit)
{
    allshard_error e = {.size = sizeof e};
    (void)allshard_last_error(as, &e);
    CHECK_TEXT(ranks_agree(world_comm(), &code, sizeof code), "%s: %s, not on all ranks", text,
               allshard_error_name(code));
    if (code == ALLSHARD_OK) {
        CHECK_TEXT(!hit || is_spare(c->call), "%s: nothing is told", text);
        absorbed += hit;
        return;
    }
    failed++;
    CHECK_TEXT(hit, "%s: %s without any fault", text, e.text);
    CHECK_TEXT(ranks_agree(world_comm(), e.text, strlen(e.text)), "%s: other texts: %s", text,
               e.text);
    CHECK_TEXT(code == ALLSHARD_CUDA || code == ALLSHARD_NOMEM, "%s: %s: %s", text,
               allshard_error_name(code), e.text);
    CHECK_TEXT(strstr(e.text, "CUDA_ERROR_") || strcmp(calls[c->call], "cuGetErrorName") == 0,
               "%s: no code: %s", text, e.text);
    /* Of a context that is lost the next call may tell, and another may come first. */
    CHECK_TEXT(c->mode != FAILS_ONCE || strstr(e.text, plain_name(c->call)), "%s: no call: %s",
               text, e.text);
    CHECK_TEXT(e.rank == c->victim, "%s: rank %d is said to have failed", text, e.rank);
}

static void run(const fault_case *c)
{
    char text[TEXT];
    (void)snprintf(text, sizeof text, "%s%s, call %d of %s, mode %d, on rank %d",
                   c->second ? "second " : "", way_names[c->way], c->nth, plain_name(c->call),
                   (int)c->mode, c->victim);
    ranks_scene("%s", text);
    open_context();
    if (c->second) {
        begin(c->way);
        GOOD(as, act(c->way));
    }
    begin(c->way);
    arm(c);
    int code = act(c->way);
    bool hit = ranks_max(world_comm(), devices.sim->failed()) > 0;
    const char *faults = devices.sim->faults();
    CHECK_TEXT(!*faults, "%s: %s", text, faults);
    devices.sim->reset();
    check_error(c, text, code, hit);
    twin_check(&devices);
    check_result(text, c->way, code);
    begin(c->way);
    GOOD(as, act(c->way));
    check_result(text, c->way, ALLSHARD_OK);
    close_context();
    twin_check(&devices);
    const char *left = left_over();
    CHECK_TEXT(!left, "%s: %s", text, left ? left : "");
    tried++;
}

/* ---- all of them ---- */

static bool is_wanted(uint64_t number)
{
    const char *text = getenv("ALLSHARD_LONG");
    uint64_t state_of = seed_of_test() * 1000003 + number;
    return (text && *text) ||
           next_random(&state_of) % (is_sanitized() ? ONE_IN_SANITIZED : ONE_IN) == 0;
}

static bool is_queued(int call)
{
    return strstr(calls[call], "Async") || strcmp(calls[call], "cuLaunchKernel") == 0;
}

/* Calls of each name that the scene makes on each rank; of polls not all are made again. */
static void count_calls(enum way way, bool second, int64_t counts[][CALLS])
{
    int64_t mine[CALLS];
    open_context();
    if (second) {
        begin(way);
        GOOD(as, act(way));
    }
    begin(way);
    for (int i = 0; i < CALLS; i++) {
        mine[i] = -devices.sim->calls(calls[i]);
    }
    GOOD(as, act(way));
    for (int i = 0; i < CALLS; i++) {
        mine[i] += devices.sim->calls(calls[i]);
    }
    check_result(way_names[way], way, ALLSHARD_OK);
    close_context();
    for (int r = 0; r < 2; r++) {
        memcpy(counts[r], mine, sizeof mine);
        bool chosen = world_rank() == (r ? world_size() - 1 : 0);
        for (int i = 0; i < CALLS; i++) {
            counts[r][i] = ranks_max(world_comm(), chosen ? mine[i] : 0);
            counts[r][i] = counts[r][i] < MOST ? counts[r][i] : MOST;
        }
    }
}

static void test_scene(enum way way, bool second, uint64_t *number)
{
    int64_t counts[2][CALLS];
    count_calls(way, second, counts);
    for (int r = 0; r < 2 && r < world_size(); r++) {
        for (int call = 0; call < CALLS; call++) {
            for (int mode = 0; mode < MODES; mode++) {
                for (int nth = 1; nth <= counts[r][call]; nth++) {
                    if ((mode == FAILS_LATE && !is_queued(call)) || !is_wanted((*number)++)) {
                        continue;
                    }
                    run(&(fault_case){.way = way,
                                      .second = second,
                                      .mode = (enum mode)mode,
                                      .call = call,
                                      .nth = nth,
                                      .victim = r ? world_size() - 1 : 0});
                }
            }
        }
    }
}

/* The old checkpoint and the new one, as the host's memory gives them. */
static void make_folders(void)
{
    twin host;
    twin_make(&host, &devices, &h, 1U << TWIN_HOST, &own);
    CHECK(allshard_open(&as, world_comm(), NULL) == ALLSHARD_OK);
    GOOD(as, allshard_state_create(&state, as, "model"));
    twin_declare(&host, as, state, stored);
    for (int i = 0; i < 2; i++) {
        twin_put(&host, TWIN_LEGACY, i ? NULL : waste);
        GOOD(as, act(SAVE));
        if (world_rank() == 0) {
            CHECK(snapshot_take(&files[i], folder) && snapshot_take(&timeless[i], folder));
            snapshot_forget_time(&timeless[i]);
            snapshot_forget_engine(&timeless[i]);
        }
        ranks_wait(world_comm());
    }
    (void)allshard_state_free(state);
    holding_make(&loaded, &small, LAYOUT_COLUMNS, world_rank(), world_size(), true);
    for (size_t i = 0; i < loaded.count; i++) {
        memset(loaded.pieces[i].memory, WASTE, loaded.pieces[i].bytes);
    }
    GOOD(as, allshard_state_create(&state, as, "model"));
    holding_declare_stored(&loaded, as, state, stored);
    GOOD(as, act(LOAD));
    close_context();
    twin_free(&host);
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 7200);
    twin_open(&devices);
    own = seed_of_test() + 1000 * (uint64_t)(world_rank() + 1);
    folder = scratch_path("checkpoint");
    holding_make(&h, &small, LAYOUT_COLUMNS, world_rank(), world_size(), true);
    holding_fill(&h);
    twin_make(&t, &devices, &h,
              1U << TWIN_DEVICE_0 | 1U << TWIN_DEVICE_1 | 1U << TWIN_MANAGED | 1U << TWIN_UNOWNED,
              &own);
    waste = malloc(twin_bytes(&t) + 1);
    CHECK(waste != NULL);
    memset(waste, WASTE, twin_bytes(&t));
    char *kept = strdup(folder); /* scratch_path has a few texts in turn */
    CHECK(kept != NULL);
    folder = kept;
    make_folders();
    double start = seconds_now();
    uint64_t number = 0;
    for (int way = 0; way < WAYS; way++) {
        for (int second = 0; second < 2; second++) {
            test_scene((enum way)way, second, &number);
        }
    }
    ranks_scene("the end");
    CHECK(failed > 0);
    twin_free(&t);
    twin_close(&devices);
    holding_free(&h);
    holding_free(&loaded);
    free(waste);
    for (int i = 0; i < 2; i++) {
        snapshot_free(&files[i]);
        snapshot_free(&timeless[i]);
    }
    free(kept);
    if (world_rank() == 0) {
        (void)printf("%lld of %llu faults of simulated devices in %.1f s: %lld errors, %lld saves "
                     "and loads that were good all the same\n",
                     (long long)tried, (unsigned long long)number, seconds_now() - start,
                     (long long)failed, (long long)absorbed);
    }
    return ranks_end();
}
