/* SPDX-License-Identifier: Apache-2.0
 * Device memory, simulated: random states in random layouts, each as a twin of one on the host, in
 * memory of all kinds, on two devices, with casts, in the order of every kind of stream. Saves,
 * blocking and not, give the files that the host's memory gives, byte for byte, with what was still
 * on its way to the device in the caller's stream when the call was made, and nothing of what was put
 * there when it had returned; loads give the same memory, gaps between elements included. Each
 * device's copies take random times. The simulation notes every broken rule, and what is left.
 * At the end one rank's device stands still for longer than ranks may stall.
 * ALLSHARD_SEED gives other cases, ALLSHARD_LONG=1 more of them. (ALLSHARD_NO_MPI: also as one
 * process.)
 */
/* simulated: cuda */
/* ranks: 3 1 2 */
/* unshared: 4 */
/* timeout: 200 */
/* long-timeout: 3600 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint_folder.h"
#include "device/cuda_kernel.h"
#include "support_isave.h"
#include "support_ranks.h"
#include "support_snapshot.h"
#include "support_twin.h"

enum { FEW = 24, FEW_SANITIZED = 10, MANY = 2000, TEXT = 160, SMALL_MEMORY = 128 << 10, MS = 15 };

static twin_devices devices;
static allshard *roomy; /* a snapshot always fits */
static allshard *tight; /* it seldom does */
static allshard *plain; /* a snapshot fits, and devices have no pack kernel */
static const char *kernel_image;
static uint64_t own; /* random, of this rank alone */

/* ---- cases ---- */

enum way { BLOCKING, SNAPSHOT, STREAM, WAYS };

/* Elements of several megabytes: more blocks than buffers, and copies in several parts. */
static const model_tensor large_tensors[] = {
    {"large.weight", ALLSHARD_F32, 2, {1500, 1100}},
    {"large.narrow", ALLSHARD_BF16, 2, {300000, 6}},
    {"large.bytes", ALLSHARD_U8, 1, {5000011}},
};
static const model large = {large_tensors, (int)(sizeof large_tensors / sizeof *large_tensors)};

typedef struct scenario {
    random_model random;
    const model *m;
    enum layout layout;
    bool strided;
    bool casts;
    enum way way;
    allshard *as;
    allshard_save_options o;
    enum twin_stream stream;
    unsigned kinds; /* of this rank's memory */
    int delay;      /* microseconds */
    char text[TEXT];
} scenario;

/* The same on all ranks, but for memory and stream. */
static void choose(scenario *c, int number, uint64_t *random)
{
    static const int64_t blocks[] = {64, 256, 1024, 4096, 16384};
    static const char *const engines[] = {NULL, "posix", "direct", "uring"};
    *c = (scenario){.layout = (enum layout)(number % LAYOUT_COUNT)};
    random_model_make(&c->random, random);
    c->m = number < LAYOUT_COUNT * 2 ? &model_mixed : &c->random.m;
    c->way = (enum way)(number % WAYS);
    c->strided = pick(random, 3) > 0;
    c->casts = pick(random, 3) == 0;
    c->o = (allshard_save_options){
        .size = sizeof c->o,
        .max_shard_size = pick(random, 2) ? "12KB" : "5GB",
        .block_bytes = blocks[pick(random, 5)],
        .engine = engines[pick(random, 4)],
        .staging = c->way == STREAM ? ALLSHARD_STAGE_STREAM : ALLSHARD_STAGE_SNAPSHOT,
        .verify_after_write = pick(random, 4) == 0,
    };
    if (number % 18 == 17) {
        c->m = &large;
        c->o.max_shard_size = "5GB";
        c->o.block_bytes = pick(random, 2) ? 0 : 256 << 10;
    }
    bool holds = c->way != STREAM || c->m == &large;
    c->as = !holds ? tight : pick(random, 3) ? roomy : plain;
    c->stream = (enum twin_stream)pick(&own, TWIN_STREAMS);
    c->kinds = pick(&own, 4) ? (1U << TWIN_KINDS) - 1 : 1U << pick(&own, TWIN_KINDS);
    c->delay = pick(&own, 3) ? pick(&own, 200) : 0;
    c->o.cuda_stream = twin_stream_of(&devices, c->stream);
    c->o.copy_threads = pick(&own, 4);
    (void)snprintf(c->text, sizeof c->text,
                   "case %d: %s, way %d, strided %d, casts %d, blocks of %lld", number,
                   layout_name(c->layout), (int)c->way, c->strided, c->casts,
                   (long long)c->o.block_bytes);
    ranks_scene("%s, stream %d, kinds %x, delay %d", c->text, (int)c->stream, c->kinds, c->delay);
}

static int32_t stored_as_it_is(int32_t dtype)
{
    (void)dtype;
    return 0;
}

