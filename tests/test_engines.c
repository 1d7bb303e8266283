/* SPDX-License-Identifier: Apache-2.0
 * Every engine reads and writes the same bytes: aligned and ragged ranges, memory that fits
 * O_DIRECT and memory that does not, small and large operations, many at once, several files.
 * What does the work here is printed; where there is no io_uring or no O_DIRECT the fall-back
 * is what is tested.
 */
#include "engine_support.h"

#include <dirent.h>
#include <pthread.h>

#include "base/trace.h"
#include "io/cpus.h"
#include "io/uring.h"

static const as_engine_type *const engines[] = {&as_engine_posix, &as_engine_direct,
                                                &as_engine_uring};
enum { ENGINES = 3 };

/* Ways to open each. */
static as_engine_options way(int i)
{
    return (as_engine_options){.direct = i % 2 == 0,
                               .offset_align = i < 2 ? 512 : 0,
                               .memory_align = i < 2 ? 512 : 0,
                               .depth = i == 3 ? 2 : 0,
                               .threads = i == 1   ? AS_ENGINE_THREADS
                                          : i == 2 ? 3
                                                   : 0,
                               .bind_workers = i == 0,
                               .arena = i == 2 ? NULL : memory,
                               .arena_bytes = MEMORY};
}
enum { WAYS = 4 };

typedef struct range {
    int64_t offset;
    int64_t count;
    int64_t skew; /* of the memory */
} range;

static const range ranges[] = {
    {0, 1, 0},
    {0, SEAM, 0},
    {0, 4 * MIB, 0},
    {3, 4 * MIB, 3},                    /* congruent: head and tail through the cache */
    {3, 4 * MIB, 4},                    /* not congruent */
    {SEAM - 1, 2, 1},                   /* over a page's end */
    {SEAM - 512, 3 * SEAM, SEAM - 512}, /* sectors, but no pages */
    {SEAM, 2 * SEAM + 1, SEAM},         /* only a tail */
    {5 * SEAM + 17, 100, 17},           /* within a page */
    {8 * MIB, 8 * MIB, 512},            /* one large; memory of a sector */
    {16 * MIB + 100, 7 * MIB + 13, 100},
};
enum { RANGES = (int)(sizeof ranges / sizeof *ranges) };

static void test_ranges(void **state)
{
    (void)state;
    for (int i = 0; i < ENGINES * WAYS; i++) {
        const as_engine_type *type = engines[i / WAYS];
        as_engine_options options = way(i % WAYS);
        for (int k = 0; k < RANGES; k++) {
            const range *r = &ranges[k];
            /* Neighbouring bytes, dirty in the page cache, must stay. */
            make_file("a", r->offset + r->count + 2 * SEAM, 1);
            bench b = start(type, &options, "a", true);
            fill(memory + r->skew, r->offset, r->count, 2);
            assert_int_equal(one(&b, r->offset, r->count, r->skew), AS_OK);
            assert_int_equal(sync_file(&b), AS_OK);
            stop(&b);
            check_file(b.path, r->offset, r->count, 2);
            check_file(b.path, 0, r->offset, 1);
            check_file(b.path, r->offset + r->count, 2 * SEAM, 1);

            b = start(type, &options, "a", false);
            memset(memory, 0, MEMORY);
            assert_int_equal(one(&b, r->offset, r->count, r->skew), AS_OK);
            check_bytes(memory + r->skew, r->offset, r->count, 2);
            assert_int_equal(memory[r->skew + r->count], 0);
            stop(&b);
        }
    }
    remove_file("a");
}

