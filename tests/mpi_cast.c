/* SPDX-License-Identifier: Apache-2.0
 * Saves and loads of states whose tensors are stored as other types: pieces of several layouts,
 * strided every way, give the same file on any number of ranks, with each element cast for itself;
 * and what is loaded is that, cast back. Blocks of 64 bytes make many seams, and in a file whose
 * data begin at an odd place they cut elements. (ALLSHARD_NO_MPI: also as one process.)
 */
/* ranks: 1 3 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support_ranks.h"
#include "tensor/cast.h"
#include "tensor/dtype.h"

/* In the order of the file: by the type there, then by name. */
static const struct tensor {
    const char *name;
    int32_t dtype;
    int32_t stored;
    int64_t shape[2];
} tensors[] = {
    {"a.wide", ALLSHARD_F32, ALLSHARD_F64, {9, 31}},
    {"b.same", ALLSHARD_F64, ALLSHARD_F64, {5, 7}},
    {"c.single", ALLSHARD_F64, ALLSHARD_F32, {17, 13}},
    {"d.up", ALLSHARD_BF16, ALLSHARD_F32, {6, 50}},
    {"e.master", ALLSHARD_F32, ALLSHARD_BF16, {61, 47}},
    {"f.twice", ALLSHARD_F64, ALLSHARD_BF16, {1, 11}},
    {"g.half", ALLSHARD_F32, ALLSHARD_F16, {40, 3}},
    {"h.narrow", ALLSHARD_F32, ALLSHARD_F8_E4M3, {33, 65}},
    {"i.empty", ALLSHARD_F32, ALLSHARD_F8_E4M3, {4, 0}},
    {"j.narrow", ALLSHARD_BF16, ALLSHARD_F8_E5M2, {65, 33}},
};
enum { COUNT = sizeof tensors / sizeof *tensors, PADDING = 3 };

enum layout { ROWS, COLUMNS, REVERSED, FLAT, REPLICATED, LAYOUTS };

typedef struct piece {
    bool flat;
    int64_t flat_offset;
    int64_t offset[2];
    int64_t local[2]; /* of a flat piece: 1 and its elements */
    int64_t strides[2];
    char *memory;
    size_t bytes;
    char *first; /* element */
} piece;

static size_t size_of(int dtype)
{
    return (size_t)as_dtype_bits(dtype) / 8;
}

/* Element `at` of a tensor as it is in memory: any pattern of bits. */
static void element_of(size_t tensor, int64_t at, char out[8])
{
    uint64_t z = ((uint64_t)tensor << 32 | (uint64_t)at) * UINT64_C(0x9e3779b97f4a7c15) + 1;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    memcpy(out, &z, 8);
}

static void cast_one(int from, int to, const char *in, char *out)
{
    if (from == to) {
        memcpy(out, in, size_of(from));
    } else {
        as_cast_plain(from, to, in, out, 1);
    }
}

static void stored_element(size_t tensor, int64_t at, char out[8])
{
    char element[8];
    element_of(tensor, at, element);
    cast_one(tensors[tensor].dtype, tensors[tensor].stored, element, out);
}

static void cut(int64_t all, int rank, int ranks, int64_t *from, int64_t *count)
{
    *from = all * rank / ranks;
    *count = all * (rank + 1) / ranks - *from;
}

