/* SPDX-License-Identifier: Apache-2.0 */
#include "comm/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/checked.h"
#include "comm/node.h"
#include "io/memory_file.h"

enum {
    PAGE = 4096,
    HUGE = 2 << 20,
    TOUCHED_PART = 3 /* of its own memory: as much of others' may be in use */
};

typedef struct peer {
    int rank;
    char *map;
    size_t bytes;
    size_t low; /* of what has been touched and not let go; low = high: nothing */
    size_t high;
} peer;

struct as_arena {
    char *base;
    size_t bytes;
    size_t quota;        /* bytes of others' that may be in use */
    size_t grain;        /* what is touched at a time: pages of this size may be behind it */
    bool is_own;         /* else it was given */
    as_memory_file file; /* open until all have mapped it, if it is this one's own */
    int rank;
    int size;
    peer *peers; /* by ascending rank; those that are reachable */
    size_t peer_count;
    bool abandoned;
};

bool as_arena_may_share(const as_comm *c)
{
    const char *value = getenv(AS_ARENA_SWITCH);
    return as_comm_size(c) > 1 && !(value && strcmp(value, "off") == 0);
}

static int map_own(as_arena *a, bool share, as_error *e)
{
    void *map = MAP_FAILED;
    a->file.fd = -1;
    if (share) {
        as_memory_file_make(&a->file, a->bytes);
    }
    if (a->file.fd >= 0 && as_memory_file_fill(&a->file)) {
        map = mmap(NULL, a->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, (int)a->file.fd, 0);
    }
    if (map == MAP_FAILED) {
        as_memory_file_close(&a->file);
        map = mmap(NULL, a->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    if (map == MAP_FAILED) {
        return as_fail_nomem(e);
    }
    a->base = map;
    a->is_own = true;
    return AS_OK;
}

/* Huge pages are seen as such only where the address is a multiple of theirs, too. */
static char *map_file(int fd, size_t bytes, size_t grain)
{
    size_t more = 0;
    if (grain <= PAGE || !as_add_size(bytes, grain, &more)) {
        void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        return map == MAP_FAILED ? NULL : map;
    }
    char *room = mmap(NULL, more, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) {
        return NULL;
    }
    size_t head = (grain - (uintptr_t)room % grain) % grain;
    char *map = mmap(room + head, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    if (map == MAP_FAILED) {
        (void)munmap(room, more);
        return NULL;
    }
    if (head > 0) {
        (void)munmap(room, head);
    }
    size_t end = (bytes + PAGE - 1) / PAGE * PAGE;
    if (more > head + end) {
        (void)munmap(map + end, more - head - end);
    }
    return map;
}

/* NULL if it cannot be reached. */
static char *map_peer(const as_arena *a, const as_memory_file *f)
{
    int fd = as_memory_file_open(f);
    if (fd < 0) {
        return NULL;
    }
    char *map = map_file(fd, (size_t)f->bytes, a->grain);
    (void)close(fd);
    return map;
}

/* Every rank of the node gets `bytes` of this one. */
static void put_on_node(const as_arena *a, const int32_t *node_of, as_mail *m, const void *bytes,
                        size_t count, as_error *e)
{
    for (int r = 0; r < a->size; r++) {
        if (r != a->rank && node_of[r] == node_of[a->rank]) {
            (void)as_buffer_append(&m->out[r], bytes, count, e);
        }
    }
}

static int meet_peers(as_arena *a, as_comm *c, const int32_t *node_of, as_mail *m, as_error *e)
{
    put_on_node(a, node_of, m, &a->file, sizeof a->file, e);
    int code = as_comm_exchange(c, m, e);
    size_t count = code == AS_OK ? m->in.size / sizeof(as_memory_file) : 0;
    a->peers = calloc(count + 1, sizeof *a->peers);
    if (!a->peers) {
        (void)as_fail_nomem(e);
    }
    for (int r = 0; code == AS_OK && a->peers && r < a->size; r++) {
        as_memory_file theirs;
        if (m->in_at[r + 1] - m->in_at[r] == sizeof theirs) {
            memcpy(&theirs, m->in.data + m->in_at[r], sizeof theirs);
            a->peers[a->peer_count++] =
                (peer){.rank = r, .map = map_peer(a, &theirs), .bytes = (size_t)theirs.bytes};
        }
    }
    return code;
}

/* Who does not reach this rank is not reached from here either: both sides of a transfer must
 * come to the same decision without asking. */
static int tell_peers(as_arena *a, as_comm *c, as_mail *m, as_error *e)
{
    for (size_t i = 0; i < a->peer_count; i++) {
        char reached = a->peers[i].map != NULL;
        (void)as_buffer_append(&m->out[a->peers[i].rank], &reached, 1, e);
    }
    int code = as_comm_exchange(c, m, e);
    size_t kept = 0;
    for (size_t i = 0; i < a->peer_count; i++) {
        peer p = a->peers[i];
        size_t at = code == AS_OK ? m->in_at[p.rank] : 0;
        bool both = code == AS_OK && p.map && m->in_at[p.rank + 1] - at == 1 && m->in.data[at];
        if (both) {
            a->peers[kept++] = p;
        } else if (p.map) {
            (void)munmap(p.map, p.bytes);
        }
    }
    a->peer_count = kept;
    return code;
}

static int share(as_arena *a, as_comm *c, as_error *e)
{
    as_mail mail = {0};
    int32_t *node_of = calloc((size_t)a->size, sizeof *node_of);
    if (!node_of) {
        (void)as_fail_nomem(e);
    }
    (void)as_mail_init(&mail, a->size, e);
    int code = as_comm_agree(c, e);
    if (code == AS_OK && node_of) { /* agreement says that it is there */
        code = as_comm_nodes(c, node_of, e);
        if (code == AS_OK) {
            code = meet_peers(a, c, node_of, &mail, e);
        }
    }
    if (code == AS_OK) {
        code = tell_peers(a, c, &mail, e);
    }
    as_mail_free(&mail);
    free(node_of);
    return code;
}

/* Makes it known on its node, or gives it up. Collective. */
static int open_arena(as_arena **out, as_arena *a, as_comm *c, as_error *e)
{
    int code = as_comm_agree(c, e);
    if (code == AS_OK && a && a->size > 1) {
        code = share(a, c, e);
    }
    if (a && a->is_own) {
        as_memory_file_close(&a->file);
    }
    if (code != AS_OK) {
        as_arena_close(a);
        return code;
    }
    *out = a;
    return AS_OK;
}

int as_arena_open(as_arena **out, as_comm *c, size_t bytes, as_error *e)
{
    *out = NULL;
    as_arena *a = calloc(1, sizeof *a);
    if (a) {
        *a = (as_arena){.grain = PAGE, .rank = as_comm_rank(c), .size = as_comm_size(c)};
        a->bytes = (size_t)as_ceil_div((int64_t)bytes, PAGE) * PAGE;
        a->quota = a->bytes / TOUCHED_PART;
        (void)map_own(a, as_arena_may_share(c), e);
    } else {
        (void)as_fail_nomem(e);
    }
    return open_arena(out, a, c, e);
}

/* NOLINTNEXTLINE(readability-non-const-parameter): the ranks write to it */
int as_arena_open_over(as_arena **out, as_comm *c, char *memory, const as_memory_file *file,
                       size_t quota, as_error *e)
{
    *out = NULL;
    as_arena *a = calloc(1, sizeof *a);
    if (a) {
        *a = (as_arena){.base = memory,
                        .bytes = file ? (size_t)file->bytes : 0,
                        .quota = quota,
                        .grain = HUGE,
                        .rank = as_comm_rank(c),
                        .size = as_comm_size(c)};
        a->file = file ? *file : (as_memory_file){.fd = -1};
    } else {
        (void)as_fail_nomem(e);
    }
    return open_arena(out, a, c, e);
}

char *as_arena_base(const as_arena *a)
{
    return a->base;
}

size_t as_arena_bytes(const as_arena *a)
{
    return a->bytes;
}

static int compare_rank(const void *key, const void *element)
{
    int rank = *(const int *)key;
    const peer *p = element;
    return (rank > p->rank) - (rank < p->rank);
}

static peer *find(const as_arena *a, int rank)
{
    return a->peer_count ? bsearch(&rank, a->peers, a->peer_count, sizeof *a->peers, compare_rank)
                         : NULL;
}

char *as_arena_of(const as_arena *a, int rank)
{
    const peer *p = find(a, rank);
    return p ? p->map : NULL;
}

size_t as_arena_bytes_of(const as_arena *a, int rank)
{
    const peer *p = find(a, rank);
    return p ? p->bytes : 0;
}

bool as_arena_reaches_all(const as_arena *a)
{
    return a->peer_count == (size_t)a->size - 1;
}

void as_arena_let_go(as_arena *a)
{
    for (size_t i = 0; i < a->peer_count; i++) {
        peer *p = &a->peers[i];
        if (p->high > p->low) {
            (void)madvise(p->map + p->low, p->high - p->low, MADV_DONTNEED);
        }
        p->low = p->high = 0;
    }
}

void as_arena_touch(as_arena *a, int rank, size_t offset, size_t bytes, bool write)
{
    peer *p = find(a, rank);
    if (!p || bytes == 0) {
        return;
    }
    size_t low = offset / a->grain * a->grain;
    size_t high = (offset + bytes + a->grain - 1) / a->grain * a->grain;
    high = high < p->bytes ? high : p->bytes;
    if (low >= p->low && high <= p->high) {
        return;
    }
    size_t touched = high - low;
    for (size_t i = 0; i < a->peer_count; i++) {
        touched += a->peers[i].high - a->peers[i].low;
    }
    if (touched > a->quota) {
        as_arena_let_go(a);
    }
    if (p->high == p->low) {
        p->low = low;
        p->high = high;
    } else {
        p->low = low < p->low ? low : p->low;
        p->high = high > p->high ? high : p->high;
    }
#ifdef MADV_POPULATE_WRITE
    /* Older kernels do not know it: then the pages come in one by one. */
    (void)madvise(p->map + low, high - low, write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
#else
    (void)write;
#endif
}

size_t as_arena_kept(const as_arena *a)
{
    return a->quota / (a->peer_count ? a->peer_count : 1);
}

void as_arena_abandon(as_arena *a)
{
    a->abandoned = true;
}

bool as_arena_abandoned(const as_arena *a)
{
    return a->abandoned;
}

void as_arena_close(as_arena *a)
{
    if (!a) {
        return;
    }
    for (size_t i = 0; i < a->peer_count; i++) {
        if (a->peers[i].map) {
            (void)munmap(a->peers[i].map, a->peers[i].bytes);
        }
    }
    if (a->is_own && !a->abandoned) {
        (void)munmap(a->base, a->bytes);
    }
    free(a->peers);
    free(a);
}
