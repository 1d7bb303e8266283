/* SPDX-License-Identifier: Apache-2.0 */
#include "support_isave.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/sys.h"
#include "support_ranks.h"

enum { NAP_US = 500 };

/* ---- the background stands still ---- */

enum { MOST_HOLDS = 8 };

static as_sys real;
static pthread_t caller;
static atomic_int waiting;
static atomic_int calls;
static atomic_int slow_us;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    enum hold where;
    char folder[512];
} holds[MOST_HOLDS];
static int hold_count;

static bool is_held(enum hold where, const char *path)
{
    bool found = false;
    (void)pthread_mutex_lock(&lock);
    for (int i = 0; i < hold_count && !found; i++) {
        size_t length = strlen(holds[i].folder);
        found = holds[i].where == where && strncmp(path, holds[i].folder, length) == 0 &&
                path[length] == '/';
    }
    (void)pthread_mutex_unlock(&lock);
    return found;
}

static void pass(enum hold where, const char *path)
{
    if (pthread_equal(pthread_self(), caller)) {
        return;
    }
    atomic_fetch_add(&calls, 1);
    if (is_held(where, path)) {
        atomic_fetch_add(&waiting, 1);
        while (is_held(where, path)) {
            (void)usleep(NAP_US);
        }
        atomic_fetch_sub(&waiting, 1);
    }
}

/* Where an open file lies. */
static void path_of(int fd, char *path, size_t size)
{
    char link[64];
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, size - 1);
    path[n > 0 ? n : 0] = '\0';
}

static void pass_shard(enum hold where, int fd)
{
    char path[1024];
    path_of(fd, path, sizeof path);
    if (strstr(path, ".safetensors") && !strstr(path, ".index.json")) {
        pass(where, path);
    }
}

static ssize_t hold_pwrite(int fd, const void *bytes, size_t count, off_t offset)
{
    pass_shard(HOLD_WRITE, fd);
    return real.pwrite(fd, bytes, count, offset);
}

static int hold_fsync(int fd)
{
    pass_shard(HOLD_SYNC, fd);
    return real.fsync(fd);
}

static int hold_renameat(int from, const char *old, int to, const char *name)
{
    char path[1024];
    path_of(from, path, sizeof path);
    pass(strcmp(name, "journal") == 0 ? HOLD_JOURNAL : HOLD_MOVE, path);
    return real.renameat(from, old, to, name);
}

static int hold_unlinkat(int folder, const char *path, int flags)
{
    if (!pthread_equal(pthread_self(), caller)) {
        (void)usleep((useconds_t)atomic_load(&slow_us));
    }
    return real.unlinkat(folder, path, flags);
}

void hold_slow_down(int us)
{
    atomic_store(&slow_us, us);
}

void hold_install(void)
{
    caller = pthread_self();
    real = as_sys_table;
    as_sys_table.pwrite = hold_pwrite;
    as_sys_table.fsync = hold_fsync;
    as_sys_table.renameat = hold_renameat;
    as_sys_table.unlinkat = hold_unlinkat;
}

void hold_close(enum hold where, const char *folder)
{
    (void)pthread_mutex_lock(&lock);
    CHECK(hold_count < MOST_HOLDS);
    holds[hold_count].where = where;
    (void)snprintf(holds[hold_count++].folder, sizeof holds[0].folder, "%s", folder);
    (void)pthread_mutex_unlock(&lock);
}

void hold_open(void)
{
    (void)pthread_mutex_lock(&lock);
    hold_count = 0;
    (void)pthread_mutex_unlock(&lock);
}

int hold_waiting(void)
{
    return atomic_load(&waiting);
}

int hold_calls(void)
{
    return atomic_load(&calls);
}

/* ---- requests ---- */

allshard_progress watch_look(watch *w, const allshard_request *request)
{
    allshard_progress p = {.size = sizeof p};
    CHECK(allshard_request_progress(request, &p) == ALLSHARD_OK);
    CHECK_TEXT(p.phase >= ALLSHARD_WRITING && p.phase <= ALLSHARD_OVER, "phase %d", p.phase);
    CHECK(p.staging == ALLSHARD_STAGE_SNAPSHOT || p.staging == ALLSHARD_STAGE_STREAM);
    CHECK_TEXT(p.bytes_written >= 0 && p.bytes_written <= p.bytes_total, "%lld of %lld bytes",
               (long long)p.bytes_written, (long long)p.bytes_total);
    CHECK_TEXT(p.phase >= w->phase && p.bytes_written >= w->written,
               "phase %d after %d, %lld bytes after %lld", p.phase, w->phase,
               (long long)p.bytes_written, (long long)w->written);
    CHECK(!w->seen || p.bytes_total == w->total);
    *w = (watch){p.phase, p.bytes_written, p.bytes_total, true};
    return p;
}