static void make_piece(piece *p, size_t tensor, enum layout layout, int rank, int ranks)
{
    const struct tensor *t = &tensors[tensor];
    *p = (piece){.local = {t->shape[0], t->shape[1]}};
    switch (layout) {
    case ROWS:
        cut(t->shape[0], rank, ranks, &p->offset[0], &p->local[0]);
        p->strides[0] = p->local[1];
        p->strides[1] = 1;
        break;
    case COLUMNS: /* transposed */
        cut(t->shape[1], rank, ranks, &p->offset[1], &p->local[1]);
        p->strides[0] = 1;
        p->strides[1] = p->local[0];
        break;
    case REVERSED:
        cut(t->shape[0], rank, ranks, &p->offset[0], &p->local[0]);
        p->strides[0] = p->local[1] + PADDING;
        p->strides[1] = -1;
        break;
    case FLAT:
        p->flat = true;
        cut(t->shape[0] * t->shape[1], rank, ranks, &p->flat_offset, &p->local[1]);
        p->local[0] = 1;
        p->strides[1] = 1;
        break;
    default: /* replicated, every other element of memory */
        p->strides[0] = -2 * p->local[1];
        p->strides[1] = 2;
        break;
    }
    for (int d = 0; d < 2; d++) {
        p->strides[d] = p->strides[d] ? p->strides[d] : 1; /* where nothing is held */
    }
    int64_t reach = 1;
    int64_t before = 0;
    for (int d = 0; d < 2 && p->local[0] && p->local[1]; d++) {
        int64_t far = (p->local[d] - 1) * p->strides[d];
        reach += far < 0 ? -far : far;
        before += far < 0 ? -far : 0;
    }
    p->bytes = (size_t)reach * size_of(t->dtype);
    p->memory = malloc(p->bytes);
    CHECK(p->memory != NULL);
    p->first = p->memory + (size_t)before * size_of(t->dtype);
}

/* Element `i` of the piece in C order: its place in the tensor and in memory. */
static int64_t place_of(const piece *p, size_t tensor, int64_t i, char **memory)
{
    int64_t row = i / p->local[1];
    int64_t column = i % p->local[1];
    *memory = p->first + (row * p->strides[0] + column * p->strides[1]) *
                             (int64_t)size_of(tensors[tensor].dtype);
    return p->flat ? p->flat_offset + i
                   : (p->offset[0] + row) * tensors[tensor].shape[1] + p->offset[1] + column;
}

static void fill(const piece *p, size_t tensor)
{
    memset(p->memory, 0x11, p->bytes);
    for (int64_t i = 0; i < p->local[0] * p->local[1]; i++) {
        char *memory;
        char element[8];
        element_of(tensor, place_of(p, tensor, i, &memory), element);
        memcpy(memory, element, size_of(tensors[tensor].dtype));
    }
}

static bool came_back(const piece *p, size_t tensor)
{
    const struct tensor *t = &tensors[tensor];
    bool good = true;
    for (int64_t i = 0; i < p->local[0] * p->local[1]; i++) {
        char *memory;
        char stored[8];
        char expected[8];
        stored_element(tensor, place_of(p, tensor, i, &memory), stored);
        cast_one(t->stored, t->dtype, stored, expected);
        good = good && memcmp(memory, expected, size_of(t->dtype)) == 0;
    }
    return good;
}

static void declare(const allshard *as, allshard_state *s, const piece *p, size_t tensor)
{
    const struct tensor *t = &tensors[tensor];
    allshard_tensor declared = {.size = sizeof declared,
                                .name = t->name,
                                .dtype = t->dtype,
                                .stored_dtype = t->stored,
                                .ndim = 2,
                                .shape = t->shape,
                                .offset = p->flat ? NULL : p->offset,
                                .local_shape = p->flat ? NULL : p->local,
                                .flat = p->flat,
                                .flat_offset = p->flat_offset,
                                .flat_count = p->flat ? p->local[1] : 0,
                                .strides = p->flat ? NULL : p->strides,
                                .data = p->first,
                                .order = (int64_t)tensor + 1};
    GOOD(as, allshard_state_tensor(s, &declared));
}

