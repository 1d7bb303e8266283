/* SPDX-License-Identifier: Apache-2.0 */
#include "series/record.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "commit/names.h"
#include "series/words.h"

static const char *const job_variables[] = {
    "SLURM_JOB_ID",        "SLURM_JOB_NAME",     "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID",
    "SLURM_RESTART_COUNT", "SLURM_CLUSTER_NAME", "SLURM_JOB_NODELIST", "PBS_JOBID",
    "PBS_JOBNAME",         "PBS_ARRAY_INDEX",    "LSB_JOBID",          "LSB_JOBINDEX",
    "LSB_JOBNAME",
};

/* What JSON has no number for. */
static const char nan_text[] = "NaN";
static const char more_text[] = "Infinity";
static const char less_text[] = "-Infinity";

int as_metric_check(const char *name, as_error *e)
{
    size_t length = strlen(name);
    if (length == 0 || length > AS_LONGEST_METRIC || !as_is_line(name)) {
        return as_fail(e, AS_INVALID, 0,
                       "\"%s\" cannot be the name of a metric: it must be 1 to %d bytes of UTF-8 "
                       "without control characters",
                       name, AS_LONGEST_METRIC);
    }
    return AS_OK;
}

int as_record_job(as_record *r, as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; i < sizeof job_variables / sizeof job_variables[0]; i++) {
        const char *value = getenv(job_variables[i]);
        /* What a scheduler never says (a line break, a megabyte) is somebody's joke. */
        if (code == AS_OK && value && as_field_check(job_variables[i], value, NULL) == AS_OK) {
            code = as_fields_set(&r->job, job_variables[i], value, e);
        }
    }
    return code;
}

/* -------------------------------------------------------------------- writing */

static json_t *fields_to_json(const as_fields *f)
{
    json_t *object = json_object();
    for (size_t i = 0; object && i < f->count; i++) {
        if (json_object_set_new(object, f->items[i].name, json_string(f->items[i].value)) != 0) {
            json_decref(object);
            object = NULL;
        }
    }
    return object;
}

static json_t *metric_to_json(const as_record *r)
{
    double v = r->metric_value;
    json_t *value = isfinite(v) ? json_real(v)
                                : json_string(isnan(v) ? nan_text
                                              : v > 0  ? more_text
                                                       : less_text);
    return json_pack("{s:s,s:o}", "name", r->metric, "value", value);
}

int as_record_to_json(const as_record *r, json_t **out, as_error *e)
{
    *out = NULL;
    if (r->metric && as_metric_check(r->metric, e) != AS_OK) {
        return AS_INVALID;
    }
    if (r->step < 0 || r->world_size < 1 || !(r->save_seconds >= 0) || !isfinite(r->save_seconds) ||
        (r->parent && !as_name_is_plain(r->parent))) {
        return as_fail(e, AS_INTERNAL, 0, "the record of step %lld cannot be written",
                       (long long)r->step);
    }
    char stamp[AS_STAMP_SIZE];
    as_stamp_write(r->time_ms, stamp);
    json_t *tree =
        json_pack("{s:I,s:s,s:f,s:I}", "step", (json_int_t)r->step, "time", stamp, "save_seconds",
                  r->save_seconds, "world_size", (json_int_t)r->world_size);
    int failed = !tree;
    if (!failed && r->parent) {
        failed = json_object_set_new(tree, "parent", json_string(r->parent)) != 0;
    }
    if (!failed && r->metric) {
        failed = json_object_set_new(tree, "metric", metric_to_json(r)) != 0;
    }
    if (!failed && r->fields.count > 0) {
        failed = json_object_set_new(tree, "fields", fields_to_json(&r->fields)) != 0;
    }
    if (!failed && r->job.count > 0) {
        failed = json_object_set_new(tree, "job", fields_to_json(&r->job)) != 0;
    }
    if (failed) {
        json_decref(tree);
        return as_fail_nomem(e);
    }
    *out = tree;
    return AS_OK;
}

/* -------------------------------------------------------------------- reading */

static int bad(const char *what, const char *field, as_error *e)
{
    return as_fail(e, AS_FORMAT, 0,
                   "%s: \"%s\" of \"checkpoint\" is missing or not what it should be", what, field);
}

