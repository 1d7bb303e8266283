/* SPDX-License-Identifier: Apache-2.0
 * Declarations that do not fit together, and tied tensors, as a save's plan meets
 * them: the code, the tensor's name and the ranks in the text, which name is kept.
 */
#include "plan_support.h"

enum { BLOCK = 512 };

static const test_tensor weight = {
    .name = "w\x1b[31m\"", .dtype = AS_F32, .ndim = 2, .shape = {8, 6}, .bytes = 192};
#define WEIGHT "tensor \"w\\x1b[31m\\\"\""

static const test_tensor other = {.name = "other", .dtype = AS_F32, .ndim = 1, .shape = {4}};

static as_save_request plain_request(void)
{
    return save_request(INT64_MAX, BLOCK);
}

#define EXPECT(w, code, ...)                                                                       \
    do {                                                                                           \
        as_save_request request_ = plain_request();                                                \
        expect_save_error(w, &request_, code, (const char *const[]){__VA_ARGS__, NULL});           \
        close_world(w);                                                                            \
    } while (0)

static test_world world;

static void ranks_that_disagree(void **state)
{
    (void)state;
    test_tensor bad = weight;
    bad.dtype = AS_I32;
    open_world(&world, 5);
    declare_whole(&world, 1, &weight, 0);
    declare_whole(&world, 3, &bad, 0);
    EXPECT(&world, AS_MISMATCH, WEIGHT, "rank 1 declares dtype F32", "rank 3 declares I32");

    bad = weight;
    bad.shape[1] = 7;
    open_world(&world, 5);
    declare_cut(&world, 4, &weight, 0, 0, 0, 0); /* empty pieces count too */
    declare_whole(&world, 2, &bad, 0);
    EXPECT(&world, AS_MISMATCH, WEIGHT, "rank 2 declares shape [8,7]", "rank 4 declares [8,6]");

    bad = weight;
    bad.ndim = 1;
    open_world(&world, 2);
    declare_whole(&world, 0, &weight, 0);
    declare_whole(&world, 0, &bad, 0);
    EXPECT(&world, AS_MISMATCH, WEIGHT, "shape [8,6]", "rank 0 declares [8]");

    open_world(&world, 3);
    declare_whole(&world, 0, &weight, 7);
    declare_whole(&world, 2, &weight, 8);
    EXPECT(&world, AS_MISMATCH, WEIGHT, "rank 0 declares order key 7", "rank 2 declares 8");

    open_world(&world, 3);
    declare_whole(&world, 0, &weight, 0);
    as_declaration d = {.name = weight.name,
                        .storage = 9,
                        .box = {.dtype = AS_F32,
                                .ndim = 2,
                                .shape = weight.shape,
                                .offset = (int64_t[]){0, 0},
                                .local = weight.shape}};
    declare(&world, 2, &d);
    EXPECT(&world, AS_MISMATCH, WEIGHT, "rank 0 declares one storage", "rank 2 declares another");
}

