/* SPDX-License-Identifier: Apache-2.0
 * allshard prune: checkpoints of a series that no rule keeps go.
 */
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "cli/command.h"
#include "cli/series_root.h"
#include "cli/prune_report.h"
#include "commit/folder.h"
#include "series/prune_root.h"
#include "series/sweep.h"

/* Where what went lies in ROOT/.allshard/ while the ranks remove it. */
#define ASIDE AS_GONE_PREFIX "prune"

static struct {
    const char *keep_last;
    const char *keep_every;
    const char *keep_best;
    const char *metric;
    const char *keep_days;
    const char *keep_hours;
    const char *pattern;
    bool max;
    bool dry_run;
    bool json;
    as_keep_rules rules; /* what those say */
} options;

static const as_arg_option table[] = {
    {.name = "keep-last",
     .value = "K",
     .help = "keep the K good ones with the highest steps",
     .text = &options.keep_last},
    {.name = "keep-every",
     .value = "N",
     .help = "keep those whose step is a multiple of N",
     .text = &options.keep_every},
    {.name = "keep-best",
     .value = "K",
     .help = "keep the K good ones with the best metric: the lowest,\n"
             "or with --max the highest",
     .text = &options.keep_best},
    {.name = "metric",
     .value = "NAME",
     .help = "the metric that --keep-best compares; default: whatever\n"
             "metric each was saved with",
     .text = &options.metric},
    {.name = "max", .help = "for --keep-best: larger is better", .flag = &options.max},
    {.name = "keep-days",
     .value = "D",
     .help = "keep those that are younger, such as 7 or 0.5",
     .text = &options.keep_days},
    {.name = "keep-hours",
     .value = "H",
     .help = "likewise; with --keep-days the two add up",
     .text = &options.keep_hours},
    AS_ROOT_PATTERN_OPTION(&options.pattern),
    {.name = "dry-run",
     .help = "only say what would go, and why the others stay",
     .flag = &options.dry_run},
    {.name = "json", .help = "print one JSON object", .flag = &options.json},
    {.name = NULL},
};

static const as_arg_command arguments = {
    .name = "prune",
    .usage = "ROOT RULES [--dry-run] [--pattern P] [--json]",
    .summary =
        "Removes the checkpoints of a series that none of the rules keeps; at least one rule must "
        "be given.\n"
        "What always stays: the newest good one, tagged and damaged ones, the one that ROOT/latest "
        "leads to,\n"
        "and what no series saved. They leave ROOT by renames, all at once, before any byte is "
        "removed; a\n"
        "tag that comes in between brings one back. The ranks share the removing.\n",
    .examples = "  allshard prune run1/ --keep-last 3 --dry-run\n"
                "  allshard prune run1/ --keep-last 3 --keep-every 10000 --keep-best 2 "
                "--metric loss\n"
                "  mpirun -n 8 allshard prune run1/ --keep-last 1 --keep-days 7\n",
    .least = 1,
    .most = 1,
    .operands = "one ROOT",
    .options = table,
};

/* ------------------------------------------------------------------- options */

static int read_count(const char *text, const char *what, int64_t *out, as_error *e)
{
    return text ? as_args_number(text, what, 1, INT64_MAX, out, e) : AS_OK;
}

/* Adds so many units of time. */
static int add_time(const char *text, const char *what, double unit, double *seconds, as_error *e)
{
    if (!text) {
        return AS_OK;
    }
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value) || value <= 0) {
        return as_fail(e, AS_INVALID, 0, "%s takes a number above 0, such as 7 or 0.5, not \"%s\"",
                       what, text);
    }
    *seconds += value * unit;
    return AS_OK;
}

static int check_pattern(as_error *e)
{
    as_folder_pattern *pattern = NULL;
    int code = options.pattern ? as_folder_pattern_make(&pattern, options.pattern, e) : AS_OK;
    as_folder_pattern_free(pattern);
    return code;
}