static bool take_count(const json_t *tree, const char *field, int64_t least, int64_t *out)
{
    const json_t *number = json_object_get(tree, field);
    *out = json_integer_value(number);
    return json_is_integer(number) && *out >= least;
}

static int take_fields(const json_t *tree, const char *member, const char *what, as_fields *out,
                       as_error *e)
{
    json_t *object = json_object_get(tree, member);
    if (!object) {
        return AS_OK;
    }
    if (!json_is_object(object)) {
        return bad(what, member, e);
    }
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        as_error own = AS_ERROR_INIT;
        int code = json_is_string(value) ? as_fields_set(out, name, json_string_value(value), &own)
                                         : AS_FORMAT;
        as_error_clear(&own);
        if (code != AS_OK) {
            return code == AS_NOMEM ? as_fail_nomem(e) : bad(what, member, e);
        }
    }
    return AS_OK;
}

static bool take_value(const json_t *value, double *out)
{
    const char *text = json_string_value(value);
    if (text) {
        *out = strcmp(text, nan_text) == 0    ? (double)NAN
               : strcmp(text, more_text) == 0 ? (double)INFINITY
                                              : -(double)INFINITY;
        return strcmp(text, nan_text) == 0 || strcmp(text, more_text) == 0 ||
               strcmp(text, less_text) == 0;
    }
    *out = json_number_value(value);
    return json_is_number(value);
}

static int take_metric(const json_t *tree, const char *what, as_record *r, as_error *e)
{
    const json_t *metric = json_object_get(tree, "metric");
    const char *name = json_string_value(json_object_get(metric, "name"));
    if (!metric) {
        return AS_OK;
    }
    if (!name || as_metric_check(name, NULL) != AS_OK ||
        !take_value(json_object_get(metric, "value"), &r->metric_value)) {
        return bad(what, "metric", e);
    }
    r->metric = strdup(name);
    return r->metric ? AS_OK : as_fail_nomem(e);
}

static int take_parent(const json_t *tree, const char *what, as_record *r, as_error *e)
{
    const json_t *parent = json_object_get(tree, "parent");
    const char *name = json_string_value(parent);
    if (!parent) {
        return AS_OK;
    }
    if (!name || !as_name_is_plain(name)) {
        return bad(what, "parent", e);
    }
    r->parent = strdup(name);
    return r->parent ? AS_OK : as_fail_nomem(e);
}

static int take_numbers(const json_t *tree, const char *what, as_record *r, as_error *e)
{
    const json_t *seconds = json_object_get(tree, "save_seconds");
    const char *time = json_string_value(json_object_get(tree, "time"));
    if (!take_count(tree, "step", 0, &r->step)) {
        return bad(what, "step", e);
    }
    if (!time || !as_stamp_read(time, &r->time_ms)) {
        return bad(what, "time", e);
    }
    r->save_seconds = json_number_value(seconds);
    if (!json_is_number(seconds) || !(r->save_seconds >= 0)) {
        return bad(what, "save_seconds", e);
    }
    return take_count(tree, "world_size", 1, &r->world_size) ? AS_OK : bad(what, "world_size", e);
}

int as_record_from_json(const json_t *tree, const char *what, as_record *out, as_error *e)
{
    as_record r = AS_RECORD_INIT;
    int code = json_is_object(tree)
                   ? take_numbers(tree, what, &r, e)
                   : as_fail(e, AS_FORMAT, 0, "%s: \"checkpoint\" is no object", what);
    code = code == AS_OK ? take_parent(tree, what, &r, e) : code;
    code = code == AS_OK ? take_metric(tree, what, &r, e) : code;
    code = code == AS_OK ? take_fields(tree, "fields", what, &r.fields, e) : code;
    code = code == AS_OK ? take_fields(tree, "job", what, &r.job, e) : code;
    if (code != AS_OK) {
        as_record_free(&r);
        return code;
    }
    *out = r;
    return AS_OK;
}

void as_record_free(as_record *r)
{
    free(r->parent);
    free(r->metric);
    as_fields_free(&r->fields);
    as_fields_free(&r->job);
    *r = AS_RECORD_INIT;
}