static void gaps_and_overlaps(void **state)
{
    (void)state;
    open_world(&world, 4);
    declare_cut(&world, 1, &weight, 0, 0, 0, 3);
    declare_cut(&world, 2, &weight, 0, 0, 4, 8);
    EXPECT(&world, AS_COVERAGE, WEIGHT, "rank 1 and rank 2", "from 72 on (of 192)");

    open_world(&world, 4);
    declare_cut(&world, 1, &weight, 0, 0, 1, 8);
    EXPECT(&world, AS_COVERAGE, WEIGHT, "rank 1", "from 0 on (of 192)");

    open_world(&world, 4);
    declare_cut(&world, 3, &weight, 0, 0, 0, 7);
    EXPECT(&world, AS_COVERAGE, WEIGHT, "rank 3", "from 168 on (of 192)");

    open_world(&world, 4); /* a column is missing */
    declare_cut(&world, 0, &weight, 0, 1, 0, 2);
    declare_cut(&world, 3, &weight, 0, 1, 3, 6);
    EXPECT(&world, AS_COVERAGE, WEIGHT, "rank 0", "rank 3", "no rank declares");

    open_world(&world, 4); /* empty pieces only */
    declare_flat(&world, 2, &weight, 0, 5, 5);
    EXPECT(&world, AS_COVERAGE, WEIGHT, "rank 2", "from 0 on (of 192)");

    open_world(&world, 4);
    declare_cut(&world, 0, &weight, 0, 0, 0, 5);
    declare_cut(&world, 2, &weight, 0, 0, 4, 8);
    EXPECT(&world, AS_COVERAGE, WEIGHT, "rank 0 and rank 2 overlap");

    open_world(&world, 4);
    declare_cut(&world, 0, &weight, 0, 1, 0, 4);
    declare_cut(&world, 1, &weight, 0, 1, 3, 6);
    EXPECT(&world, AS_COVERAGE, WEIGHT, "rank 0 and rank 1 overlap");

    open_world(&world, 4); /* flat against box */
    declare_flat(&world, 0, &weight, 0, 0, 20);
    declare_cut(&world, 1, &weight, 0, 0, 3, 8);
    EXPECT(&world, AS_COVERAGE, WEIGHT, "rank 0 and rank 1 overlap");

    open_world(&world, 4); /* replicas that are not the same box */
    declare_whole(&world, 0, &weight, 0);
    declare_cut(&world, 1, &weight, 0, 0, 0, 8);
    declare_cut(&world, 2, &weight, 0, 1, 0, 3);
    EXPECT(&world, AS_COVERAGE, WEIGHT, "overlap", "rank 2");

    open_world(&world, 4);
    declare_whole(&world, 1, &weight, 0);
    declare_flat(&world, 1, &weight, 0, 0, 48);
    EXPECT(&world, AS_COVERAGE, WEIGHT, "two pieces of rank 1 hold the same elements");

    open_world(&world, 4); /* another rank's replica between them */
    declare_cut(&world, 1, &weight, 0, 0, 0, 4);
    declare_cut(&world, 0, &weight, 0, 0, 0, 4);
    declare_cut(&world, 1, &weight, 0, 0, 0, 4);
    declare_cut(&world, 2, &weight, 0, 0, 4, 8);
    EXPECT(&world, AS_COVERAGE, WEIGHT, "two pieces of rank 1 hold the same elements");
}

/* Empty pieces with an order key are not described, but must fit what others declare. */
static void empty_pieces_that_do_not_travel(void **state)
{
    (void)state;
    open_world(&world, 4); /* the others' tensor */
    declare_whole(&world, 1, &weight, 5);
    declare_cut(&world, 2, &weight, 5, 0, 8, 8);
    declare_flat(&world, 3, &weight, 5, 7, 7);
    as_save_request request = plain_request();
    as_error e = AS_ERROR_INIT;
    ASSERT_CODE(AS_OK, plan_save(&world, &request, &e), &e);
    assert_int_equal(world.planners[2].declared, 1);
    assert_int_equal(world.planners[2].left_out, 1);
    assert_int_equal(world.planners[1].left_out, 0);
    close_world(&world);

    open_world(&world, 4); /* nobody else's */
    declare_whole(&world, 0, &other, 1);
    declare_cut(&world, 3, &weight, 5, 0, 2, 2);
    EXPECT(&world, AS_COVERAGE, WEIGHT, "rank 3", "from 0 on (of 192)", "empty");

    open_world(&world, 4); /* under another key */
    declare_whole(&world, 0, &weight, 5);
    declare_whole(&world, 0, &other, 1);
    declare_cut(&world, 3, &weight, 6, 0, 2, 2);
    EXPECT(&world, AS_MISMATCH, WEIGHT, "rank 3 declares order key 6", "rank 0 declares 5");

    open_world(&world, 4); /* of another size */
    test_tensor longer = weight;
    longer.shape[0] = 9;
    declare_whole(&world, 0, &weight, 5);
    declare_cut(&world, 3, &longer, 5, 0, 2, 2);
    EXPECT(&world, AS_MISMATCH, WEIGHT, "rank 3", "216 bytes", "rank 0 of 192");

    open_world(&world, 2); /* a tied tensor that is not saved is declared all the same */
    test_tensor twin = weight;
    memcpy(twin.name, "twin", 5);
    const test_tensor *both[] = {&weight, &twin};
    for (int k = 0; k < 2; k++) {
        const int64_t zero[2] = {0};
        const int64_t none[2] = {0, 6};
        for (int r = 0; r < 2; r++) {
            as_declaration d = {.name = both[k]->name,
                                .order = k + 1,
                                .storage = 77,
                                .box = {.dtype = AS_F32,
                                        .ndim = 2,
                                        .shape = weight.shape,
                                        .offset = zero,
                                        .local = r ? none : weight.shape}};
            declare(&world, r, &d);
        }
    }
    ASSERT_CODE(AS_OK, plan_save(&world, &request, &e), &e);
    assert_int_equal(world.planners[0].plan.tensor_count, 1);
    assert_int_equal(world.planners[1].left_out, 2);
    close_world(&world);
}

