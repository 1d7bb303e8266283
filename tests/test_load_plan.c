/* SPDX-License-Identifier: Apache-2.0
 * Plans of loads: a random checkpoint, declared in random ways by 1 to 40 ranks.
 * Each byte that a piece needs is read by one rank, which knows all who need it.
 */
#include "plan_support.h"

/* ---------------------------------------------------------------------------- checkpoints */

typedef struct checkpoint {
    as_checkpoint head;
    as_table *tables; /* [files] */
    int32_t files;
} checkpoint;

/* What a save of the model would leave. */
static void make_checkpoint(checkpoint *c, const test_model *m, int64_t limit)
{
    static test_world w;
    as_save_request request = save_request(limit, 512);
    uint64_t seed = 1;
    open_world(&w, 1);
    spread_model(&seed, &w, m, SPREAD_WHOLE);
    assert_int_equal(plan_save(&w, &request, NULL), AS_OK);
    *c = (checkpoint){.files = w.planners[0].plan.file_count};
    c->tables = calloc((size_t)c->files, sizeof *c->tables);
    assert_non_null(c->tables);
    for (int32_t f = 0; f < c->files; f++) {
        read_table(&w, f, &c->tables[f]);
    }
    close_world(&w);
}

/* An index over the tables, with metadata; NULL for a single file. Frees `extra`. */
static void index_checkpoint(checkpoint *c, as_buffer *extra, as_pairs *metadata)
{
    as_buffer text = AS_BUFFER_INIT;
    char file[32];
    bool first = true;
    assert_int_equal(as_index_write_begin(&text, 1, metadata, NULL), AS_OK);
    for (int32_t f = 0; f < c->files; f++) {
        (void)snprintf(file, sizeof file, "f%d.safetensors", f);
        for (size_t i = 0; i < as_table_count(&c->tables[f]); i++) {
            assert_int_equal(as_index_write_line(&text, first, as_table_name(&c->tables[f], i),
                                                 as_table_entry(&c->tables[f], i)->name_length,
                                                 file, NULL),
                             AS_OK);
            first = false;
        }
    }
    if (extra) {
        assert_int_equal(as_buffer_append(&text, extra->data, extra->size, NULL), AS_OK);
        as_buffer_free(extra);
    }
    assert_int_equal(as_index_write_end(&text, first, NULL), AS_OK);
    as_source source = as_source_memory(text.data, text.size, "index");
    as_error e = AS_ERROR_INIT;
    ASSERT_CODE(AS_OK, as_index_read(&source, ".safetensors", &c->head.index, NULL, &e), &e);
    as_buffer_free(&text);
    if (metadata) {
        as_pairs_free(metadata);
    }
}

static void close_checkpoint(checkpoint *c)
{
    as_index_free(&c->head.index);
    for (int32_t f = 0; f < c->files; f++) {
        as_table_free(&c->tables[f]);
    }
    free(c->tables);
    *c = (checkpoint){.files = 0};
}

/* -------------------------------------------------------------------------------- planning */

typedef struct options {
    int64_t block;
    bool single;
    bool allow_missing;
    bool allow_unexpected;
} options;

static int plan_load(test_world *w, const checkpoint *c, const options *o, as_error *e)
{
    static char single[] = "model.safetensors";
    as_checkpoint head = c->head;
    head.single = o->single ? single : NULL;
    as_load_request requests[MOST_RANKS];
    as_read_file *files = calloc((size_t)c->files, sizeof *files);
    assert_non_null(files);
    for (int32_t f = 0; f < c->files; f++) {
        files[f] = (as_read_file){.file = f, .table = c->tables[f]};
    }
    for (int r = 0; r < w->ranks; r++) {
        int32_t first = 0;
        while (first < c->files && as_plan_builder(first, c->files, w->ranks) < r) {
            first++;
        }
        int32_t last = first;
        while (last < c->files && as_plan_builder(last, c->files, w->ranks) == r) {
            last++;
        }
        requests[r] = (as_load_request){.block_bytes = o->block,
                                        .file_count = c->files,
                                        .indexed = !o->single,
                                        .files = files + first,
                                        .read_count = (size_t)(last - first),
                                        .checkpoint = r ? NULL : &head,
                                        .allow_missing = o->allow_missing,
                                        .allow_unexpected = o->allow_unexpected};
        assert_int_equal(
            as_planner_load(&w->planners[r], r, w->ranks, &w->states[r], &requests[r], e), AS_OK);
    }
    int code = as_simulate_planners(w->planners, w->ranks, e);
    free(files);
    return code;
}

