/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/findings.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void free_finding(as_finding *x)
{
    free(x->file);
    free(x->tensor);
    free(x->text);
    json_decref(x->more);
}

static int make_room(as_findings *f, as_error *e)
{
    if (f->count < f->capacity) {
        return AS_OK;
    }
    size_t capacity = f->capacity ? 2 * f->capacity : 16;
    as_finding *grown = realloc(f->items, capacity * sizeof *grown);
    if (!grown) {
        return as_fail_nomem(e);
    }
    f->items = grown;
    f->capacity = capacity;
    return AS_OK;
}

static int add(as_findings *f, as_error *e, bool is_fault, const char *file, const char *tensor,
               const char *text)
{
    if (!text || make_room(f, e) != AS_OK) {
        return as_fail_nomem(e);
    }
    as_finding *x = &f->items[f->count];
    *x = (as_finding){.is_fault = is_fault, .file = strdup(file), .text = strdup(text)};
    x->tensor = tensor ? strdup(tensor) : NULL;
    if (!x->file || !x->text || (tensor && !x->tensor)) {
        free_finding(x);
        return as_fail_nomem(e);
    }
    if (is_fault && as_name_map_add(&f->faulty, x->file, 0, e) != AS_OK) {
        free_finding(x);
        return AS_NOMEM;
    }
    f->count++;
    f->faults += is_fault;
    f->warnings += !is_fault;
    return AS_OK;
}

static char *print(const char *format, va_list arguments)
{
    char *text = NULL;
    return vasprintf(&text, format, arguments) < 0 ? NULL : text;
}

int as_findings_fault(as_findings *f, as_error *e, const char *file, const char *tensor,
                      const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text = print(format, arguments);
    va_end(arguments);
    int code = add(f, e, true, file, tensor, text);
    free(text);
    return code;
}

int as_findings_warn(as_findings *f, as_error *e, const char *file, const char *tensor,
                     const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text = print(format, arguments);
    va_end(arguments);
    int code = add(f, e, false, file, tensor, text);
    free(text);
    return code;
}

static const char *without_file(const char *text, const char *file)
{
    size_t length = strlen(file);
    bool has = strncmp(text, file, length) == 0 && strncmp(text + length, ": ", 2) == 0;
    return has ? text + length + 2 : text;
}

/* The name in `tensor "…"` that a text begins with, as it is quoted there; NULL if it does not
 * begin so. Heap. */
static char *tensor_of(const char *text)
{
    static const char begin[] = "tensor \"";
    if (strncmp(text, begin, sizeof begin - 1) != 0) {
        return NULL;
    }
    const char *name = text + sizeof begin - 1;
    const char *end = name;
    while (*end && *end != '"') {
        end += end[0] == '\\' && end[1] ? 2 : 1;
    }
    return strndup(name, (size_t)(end - name));
}

int as_findings_take(as_findings *f, as_error *e, const char *file, const as_error *why)
{
    const char *text = without_file(as_error_text(why), file);
    char *tensor = tensor_of(text);
    int code = add(f, e, true, file, tensor, text);
    free(tensor);
    return code;
}

int as_findings_more(as_findings *f, json_t *more, as_error *e)
{
    f->items[f->count - 1].more = more;
    return more ? AS_OK : as_fail_nomem(e);
}

bool as_findings_has_fault(const as_findings *f, const char *file)
{
    return as_name_map_find(&f->faulty, file, NULL);
}

static void take_warning(int level, const char *text, void *user)
{
    as_findings_log *l = user;
    if (level <= AS_LOG_WARNING) {
        text = without_file(text, l->file);
        char *tensor = tensor_of(text);
        (void)add(l->findings, l->e, false, l->file, tensor, text);
        free(tensor);
    }
}

as_log as_findings_as_log(as_findings_log *l)
{
    return (as_log){.call = take_warning, .user = l};
}

void as_findings_free(as_findings *f)
{
    for (size_t i = 0; i < f->count; i++) {
        free_finding(&f->items[i]);
    }
    free(f->items);
    as_name_map_free(&f->faulty);
    *f = AS_FINDINGS_INIT;
}
