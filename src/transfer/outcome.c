/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/outcome.h"

#include "base/codes.h"

const char as_outcome_unchanged[] = "the save has failed, and the folder holds what it held before";
const char as_outcome_unknown_here[] = "`allshard verify` tells which checkpoint the folder holds";

const char *as_outcome_of(int code)
{
    switch (code) {
    case AS_OK:
        return "the save itself is complete and durable";
    case AS_PENDING:
        return "the save is durable, and `allshard recover` finishes its renames";
    case AS_UNKNOWN:
        return "whether the save counts is unknown: run `allshard recover`";
    default:
        return as_outcome_unchanged;
    }
}