static void order_keys(void **state)
{
    (void)state;
    open_world(&world, 4);
    declare_whole(&world, 1, &weight, 5);
    declare_whole(&world, 2, &other, 0);
    EXPECT(&world, AS_INVALID, "tensor \"other\" (rank 2) has no order key", "rank 1");

    open_world(&world, 4);
    declare_whole(&world, 1, &weight, 5);
    declare_whole(&world, 3, &other, 5);
    EXPECT(&world, AS_INVALID, "tensor ", "has the order key 5", "rank 1", "rank 3");

    /* without keys: by lowest declaring rank, then by place on that rank */
    open_world(&world, 3);
    test_tensor t[4];
    const char *const names[] = {"d", "c", "b", "a"};
    for (size_t i = 0; i < 4; i++) {
        t[i] = other;
        (void)snprintf(t[i].name, sizeof t[i].name, "%s", names[i]);
    }
    declare_whole(&world, 2, &t[0], 0);
    declare_whole(&world, 1, &t[1], 0);
    declare_whole(&world, 1, &t[2], 0);
    declare_whole(&world, 2, &t[3], 0);
    declare_whole(&world, 0, &t[3], 0);
    as_save_request request = plain_request();
    assert_int_equal(plan_save(&world, &request, NULL), AS_OK);
    const as_built_file *b = as_plan_built(&world.planners[0].plan, 0);
    assert_int_equal(b->names.size, 8);
    assert_memory_equal(b->names.data, "a\0c\0b\0d\0", 8);
    close_world(&world);
}

static void nothing_to_save(void **state)
{
    (void)state;
    open_world(&world, 3);
    EXPECT(&world, AS_EMPTY, "no rank declares a tensor");
    /* tensors of no bytes are something */
    open_world(&world, 3);
    test_tensor empty = other;
    empty.shape[0] = 0;
    declare_whole(&world, 2, &empty, 0);
    as_save_request request = plain_request();
    assert_int_equal(plan_save(&world, &request, NULL), AS_OK);
    assert_int_equal(world.planners[1].plan.tensor_count, 1);
    assert_int_equal(world.planners[1].plan.total_size, 0);
    close_world(&world);
}

/* ----------------------------------------------------------------------------------- ties */

static void declare_stored(int rank, const char *name, int64_t count, int64_t order,
                           uint64_t storage, int64_t bytes, int64_t offset)
{
    const int64_t zero = 0;
    as_declaration d = {
        .name = name,
        .order = order,
        .storage = storage,
        .storage_bytes = bytes,
        .storage_offset = offset,
        .box = {.dtype = AS_F32, .ndim = 1, .shape = &count, .offset = &zero, .local = &count}};
    declare(&world, rank, &d);
}

static void declare_pointer(int rank, const char *name, int64_t from, int64_t to, int64_t shape,
                            void *data)
{
    as_declaration d = {.name = name,
                        .data = data,
                        .box = {.dtype = AS_F32,
                                .ndim = 1,
                                .shape = &shape,
                                .offset = &from,
                                .local = (int64_t[]){to - from}}};
    declare(&world, rank, &d);
}

