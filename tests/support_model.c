/* SPDX-License-Identifier: Apache-2.0 */
#include "support_model.h"

#include <stdlib.h>
#include <string.h>

#include "support_ranks.h"

enum { UNTOUCHED = 0xA5, TILES = 3, PIECES_MORE = 16 };

/* ---- the model ---- */

static const model_tensor mixed[] = {
    {"embed.weight", ALLSHARD_F32, 2, {64, 33}},
    {"scalar.step", ALLSHARD_I64, 0, {0}},
    {"layers.0.weight", ALLSHARD_BF16, 2, {48, 40}},
    {"layers.0.bias", ALLSHARD_F32, 1, {40}},
    {"quote\"back\\slash\n\ttab\x01\x7f", ALLSHARD_F16, 3, {7, 11, 6}},
    {"gr\xc3\xbc\xc3\x9f"
     "e.\xe9\x87\x8d\xe3\x81\xbf.\xf0\x9f\x99\x82",
     ALLSHARD_F64,
     2,
     {5, 9}},
    {"empty.rows", ALLSHARD_F32, 2, {0, 7}},
    {"empty.columns", ALLSHARD_U8, 2, {4, 0}},
    {"experts.0.weight", ALLSHARD_F8_E4M3, 2, {32, 24}},
    {"experts.1.weight", ALLSHARD_F8_E4M3, 2, {32, 24}},
    {"experts.2.weight", ALLSHARD_F8_E4M3, 2, {32, 24}},
    {"packed.four", ALLSHARD_F4, 2, {10, 12}},
    {"packed.six", ALLSHARD_F6_E2M3, 2, {6, 20}},
    {"packed.line", ALLSHARD_F6_E3M2, 1, {8}},
    {"", ALLSHARD_BOOL, 1, {131}},
    {"complex", ALLSHARD_C64, 3, {3, 5, 2}},
    {"exactly.the.limit", ALLSHARD_U8, 2, {120, 100}},
    {"over.the.limit", ALLSHARD_I8, 1, {12001}},
    {"one.below", ALLSHARD_U8, 1, {11999}},
    {"ones", ALLSHARD_I16, 5, {1, 1, 5, 1, 3}},
    {"layers.1.weight", ALLSHARD_F32, 2, {30, 50}},
    {"layers.2.weight", ALLSHARD_F32, 2, {50, 30}},
    {"deep", ALLSHARD_U16, 6, {2, 2, 3, 2, 2, 2}},
};

const model model_mixed = {mixed, (int)(sizeof mixed / sizeof mixed[0])};

int dtype_group(int dtype)
{
    return dtype == ALLSHARD_F4                                     ? 2
           : dtype == ALLSHARD_F6_E2M3 || dtype == ALLSHARD_F6_E3M2 ? 4
                                                                    : 1;
}

int dtype_group_bytes(int dtype)
{
    if (dtype == ALLSHARD_F4) {
        return 1;
    }
    if (dtype == ALLSHARD_F6_E2M3 || dtype == ALLSHARD_F6_E3M2) {
        return 3;
    }
    return dtype <= ALLSHARD_F8_E5M2FNUZ ? 1
           : dtype <= ALLSHARD_BF16      ? 2
           : dtype <= ALLSHARD_F32       ? 4
                                         : 8;
}

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static uint64_t seed_of(const char *name)
{
    uint64_t seed = 1469598103934665603U;
    for (; *name; name++) {
        seed = (seed ^ (unsigned char)*name) * 1099511628211U;
    }
    return seed;
}

unsigned char tensor_byte(const model_tensor *t, int64_t at)
{
    return (unsigned char)(mix(seed_of(t->name) + (uint64_t)at * UINT64_C(0x9e3779b97f4a7c15)) >>
                           56);
}

static int64_t numel(const model_tensor *t)
{
    int64_t n = 1;
    for (int d = 0; d < t->ndim; d++) {
        n *= t->shape[d];
    }
    return n;
}

int64_t tensor_bytes(const model_tensor *t)
{
    return numel(t) / dtype_group(t->dtype) * dtype_group_bytes(t->dtype);
}

/* ---- layouts ---- */