/* Until it is over; the outcome. */
static int test_on(allshard_request *request, int most, watch *w)
{
    int done = 0;
    int code = ALLSHARD_OK;
    for (int i = 0; i < most && !done; i++) {
        code = allshard_test(request, &done);
        CHECK_TEXT(done == 0 || done == 1, "done is %d", done);
        CHECK_TEXT(done || code == ALLSHARD_OK, "%s of a save in flight",
                   allshard_error_name(code));
        allshard_progress p = watch_look(w, request);
        CHECK(!done || p.phase == ALLSHARD_OVER);
        CHECK_TEXT(!done || code != ALLSHARD_OK || p.bytes_written == p.bytes_total,
                   "%lld of %lld bytes at the end", (long long)p.bytes_written,
                   (long long)p.bytes_total);
        (void)usleep(NAP_US);
    }
    return code;
}

int end_request(allshard_request **request, enum ending how, uint64_t *random,
                allshard_stats *stats, allshard_state *other)
{
    watch w = {0};
    int tested = ALLSHARD_OK;
    int done = 0;
    if (how == BY_TESTS) {
        tested = test_on(*request, INT32_MAX, &w);
        CHECK(allshard_test(*request, &done) == tested && done); /* again and again */
    } else if (how == BY_SOME) {
        tested = test_on(*request, pick(random, 6), &w);
    } else if (how == BY_OTHERS) {
        while (ranks_max(world_comm(), watch_look(&w, *request).phase != ALLSHARD_OVER)) {
            allshard_plan *plan = NULL;
            CHECK(allshard_plan_create(&plan, other, NULL) == ALLSHARD_OK);
            allshard_plan_free(plan);
            (void)usleep(NAP_US);
        }
    }
    int code = allshard_wait(request, stats);
    CHECK(*request == NULL);
    CHECK_TEXT(tested == ALLSHARD_OK || tested == code, "%s, but before %s",
               allshard_error_name(code), allshard_error_name(tested));
    return code;
}

/* ---- random things ---- */

uint64_t seed_of_test(void)
{
    const char *text = getenv("ALLSHARD_SEED");
    return text && *text ? strtoull(text, NULL, 10) : 1;
}

uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

int pick(uint64_t *state, int below)
{
    return (int)(next_random(state) % (uint64_t)below);
}

void holding_turn(holding *h, int by)
{
    for (size_t i = 0; i < h->count; i++) {
        const piece *p = &h->pieces[i];
        size_t around = 2 * (size_t)(p->first - p->memory);
        for (size_t k = 0; k < p->bytes - around; k++) {
            p->first[k] ^= (unsigned char)by;
        }
    }
}

void random_model_make(random_model *r, uint64_t *state)
{
    static const int dtypes[] = {ALLSHARD_F32, ALLSHARD_BF16, ALLSHARD_F4,      ALLSHARD_F6_E2M3,
                                 ALLSHARD_U8,  ALLSHARD_F64,  ALLSHARD_F8_E4M3, ALLSHARD_F16};
    int count = 1 + pick(state, MOST_TENSORS);
    *r = (random_model){.m = {r->tensors, count}};
    for (int i = 0; i < count; i++) {
        model_tensor *t = &r->tensors[i];
        (void)snprintf(r->names[i], sizeof r->names[i], "layers.%d.weight", i);
        t->name = r->names[i];
        t->dtype = dtypes[pick(state, sizeof dtypes / sizeof *dtypes)];
        t->ndim = pick(state, 4);
        int group = dtype_group(t->dtype);
        if (t->ndim == 0 && group > 1) {
            t->ndim = 1;
        }
        for (int d = 0; d < t->ndim; d++) {
            t->shape[d] = pick(state, 16) ? 1 + pick(state, t->ndim == 1 ? 9000 : 70 / t->ndim) : 0;
        }
        if (t->ndim > 0) {
            t->shape[t->ndim - 1] *= group;
        }
    }
}