static int check(const as_arg_result *args, as_error *e)
{
    (void)args;
    as_keep_rules *rules = &options.rules;
    int code = read_count(options.keep_last, "--keep-last", &rules->last, e);
    if (code == AS_OK) {
        code = read_count(options.keep_every, "--keep-every", &rules->every, e);
    }
    if (code == AS_OK) {
        code = read_count(options.keep_best, "--keep-best", &rules->best, e);
    }
    if (code == AS_OK) {
        code = add_time(options.keep_days, "--keep-days", 86400, &rules->seconds, e);
    }
    if (code == AS_OK) {
        code = add_time(options.keep_hours, "--keep-hours", 3600, &rules->seconds, e);
    }
    if (code == AS_OK && rules->best == 0 && (options.metric || options.max)) {
        code = as_fail(e, AS_INVALID, 0, "--metric and --max go with --keep-best");
    }
    if (code == AS_OK && !as_keep_rules_any(rules)) {
        code = as_fail(e, AS_INVALID, 0,
                       "no rule tells what is to stay, and nothing is removed without one: give "
                       "--keep-last, --keep-every, --keep-best, --keep-days or --keep-hours");
    }
    rules->metric = options.metric;
    rules->metric_max = options.max;
    return code == AS_OK ? check_pattern(e) : code;
}

/* ------------------------------------------------------------------- command */

typedef struct prune_work {
    as_prune_call call;
    as_members members;
    as_prune plan;
    as_names gone;
    as_txn *txn;   /* holds what went; NULL: nothing did */
    int64_t swept; /* on all ranks: 1 if there is something to remove */
} prune_work;

static int64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Rank 0: looks, and moves away what goes. */
static int begin(prune_work *w, const as_log *log, as_error *e)
{
    if (options.dry_run) {
        return as_prune_look(&w->call, &w->members, &w->plan, log, e);
    }
    int code = as_prune_begin(&w->txn, &w->call, &w->members, &w->plan, &w->gone, log, e);
    bool any = false;
    if (code == AS_OK && w->txn) {
        code = as_txn_set_aside(w->txn, ASIDE, &any, e);
    }
    w->swept = any;
    return code;
}

static int tell(as_tool *tool, const prune_work *w, as_error *e)
{
    const as_prune_report report = {
        .root = w->call.root,
        .dry_run = options.dry_run,
        .members = &w->members,
        .plan = &w->plan,
        .gone = options.dry_run ? NULL : &w->gone,
    };
    if (options.json) {
        as_prune_json(tool, &report);
        return AS_OK;
    }
    return as_prune_print(&tool->out, &report, e);
}

/* All ranks: what went loses its files. That some cannot be removed is told, and no failure: the
 * checkpoints are gone, and the next save tries again. */
static int sweep(as_tool *tool, prune_work *w, const as_log *log, as_error *e)
{
    int code = as_world_max(&tool->world, &w->swept, 1, e);
    if (code != AS_OK || w->swept == 0) {
        return code;
    }
    as_error own = AS_ERROR_INIT;
    if (as_sweep(w->call.root, ASIDE, tool->world.rank, tool->world.size, &own) != AS_OK) {
        as_log_say(log, AS_LOG_WARNING, "%s", as_error_text(&own));
    }
    as_error_clear(&own);
    return as_world_agree(&tool->world, e);
}

static int run(as_tool *tool, const as_arg_result *args, as_error *e)
{
    prune_work w = {
        .call = {.root = args->operands[0], .pattern = options.pattern, .rules = options.rules},
        .members = AS_MEMBERS_INIT,
    };
    as_log log = as_output_as_log(&tool->out);
    w.call.now_ms = now_ms();
    if (tool->world.rank == 0) {
        (void)begin(&w, &log, e);
    }
    if (as_world_agree(&tool->world, e) == AS_OK) {
        (void)sweep(tool, &w, &log, e);
    }
    if (w.txn) {
        as_error end = AS_ERROR_INIT;
        (void)as_txn_finish(w.txn, &end);
        (void)as_error_pass(e, &end);
    }
    if (tool->world.rank == 0 && e->code == AS_OK) {
        (void)tell(tool, &w, e);
    }
    as_names_free(&w.gone);
    as_prune_free(&w.plan);
    as_members_free(&w.members);
    return as_world_agree(&tool->world, e);
}

const as_command as_cmd_prune = {
    .args = &arguments, .json = &options.json, .check = check, .run = run};
