/* SPDX-License-Identifier: Apache-2.0 */
#include "support_publish.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/save.h"
#include "checkpoint_folder.h"
#include "comm/collect.h"
#include "io/pool.h"
#include "support_ranks.h"
#include "transfer/read_back.h"

enum { MANY = 30000, LONG_NAME = 160, ADDED = 40, CONFIG = 3 * 4096 + 5 };

/* ---- a state ---- */

static void declare_many(declared *d)
{
    allshard *as = d->as;
    d->many = calloc(MANY, sizeof *d->many);
    CHECK(d->many);
    for (int i = world_rank(); i < MANY; i += world_size()) {
        char name[LONG_NAME];
        (void)snprintf(name, sizeof name, "%0*d", (int)sizeof name - 1, i);
        d->many[i] = (float)i;
        allshard_tensor t = {.size = sizeof t,
                             .name = name,
                             .dtype = ALLSHARD_F32,
                             .order = 1 + i,
                             .data = &d->many[i]};
        GOOD(as, allshard_state_tensor(d->s, &t));
    }
}

declared declare(allshard *as, bool many)
{
    declared d = {.as = as};
    GOOD(as, allshard_state_create(&d.s, as, "model"));
    if (many) {
        declare_many(&d);
    } else {
        holding_make(&d.h, &model_mixed, LAYOUT_FSDP, world_rank(), world_size(), false);
        holding_declare(&d.h, as, d.s);
        holding_fill(&d.h);
    }
    d.config = malloc(CONFIG);
    CHECK(d.config);
    for (int i = 0; i < CONFIG; i++) {
        d.config[i] = (char)(i * 7);
    }
    char own[64];
    (void)snprintf(own, sizeof own, "of_rank_%d.txt", world_rank());
    GOOD(as, allshard_state_file(d.s, "config.json", d.config, CONFIG));
    GOOD(as, allshard_state_file(d.s, own, own, strlen(own)));
    GOOD(as, allshard_state_file(d.s, "empty", "", 0));
    GOOD(as, allshard_state_meta(d.s, "step", "17"));
    return d;
}

void undeclare(declared *d)
{
    (void)allshard_state_free(d->s);
    holding_free(&d->h);
    free(d->many);
    free(d->config);
}

/* ---- a save in steps ---- */

static as_comm *comm(const saving *x)
{
    return x->call.session->comm;
}

static bool is_main(void)
{
    return world_rank() == 0;
}

static bool is_good(const saving *x)
{
    return x->e.code == AS_OK;
}

static int agree(saving *x)
{
    return as_comm_agree(comm(x), &x->e);
}

typedef struct errand {
    saving *saving;
    void (*run)(saving *x);
} errand;

static void *run_errand(void *user)
{
    errand *r = user;
    r->run(r->saving);
    atomic_store(&r->saving->over, true);
    return NULL;
}

static void add_something(saving *x, int i)
{
    const allshard *as = x->state.as;
    static float value;
    char name[32];
    (void)snprintf(name, sizeof name, "later.%d", i);
    allshard_tensor t = {
        .size = sizeof t, .name = name, .dtype = ALLSHARD_F32, .order = 900 + i, .data = &value};
    GOOD(as, allshard_state_tensor(x->state.s, &t));
    GOOD(as, allshard_state_meta(x->state.s, "step", name));
    GOOD(as, allshard_state_meta(x->state.s, name, name));
    GOOD(as, allshard_state_file(x->state.s, "config.json", name, strlen(name)));
    GOOD(as, allshard_state_file(x->state.s, name, name, strlen(name)));
}

/* In a thread of its own, while this one adds to the state, if it is to. */
static void in_thread(saving *x, void (*run)(saving *x), bool add)
{
    pthread_t thread;
    errand r = {.saving = x, .run = run};
    atomic_store(&x->over, false);
    must(pthread_create(&thread, NULL, run_errand, &r) == 0, "pthread_create");
    for (int i = 0; add && (i < ADDED || !atomic_load(&x->over)) && i < 10 * ADDED; i++) {
        add_something(x, i);
    }
    must(pthread_join(thread, NULL) == 0, "pthread_join");
}

