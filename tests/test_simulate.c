/* SPDX-License-Identifier: Apache-2.0
 * Plans of saves: random models, spread in random ways over 1 to 40 ranks. Every
 * byte of every file has one writer, and who is said to hold it does.
 */
#include "plan_support.h"

static int64_t seams_moved; /* bytes that go from rank to rank, over the random plans */

/* ------------------------------------------------------------------------ one plan's truth */

typedef struct byte_map {
    int32_t *writer; /* [bytes of the file]: rank, −1 for none yet */
    int64_t size;
} byte_map;

static const as_piece *check_holder(const test_world *w, const as_part *part,
                                    const as_part_box *box)
{
    int64_t rank = box->holders[0];
    int64_t piece = box->holders[1];
    assert_in_range(rank, 0, w->ranks - 1);
    if (piece < 0) {
        const as_plan *p = &w->planners[rank].plan;
        size_t index = (size_t)(-1 - piece);
        assert_true(index < p->literals.size / sizeof(as_plan_literal));
        const as_plan_literal *l = as_plan_literal_at(p, index);
        assert_int_equal(l->file, part->file);
        assert_int_equal(l->offset, part->tensor_at);
        assert_int_equal(box->geometry.ndim, 1);
        assert_int_equal(box->geometry.shape[0], l->size);
        return NULL;
    }
    const as_state *s = &w->states[rank];
    assert_true((size_t)piece < as_state_count(s));
    as_box own = as_state_box(s, (size_t)piece);
    as_geometry g;
    assert_int_equal(as_geometry_file(&own, &g, NULL), AS_OK);
    assert_true(as_geometry_same(&g, &box->geometry));
    assert_true(as_hash_equal(as_state_piece(s, (size_t)piece)->name, part->name));
    return as_state_piece(s, (size_t)piece);
}

/* Its boxes fill the part, each byte once. Returns bytes that come from other ranks. */
static int64_t check_part(const test_world *w, int rank, const as_part *part)
{
    as_words words = as_part_boxes(&w->planners[rank].plan, part);
    int64_t low = part->low - part->tensor_at;
    int64_t high = part->high - part->tensor_at;
    int64_t filled = 0;
    int64_t moved = 0;
    char *seen = calloc((size_t)(high - low), 1);
    assert_non_null(seen);
    assert_true(part->box_count > 0);
    for (int k = 0; k < part->box_count; k++) {
        as_part_box box;
        assert_int_equal(as_part_box_take(&words, &box, NULL), AS_OK);
        assert_int_equal(box.holder_count, 1);
        (void)check_holder(w, part, &box);
        int64_t own = 0;
        for (int64_t at = low; at < high; at++) {
            if (as_geometry_before(&box.geometry, at + 1) > as_geometry_before(&box.geometry, at)) {
                assert_int_equal(seen[at - low]++, 0);
                own++;
            }
        }
        assert_true(own > 0);
        filled += own;
        moved += box.holders[0] == rank ? 0 : own;
    }
    assert_int_equal(filled, high - low);
    free(seen);
    return moved;
}

static void mark_part(byte_map *map, int rank, const as_part *part)
{
    assert_true(part->low >= 0 && part->low < part->high && part->high <= map[part->file].size);
    for (int64_t at = part->low; at < part->high; at++) {
        assert_int_equal(map[part->file].writer[at], -1);
        map[part->file].writer[at] = rank;
    }
}

static void check_rank(const test_world *w, int rank, byte_map *map)
{
    const as_plan *p = &w->planners[rank].plan;
    const as_plan *first = &w->planners[0].plan;
    assert_int_equal(p->file_count, first->file_count);
    assert_int_equal(p->total_size, first->total_size);
    assert_int_equal(p->tensor_count, first->tensor_count);
    assert_memory_equal(p->file_size, first->file_size,
                        (size_t)p->file_count * sizeof *p->file_size);
    int64_t bytes = 0;
    int64_t moved = 0;
    for (size_t i = 0; i < as_plan_part_count(p); i++) {
        const as_part *part = as_plan_part(p, i);
        const as_part *before = i ? part - 1 : NULL;
        assert_true(!before || before->file < part->file ||
                    (before->file == part->file && before->high <= part->low));
        mark_part(map, rank, part);
        moved += check_part(w, rank, part);
        bytes += part->high - part->low;
    }
    assert_int_equal(p->own_bytes, bytes);
    assert_int_equal(p->moved_bytes, moved);
    seams_moved += moved;
}

