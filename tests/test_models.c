/* SPDX-License-Identifier: Apache-2.0
 * The table of known models against figures that are public.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/models.h"
#include "tensor/dtype.h"

static size_t find(const as_tensors *t, const char *name)
{
    for (size_t i = 0; i < as_tensors_count(t); i++) {
        if (strcmp(as_tensors_name(t, i), name) == 0) {
            return i;
        }
    }
    fail_msg("no tensor %s", name);
    return 0;
}

static void expect(const as_tensors *t, const char *name, int dtype, int ndim, int64_t a, int64_t b)
{
    size_t i = find(t, name);
    assert_int_equal(as_tensors_row(t, i)->dtype, dtype);
    assert_int_equal(as_tensors_row(t, i)->ndim, ndim);
    assert_int_equal(as_tensors_shape(t, i)[0], a);
    if (ndim == 2) {
        assert_int_equal(as_tensors_shape(t, i)[1], b);
    }
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void expect_different_names(const as_tensors *t)
{
    size_t count = as_tensors_count(t);
    const char **names = malloc(count * sizeof *names);
    assert_non_null(names);
    for (size_t i = 0; i < count; i++) {
        names[i] = as_tensors_name(t, i);
        assert_null(strpbrk(names[i], "#@"));
        assert_int_equal(strlen(names[i]), as_tensors_row(t, i)->name_length);
    }
    qsort(names, count, sizeof *names, compare_names);
    for (size_t i = 1; i < count; i++) {
        assert_string_not_equal(names[i - 1], names[i]);
    }
    free((void *)names);
}

static void totals_are_those_of_the_releases(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t tensors;
        int64_t numel;
        int64_t bytes;
    } known[] = {
        {"gpt2", 148, INT64_C(124439808), INT64_C(497759232)},
        {"llama-3-8b", 291, INT64_C(8030261248), INT64_C(16060522496)},
        {"llama-3-70b", 723, INT64_C(70553706496), INT64_C(141107412992)},
        {"llama-3-405b", 1137, INT64_C(405853388800), INT64_C(811706777600)},
        {"mixtral-8x7b", 995, INT64_C(46702792704), INT64_C(93405585408)},
        {"deepseek-v3", 91991, INT64_C(684531386000), INT64_C(688574839360)},
    };
    assert_int_equal(as_models_count(), sizeof known / sizeof known[0]);
    for (size_t i = 0; i < as_models_count(); i++) {
        as_tensors t;
        assert_string_equal(as_models_name(i), known[i].name);
        assert_int_equal(as_models_make(known[i].name, 0, &t, NULL), AS_OK);
        assert_int_equal(as_tensors_count(&t), known[i].tensors);
        assert_int_equal(t.numel, known[i].numel);
        assert_int_equal(t.bytes, known[i].bytes);
        expect_different_names(&t);
        as_tensors_free(&t);
    }
}

static void names_shapes_and_order(void **state)
{
    (void)state;
    as_tensors t;
    assert_int_equal(as_models_make("gpt2", 0, &t, NULL), AS_OK);
    assert_string_equal(as_tensors_name(&t, 0), "transformer.wte.weight");
    assert_string_equal(as_tensors_name(&t, 147), "transformer.ln_f.bias");
    expect(&t, "transformer.h.11.attn.c_attn.weight", AS_F32, 2, 768, 2304);
    as_tensors_free(&t);

    assert_int_equal(as_models_make("llama-3-70b", 0, &t, NULL), AS_OK);
    assert_string_equal(as_tensors_name(&t, 722), "lm_head.weight");
    expect(&t, "model.layers.79.self_attn.k_proj.weight", AS_BF16, 2, 1024, 8192);
    expect(&t, "model.layers.0.post_attention_layernorm.weight", AS_BF16, 1, 8192, 0);
    as_tensors_free(&t);

    assert_int_equal(as_models_make("mixtral-8x7b", 0, &t, NULL), AS_OK);
    expect(&t, "model.layers.31.block_sparse_moe.experts.7.w2.weight", AS_BF16, 2, 4096, 14336);
    /* expert by expert, not matrix by matrix */
    size_t at = find(&t, "model.layers.3.block_sparse_moe.experts.0.w3.weight");
    assert_string_equal(as_tensors_name(&t, at + 1),
                        "model.layers.3.block_sparse_moe.experts.1.w1.weight");
    as_tensors_free(&t);

    assert_int_equal(as_models_make("deepseek-v3", 0, &t, NULL), AS_OK);
    expect(&t, "model.layers.3.mlp.experts.255.down_proj.weight", AS_F8_E4M3, 2, 7168, 2048);
    expect(&t, "model.layers.3.mlp.experts.255.down_proj.weight_scale_inv", AS_F32, 2, 56, 16);
    expect(&t, "model.layers.0.self_attn.kv_a_proj_with_mqa.weight_scale_inv", AS_F32, 2, 5, 56);
    expect(&t, "model.layers.61.eh_proj.weight", AS_BF16, 2, 7168, 14336);
    expect(&t, "model.layers.61.mlp.gate.e_score_correction_bias", AS_F32, 1, 256, 0);
    as_tensors_free(&t);
}