static void keep_log(int level, const char *text, void *user)
{
    saving *x = user;
    if (level == AS_LOG_WARNING) {
        (void)snprintf(x->logged, sizeof x->logged, "%s", text);
        x->log_thread = pthread_self();
    }
}

static int look(void *user, as_error *e)
{
    saving *x = user;
    return ++x->looks == x->look_fails ? as_fail(e, AS_CANCELLED, 0, "cancelled") : AS_OK;
}

static int tick(void *user, as_error *e)
{
    saving *x = user;
    return ++x->ticks == x->tick_fails ? as_fail(e, AS_CANCELLED, 0, "cancelled") : AS_OK;
}

static int open_staged(void *user, int32_t file, int *fd, const char **name, as_error *e)
{
    saving *x = user;
    return as_stage_open(&x->stage, file, fd, name, e);
}

static int open_written(void *user, int32_t file, int *fd, const char **name, as_error *e)
{
    saving *x = user;
    return as_stage_open_written(&x->stage, file, fd, name, e);
}

static void begin(saving *x)
{
    as_txn_options options = {.mode = (mode_t)x->call.mode};
    as_log log = {.call = keep_log, .user = x};
    (void)as_txn_begin(&x->txn, x->call.directory, &options, &log, &x->e);
}

static void commit(saving *x)
{
    (void)as_publication_commit(&x->p, &x->e);
}

static void finish(saving *x)
{
    (void)as_txn_finish(x->txn, &x->e);
    x->txn = NULL;
}

static void give_up(saving *x)
{
    as_txn_abort(x->txn);
    x->txn = NULL;
}

static as_buffer *sums_wanted(saving *x)
{
    return x->call.no_checksums && !x->call.read_back ? NULL : &x->checksums;
}

static as_transfer transfer_of(saving *x)
{
    as_transfer t = {.plan = &x->stage.prepared->plan,
                     .engine = as_engine_by_name(x->storage.engine),
                     .meter = &x->call.session->meter,
                     .checksums = sums_wanted(x),
                     .open_file = open_staged,
                     .open_written = open_written,
                     .tick = tick,
                     .user = x};
    as_probe_options(&x->storage, &t.engine_options);
    return t;
}

static void read_back(saving *x)
{
    as_transfer t = transfer_of(x);
    char *memory = aligned_alloc(AS_POOL_PAGE, x->memory);
    CHECK(memory);
    (void)as_read_back_own(&t, x->extras, memory, x->memory, &x->e);
    free(memory);
}

static void settle(saving *x)
{
    (void)as_stage_settle_own(&x->stage, &x->e);
}

static void write_bytes(saving *x)
{
    as_transfer t = transfer_of(x);
    t.comm = comm(x);
    t.state = x->call.state;
    t.arena = x->call.session->arena;
    t.open_written = NULL;
    t.tick = NULL;
    (void)as_transfer_save(&t, &x->e);
    as_storage_explain(t.meter, &x->storage);
}

