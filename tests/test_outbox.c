/* SPDX-License-Identifier: Apache-2.0
 * The ring between the thread that stages blocks and the one that writes them: sizes, places, order,
 * what is dropped; and both threads at random, with memory for one block or for more.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "transfer/outbox.h"

enum { PAGE = 4096, MOST_BLOCKS = 512, HELD = 6, RUNS = 400 };

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

static int64_t draw(uint64_t *seed, int64_t below)
{
    return (int64_t)(next_random(seed) % (uint64_t)below);
}

static void add_part(as_plan *plan, int32_t file, int64_t low, int64_t high)
{
    as_part part = {.file = file, .low = low, .high = high};
    as_error e = AS_ERROR_INIT;
    assert_int_equal(as_buffer_append(&plan->parts, &part, sizeof part, &e), AS_OK);
    plan->own_bytes += high - low;
}

/* Files whose parts begin and end anywhere in a block. */
static as_plan random_plan(uint64_t *seed)
{
    static const int64_t sizes[] = {64, 192, 4096, 8192, 12288, 5056};
    as_plan plan = {.block_bytes = sizes[draw(seed, 6)], .parts = AS_BUFFER_INIT};
    int files = (int)draw(seed, 4);
    for (int32_t f = 0; f < files; f++) {
        int64_t at = 0;
        for (int64_t parts = draw(seed, 4); parts > 0; parts--) {
            int64_t low = at + draw(seed, 2 * plan.block_bytes);
            at = low + 1 + draw(seed, 20 * plan.block_bytes);
            add_part(&plan, f, low, at);
        }
    }
    return plan;
}

static int64_t list_blocks(const as_plan *plan, as_block *blocks)
{
    as_block_walk walk = as_block_walk_begin(plan, 0);
    int64_t count = 0;
    while (as_block_walk_next(&walk, &blocks[count])) {
        count++;
        assert_true(count < MOST_BLOCKS);
    }
    return count;
}

static int64_t pages_of(const as_block *b)
{
    return (b->high + PAGE - 1) / PAGE - b->low / PAGE;
}

static as_outbox *open_box(const as_plan *plan, char **memory, int64_t bytes)
{
    as_outbox *box = NULL;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(posix_memalign((void **)memory, PAGE, (size_t)bytes + 1), 0);
    assert_int_equal(as_outbox_open(&box, plan, *memory, (size_t)bytes, &e), AS_OK);
    return box;
}

static void close_box(as_outbox *box, char *memory, as_plan *plan)
{
    as_outbox_close(box);
    free(memory);
    as_buffer_free(&plan->parts);
}

/* All blocks have room at once in just so many bytes, each in pages of its own. */
static void snapshot_holds_all(void **state)
{
    (void)state;
    uint64_t seed = 7;
    for (int i = 0; i < RUNS; i++) {
        static as_block blocks[MOST_BLOCKS];
        as_plan plan = random_plan(&seed);
        int64_t count = list_blocks(&plan, blocks);
        int64_t pages = 0;
        int64_t most = 0;
        for (int64_t k = 0; k < count; k++) {
            pages += pages_of(&blocks[k]);
            most = most > pages_of(&blocks[k]) ? most : pages_of(&blocks[k]);
        }
        assert_int_equal(as_outbox_snapshot_bytes(&plan), pages * PAGE);
        assert_int_equal(as_outbox_stream_bytes(&plan), most * PAGE);
        char *memory;
        as_outbox *box = open_box(&plan, &memory, pages * PAGE);
        char *free_from = memory;
        for (int64_t k = 0; k < count; k++) {
            as_outbox_block *b = as_outbox_place(box, &blocks[k]);
            assert_non_null(b);
            assert_true(b->bytes >= free_from);
            assert_int_equal(((uintptr_t)b->bytes - (uint64_t)blocks[k].low) % PAGE, 0);
            free_from = memory + (b->bytes - memory + blocks[k].high - blocks[k].low + PAGE - 1) /
                                     PAGE * PAGE;
            assert_true(free_from <= memory + pages * PAGE);
            assert_int_equal(b->number, k);
            as_outbox_put(box, b);
        }
        bool over = false;
        for (int64_t k = 0; k < count; k++) {
            as_outbox_block *b = as_outbox_take(box, 0, &over);
            assert_true(b && b->number == k && !over);
            as_outbox_done(box, b);
        }
        assert_null(as_outbox_take(box, INT64_MAX / 4, &over));
        assert_true(over && as_outbox_complete(box));
        close_box(box, memory, &plan);
    }
}

