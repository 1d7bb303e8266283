/* SPDX-License-Identifier: Apache-2.0
 * The steps by which a nonblocking save becomes a checkpoint, in their order: what the main process
 * does alone runs in threads of its own, a new one each time, while the program adds tensors,
 * metadata and files to the state. What comes out is what allshard_save writes, byte for byte.
 * Reports that cannot be are refused, a look that fails between two steps ends the save, and bytes
 * that change on storage are found without the other ranks: each time the old checkpoint stays.
 * (ALLSHARD_NO_MPI: also as one process.)
 */
/* ranks: 1 2 3 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/handles.h"
#include "api/save.h"
#include "checkpoint_folder.h"
#include "comm/collect.h"
#include "io/pool.h"
#include "support_model.h"
#include "support_ranks.h"
#include "support_snapshot.h"
#include "transfer/publish.h"
#include "transfer/read_back.h"
#include "transfer/stage.h"
#include "transfer/storage.h"

enum { BLOCK = 4096, MANY = 30000, LONG_NAME = 160, ADDED = 40 };

static allshard *as;

/* ---- a state ---- */

typedef struct declared {
    allshard_state *s;
    holding h;    /* of the mixed model; empty in the other case */
    float *many;  /* [MANY] */
    char *config; /* a small file of several blocks */
} declared;

