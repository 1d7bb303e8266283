/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the figures come from: the config.json of each model's repository, and the state_dict of
 * its class in transformers, whose order is the order of the tables.
 *   gpt2          openai-community/gpt2 as transformers saves it today: names with
 *                 "transformer.", without the causal masks (h.N.attn.bias) that old files carry,
 *                 and without lm_head.weight, which is tied to wte
 *   llama-3-*     meta-llama/Meta-Llama-3-8B, -70B and Llama-3.1-405B (8 key-value heads)
 *   mixtral-8x7b  mistralai/Mixtral-8x7B-v0.1
 *   deepseek-v3   deepseek-ai/DeepSeek-V3: FP8 in blocks of 128×128 with a scale (weight_scale_inv)
 *                 for each, and layer 61, which predicts one token more: 91,991 tensors
 */
#include "cli/models.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/quote.h"
#include "cli/synthetic.h"
#include "tensor/dtype.h"

/* A tensor, or one for each layer, or one for each expert of each layer. In its name # is the
 * number of the layer and @ that of the expert. */
typedef struct as_template {
    const char *name;
    int dtype;
    int dims[2]; /* 0 in the second: a vector */
} as_template;

typedef struct as_block {
    const as_template *templates;
    size_t count;
} as_block;

#define BLOCK(templates)                                                                           \
    {                                                                                              \
        templates, sizeof(templates) / sizeof((templates)[0])                                      \
    }

/* Blocks, to be gone through in order, once for each layer of [first, last]. */
enum { MOST_BLOCKS = 5 };

typedef struct as_section {
    int first, last;
    int experts;
    as_block blocks[MOST_BLOCKS];
} as_section;

typedef struct as_known_model {
    const char *name;
    const as_section *sections;
    size_t count;
} as_known_model;

#define MODEL(name, sections)                                                                      \
    {                                                                                              \
        name, sections, sizeof(sections) / sizeof((sections)[0])                                   \
    }

/* --------------------------------------------------------------------- GPT-2 */

enum { GPT2 = 768 };

static const as_template gpt2_begin[] = {
    {"transformer.wte.weight", AS_F32, {50257, GPT2}},
    {"transformer.wpe.weight", AS_F32, {1024, GPT2}},
};
static const as_template gpt2_layer[] = {
    {"transformer.h.#.ln_1.weight", AS_F32, {GPT2, 0}},
    {"transformer.h.#.ln_1.bias", AS_F32, {GPT2, 0}},
    {"transformer.h.#.attn.c_attn.weight", AS_F32, {GPT2, 3 * GPT2}},
    {"transformer.h.#.attn.c_attn.bias", AS_F32, {3 * GPT2, 0}},
    {"transformer.h.#.attn.c_proj.weight", AS_F32, {GPT2, GPT2}},
    {"transformer.h.#.attn.c_proj.bias", AS_F32, {GPT2, 0}},
    {"transformer.h.#.ln_2.weight", AS_F32, {GPT2, 0}},
    {"transformer.h.#.ln_2.bias", AS_F32, {GPT2, 0}},
    {"transformer.h.#.mlp.c_fc.weight", AS_F32, {GPT2, 4 * GPT2}},
    {"transformer.h.#.mlp.c_fc.bias", AS_F32, {4 * GPT2, 0}},
    {"transformer.h.#.mlp.c_proj.weight", AS_F32, {4 * GPT2, GPT2}},
    {"transformer.h.#.mlp.c_proj.bias", AS_F32, {GPT2, 0}},
};
static const as_template gpt2_end[] = {
    {"transformer.ln_f.weight", AS_F32, {GPT2, 0}},
    {"transformer.ln_f.bias", AS_F32, {GPT2, 0}},
};
static const as_section gpt2[] = {
    {0, 0, 0, {BLOCK(gpt2_begin)}},
    {0, 11, 0, {BLOCK(gpt2_layer)}},
    {0, 0, 0, {BLOCK(gpt2_end)}},
};

/* --------------------------------------------------------------------- Llama */

