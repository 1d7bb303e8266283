/* SPDX-License-Identifier: Apache-2.0
 * Regions: the bytes of a file that the same set of ranks holds together. A
 * tensor cut in dim 0 makes a region of each rank's range; columns of one tensor,
 * which interleave, make one region of all their holders.
 */
#ifndef ALLSHARD_PLAN_REGIONS_H
#define ALLSHARD_PLAN_REGIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "plan/catalog.h"

typedef struct as_holder {
    int32_t rank;
    int64_t piece; /* index at the holder; −1 − k for its literal k */
} as_holder;

/* A box of a region and all who hold it. */
typedef struct as_region_box {
    as_descriptor descriptor; /* words NULL: a literal, contiguous over the whole region */
    size_t holders_at;        /* in as_regions.holders */
    size_t holder_count;
} as_region_box;

typedef struct as_region {
    int64_t low; /* in the file */
    int64_t high;
    int64_t tensor_at; /* the tensor's first byte in the file */
    int32_t file;
    bool holes; /* to load: no box holds some of the bytes */
    as_hash name;
    as_hash group;   /* of the sorted holders */
    size_t boxes_at; /* in as_regions.boxes */
    size_t box_count;
    size_t ranks_at; /* in as_regions.ranks: the sorted holders, each once */
    size_t rank_count;
    int64_t prefix; /* bytes of the group before this region; set by the schedule */
    int64_t total;  /* bytes of the group */
} as_region;

typedef struct as_regions {
    as_buffer regions; /* as_region[] */
    as_buffer boxes;   /* as_region_box[] */
    as_buffer holders; /* as_holder[] */
    as_buffer ranks;   /* int32_t[] */
} as_regions;

void as_regions_free(as_regions *r);

/* Adds the regions of a tensor, whose file and offset are known. With must_cover the boxes
 * have to cover the tensor once (replicas aside); AS_COVERAGE names the tensor and two ranks. */
int as_regions_add(as_regions *r, const as_catalog *c, const as_owned *t, bool must_cover,
                   as_fault *fault, as_error *e);

/* Adds literal number `index` of `rank`. */
int as_regions_add_literal(as_regions *r, int rank, size_t index, int file, int64_t low,
                           int64_t bytes, as_error *e);

static inline size_t as_regions_count(const as_regions *r)
{
    return r->regions.size / sizeof(as_region);
}

static inline as_region *as_regions_at(const as_regions *r, size_t i)
{
    return (as_region *)(void *)r->regions.data + i;
}

static inline const as_region_box *as_region_boxes(const as_regions *r, const as_region *region)
{
    return (const as_region_box *)(const void *)r->boxes.data + region->boxes_at;
}

static inline const as_holder *as_region_holders(const as_regions *r, const as_region_box *b)
{
    return (const as_holder *)(const void *)r->holders.data + b->holders_at;
}

static inline const int32_t *as_region_ranks(const as_regions *r, const as_region *region)
{
    return (const int32_t *)(const void *)r->ranks.data + region->ranks_at;
}

#endif