static void declare_many(declared *d)
{
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

static declared declare(bool many)
{
    enum { CONFIG = 3 * BLOCK + 5 };
    declared d = {0};
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

static void drop(declared *d)
{
    (void)allshard_state_free(d->s);
    holding_free(&d->h);
    free(d->many);
    free(d->config);
}

/* ---- a save in steps ---- */

/* What is wrong with the reports that reach the main process. */
enum flaw {
    NO_FLAW,
    BLOCK_TWICE,
    BLOCK_MISSING,
    BLOCK_BEYOND,
    BLOCK_HUGE,
    BLOCK_NEGATIVE,
    FILE_BEYOND,
    FILE_NEGATIVE,
    RANK_TWICE,
    RANK_MISSING,
    RANK_BEYOND,
    RANK_NEGATIVE,
    BYTES_NEGATIVE,
    SUMS_UNWANTED, /* in a save without checksums */
    FLAWS
};

typedef struct saving {
    declared state;
    as_save_call call;
    as_stage stage;
    as_engine_choice storage;
    as_txn *txn;
    as_buffer checksums;
    size_t extras; /* bytes of these that are of small files */
    as_publication p;
    as_error e;
    enum flaw flaw;
    int looks;
    int look_fails; /* at that look; 0: never */
    int ticks;
    int tick_fails;
    size_t memory; /* to read back into */
    atomic_bool over;
    pthread_t log_thread;
    char logged[512];
} saving;

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

/* Up to the bytes of all ranks on disk. The code is the same on all ranks. */
static int write_all(saving *x, const allshard_save_options *o, const char *folder, bool many)
{
    *x = (saving){.state = declare(many), .memory = 2 * (size_t)o->block_bytes, .e = AS_ERROR_INIT};
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

/* The report of a rank, with what is wrong with it. */
static int take_flawed(saving *x, int from, int64_t own, as_buffer *sums, as_error *e)
{
    as_block_sum *s = (as_block_sum *)(void *)sums->data;
    size_t count = sums->size / sizeof *s;
    const as_plan *plan = &x->p.prepared->plan;
    as_block_sum *last = count ? &s[count - 1] : NULL;
    int rank = from;
    switch (x->flaw) {
    case BLOCK_TWICE:
        (void)as_buffer_append(sums, sums->data, sizeof *s, e);
        count++;
        break;
    case BLOCK_MISSING:
        count--;
        break;
    case BLOCK_BEYOND:
        last->block = (plan->file_size[0] + BLOCK - 1) / BLOCK;
        last->file = 0;
        break;
    case BLOCK_HUGE:
        last->block = INT64_MAX;
        break;
    case BLOCK_NEGATIVE:
        last->block = -1;
        break;
    case FILE_BEYOND:
        last->file = plan->file_count + (int64_t)as_extras_count(&x->p.prepared->extras);
        break;
    case FILE_NEGATIVE:
        last->file = -1;
        break;
    case RANK_TWICE:
        (void)as_publish_report(&x->p, from, own, NULL, 0, true, e);
        break;
    case RANK_MISSING:
        return AS_OK;
    case RANK_BEYOND:
        rank = world_size();
        break;
    case RANK_NEGATIVE:
        rank = -1;
        break;
    case BYTES_NEGATIVE:
        own = -1;
        break;
    case SUMS_UNWANTED: {
        as_block_sum one = {0};
        (void)as_buffer_append(sums, &one, sizeof one, e);
        count++;
        break;
    }
    default:
        break;
    }
    return as_publish_report(&x->p, rank, own, sums->data, count, true, e);
}

/* One byte, what the rank wrote, its checksums: none of them where its type would lie. */
static int take_report(void *user, int from, const char *bytes, size_t count, as_error *e)
{
    saving *x = user;
    int64_t own;
    const char *sums = bytes + 1 + sizeof own;
    size_t size = count - 1 - sizeof own;
    memcpy(&own, bytes + 1, sizeof own);
    if (x->flaw == NO_FLAW || from != world_size() - 1) {
        return as_publish_report(&x->p, from, own, sums, size / sizeof(as_block_sum), true, e);
    }
    as_buffer copy = AS_BUFFER_INIT;
    CHECK(as_buffer_append(&copy, sums, size, e) == AS_OK);
    int code = take_flawed(x, from, own, &copy, e);
    as_buffer_free(&copy);
    return code;
}

static int report(saving *x)
{
    as_buffer mine = AS_BUFFER_INIT;
    int64_t own = x->stage.prepared->plan.own_bytes;
    as_session_gather(x->call.session);
    as_meters_engine(&x->call.session->meter, x->call.session->meters, as_comm_size(comm(x)),
                     &x->p.engine, &x->p.engine_reason);
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

/* From the bytes on disk to the end. */
static int publish(saving *x)
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

static void end(saving *x)
{
    if (x->txn) {
        in_thread(x, is_good(x) ? finish : give_up, false);
    }
    as_stage_free(&x->stage);
    as_publication_free(&x->p);
    as_buffer_free(&x->checksums);
    as_error_clear(&x->e);
    drop(&x->state);
    ranks_wait(world_comm());
}

/* ---- the same as allshard_save's ---- */

static allshard_save_options options_of(const char *shards, bool sums, bool verify, int mode)
{
    return (allshard_save_options){.size = sizeof(allshard_save_options),
                                   .max_shard_size = shards,
                                   .block_bytes = BLOCK,
                                   .checksum = sums ? 0 : ALLSHARD_CHECKSUM_NONE,
                                   .verify_after_write = verify,
                                   .mode = mode};
}

static void save_at_once(const char *folder, const allshard_save_options *o, bool many)
{
    declared d = declare(many);
    GOOD(as, allshard_save(d.s, folder, o));
    drop(&d);
}

/* Something older in the folder, with more files than the new one has. */
static void save_older(const char *folder)
{
    allshard_save_options o = options_of("5KB", true, false, 0);
    save_at_once(folder, &o, false);
}

static void check_modes(const char *one, const char *other, const snapshot *files)
{
    for (size_t i = 0; i < files->count; i++) {
        char path[1024];
        struct stat a;
        struct stat b;
        (void)snprintf(path, sizeof path, "%s/%s", one, files->files[i].name);
        must(stat(path, &a) == 0, path);
        (void)snprintf(path, sizeof path, "%s/%s", other, files->files[i].name);
        must(stat(path, &b) == 0, path);
        CHECK_TEXT(a.st_mode == b.st_mode, "%s: mode %o, not %o", path, b.st_mode, a.st_mode);
    }
}

static void check_same(const char *one, const char *other)
{
    if (is_main()) {
        snapshot a = SNAPSHOT_INIT;
        snapshot b = SNAPSHOT_INIT;
        must(snapshot_take(&a, one) && snapshot_take(&b, other), other);
        snapshot_forget_time(&a);
        snapshot_forget_time(&b);
        CHECK_TEXT(snapshot_same(&a, &b), "%s", snapshot_difference(&a, &b));
        check_modes(one, other, &a);
        snapshot_free(&a);
        snapshot_free(&b);
    }
    ranks_wait(world_comm());
}

static void clear(const char *folder)
{
    ranks_wait(world_comm());
    if (is_main()) {
        remove_tree(folder);
    }
    ranks_wait(world_comm());
}

static void compare(const allshard_save_options *o, bool many)
{
    char *one = strdup(scratch_path("at-once"));
    char *other = strdup(scratch_path("in-steps"));
    saving x;
    save_older(one);
    save_older(other);
    save_at_once(one, o, many);
    int code = write_all(&x, o, other, many);
    CHECK_TEXT(code == AS_OK && publish(&x) == AS_OK, "%s", as_error_text(&x.e));
    CHECK(x.p.index_text.data == NULL);
    if (many && is_main()) {
        CHECK(x.p.index_size > AS_COLLECT_CHUNK + 1000000);
    }
    end(&x);
    check_same(one, other);
    clear(one);
    clear(other);
    free(one);
    free(other);
}

static void test_same(void)
{
    static const int modes[] = {0, 0640, 0400};
    for (int i = 0; i < 24; i++) {
        allshard_save_options o = options_of(i & 1 ? "20KB" : "1GB", !(i & 2), i & 4, modes[i / 8]);
        compare(&o, false);
    }
    allshard_save_options o = options_of("20KB", true, true, 0);
    o.block_bytes = 1 << 20;
    o.max_shard_size = "100KB";
    /* An index of several pieces, and shards whose header takes more than their tensors. */
    compare(&o, true);
}

/* ---- what ends a save, and leaves the old checkpoint ---- */

static void check_kept(const char *folder, const snapshot *before)
{
    if (is_main()) {
        snapshot now = SNAPSHOT_INIT;
        must(snapshot_take(&now, folder), folder);
        CHECK_TEXT(snapshot_same(before, &now), "%s", snapshot_difference(before, &now));
        snapshot_free(&now);
    }
    ranks_wait(world_comm());
}

static void test_flaws(void)
{
    static const char *const texts[FLAWS] = {
        [BLOCK_TWICE] = "or was written twice",    [BLOCK_MISSING] = "has no checksum",
        [BLOCK_BEYOND] = "which is not there",     [BLOCK_HUGE] = "which is not there",
        [BLOCK_NEGATIVE] = "which is not there",   [FILE_BEYOND] = "which is not there",
        [FILE_NEGATIVE] = "which is not there",    [RANK_TWICE] = "or has come already",
        [RANK_MISSING] = "has not reported",       [RANK_BEYOND] = "which is not expected",
        [RANK_NEGATIVE] = "which is not expected", [BYTES_NEGATIVE] = "reports -1 bytes",
        [SUMS_UNWANTED] = "bytes and 1 checksums"};
    char *folder = strdup(scratch_path("flaws"));
    snapshot before = SNAPSHOT_INIT;
    save_older(folder);
    must(!is_main() || snapshot_take(&before, folder), folder);
    for (int flaw = NO_FLAW + 1; flaw < FLAWS; flaw++) {
        saving x;
        allshard_save_options o = options_of("20KB", flaw != SUMS_UNWANTED, false, 0);
        int code = write_all(&x, &o, folder, false);
        CHECK_TEXT(code == AS_OK, "%s", as_error_text(&x.e));
        x.flaw = flaw;
        code = publish(&x);
        CHECK_TEXT(code == AS_INTERNAL && strstr(as_error_text(&x.e), texts[flaw]), "%d: %d: %s",
                   flaw, code, as_error_text(&x.e));
        end(&x);
        check_kept(folder, &before);
    }
    snapshot_free(&before);
    clear(folder);
    free(folder);
}

/* Every look between two steps can be the last. */
static void test_looks(void)
{
    char *folder = strdup(scratch_path("looks"));
    snapshot before = SNAPSHOT_INIT;
    int code = AS_CANCELLED;
    save_older(folder);
    must(!is_main() || snapshot_take(&before, folder), folder);
    int fails = 0;
    while (code != AS_OK) {
        saving x;
        allshard_save_options o = options_of("20KB", true, true, 0);
        code = write_all(&x, &o, folder, false);
        CHECK_TEXT(code == AS_OK, "%s", as_error_text(&x.e));
        x.look_fails = ++fails;
        code = publish(&x);
        CHECK_TEXT(code == AS_OK || code == AS_CANCELLED, "%s", as_error_text(&x.e));
        CHECK(!is_main() || x.looks >= (code == AS_OK ? fails - 1 : fails));
        end(&x);
        if (code != AS_OK) {
            check_kept(folder, &before);
        }
    }
    /* Index, its fsync, every file that is read back, every shard. */
    CHECK_TEXT(fails > 2 + 4 + 5, "%d looks", fails - 1);
    if (is_main()) {
        (void)printf("%d looks\n", fails - 1);
    }
    snapshot_free(&before);
    clear(folder);
    free(folder);
}

/* What there is to tell is told by the thread that makes the commit, to the log that it was given. */
static void test_log(void)
{
    char *folder = strdup(scratch_path("log"));
    char path[1024];
    save_older(folder);
    (void)snprintf(path, sizeof path, "%s/allshard.manifest.json", folder);
    if (is_main()) {
        must(unlink(path) == 0 && symlink("nowhere", path) == 0, path);
    }
    saving x;
    allshard_save_options o = options_of("20KB", true, false, 0);
    int code = write_all(&x, &o, folder, false);
    CHECK_TEXT(code == AS_OK && publish(&x) == AS_OK, "%s", as_error_text(&x.e));
    if (is_main()) {
        CHECK_TEXT(strstr(x.logged, "the old manifest is replaced"), "%s", x.logged);
        CHECK(!pthread_equal(x.log_thread, pthread_self()));
    }
    end(&x);
    clear(folder);
    free(folder);
}

/* ---- reading back ---- */

/* Changes a byte in the middle of one of this rank's blocks on storage. Its file's name is static. */
static const char *flip(const saving *x, const as_block_sum *b)
{
    static char name[256];
    char path[1024];
    char *plain = NULL;
    as_error e = AS_ERROR_INIT;
    unsigned char byte;
    CHECK(as_prepared_file_name(x->stage.prepared, (int32_t)b->file, &plain, &e) == AS_OK);
    (void)snprintf(name, sizeof name, "%s", plain);
    (void)snprintf(path, sizeof path, "%s/.allshard/new/%s", x->call.directory, plain);
    free(plain);
    int64_t low = b->block * BLOCK;
    int64_t bytes = x->stage.prepared->plan.file_size[b->file] - low;
    off_t at = (off_t)(low + (bytes < BLOCK ? bytes : BLOCK) / 2);
    int fd = open(path, O_RDWR);
    must(fd >= 0 && pread(fd, &byte, 1, at) == 1, path);
    byte ^= 4;
    must(pwrite(fd, &byte, 1, at) == 1 && fsync(fd) == 0 && close(fd) == 0, path);
    return name;
}

static int read_again(saving *x, as_error *e)
{
    x->ticks = 0;
    in_thread(x, read_back, false);
    int code = x->e.code;
    as_error_move(e, &x->e);
    return code;
}

/* `block` of the victim's is damaged: it alone finds that. Returns whether it has such a block. */
static bool find_flip(saving *x, int victim, size_t block)
{
    as_error e = AS_ERROR_INIT;
    const as_block_sum *own = (const as_block_sum *)(const void *)(x->checksums.data + x->extras);
    size_t count = (x->checksums.size - x->extras) / sizeof *own;
    bool hit = world_rank() == victim && block < count;
    const char *name = hit ? flip(x, &own[block]) : "";
    ranks_wait(world_comm());
    int code = read_again(x, &e);
    CHECK_TEXT(code == (hit ? AS_CORRUPT : AS_OK), "%d: %s", code, as_error_text(&e));
    if (hit) {
        char bytes[64];
        (void)snprintf(bytes, sizeof bytes, ": bytes %lld to ",
                       (long long)own[block].block * BLOCK);
        CHECK_TEXT(strstr(e.text, name) && strstr(e.text, bytes), "%s: %s", name, e.text);
        (void)flip(x, &own[block]);
    } else {
        CHECK((size_t)x->ticks == count);
    }
    as_error_clear(&e);
    return ranks_max(world_comm(), hit) > 0;
}

static void test_read_back(void)
{
    char *folder = strdup(scratch_path("read-back"));
    saving x;
    allshard_save_options o = options_of("20KB", true, true, 0);
    int code = write_all(&x, &o, folder, false);
    CHECK_TEXT(code == AS_OK, "%s", as_error_text(&x.e));
    int found = 0;
    for (int victim = 0; victim < world_size(); victim++) {
        for (size_t block = 0; find_flip(&x, victim, block); block++) {
            found++;
        }
    }
    int64_t blocks = (int64_t)((x.checksums.size - x.extras) / sizeof(as_block_sum));
    CHECK(found == ranks_sum(world_comm(), blocks));
    as_error e = AS_ERROR_INIT;
    x.tick_fails = 1;
    CHECK(read_again(&x, &e) == (blocks ? AS_CANCELLED : AS_OK));
    as_error_clear(&e);
    x.tick_fails = 0;
    x.memory = BLOCK; /* just enough */
    CHECK(read_again(&x, &e) == AS_OK);
    CHECK_TEXT(publish(&x) == AS_OK, "%s", as_error_text(&x.e));
    end(&x);
    if (is_main()) {
        (void)printf("%d flipped blocks found\n", found);
    }
    clear(folder);
    free(folder);
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 110);
    CHECK(allshard_open(&as, world_comm(), NULL) == ALLSHARD_OK);
    test_same();
    test_flaws();
    test_looks();
    test_log();
    test_read_back();
    CHECK(allshard_close(as) == ALLSHARD_OK);
    return ranks_end();
}
