/* SPDX-License-Identifier: Apache-2.0
 * Loads from the newest good checkpoint of a series, or from that of a step. The main process looks
 * for candidates and tells the others of one after the other, until one is loaded or none is left.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/sys.h"
#include "commit/folder.h"
#include "commit/manifest.h"
#include "series/members.h"
#include "series/parts.h"
#include "transfer/arguments.h"

/* What the main process tells of a candidate; in a buffer it is followed by the names and values of
 * fields, the patterns of the wanted parts (empty: not told), the folder's name (all of these each
 * with a NUL), and the bytes of each rank's state. */
typedef struct candidate {
    int64_t field_count;
    int64_t step;
    int64_t world;
    int64_t passed;
    int64_t rank_states; /* int64_t at the end; 0: no rank had any */
    double save_seconds;
} candidate;

typedef struct search {
    as_series *r;
    int64_t step; /* < 0: the newest */
    as_load_call *calls;
    size_t count;
    as_members members; /* main process */
    size_t next;        /* main process: members[next - 1] is looked at next */
    int64_t passed;
    as_error first;        /* main process: why the newest was passed over */
    as_buffer told;        /* a candidate */
    const char **patterns; /* [count]: the callers' */
} search;

/* ---- main process ---- */

/* Names a checkpoint that is passed over, which stays as it is. */
static void pass_over(search *q, const as_member *m, const char *why)
{
    as_series *r = q->r;
    q->passed++;
    if (q->first.code == AS_OK) {
        (void)as_fail(&q->first, AS_CORRUPT, 0, "%s", why);
    }
    as_log_say(&r->session->log, AS_LOG_WARNING, "%s/%s is passed over, and left as it is: %s",
               r->root, m->name, why);
}

static const as_member *next_member(search *q)
{
    if (q->step >= 0) {
        const as_member *m = q->next ? as_members_of_step(&q->members, q->step) : NULL;
        q->next = 0;
        return m;
    }
    return q->next ? &q->members.items[--q->next] : NULL;
}

/* The next one that looks good. */
static const as_member *next_good(search *q)
{
    const as_member *m = next_member(q);
    while (m && m->state != AS_MEMBER_GOOD) {
        pass_over(q, m, m->why ? m->why : "it is damaged");
        m = next_member(q);
    }
    return m;
}

static int add_text(as_buffer *b, const char *text, as_error *e)
{
    return as_buffer_append(b, text, strlen(text) + 1, e);
}

/* The manifest, whose damage the look at the member has not found. No manifest: none, and AS_OK. */
static int read_manifest(const char *root, const char *name, as_manifest *m, as_error *e)
{
    as_buffer path = AS_BUFFER_INIT;
    as_buffer text = AS_BUFFER_INIT;
    int folder = -1;
    bool found = false;
    int code = as_buffer_format(&path, e, "%s/%s", root, name);
    code = code == AS_OK ? as_folder_open(path.data, &folder, e) : code;
    if (code == AS_OK) {
        code = as_file_read(folder, AS_MANIFEST_NAME, AS_MANIFEST_LARGEST, path.data, &text, NULL,
                            &found, e);
        (void)as_sys_table.close(folder);
    }
    if (code == AS_OK && found) {
        code = as_manifest_from_bytes(text.data, text.size, path.data, m, e);
    }
    as_buffer_free(&text);
    as_buffer_free(&path);
    return code;
}

static int add_patterns(search *q, const as_manifest *m, as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; i < q->count && code == AS_OK; i++) {
        const as_manifest_part *p = as_manifest_find(m, q->calls[i].state->part);
        code = add_text(&q->told, p ? p->pattern : "", e);
    }
    return code;
}

static int add_rank_states(search *q, const as_manifest *m, size_t *count, as_error *e)
{
    const json_t *bytes = m->checkpoint ? json_object_get(m->checkpoint, AS_RANKS_KEY) : NULL;
    *count = as_manifest_find(m, AS_RANKS_PART) ? json_array_size(bytes) : 0;
    int code = AS_OK;
    for (size_t i = 0; i < *count && code == AS_OK; i++) {
        const json_t *one = json_array_get(bytes, i);
        int64_t value = json_integer_value(one);
        if (!json_is_integer(one) || value < 0 || value > AS_MOST_RANK_STATE) {
            code = as_fail(e, AS_FORMAT, 0,
                           "its manifest does not tell the size of what rank %zu has saved", i);
        } else {
            code = as_buffer_append(&q->told, &value, sizeof value, e);
        }
    }
    return code;
}