static void expect_load_error(test_world *w, const checkpoint *c, const options *o, int code,
                              const char *const *parts)
{
    as_error e = AS_ERROR_INIT;
    ASSERT_CODE(code, plan_load(w, c, o, &e), &e);
    for (; *parts; parts++) {
        if (!strstr(as_error_text(&e), *parts)) {
            fail_msg("\"%s\" is not in: %s", *parts, as_error_text(&e));
        }
    }
    assert_null(strpbrk(as_error_text(&e), "\001\002"));
    as_error_clear(&e);
    close_world(w);
}

#define EXPECT(w, c, code, ...)                                                                    \
    expect_load_error(w, c, &(options){.block = 512}, code,                                        \
                      (const char *const[]){__VA_ARGS__, NULL})

/* ---------------------------------------------------------------------------- what must hold */

/* Of each piece: which of its tensor's bytes some reader will send it. */
typedef struct wants {
    char *got; /* [bytes of the tensor] */
    as_geometry geometry;
} wants;

static void take_part(const test_world *w, wants *const *all, const as_part *part, as_words words)
{
    assert_true(part->box_count > 0);
    for (int k = 0; k < part->box_count; k++) {
        as_part_box box;
        assert_int_equal(as_part_box_take(&words, &box, NULL), AS_OK);
        for (size_t h = 0; h < box.holder_count; h++) {
            int64_t rank = box.holders[2 * h];
            int64_t piece = box.holders[2 * h + 1];
            assert_in_range(rank, 0, w->ranks - 1);
            assert_true(piece >= 0 && (size_t)piece < as_state_count(&w->states[rank]));
            wants *one = &all[rank][piece];
            assert_true(as_geometry_same(&one->geometry, &box.geometry));
            for (int64_t at = part->low - part->tensor_at; at < part->high - part->tensor_at;
                 at++) {
                if (as_geometry_before(&box.geometry, at + 1) >
                    as_geometry_before(&box.geometry, at)) {
                    assert_int_equal(one->got[at]++, 0);
                }
            }
        }
    }
}

/* No byte is read twice; a block has one reader. */
static void mark_part(const as_part *part, int rank, int64_t block, int32_t **readers,
                      char *const *read)
{
    for (int64_t at = part->low; at < part->high; at++) {
        assert_int_equal(read[part->file][at]++, 0);
        int32_t *reader = &readers[part->file][at / block];
        assert_true(*reader == 0 || *reader == rank + 1);
        *reader = rank + 1;
    }
}

static void check_load(const test_world *w, const checkpoint *c, int64_t block)
{
    wants **all = calloc((size_t)w->ranks, sizeof *all);
    int32_t **readers = calloc((size_t)c->files, sizeof *readers);
    char **read = calloc((size_t)c->files, sizeof *read);
    assert_true(all && readers && read);
    for (int r = 0; r < w->ranks; r++) {
        size_t count = as_state_count(&w->states[r]);
        all[r] = calloc(count + 1, sizeof **all);
        for (size_t i = 0; i < count; i++) {
            as_box box = as_state_box(&w->states[r], i);
            all[r][i].got = calloc((size_t)as_state_piece(&w->states[r], i)->bytes + 1, 1);
            assert_int_equal(as_geometry_file(&box, &all[r][i].geometry, NULL), AS_OK);
        }
    }
    for (int32_t f = 0; f < c->files; f++) {
        size_t size = c->tables[f].file_size;
        readers[f] = calloc(size / (size_t)block + 1, sizeof **readers);
        read[f] = calloc(size + 1, 1);
        assert_true(readers[f] && read[f]);
    }
    for (int r = 0; r < w->ranks; r++) {
        const as_plan *p = &w->planners[r].plan;
        for (size_t i = 0; i < as_plan_part_count(p); i++) {
            mark_part(as_plan_part(p, i), r, block, readers, read);
            take_part(w, all, as_plan_part(p, i), as_part_boxes(p, as_plan_part(p, i)));
        }
    }
    for (int r = 0; r < w->ranks; r++) {
        for (size_t i = 0; i < as_state_count(&w->states[r]); i++) {
            int64_t got = 0;
            for (int64_t at = 0; at < as_state_piece(&w->states[r], i)->bytes; at++) {
                got += all[r][i].got[at];
            }
            assert_int_equal(got, as_geometry_bytes(&all[r][i].geometry));
            free(all[r][i].got);
        }
        free(all[r]);
    }
    for (int32_t f = 0; f < c->files; f++) {
        free(readers[f]);
        free(read[f]);
    }
    free(all);
    free(readers);
    free(read);
}

