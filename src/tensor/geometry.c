/* SPDX-License-Identifier: Apache-2.0 */
#include "tensor/geometry.h"

#include "base/checked.h"
#include "tensor/dtype.h"

/* Tensors stay below 2^61 bytes (their bits fit 64), and the memory of a piece reaches no
 * farther, so that sums of two places never overflow. */
#define LARGEST_REACH (INT64_C(1) << 61)

int as_box_tensor_bytes(int dtype, int ndim, const int64_t *shape, int64_t *bytes, as_error *e)
{
    uint64_t numel = 1;
    bool zero = false;
    for (int d = 0; d < ndim; d++) {
        if (shape[d] < 0) {
            return as_fail(e, AS_INVALID, 0, "dimension %d of the shape is negative (%lld)", d,
                           (long long)shape[d]);
        }
        zero = zero || shape[d] == 0;
    }
    for (int d = 0; d < ndim; d++) {
        if (!as_mul_u64(numel, (uint64_t)shape[d], &numel)) {
            return as_fail(e, AS_INVALID, 0, "the shape has more than 2^64 elements");
        }
    }
    uint64_t size;
    bool whole;
    if (!as_dtype_bytes(dtype, numel, &size, &whole)) {
        return as_fail(e, AS_INVALID, 0, "the tensor is larger than 2^61 bytes");
    }
    if (!whole) {
        return as_fail(e, AS_INVALID, 0, "%llu elements of %s do not fill whole bytes",
                       (unsigned long long)numel, as_dtype_name(dtype));
    }
    *bytes = zero ? 0 : (int64_t)size;
    return AS_OK;
}

static int64_t numel_of(const as_box *box)
{
    /* as_box_tensor_bytes has bounded the product; on the way to a zero at the end it may pass
     * 2^63, hence unsigned. */
    uint64_t numel = 1;
    for (int d = 0; d < box->ndim; d++) {
        numel *= (uint64_t)box->shape[d];
    }
    return (int64_t)numel;
}

/* Is the farthest byte that the strides lead to within reach? Strides of a dimension with one
 * index lead nowhere and may be anything. */
static int check_reach(const as_box *box, as_error *e)
{
    int64_t reach = 0; /* elements */
    for (int d = 0; d < box->ndim; d++) {
        int64_t stride = box->strides[d] < 0 ? box->strides[d] + 1 : box->strides[d];
        int64_t far; /* stride −s counts as s−1: INT64_MIN has no opposite */
        if (box->local[d] > 1 && (!as_mul_i64(stride < 0 ? -stride : stride, box->local[d], &far) ||
                                  !as_add_i64(reach, far, &reach) ||
                                  reach > LARGEST_REACH / as_dtype_bits(box->dtype) * 8)) {
            return as_fail(e, AS_INVALID, 0,
                           "a stride of %lld elements in dimension %d leads out of memory",
                           (long long)box->strides[d], d);
        }
    }
    return AS_OK;
}

static bool is_empty(const as_box *box)
{
    if (box->flat) {
        return box->flat_count == 0;
    }
    for (int d = 0; d < box->ndim; d++) {
        if (box->local[d] == 0) {
            return true;
        }
    }
    return false;
}