/* A decoder with grouped attention: hidden size, key-value size, MLP size, vocabulary, layers. */
#define LLAMA(id, hidden, kv, mlp, vocabulary, layers)                                             \
    static const as_template id##_begin[] = {                                                      \
        {"model.embed_tokens.weight", AS_BF16, {vocabulary, hidden}},                              \
    };                                                                                             \
    static const as_template id##_layer[] = {                                                      \
        {"model.layers.#.self_attn.q_proj.weight", AS_BF16, {hidden, hidden}},                     \
        {"model.layers.#.self_attn.k_proj.weight", AS_BF16, {kv, hidden}},                         \
        {"model.layers.#.self_attn.v_proj.weight", AS_BF16, {kv, hidden}},                         \
        {"model.layers.#.self_attn.o_proj.weight", AS_BF16, {hidden, hidden}},                     \
        {"model.layers.#.mlp.gate_proj.weight", AS_BF16, {mlp, hidden}},                           \
        {"model.layers.#.mlp.up_proj.weight", AS_BF16, {mlp, hidden}},                             \
        {"model.layers.#.mlp.down_proj.weight", AS_BF16, {hidden, mlp}},                           \
        {"model.layers.#.input_layernorm.weight", AS_BF16, {hidden, 0}},                           \
        {"model.layers.#.post_attention_layernorm.weight", AS_BF16, {hidden, 0}},                  \
    };                                                                                             \
    static const as_template id##_end[] = {                                                        \
        {"model.norm.weight", AS_BF16, {hidden, 0}},                                               \
        {"lm_head.weight", AS_BF16, {vocabulary, hidden}},                                         \
    };                                                                                             \
    static const as_section id[] = {                                                               \
        {0, 0, 0, {BLOCK(id##_begin)}},                                                            \
        {0, (layers)-1, 0, {BLOCK(id##_layer)}},                                                   \
        {0, 0, 0, {BLOCK(id##_end)}},                                                              \
    }

LLAMA(llama_8b, 4096, 1024, 14336, 128256, 32);
LLAMA(llama_70b, 8192, 1024, 28672, 128256, 80);
LLAMA(llama_405b, 16384, 1024, 53248, 128256, 126);

/* ------------------------------------------------------------------- Mixtral */

static const as_template mixtral_begin[] = {
    {"model.embed_tokens.weight", AS_BF16, {32000, 4096}},
};
static const as_template mixtral_layer[] = {
    {"model.layers.#.self_attn.q_proj.weight", AS_BF16, {4096, 4096}},
    {"model.layers.#.self_attn.k_proj.weight", AS_BF16, {1024, 4096}},
    {"model.layers.#.self_attn.v_proj.weight", AS_BF16, {1024, 4096}},
    {"model.layers.#.self_attn.o_proj.weight", AS_BF16, {4096, 4096}},
    {"model.layers.#.block_sparse_moe.gate.weight", AS_BF16, {8, 4096}},
    {"model.layers.#.block_sparse_moe.experts.@.w1.weight", AS_BF16, {14336, 4096}},
    {"model.layers.#.block_sparse_moe.experts.@.w2.weight", AS_BF16, {4096, 14336}},
    {"model.layers.#.block_sparse_moe.experts.@.w3.weight", AS_BF16, {14336, 4096}},
    {"model.layers.#.input_layernorm.weight", AS_BF16, {4096, 0}},
    {"model.layers.#.post_attention_layernorm.weight", AS_BF16, {4096, 0}},
};
static const as_template mixtral_end[] = {
    {"model.norm.weight", AS_BF16, {4096, 0}},
    {"lm_head.weight", AS_BF16, {32000, 4096}},
};
static const as_section mixtral[] = {
    {0, 0, 0, {BLOCK(mixtral_begin)}},
    {0, 31, 8, {BLOCK(mixtral_layer)}},
    {0, 0, 0, {BLOCK(mixtral_end)}},
};

/* --------------------------------------------------------------- DeepSeek-V3 */

/* An FP8 matrix is followed by the scales of its blocks. */
enum { DEEPSEEK = 7168, FP8_BLOCK = 128 };

static const as_template deepseek_begin[] = {
    {"model.embed_tokens.weight", AS_BF16, {129280, DEEPSEEK}},
};
static const as_template deepseek_attention[] = {
    {"model.layers.#.self_attn.q_a_proj.weight", AS_F8_E4M3, {1536, DEEPSEEK}},
    {"model.layers.#.self_attn.q_a_layernorm.weight", AS_BF16, {1536, 0}},
    {"model.layers.#.self_attn.q_b_proj.weight", AS_F8_E4M3, {24576, 1536}},
    {"model.layers.#.self_attn.kv_a_proj_with_mqa.weight", AS_F8_E4M3, {576, DEEPSEEK}},
    {"model.layers.#.self_attn.kv_a_layernorm.weight", AS_BF16, {512, 0}},
    {"model.layers.#.self_attn.kv_b_proj.weight", AS_F8_E4M3, {32768, 512}},
    {"model.layers.#.self_attn.o_proj.weight", AS_F8_E4M3, {DEEPSEEK, 16384}},
};
static const as_template deepseek_dense[] = {
    {"model.layers.#.mlp.gate_proj.weight", AS_F8_E4M3, {18432, DEEPSEEK}},
    {"model.layers.#.mlp.up_proj.weight", AS_F8_E4M3, {18432, DEEPSEEK}},
    {"model.layers.#.mlp.down_proj.weight", AS_F8_E4M3, {DEEPSEEK, 18432}},
};
static const as_template deepseek_experts[] = {
    {"model.layers.#.mlp.experts.@.gate_proj.weight", AS_F8_E4M3, {2048, DEEPSEEK}},
    {"model.layers.#.mlp.experts.@.up_proj.weight", AS_F8_E4M3, {2048, DEEPSEEK}},
    {"model.layers.#.mlp.experts.@.down_proj.weight", AS_F8_E4M3, {DEEPSEEK, 2048}},
    {"model.layers.#.mlp.gate.weight", AS_BF16, {256, DEEPSEEK}},
    {"model.layers.#.mlp.gate.e_score_correction_bias", AS_F32, {256, 0}},
    {"model.layers.#.mlp.shared_experts.gate_proj.weight", AS_F8_E4M3, {2048, DEEPSEEK}},
    {"model.layers.#.mlp.shared_experts.up_proj.weight", AS_F8_E4M3, {2048, DEEPSEEK}},
    {"model.layers.#.mlp.shared_experts.down_proj.weight", AS_F8_E4M3, {DEEPSEEK, 2048}},
};
static const as_template deepseek_norms[] = {
    {"model.layers.#.input_layernorm.weight", AS_BF16, {DEEPSEEK, 0}},
    {"model.layers.#.post_attention_layernorm.weight", AS_BF16, {DEEPSEEK, 0}},
};
static const as_template deepseek_end[] = {
    {"model.norm.weight", AS_BF16, {DEEPSEEK, 0}},
    {"lm_head.weight", AS_BF16, {129280, DEEPSEEK}},
};
static const as_template deepseek_next[] = {
    {"model.layers.#.embed_tokens.weight", AS_BF16, {129280, DEEPSEEK}},
    {"model.layers.#.enorm.weight", AS_BF16, {DEEPSEEK, 0}},
    {"model.layers.#.hnorm.weight", AS_BF16, {DEEPSEEK, 0}},
    {"model.layers.#.eh_proj.weight", AS_BF16, {DEEPSEEK, 2 * DEEPSEEK}},
};
static const as_template deepseek_next_head[] = {
    {"model.layers.#.shared_head.norm.weight", AS_BF16, {DEEPSEEK, 0}},
    {"model.layers.#.shared_head.head.weight", AS_BF16, {129280, DEEPSEEK}},
};
static const as_section deepseek[] = {
    {0, 0, 0, {BLOCK(deepseek_begin)}},
    {0, 2, 0, {BLOCK(deepseek_attention), BLOCK(deepseek_dense), BLOCK(deepseek_norms)}},
    {3, 60, 256, {BLOCK(deepseek_attention), BLOCK(deepseek_experts), BLOCK(deepseek_norms)}},
    {0, 0, 0, {BLOCK(deepseek_end)}},
    {61,
     61,
     256,
     {BLOCK(deepseek_next), BLOCK(deepseek_attention), BLOCK(deepseek_experts),
      BLOCK(deepseek_norms), BLOCK(deepseek_next_head)}},
};

/* ----------------------------------------------------------------- the table */

static const as_known_model models[] = {
    MODEL("gpt2", gpt2),
    MODEL("llama-3-8b", llama_8b),
    MODEL("llama-3-70b", llama_70b),
    MODEL("llama-3-405b", llama_405b),
    MODEL("mixtral-8x7b", mixtral),
    MODEL("deepseek-v3", deepseek),
};

size_t as_models_count(void)
{
    return sizeof models / sizeof models[0];
}

const char *as_models_name(size_t i)
{
    return i < as_models_count() ? models[i].name : NULL;
}

/* The template's name with its numbers put in. */
static size_t write_name(char *out, size_t room, const char *name, int layer, int expert,
                         const char *ending)
{
    size_t at = 0;
    for (; *name && at + 1 < room; name++) {
        if (*name == '#' || *name == '@') {
            int number = *name == '#' ? layer : expert;
            at += (size_t)snprintf(out + at, room - at, "%d", number);
        } else {
            out[at++] = *name;
        }
    }
    return at + (size_t)snprintf(out + at, room - at, "%s", ending);
}

static int add_tensor(as_tensors *t, const as_template *m, int layer, int expert, int dtype,
                      as_error *e)
{
    char name[128];
    uint64_t shape[2] = {(uint64_t)m->dims[0], (uint64_t)m->dims[1]};
    int ndim = m->dims[1] ? 2 : 1;
    size_t length = write_name(name, sizeof name, m->name, layer, expert, "");
    int code = as_tensors_add(t, name, length, dtype ? dtype : m->dtype, ndim, shape, 0, 0, e);
    if (code != AS_OK || dtype || m->dtype != AS_F8_E4M3) {
        return code;
    }
    for (int d = 0; d < ndim; d++) {
        shape[d] = (shape[d] + FP8_BLOCK - 1) / FP8_BLOCK;
    }
    length = write_name(name, sizeof name, m->name, layer, expert, "_scale_inv");
    return as_tensors_add(t, name, length, AS_F32, ndim, shape, 0, 0, e);
}

static bool is_for_experts(const as_template *m)
{
    return strchr(m->name, '@') != NULL;
}

/* Neighbouring templates of experts are gone through together, expert by expert. */
static int add_block(as_tensors *t, const as_block *b, int layer, int experts, int dtype,
                     as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; i < b->count && code == AS_OK;) {
        size_t next = i + 1;
        bool for_experts = is_for_experts(&b->templates[i]);
        while (for_experts && next < b->count && is_for_experts(&b->templates[next])) {
            next++;
        }
        for (int x = 0; x < (for_experts ? experts : 1); x++) {
            for (size_t k = i; k < next && code == AS_OK; k++) {
                code = add_tensor(t, &b->templates[k], layer, x, dtype, e);
            }
        }
        i = next;
    }
    return code;
}

static int add_section(as_tensors *t, const as_section *s, int dtype, as_error *e)
{
    int code = AS_OK;
    for (int layer = s->first; layer <= s->last; layer++) {
        for (size_t i = 0; i < MOST_BLOCKS && code == AS_OK; i++) {
            code = add_block(t, &s->blocks[i], layer, s->experts, dtype, e);
        }
    }
    return code;
}

static int no_such_model(const char *name, as_error *e)
{
    char all[256] = "";
    for (size_t i = 0; i < as_models_count(); i++) {
        size_t at = strlen(all);
        (void)snprintf(all + at, sizeof all - at, "%s%s", i > 0 ? ", " : "", models[i].name);
    }
    return as_fail(e, AS_INVALID, 0,
                   "there is no model named %s in the table; it has %s, and synthetic:N",
                   as_quote(name, strlen(name)).text, all);
}

int as_models_make(const char *name, int dtype, as_tensors *out, as_error *e)
{
    *out = AS_TENSORS_INIT;
    size_t m = 0;
    int64_t count = 0;
    if (as_synthetic_name(name, &count)) {
        int made = as_synthetic_make(count, dtype, out, e);
        if (made != AS_OK) {
            as_tensors_free(out);
        }
        return made;
    }
    while (m < as_models_count() && strcmp(models[m].name, name) != 0) {
        m++;
    }
    if (m == as_models_count()) {
        return no_such_model(name, e);
    }
    int code = AS_OK;
    for (size_t i = 0; i < models[m].count && code == AS_OK; i++) {
        code = add_section(out, &models[m].sections[i], dtype, e);
    }
    if (code != AS_OK) {
        as_tensors_free(out);
    }
    return code;
}