/* Each byte has a writer, and each block one. */
static void check_map(const byte_map *map, int32_t files, int64_t block)
{
    for (int32_t f = 0; f < files; f++) {
        for (int64_t at = 0; at < map[f].size; at++) {
            assert_true(map[f].writer[at] >= 0);
            assert_int_equal(map[f].writer[at], map[f].writer[at / block * block]);
        }
    }
}

static void check_world(const test_world *w, int64_t block)
{
    const as_plan *first = &w->planners[0].plan;
    byte_map *map = calloc((size_t)first->file_count, sizeof *map);
    assert_non_null(map);
    for (int32_t f = 0; f < first->file_count; f++) {
        map[f].size = first->file_size[f];
        map[f].writer = malloc((size_t)map[f].size * sizeof *map[f].writer);
        assert_non_null(map[f].writer);
        memset(map[f].writer, 0xff, (size_t)map[f].size * sizeof *map[f].writer);
    }
    for (int r = 0; r < w->ranks; r++) {
        check_rank(w, r, map);
    }
    check_map(map, first->file_count, block);
    for (int32_t f = 0; f < first->file_count; f++) {
        free(map[f].writer);
    }
    free(map);
}

/* Where the parts say a tensor begins, the header says so too. */
static void check_places(const test_world *w, const test_model *m)
{
    size_t found = 0;
    for (int32_t f = 0; f < w->planners[0].plan.file_count; f++) {
        as_table t;
        read_table(w, f, &t);
        for (size_t i = 0; i < as_table_count(&t); i++) {
            const as_entry *entry = as_table_entry(&t, i);
            as_hash name = as_name_hash(as_table_name(&t, i), entry->name_length);
            for (size_t k = 0; k < m->count; k++) {
                found += strcmp(m->tensors[k].name, as_table_name(&t, i)) == 0;
            }
            for (int r = 0; r < w->ranks; r++) {
                const as_plan *p = &w->planners[r].plan;
                for (size_t k = 0; k < as_plan_part_count(p); k++) {
                    const as_part *part = as_plan_part(p, k);
                    if (as_hash_equal(part->name, name)) {
                        assert_int_equal(part->file, f);
                        assert_int_equal(part->tensor_at, entry->begin);
                        assert_true(part->high <= (int64_t)entry->end);
                    }
                }
            }
        }
        as_table_free(&t);
    }
    assert_int_equal(found, m->count);
}

/* All that readers of the folder can tell: sizes, headers, names in the order of the index. */
static void describe(const test_world *w, as_buffer *out)
{
    const as_plan *first = &w->planners[0].plan;
    for (int32_t f = 0; f < first->file_count; f++) {
        assert_int_equal(as_buffer_append(out, &first->file_size[f], 8, NULL), AS_OK);
        int built = 0;
        for (int r = 0; r < w->ranks; r++) {
            const as_plan *p = &w->planners[r].plan;
            for (size_t i = 0; i < as_plan_built_count(p); i++) {
                const as_built_file *b = as_plan_built(p, i);
                if (b->file == f) {
                    assert_int_equal(b->size, first->file_size[f]);
                    assert_int_equal(as_buffer_append(out, b->names.data, b->names.size, NULL), 0);
                    built++;
                }
            }
            for (size_t i = 0; i < p->literals.size / sizeof(as_plan_literal); i++) {
                const as_plan_literal *l = as_plan_literal_at(p, i);
                if (l->file == f) {
                    assert_int_equal(as_buffer_append(out, l->bytes, (size_t)l->size, NULL), 0);
                }
            }
        }
        assert_int_equal(built, 1);
    }
}

static int64_t total_bytes(const test_model *m)
{
    int64_t bytes = 0;
    for (size_t i = 0; i < m->count; i++) {
        bytes += m->tensors[i].bytes;
    }
    return bytes;
}

static void every_byte_has_one_writer(void **state)
{
    (void)state;
    static test_world w;
    static test_model m;
    uint64_t seed = 9;
    int64_t files = 0;
    for (int i = 0; i < 400; i++) {
        random_model(&seed, &m);
        int64_t bytes = total_bytes(&m);
        int64_t limit = between(&seed, 0, 3) ? between(&seed, 0, bytes) : bytes;
        as_buffer expected = AS_BUFFER_INIT;
        for (int k = 0; k < 6; k++) {
            int64_t block = INT64_C(64) << between(&seed, 0, 6);
            as_save_request request = save_request(limit, block);
            open_world(&w, k == 0 ? 1 : (int)between(&seed, 1, MOST_RANKS));
            spread_model(&seed, &w, &m, (enum spread)between(&seed, 0, SPREAD_KINDS));
            as_error e = AS_ERROR_INIT;
            ASSERT_CODE(AS_OK, plan_save(&w, &request, &e), &e);
            assert_int_equal(w.planners[0].plan.total_size, bytes);
            check_world(&w, block);
            check_places(&w, &m);
            as_buffer text = AS_BUFFER_INIT;
            describe(&w, k ? &text : &expected);
            if (k) {
                assert_int_equal(text.size, expected.size);
                assert_memory_equal(text.data, expected.data, text.size);
            }
            files += w.planners[0].plan.file_count;
            as_buffer_free(&text);
            close_world(&w);
        }
        as_buffer_free(&expected);
    }
    assert_true(files > 400 * 6 * 2);
    assert_true(seams_moved > 0);
}

