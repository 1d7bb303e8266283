/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/outbox.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/checked.h"
#include "io/pool.h"

enum state { FREE, PLACED, FILLED, TAKEN, THROUGH };

struct as_outbox {
    char *memory;
    int64_t bytes;
    int64_t total;           /* blocks that are to come */
    as_outbox_block *blocks; /* [room], by number modulo room */
    int64_t room;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t filled;
    int64_t first;  /* number of the oldest block that is not through */
    int64_t placed; /* blocks so far */
    int64_t taken;
    int64_t head;           /* bytes of the ring placed so far, over all rounds */
    int64_t tail;           /* and free again */
    as_outbox_block *queue; /* filled, in the order of their filling */
    as_outbox_block *last;
    bool abandoned;
    bool dropping;
    bool storing;       /* what the writer told last */
    int64_t operations; /* likewise */
};

/* Of the ring. */
static int64_t bytes_of(const as_block *block)
{
    int64_t begin = block->low - block->low % AS_POOL_PAGE;
    return (int64_t)as_pool_step((size_t)(block->high - begin));
}

typedef struct needs {
    int64_t all;
    int64_t largest;
    int64_t blocks;
} needs;

static needs needs_of(const as_plan *plan)
{
    needs n = {0};
    as_block_walk walk = as_block_walk_begin(plan, 0);
    as_block block;
    while (as_block_walk_next(&walk, &block)) {
        int64_t bytes = bytes_of(&block);
        n.all += bytes;
        n.largest = as_max_i64(n.largest, bytes);
        n.blocks++;
    }
    return n;
}

int64_t as_outbox_snapshot_bytes(const as_plan *plan)
{
    return needs_of(plan).all;
}

int64_t as_outbox_stream_bytes(const as_plan *plan)
{
    return needs_of(plan).largest;
}

int as_outbox_open(as_outbox **out, const as_plan *plan, char *memory, size_t bytes, as_error *e)
{
    needs n = needs_of(plan);
    *out = NULL;
    if ((int64_t)bytes < n.largest) {
        return as_fail(e, AS_LIMIT, 0,
                       "%zu bytes of memory cannot hold one block: a nonblocking save needs %lld",
                       bytes, (long long)n.largest);
    }
    as_outbox *b = calloc(1, sizeof *b);
    if (!b) {
        return as_fail_nomem(e);
    }
    b->memory = memory;
    b->bytes = (int64_t)bytes / AS_POOL_PAGE * AS_POOL_PAGE;
    b->total = n.blocks;
    b->room = as_max_i64(1, as_min_i64(n.blocks, b->bytes / AS_POOL_PAGE));
    b->blocks = calloc((size_t)b->room, sizeof *b->blocks);
    if (!b->blocks) {
        free(b);
        return as_fail_nomem(e);
    }
    pthread_condattr_t how;
    (void)pthread_condattr_init(&how);
    (void)pthread_condattr_setclock(&how, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&b->lock, NULL);
    (void)pthread_cond_init(&b->filled, &how);
    (void)pthread_condattr_destroy(&how);
    *out = b;
    return AS_OK;
}

void as_outbox_close(as_outbox *b)
{
    if (!b) {
        return;
    }
    (void)pthread_cond_destroy(&b->filled);
    (void)pthread_mutex_destroy(&b->lock);
    free(b->blocks);
    free(b);
}

static as_outbox_block *block_at(const as_outbox *b, int64_t number)
{
    return &b->blocks[number % b->room];
}

/* ---- with the lock ---- */

/* Its memory is free as soon as that of all before it is. */
static void let_go(as_outbox *b, as_outbox_block *block)
{
    block->state = THROUGH;
    while (b->first < b->placed && block_at(b, b->first)->state == THROUGH) {
        as_outbox_block *oldest = block_at(b, b->first++);
        b->tail = oldest->end;
        oldest->state = FREE;
    }
}

static void drop_filled(as_outbox *b)
{
    while (b->queue) {
        as_outbox_block *block = b->queue;
        b->queue = block->next;
        let_go(b, block);
    }
    b->last = NULL;
}

/* ---- staging side ---- */