static int32_t stored_otherwise(int32_t dtype)
{
    return dtype == ALLSHARD_F32    ? ALLSHARD_BF16
           : dtype == ALLSHARD_F64  ? ALLSHARD_F32
           : dtype == ALLSHARD_BF16 ? ALLSHARD_F32
           : dtype == ALLSHARD_F16  ? ALLSHARD_F8_E4M3
                                    : 0;
}

/* ---- one case ---- */

static void compare_folders(const scenario *c, const char *expected, const char *found)
{
    ranks_wait(world_comm());
    if (world_rank() == 0) {
        snapshot a;
        snapshot b;
        CHECK(snapshot_take(&a, expected) && snapshot_take(&b, found));
        CHECK_TEXT(a.count > 1, "%s: nothing is in %s", c->text, expected);
        snapshot_forget_time(&a);
        snapshot_forget_time(&b);
        /* Of device memory it tells also why GPU-direct was not taken. */
        snapshot_forget_engine(&a);
        snapshot_forget_engine(&b);
        CHECK_TEXT(snapshot_same(&b, &a), "%s: %s", c->text, snapshot_difference(&b, &a));
        snapshot_free(&a);
        snapshot_free(&b);
    }
    ranks_wait(world_comm());
}

static void check_stats(const scenario *c, const twin *t)
{
    allshard_stats s = {.size = sizeof s};
    CHECK(allshard_get_stats(c->as, world_rank(), &s) == ALLSHARD_OK);
    bool some = t && t->on_device > 0;
    CHECK_TEXT(strncmp(s.device, "cuda:", some ? 5 : 0) == 0 && (some || !*s.device),
               "%s: pieces on \"%s\"", c->text, s.device);
    CHECK_TEXT(s.device_reason && (s.bytes_device == 0 || some), "%s: %lld bytes of devices",
               c->text, (long long)s.bytes_device);
    int64_t bytes[] = {some, s.bytes_device};
    bytes[0] = ranks_sum(world_comm(), bytes[0]);
    bytes[1] = ranks_sum(world_comm(), bytes[1]);
    /* Of replicas a save may take those on the host. */
    bool replicas = c->layout == LAYOUT_REPLICATED || c->layout == LAYOUT_PARALLEL;
    CHECK_TEXT(bytes[1] > 0 || bytes[0] == 0 || (replicas && s.operation != ALLSHARD_LOAD),
               "%s: no bytes of devices", c->text);
    if (some && devices.sim->live("registered") == 0) {
        fail_test(__FILE__, __LINE__, "%s: nothing is page-locked", c->text);
    }
}

/* What is on its way to the devices when the call is made is saved. */
static void save(const scenario *c, const twin *t, allshard_state *s, const char *folder,
                 const unsigned char *waste)
{
    twin_pause pause;
    twin_put(t, TWIN_LEGACY, waste);
    CHECK(devices.sim->context_synchronize() == AS_CU_SUCCESS);
    twin_stop(&pause, &devices, MS);
    twin_put(t, c->stream, NULL);
    if (c->way == BLOCKING) {
        GOOD(c->as, allshard_save(s, folder, &c->o));
        twin_put(t, c->stream, waste);
        twin_go_on(&pause);
        check_stats(c, t);
        return;
    }
    allshard_request *request = NULL;
    GOOD(c->as, allshard_isave(s, folder, &c->o, &request));
    twin_put(t, c->stream, waste); /* from now on the weights are others */
    twin_go_on(&pause);
    GOOD(c->as, end_request(&request, BY_WAIT, &own, NULL, s));
    check_stats(c, t);
}

/* The load comes after what is in the stream; when it has returned all is there. */
static void load(const scenario *c, const twin *t, allshard_state *s, const char *folder,
                 const unsigned char *waste)
{
    twin_pause pause;
    allshard_load_options o = {
        .size = sizeof o, .block_bytes = c->o.block_bytes, .cuda_stream = c->o.cuda_stream};
    twin_stop(&pause, &devices, MS);
    twin_put(t, c->stream, waste);
    GOOD(c->as, allshard_load(s, folder, &o));
    const char *wrong = twin_wrong(t);
    CHECK_TEXT(!wrong, "%s: tensor %s came back otherwise", c->text, wrong ? wrong : "");
    twin_go_on(&pause);
    check_stats(c, t);
}