/* ------------------------------------------------------------------------------ fair shares */

/* Replicas share a file evenly; what a rank writes besides is a seam or a header. */
static void replicas_share_the_work(void **state)
{
    (void)state;
    static test_world w;
    uint64_t seed = 10;
    for (int i = 0; i < 200; i++) {
        test_model m = {.count = 4};
        for (size_t k = 0; k < m.count; k++) {
            m.tensors[k] = (test_tensor){
                .name = "t", .dtype = AS_BF16, .ndim = 2, .shape = {between(&seed, 200, 900), 501}};
            m.tensors[k].name[1] = (char)('0' + k);
            m.tensors[k].bytes = 2 * 501 * m.tensors[k].shape[0];
        }
        int64_t block = INT64_C(1024) << between(&seed, 0, 2);
        as_save_request request = save_request(INT64_MAX, block);
        open_world(&w, (int)between(&seed, 2, 16));
        spread_model(&seed, &w, &m, SPREAD_REPLICAS);
        assert_int_equal(plan_save(&w, &request, NULL), AS_OK);
        int64_t size = w.planners[0].plan.file_size[0];
        for (int r = 0; r < w.ranks; r++) {
            const as_plan *p = &w.planners[r].plan;
            int64_t off = p->own_bytes - size / w.ranks;
            assert_true(llabs(off) <= 2 * block || llabs(off) <= size / w.ranks / 100);
            /* long ranges in order: of each tensor one, and a seam at each end */
            assert_true(as_plan_part_count(p) <= 3 * m.count + 1);
            /* all hold everything but the header: nothing else moves */
            assert_true(p->moved_bytes < size - total_bytes(&m) + 1);
        }
        close_world(&w);
    }
}

/* The difference between the rank that writes most and the one that writes least, of those that
 * write. */
static int64_t unevenness(const test_world *w, const int32_t *writers)
{
    int64_t least = INT64_MAX;
    int64_t most = 0;
    for (int r = 0; r < w->ranks; r++) {
        int64_t bytes = w->planners[r].plan.own_bytes;
        if (writers && writers[r] != r) {
            assert_int_equal(bytes, 0);
            continue;
        }
        least = bytes < least ? bytes : least;
        most = bytes > most ? bytes : most;
    }
    return most - least;
}

/* Blocks of many small tensors, or of many small pieces, are spread to within one block over
 * all ranks, whoever holds them. */
static void seams_are_spread(void **state)
{
    (void)state;
    static test_world w;
    uint64_t seed = 12;
    const enum spread kinds[] = {SPREAD_ROWS, SPREAD_FLAT, SPREAD_SLICES};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        for (int i = 0; i < 10; i++) {
            test_model m = {.count = MOST_TENSORS};
            for (size_t t = 0; t < m.count; t++) {
                m.tensors[t] = (test_tensor){.name = "t",
                                             .dtype = AS_BF16,
                                             .ndim = 2,
                                             .shape = {between(&seed, 40, 200), 40}};
                m.tensors[t].name[1] = (char)('a' + t);
                m.tensors[t].bytes = 2 * 40 * m.tensors[t].shape[0];
            }
            as_save_request request = save_request(INT64_MAX, 4096);
            open_world(&w, (int)between(&seed, 8, MOST_RANKS)); /* no piece fills a block */
            spread_model(&seed, &w, &m, kinds[k]);
            assert_int_equal(plan_save(&w, &request, NULL), AS_OK);
            assert_true(unevenness(&w, NULL) <= 4096);
            assert_true(w.planners[0].steps_run > 0);
            check_world(&w, 4096);
            close_world(&w);
        }
    }
}