/* "b>a c>a": what the main process records. Closes the world. */
static void expect_dropped(const char *expected, int64_t tensors, const char *const *discard,
                           size_t discard_count)
{
    as_save_request request = plain_request();
    request.discard = discard;
    request.discard_count = discard_count;
    as_error e = AS_ERROR_INIT;
    ASSERT_CODE(AS_OK, plan_save(&world, &request, &e), &e);
    as_buffer text = AS_BUFFER_INIT;
    const as_plan *p = &world.planners[0].plan;
    for (size_t i = 0; i < as_plan_dropped_count(p); i++) {
        const as_dropped *d = as_plan_dropped(p, i);
        assert_int_equal(as_buffer_format(&text, NULL, "%s%s>%s", i ? " " : "", d->name, d->kept),
                         AS_OK);
    }
    assert_string_equal(as_buffer_string(&text), expected);
    assert_int_equal(p->tensor_count, tensors);
    as_buffer_free(&text);
    close_world(&world);
}

static void shared_storages(void **state)
{
    (void)state;
    const char *const discard[] = {"a"};
    for (int round = 0; round < 2; round++) {
        open_world(&world, 4);
        declare_stored(1, "b", 4, 0, 7, 16, 0);
        declare_stored(2, "a", 4, 0, 7, 16, 0);
        declare_stored(2, "alone", 4, 0, 8, 16, 0);
        expect_dropped(round ? "a>b" : "b>a", 2, discard, (size_t)round);
    }
    /* recorded in the order of the storages' first tensors, names sorted within */
    open_world(&world, 3);
    declare_stored(0, "z2", 4, 1, 5, 16, 0);
    declare_stored(1, "q", 4, 2, 6, 16, 0);
    declare_stored(2, "p", 2, 3, 6, 16, 8);
    declare_stored(2, "z1", 4, 4, 5, 16, 0);
    declare_stored(0, "z3", 4, 5, 5, 16, 0);
    expect_dropped("z2>z1 z3>z1 p>q", 2, NULL, 0);
    /* the same number, another size: another storage, as in the reference */
    open_world(&world, 3);
    declare_stored(0, "a", 4, 0, 5, 16, 0);
    declare_stored(1, "b", 2, 0, 5, 8, 0);
    expect_dropped("", 2, NULL, 0);
    /* no complete member */
    open_world(&world, 3);
    declare_stored(1, "half", 2, 0, 5, 16, 0);
    declare_stored(2, "rest", 2, 0, 5, 16, 8);
    EXPECT(&world, AS_TIED, "tensor \"half\" of rank 1", "shared storage of 16 bytes");
    open_world(&world, 3);
    declare_stored(2, "slice", 2, 0, 5, 16, 4);
    EXPECT(&world, AS_TIED, "tensor \"slice\" of rank 2");
    open_world(&world, 3);
    declare_stored(0, "full", 25, 0, 5, 100, 0);
    declare_stored(1, "x", 3, 0, 5, 100, 8);
    declare_stored(2, "y", 3, 0, 5, 100, 48);
    EXPECT(&world, AS_TIED, "tensor \"y\" of rank 2");
}

static void shared_pointers(void **state)
{
    (void)state;
    char memory[64] = "";
    char elsewhere[64] = "";
    /* the same pieces at the same pointers on all ranks */
    open_world(&world, 2);
    for (int r = 0; r < 2; r++) {
        declare_pointer(r, "b", 4 * r, 4 * r + 4, 8, memory + 16 * r);
        declare_pointer(r, "a", 4 * r, 4 * r + 4, 8, memory + 16 * r);
    }
    expect_dropped("b>a", 1, NULL, 0);
    /* on one rank they lie apart: two tensors */
    open_world(&world, 2);
    for (int r = 0; r < 2; r++) {
        declare_pointer(r, "b", 4 * r, 4 * r + 4, 8, memory + 16 * r);
        declare_pointer(r, "a", 4 * r, 4 * r + 4, 8, r ? elsewhere : memory + 16 * r);
    }
    expect_dropped("", 2, NULL, 0);
    /* the same pointer on different ranks is no tie */
    open_world(&world, 2);
    declare_pointer(0, "b", 0, 8, 8, memory);
    declare_pointer(1, "a", 0, 8, 8, memory);
    expect_dropped("", 2, NULL, 0);
    /* tensors without bytes, or without data, are not tied */
    open_world(&world, 2);
    declare_pointer(0, "b", 0, 0, 0, memory);
    declare_pointer(0, "a", 0, 0, 0, memory);
    declare_pointer(1, "d", 0, 4, 4, NULL);
    declare_pointer(1, "c", 0, 4, 4, NULL);
    expect_dropped("", 4, NULL, 0);
}

