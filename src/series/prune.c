/* SPDX-License-Identifier: Apache-2.0 */
#include "series/prune.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

static bool is_in(const as_names *names, const char *name)
{
    for (size_t i = 0; names && i < names->count; i++) {
        if (strcmp(names->items[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static as_kept_one look_at(const as_member *m, const as_names *in_use)
{
    const as_record *record = m->has_record ? &m->record : NULL;
    return (as_kept_one){
        .step = m->step,
        .time_ms = m->time_ms,
        .good = m->state == AS_MEMBER_GOOD,
        .tagged = m->tags.count > 0 || m->tags_unknown,
        .in_use = is_in(in_use, m->name),
        .metric = record ? record->metric : NULL,
        .metric_value = record ? record->metric_value : 0,
    };
}

static int note_going(as_prune *out, const as_members *members, as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; i < members->count && code == AS_OK; i++) {
        if (out->reasons[i] == 0) {
            code = as_names_add(&out->going, members->items[i].name, e);
            if (!as_add_i64(out->bytes, members->items[i].bytes, &out->bytes)) {
                out->bytes = INT64_MAX; /* sparse files may claim more than there is */
            }
        }
    }
    return code;
}

int as_prune_plan(as_prune *out, const as_members *members, const as_keep_rules *rules,
                  const as_names *in_use, int64_t now_ms, as_error *e)
{
    *out = AS_PRUNE_INIT;
    size_t count = members->count;
    as_kept_one *items = calloc(count + 1, sizeof *items);
    out->reasons = calloc(count + 1, sizeof *out->reasons);
    out->count = count;
    if (!items || !out->reasons) {
        free(items);
        as_prune_free(out);
        return as_fail_nomem(e);
    }
    for (size_t i = 0; i < count; i++) {
        items[i] = look_at(&members->items[i], in_use);
    }
    as_retention(rules, items, count, now_ms, out->reasons);
    for (size_t i = 0; i < count; i++) {
        out->reasons[i] |= members->items[i].has_record ? 0 : AS_KEEP_FOREIGN;
    }
    int code = note_going(out, members, e);
    free(items);
    if (code != AS_OK) {
        as_prune_free(out);
    }
    return code;
}

int as_prune_words(uint32_t reasons, as_buffer *out, as_error *e)
{
    static const struct {
        enum as_keep_reason bit;
        const char *word;
    } words[] = {
        {AS_KEEP_NEWEST, "newest good"},
        {AS_KEEP_DAMAGED, "damaged"},
        {AS_KEEP_UNKNOWN, "step unknown"},
        {AS_KEEP_TAGGED, "tagged"},
        {AS_KEEP_IN_USE, "in use"},
        {AS_KEEP_LAST, "last"},
        {AS_KEEP_EVERY, "every"},
        {AS_KEEP_BEST, "best"},
        {AS_KEEP_YOUNG, "young"},
        {AS_KEEP_FOREIGN, "not of a series"},
        {AS_KEEP_FIXED, "may not be moved"},
        {AS_KEEP_NO_RULE, "no rule"},
    };
    if (reasons == 0) {
        return as_buffer_format(out, e, "goes");
    }
    const char *comma = "";
    int code = AS_OK;
    for (size_t i = 0; i < sizeof words / sizeof *words && code == AS_OK; i++) {
        if (reasons & words[i].bit) {
            code = as_buffer_format(out, e, "%s%s", comma, words[i].word);
            comma = ", ";
        }
    }
    return code;
}

void as_prune_free(as_prune *p)
{
    free(p->reasons);
    as_names_free(&p->going);
    *p = AS_PRUNE_INIT;
}