const char *layout_name(enum layout layout)
{
    static const char *const names[LAYOUT_COUNT] = {"whole", "replicated", "fsdp", "columns",
                                                    "flat",  "parallel",   "tiles"};
    return names[layout];
}

static piece *add(holding *h, const model_tensor *t, int number)
{
    h->pieces = realloc(h->pieces, (h->count + 1) * sizeof *h->pieces);
    CHECK(h->pieces != NULL);
    piece *p = &h->pieces[h->count++];
    *p = (piece){.tensor = t, .number = number};
    memcpy(p->local, t->shape, sizeof p->local);
    return p;
}

/* Part `k` of `count` of `extent` elements that go `unit` at a time. */
static void cut(int64_t extent, int64_t unit, int k, int count, int64_t *from, int64_t *size)
{
    int64_t units = extent / unit;
    *from = units * k / count * unit;
    *size = units * (k + 1) / count * unit - *from;
}

/* The unit in which a dimension may be cut. */
static int64_t unit_of(const model_tensor *t, int d)
{
    return d == t->ndim - 1 ? dtype_group(t->dtype) : 1;
}

static void add_along(holding *h, const model_tensor *t, int number, int d, int k, int count)
{
    piece *p = add(h, t, number);
    cut(t->shape[d], unit_of(t, d), k, count, &p->offset[d], &p->local[d]);
}

/* Chunks as PyTorch makes them: all of one size, the last ones short or empty. Every second
 * empty one is not declared. */
static void add_chunk(holding *h, const model_tensor *t, int number, int rank, int ranks)
{
    int64_t unit = unit_of(t, 0);
    int64_t units = t->shape[0] / unit;
    int64_t chunk = (units + ranks - 1) / ranks;
    int64_t from = rank * chunk < units ? rank * chunk : units;
    int64_t to = from + chunk < units ? from + chunk : units;
    if (from == to && rank > 0 && rank % 2) {
        return;
    }
    piece *p = add(h, t, number);
    p->offset[0] = from * unit;
    p->local[0] = (to - from) * unit;
}

static void add_flat(holding *h, const model_tensor *t, int number, int rank, int ranks)
{
    piece *p = add(h, t, number);
    p->flat = true;
    cut(numel(t), dtype_group(t->dtype), rank, ranks, &p->flat_offset, &p->flat_count);
}

/* Tensor parallel by two where the ranks allow it, what is left data or expert parallel. */
static void add_parallel(holding *h, const model_tensor *t, int number, int rank, int ranks)
{
    int tensor = ranks % 2 == 0 ? 2 : 1;
    int part = rank % tensor;
    int others = ranks / tensor;
    int expert = strncmp(t->name, "experts.", 8) == 0 ? t->name[8] - '0' : -1;
    if (expert >= 0 && expert % others != rank / tensor) {
        return;
    }
    if (t->ndim < 2) {
        (void)add(h, t, number);
    } else {
        add_along(h, t, number, number % 2 ? t->ndim - 1 : 0, part, tensor);
    }
}

static void add_tiles(holding *h, const model_tensor *t, int number, int rank, int ranks)
{
    int rows = t->ndim > 0 ? TILES : 1;
    int columns = t->ndim > 1 ? TILES : 1;
    for (int i = 0; i < rows * columns; i++) {
        if ((i + number) % ranks != rank) {
            continue;
        }
        piece *p = add(h, t, number);
        if (t->ndim > 0) {
            cut(t->shape[0], unit_of(t, 0), i / columns, rows, &p->offset[0], &p->local[0]);
        }
        if (t->ndim > 1) {
            int d = t->ndim - 1;
            cut(t->shape[d], unit_of(t, d), i % columns, columns, &p->offset[d], &p->local[d]);
        }
    }
}