static int describe(search *q, const as_member *m, as_error *e)
{
    const as_record *record = &m->record;
    candidate c = {.field_count = m->has_record ? (int64_t)record->fields.count : 0,
                   .step = m->step,
                   .world = m->has_record ? record->world_size : 0,
                   .passed = q->passed,
                   .save_seconds = m->has_record ? record->save_seconds : 0};
    as_manifest manifest = AS_MANIFEST_INIT;
    size_t states = 0;
    q->told.size = 0;
    int code = read_manifest(q->r->root, m->name, &manifest, e);
    if (code == AS_OK) {
        code = as_buffer_append(&q->told, &c, sizeof c, e);
    }
    for (int64_t i = 0; i < c.field_count && code == AS_OK; i++) {
        code = add_text(&q->told, record->fields.items[i].name, e);
        code = code == AS_OK ? add_text(&q->told, record->fields.items[i].value, e) : code;
    }
    code = code == AS_OK ? add_patterns(q, &manifest, e) : code;
    code = code == AS_OK ? add_text(&q->told, m->name, e) : code;
    code = code == AS_OK ? add_rank_states(q, &manifest, &states, e) : code;
    if (code == AS_OK) {
        c.rank_states = (int64_t)states;
        memcpy(q->told.data, &c, sizeof c);
    }
    as_manifest_free(&manifest);
    return code;
}

/* Is it for the next older one to be tried? */
static bool is_damage(const as_error *e)
{
    return e->code == AS_CORRUPT || e->code == AS_FORMAT || e->code == AS_NOT_FOUND ||
           (e->code == AS_SYSTEM && e->sys_errno == EIO);
}

/* Puts the next candidate into q->told; *m NULL: there is none. */
static int find(search *q, const as_member **m, as_error *e)
{
    const as_member *good;
    *m = NULL;
    while ((good = next_good(q)) != NULL) {
        as_error own = AS_ERROR_INIT;
        if (describe(q, good, &own) == AS_OK) {
            *m = good;
            return AS_OK;
        }
        if (!is_damage(&own)) {
            return as_error_pass(e, &own);
        }
        pass_over(q, good, as_error_text(&own));
        as_error_clear(&own);
    }
    q->told.size = 0;
    return AS_OK;
}

static int no_candidate(const search *q, as_error *e)
{
    if (q->passed == 0) {
        return q->step < 0 ? as_fail(e, AS_NOT_FOUND, 0, "%s: there is no checkpoint", q->r->root)
                           : as_fail(e, AS_NOT_FOUND, 0, "%s: there is no checkpoint of step %lld",
                                     q->r->root, (long long)q->step);
    }
    return q->step < 0
               ? as_fail(e, AS_CORRUPT, 0,
                         "%s: there are checkpoints, and none of the %lld is good; the newest: %s. "
                         "`allshard ls` and `allshard verify` tell more",
                         q->r->root, (long long)q->passed, as_error_text(&q->first))
               : as_fail(e, AS_CORRUPT, 0, "%s: the checkpoint of step %lld is not good: %s",
                         q->r->root, (long long)q->step, as_error_text(&q->first));
}

static void tell_loaded(search *q, const as_member *m)
{
    as_series *r = q->r;
    char text[96];
    (void)snprintf(text, sizeof text, "%lld newer %s passed over as damaged", (long long)q->passed,
                   q->passed == 1 ? "one was" : "ones were");
    const as_event event = {
        .kind = AS_EVENT_LOADED, .name = m->name, .step = m->step, .text = q->passed ? text : NULL};
    as_series_note_event(r, &r->session->log, &event);
    if (q->passed) {
        as_log_say(&r->session->log, AS_LOG_WARNING, "%s: goes on from \"%s\"; %s", r->root,
                   m->name, text);
    }
    if (!m->has_manifest) {
        as_log_say(&r->session->log, AS_LOG_WARNING,
                   "%s/%s has no " AS_MANIFEST_NAME ": what was loaded could not be compared with "
                   "checksums, and no rank gets its own state back",
                   r->root, m->name);
    }
}

/* ---- all ranks ---- */

/* The texts of a candidate. */
typedef struct reading {
    candidate c;
    const char *at;
} reading;

static const char *next_text(reading *in)
{
    const char *text = in->at;
    in->at += strlen(text) + 1;
    return text;
}