static void run(const scenario *c)
{
    holding h;
    twin t;
    allshard_state *host;
    allshard_state *other;
    const char *expected = scratch_path("expected");
    const char *found = scratch_path("found");
    int32_t (*stored)(int32_t) = c->casts ? stored_otherwise : stored_as_it_is;
    devices.sim->delay((unsigned)next_random(&own), c->delay);
    as_kernel_image = c->as == plain ? NULL : kernel_image; /* looked at when it is first needed */
    holding_make(&h, c->m, c->layout, world_rank(), world_size(), c->strided);
    twin_make(&t, &devices, &h, c->kinds, &own);
    unsigned char *waste = malloc(twin_bytes(&t) + 1);
    CHECK(waste != NULL);
    memset(waste, 0x3c, twin_bytes(&t));
    GOOD(c->as, allshard_state_create(&host, c->as, "model"));
    holding_declare_stored(&h, c->as, host, stored);
    GOOD(c->as, allshard_state_create(&other, c->as, "model"));
    twin_declare(&t, c->as, other, stored);

    holding_fill(&h);
    GOOD(c->as, allshard_save(host, expected, &c->o));
    check_stats(c, NULL);
    save(c, &t, other, found, waste);
    twin_check(&devices);
    compare_folders(c, expected, found);

    for (size_t i = 0; i < h.count; i++) {
        memset(h.pieces[i].memory, 0x3c, h.pieces[i].bytes);
    }
    allshard_load_options o = {.size = sizeof o, .block_bytes = c->o.block_bytes};
    GOOD(c->as, allshard_load(host, found, &o));
    load(c, &t, other, expected, waste);
    twin_check(&devices);

    (void)allshard_state_free(host);
    (void)allshard_state_free(other);
    CHECK(devices.sim->context_synchronize() == AS_CU_SUCCESS);
    twin_free(&t);
    holding_free(&h);
    free(waste);
}

/* ---- a device that stands still ---- */

/* The others give up after the time that was agreed on, all with one code, and this rank when its
 * device lets go of the buffers. */
static void stand_still(bool loads)
{
    enum { LONGER = 2500 };
    holding h;
    twin t;
    allshard *as;
    allshard_state *s;
    const char *folder = scratch_path("still");
    allshard_options options = {.size = sizeof options, .timeout_s = 1};
    ranks_scene("a device stands still in %s", loads ? "a load" : "a save");
    devices.sim->delay(1, 0);
    holding_make(&h, &model_mixed, LAYOUT_COLUMNS, world_rank(), world_size(), true);
    twin_make(&t, &devices, &h, 1U << TWIN_DEVICE_0, &own);
    holding_fill(&h);
    twin_put(&t, TWIN_LEGACY, NULL);
    CHECK(devices.sim->context_synchronize() == AS_CU_SUCCESS);
    GOOD(roomy, allshard_state_create(&s, roomy, "model"));
    twin_declare(&t, roomy, s, stored_as_it_is);
    GOOD(roomy, allshard_save(s, folder, NULL));
    (void)allshard_state_free(s);
    /* On a slow machine others may stall as well: that is the same to what is tested. */
    CHECK(allshard_open(&as, world_comm(), &options) == ALLSHARD_OK);
    GOOD(as, allshard_state_create(&s, as, "model"));
    twin_declare(&t, as, s, stored_as_it_is);
    twin_pause pause;
    bool holds = world_rank() == world_size() - 1;
    ranks_wait(world_comm());
    if (holds) {
        twin_stop(&pause, &devices, LONGER);
    }
    int code = loads ? allshard_load(s, folder, NULL) : allshard_save(s, folder, NULL);
    CHECK_TEXT(code == ALLSHARD_TIMEOUT, "%s", allshard_error_name(code));
    if (holds) {
        twin_go_on(&pause);
    }
    ranks_wait(world_comm());
    (void)allshard_state_free(s);
    (void)allshard_close(as);
    twin_check(&devices);
    twin_free(&t);
    holding_free(&h);
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 3600);
    twin_open(&devices);
    kernel_image = as_kernel_image;
    own = seed_of_test() + 1000 * (uint64_t)(world_rank() + 1);
    allshard_options options = {.size = sizeof options};
    CHECK(allshard_open(&roomy, world_comm(), &options) == ALLSHARD_OK);
    CHECK(allshard_open(&plain, world_comm(), &options) == ALLSHARD_OK);
    options.snapshot_memory = SMALL_MEMORY;
    CHECK(allshard_open(&tight, world_comm(), &options) == ALLSHARD_OK);
    const char *text = getenv("ALLSHARD_LONG");
    int count = text && *text ? MANY : is_sanitized() ? FEW_SANITIZED : FEW;
    uint64_t random = seed_of_test();
    double start = seconds_now();
    for (int i = 0; i < count; i++) {
        scenario c;
        choose(&c, is_sanitized() ? i * 5 : i, &random);
        run(&c);
    }
    for (int loads = 0; loads < 2 && world_size() > 1; loads++) {
        stand_still(loads != 0);
    }
    ranks_scene("the end");
    CHECK(allshard_close(tight) == ALLSHARD_OK && allshard_close(plain) == ALLSHARD_OK &&
          allshard_close(roomy) == ALLSHARD_OK);
    twin_close(&devices);
    int64_t launches = ranks_sum(world_comm(), devices.sim->calls("cuLaunchKernel"));
    int64_t rows = ranks_sum(world_comm(), devices.sim->calls("cuMemcpy2DAsync"));
    CHECK(launches > 0 && rows > 0);
    if (world_rank() == 0) {
        (void)printf(
            "%d cases in %.1f s, on simulated devices: %lld launches, %lld copies of rows\n", count,
            seconds_now() - start, (long long)launches, (long long)rows);
    }
    return ranks_end();
}