static void add_pieces(holding *h, const model *m, int number, enum layout layout, int rank,
                       int ranks)
{
    const model_tensor *t = &m->tensors[number];
    switch (layout) {
    case LAYOUT_WHOLE:
        if (number * ranks / m->count == rank) {
            (void)add(h, t, number);
        }
        break;
    case LAYOUT_FSDP:
    case LAYOUT_COLUMNS:
        if (t->ndim == 0 && rank == number % ranks) {
            (void)add(h, t, number);
        } else if (t->ndim > 0 && layout == LAYOUT_FSDP) {
            add_chunk(h, t, number, rank, ranks);
        } else if (t->ndim > 0) {
            add_along(h, t, number, t->ndim - 1, rank, ranks);
        }
        break;
    case LAYOUT_FLAT:
        add_flat(h, t, number, rank, ranks);
        break;
    case LAYOUT_PARALLEL:
        add_parallel(h, t, number, rank, ranks);
        break;
    case LAYOUT_TILES:
        add_tiles(h, t, number, rank, ranks);
        break;
    default:
        (void)add(h, t, number);
        break;
    }
}

/* ---- memory ---- */

enum arrangement { PLAIN, TRANSPOSED, PADDED, REVERSED, SPREAD, ARRANGEMENTS };

static int64_t groups_of(const piece *p)
{
    int64_t n = p->flat ? p->flat_count : 1;
    for (int d = 0; !p->flat && d < p->tensor->ndim; d++) {
        n *= p->local[d];
    }
    return n / dtype_group(p->tensor->dtype);
}

/* Strides, in elements, of an arrangement. */
static void choose_strides(piece *p, enum arrangement how)
{
    int ndim = p->tensor->ndim;
    int64_t group = dtype_group(p->tensor->dtype);
    int64_t step = how == SPREAD ? 2 : 1;
    for (int k = ndim - 1; k >= 0; k--) {
        int d = how == TRANSPOSED ? ndim - 1 - k : k;
        p->strides[d] = step;
        step *= p->local[d] + (how == PADDED ? group * (k + 1) : 0);
        if (how == REVERSED && (group == 1 || d < ndim - 1)) {
            p->strides[d] = -p->strides[d];
        }
    }
    p->strided = true;
}

static void allocate(piece *p, enum arrangement how)
{
    int64_t group = dtype_group(p->tensor->dtype);
    int64_t group_bytes = dtype_group_bytes(p->tensor->dtype);
    int64_t low = 0;
    int64_t high = 0;
    if (group > 1 && (how == TRANSPOSED || how == SPREAD)) {
        how = PADDED; /* packed elements stay side by side */
    }
    if (p->flat || p->tensor->ndim == 0 || groups_of(p) == 0) {
        how = PLAIN;
    }
    if (how == PLAIN) {
        high = groups_of(p) * group;
    } else {
        choose_strides(p, how);
        for (int d = 0; d < p->tensor->ndim; d++) {
            int64_t reach = (p->local[d] - 1) * p->strides[d];
            *(reach < 0 ? &low : &high) += reach;
        }
        high++;
        high = (high + group - 1) / group * group;
    }
    /* Some bytes around it, which must not change. */
    p->bytes = (size_t)((high - low) / group * group_bytes + 2 * PIECES_MORE);
    p->memory = malloc(p->bytes);
    CHECK(p->memory != NULL);
    p->first = p->memory + PIECES_MORE - low / group * group_bytes;
}

void holding_make(holding *h, const model *m, enum layout layout, int rank, int ranks, bool strided)
{
    *h = (holding){0};
    for (int i = 0; i < m->count; i++) {
        add_pieces(h, m, i, layout, rank, ranks);
    }
    for (size_t i = 0; i < h->count; i++) {
        unsigned key =
            (unsigned)h->pieces[i].number * 3 + (unsigned)layout * 5 + (unsigned)rank + (unsigned)i;
        allocate(&h->pieces[i], strided ? (enum arrangement)(key % ARRANGEMENTS) : PLAIN);
    }
}

void holding_free(holding *h)
{
    for (size_t i = 0; i < h->count; i++) {
        free(h->pieces[i].memory);
    }
    free(h->pieces);
    *h = (holding){0};
}

