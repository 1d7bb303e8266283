/* SPDX-License-Identifier: Apache-2.0
 * Rebuilds every state that a power cut could leave of a save that power_record.c recorded
 * (the rules are in support_crash.h), reads it as a load would, recovers it, and compares: exactly the
 * old or exactly the new checkpoint, and only the new one once a rank was told that the save is good.
 *   power_states OUT SCENE RANKS MODE PART PARTS ALL RANDOM AGAIN
 *     MODE    "all"; "broken": with fsyncs that do nothing, all of folders and all of files, which
 *             has to show; "each": also each alone, of which some are needed
 *     PART    of PARTS: several processes share the work
 *     ALL     up to so many combinations at a moment all are tried
 *     RANDOM  subsets at each moment
 *     AGAIN   one of so many recoveries is recorded, and every state that a power cut in the
 *             middle of it could leave is recovered, too; 0: none
 * Prints one line that begins with "states:". Exit status 1 if a state is neither.
 */
/* needs: mpi */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "checkpoint_folder.h"
#include "commit/recover.h"
#include "power_scenes.h"
#include "support_crash.h"
#include "support_snapshot.h"

enum { LEASE_MS = 40 };

enum found { NEITHER, OLD, NEW };

typedef struct work {
    const power_scene *scene;
    snapshot old;
    snapshot new;
    crash_rules rules;
    int again;
    bool quiet;
    enum found expected; /* of a recovery that was cut off; NEITHER: a save */
    int64_t olds;
    int64_t news;
    int64_t recoveries; /* that were recorded */
    int64_t recovery_states;
} work;

static char scratch[256];

static enum found compare(const work *w, const snapshot *s)
{
    return snapshot_same(s, &w->old) ? OLD : snapshot_same(s, &w->new) ? NEW : NEITHER;
}

static bool complain(const work *w, const char *what, const char *text)
{
    if (!w->quiet) {
        (void)printf("%s: %s\n", what, text);
    }
    return false;
}

static crash_visit look;

/* What a power cut in the middle of this recovery could leave. */
static bool explore_recovery(const work *w, const trace_log *log, uint64_t root,
                             enum found expected, int64_t *tried)
{
    char below[300];
    work inner = *w;
    crash_rules rules = w->rules;
    crash_counts counts;
    inner.expected = expected;
    inner.again = 0;
    rules.part = 0;
    rules.parts = 1;
    rules.random = rules.random < 100 ? rules.random : 100;
    rules.exhaustive = rules.exhaustive < 512 ? rules.exhaustive : 512;
    (void)snprintf(below, sizeof below, "%s/again", scratch);
    crash_explore(log, root, &rules, below, look, &inner, &counts);
    *tried += counts.tried;
    return counts.refused == 0;
}

static int recover(const char *directory, as_error *e)
{
    int code = as_recover(directory, false, LEASE_MS, NULL, NULL, e);
    return code == AS_NOT_FOUND ? AS_OK : code; /* the folder itself was lost */
}

/* Recovers; now and then with a power cut at every moment of that. */
static int recover_well(work *w, const char *root, const char *directory, bool again,
                        enum found seen, bool *good, as_error *e)
{
    *good = true;
    if (!again) {
        return recover(directory, e);
    }
    trace_log log = TRACE_LOG_INIT;
    trace_log happened;
    uint64_t number;
    trace_tree(&log, root, &number);
    trace_begin(root, NULL);
    int code = recover(directory, e);
    trace_end(&happened);
    log.events = realloc(log.events, (log.count + happened.count + 1) * sizeof *log.events);
    must(log.events != NULL, "memory");
    for (size_t i = 0; i < happened.count; i++) {
        log.events[log.count++] = happened.events[i];
    }
    free(happened.events);
    if (code == AS_OK) {
        w->recoveries++;
        *good = explore_recovery(w, &log, number, seen, &w->recovery_states);
    }
    trace_free(&log);
    return code;
}

static bool look(void *user, const char *root, bool told, uint64_t number)
{
    work *w = user;
    char directory[600];
    snapshot s;
    (void)snprintf(directory, sizeof directory, "%s/%s", root, strchr(w->scene->below, '/') + 1);
    bool good = snapshot_view(&s, directory);
    enum found seen = good ? compare(w, &s) : NEITHER;
    snapshot_free(&s);
    if (seen == NEITHER) {
        return complain(w, directory, "a load sees neither the old checkpoint nor the new one");
    }
    if (w->expected ? seen != w->expected : told && seen != NEW) {
        return complain(w, directory, "a load sees the old checkpoint where the new one counts");
    }
    as_error e = AS_ERROR_INIT;
    bool again = w->again > 0 && number / 7 % (uint64_t)w->again == 0;
    if (recover_well(w, root, directory, again, seen, &good, &e) != AS_OK) {
        (void)complain(w, directory, as_error_text(&e));
        as_error_clear(&e);
        return false;
    }
    if (!good) {
        return complain(w, directory, "a crash of this state's recovery");
    }
    good = snapshot_take(&s, directory);
    enum found found = good ? compare(w, &s) : NEITHER;
    if (found != seen) {
        const snapshot *right = seen == NEW ? &w->new : &w->old;
        (void)complain(w, directory, good ? snapshot_difference(&s, right) : "cannot be read");
    }
    snapshot_free(&s);
    w->olds += found == OLD;
    w->news += found == NEW;
    return found == seen;
}

