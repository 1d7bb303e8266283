/* SPDX-License-Identifier: Apache-2.0
 * Missing and unexpected names, and from there to the regions of what is read.
 */
#include <stdlib.h>
#include <string.h>

#include "base/quote.h"
#include "plan/load_steps.h"

int as_load_tell_names(as_planner *p, as_mail *mail, as_error *e)
{
    as_words w = as_words_of(mail->in.data, mail->in.size);
    const int64_t *ask;
    int code = AS_OK;
    while (code == AS_OK && (ask = as_words_take(&w, 2))) {
        const char *name = as_planner_name(p, ask[1]);
        code = as_words_put(&mail->out[0], ask, 1, e);
        if (code == AS_OK) {
            code = as_words_put_bytes(&mail->out[0], name, strlen(name) + 1, e);
        }
    }
    return code;
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Pointers to names → the names themselves, sorted, each once. */
static int sort_names(as_buffer *pointers, as_buffer *out, as_error *e)
{
    const char **names = (const char **)(void *)pointers->data;
    size_t count = pointers->size / sizeof *names;
    if (count) {
        qsort(names, count, sizeof *names, compare_strings);
    }
    int code = AS_OK;
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        if (i == 0 || strcmp(names[i - 1], names[i]) != 0) {
            code = as_buffer_append(out, names[i], strlen(names[i]) + 1, e);
        }
    }
    return code;
}

static void put_list(as_buffer *text, const char *title, const as_buffer *names)
{
    const char *end = names->data + names->size;
    const char *joint = "";
    if (names->size) {
        (void)as_buffer_format(text, NULL, "%s%s: ", text->size ? "; " : "", title);
    }
    for (const char *name = names->data; names->size && name < end; name += strlen(name) + 1) {
        (void)as_buffer_format(text, NULL, "%s%s", joint, as_quote(name, strlen(name)).text);
        joint = ", ";
    }
}

/* Strict unless the caller allows otherwise. */
static int judge(const as_planner *p, as_error *e)
{
    bool missing = p->missing.size && !p->load->allow_missing;
    bool unexpected = p->unexpected.size && !p->load->allow_unexpected;
    if (!missing && !unexpected) {
        return AS_OK;
    }
    as_buffer text = AS_BUFFER_INIT;
    if (missing) {
        put_list(&text, "declared, but missing in the checkpoint", &p->missing);
    }
    if (unexpected) {
        put_list(&text, "in the checkpoint, but declared by no rank", &p->unexpected);
    }
    const char *string = as_buffer_string(&text);
    int code = as_fail(e, AS_NAMES, 0, "%s", string ? string : "names are missing or unexpected");
    as_buffer_free(&text);
    return code;
}

int as_load_sizes(as_planner *p, as_mail *mail, as_error *e)
{
    as_buffer missing = AS_BUFFER_INIT;
    as_buffer unexpected = AS_BUFFER_INIT;
    as_words w = as_words_of(mail->in.data, mail->in.size);
    const int64_t *is_missing;
    int code = AS_OK;
    while (code == AS_OK && (is_missing = as_words_take(&w, 1))) {
        size_t length;
        const char *name = as_words_take_bytes(&w, &length);
        code = name ? as_buffer_append(*is_missing ? &missing : &unexpected, &name, sizeof name, e)
                    : as_fail(e, AS_INTERNAL, 0, "a message with a tensor name is cut off");
    }
    if (code == AS_OK) {
        code = sort_names(&missing, &p->missing, e);
    }
    if (code == AS_OK) {
        code = sort_names(&unexpected, &p->unexpected, e);
    }
    as_buffer_free(&missing);
    as_buffer_free(&unexpected);
    if (code == AS_OK) {
        code = judge(p, e);
    }
    for (size_t i = 0; i < p->load->read_count && code == AS_OK; i++) {
        code = as_planner_share_size(mail, p->load->files[i].file,
                                     (int64_t)p->load->files[i].table.file_size, e);
    }
    return code;
}

int as_load_regions(as_planner *p, as_mail *mail, as_error *e)
{
    int code = as_planner_take_sizes(p, mail, e);
    for (size_t i = 0; i < as_catalog_count(&p->catalog) && code == AS_OK; i++) {
        const as_owned *t = as_catalog_tensor(&p->catalog, i);
        if (t->file >= 0) {
            code = as_regions_add(&p->schedule.regions, &p->catalog, i, false, &p->fault, e);
        }
    }
    return code == AS_OK ? as_schedule_ask(&p->schedule, mail, e) : code;
}