/* This rank's own of the candidate; the result of the load takes it over if all goes well. */
typedef struct own {
    as_fields fields;
    char *name;
    char *rank_state;
    int64_t rank_bytes;
    bool has_states;
} own;

static void free_own(own *o)
{
    as_fields_free(&o->fields);
    free(o->name);
    free(o->rank_state);
}

static int take_texts(search *q, reading *in, own *o, as_buffer *path, as_error *e)
{
    int code = AS_OK;
    for (int64_t i = 0; i < in->c.field_count; i++) {
        const char *name = next_text(in);
        const char *value = next_text(in);
        code = code == AS_OK ? as_fields_set(&o->fields, name, value, e) : code;
    }
    for (size_t i = 0; i < q->count; i++) {
        const char *pattern = next_text(in);
        q->calls[i].pattern = q->patterns[i] ? q->patterns[i] : *pattern ? pattern : NULL;
    }
    o->name = strdup(next_text(in));
    if (code == AS_OK && !o->name) {
        code = as_fail_nomem(e);
    }
    return code == AS_OK ? as_buffer_format(path, e, "%s/%s", q->r->root, o->name) : code;
}

/* Room for what the rank of this number has saved. */
static int take_rank_state(const search *q, const reading *in, own *o, as_error *e)
{
    int rank = q->r->rank;
    o->has_states = in->c.rank_states > 0;
    if (rank >= in->c.rank_states) {
        return AS_OK;
    }
    memcpy(&o->rank_bytes, in->at + (size_t)rank * sizeof o->rank_bytes, sizeof o->rank_bytes);
    o->rank_state = o->rank_bytes ? malloc((size_t)o->rank_bytes) : NULL;
    return o->rank_bytes && !o->rank_state ? as_fail_nomem(e) : AS_OK;
}

/* What is damaged, if this is not of the size that the manifest tells. */
static void blame(as_error *e)
{
    if (e->code == AS_MISMATCH || e->code == AS_NAMES) {
        e->code = AS_FORMAT;
    }
}

static int load_rank_state(search *q, own *o, const char *path, as_error *e)
{
    as_series *r = q->r;
    as_buffer missing = AS_BUFFER_INIT;
    as_buffer unexpected = AS_BUFFER_INIT;
    as_state state = {.part = NULL};
    bool declared =
        as_rank_state_declare(&state, r->rank, o->rank_state, o->rank_bytes, e) == AS_OK;
    int code = as_comm_agree(r->session->comm, e);
    if (code == AS_OK) {
        const as_load_call call = {.session = r->session,
                                   .state = &state,
                                   .path = path,
                                   .pattern = AS_RANKS_PATTERN,
                                   .allow_unexpected = true};
        (void)as_load_run(&call, &missing, &unexpected, e);
        blame(e);
        code = e->code;
    }
    if (declared) {
        as_state_free(&state);
    }
    as_buffer_free(&missing);
    as_buffer_free(&unexpected);
    return code;
}

static int load_parts(search *q, const char *path, as_buffer *missing, as_buffer *unexpected,
                      as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; i < q->count && code == AS_OK; i++) {
        as_buffer m = AS_BUFFER_INIT;
        as_buffer u = AS_BUFFER_INIT;
        q->calls[i].path = path;
        code = as_load_run(&q->calls[i], &m, &u, e);
        as_error trouble = AS_ERROR_INIT;
        if (as_buffer_append(missing, m.data, m.size, &trouble) != AS_OK ||
            as_buffer_append(unexpected, u.data, u.size, &trouble) != AS_OK) {
            as_error_clear(&trouble); /* the list is short of names, and no more */
        }
        as_buffer_free(&m);
        as_buffer_free(&u);
    }
    return code;
}

/* The candidate is loaded: it becomes what the run goes on from. */
static int adopt(as_series *r, own *o, const candidate *c, as_series_loaded *out, as_error *e)
{
    char *parent = strdup(o->name);
    if (!parent || as_names_add(&r->in_use, o->name, e) != AS_OK) {
        free(parent);
        return as_fail_nomem(e);
    }
    free(r->parent);
    r->parent = parent;
    as_fields_free(&r->loaded_fields);
    free(r->loaded_name);
    free(r->loaded_rank_state);
    r->loaded_fields = o->fields;
    r->loaded_name = o->name;
    r->loaded_rank_state = o->rank_state;
    *out = (as_series_loaded){.step = c->step,
                              .name = r->loaded_name,
                              .world = c->world,
                              .passed = c->passed,
                              .rank_state = r->loaded_rank_state,
                              .rank_state_bytes = (size_t)o->rank_bytes,
                              .fields = &r->loaded_fields,
                              .save_seconds = c->save_seconds};
    *o = (own){.has_states = false};
    return AS_OK;
}

