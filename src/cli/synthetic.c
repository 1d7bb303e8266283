/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/synthetic.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tensor/dtype.h"

enum { EXPERTS = 4096, MOST_TENSORS = 100000000 };

static const struct {
    const char *name;
    int dtype;
    int ndim;
    uint64_t shape[2];
} templates[] = {
    {"gate_proj.weight", AS_BF16, 2, {8, 8192}},
    {"up_proj.weight", AS_BF16, 2, {16, 4096}},
    {"down_proj.weight", AS_BF16, 2, {32, 2048}},
    {"scale", AS_F32, 1, {16}},
};

enum { TEMPLATES = sizeof templates / sizeof templates[0] };

bool as_synthetic_name(const char *name, int64_t *count)
{
    static const char stem[] = "synthetic:";
    if (strncmp(name, stem, sizeof stem - 1) != 0) {
        return false;
    }
    const char *digit = name + sizeof stem - 1;
    int64_t number = 0;
    for (; *digit >= '0' && *digit <= '9' && number <= MOST_TENSORS; digit++) {
        number = number * 10 + (*digit - '0');
    }
    *count = number;
    return *digit == '\0' && number >= 1 && number <= MOST_TENSORS;
}

int as_synthetic_make(int64_t count, int dtype, as_tensors *out, as_error *e)
{
    int code = AS_OK;
    for (int64_t i = 0; i < count && code == AS_OK; i++) {
        int64_t expert = i / TEMPLATES;
        size_t k = (size_t)(i % TEMPLATES);
        char name[96];
        int length =
            snprintf(name, sizeof name, "model.layers.%" PRId64 ".mlp.experts.%" PRId64 ".%s",
                     expert / EXPERTS, expert % EXPERTS, templates[k].name);
        code = as_tensors_add(out, name, (size_t)length, dtype ? dtype : templates[k].dtype,
                              templates[k].ndim, templates[k].shape, 0, 0, e);
    }
    return code;
}