/* Besides a whole spread, pieces that overlap, repeat and leave holes. */
static void declare_at_random(uint64_t *seed, test_world *w, const test_model *m)
{
    for (size_t i = 0; i < m->count; i++) {
        const test_tensor *t = &m->tensors[i];
        for (int64_t k = between(seed, 0, 4); k > 0; k--) {
            int rank = (int)between(seed, 0, w->ranks - 1);
            int dim = t->ndim ? (int)between(seed, 0, t->ndim - 1) : 0;
            int64_t unit = dim == t->ndim - 1 ? as_dtype_group(t->dtype) : 1;
            int64_t extent = t->ndim ? t->shape[dim] : 0;
            int64_t from = between(seed, 0, extent) / unit * unit;
            declare_cut(w, rank, t, 0, dim, from, between(seed, from, extent) / unit * unit);
        }
    }
}

static void every_piece_gets_its_bytes(void **state)
{
    (void)state;
    static test_world w;
    static test_model m;
    uint64_t seed = 13;
    for (int i = 0; i < 500; i++) {
        checkpoint c;
        random_model(&seed, &m);
        options o = {.block = INT64_C(64) << between(&seed, 0, 6), .allow_unexpected = true};
        o.single = between(&seed, 0, 3) == 0;
        make_checkpoint(&c, &m, o.single ? INT64_MAX : between(&seed, 0, 20000));
        index_checkpoint(&c, NULL, NULL);
        for (int k = 0; k < 4; k++) {
            open_world(&w, (int)between(&seed, 1, MOST_RANKS));
            if (k % 2) {
                spread_model(&seed, &w, &m, (enum spread)between(&seed, 0, SPREAD_KINDS));
            }
            if (k) {
                declare_at_random(&seed, &w, &m);
            }
            as_error e = AS_ERROR_INIT;
            ASSERT_CODE(AS_OK, plan_load(&w, &c, &o, &e), &e);
            check_load(&w, &c, o.block);
            close_world(&w);
        }
        close_checkpoint(&c);
    }
}

/* Two columns of a wide matrix: what lies between is not read if it is blocks long. */
static void holes_are_not_read(void **state)
{
    (void)state;
    static test_world w;
    test_model m = {
        .count = 1,
        .tensors = {{.name = "w", .dtype = AS_U8, .ndim = 2, .shape = {20, 4096}, .bytes = 81920}}};
    checkpoint c;
    make_checkpoint(&c, &m, INT64_MAX);
    index_checkpoint(&c, NULL, NULL);
    open_world(&w, 3);
    declare_cut(&w, 0, &m.tensors[0], 0, 1, 0, 64);
    declare_cut(&w, 1, &m.tensors[0], 0, 1, 2048, 2100);
    assert_int_equal(plan_load(&w, &c, &(options){.block = 256}, NULL), AS_OK);
    check_load(&w, &c, 256);
    int64_t bytes = 0;
    for (int r = 0; r < 3; r++) {
        bytes += w.planners[r].plan.own_bytes;
    }
    assert_in_range(bytes, 20 * (64 + 52), 20 * 4 * 256);
    close_world(&w);
    close_checkpoint(&c);
}