as_outbox_block *as_outbox_place(as_outbox *b, const as_block *block)
{
    as_outbox_block *placed = NULL;
    int64_t need = bytes_of(block);
    (void)pthread_mutex_lock(&b->lock);
    if (b->first == b->placed) {
        /* An empty ring begins anew: otherwise a block that is as large as the ring would only fit
         * where the last one happened to end. */
        b->head = as_ceil_div(b->head, b->bytes) * b->bytes;
        b->tail = b->head;
    }
    int64_t from = b->head;
    int64_t rest = b->bytes - from % b->bytes;
    from += rest < need ? rest : 0; /* blocks are in one piece */
    if (b->placed - b->first < b->room && from + need - b->tail <= b->bytes) {
        placed = block_at(b, b->placed);
        *placed =
            (as_outbox_block){.block = *block,
                              .number = b->placed++,
                              .bytes = b->memory + from % b->bytes + block->low % AS_POOL_PAGE,
                              .end = from + need,
                              .state = PLACED};
        b->head = from + need;
    }
    (void)pthread_mutex_unlock(&b->lock);
    return placed;
}

void as_outbox_put(as_outbox *b, as_outbox_block *block)
{
    (void)pthread_mutex_lock(&b->lock);
    if (b->abandoned || b->dropping) {
        let_go(b, block);
    } else {
        block->state = FILLED;
        block->next = NULL;
        *(b->last ? &b->last->next : &b->queue) = block;
        b->last = block;
        (void)pthread_cond_signal(&b->filled);
    }
    (void)pthread_mutex_unlock(&b->lock);
}

bool as_outbox_dropped(as_outbox *b)
{
    (void)pthread_mutex_lock(&b->lock);
    bool dropped = b->dropping;
    (void)pthread_mutex_unlock(&b->lock);
    return dropped;
}

int64_t as_outbox_ended(as_outbox *b)
{
    (void)pthread_mutex_lock(&b->lock);
    int64_t ended = b->first;
    (void)pthread_mutex_unlock(&b->lock);
    return ended;
}

bool as_outbox_storing(as_outbox *b, int64_t *operations)
{
    (void)pthread_mutex_lock(&b->lock);
    bool storing = b->storing;
    *operations = b->operations;
    (void)pthread_mutex_unlock(&b->lock);
    return storing;
}

void as_outbox_abandon(as_outbox *b)
{
    (void)pthread_mutex_lock(&b->lock);
    b->abandoned = true;
    drop_filled(b);
    (void)pthread_cond_broadcast(&b->filled);
    (void)pthread_mutex_unlock(&b->lock);
}

/* ---- writer ---- */

static bool is_over(const as_outbox *b)
{
    return b->abandoned || b->dropping || b->taken == b->total;
}

static void wait_filled(as_outbox *b, int64_t wait)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t nanoseconds = until.tv_nsec + wait;
    until.tv_sec += nanoseconds / 1000000000;
    until.tv_nsec = nanoseconds % 1000000000;
    int result = 0;
    while (!b->queue && !is_over(b) && result == 0) {
        result = pthread_cond_timedwait(&b->filled, &b->lock, &until);
    }
}

as_outbox_block *as_outbox_take(as_outbox *b, int64_t wait, bool *over)
{
    (void)pthread_mutex_lock(&b->lock);
    if (wait > 0) {
        wait_filled(b, wait);
    }
    as_outbox_block *block = b->queue;
    if (block) {
        b->queue = block->next;
        b->last = b->queue ? b->last : NULL;
        block->state = TAKEN;
        b->taken++;
    }
    *over = !block && is_over(b);
    (void)pthread_mutex_unlock(&b->lock);
    return block;
}

as_outbox_block *as_outbox_at(as_outbox *b, int64_t number)
{
    return block_at(b, number);
}

void as_outbox_done(as_outbox *b, as_outbox_block *block)
{
    (void)pthread_mutex_lock(&b->lock);
    let_go(b, block);
    (void)pthread_mutex_unlock(&b->lock);
}

void as_outbox_tell(as_outbox *b, bool storing, int64_t operations)
{
    (void)pthread_mutex_lock(&b->lock);
    b->storing = storing;
    b->operations = operations;
    (void)pthread_mutex_unlock(&b->lock);
}

void as_outbox_drop(as_outbox *b)
{
    (void)pthread_mutex_lock(&b->lock);
    b->dropping = true;
    drop_filled(b);
    (void)pthread_mutex_unlock(&b->lock);
}

bool as_outbox_complete(as_outbox *b)
{
    (void)pthread_mutex_lock(&b->lock);
    bool complete = b->taken == b->total && !b->abandoned && !b->dropping;
    (void)pthread_mutex_unlock(&b->lock);
    return complete;
}

char *as_outbox_memory(const as_outbox *b, size_t *bytes)
{
    *bytes = (size_t)b->bytes;
    return b->memory;
}
