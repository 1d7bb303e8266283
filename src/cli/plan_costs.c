/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/plan_costs.h"

#include <sys/resource.h>

#include "base/checked.h"

static void raise_to(int64_t *most, int64_t value)
{
    *most = as_max_i64(*most, value);
}

as_plan_costs as_plan_costs_of(const as_simulation *s, double seconds)
{
    as_plan_costs c = {.seconds = seconds};
    for (int r = 0; r < s->ranks; r++) {
        const as_plan_cost *one = &s->cost[r];
        raise_to(&c.most.nanoseconds, one->nanoseconds);
        raise_to(&c.most.memory, one->memory);
        raise_to(&c.most.messages, one->messages);
        raise_to(&c.most.bytes, one->bytes);
        c.mean.nanoseconds += one->nanoseconds;
        c.mean.memory += one->memory;
        c.mean.messages += one->messages;
        c.mean.bytes += one->bytes;
    }
    c.mean.nanoseconds /= s->ranks;
    c.mean.memory /= s->ranks;
    c.mean.messages /= s->ranks;
    c.mean.bytes /= s->ranks;
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        c.process = (int64_t)usage.ru_maxrss * 1024;
    }
    return c;
}

static json_t *cost_json(const as_plan_cost *c)
{
    return json_pack("{s:f, s:I, s:I, s:I}", "cpu_seconds", (double)c->nanoseconds / 1e9,
                     "memory_bytes", (json_int_t)c->memory, "messages", (json_int_t)c->messages,
                     "message_bytes", (json_int_t)c->bytes);
}

void as_plan_costs_json(as_tool *tool, const as_simulation *s, const as_plan_costs *c)
{
    json_t *simulation =
        json_pack("{s:I, s:I, s:o, s:o, s:f, s:I}", "pieces_described", (json_int_t)s->described,
                  "empty_pieces_left_out", (json_int_t)s->left_out, "largest", cost_json(&c->most),
                  "mean", cost_json(&c->mean), "simulation_seconds", c->seconds,
                  "simulation_memory_bytes", (json_int_t)c->process);
    as_tool_set(tool, "simulation", simulation);
}

void as_plan_costs_print(const as_output *o, const as_simulation *s, const as_plan_costs *c)
{
    as_print(o, "the plan itself, over %s pieces and %s empty ones, costs a rank at most (mean)\n",
             as_grouped(s->described).text, as_grouped(s->left_out).text);
    as_print(o, "  CPU time  %.1f ms (%.1f ms)\n", (double)c->most.nanoseconds / 1e6,
             (double)c->mean.nanoseconds / 1e6);
    as_print(o, "  memory    %s (%s), besides what it declares\n",
             as_human_bytes(c->most.memory).text, as_human_bytes(c->mean.memory).text);
    as_print(o, "  messages  %s (%s)\n", as_grouped(c->most.messages).text,
             as_grouped(c->mean.messages).text);
    as_print(o, "  bytes     %s (%s)\n", as_human_bytes(c->most.bytes).text,
             as_human_bytes(c->mean.bytes).text);
    as_print(o, "simulated in %s with %s of memory\n", as_human_seconds(c->seconds).text,
             as_human_bytes(c->process).text);
}
