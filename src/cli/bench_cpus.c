/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bench_cpus.h"

#include <stdlib.h>

#include "base/buffer.h"
#include "base/hash.h"
#include "cli/bench_room.h"

/* The n-th processor of a set. */
static int nth_of(const as_cpus *set, int n)
{
    for (int i = 0; i < AS_CPUS_MOST; i++) {
        if (as_cpus_has(set, i) && n-- == 0) {
            return i;
        }
    }
    return -1;
}

/* "0-3,8", however long it is. */
static int write_list(const as_cpus *set, char **out, as_error *e)
{
    as_buffer text = AS_BUFFER_INIT;
    int code = AS_OK;
    for (int i = 0; i < AS_CPUS_MOST && code == AS_OK; i++) {
        int first = i;
        while (i < AS_CPUS_MOST && as_cpus_has(set, i)) {
            i++;
        }
        const char *comma = text.size > 0 ? "," : "";
        if (i == first + 1) {
            code = as_buffer_format(&text, e, "%s%d", comma, first);
        } else if (i > first) {
            code = as_buffer_format(&text, e, "%s%d-%d", comma, first, i - 1);
        }
    }
    *out = text.data;
    return code;
}

/* This rank is number `index` of those that share the set. Each has a part of it, if that gives two
 * to each; else all have its halves. */
static int share_out(as_bench_cpus *c, int index, int ranks, as_error *e)
{
    int count = as_cpus_count(&c->all);
    int own = count / ranks;
    int loops = count - count / 2;
    c->loop = nth_of(&c->all, own >= 2 ? index * own : index % loops);
    if (count < 2) {
        return AS_OK;
    }
    as_cpus rest = {0};
    int first = own >= 2 ? index * own + 1 : loops;
    int last = own >= 2 ? (index + 1) * own : count;
    for (int i = first; i < last; i++) {
        as_cpus_put(&rest, nth_of(&c->all, i));
    }
    return write_list(&rest, &c->background, e);
}

static int avoid(as_bench_cpus *c, const char *given, int index, as_error *e)
{
    as_cpus theirs;
    int code = as_cpus_parse(&theirs, given, e);
    if (code == AS_OK) {
        as_cpus rest = as_cpus_less(&c->all, &theirs);
        const as_cpus *from = as_cpus_count(&rest) > 0 ? &rest : &c->all;
        c->loop = nth_of(from, index % as_cpus_count(from));
    }
    return code;
}

int as_bench_cpus_choose(as_bench_cpus *c, as_world *w, const char *given, as_error *e)
{
    *c = AS_BENCH_CPUS_INIT;
    bool known = as_cpus_of_thread(&c->all);
    int index = 0;
    int ranks = 1;
    int code = as_world_alike(w, as_hash_bytes(&c->all, sizeof c->all).low, &index, &ranks, e);
    if (code == AS_OK && known) {
        (void)(given ? avoid(c, given, index, e) : share_out(c, index, ranks, e));
    }
    return code == AS_OK ? as_world_agree(w, e) : code;
}

void as_bench_cpus_pin(const as_bench_cpus *c, bool loop)
{
    as_cpus one = {0};
    if (c->loop >= 0) {
        as_cpus_put(&one, c->loop);
        (void)as_cpus_bind(loop ? &one : &c->all);
    }
}

void as_bench_cpus_free(as_bench_cpus *c)
{
    free(c->background);
    *c = AS_BENCH_CPUS_INIT;
}
