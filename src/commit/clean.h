/* SPDX-License-Identifier: Apache-2.0
 * Which files of a folder a new save replaces: exactly the names that the pattern
 * can produce, with digits, and their index. Nothing else goes.
 */
#ifndef ALLSHARD_COMMIT_CLEAN_H
#define ALLSHARD_COMMIT_CLEAN_H

#include "base/error.h"
#include "commit/names.h"

/* Adds to *outgoing the names of `listing` that go, in its order. A name that comes in
 * again under the new save is among them: the old file has to make room. For several
 * patterns it is called once for each. AS_PATTERN, AS_NOMEM. */
int as_clean_list(const char *pattern, const as_names *listing, as_names *outgoing, as_error *e);

#endif
