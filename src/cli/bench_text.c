/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "cli/bench_text.h"

const char *as_bench_chill_text(const as_bench *b)
{
    switch (b->chilled) {
    case AS_CHILL_FILES | AS_CHILL_SYSTEM:
        return "POSIX_FADV_DONTNEED and /proc/sys/vm/drop_caches";
    case AS_CHILL_FILES:
        return "POSIX_FADV_DONTNEED";
    case AS_CHILL_SYSTEM:
        return "/proc/sys/vm/drop_caches";
    default:
        return "nothing";
    }
}

/* Who runs where, by the example of the rank that prints. */
static void print_processors(const as_text *t)
{
    const as_bench *b = t->bench;
    const char *background = b->save.cpus ? b->save.cpus : b->cpus.background;
    if (b->cpus.loop >= 0) {
        as_print(t->out,
                 "On rank 0 the loop runs on processor %d, and what is in the background %s%s\n",
                 b->cpus.loop, background ? "on " : "there, too", background ? background : "");
    }
}

static void print_head(const as_text *t)
{
    const as_bench *b = t->bench;
    int ranks = b->tool->world.size;
    as_print_in(t->out, AS_BOLD, "%s", b->model);
    as_print(t->out, ": %s tensors, %s, in the memory of %d rank%s on %lld host%s; %s is %s\n",
             as_grouped((int64_t)as_tensors_count(&b->tensors)).text,
             as_human_bytes(b->stored_bytes).text, ranks, ranks == 1 ? "" : "s",
             (long long)b->hosts, b->hosts == 1 ? "" : "s", b->directory, b->on.name);
    as_print(t->out,
             "%zu repetition%s after a first one; medians. Every %s compared with what was "
             "saved: equal\n",
             b->repeat, b->repeat == 1 ? "" : "s",
             b->nonblocking ? "save was loaded and" : "load was");
    if (b->nonblocking) {
        print_processors(t);
    } else {
        as_print(t->out, "Caches dropped before each read: %s\n", as_bench_chill_text(b));
    }
    if (b->load_ranks > 0) {
        char loaders[64] = "rank 0 alone";
        if (b->load_ranks > 1) {
            (void)snprintf(loaders, sizeof loaders, "ranks 0 to %d", b->load_ranks - 1);
        }
        as_print(t->out, "Saved by all ranks, loaded and plainly read by %s\n", loaders);
    }
    if (b->memory_of.name[0]) {
        as_print(t->out, "The tensors lie in device memory, those of rank 0 on %s\n",
                 b->memory_of.name);
    }
    if (b->on.in_memory) {
        as_print(t->out, "Files lie in memory here: nothing is durable, and no read is cold\n");
    }
    if (b->workload && b->workload->ranks != ranks) {
        as_print(t->out, "The workload is made for %d ranks (tp=%d, pp=%d, dp=%d), not for %d\n",
                 b->workload->ranks, b->workload->tp, b->workload->pp, b->workload->dp, ranks);
    }
}

static void print_engines(const as_text *t)
{
    as_print(t->out, "\n");
    for (size_t i = 0; i < t->bench->layout_count; i++) {
        const as_bench_layout *l = &t->bench->layouts[i];
        as_print(t->out, "%s%s: saved with %s (%s), loaded with %s (%s)\n", t->markdown ? "* " : "",
                 l->name, l->saved.engine, l->saved.reason, l->loaded.engine, l->loaded.reason);
        if (t->bench->nonblocking) {
            as_print(t->out, "%s%s: %s with %s (%s)\n", t->markdown ? "* " : "", l->name,
                     l->stream ? "stream" : "snapshot", l->flown.engine, l->staging_reason);
        }
        if (l->direct_refused) {
            as_print(t->out, "%s%s: the plain loop could not use O_DIRECT here\n",
                     t->markdown ? "* " : "", l->name);
        }
        if (l->direct_read_refused) {
            as_print(t->out, "%s%s: the plain read went through the page cache\n",
                     t->markdown ? "* " : "", l->name);
        }
    }
}

int as_bench_text(const as_bench *b, bool markdown, as_error *e)
{
    as_text t = {.bench = b, .out = &b->tool->out, .markdown = markdown};
    t.scratch = calloc(b->repeat, sizeof *t.scratch);
    if (!t.scratch) {
        return as_fail_nomem(e);
    }
    print_head(&t);
    int code = b->nonblocking ? as_text_nonblocking(&t, e) : as_text_blocking(&t, e);
    print_engines(&t);
    free(t.scratch);
    return code;
}