/* Ranks that have a writer write nothing; what they hold is written all the same. */
static void delegates_write(void **state)
{
    (void)state;
    static test_world w;
    uint64_t seed = 13;
    for (int i = 0; i < 300; i++) {
        test_model m;
        random_model(&seed, &m);
        int32_t writers[MOST_RANKS];
        int ranks = (int)between(&seed, 1, MOST_RANKS);
        int node = (int)between(&seed, 1, 8);
        int each = (int)between(&seed, 1, node);
        for (int r = 0; r < ranks; r++) {
            writers[r] = r / node * node + r % node % each;
        }
        as_save_request request = save_request(total_bytes(&m) / 2, 256);
        request.writers = writers;
        open_world(&w, ranks);
        spread_model(&seed, &w, &m, SPREAD_KINDS);
        assert_int_equal(plan_save(&w, &request, NULL), AS_OK);
        for (int r = 0; r < ranks; r++) {
            assert_true(writers[r] == r || w.planners[r].plan.own_bytes == 0);
        }
        check_world(&w, 256);
        close_world(&w);
    }
}

/* With all in replicas, a writer reads its own and no other's, whoever else has none to write. */
static void delegates_share_evenly(void **state)
{
    (void)state;
    static test_world w;
    uint64_t seed = 14;
    test_model m = {.count = 2};
    for (size_t k = 0; k < m.count; k++) {
        m.tensors[k] = (test_tensor){
            .name = "t", .dtype = AS_F32, .ndim = 1, .shape = {100000}, .bytes = 400000};
        m.tensors[k].name[1] = (char)('a' + k);
    }
    const int32_t writers[] = {0, 1, 0, 1, 4, 5, 4, 5};
    as_save_request request = save_request(INT64_MAX, 4096);
    request.writers = writers;
    open_world(&w, 8);
    spread_model(&seed, &w, &m, SPREAD_REPLICAS);
    assert_int_equal(plan_save(&w, &request, NULL), AS_OK);
    assert_true(unevenness(&w, writers) <= 4096);
    for (int r = 0; r < w.ranks; r++) { /* the header alone is not everyone's */
        assert_in_range(w.planners[r].plan.moved_bytes, 0, 4096);
    }
    close_world(&w);
    const int32_t wrong[] = {1, 2, 2};
    request.writers = wrong;
    open_world(&w, 3);
    as_error e = AS_ERROR_INIT;
    ASSERT_CODE(AS_INTERNAL, as_planner_save(&w.planners[0], 0, 3, &w.states[0], &request, &e), &e);
    as_error_clear(&e);
    close_world(&w);
}

/* ------------------------------------------------------------------- the summary for people */

static int declare_for_summary(void *user, int rank, as_state *state, as_error *e)
{
    const test_model *m = user;
    for (size_t i = 0; i < m->count; i++) {
        int64_t zero[4] = {0};
        as_declaration d = {.name = m->tensors[i].name,
                            .order = (int64_t)i + 1,
                            .box = {.dtype = m->tensors[i].dtype,
                                    .ndim = m->tensors[i].ndim,
                                    .shape = m->tensors[i].shape,
                                    .offset = zero,
                                    .local = m->tensors[i].shape}};
        if ((int)(i % 3) == rank && as_state_add(state, &d, e) != AS_OK) {
            return e->code;
        }
    }
    return AS_OK;
}

static void the_summary_adds_up(void **state)
{
    (void)state;
    uint64_t seed = 11;
    for (int i = 0; i < 30; i++) {
        test_model m;
        random_model(&seed, &m);
        as_save_request request = save_request(total_bytes(&m) / 3, 512);
        as_simulation s;
        as_error e = AS_ERROR_INIT;
        ASSERT_CODE(AS_OK, as_simulate_save(3, declare_for_summary, &m, &request, &s, &e), &e);
        int64_t bytes = 0;
        int64_t tensors = 0;
        for (int32_t f = 0; f < s.shard_count; f++) {
            bytes += s.file_bytes[f];
            tensors += s.file_tensors[f];
            assert_non_null(s.file_names[f]);
        }
        for (int r = 0; r < s.ranks; r++) {
            bytes -= s.writer_bytes[r];
        }
        assert_int_equal(bytes, 0);
        assert_int_equal(tensors, m.count);
        assert_int_equal(s.tensor_count, m.count);
        assert_int_equal(s.total_size, total_bytes(&m));
        as_simulation_free(&s);
    }
    as_simulation s;
    test_model none = {.count = 0};
    as_save_request request = save_request(10, 512);
    ASSERT_FAILS(AS_EMPTY, "no rank",
                 as_simulate_save(3, declare_for_summary, &none, &request, &s, &e_));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_has_one_writer), cmocka_unit_test(replicas_share_the_work),
        cmocka_unit_test(seams_are_spread),          cmocka_unit_test(delegates_write),
        cmocka_unit_test(delegates_share_evenly),    cmocka_unit_test(the_summary_adds_up),

    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