int as_box_check(const as_box *box, as_error *e)
{
    int64_t bytes;
    int code = as_box_tensor_bytes(box->dtype, box->ndim, box->shape, &bytes, e);
    if (code != AS_OK) {
        return code;
    }
    if (box->flat) {
        int64_t end;
        if (box->flat_offset < 0 || box->flat_count < 0 ||
            !as_add_i64(box->flat_offset, box->flat_count, &end) || end > numel_of(box)) {
            return as_fail(e, AS_INVALID, 0,
                           "the flat range of %lld elements from %lld passes the tensor's %lld",
                           (long long)box->flat_count, (long long)box->flat_offset,
                           (long long)numel_of(box));
        }
        return AS_OK;
    }
    for (int d = 0; d < box->ndim; d++) {
        int64_t end;
        if (box->offset[d] < 0 || box->local[d] < 0 ||
            !as_add_i64(box->offset[d], box->local[d], &end) || end > box->shape[d]) {
            return as_fail(e, AS_INVALID, 0,
                           "the box of %lld from %lld passes the tensor's %lld in dimension %d",
                           (long long)box->local[d], (long long)box->offset[d],
                           (long long)box->shape[d], d);
        }
    }
    return box->strides && !is_empty(box) ? check_reach(box, e) : AS_OK;
}
/* The box in elements, with strides in elements; a scalar gets one dimension. */
static void from_box(const as_box *box, as_geometry *g)
{
    if (box->flat || box->ndim == 0) {
        *g = (as_geometry){.ndim = 1, .global = {numel_of(box)}, .shape = {1}, .stride = {1}};
        if (box->flat) {
            g->offset[0] = box->flat_offset;
            g->shape[0] = box->flat_count;
        }
        return;
    }
    *g = (as_geometry){.ndim = box->ndim};
    int64_t stride = 1;
    for (int d = box->ndim - 1; d >= 0; d--) {
        g->global[d] = box->shape[d];
        g->offset[d] = box->offset[d];
        g->shape[d] = box->local[d];
        g->stride[d] = box->strides ? box->strides[d] : stride;
        stride *= box->local[d];
    }
}

/* Joins neighbouring dimensions that make one: the inner is taken whole, or the
 * outer is a single index; and, with `memory`, memory goes on without a break. */
static void merge(as_geometry *g, bool memory)
{
    int top = g->ndim - 1; /* the dimension being built, from the inside out */
    for (int d = g->ndim - 2; d >= 0; d--) {
        bool whole =
            g->offset[top] == 0 && g->shape[top] == g->global[top] &&
            (!memory || g->shape[top] == 1 || g->stride[d] == g->stride[top] * g->shape[top]);
        if (g->shape[d] == 1 || whole) {
            int64_t inner = g->global[top];
            bool take_outer_stride = memory && g->shape[top] == 1 && g->shape[d] != 1;
            int64_t stride = take_outer_stride ? g->stride[d] : g->stride[top];
            g->offset[top] += g->offset[d] * inner;
            g->shape[top] *= g->shape[d];
            g->global[top] = g->global[d] * inner;
            g->stride[top] = stride;
        } else {
            top--;
            g->global[top] = g->global[d];
            g->offset[top] = g->offset[d];
            g->shape[top] = g->shape[d];
            g->stride[top] = g->stride[d];
        }
    }
    for (int d = top; d < g->ndim; d++) {
        g->global[d - top] = g->global[d];
        g->offset[d - top] = g->offset[d];
        g->shape[d - top] = g->shape[d];
        g->stride[d - top] = g->stride[d];
    }
    g->ndim -= top;
}

/* The innermost dimension from elements to bytes, whole groups of F4 and F6 only. */
static int inner_to_bytes(as_geometry *g, int dtype, as_error *e)
{
    int64_t group = as_dtype_group(dtype);
    int64_t bytes = as_dtype_group_bytes(dtype);
    int last = g->ndim - 1;
    if (g->global[last] % group || g->offset[last] % group || g->shape[last] % group) {
        return as_fail(e, AS_INVALID, 0,
                       "the piece begins or ends inside a byte: %s elements go %lld at a time",
                       as_dtype_name(dtype), (long long)group);
    }
    g->global[last] = g->global[last] / group * bytes;
    g->offset[last] = g->offset[last] / group * bytes;
    g->shape[last] = g->shape[last] / group * bytes;
    return AS_OK;
}

int as_geometry_file(const as_box *box, as_geometry *out, as_error *e)
{
    if (is_empty(box)) {
        *out = (as_geometry){0};
        return AS_OK;
    }
    from_box(box, out);
    merge(out, false);
    for (int d = 0; d < out->ndim; d++) {
        out->stride[d] = 0;
    }
    return inner_to_bytes(out, box->dtype, e);
}

