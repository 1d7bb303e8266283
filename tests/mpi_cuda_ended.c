/* SPDX-License-Identifier: Apache-2.0
 * Programs that destroy the CUDA contexts that pieces lie in, or reset their devices, while allshard's
 * context is open: between two calls nothing is lost, in the middle of one all ranks return one error
 * that says so and the next call is good again; closing is no error. With the host's engine and with
 * GPU-direct. Devices and cuFile are simulated ones.
 */
/* simulated: cuda */
/* ranks: 2 */
/* timeout: 120 */
#include "gds_scene.h"
#include "io/cufile_library.h"

enum { BYTES = 2 << 20, BLOCK = 64 << 10, ROUNDS = 2 };
enum way { SAVE, SNAPSHOT, STREAM, LOAD, WAYS };
static const char *const way_names[] = {"save", "snapshot", "stream", "load"};

static allshard *as;
static as_cu_context context; /* of this rank's pieces */
static as_cu_pointer memory;
static allshard_state *there;
static allshard_state *host;
static unsigned char content[BYTES];
static unsigned char back[BYTES];
static bool ends; /* the context does, when some bytes are through */

static void make_progress(int64_t done, int64_t total, void *user)
{
    (void)user;
    if (ends && done < total) {
        ends = false;
        CHECK(sim->end_context(context) == AS_CU_SUCCESS);
    }
}

static allshard_state *state_of(void *data)
{
    allshard_state *s = NULL;
    int64_t shape[] = {(int64_t)world_size() * BYTES};
    int64_t local[] = {BYTES};
    int64_t offset[] = {(int64_t)world_rank() * BYTES};
    allshard_tensor t = {.size = sizeof t,
                         .name = "t",
                         .dtype = ALLSHARD_U8,
                         .ndim = 1,
                         .shape = shape,
                         .local_shape = local,
                         .offset = offset,
                         .data = data};
    GOOD(as, allshard_state_create(&s, as, "model"));
    GOOD(as, allshard_state_tensor(s, &t));
    return s;
}

static void begin_context(bool primary, int round)
{
    if (primary) {
        CHECK(devices.cuda->primary_retain(&context, 1) == AS_CU_SUCCESS);
        CHECK(devices.cuda->context_push(context) == AS_CU_SUCCESS);
    } else {
        CHECK(sim->context_create(&context, 0, 1) == AS_CU_SUCCESS);
    }
    CHECK(devices.cuda->memory_alloc(&memory, BYTES) == AS_CU_SUCCESS);
    CHECK(devices.cuda->context_pop(NULL) == AS_CU_SUCCESS);
    for (int i = 0; i < BYTES; i++) {
        content[i] = (unsigned char)(i * 13 + i / 777 + round * 5 + world_rank());
    }
    there = state_of((void *)(uintptr_t)memory);
}

static void end_context(void)
{
    (void)allshard_state_free(there);
    (void)sim->end_context(context); /* if it has not ended before */
    file->forget();
}

static int act(enum way way, const char *engine)
{
    const char *folder = scratch_path("folder");
    allshard_save_options to = save_options(engine, BLOCK);
    if (way == LOAD) {
        allshard_load_options from = {.size = sizeof from, .engine = engine, .block_bytes = BLOCK};
        return allshard_load(there, folder, &from);
    }
    sim->write(memory, content, BYTES);
    if (way == SAVE) {
        return allshard_save(there, folder, &to);
    }
    allshard_request *request = NULL;
    to.staging = way == STREAM ? ALLSHARD_STAGE_STREAM : ALLSHARD_STAGE_SNAPSHOT;
    int code = allshard_isave(there, folder, &to, &request);
    return code == ALLSHARD_OK ? allshard_wait(&request, NULL) : code;
}

static void check_bytes(enum way way)
{
    allshard_load_options from = {.size = sizeof from, .engine = "posix"};
    memset(back, 0, BYTES);
    if (way == LOAD) {
        sim->read(back, memory, BYTES);
    } else {
        GOOD(as, allshard_load(host, scratch_path("folder"), &from));
    }
    CHECK(memcmp(back, content, BYTES) == 0);
}

/* What a load is to bring. */
static void save_from_host(void)
{
    allshard_save_options to = save_options("posix", BLOCK);
    memcpy(back, content, BYTES);
    GOOD(as, allshard_save(host, scratch_path("folder"), &to));
}

static void check_within(enum way way, const char *engine)
{
    allshard_error e = {.size = sizeof e};
    int last = world_size() - 1;
    ends = world_rank() == last;
    int code = act(way, engine);
    (void)allshard_last_error(as, &e);
    CHECK_TEXT(ranks_agree(world_comm(), &code, sizeof code), "%s, not on all ranks",
               allshard_error_name(code));
    CHECK_TEXT(code == ALLSHARD_CUDA && e.rank == last, "%s: %s", allshard_error_name(code),
               e.text);
    CHECK_TEXT(strstr(e.text, "destroyed the CUDA context"), "%s", e.text);
    CHECK(!ends);
}

static void check_case(enum way way, const char *engine, bool primary, bool within)
{
    ranks_scene("%s, %s, %s context, ended %s", way_names[way], engine, primary ? "primary" : "own",
                within ? "within" : "between");
    allshard_options o = {.size = sizeof o, .memory = 1, .progress = make_progress};
    CHECK(allshard_open(&as, world_comm(), &o) == ALLSHARD_OK);
    host = state_of(back);
    for (int round = 0; round < ROUNDS; round++) {
        begin_context(primary, round);
        if (way == LOAD) {
            save_from_host();
        }
        if (round > 0 && strcmp(engine, "gds") == 0) {
            /* New memory where the old one was, which cuFile has not heard of. */
            file->refuse("cuFileBufRegister", 2, AS_CUFILE_MEMORY_ALREADY_REGISTERED);
        }
        GOOD(as, act(way, engine));
        check_bytes(way);
        CHECK_TEXT(!*file->faults(), "cuFile: %s", file->faults());
        if (strcmp(engine, "gds") == 0 && (way == SAVE || way == LOAD)) {
            allshard_stats s = {.size = sizeof s};
            GOOD(as, act(way, engine));
            CHECK(allshard_get_stats(as, world_rank(), &s) == ALLSHARD_OK);
            CHECK_TEXT(strcmp(s.engine, "gds") == 0, "%s: %s", s.engine, s.engine_reason);
        }
        if (within) {
            check_within(way, engine);
        }
        end_context();
    }
    (void)allshard_state_free(host);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    CHECK(sim->live("registered") == 0 && sim->live("events") == 0);
    CHECK_TEXT(!*sim->faults(), "%s", sim->faults());
    CHECK_TEXT(!*file->faults(), "cuFile: %s", file->faults());
    calm();
}

int main(int argc, char **argv)
{
    double start = seconds_now();
    int count = 0;
    if (gds_start(&argc, &argv)) {
        for (int i = 0; i < WAYS * 4; i++) {
            enum way way = (enum way)(i / 4);
            bool blocks = way == SAVE || way == LOAD;
            check_case(way, i % 2 ? "gds" : "posix", i & 2, false);
            count++;
            if (blocks && i % 2 == 0) {
                check_case(way, "posix", i & 2, true);
                count++;
            }
        }
    }
    return gds_end(count, start);
}
