/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/verify.h"

#include <stdio.h>

#include "cli/look.h"
#include "cli/replicas.h"
#include "cli/verify_rules.h"
#include "format/pattern.h"
#include "io/probe.h"

/* What the rules say, and the list of what is to be read. On rank 0. */
static int check_rules(as_check *c, as_bytes *bytes, as_verdict *out, const char *path)
{
    int code = as_check_rules(c, path);
    if (code != AS_OK || !c->view) {
        return code;
    }
    out->files = (int64_t)(c->found.files.count + c->other_files.count);
    out->tensors = c->found.tensors + c->other_tensors;
    out->bytes = c->found.bytes + c->other_bytes;
    bytes->tables = (const as_named_table *)(const void *)c->tables.data;
    bytes->table_count = c->tables.size / sizeof(as_named_table);
    return as_bytes_list(bytes, &out->unknown, c->findings, c->view, &c->found, c->e);
}

static int read_bytes(as_check *c, as_bytes *bytes, as_verdict *out, as_world *w, const char *path)
{
    int64_t any = as_bytes_count(bytes) > 0;
    int code = as_world_max(w, &any, 1, c->e);
    if (code != AS_OK || !any) {
        return code;
    }
    as_look_order order = {.path = path,
                           .engine = c->options->engine,
                           .progress = c->progress,
                           .in_place = c->in_place,
                           .files = (const as_look_file *)(const void *)bytes->files.data,
                           .file_count = as_bytes_count(bytes)};
    code = as_look(&bytes->looked, w, &order, c->e);
    out->bytes_read = bytes->looked.bytes;
    out->blocks_compared = bytes->looked.blocks;
    out->seconds = bytes->looked.seconds;
    (void)snprintf(out->engine, sizeof out->engine, "%s", bytes->looked.engine);
    return code;
}

/* Where rotten blocks can be had. Collective. */
static int find_replicas(as_check *c, const as_bytes *bytes, as_replicas *found, as_world *w,
                         const char *path)
{
    int64_t any = bytes->looked.runs.size > 0;
    int code = as_world_max(w, &any, 1, c->e);
    return code == AS_OK && any
               ? as_replicas_find(found, w, bytes, path, c->options->against, c->findings, c->e)
               : code;
}

/* A copy that is not there is told before everything is read. */
static int check_against(as_check *c)
{
    as_view *v = NULL;
    int code = c->options->against ? as_view_open(&v, c->options->against, c->e) : AS_OK;
    as_view_close(v);
    return code;
}

static int verify_once(as_verdict *out, as_world *w, const char *path,
                       const as_verify_options *options, as_progress *progress, as_error *e)
{
    *out = AS_VERDICT_INIT;
    as_check c = {.findings = &out->findings,
                  .found.pattern = options->pattern,
                  .options = options,
                  .progress = progress,
                  .e = e};
    as_bytes bytes = {.options = options};
    as_replicas replicas = AS_REPLICAS_INIT;
    if (w->rank == 0 && check_against(&c) == AS_OK) {
        (void)check_rules(&c, &bytes, out, path);
        as_check_change(&c);
    }
    int code = as_world_agree(w, e);
    if (code == AS_OK) {
        code = read_bytes(&c, &bytes, out, w, path);
    }
    if (code == AS_OK && options->against) {
        code = find_replicas(&c, &bytes, &replicas, w, path);
    }
    if (code == AS_OK && w->rank == 0) {
        (void)as_bytes_tell(&bytes, &replicas.words, c.findings, e);
        out->replicas = json_incref(replicas.list);
        out->mend = replicas.mend;
        replicas.mend = AS_NAMES_INIT;
        as_check_change(&c);
    }
    as_replicas_free(&replicas);
    as_bytes_free(&bytes);
    as_check_free(&c);
    return code == AS_OK ? as_world_agree(w, e) : code;
}

int as_verify_options_check(const as_verify_options *o, as_error *e)
{
    if (o->against && o->no_checksums) {
        return as_fail(
            e, AS_INVALID, 0,
            "--against needs checksums to tell what is rotten: leave out --no-checksums");
    }
    int code = o->pattern ? as_pattern_check(o->pattern, e) : AS_OK;
    return code == AS_OK && o->engine ? as_probe_name(o->engine, e) : code;
}

int as_verify(as_verdict *out, as_world *w, const char *path, const as_verify_options *options,
              as_progress *progress, as_error *e)
{
    enum { TRIES = 5 };
    int code = verify_once(out, w, path, options, progress, e);
    for (int i = 1; i < TRIES && code == AS_BUSY; i++) {
        as_error_clear(e);
        as_verdict_free(out);
        code = verify_once(out, w, path, options, progress, e);
    }
    if (code != AS_OK) {
        as_verdict_free(out);
    }
    return code;
}

void as_verdict_free(as_verdict *v)
{
    as_findings_free(&v->findings);
    json_decref(v->replicas);
    as_names_free(&v->mend);
    *v = AS_VERDICT_INIT;
}