/* --------------------------------------------------------------------------------- errors */

static test_model three_tensors(void)
{
    test_model m = {.count = 3};
    for (size_t i = 0; i < 3; i++) {
        m.tensors[i] =
            (test_tensor){.name = "a", .dtype = AS_F32, .ndim = 2, .shape = {4, 4}, .bytes = 64};
        m.tensors[i].name[0] = (char)('a' + i);
    }
    return m;
}

static void names_that_do_not_fit(void **state)
{
    (void)state;
    static test_world w;
    test_model m = three_tensors();
    test_tensor missing = m.tensors[0];
    checkpoint c;
    make_checkpoint(&c, &m, 64);
    assert_int_equal(c.files, 3);
    index_checkpoint(&c, NULL, NULL);
    for (int round = 0; round < 4; round++) {
        open_world(&w, 4);
        declare_whole(&w, 1, &m.tensors[1], 0);
        declare_whole(&w, 3, &m.tensors[1], 0);
        (void)snprintf(missing.name, sizeof missing.name, "z\x1b");
        declare_whole(&w, 3, &missing, 0);
        declare_cut(&w, 2, &missing, 0, 0, 0, 0);
        (void)snprintf(missing.name, sizeof missing.name, "y");
        declare_whole(&w, 2, &missing, 0);
        const options o = {.block = 512, .allow_missing = round & 1, .allow_unexpected = round & 2};
        if (round < 3) {
            expect_load_error(
                &w, &c, &o, AS_NAMES,
                (const char *const[]){round & 1 ? "in the checkpoint" : "\"y\", \"z\\x1b\"",
                                      round & 2 ? "missing in" : "no rank: \"a\", \"c\"", NULL});
            continue;
        }
        assert_int_equal(plan_load(&w, &c, &o, NULL), AS_OK);
        assert_memory_equal(w.planners[0].missing.data, "y\0z\x1b\0", 5);
        assert_memory_equal(w.planners[0].unexpected.data, "a\0c\0", 4);
        assert_int_equal(w.planners[0].unexpected.size, 4);
        close_world(&w);
    }
    close_checkpoint(&c);
}

static void tensors_that_do_not_fit(void **state)
{
    (void)state;
    static test_world w;
    test_model m = three_tensors();
    checkpoint c;
    make_checkpoint(&c, &m, 64);
    index_checkpoint(&c, NULL, NULL);
    test_tensor bad = m.tensors[2];
    bad.dtype = AS_I32;
    open_world(&w, 4);
    declare_whole(&w, 3, &bad, 0);
    EXPECT(&w, &c, AS_MISMATCH, "tensor \"c\"", "rank 3 declares I32 [4,4]", "has F32 [4,4]");
    bad.dtype = AS_F32;
    bad.ndim = 1;
    open_world(&w, 4);
    declare_flat(&w, 2, &bad, 0, 1, 2);
    EXPECT(&w, &c, AS_MISMATCH, "tensor \"c\"", "rank 2 declares F32 [4]", "has F32 [4,4]");
    open_world(&w, 4);
    declare_whole(&w, 1, &m.tensors[2], 0);
    declare_whole(&w, 2, &bad, 0);
    EXPECT(&w, &c, AS_MISMATCH, "tensor \"c\"", "rank 1 declares shape [4,4]", "rank 2");
    close_checkpoint(&c);

    /* dimensions beyond 2^63 in a header, which a leading 0 makes legal */
    make_checkpoint(&c, &m, INT64_MAX);
    assert_int_equal(as_table_add(&c.tables[0], "vast", 4, AS_F32, 3,
                                  (uint64_t[]){0, UINT64_MAX, UINT64_C(1) << 63}, 0, 0, NULL),
                     AS_OK);
    index_checkpoint(&c, NULL, NULL);
    bad.ndim = 3;
    (void)snprintf(bad.name, sizeof bad.name, "vast");
    memset(bad.shape, 0, sizeof bad.shape);
    open_world(&w, 2);
    declare_whole(&w, 0, &bad, 0);
    EXPECT(&w, &c, AS_MISMATCH, "[0,0,0]", "[0,18446744073709551615,9223372036854775808]");
    close_checkpoint(&c);
}