/* One candidate, by all ranks. */
static int load_one(search *q, reading *in, as_buffer *missing, as_buffer *unexpected,
                    as_series_loaded *out, as_error *e)
{
    own o = {.has_states = false};
    as_buffer path = AS_BUFFER_INIT;
    missing->size = 0;
    unexpected->size = 0;
    (void)take_texts(q, in, &o, &path, e);
    if (e->code == AS_OK) {
        (void)take_rank_state(q, in, &o, e);
    }
    o.has_states = in->c.rank_states > 0;
    int code = as_comm_agree(q->r->session->comm, e);
    if (code == AS_OK) {
        code = load_parts(q, path.data, missing, unexpected, e);
    }
    if (code == AS_OK && o.has_states) {
        code = load_rank_state(q, &o, path.data, e);
    }
    if (code == AS_OK) {
        (void)adopt(q->r, &o, &in->c, out, e);
        code = as_comm_agree(q->r->session->comm, e);
    }
    as_buffer_free(&path);
    free_own(&o);
    return code;
}

/* The main process's members. Collective. */
static int look(search *q, as_error *e)
{
    as_series *r = q->r;
    if (r->is_main) {
        (void)as_members_read(&q->members, r->root, r->pattern, &r->session->log, e);
        q->next = q->members.count;
    }
    return as_comm_agree(r->session->comm, e);
}

static int try_all(search *q, as_buffer *missing, as_buffer *unexpected, as_series_loaded *out,
                   as_error *e)
{
    as_comm *c = q->r->session->comm;
    for (;;) {
        const as_member *m = NULL;
        if (q->r->is_main && find(q, &m, e) == AS_OK && !m) {
            (void)no_candidate(q, e);
        }
        int code = as_comm_agree(c, e);
        if (code == AS_OK) {
            code = as_comm_bcast_buffer(c, 0, &q->told, e);
        }
        if (code != AS_OK) {
            return code;
        }
        reading in = {.at = q->told.data + sizeof in.c};
        memcpy(&in.c, q->told.data, sizeof in.c);
        code = load_one(q, &in, missing, unexpected, out, e);
        if (code == AS_OK && m) {
            tell_loaded(q, m);
        }
        if (code == AS_OK || !is_damage(e) || q->step >= 0) {
            return code;
        }
        if (m) {
            pass_over(q, m, as_error_text(e));
        }
        as_error_clear(e);
    }
}

static int check(as_series *r, int64_t step, const as_load_call *calls, size_t count, as_error *e)
{
    const char *parts[AS_MOST_PARTS];
    if (e->code == AS_OK && (count < 1 || count > AS_MOST_PARTS)) {
        (void)as_fail(e, AS_INVALID, 0, "%zu parts; 1 to %d are possible", count,
                      (int)AS_MOST_PARTS);
    }
    size_t listed = count <= AS_MOST_PARTS ? count : 0;
    for (size_t i = 0; i < listed; i++) {
        parts[i] = calls[i].state->part;
    }
    const as_argument arguments[] = {
        as_argument_number("step", step),
        as_argument_text("root", r->root),
        as_argument_list("states", parts, listed),
    };
    return as_arguments_agree(r->session->comm, arguments, sizeof arguments / sizeof *arguments, e);
}

int as_series_load(as_series *r, int64_t step, as_load_call *calls, size_t count,
                   as_buffer *missing, as_buffer *unexpected, as_series_loaded *out, as_error *e)
{
    search q = {.r = r, .step = step, .calls = calls, .count = count, .first = AS_ERROR_INIT};
    int code = check(r, step, calls, count, e);
    if (code != AS_OK) {
        return code;
    }
    q.patterns = calloc(count, sizeof *q.patterns);
    for (size_t i = 0; i < count && q.patterns; i++) {
        q.patterns[i] = calls[i].pattern;
    }
    if (!q.patterns) {
        (void)as_fail_nomem(e);
    }
    code = look(&q, e);
    if (code == AS_OK) {
        code = try_all(&q, missing, unexpected, out, e);
    }
    free((void *)q.patterns);
    as_buffer_free(&q.told);
    as_members_free(&q.members);
    as_error_clear(&q.first);
    return code;
}