static void too_small_is_told(void **state)
{
    (void)state;
    as_plan plan = {.block_bytes = 2 * PAGE, .parts = AS_BUFFER_INIT};
    as_outbox *box = NULL;
    as_error e = AS_ERROR_INIT;
    add_part(&plan, 0, 100, 5 * PAGE);
    assert_int_equal(as_outbox_stream_bytes(&plan), 2 * PAGE);
    char *memory = aligned_alloc(PAGE, 2 * PAGE);
    assert_int_equal(as_outbox_open(&box, &plan, memory, 2 * PAGE - 1, &e), AS_LIMIT);
    assert_non_null(strstr(as_error_text(&e), "8192"));
    as_error_clear(&e);
    assert_null(box);
    close_box(box, memory, &plan);
}

/* Memory comes back when the oldest block is through, in whatever order they end. */
static void memory_comes_back_in_order(void **state)
{
    (void)state;
    as_plan plan = {.block_bytes = PAGE, .parts = AS_BUFFER_INIT};
    add_part(&plan, 0, 0, 5 * PAGE);
    as_block blocks[MOST_BLOCKS];
    char *memory;
    bool over;
    assert_int_equal(list_blocks(&plan, blocks), 5);
    as_outbox *box = open_box(&plan, &memory, 3 * PAGE);
    as_outbox_block *b[3];
    for (int i = 0; i < 3; i++) {
        b[i] = as_outbox_place(box, &blocks[i]);
        assert_non_null(b[i]);
    }
    assert_null(as_outbox_place(box, &blocks[3]));
    as_outbox_put(box, b[2]);
    as_outbox_put(box, b[0]);
    assert_ptr_equal(as_outbox_take(box, 0, &over), b[2]);
    assert_ptr_equal(as_outbox_at(box, 1), b[1]);
    as_outbox_done(box, b[2]);
    assert_null(as_outbox_place(box, &blocks[3]));
    assert_int_equal(as_outbox_ended(box), 0);
    assert_ptr_equal(as_outbox_take(box, 0, &over), b[0]);
    as_outbox_done(box, b[0]);
    assert_int_equal(as_outbox_ended(box), 1);
    as_outbox_block *fourth = as_outbox_place(box, &blocks[3]);
    assert_true(fourth && fourth->bytes == memory);
    assert_null(as_outbox_place(box, &blocks[4]));
    assert_null(as_outbox_take(box, 1000, &over));
    assert_false(over);
    as_outbox_put(box, b[1]);
    assert_ptr_equal(as_outbox_take(box, 0, &over), b[1]);
    as_outbox_done(box, b[1]);
    assert_int_equal(as_outbox_ended(box), 3);
    close_box(box, memory, &plan);
}

/* What was filled goes, what is filled later goes, and there is always room. */
static void dropped_blocks_leave_room(void **state)
{
    (void)state;
    for (int by_writer = 0; by_writer < 2; by_writer++) {
        as_plan plan = {.block_bytes = PAGE, .parts = AS_BUFFER_INIT};
        add_part(&plan, 0, 0, 6 * PAGE);
        as_block blocks[MOST_BLOCKS];
        char *memory;
        bool over = false;
        (void)list_blocks(&plan, blocks);
        as_outbox *box = open_box(&plan, &memory, 2 * PAGE);
        as_outbox_put(box, as_outbox_place(box, &blocks[0]));
        as_outbox_block *open = as_outbox_place(box, &blocks[1]);
        if (by_writer) {
            as_outbox_drop(box);
        } else {
            as_outbox_abandon(box);
        }
        assert_int_equal(as_outbox_dropped(box), by_writer);
        assert_null(as_outbox_take(box, INT64_MAX / 4, &over));
        assert_true(over && !as_outbox_complete(box));
        as_outbox_put(box, open);
        assert_int_equal(as_outbox_ended(box), 2);
        for (int i = 2; i < 6; i++) {
            as_outbox_put(box, as_outbox_place(box, &blocks[i]));
        }
        assert_int_equal(as_outbox_ended(box), 6);
        close_box(box, memory, &plan);
    }
}

