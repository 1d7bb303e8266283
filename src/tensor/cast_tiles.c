/* SPDX-License-Identifier: Apache-2.0 */
#include "tensor/cast_tiles.h"

#include <stdbool.h>
#include <string.h>

#include "base/checked.h"
#include "tensor/cast.h"
#include "tensor/dtype.h"
#include "tensor/tiles.h"

/* Elements that are gathered before they are cast: with those that were cast they stay in the
 * smallest cache. */
enum { BATCH = 1024, WIDEST = 8 };

/* Of runs this long each is cast by itself. */
enum { LONG_RUN = 256 };

/* A piece with its dimensions in elements, and a range of the file to move. */
typedef struct movement {
    as_geometry elements; /* strides in bytes of memory still */
    const as_geometry *geometry;
    int64_t file_size; /* bytes of an element */
    int64_t memory_size;
    int64_t low;
    int64_t high;
    int64_t first; /* elements [first, last) are whole */
    int64_t last;
    bool packed; /* else in a window */
} movement;

static movement movement_of(const as_geometry *g, int64_t low, int64_t high, bool packed)
{
    movement m = {.elements = *g,
                  .geometry = g,
                  .file_size = as_dtype_bits(g->file_dtype) / 8,
                  .memory_size = as_dtype_bits(g->memory_dtype) / 8,
                  .low = low,
                  .high = high,
                  .packed = packed};
    int last = g->ndim - 1;
    if (last >= 0) {
        m.elements.global[last] /= m.file_size;
        m.elements.offset[last] /= m.file_size;
        m.elements.shape[last] /= m.file_size;
        m.elements.stride[last] = m.memory_size;
    }
    m.first = low / m.file_size + (low % m.file_size != 0);
    m.last = high / m.file_size;
    return m;
}

/* Where the bytes of an element from place `at` on lie among those that are moved. */
static int64_t place_of(const movement *m, int64_t at)
{
    return m->packed ? as_geometry_before(m->geometry, at) - as_geometry_before(m->geometry, m->low)
                     : at - m->low;
}

/* ---- elements of which a range has a part ---- */

typedef struct part {
    int64_t memory; /* of the element, counted from the piece's pointer */
    int64_t begin;  /* bytes [begin, end) of the element */
    int64_t end;
    int64_t place; /* of the part, among what is moved */
} part;

/* Up to two, at the range's ends. */
static int find_parts(const movement *m, part out[2])
{
    int64_t elements[2] = {m->low / m->file_size, m->high / m->file_size};
    bool cut[2] = {m->low % m->file_size != 0, m->high % m->file_size != 0};
    if (elements[0] == elements[1] && cut[0]) {
        cut[1] = false; /* both ends in one */
    }
    int count = 0;
    for (int i = 0; i < 2; i++) {
        as_tile t;
        as_tiles walk = as_tiles_begin(&m->elements, elements[i], elements[i] + 1);
        if (m->low < m->high && cut[i] && as_tiles_next(&walk, &t)) {
            int64_t at = elements[i] * m->file_size;
            int64_t low = as_max_i64(m->low, at);
            out[count++] = (part){.memory = t.memory,
                                  .begin = low - at,
                                  .end = as_min_i64(m->high - at, m->file_size),
                                  .place = place_of(m, low)};
        }
    }
    return count;
}

static void parts_out(const movement *m, const char *memory, char *out)
{
    part parts[2];
    int count = find_parts(m, parts);
    for (int i = 0; i < count; i++) {
        const part *p = &parts[i];
        char element[WIDEST];
        as_cast(m->geometry->memory_dtype, m->geometry->file_dtype, memory + p->memory, element, 1);
        memcpy(out + p->place, element + p->begin, (size_t)(p->end - p->begin));
    }
}

/* An element of which a part has come in. */
typedef struct seam {
    const char *memory;
    unsigned have; /* bit i: byte i. Of pieces that share memory the same byte may come twice */
    char bytes[WIDEST];
} seam;

static int find_seam(const movement *m, const char *memory, seam **out, as_error *e)
{
    as_buffer *list = m->geometry->seams;
    seam *all = (seam *)(void *)list->data;
    for (size_t i = 0; i < list->size / sizeof *all; i++) {
        if (all[i].memory == memory) {
            *out = &all[i];
            return AS_OK;
        }
    }
    seam new = {.memory = memory};
    int code = as_buffer_append(list, &new, sizeof new, e);
    if (code == AS_OK) {
        *out = (seam *)(void *)(list->data + list->size) - 1;
    }
    return code;
}

/* Those that are complete are in `out`. */
static int parts_in(const movement *m, const char *memory, const char *in, as_cast_element out[2],
                    int *complete, as_error *e)
{
    part parts[2];
    int count = find_parts(m, parts);
    *complete = 0;
    for (int i = 0; i < count; i++) {
        const part *p = &parts[i];
        seam *s;
        int code = find_seam(m, memory + p->memory, &s, e);
        if (code != AS_OK) {
            return code;
        }
        memcpy(s->bytes + p->begin, in + p->place, (size_t)(p->end - p->begin));
        s->have |= (1U << p->end) - (1U << p->begin);
        if (s->have == (1U << m->file_size) - 1) {
            as_buffer *list = m->geometry->seams;
            as_cast_element *o = &out[(*complete)++];
            o->memory = p->memory;
            o->size = (int)m->memory_size;
            as_cast(m->geometry->file_dtype, m->geometry->memory_dtype, s->bytes, o->bytes, 1);
            *s = ((seam *)(void *)(list->data + list->size))[-1];
            list->size -= sizeof *s;
        }
    }
    return AS_OK;
}

