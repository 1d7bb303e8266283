/* SPDX-License-Identifier: Apache-2.0
 * Fuzzes layouts, the names of models and the tensors that layouts cut. The input is the number of
 * ranks (a byte), a line of layout, a line that names a model, and then tensors: dtype, number of
 * dimensions, the dimensions (8 bytes each), and a name that ends at a zero.
 */
#include "cli/layout.h"
#include "cli/models.h"
#include "cli/synthetic.h"
#include "fuzz.h"
#include "tensor/dtype.h"

enum { MOST_RANKS = 24, MOST_TENSORS = 64, MOST_SYNTHETIC = 64 };

typedef struct input {
    const uint8_t *at;
    size_t left;
} input;

static uint8_t take(input *in)
{
    if (in->left == 0) {
        return 0;
    }
    in->left--;
    return *in->at++;
}

/* What comes before the next `end`, as a string; the caller frees. */
static char *take_until(input *in, int end)
{
    const uint8_t *found = in->left ? memchr(in->at, end, in->left) : NULL;
    size_t length = found ? (size_t)(found - in->at) : in->left;
    char *text = fuzz_text(in->at, length);
    in->at += length;
    in->left -= length;
    (void)take(in);
    return text;
}

static void take_tensors(input *in, as_tensors *out)
{
    for (int i = 0; in->left > 0 && i < MOST_TENSORS; i++) {
        uint64_t shape[32];
        int dtype = take(in) % (AS_DTYPE_END - 1) + 1;
        int ndim = take(in) % 20;
        for (int d = 0; d < ndim; d++) {
            /* Small ones are likelier: the number of bytes comes first. */
            int bytes = take(in) % 9;
            shape[d] = 0;
            while (bytes-- > 0) {
                shape[d] = shape[d] << 8 | take(in);
            }
        }
        char *name = take_until(in, '\0');
        as_error e = AS_ERROR_INIT;
        int code = as_tensors_add(out, name, strlen(name), dtype, ndim, shape, 0, 0, &e);
        fuzz_end(code, &e);
        free(name);
    }
}

/* A piece lies in its tensor and has the bytes that it says. */
static void check_piece(const as_tensors *t, size_t i, const as_layout_piece *p)
{
    const as_tensor_row *row = as_tensors_row(t, i);
    const int64_t *shape = as_tensors_shape(t, i);
    MUST(p->bytes >= 0 && p->bytes <= row->bytes);
    if (p->flat) {
        MUST(p->flat_offset >= 0 && p->flat_count >= 0);
        MUST(p->flat_count <= row->numel && p->flat_offset <= row->numel - p->flat_count);
        return;
    }
    for (int d = 0; d < row->ndim; d++) {
        MUST(p->offset[d] >= 0 && p->shape[d] >= 0 && p->shape[d] <= shape[d]);
        MUST(p->offset[d] <= shape[d] - p->shape[d]);
    }
}

static void use_layout(as_layout *l, const as_tensors *t)
{
    as_error e = AS_ERROR_INIT;
    MUST(as_layout_fit(l, t, &e) == AS_OK);
    int64_t pieces = as_layout_piece_count(l, t);
    MUST(as_layout_held_count(l, t) <= pieces);
    for (size_t i = 0; i < as_tensors_count(t); i++) {
        int64_t total = 0;
        int64_t held = 0;
        for (int rank = 0; rank < l->ranks; rank++) {
            as_layout_piece p;
            size_t first;
            size_t last;
            as_layout_range(l, t, rank, &first, &last);
            if (as_layout_get(l, t, i, rank, &p)) {
                MUST(i >= first && i < last);
                check_piece(t, i, &p);
                total = p.bytes > INT64_MAX - total ? INT64_MAX : total + p.bytes;
                held++;
            }
        }
        MUST(held > 0 && held <= pieces);
        /* Nothing is lost; what is not replicated is there once. */
        int64_t bytes = as_tensors_row(t, i)->bytes;
        bool once = l->kind != AS_LAYOUT_REPLICATED && l->kind != AS_LAYOUT_PARALLEL;
        MUST(once ? total == bytes : total >= bytes);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {.at = data, .left = size};
    int ranks = take(&in) % MOST_RANKS + 1;
    char *layout = take_until(&in, '\n');
    char *model = take_until(&in, '\n');
    as_error e = AS_ERROR_INIT;
    as_layout l;
    as_tensors t = AS_TENSORS_INIT;
    int64_t count = 0;
    bool known = false;
    for (size_t i = 0; i < as_models_count(); i++) {
        known = known || strcmp(model, as_models_name(i)) == 0;
    }
    /* The real ones have up to 92,000 tensors, and always the same: once each is enough, and the
     * corpus has the small one. */
    bool large = (known && strcmp(model, "gpt2") != 0) ||
                 (as_synthetic_name(model, &count) && count > MOST_SYNTHETIC);
    if (!large) {
        int code = as_models_make(model, 0, &t, &e);
        MUST(code == AS_OK || code == AS_INVALID);
        fuzz_end(code, &e);
    }
    take_tensors(&in, &t);
    int checked = as_tensors_check(&t, &e);
    fuzz_end(checked, &e);
    int code = as_layout_plan(&l, layout, ranks, &e);
    fuzz_end(code, &e);
    if (code == AS_OK && checked == AS_OK) {
        use_layout(&l, &t);
    }
    as_layout_free(&l);
    as_tensors_free(&t);
    free(layout);
    free(model);
    return 0;
}