static void another_dtype_drops_the_scales(void **state)
{
    (void)state;
    as_tensors t;
    assert_int_equal(as_models_make("deepseek-v3", AS_BF16, &t, NULL), AS_OK);
    assert_int_equal(t.bytes, t.numel * 2);
    for (size_t i = 0; i < as_tensors_count(&t); i++) {
        assert_null(strstr(as_tensors_name(&t, i), "scale_inv"));
    }
    as_tensors_free(&t);
}

static void an_unknown_model_is_answered_with_the_known_ones(void **state)
{
    (void)state;
    as_tensors t;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(as_models_make("gpt3", 0, &t, &e), AS_INVALID);
    assert_non_null(strstr(as_error_text(&e), "gpt3"));
    assert_non_null(strstr(as_error_text(&e), "deepseek-v3"));
    assert_int_equal(as_tensors_count(&t), 0);
    as_error_clear(&e);
}

static void synthetic_models_have_any_number_of_tensors(void **state)
{
    (void)state;
    as_tensors t;
    assert_int_equal(as_models_make("synthetic:20000", 0, &t, NULL), AS_OK);
    assert_int_equal(as_tensors_count(&t), 20000);
    expect(&t, "model.layers.0.mlp.experts.0.gate_proj.weight", AS_BF16, 2, 8, 8192);
    expect(&t, "model.layers.0.mlp.experts.4095.scale", AS_F32, 1, 16, 0);
    expect(&t, "model.layers.1.mlp.experts.0.down_proj.weight", AS_BF16, 2, 32, 2048);
    expect(&t, "model.layers.1.mlp.experts.903.scale", AS_F32, 1, 16, 0);
    assert_int_equal(t.bytes, 5000 * (3 * 131072 + 64));
    as_tensors_free(&t);
    assert_int_equal(as_models_make("synthetic:3", AS_F32, &t, NULL), AS_OK);
    assert_int_equal(t.bytes, 3 * 262144);
    as_tensors_free(&t);
    static const char *const bad[] = {"synthetic",    "synthetic:",   "synthetic:0",
                                      "synthetic:-1", "synthetic:1x", "synthetic:100000001"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        as_error e = AS_ERROR_INIT;
        assert_int_equal(as_models_make(bad[i], 0, &t, &e), AS_INVALID);
        assert_non_null(strstr(as_error_text(&e), "synthetic:N"));
        as_error_clear(&e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(totals_are_those_of_the_releases),
        cmocka_unit_test(names_shapes_and_order),
        cmocka_unit_test(another_dtype_drops_the_scales),
        cmocka_unit_test(synthetic_models_have_any_number_of_tensors),
        cmocka_unit_test(an_unknown_model_is_answered_with_the_known_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