/* More operations at once than the depth, on several files, in one engine. */
static void test_many(void **state)
{
    (void)state;
    enum { FILES = 3, OPS = 40, BLOCK = 128 * KIB };
    for (int i = 0; i < ENGINES * WAYS; i++) {
        as_engine_options options = way(i % WAYS);
        bench b = start(engines[i / WAYS], &options, "a", true);
        as_io_file files[FILES];
        char path[300];
        for (int f = 0; f < FILES; f++) {
            char name[8] = {(char)('b' + f)};
            path_of(name, path);
            files[f] = (as_io_file){.fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600),
                                    .write = true,
                                    .name = "another"};
            assert_true(files[f].fd >= 0);
            assert_int_equal(b.type->attach(b.engine, &files[f], &b.error), AS_OK);
        }
        as_io ops[OPS];
        for (int k = 0; k < OPS; k++) {
            int64_t offset = (int64_t)(k / FILES) * BLOCK;
            ops[k] = (as_io){.kind = AS_IO_WRITE,
                             .file = &files[k % FILES],
                             .bytes = memory + (ptrdiff_t)k * BLOCK,
                             .count = k + FILES < OPS ? BLOCK : BLOCK - 11,
                             .offset = offset};
            fill(ops[k].bytes, offset, BLOCK, k % FILES);
            b.type->submit(b.engine, &ops[k]);
        }
        finish(&b, OPS);
        as_io syncs[FILES];
        for (int f = 0; f < FILES; f++) {
            syncs[f] = (as_io){.kind = AS_IO_SYNC, .file = &files[f]};
            b.type->submit(b.engine, &syncs[f]);
        }
        finish(&b, FILES);
        for (int k = 0; k < OPS; k++) {
            assert_int_equal(ops[k].code, AS_OK);
            assert_true(ops[k].nanoseconds > 0);
        }
        for (int f = 0; f < FILES; f++) {
            char name[8] = {(char)('b' + f)};
            path_of(name, path);
            assert_int_equal(syncs[f].code, AS_OK);
            b.type->detach(b.engine, &files[f]);
            assert_int_equal(close(files[f].fd), 0);
            check_file(path, 0, (int64_t)(OPS / FILES) * BLOCK - 11, f);
            remove_file(name);
        }
        stop(&b);
        remove_file("a");
    }
}

/* Reading past the end is an error that names the file, however it is read. */
static void test_short_file(void **state)
{
    (void)state;
    make_file("a", 100 * KIB + 5, 3);
    for (int i = 0; i < ENGINES * WAYS; i++) {
        as_engine_options options = way(i % WAYS);
        bench b = start(engines[i / WAYS], &options, "a", false);
        assert_int_equal(one(&b, 0, 200 * KIB, 0), AS_FORMAT);
        assert_non_null(
            strstr(as_error_text(&b.error), "the file: the file ends at offset 102405"));
        check_bytes(memory, 0, 100 * KIB + 5, 3);
        stop(&b);
    }
    remove_file("a");
}

/* Each operation leaves a span of one of the engine's threads. */
static void test_trace(void **state)
{
    (void)state;
    for (int i = 0; i < ENGINES; i++) {
        as_error e = AS_ERROR_INIT;
        as_trace *trace;
        assert_int_equal(as_trace_open(&trace, 16, &e), AS_OK);
        as_engine_options options = {.direct = true, .trace = trace};
        bench b = start(engines[i], &options, "a", true);
        fill(memory, 0, SEAM, 1);
        assert_int_equal(one(&b, 0, SEAM, 0), AS_OK);
        assert_int_equal(sync_file(&b), AS_OK);
        stop(&b);
        assert_int_equal(as_trace_count(trace), 2);
        const as_span *span = as_trace_at(trace, 0);
        assert_string_equal(span->name, "write");
        assert_true(span->thread >= 1 && span->end >= span->begin && span->bytes == SEAM);
        assert_string_equal(as_trace_at(trace, 1)->name, "fsync");
        as_trace_close(trace);
    }
    remove_file("a");
}

static int threads_made;

static int make_thread(pthread_t *out, const pthread_attr_t *how, void *(*run)(void *), void *user)
{
    threads_made++;
    return good.pthread_create(out, how, run, user);
}

/* As many threads as were asked for, whether it is O_DIRECT or not. */
static void test_threads(void **state)
{
    static const struct {
        const as_engine_type *type;
        bool direct;
        int asked;
        int made;
    } cases[] = {
        {&as_engine_posix, false, 0, 1},        {&as_engine_direct, true, 0, 2},
        {&as_engine_posix, false, 1, 1},        {&as_engine_direct, true, 1, 1},
        {&as_engine_posix, false, 7, 7},        {&as_engine_direct, true, 7, 7},
        {&as_engine_posix, false, 1000000, 16}, {&as_engine_direct, false, 16, 16},
    };
    (void)state;
    as_sys_table.pthread_create = make_thread;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        as_engine_options options = {.direct = cases[i].direct, .threads = cases[i].asked};
        threads_made = 0;
        bench b = start(cases[i].type, &options, "a", true);
        assert_int_equal(one(&b, 0, MIB, 0), AS_OK);
        stop(&b);
        assert_int_equal(threads_made, cases[i].made);
    }
    remove_file("a");
}

/* In a thread of its own, which asserts nothing. */
typedef struct bound {
    as_cpus cpus;
    as_io_file file;
    int failed; /* to be bound */
    int code;
    int workers; /* of the kernel's that were seen; before 5.12 it does not show them */
    char astray[300];
} bound;