/* ---- the model itself ---- */

static bool is_folder(const trace_log *log, uint64_t inode)
{
    for (size_t i = 0; i < log->count; i++) {
        if (log->events[i].inode == inode &&
            (log->events[i].kind == TRACE_MKDIR || log->events[i].kind == TRACE_CREATE)) {
            return log->events[i].kind == TRACE_MKDIR;
        }
    }
    return true; /* the folder of all */
}

/* Must be found: a disk that does not sync folders, or not files. */
static bool try_broken(work *w, trace_log *log, uint64_t root, bool each)
{
    bool all_found = true;
    int needed = 0;
    int spare = 0;
    w->quiet = true;
    w->again = 0;
    w->rules.first_only = true;
    w->rules.pairs = false;
    w->rules.exhaustive = 100;
    w->rules.random = 50;
    for (int kind = 0; kind < 2; kind++) {
        for (size_t i = 0; i < log->count; i++) {
            trace_event *e = &log->events[i];
            if (e->kind == TRACE_FSYNC && is_folder(log, e->inode) == (kind == 0)) {
                e->kind = TRACE_NOTHING;
                e->count = -1;
            }
        }
        crash_counts counts;
        crash_explore(log, root, &w->rules, scratch, look, w, &counts);
        (void)printf("states: %s: without the fsyncs of %s: %s after %" PRId64 " states\n",
                     w->scene->name, kind == 0 ? "folders" : "files",
                     counts.refused ? "found" : "NOT FOUND", counts.tried);
        all_found = all_found && counts.refused > 0;
        for (size_t i = 0; i < log->count; i++) {
            trace_event *e = &log->events[i];
            if (e->kind == TRACE_NOTHING && e->count == -1) {
                e->kind = TRACE_FSYNC;
                e->count = 0;
            }
        }
    }
    for (size_t i = 0; i < log->count && each; i++) {
        trace_event *e = &log->events[i];
        if (e->kind != TRACE_FSYNC) {
            continue;
        }
        crash_counts counts;
        e->kind = TRACE_NOTHING;
        crash_explore(log, root, &w->rules, scratch, look, w, &counts);
        e->kind = TRACE_FSYNC;
        needed += counts.refused > 0;
        spare += counts.refused == 0;
    }
    if (each) {
        (void)printf("states: %s: of the fsyncs alone %d are needed, %d go beyond the need\n",
                     w->scene->name, needed, spare);
    }
    return all_found && (needed > 0 || !each);
}

static void load(const char *out, int ranks, trace_log *log, uint64_t *root)
{
    char path[600];
    (void)snprintf(path, sizeof path, "%s/root", out);
    FILE *f = fopen(path, "r");
    unsigned long long number = 0;
    must(f && fscanf(f, "%llu", &number) == 1 && fclose(f) == 0, path); // NOLINT
    *root = number;
    (void)snprintf(path, sizeof path, "%s/tree", out);
    trace_read(log, path);
    for (int i = 0; i < ranks; i++) {
        (void)snprintf(path, sizeof path, "%s/trace.%d", out, i);
        trace_read(log, path);
    }
}

static int to_int(const char *text)
{
    return (int)strtol(text, NULL, 10);
}

int main(int argc, char **argv)
{
    work w = {.scene = argc == 10 ? power_scene_named(argv[2]) : NULL};
    if (!w.scene) {
        (void)fprintf(stderr,
                      "usage: power_states OUT SCENE RANKS MODE PART PARTS ALL RANDOM AGAIN\n");
        return 2;
    }
    char path[600];
    trace_log log = TRACE_LOG_INIT;
    uint64_t root;
    load(argv[1], to_int(argv[3]), &log, &root);
    (void)snprintf(path, sizeof path, "%s/old", argv[1]);
    must(snapshot_take(&w.old, path), path);
    (void)snprintf(path, sizeof path, "%s/new", argv[1]);
    must(snapshot_take(&w.new, path), path);
    w.rules = (crash_rules){.exhaustive = to_int(argv[7]),
                            .random = to_int(argv[8]),
                            .pairs = true,
                            .seed = 20250101,
                            .part = to_int(argv[5]),
                            .parts = to_int(argv[6])};
    w.again = to_int(argv[9]);
    (void)snprintf(scratch, sizeof scratch, "%s/states.%d", argv[1], w.rules.part);
    bool good;
    bool each = strcmp(argv[4], "each") == 0;
    if (each || strcmp(argv[4], "broken") == 0) {
        good = try_broken(&w, &log, root, each);
    } else {
        crash_counts counts;
        crash_explore(&log, root, &w.rules, scratch, look, &w, &counts);
        (void)printf("states: %s: %zu events, %" PRId64 " moments (%" PRId64
                     " complete), at most %" PRId64 " uncertain, %" PRId64 " states: %" PRId64
                     " old, %" PRId64 " new, %" PRId64 " wrong; recoveries cut off: %" PRId64
                     ", states: %" PRId64 "\n",
                     w.scene->name, log.count, counts.moments, counts.complete, counts.uncertain,
                     counts.tried, w.olds, w.news, counts.refused, w.recoveries, w.recovery_states);
        good = counts.refused == 0 && counts.tried > 0;
    }
    snapshot_free(&w.old);
    snapshot_free(&w.new);
    trace_free(&log);
    return good ? 0 : 1;
}
