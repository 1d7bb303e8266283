/* SPDX-License-Identifier: Apache-2.0
 * What the plan itself costs a rank, as the simulator measures it.
 */
#include "plan_support.h"

typedef struct many_rows {
    int tensors;
    int calls;
} many_rows;

/* Tensors of 4 rows, a row each on the first ranks; the others hold none. */
static int declare_rows(void *user, int rank, as_state *state, as_error *e)
{
    many_rows *m = user;
    m->calls++;
    int code = AS_OK;
    for (int i = 0; i < m->tensors && code == AS_OK; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "layers.%d.weight", i);
        const int64_t shape[] = {4, 100};
        const int64_t offset[] = {rank < 4 ? rank : 4, 0};
        const int64_t local[] = {rank < 4, 100};
        as_declaration d = {
            .name = name,
            .order = i + 1,
            .box = {.dtype = AS_F32, .ndim = 2, .shape = shape, .offset = offset, .local = local}};
        code = as_state_add(state, &d, e);
    }
    return code;
}

/* The most bytes that a rank holds. */
static int64_t peak_of(int ranks, int tensors)
{
    many_rows m = {.tensors = tensors};
    as_save_request request = save_request(100000, 4096);
    as_simulation s;
    as_error e = AS_ERROR_INIT;
    ASSERT_CODE(AS_OK, as_simulate_save(ranks, declare_rows, &m, &request, &s, &e), &e);
    assert_int_equal(s.described, 4 * tensors);
    assert_int_equal(s.left_out, (int64_t)tensors * (ranks - 4));
    /* a state is made again where names are told, and only there */
    assert_in_range(m.calls, ranks, ranks + 4);
    int64_t most = 0;
    int64_t bytes = 0;
    for (int r = 0; r < ranks; r++) {
        assert_true(s.cost[r].nanoseconds > 0);
        assert_true(s.cost[r].memory >= (int64_t)tensors * 32); /* the rows, at the least */
        most = s.cost[r].memory > most ? s.cost[r].memory : most;
        bytes += s.cost[r].bytes;
        assert_true(r < 4 || s.cost[r].messages > 0);
    }
    assert_true(bytes >= (int64_t)tensors * (4 * 48 + 32));
    as_simulation_free(&s);
    return most;
}

/* Memory of a rank follows its pieces, the tensors and the ranks, not their products: pieces of
 * 48 bytes, rows of 32, names of its tensors, a few words for each rank. */
static void memory_does_not_multiply(void **state)
{
    (void)state;
    for (int tensors = 500; tensors <= 8000; tensors *= 4) {
        for (int ranks = 8; ranks <= 128; ranks *= 4) {
            assert_true(peak_of(ranks, tensors) < 300 * (tensors + ranks) + 65536);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(memory_does_not_multiply)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