/* Thousands of names of one storage take no time worth naming. */
static void many_names_of_one_storage(void **state)
{
    (void)state;
    enum { NAMES = 30000 };
    char name[16];
    open_world(&world, 2);
    for (int i = 0; i < NAMES; i++) {
        (void)snprintf(name, sizeof name, "%05d", i);
        declare_stored(i % 2, name, 1, i + 1, 3, 4, 0);
    }
    as_save_request request = plain_request();
    clock_t start = clock();
    assert_int_equal(plan_save(&world, &request, NULL), AS_OK);
    assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 20);
    const as_plan *p = &world.planners[0].plan;
    assert_int_equal(p->tensor_count, 1);
    assert_int_equal(as_plan_dropped_count(p), NAMES - 1);
    assert_string_equal(as_plan_dropped(p, NAMES - 2)->name, "29999");
    assert_string_equal(as_plan_dropped(p, NAMES - 2)->kept, "00000");
    close_world(&world);
}

/* -------------------------------------------------------------------------------- metadata */

static void set(as_pairs *p, const char *key, const char *value)
{
    assert_int_equal(as_pairs_set(p, key, strlen(key), value, strlen(value), NULL), AS_OK);
}

static void what_is_recorded_of_dropped_names(void **state)
{
    (void)state;
    for (int sharded = 0; sharded < 2; sharded++) {
        as_pairs user = AS_PAIRS_INIT;
        set(&user, "note", "mine");
        set(&user, "c", "mine too");
        open_world(&world, 3);
        declare_stored(0, "a", 4, 0, 5, 16, 0);
        declare_stored(1, "b", 4, 0, 5, 16, 0);
        declare_stored(1, "c", 4, 0, 5, 16, 0);
        declare_stored(2, "d", 4, 0, 6, 16, 0);
        as_save_request request = save_request(sharded ? 16 : 100, BLOCK);
        request.metadata = &user;
        assert_int_equal(plan_save(&world, &request, NULL), AS_OK);
        as_pairs index = AS_PAIRS_INIT;
        assert_int_equal(as_plan_metadata(&world.planners[0].plan, &request, &index, NULL), AS_OK);
        assert_int_equal(index.count, 3); /* a user's key is not overwritten */
        assert_string_equal(index.items[0].key, "note");
        assert_string_equal(index.items[1].value, "mine too");
        assert_string_equal(index.items[2].key, "b");
        assert_string_equal(index.items[2].value, "a");
        as_table t;
        read_table(&world, 0, &t);
        assert_int_equal(t.metadata.count, sharded ? 1 : 4);
        assert_string_equal(as_pairs_find(&t.metadata, "format", 6)->value, "pt");
        as_table_free(&t);
        as_pairs_free(&index);
        as_pairs_free(&user);
        close_world(&world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_that_disagree),
        cmocka_unit_test(gaps_and_overlaps),
        cmocka_unit_test(empty_pieces_that_do_not_travel),
        cmocka_unit_test(order_keys),
        cmocka_unit_test(nothing_to_save),
        cmocka_unit_test(shared_storages),
        cmocka_unit_test(shared_pointers),
        cmocka_unit_test(many_names_of_one_storage),
        cmocka_unit_test(what_is_recorded_of_dropped_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