/* Where a worker of the ring may run: not elsewhere than the thread. */
static void look_at_task(bound *s, const char *task)
{
    char path[300];
    char line[300];
    const char *list = NULL;
    bool worker = false;
    (void)snprintf(path, sizeof path, "/proc/self/task/%s/status", task);
    FILE *file = fopen(path, "re");
    while (file && !list && fgets(line, sizeof line, file)) {
        static const char name[] = "Name:\tiou-wrk";
        static const char allowed[] = "Cpus_allowed_list:\t";
        worker = worker || strncmp(line, name, sizeof name - 1) == 0;
        list = strncmp(line, allowed, sizeof allowed - 1) == 0 ? line + sizeof allowed - 1 : NULL;
    }
    if (file) {
        (void)fclose(file);
    }
    if (worker && list) {
        as_cpus cpus;
        line[strcspn(line, "\n")] = '\0';
        s->workers++;
        as_cpus_parse(&cpus, list, NULL);
        cpus = as_cpus_less(&cpus, &s->cpus);
        if (as_cpus_count(&cpus) > 0) {
            memcpy(s->astray, line, sizeof line);
        }
    }
}

static void *write_bound(void *user)
{
    bound *s = user;
    as_engine_options options = {.bind_workers = true};
    as_engine *engine = NULL;
    as_io io = {.kind = AS_IO_WRITE, .file = &s->file, .bytes = memory, .count = 4 * MIB};
    s->failed = as_cpus_bind(&s->cpus);
    s->code = as_engine_uring.open(&engine, &options, NULL);
    if (s->code != AS_OK || as_engine_uring.attach(engine, &s->file, NULL) != AS_OK) {
        as_engine_uring.close(engine);
        return NULL;
    }
    /* Through the page cache in large pieces, which is what workers are for. */
    as_engine_uring.submit(engine, &io);
    while (!as_engine_uring.reap(engine, NULL)) {
        (void)nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
    s->code = io.code;
    DIR *tasks = opendir("/proc/self/task");
    const struct dirent *task;
    while (tasks && (task = readdir(tasks))) {
        look_at_task(s, task->d_name);
    }
    if (tasks) {
        (void)closedir(tasks);
    }
    as_engine_uring.detach(engine, &s->file);
    as_engine_uring.close(engine);
    return NULL;
}

static void test_bound_workers(void **state)
{
    (void)state;
    as_cpus all;
    bound s = {0};
    char path[300];
    pthread_t thread;
    path_of("a", path);
    assert_true(as_cpus_of_thread(&all));
    for (int i = 0; i < AS_CPUS_MOST; i++) {
        if (as_cpus_has(&all, i)) {
            s.cpus = (as_cpus){0};
            as_cpus_put(&s.cpus, i);
        }
    }
    s.file = (as_io_file){
        .fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), .write = true, .name = "the file"};
    assert_true(s.file.fd >= 0);
    assert_int_equal(pthread_create(&thread, NULL, write_bound, &s), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(s.failed, 0);
    assert_int_equal(s.code, AS_OK);
    print_message("workers seen: %d\n", s.workers);
    assert_string_equal(s.astray, "");
    assert_int_equal(close(s.file.fd), 0);
    remove_file("a");
}

/* Not a test of ours, but of what the others can have tested on this machine. */
static void test_what_is_here(void **state)
{
    (void)state;
    char why[AS_URING_WHY];
    for (int i = 0; i < ENGINES; i++) {
        as_engine_options options = {.direct = true, .arena = memory, .arena_bytes = MEMORY};
        bench b = start(engines[i], &options, "a", true);
        assert_int_equal(one(&b, 0, MIB, 0), AS_OK);
        const char *reason;
        const char *name = used(&b, &reason);
        print_message("%s: %s%s%s\n", b.type->name, name, reason ? ", " : "", reason ? reason : "");
        if (strcmp(b.type->name, name) != 0) {
            assert_non_null(reason);
        }
        if (b.type == &as_engine_uring) {
            assert_int_equal(strcmp(name, "uring") == 0, as_uring_works(why));
        }
        stop(&b);
    }
    assert_ptr_equal(as_engine_by_name("direct"), &as_engine_direct);
    assert_null(as_engine_by_name("auto"));
    remove_file("a");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* First: the others leave workers behind that are the main thread's. */
        cmocka_unit_test(test_bound_workers),
        cmocka_unit_test(test_what_is_here),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_short_file),
        cmocka_unit_test(test_trace),
        cmocka_unit_test_teardown(test_threads, restore_table),
    };
    return cmocka_run_group_tests(tests, open_scratch, close_scratch);
}
