/* SPDX-License-Identifier: Apache-2.0
 * Do boxes of one tensor overlap?
 */
#ifndef ALLSHARD_PLAN_COVER_H
#define ALLSHARD_PLAN_COVER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "tensor/geometry.h"

/* Looks for two of `count` boxes (of one tensor; flat ranges too; empty ones are skipped)
 * that share an element. *found tells, *a and *b are their indexes. Sorts along one
 * dimension and compares neighbours: near to count × log count for any regular grid. */
int as_cover_overlap(const as_box *boxes, size_t count, bool *found, size_t *a, size_t *b,
                     as_error *e);

#endif