/* Group `k` of the piece in C order: its place in the tensor's line of groups, and in memory. */
static void locate(const piece *p, int64_t k, int64_t *in_tensor, int64_t *in_memory)
{
    const model_tensor *t = p->tensor;
    int64_t group = dtype_group(t->dtype);
    if (p->flat || t->ndim == 0) {
        *in_tensor = p->flat ? p->flat_offset / group + k : 0;
        *in_memory = k;
        return;
    }
    int64_t weight = 1;
    int64_t left = k;
    *in_tensor = 0;
    *in_memory = p->strided ? 0 : k;
    for (int d = t->ndim - 1; d >= 0; d--) {
        int64_t unit = unit_of(t, d);
        int64_t index = left % (p->local[d] / unit);
        left /= p->local[d] / unit;
        *in_tensor += (p->offset[d] / unit + index) * weight;
        weight *= t->shape[d] / unit;
        if (p->strided) {
            *in_memory += index * (unit > 1 ? 1 : p->strides[d] / group);
        }
    }
}

/* The tensors' bytes, put into memory that begins `shift` bytes from the piece's own. */
static void put(const piece *p, unsigned char *first)
{
    int64_t size = dtype_group_bytes(p->tensor->dtype);
    int64_t groups = groups_of(p);
    for (int64_t k = 0; k < groups; k++) {
        int64_t from;
        int64_t to;
        locate(p, k, &from, &to);
        for (int64_t i = 0; i < size; i++) {
            first[to * size + i] = tensor_byte(p->tensor, from * size + i);
        }
    }
}

void holding_fill(holding *h)
{
    holding_clear(h);
    for (size_t i = 0; i < h->count; i++) {
        put(&h->pieces[i], h->pieces[i].first);
    }
}

void holding_clear(holding *h)
{
    for (size_t i = 0; i < h->count; i++) {
        memset(h->pieces[i].memory, UNTOUCHED, h->pieces[i].bytes);
    }
}

const char *holding_wrong(const holding *h)
{
    const char *wrong = NULL;
    for (size_t i = 0; i < h->count && !wrong; i++) {
        const piece *p = &h->pieces[i];
        unsigned char *expected = malloc(p->bytes);
        CHECK(expected != NULL);
        memset(expected, UNTOUCHED, p->bytes);
        put(p, expected + (p->first - p->memory));
        if (memcmp(expected, p->memory, p->bytes) != 0) {
            wrong = *p->tensor->name ? p->tensor->name : "(the empty name)";
        }
        free(expected);
    }
    return wrong;
}

int64_t piece_bytes(const piece *p)
{
    return groups_of(p) * dtype_group_bytes(p->tensor->dtype);
}

static int32_t as_it_is(int32_t dtype)
{
    (void)dtype;
    return 0;
}

void holding_declare(const holding *h, const allshard *as, allshard_state *s)
{
    holding_declare_stored(h, as, s, as_it_is);
}

void holding_declare_stored(const holding *h, const allshard *as, allshard_state *s,
                            int32_t (*stored)(int32_t dtype))
{
    for (size_t i = 0; i < h->count; i++) {
        const piece *p = &h->pieces[i];
        bool whole = !p->flat && memcmp(p->local, p->tensor->shape, sizeof p->local) == 0;
        allshard_tensor t = {
            .size = sizeof t,
            .name = p->tensor->name,
            .dtype = p->tensor->dtype,
            .ndim = p->tensor->ndim,
            .shape = p->tensor->shape,
            .offset = p->flat || whole ? NULL : p->offset,
            .local_shape = p->flat || whole ? NULL : p->local,
            .flat = p->flat,
            .flat_offset = p->flat_offset,
            .flat_count = p->flat_count,
            .strides = p->strided ? p->strides : NULL,
            .data = groups_of(p) ? p->first : NULL,
            .order = p->number + 1,
            .stored_dtype = stored(p->tensor->dtype),
        };
        GOOD(as, allshard_state_tensor(s, &t));
    }
}

void check_works(allshard *as, const char *folder)
{
    holding h;
    allshard_state *s = NULL;
    allshard_save_options options = {
        .size = sizeof options, .max_shard_size = "12KB", .block_bytes = 1024};
    holding_make(&h, &model_mixed, LAYOUT_COLUMNS, world_rank(), world_size(), true);
    GOOD(as, allshard_state_create(&s, as, "model"));
    holding_declare(&h, as, s);
    holding_fill(&h);
    GOOD(as, allshard_save(s, folder, &options));
    holding_clear(&h);
    GOOD(as, allshard_load(s, folder, NULL));
    CHECK(holding_wrong(&h) == NULL);
    (void)allshard_state_free(s);
    holding_free(&h);
}