/* ---- two threads ---- */

typedef struct scene {
    as_outbox *box;
    uint64_t seed; /* the writer's */
    int64_t count; /* blocks */
    int64_t drop_at;
    int64_t seen;
    int wrong;
} scene;

static unsigned char byte_of(const as_block *b, int64_t at)
{
    return (unsigned char)(b->file * 31 + (b->low + at) * 7 + (b->low + at) / 256);
}

static void check_block(scene *s, const as_outbox_block *b)
{
    for (int64_t i = 0; i < b->block.high - b->block.low; i += 13) {
        s->wrong += (unsigned char)b->bytes[i] != byte_of(&b->block, i);
    }
}

/* Holds some of what it took, and lets go of them in any order. */
static void *run_writer(void *user)
{
    scene *s = user;
    as_outbox_block *held[HELD];
    int count = 0;
    bool over = false;
    while (!over) {
        as_outbox_block *b =
            count < HELD ? as_outbox_take(s->box, count ? 0 : 1000000, &over) : NULL;
        if (b) {
            held[count++] = b;
            s->seen++;
        }
        if (s->seen == s->drop_at) {
            as_outbox_drop(s->box);
            s->drop_at = -1;
        }
        while (count && (over || count == HELD || !b || draw(&s->seed, 3) == 0)) {
            int which = (int)draw(&s->seed, count);
            check_block(s, held[which]);
            as_outbox_done(s->box, held[which]);
            held[which] = held[--count];
        }
    }
    return NULL;
}

/* Fills blocks out of order. After a drop it goes on: there is always room in the end. */
static void run_stager(scene *s, const as_block *blocks, uint64_t *seed, int64_t abandon_at)
{
    as_outbox_block *open[HELD];
    int count = 0;
    int64_t placed = 0;
    while ((placed < s->count || count) && placed != abandon_at) {
        as_outbox_block *b =
            count < HELD && placed < s->count ? as_outbox_place(s->box, &blocks[placed]) : NULL;
        if (b) {
            open[count++] = b;
            placed++;
        } else if (!count) {
            (void)sched_yield();
        }
        if (count && (!b || draw(seed, 2))) {
            int which = (int)draw(seed, count);
            as_outbox_block *full = open[which];
            for (int64_t i = 0; i < full->block.high - full->block.low; i++) {
                full->bytes[i] = (char)byte_of(&full->block, i);
            }
            as_outbox_put(s->box, full);
            open[which] = open[--count];
        }
    }
    if (placed == abandon_at) {
        as_outbox_abandon(s->box);
    }
}

static void threads_at_random(void **state)
{
    (void)state;
    uint64_t seed = 11;
    for (int i = 0; i < RUNS; i++) {
        static as_block blocks[MOST_BLOCKS];
        as_plan plan = random_plan(&seed);
        scene s = {.seed = next_random(&seed), .count = list_blocks(&plan, blocks), .drop_at = -1};
        int64_t least = as_outbox_stream_bytes(&plan);
        int64_t all = as_outbox_snapshot_bytes(&plan);
        int64_t bytes = i % 3 == 0 ? least : least + draw(&seed, all - least + 1);
        int64_t abandon_at = i % 5 == 3 ? draw(&seed, s.count + 1) : -1;
        s.drop_at = i % 5 == 4 ? draw(&seed, s.count + 1) : -1;
        bool whole = abandon_at < 0 && s.drop_at < 0;
        char *memory;
        s.box = open_box(&plan, &memory, bytes);
        pthread_t writer;
        assert_int_equal(pthread_create(&writer, NULL, run_writer, &s), 0);
        run_stager(&s, blocks, &seed, abandon_at);
        assert_int_equal(pthread_join(writer, NULL), 0);
        assert_int_equal(s.wrong, 0);
        assert_true(!whole || (s.seen == s.count && as_outbox_complete(s.box)));
        assert_true(!whole || as_outbox_ended(s.box) == s.count);
        close_box(s.box, memory, &plan);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(snapshot_holds_all),         cmocka_unit_test(too_small_is_told),
        cmocka_unit_test(memory_comes_back_in_order), cmocka_unit_test(dropped_blocks_leave_room),
        cmocka_unit_test(threads_at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
