/* SPDX-License-Identifier: Apache-2.0
 * Fuzzes the reader of allshard.manifest.json, as it comes and with its checksum put right, and
 * the merge of a hostile old manifest into a new one.
 */
#include "base/checked.h"
#include "base/checksum.h"
#include "commit/manifest.h"
#include "commit/names.h"
#include "sealed.h"

/* A part that a save of ours could have written. */
static const uint64_t sums[] = {1, UINT64_MAX};
static const as_manifest_file files[] = {
    {.name = "model.safetensors", .size = 100, .role = AS_ROLE_SHARD, .sums = sums, .sum_count = 2},
    {.name = "config.json", .size = 2, .role = AS_ROLE_EXTRA},
};
static const as_manifest_part plain = {.part = "model",
                                       .pattern = "model{suffix}.safetensors",
                                       .created = "2025-01-31T12:00:00Z",
                                       .world_size = 2,
                                       .block_size = 64,
                                       .checksum = AS_CHECKSUM_NAME,
                                       .total_size = 90,
                                       .tensor_count = 3,
                                       .files = files,
                                       .file_count = 2};

static void check(const as_manifest *m)
{
    MUST(m->version != NULL);
    for (size_t i = 0; i < m->part_count; i++) {
        const as_manifest_part *p = &m->parts[i];
        MUST(p->part && p->pattern && p->created && p->checksum);
        MUST(p->world_size >= 0 && p->block_size >= 0 && p->total_size >= 0);
        MUST(!p->index || as_name_is_plain(p->index));
        MUST(as_manifest_find(m, p->part) == p);
        for (size_t k = 0; k < p->file_count; k++) {
            const as_manifest_file *f = &p->files[k];
            MUST(as_name_is_plain(f->name) && f->size >= 0);
            MUST(!f->sums || f->sum_count == (size_t)as_ceil_div(f->size, p->block_size));
        }
        for (size_t k = 0; k < p->writer_count; k++) {
            MUST(p->writers[k] >= 0);
        }
    }
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static void compare(const as_manifest_part *a, const as_manifest_part *b)
{
    MUST(a && b && same_text(a->part, b->part) && same_text(a->pattern, b->pattern));
    MUST(same_text(a->index, b->index) && same_text(a->created, b->created));
    MUST(same_text(a->checksum, b->checksum) && a->has_step == b->has_step && a->step == b->step);
    MUST(a->world_size == b->world_size && a->block_size == b->block_size);
    MUST(a->total_size == b->total_size && a->tensor_count == b->tensor_count);
    MUST(a->file_count == b->file_count && a->writer_count == b->writer_count);
    for (size_t i = 0; i < a->file_count; i++) {
        const as_manifest_file *f = &a->files[i];
        const as_manifest_file *g = &b->files[i];
        MUST(strcmp(f->name, g->name) == 0 && f->size == g->size && f->role == g->role);
        MUST(f->sum_count == g->sum_count && !f->sums == !g->sums);
        MUST(f->sum_count == 0 || memcmp(f->sums, g->sums, f->sum_count * sizeof *sums) == 0);
    }
}

/* A new manifest of `part` beside what the old one has is read, and has the part as it was given. */
static void write_beside(const as_manifest_part *part, const char *old, size_t old_size)
{
    static char gone_name[] = "model-00001-of-00002.safetensors";
    char *gone_items[] = {gone_name};
    const as_names gone = {.items = gone_items, .count = 1, .capacity = 1};
    as_error e = AS_ERROR_INIT;
    as_buffer b = AS_BUFFER_INIT;
    as_manifest m;
    int code = as_manifest_to_bytes(part, "0.1.0", old, old_size, &gone, NULL, &b, &e);
    MUST(code == AS_OK);
    MUST(as_manifest_from_bytes(b.data, b.size, "written", &m, &e) == AS_OK);
    check(&m);
    compare(part, as_manifest_find(&m, part->part));
    as_manifest_free(&m);
    as_buffer_free(&b);
}

static void read_one(const char *data, size_t size)
{
    as_error e = AS_ERROR_INIT;
    as_manifest m;
    int code = as_manifest_from_bytes(data, size, "input", &m, &e);
    if (code == AS_OK) {
        check(&m);
        /* One of its own parts, or ours: writing takes longer than reading. */
        size_t which = size % 4;
        write_beside(which < m.part_count ? &m.parts[which] : &plain, data, size);
        as_manifest_free(&m);
    } else if (size % 16 == 0) {
        write_beside(&plain, data, size);
    }
    fuzz_end(code, &e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_sealed(data, size, read_one);
    return 0;
}
