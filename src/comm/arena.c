/* SPDX-License-Identifier: Apache-2.0 */
#include "comm/arena.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/clock.h"
#include "comm/node.h"

enum {
    PAGE = 4096,
    TOKEN_WORDS = 2,
    TOUCHED_PART = 3 /* of its own memory: as much of others' may be in use */
};

static const char file_name[] = "allshard"; /* as it shows under /proc/PID/fd */

/* What a rank tells the others of its node; also the first page of its memory, which proves that
 * a file is the one that was meant. */
typedef struct card {
    int64_t pid;
    int64_t fd; /* −1: not to be shared */
    int64_t bytes;
    uint64_t token[TOKEN_WORDS];
} card;

typedef struct peer {
    int rank;
    char *map; /* the whole mapping, the card's page first */
    size_t bytes;
    size_t low; /* of what has been touched and not let go; low = high: nothing */
    size_t high;
} peer;

struct as_arena {
    char *map;
    size_t bytes; /* without the card's page */
    int fd;       /* until all have mapped it */
    card card;
    int rank;
    int size;
    peer *peers; /* by ascending rank; those that are reachable */
    size_t peer_count;
    bool abandoned;
};

static bool is_switched_off(void)
{
    const char *value = getenv(AS_ARENA_SWITCH);
    return value && strcmp(value, "off") == 0;
}

/* May files be that large? Memory files count, and one that is too large ends the program by a
 * signal (SIGXFSZ). */
static bool may_have(size_t bytes)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && bytes <= limit.rlim_cur;
}

/* A memory file of that size with all its pages; −1 if there can be none. */
static int make_file(size_t bytes)
{
    int fd = may_have(bytes) ? memfd_create(file_name, MFD_CLOEXEC | MFD_ALLOW_SEALING) : -1;
    if (fd >= 0 && (fallocate(fd, 0, 0, (off_t)bytes) != 0 ||
                    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

static int map_own(as_arena *a, bool share, as_error *e)
{
    size_t total = a->bytes + PAGE;
    a->fd = share ? make_file(total) : -1;
    void *map = MAP_FAILED;
    if (a->fd >= 0) {
        map = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_SHARED, a->fd, 0);
    }
    if (map == MAP_FAILED) {
        if (a->fd >= 0) {
            (void)close(a->fd);
            a->fd = -1;
        }
        map = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    if (map == MAP_FAILED) {
        return as_fail_nomem(e);
    }
    a->map = map;
    a->card = (card){.pid = getpid(), .fd = a->fd, .bytes = (int64_t)a->bytes};
    if (getrandom(a->card.token, sizeof a->card.token, GRND_NONBLOCK) !=
        (ssize_t)sizeof a->card.token) {
        a->card.token[0] = (uint64_t)as_clock();
        a->card.token[1] = (uint64_t)(uintptr_t)map;
    }
    memcpy(map, &a->card, sizeof a->card);
    return AS_OK;
}

/* Opens the memory file of another process, and nothing else: under a pid of another namespace
 * there may be any file. −1 if it is not to be had. */
static int open_file_of(const card *c)
{
    char path[64];
    char target[64];
    (void)snprintf(path, sizeof path, "/proc/%lld/fd/%lld", (long long)c->pid, (long long)c->fd);
    ssize_t length = readlink(path, target, sizeof target - 1);
    target[length < 0 ? 0 : length] = '\0';
    static const char start[] = "/memfd:";
    if (strncmp(target, start, sizeof start - 1) != 0 ||
        strncmp(target + sizeof start - 1, file_name, sizeof file_name - 1) != 0) {
        return -1;
    }
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct stat status;
    int seals = fd >= 0 ? fcntl(fd, F_GET_SEALS) : -1;
    if (fd >= 0 && (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &status) != 0 ||
                    status.st_size != (off_t)c->bytes + PAGE)) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

/* NULL if it cannot be reached. */
static char *map_peer(const card *c)
{
    int fd = c->fd >= 0 ? open_file_of(c) : -1;
    if (fd < 0) {
        return NULL;
    }
    size_t total = (size_t)c->bytes + PAGE;
    void *map = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    if (map == MAP_FAILED) {
        return NULL;
    }
    if (memcmp(map, c, sizeof *c) != 0) {
        (void)munmap(map, total);
        return NULL;
    }
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
    put_on_node(a, node_of, m, &a->card, sizeof a->card, e);
    int code = as_comm_exchange(c, m, e);
    size_t count = code == AS_OK ? m->in.size / sizeof(card) : 0;
    a->peers = calloc(count + 1, sizeof *a->peers);
    if (!a->peers) {
        (void)as_fail_nomem(e);
    }
    for (int r = 0; code == AS_OK && a->peers && r < a->size; r++) {
        card theirs;
        if (m->in_at[r + 1] - m->in_at[r] == sizeof theirs) {
            memcpy(&theirs, m->in.data + m->in_at[r], sizeof theirs);
            a->peers[a->peer_count++] =
                (peer){.rank = r, .map = map_peer(&theirs), .bytes = (size_t)theirs.bytes};
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
            (void)munmap(p.map, p.bytes + PAGE);
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

int as_arena_open(as_arena **out, as_comm *c, size_t bytes, as_error *e)
{
    *out = NULL;
    as_arena *a = calloc(1, sizeof *a);
    if (a) {
        *a = (as_arena){.fd = -1, .rank = as_comm_rank(c), .size = as_comm_size(c)};
        a->bytes = (size_t)as_ceil_div((int64_t)bytes, PAGE) * PAGE;
        (void)map_own(a, a->size > 1 && !is_switched_off(), e);
    } else {
        (void)as_fail_nomem(e);
    }
    int code = as_comm_agree(c, e);
    if (code == AS_OK && a && a->size > 1) {
        code = share(a, c, e);
    }
    if (a && a->fd >= 0) {
        (void)close(a->fd);
        a->fd = -1;
    }
    if (code != AS_OK) {
        as_arena_close(a);
        return code;
    }
    *out = a;
    return AS_OK;
}

char *as_arena_base(const as_arena *a)
{
    return a->map + PAGE;
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
    return p ? p->map + PAGE : NULL;
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

static void let_go(as_arena *a)
{
    for (size_t i = 0; i < a->peer_count; i++) {
        peer *p = &a->peers[i];
        if (p->high > p->low) {
            (void)madvise(p->map + PAGE + p->low, p->high - p->low, MADV_DONTNEED);
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
    size_t low = offset / PAGE * PAGE;
    size_t high = (offset + bytes + PAGE - 1) / PAGE * PAGE;
    if (low >= p->low && high <= p->high) {
        return;
    }
    size_t touched = high - low;
    for (size_t i = 0; i < a->peer_count; i++) {
        touched += a->peers[i].high - a->peers[i].low;
    }
    if (touched > a->bytes / TOUCHED_PART) {
        let_go(a);
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
    (void)madvise(p->map + PAGE + low, high - low,
                  write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
#else
    (void)write;
#endif
}

size_t as_arena_kept(const as_arena *a)
{
    return a->bytes / TOUCHED_PART / (a->peer_count ? a->peer_count : 1);
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
            (void)munmap(a->peers[i].map, a->peers[i].bytes + PAGE);
        }
    }
    if (a->map && !a->abandoned) {
        (void)munmap(a->map, a->bytes + PAGE);
    }
    free(a->peers);
    free(a);
}
