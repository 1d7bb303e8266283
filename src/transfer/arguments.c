/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/arguments.h"

#include <string.h>

enum { MOST_ARGUMENTS = 32 };

as_argument as_argument_text(const char *name, const char *text)
{
    return (as_argument){.name = name,
                         .value = as_hash_bytes(text ? text : "", text ? strlen(text) : 0)};
}

as_argument as_argument_number(const char *name, int64_t number)
{
    return (as_argument){.name = name, .value = as_hash_bytes(&number, sizeof number)};
}

as_argument as_argument_list(const char *name, const char *const *texts, size_t count)
{
    as_hash sum = {.low = count};
    for (size_t i = 0; i < count; i++) {
        /* The place is the seed, so that the order counts. */
        sum = as_hash_sum(sum, as_hash_seeded(texts[i], strlen(texts[i]), i + 1));
    }
    return (as_argument){.name = name, .value = sum};
}

int as_arguments_agree(as_comm *c, const as_argument *arguments, size_t count, as_error *e)
{
    as_hash values[MOST_ARGUMENTS] = {{0}};
    int code = as_comm_agree(c, e);
    if (code != AS_OK) {
        return code;
    }
    if (count > MOST_ARGUMENTS) {
        return as_fail(e, AS_INTERNAL, 0, "more arguments than can be compared");
    }
    for (size_t i = 0; i < count; i++) {
        values[i] = arguments[i].value;
    }
    code = as_comm_bcast(c, 0, values, count * sizeof *values, e);
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        if (!as_hash_equal(values[i], arguments[i].value)) {
            (void)as_fail(e, AS_MISMATCH, 0,
                          "the %s of rank %d is not that of rank 0; all ranks must give the same",
                          arguments[i].name, as_comm_rank(c));
        }
    }
    return code == AS_OK ? as_comm_agree(c, e) : code;
}
