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

/* A box of a region and all who hold it. */
typedef struct as_region_box {
    uint32_t holders_at; /* in as_regions.holders */
    uint32_t holder_count;
} as_region_box;

typedef struct as_region {
    int64_t low; /* in the file */
    int64_t high;
    int64_t prefix;  /* bytes of the group before this region; set by the schedule */
    int64_t total;   /* bytes of the group */
    uint32_t tensor; /* number in the catalog, or AS_REGION_LITERAL */
    int32_t file;
    uint32_t boxes_at; /* in as_regions.boxes */
    uint32_t box_count;
    uint32_t ranks_at; /* in as_regions.ranks: the sorted holders, each once */
    uint32_t rank_count : 31;
    uint32_t holes : 1; /* to load: no box holds some of the bytes */
} as_region;

#define AS_REGION_LITERAL UINT32_MAX

typedef struct as_regions {
    as_buffer regions; /* as_region[] */
    as_buffer boxes;   /* as_region_box[] */
    as_buffer holders; /* uint32_t[]: descriptors in the catalog, or numbers of literals */
    as_buffer ranks;   /* int32_t[] */
} as_regions;

void as_regions_free(as_regions *r);

/* Adds the regions of tensor number `tensor`, whose file and offset are known. With must_cover the
 * boxes have to cover the tensor once (replicas aside); AS_COVERAGE names the tensor and two
 * ranks. */
int as_regions_add(as_regions *r, const as_catalog *c, size_t tensor, bool must_cover,
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

static inline const uint32_t *as_region_holders(const as_regions *r, const as_region_box *b)
{
    return (const uint32_t *)(const void *)r->holders.data + b->holders_at;
}

static inline const int32_t *as_region_ranks(const as_regions *r, const as_region *region)
{
    return (const int32_t *)(const void *)r->ranks.data + region->ranks_at;
}

/* Stands for the region's ranks. */
static inline as_hash as_region_group(const as_regions *r, const as_region *region)
{
    return as_hash_bytes(as_region_ranks(r, region), region->rank_count * sizeof(int32_t));
}

#endif