int saving_write(saving *x, allshard *as, const allshard_save_options *o, const char *folder,
                 bool many)
{
    *x = (saving){
        .state = declare(as, many), .memory = 2 * (size_t)o->block_bytes, .e = AS_ERROR_INIT};
    as_save_call_from(&x->call, x->state.s, folder, o, &x->e);
    as_session_begin(x->call.session, AS_SAVE);
    CHECK(as_prepare(&x->call, &x->e) == AS_OK);
    x->stage = (as_stage){.call = &x->call, .prepared = &x->call.cache->prepared};
    if (is_main()) {
        in_thread(x, begin, false);
    }
    if (agree(x) != AS_OK) {
        return x->e.code;
    }
    (void)as_stage_enter(&x->stage, &x->e);
    (void)as_storage_for_save(&x->storage, &x->call, &x->e);
    if (is_good(x)) {
        (void)as_stage_create(&x->stage, &x->e);
        (void)agree(x);
    }
    if (is_good(x)) {
        (void)as_session_buffers(x->call.session, x->stage.prepared->plan.block_bytes, &x->e);
    }
    x->p = (as_publication){.comm = comm(x),
                            .state = x->call.state,
                            .log = {.call = keep_log, .user = x},
                            .part = x->call.state->part,
                            .prepared = x->stage.prepared,
                            .directory = x->call.directory,
                            .checksums = sums_wanted(x),
                            .no_checksums = x->call.no_checksums,
                            .read_back = x->call.read_back,
                            .look = look,
                            .user = x};
    if (is_good(x)) {
        (void)as_publish_early(&x->p, &x->e);
        x->extras = x->checksums.size;
    }
    if (is_good(x)) {
        write_bytes(x);
    }
    return x->e.code;
}

/* One byte, what the rank wrote, its checksums: none of them where its type would lie. */
static int take_report(void *user, int from, const char *bytes, size_t count, as_error *e)
{
    saving *x = user;
    int64_t own;
    const char *sums = bytes + 1 + sizeof own;
    size_t size = count - 1 - sizeof own;
    memcpy(&own, bytes + 1, sizeof own);
    if (!x->spoil || from != world_size() - 1) {
        return as_publish_report(&x->p, from, own, sums, size / sizeof(as_block_sum), true, e);
    }
    as_buffer copy = AS_BUFFER_INIT;
    CHECK(as_buffer_append(&copy, sums, size, e) == AS_OK);
    int code = x->spoil(x, from, own, &copy, e);
    as_buffer_free(&copy);
    return code;
}

static int report(saving *x)
{
    as_buffer mine = AS_BUFFER_INIT;
    int64_t own = x->stage.prepared->plan.own_bytes;
    as_session_gather(x->call.session);
    as_meters_engine(&x->call.session->meter, x->call.session->meters,
                     as_comm_size(x->call.session->comm), &x->p.engine, &x->p.engine_reason);
    CHECK(as_buffer_char(&mine, '?', &x->e) == AS_OK);
    CHECK(as_buffer_append(&mine, &own, sizeof own, &x->e) == AS_OK);
    CHECK(as_buffer_append(&mine, x->checksums.data, x->checksums.size, &x->e) == AS_OK);
    CHECK(mine.size < AS_COLLECT_CHUNK);
    if (is_main()) {
        (void)as_publish_expect(&x->p, &x->e);
    }
    int code = as_comm_collect(comm(x), &mine, take_report, x, &x->e);
    as_buffer_free(&mine);
    return code;
}

int saving_read_back(saving *x, as_error *e)
{
    x->ticks = 0;
    in_thread(x, read_back, false);
    int code = x->e.code;
    as_error_move(e, &x->e);
    return code;
}

int saving_publish(saving *x)
{
    if (x->call.read_back) {
        in_thread(x, read_back, false);
    }
    if (agree(x) == AS_OK) {
        in_thread(x, settle, false);
    }
    if (agree(x) == AS_OK && report(x) == AS_OK) {
        x->p.comm = NULL; /* who looks at these now comes to grief */
        x->p.state = NULL;
        x->p.txn = x->txn;
        if (is_main()) {
            in_thread(x, commit, true);
        } else {
            add_something(x, world_rank());
        }
        (void)agree(x);
    }
    return x->e.code;
}

void saving_end(saving *x)
{
    if (x->txn) {
        in_thread(x, is_good(x) ? finish : give_up, false);
    }
    as_stage_free(&x->stage);
    as_publication_free(&x->p);
    as_buffer_free(&x->checksums);
    as_error_clear(&x->e);
    undeclare(&x->state);
    ranks_wait(world_comm());
}
