/* SPDX-License-Identifier: Apache-2.0 */
#include "io/reserve.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/sys.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14; glibc names it since 2.35 */
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1; glibc names it since 2.37 */
#endif

enum { HUGE = 2 << 20, CHUNK = 16 * HUGE };

/* ---- address space ---- */

/* NULL with errno. */
static char *map(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static char *map_aligned(size_t bytes)
{
    size_t more = 0;
    char *at = bytes >= HUGE && as_add_size(bytes, HUGE, &more) ? map(more) : NULL;
    if (!at) {
        return map(bytes); /* where a limit leaves just that */
    }
    size_t head = (HUGE - (uintptr_t)at % HUGE) % HUGE;
    if (head > 0) {
        (void)munmap(at, head);
    }
    (void)munmap(at + head + bytes, HUGE - head);
    return at + head;
}

/* ---- touching ---- */

typedef struct touch {
    char *base;
    size_t bytes;
    size_t page;
    bool of_file;
    atomic_size_t next;
    atomic_int failed; /* errno of the first failure */
} touch;

/* 0 or the errno. Without the kernel's help a page that it cannot give is no error but the end of
 * some process, as with any other memory. */
static int touch_chunk(const touch *t, char *at, size_t bytes)
{
    int result;
    do {
        result = madvise(at, bytes, MADV_POPULATE_WRITE);
    } while (result != 0 && errno == EINTR);
    if (result == 0) {
        return 0;
    }
    if (errno != EINVAL) {
        return errno;
    }
    for (size_t i = 0; i < bytes; i += t->page) {
        ((volatile char *)at)[i] = 0;
    }
    return 0;
}

/* Memory files get small pages unless the administrator has asked for others; but a small one can be
 * made huge at any time, with the holes around it. */
static int touch_huge(const touch *t, char *at, size_t bytes)
{
    size_t whole = bytes - bytes % HUGE;
    int failed = 0;
    for (size_t i = 0; i < whole && !failed; i += HUGE) {
        failed = touch_chunk(t, at + i, t->page);
    }
    if (!failed && whole > 0 && madvise(at, whole, MADV_COLLAPSE) != 0) {
        failed = errno;
    }
    if (!failed && bytes > whole) {
        failed = touch_chunk(t, at + whole, bytes - whole);
    }
    return failed;
}

static void *touch_chunks(void *user)
{
    touch *t = user;
    size_t at;
    while (atomic_load(&t->failed) == 0 && (at = atomic_fetch_add(&t->next, CHUNK)) < t->bytes) {
        size_t bytes = t->bytes - at < CHUNK ? t->bytes - at : CHUNK;
        int failed =
            t->of_file ? touch_huge(t, t->base + at, bytes) : touch_chunk(t, t->base + at, bytes);
        int none = 0;
        if (failed) {
            (void)atomic_compare_exchange_strong(&t->failed, &none, failed);
        }
    }
    return NULL;
}

/* 0 or the errno. The program's handlers must not run in a thread that it does not know. */
static int touch_all(touch *t, int threads)
{
    pthread_t helpers[AS_RESERVE_THREADS];
    int count = 0;
    sigset_t all;
    sigset_t before;
    threads = threads < AS_RESERVE_THREADS ? threads : AS_RESERVE_THREADS;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    while (count + 1 < threads && (size_t)(count + 1) * CHUNK < t->bytes &&
           as_sys_table.pthread_create(&helpers[count], NULL, touch_chunks, t) == 0) {
        count++;
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)touch_chunks(t);
    while (count > 0) {
        (void)pthread_join(helpers[--count], NULL);
    }
    return atomic_load(&t->failed);
}

/* ---- the reserve ---- */

static int fail(size_t bytes, int sys_errno, as_error *e)
{
    return as_fail(e, AS_NOMEM, sys_errno,
                   "cannot have %zu bytes of memory for a nonblocking save; a lower limit "
                   "(snapshot_memory) asks for less",
                   bytes);
}

/* A program may fork while its save is in flight (data loaders, system()). With a child, pages would
 * be shared until either side writes: the next copy would then fault page by page and have as much
 * memory again, and an O_DIRECT operation under way could meet the wrong page (open(2), NOTES). A
 * child can do nothing with the save in any case. */
static void keep_from_children(const touch *t)
{
    (void)madvise(t->base, t->bytes, MADV_DONTFORK);
}

/* Whatever fails: then others cannot map it, and there is memory that only this process has. */
static bool have_shared(as_reserve *r, touch *t, int threads)
{
    as_memory_file file;
    as_memory_file_make(&file, t->bytes);
    t->base = file.fd >= 0 ? map_aligned(t->bytes) : NULL;
    bool good = t->base && mmap(t->base, t->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                                (int)file.fd, 0) != MAP_FAILED;
    if (good) {
        keep_from_children(t);
        t->of_file = true;
        good = touch_all(t, threads) == 0 && as_memory_file_fill(&file);
    }
    if (!good) {
        if (t->base) {
            (void)munmap(t->base, t->bytes);
        }
        as_memory_file_close(&file);
        return false;
    }
    *r = (as_reserve){.base = t->base, .bytes = t->bytes, .shared = true, .file = file};
    return true;
}

/* 0 or the errno. */
static int have_alone(as_reserve *r, touch *t, int threads)
{
    t->base = map_aligned(t->bytes);
    if (!t->base) {
        return errno;
    }
    /* Kernels without huge pages refuse, and do with small ones. */
    (void)madvise(t->base, t->bytes, MADV_HUGEPAGE);
    keep_from_children(t);
    int failed = touch_all(t, threads);
    if (failed) {
        (void)munmap(t->base, t->bytes);
        return failed;
    }
    *r = (as_reserve){.base = t->base, .bytes = t->bytes, .file = {.fd = -1}};
    return 0;
}

static int fit(as_reserve *r, size_t bytes, int threads, bool share, size_t *touched, as_error *e)
{
    long page = sysconf(_SC_PAGESIZE);
    size_t unit = page > 0 ? (size_t)page : 4096;
    size_t paged;
    if (touched) {
        *touched = 0;
    }
    if (bytes <= r->bytes) {
        return AS_OK;
    }
    as_reserve_free(r);
    if (!as_add_size(bytes, unit - 1, &paged)) {
        return fail(bytes, ENOMEM, e);
    }
    paged -= paged % unit;
    touch shared = {.page = unit, .bytes = paged};
    if (!share || !have_shared(r, &shared, threads)) {
        touch alone = {.page = unit, .bytes = paged};
        int failed = have_alone(r, &alone, threads);
        if (failed) {
            return fail(bytes, failed, e);
        }
    }
    if (touched) {
        *touched = paged;
    }
    return AS_OK;
}

int as_reserve_fit(as_reserve *r, size_t bytes, int threads, size_t *touched, as_error *e)
{
    return fit(r, bytes, threads, false, touched, e);
}

int as_reserve_fit_shared(as_reserve *r, size_t bytes, int threads, size_t *touched, as_error *e)
{
    return fit(r, bytes, threads, true, touched, e);
}

void as_reserve_free(as_reserve *r)
{
    if (r->shared) {
        (void)madvise(r->base, r->bytes, MADV_REMOVE);
        as_memory_file_close(&r->file);
    }
    if (r->base) {
        (void)munmap(r->base, r->bytes);
    }
    *r = (as_reserve){0};
}