static void lines_without_tensors(void **state)
{
    (void)state;
    static test_world w;
    test_model m = three_tensors();
    checkpoint c;
    make_checkpoint(&c, &m, 64);
    as_buffer extra = AS_BUFFER_INIT;
    assert_int_equal(as_index_write_line(&extra, false, "gh\"ost", 6, "f1.safetensors", NULL),
                     AS_OK);
    index_checkpoint(&c, &extra, NULL);
    open_world(&w, 4);
    EXPECT(&w, &c, AS_FORMAT, "tensor \"gh\\\"ost\" is in \"f1.safetensors\"", "does not hold it");
    close_checkpoint(&c);
}

/* ------------------------------------------------------------------------------ dropped names */

static void dropped_names_are_filled_too(void **state)
{
    (void)state;
    static test_world w;
    test_model m = three_tensors();
    for (int single = 0; single < 2; single++) {
        checkpoint c;
        make_checkpoint(&c, &m, single ? INT64_MAX : 64);
        as_pairs tied = AS_PAIRS_INIT;
        as_pairs *to = single ? &c.tables[0].metadata : &tied;
        assert_int_equal(as_pairs_set(to, "tied", 4, "b", 1, NULL), AS_OK);
        assert_int_equal(as_pairs_set(to, "lost", 4, "nowhere", 7, NULL), AS_OK);
        assert_int_equal(as_pairs_set(to, "a", 1, "c", 1, NULL), AS_OK); /* a is there itself */
        index_checkpoint(&c, NULL, single ? NULL : &tied);
        test_tensor alias = m.tensors[1];
        (void)snprintf(alias.name, sizeof alias.name, "tied");
        const options o = {.block = 64, .single = single};

        open_world(&w, 5); /* under both names */
        declare_whole(&w, 0, &m.tensors[0], 0);
        declare_whole(&w, 4, &m.tensors[2], 0);
        declare_cut(&w, 1, &m.tensors[1], 0, 0, 0, 2);
        declare_whole(&w, 2, &alias, 0);
        declare_cut(&w, 3, &alias, 0, 1, 1, 3);
        assert_int_equal(plan_load(&w, &c, &o, NULL), AS_OK);
        check_load(&w, &c, 64);
        int64_t bytes = 0;
        for (int r = 0; r < 5; r++) {
            bytes += w.planners[r].plan.own_bytes;
        }
        assert_int_equal(bytes, 3 * 64); /* read once for both */
        close_world(&w);

        open_world(&w, 2); /* nothing is missing or unexpected under the dropped name alone */
        declare_whole(&w, 0, &m.tensors[0], 0);
        declare_whole(&w, 1, &m.tensors[2], 0);
        declare_whole(&w, 1, &alias, 0);
        assert_int_equal(plan_load(&w, &c, &o, NULL), AS_OK);
        check_load(&w, &c, 64);
        close_world(&w);

        open_world(&w, 3);
        test_tensor lost = alias;
        (void)snprintf(lost.name, sizeof lost.name, "lost");
        declare_whole(&w, 2, &lost, 0);
        expect_load_error(&w, &c, &o, AS_NAMES,
                          (const char *const[]){"missing in the checkpoint: \"lost\";", NULL});

        alias.shape[0] = 3; /* a view that was dropped for the whole tensor */
        open_world(&w, 4);
        declare_whole(&w, 1, &m.tensors[1], 0);
        declare_whole(&w, 2, &alias, 0);
        expect_load_error(&w, &c, &o, AS_MISMATCH,
                          (const char *const[]){"tensor \"b\": rank 1 declares shape [4,4]",
                                                "rank 2 declares [3,4] for \"tied\"", NULL});
        close_checkpoint(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_piece_gets_its_bytes),
        cmocka_unit_test(holes_are_not_read),
        cmocka_unit_test(names_that_do_not_fit),
        cmocka_unit_test(tensors_that_do_not_fit),
        cmocka_unit_test(lines_without_tensors),
        cmocka_unit_test(dropped_names_are_filled_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