int as_geometry_memory(const as_box *box, as_geometry *out, as_error *e)
{
    if (is_empty(box)) {
        *out = (as_geometry){0};
        return AS_OK;
    }
    from_box(box, out);
    merge(out, true);
    int64_t group = as_dtype_group(box->dtype);
    int64_t bytes = as_dtype_group_bytes(box->dtype);
    int last = out->ndim - 1;
    if (group > 1) {
        for (int d = 0; d < last; d++) {
            if (out->stride[d] % group) {
                return as_fail(e, AS_INVALID, 0, "a stride of %lld elements of %s cuts a byte",
                               (long long)out->stride[d], as_dtype_name(box->dtype));
            }
        }
        if (out->stride[last] != 1) {
            return as_fail(e, AS_INVALID, 0, "%s elements must be contiguous in the last dimension",
                           as_dtype_name(box->dtype));
        }
    }
    for (int d = 0; d < last; d++) {
        out->stride[d] = out->stride[d] / group * bytes;
    }
    if (out->stride[last] == 1 || out->shape[last] == 1) {
        out->stride[last] = 1;
        return inner_to_bytes(out, box->dtype, e);
    }
    /* Elements apart in memory: the element itself becomes the innermost run. */
    out->stride[last] *= bytes;
    out->global[last + 1] = bytes;
    out->offset[last + 1] = 0;
    out->shape[last + 1] = bytes;
    out->stride[last + 1] = 1;
    out->ndim++;
    return AS_OK;
}

int as_geometry_cast(const as_box *box, int file_dtype, as_buffer *seams, as_geometry *out,
                     as_error *e)
{
    int code = as_geometry_memory(box, out, e);
    if (code != AS_OK || out->ndim == 0) {
        return code;
    }
    /* Innermost lie whole elements, whatever their size. */
    int last = out->ndim - 1;
    int64_t from = as_dtype_group_bytes(box->dtype);
    int64_t to = as_dtype_group_bytes(file_dtype);
    out->global[last] = out->global[last] / from * to;
    out->offset[last] = out->offset[last] / from * to;
    out->shape[last] = out->shape[last] / from * to;
    out->memory_dtype = box->dtype;
    out->file_dtype = file_dtype;
    out->seams = seams;
    return AS_OK;
}

int64_t as_geometry_bytes(const as_geometry *g)
{
    int64_t bytes = g->ndim > 0;
    for (int d = 0; d < g->ndim; d++) {
        bytes *= g->shape[d];
    }
    return bytes;
}

int64_t as_geometry_begin(const as_geometry *g)
{
    int64_t at = 0;
    for (int d = 0; d < g->ndim; d++) {
        at = at * g->global[d] + g->offset[d];
    }
    return at;
}

int64_t as_geometry_end(const as_geometry *g)
{
    int64_t at = 0;
    for (int d = 0; d < g->ndim; d++) {
        at = at * g->global[d] + g->offset[d] + g->shape[d] - 1;
    }
    return g->ndim ? at + 1 : 0;
}

int64_t as_geometry_before(const as_geometry *g, int64_t at)
{
    if (g->ndim == 0 || at <= 0) {
        return 0;
    }
    /* Digits of `at` in the mixed radix of the global shape, most significant first: each
     * adds the rows of the box that lie wholly before it, until the place leaves the box. */
    int64_t below = 1; /* bytes of the tensor in one step of the dimension */
    int64_t own = 1;   /* bytes of the box in one step of the dimension */
    int64_t tensor[AS_GEOMETRY_DIMS];
    int64_t box[AS_GEOMETRY_DIMS];
    for (int d = g->ndim - 1; d >= 0; d--) {
        tensor[d] = below;
        box[d] = own;
        below *= g->global[d];
        own *= g->shape[d];
    }
    if (at >= below) {
        return own;
    }
    int64_t count = 0;
    for (int d = 0; d < g->ndim; d++) {
        int64_t digit = at / tensor[d];
        at %= tensor[d];
        if (digit < g->offset[d]) {
            return count;
        }
        if (digit >= g->offset[d] + g->shape[d]) {
            return count + g->shape[d] * box[d];
        }
        count += (digit - g->offset[d]) * box[d];
    }
    return count;
}

bool as_geometry_contiguous(const as_geometry *g)
{
    return as_geometry_end(g) - as_geometry_begin(g) == as_geometry_bytes(g);
}

bool as_geometry_same(const as_geometry *a, const as_geometry *b)
{
    if (a->ndim != b->ndim) {
        return false;
    }
    for (int d = 0; d < a->ndim; d++) {
        if (a->global[d] != b->global[d] || a->offset[d] != b->offset[d] ||
            a->shape[d] != b->shape[d]) {
            return false;
        }
    }
    return true;
}
