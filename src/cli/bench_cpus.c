/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bench_cpus.h"

#include <stdlib.h>

#include "base/buffer.h"
#include "base/hash.h"
#include "cli/bench_room.h"
#include "io/manners.h"

static bool has(const cpu_set_t *set, int i)
{
    return CPU_ISSET((size_t)i, set);
}

static void add(cpu_set_t *set, int i)
{
    CPU_SET((size_t)i, set);
}

/* The n-th processor of a set. */
static int nth_of(const cpu_set_t *set, int n)
{
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (has(set, i) && n-- == 0) {
            return i;
        }
    }
    return -1;
}

/* "0-3,8" */
static int write_list(const cpu_set_t *set, char **out, as_error *e)
{
    as_buffer text = AS_BUFFER_INIT;
    int code = AS_OK;
    for (int i = 0; i < CPU_SETSIZE && code == AS_OK; i++) {
        int first = i;
        while (i < CPU_SETSIZE && has(set, i)) {
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

/* Takes the loop's processor out of `part` of `all`: this rank is number `index` of those that
 * share the set. What is left of the part, or else of all, is the background's. */
static int share_out(as_bench_cpus *c, int index, int ranks, as_error *e)
{
    int count = CPU_COUNT(&c->all);
    int own = count / ranks;
    int loops = count - count / 2;
    c->loop = nth_of(&c->all, own >= 2 ? index * own : index % loops);
    c->apart = count >= 2;
    if (!c->apart) {
        return AS_OK;
    }
    cpu_set_t rest;
    CPU_ZERO(&rest);
    int first = own >= 2 ? index * own + 1 : loops;
    int last = own >= 2 ? (index + 1) * own : count;
    for (int i = first; i < last; i++) {
        add(&rest, nth_of(&c->all, i));
    }
    return write_list(&rest, &c->background, e);
}

/* What the list means is asked of the kernel: as_manners_check has seen it. */
static int avoid(as_bench_cpus *c, const char *given, int index, as_error *e)
{
    as_manners manners = {.cpus = given};
    cpu_set_t theirs;
    int code = as_manners_take(&manners, e);
    if (code != AS_OK || sched_getaffinity(0, sizeof theirs, &theirs) < 0) {
        theirs = c->all;
    }
    as_bench_cpus_pin(c, false);
    cpu_set_t rest;
    CPU_ZERO(&rest);
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (has(&c->all, i) && !has(&theirs, i)) {
            add(&rest, i);
        }
    }
    c->apart = CPU_COUNT(&rest) > 0;
    const cpu_set_t *from = c->apart ? &rest : &c->all;
    c->loop = nth_of(from, index % CPU_COUNT(from));
    return code;
}

int as_bench_cpus_choose(as_bench_cpus *c, as_world *w, const char *given, as_error *e)
{
    *c = AS_BENCH_CPUS_INIT;
    CPU_ZERO(&c->all);
    bool known = sched_getaffinity(0, sizeof c->all, &c->all) == 0;
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
    cpu_set_t one;
    CPU_ZERO(&one);
    if (c->loop >= 0) {
        add(&one, c->loop);
        (void)sched_setaffinity(0, sizeof one, loop ? &one : &c->all);
    }
}

void as_bench_cpus_free(as_bench_cpus *c)
{
    free(c->background);
    *c = AS_BENCH_CPUS_INIT;
}