/* ---- whole elements ---- */

/* Runs of one length and distance. */
typedef struct runs {
    int64_t length; /* elements */
    int64_t count;
    int64_t file_step; /* bytes */
    int64_t memory_step;
} runs;

static runs runs_of(const movement *m, const as_tile *t)
{
    runs r = {.length = t->length,
              .count = t->count,
              .file_step = (m->packed ? t->length : t->place_step) * m->file_size,
              .memory_step = t->memory_step * (t->count > 1)};
    if (r.count == 1 ||
        (r.file_step == r.length * m->file_size && r.memory_step == r.length * m->memory_size)) {
        r.length *= r.count;
        r.count = 1;
    }
    return r;
}

static void runs_out(const movement *m, const runs *r, const char *memory, char *out)
{
    int from = m->geometry->memory_dtype;
    int to = m->geometry->file_dtype;
    int64_t batch = r->count == 1 || r->length >= LONG_RUN ? 1 : BATCH / r->length;
    for (int64_t i = 0; i < r->count; i += batch) {
        int64_t n = as_min_i64(batch, r->count - i);
        const char *x = memory + i * r->memory_step;
        char *y = out + i * r->file_step;
        if (batch == 1) {
            as_cast(from, to, x, y, r->length);
            continue;
        }
        char gathered[BATCH * WIDEST];
        int64_t file_run = r->length * m->file_size;
        int64_t memory_run = r->length * m->memory_size;
        as_tile_copy(gathered, memory_run, x, r->memory_step, memory_run, n);
        if (r->file_step == file_run) {
            as_cast(from, to, gathered, y, n * r->length);
        } else {
            char cast[BATCH * WIDEST];
            as_cast(from, to, gathered, cast, n * r->length);
            as_tile_copy(y, r->file_step, cast, file_run, file_run, n);
        }
    }
}

static void runs_in(const movement *m, const runs *r, char *memory, const char *in)
{
    int from = m->geometry->file_dtype;
    int to = m->geometry->memory_dtype;
    int64_t batch = r->count == 1 || r->length >= LONG_RUN ? 1 : BATCH / r->length;
    for (int64_t i = 0; i < r->count; i += batch) {
        int64_t n = as_min_i64(batch, r->count - i);
        const char *x = in + i * r->file_step;
        char *y = memory + i * r->memory_step;
        if (batch == 1) {
            as_cast(from, to, x, y, r->length);
            continue;
        }
        char cast[BATCH * WIDEST];
        int64_t file_run = r->length * m->file_size;
        int64_t memory_run = r->length * m->memory_size;
        if (r->file_step == file_run) {
            as_cast(from, to, x, cast, n * r->length);
        } else {
            char gathered[BATCH * WIDEST];
            as_tile_copy(gathered, file_run, x, r->file_step, file_run, n);
            as_cast(from, to, gathered, cast, n * r->length);
        }
        as_tile_copy(y, r->memory_step, cast, memory_run, memory_run, n);
    }
}

/* Moves in one direction: `in` or `out` is NULL. */
static void whole_elements(const movement *m, char *memory, char *out, const char *in)
{
    as_tiles walk = as_tiles_begin(&m->elements, m->first, m->last);
    as_tile t;
    int64_t at = m->first < m->last ? place_of(m, m->first * m->file_size) : 0;
    int64_t begin = at;
    while (m->first < m->last && as_tiles_next(&walk, &t)) {
        runs r = runs_of(m, &t);
        if (!m->packed) {
            at = begin + (t.place - m->first) * m->file_size;
        }
        if (out) {
            runs_out(m, &r, memory + t.memory, out + at);
        } else {
            runs_in(m, &r, memory + t.memory, in + at);
        }
        at += t.length * t.count * m->file_size;
    }
}

/* ---- what is offered ---- */

static void move_out(const movement *m, const char *memory, char *out)
{
    parts_out(m, memory, out);
    whole_elements(m, (char *)(uintptr_t)memory, out, NULL);
}

static int move_in(const movement *m, char *memory, const char *in, as_error *e)
{
    whole_elements(m, memory, NULL, in);
    as_cast_element complete[2];
    int count;
    int code = parts_in(m, memory, in, complete, &count, e);
    for (int i = 0; i < count; i++) {
        memcpy(memory + complete[i].memory, complete[i].bytes, (size_t)complete[i].size);
    }
    return code;
}

void as_cast_pack(const as_geometry *g, const char *memory, int64_t low, int64_t high, char *packed)
{
    movement m = movement_of(g, low, high, true);
    move_out(&m, memory, packed);
}

void as_cast_to_window(const as_geometry *g, const char *memory, int64_t low, int64_t high,
                       char *window)
{
    movement m = movement_of(g, low, high, false);
    move_out(&m, memory, window);
}

int as_cast_unpack(const as_geometry *g, char *memory, int64_t low, int64_t high,
                   const char *packed, as_error *e)
{
    movement m = movement_of(g, low, high, true);
    return move_in(&m, memory, packed, e);
}

int as_cast_from_window(const as_geometry *g, char *memory, int64_t low, int64_t high,
                        const char *window, as_error *e)
{
    movement m = movement_of(g, low, high, false);
    return move_in(&m, memory, window, e);
}

int as_cast_seams(const as_geometry *g, const char *memory, int64_t low, int64_t high,
                  const char *in, bool packed, as_cast_element out[2], int *count, as_error *e)
{
    movement m = movement_of(g, low, high, packed);
    return parts_in(&m, memory, in, out, count, e);
}