/* Saves, if `target` is given, or loads and looks. */
static void run(allshard *as, int rank, int ranks, enum layout layout, const char *target,
                const char *source, int64_t block_bytes)
{
    allshard_state *s = NULL;
    piece pieces[COUNT];
    GOOD(as, allshard_state_create(&s, as, "model"));
    for (size_t i = 0; i < COUNT; i++) {
        make_piece(&pieces[i], i, layout, rank, ranks);
        fill(&pieces[i], i);
        declare(as, s, &pieces[i], i);
    }
    if (target) {
        allshard_save_options options = {.size = sizeof options, .block_bytes = block_bytes};
        GOOD(as, allshard_save(s, target, &options));
    } else {
        allshard_load_options options = {.size = sizeof options, .block_bytes = block_bytes};
        for (size_t i = 0; i < COUNT; i++) {
            memset(pieces[i].memory, 0x22, pieces[i].bytes);
        }
        GOOD(as, allshard_load(s, source, &options));
        for (size_t i = 0; i < COUNT; i++) {
            CHECK_TEXT(came_back(&pieces[i], i),
                       "%s in layout %d from %s with blocks of %lld bytes", tensors[i].name,
                       (int)layout, source, (long long)block_bytes);
        }
    }
    for (size_t i = 0; i < COUNT; i++) {
        free(pieces[i].memory);
    }
    (void)allshard_state_free(s);
}

/* A file whole; the caller frees. */
static char *read_file(const char *folder, size_t *size)
{
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/model.safetensors", folder);
    FILE *f = fopen(path, "rb");
    CHECK_TEXT(f != NULL, "%s cannot be opened", path);
    CHECK(fseek(f, 0, SEEK_END) == 0);
    *size = (size_t)ftell(f);
    char *bytes = malloc(*size + 1);
    CHECK(bytes && fseek(f, 0, SEEK_SET) == 0 && fread(bytes, 1, *size, f) == *size);
    (void)fclose(f);
    return bytes;
}

/* Are the file's data those of the elements, each cast for itself? Returns where they begin. */
static size_t check_data(const char *bytes, size_t size)
{
    uint64_t header;
    memcpy(&header, bytes, sizeof header);
    size_t begin = 8 + (size_t)header;
    size_t at = begin;
    for (size_t i = 0; i < COUNT; i++) {
        int64_t elements = tensors[i].shape[0] * tensors[i].shape[1];
        for (int64_t k = 0; k < elements; k++, at += size_of(tensors[i].stored)) {
            char expected[8];
            stored_element(i, k, expected);
            CHECK_TEXT(at < size && memcmp(bytes + at, expected, size_of(tensors[i].stored)) == 0,
                       "%s is wrong in the file at element %lld", tensors[i].name, (long long)k);
        }
    }
    CHECK(at == size);
    return begin;
}

/* The same file, with `more` spaces after the header. */
static const char *shift_data(const char *bytes, size_t size, size_t begin, size_t more)
{
    char name[32];
    (void)snprintf(name, sizeof name, "odd-%zu.safetensors", more);
    const char *path = scratch_path(name);
    FILE *f = fopen(path, "wb");
    uint64_t header = begin - 8 + more;
    CHECK(f && fwrite(&header, 1, 8, f) == 8 && fwrite(bytes + 8, 1, begin - 8, f) == begin - 8);
    CHECK(fprintf(f, "%*s", (int)more, "") == (int)more);
    CHECK(fwrite(bytes + begin, 1, size - begin, f) == size - begin && fclose(f) == 0);
    return path;
}

/* One storage, saved as two types, is two tensors; of one type it is one. */
static void check_ties(allshard *as, uint64_t storage)
{
    static float memory[6] = {0};
    static const int32_t stored[3][2] = {
        {ALLSHARD_BF16, ALLSHARD_F16}, {ALLSHARD_BF16, 0}, {ALLSHARD_BF16, ALLSHARD_BF16}};
    for (int i = 0; i < 3; i++) {
        allshard_state *s = NULL;
        allshard_plan *plan = NULL;
        GOOD(as, allshard_state_create(&s, as, "model"));
        for (int k = 0; k < 2; k++) {
            int64_t shape[1] = {6};
            allshard_tensor t = {.size = sizeof t,
                                 .name = k ? "b" : "a",
                                 .dtype = ALLSHARD_F32,
                                 .stored_dtype = stored[i][k],
                                 .ndim = 1,
                                 .shape = shape,
                                 .data = memory,
                                 .storage = storage};
            GOOD(as, allshard_state_tensor(s, &t));
        }
        GOOD(as, allshard_plan_create(&plan, s, NULL));
        CHECK(allshard_plan_tensor_count(plan) == (i == 2 ? 1 : 2));
        CHECK(allshard_plan_dropped_count(plan) == (i == 2 ? 1 : 0));
        allshard_plan_free(plan);
        (void)allshard_state_free(s);
    }
}

/* What is declared as another type than the file has is not cast unasked. */
static void check_mismatch(allshard *as, const char *source)
{
    allshard_state *s = NULL;
    static float memory[61 * 47] = {0};
    GOOD(as, allshard_state_create(&s, as, "model"));
    allshard_tensor t = {.size = sizeof t,
                         .name = "e.master",
                         .dtype = ALLSHARD_F32,
                         .ndim = 2,
                         .shape = tensors[4].shape,
                         .data = memory};
    GOOD(as, allshard_state_tensor(s, &t));
    allshard_load_options options = {.size = sizeof options, .allow_unexpected = 1};
    FAILS(as, allshard_load(s, source, &options), ALLSHARD_MISMATCH, "e.master");
    t.stored_dtype = ALLSHARD_I32;
    t.name = "integer";
    CHECK(allshard_state_tensor(s, &t) == ALLSHARD_INVALID);
    (void)allshard_state_free(s);
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 100);
    allshard *as = NULL;
    allshard_options small = {.size = sizeof small, .memory = 1}; /* the fewest buffers */
    CHECK(allshard_open(&as, world_comm(), &small) == ALLSHARD_OK);
    const char *folder = scratch_path("alone");
    allshard_comm first;
    ranks_first(1, &first);
    if (world_rank() == 0) {
        allshard *alone = NULL;
        CHECK(allshard_open(&alone, first, NULL) == ALLSHARD_OK);
        run(alone, 0, 1, ROWS, folder, NULL, 0);
        CHECK(allshard_close(alone) == ALLSHARD_OK);
    }
    ranks_free(&first);
    size_t size = 0;
    size_t begin = 0;
    char *bytes = NULL;
    if (world_rank() == 0) {
        bytes = read_file(folder, &size);
        begin = check_data(bytes, size);
    }
    ranks_wait(world_comm());
    static const int64_t blocks[LAYOUTS] = {64, 128, 64, 192, 4096};
    for (int layout = 0; layout < LAYOUTS; layout++) {
        char name[32];
        (void)snprintf(name, sizeof name, "layout-%d", layout);
        const char *target = scratch_path(name);
        run(as, world_rank(), world_size(), (enum layout)layout, target, NULL, blocks[layout]);
        if (world_rank() == 0) {
            size_t other_size;
            char *other = read_file(target, &other_size);
            CHECK_TEXT(bytes && other_size == size && memcmp(other, bytes, size) == 0, "layout %d",
                       layout);
            free(other);
        }
        run(as, world_rank(), world_size(), (enum layout)layout, NULL, target, 64);
    }
    for (size_t more = 1; more <= 7; more += 2) {
        char name[32];
        (void)snprintf(name, sizeof name, "odd-%zu.safetensors", more);
        if (world_rank() == 0) {
            (void)shift_data(bytes, size, begin, more);
        }
        ranks_wait(world_comm());
        for (int layout = 0; layout < LAYOUTS; layout++) {
            run(as, world_rank(), world_size(), (enum layout)layout, NULL, scratch_path(name), 64);
        }
    }
    check_ties(as, 0);
    check_ties(as, 7);
    check_mismatch(as, scratch_path("alone"));
    free(bytes);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    return ranks_end();
}
