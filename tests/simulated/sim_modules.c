/* SPDX-License-Identifier: Apache-2.0
 * Modules of the simulated driver: what a launch runs is a C function that a test has told for the
 * name of the kernel. PTX is looked at for its names, and never run.
 */
#include "sim_state.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_KERNELS = 16, MOST_PARAMETERS = 32, ALIGNED = 16 };

static sim_function kernels[MOST_KERNELS];
static int kernel_count;

void sim_kernel(const char *name, sim_body body, const size_t *bytes, int parameters)
{
    sim_lock();
    int i = 0;
    while (i < kernel_count && strcmp(kernels[i].name, name) != 0) {
        i++;
    }
    if (i == MOST_KERNELS || parameters < 0 || parameters > MOST_PARAMETERS) {
        (void)fprintf(stderr, "simulated CUDA: too many kernels, or parameters of %s\n", name);
        abort();
    }
    kernel_count += i == kernel_count;
    kernels[i] = (sim_function){.body = body, .parameters = parameters};
    (void)snprintf(kernels[i].name, sizeof kernels[i].name, "%s", name);
    for (int k = 0; k < parameters; k++) {
        kernels[i].bytes[k] = bytes[k];
    }
    sim_unlock();
}

/* The first character that is neither space nor of a comment. */
static const char *skip(const char *s)
{
    for (;;) {
        while (isspace((unsigned char)*s)) {
            s++;
        }
        if (s[0] != '/' || s[1] != '/') {
            return s;
        }
        s += strcspn(s, "\n");
    }
}

static bool is_ptx(const char *text)
{
    return strncmp(text, ".version", 8) == 0;
}

static int load(as_cu_module *out, const char *image)
{
    const char *text = skip(image);
    if (!is_ptx(text) && strcmp(text, SIM_MODULE_IMAGE) != 0) {
        return SIM_NOTE(SIM_INVALID_IMAGE, "cuModuleLoadData: neither PTX nor the marker");
    }
    sim_module *m = sim_new(SIM_MODULE, sizeof *m, sim_current());
    if (!m || !(m->text = strdup(text))) {
        if (m) {
            m->object.dead = true;
        }
        return AS_CU_OUT_OF_MEMORY;
    }
    *out = m->object.handle;
    return 0;
}

as_cu_result cu_module_load(as_cu_module *out, const void *image)
{
    int code = sim_enter("cuModuleLoadData", SIM_CURRENT);
    return sim_leave(code ? code : load(out, image));
}

static bool is_running(const sim_module *m)
{
    for (size_t i = 0; i < sim_object_count(SIM_STREAM); i++) {
        const sim_stream *s = sim_object_at(SIM_STREAM, i);
        for (const sim_op *op = s->first; op; op = op->next) {
            if (op->act == SIM_ACT_LAUNCH && op->launch.function->module == m) {
                return true;
            }
        }
    }
    return false;
}

static int unload(as_cu_module module)
{
    void *found = NULL;
    int code = sim_use(SIM_MODULE, module, "cuModuleUnload", &found);
    if (code) {
        return code;
    }
    sim_module *m = found;
    if (is_running(m)) {
        sim_note_rule("cuModuleUnload: while a kernel of it is under way");
        sim_wait_context(m->object.context);
    }
    m->object.dead = true;
    free(m->text);
    m->text = NULL;
    return 0;
}

as_cu_result cu_module_unload(as_cu_module module)
{
    int told = sim_enter("cuModuleUnload", SIM_CURRENT);
    int code = sim_current() ? unload(module) : 0;
    return sim_leave(told ? told : code);
}

static bool has_entry(const char *ptx, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = strstr(ptx, ".entry"); at; at = strstr(at + 1, ".entry")) {
        const char *found = skip(at + strlen(".entry"));
        if (strncmp(found, name, n) == 0 && !isalnum((unsigned char)found[n]) && found[n] != '_') {
            return true;
        }
    }
    return false;
}

static int get_function(as_cu_function *out, as_cu_module module, const char *name)
{
    void *found = NULL;
    int code = sim_use(SIM_MODULE, module, "cuModuleGetFunction", &found);
    if (code) {
        return code;
    }
    const sim_module *m = found;
    int i = 0;
    while (i < kernel_count && strcmp(kernels[i].name, name) != 0) {
        i++;
    }
    if (i == kernel_count || (is_ptx(m->text) && !has_entry(m->text, name))) {
        return SIM_NOT_FOUND;
    }
    sim_function *f = sim_new(SIM_FUNCTION, sizeof *f, sim_current());
    if (!f) {
        return AS_CU_OUT_OF_MEMORY;
    }
    sim_object object = f->object;
    *f = kernels[i];
    f->object = object;
    f->module = m;
    *out = f->object.handle;
    return 0;
}

as_cu_result cu_module_function(as_cu_function *out, as_cu_module module, const char *name)
{
    int code = sim_enter("cuModuleGetFunction", SIM_CURRENT);
    return sim_leave(code ? code : get_function(out, module, name));
}

/* The pointers and, behind them, what they point to now. NULL: no memory. */
static void **copy_parameters(const sim_function *f, void **parameters)
{
    size_t bytes = sizeof(void *) * MOST_PARAMETERS;
    for (int i = 0; i < f->parameters; i++) {
        bytes += (f->bytes[i] + ALIGNED - 1) / ALIGNED * ALIGNED;
    }
    void **copy = calloc(1, bytes);
    char *at = (char *)copy + sizeof(void *) * MOST_PARAMETERS;
    for (int i = 0; copy && i < f->parameters; i++) {
        copy[i] = memcpy(at, parameters[i], f->bytes[i]);
        at += (f->bytes[i] + ALIGNED - 1) / ALIGNED * ALIGNED;
    }
    return copy;
}

static int launch(as_cu_function function, sim_launch *l, as_cu_stream stream, void **parameters)
{
    static const char *const call = "cuLaunchKernel";
    void *found = NULL;
    sim_stream *s = NULL;
    int code = sim_use(SIM_FUNCTION, function, call, &found);
    code = code ? code : sim_use_stream(stream, call, &s);
    if (code) {
        return code;
    }
    l->function = found;
    if (l->function->module->object.dead) {
        return SIM_NOTE(SIM_INVALID_HANDLE, "%s: the module of %s was unloaded", call,
                        l->function->name);
    }
    if (!parameters && l->function->parameters > 0) {
        return SIM_NOTE(AS_CU_INVALID_VALUE, "%s: %s without parameters", call, l->function->name);
    }
    l->parameters = copy_parameters(l->function, parameters);
    if (!l->parameters) {
        return AS_CU_OUT_OF_MEMORY;
    }
    if (!sim_ask(&(sim_op){.act = SIM_ACT_LAUNCH, .call = call, .launch = *l}, s)) {
        free(l->parameters);
        return AS_CU_OUT_OF_MEMORY;
    }
    return 0;
}

as_cu_result cu_launch(as_cu_function function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                       unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                       as_cu_stream stream, void **parameters, void **extra)
{
    int code = sim_enter("cuLaunchKernel", SIM_CURRENT);
    bool fits = grid_x > 0 && grid_x <= 2147483647 && block_x > 0 && block_x <= 1024;
    bool flat = grid_y == 1 && grid_z == 1 && block_y == 1 && block_z == 1;
    if (!code && (!fits || !flat || shared_bytes > 49152 || extra)) {
        code = SIM_NOTE(AS_CU_INVALID_VALUE, "cuLaunchKernel: grid %u %u %u, block %u %u %u",
                        grid_x, grid_y, grid_z, block_x, block_y, block_z);
    }
    sim_launch l = {.grid_x = grid_x, .block_x = block_x};
    return sim_leave(code ? code : launch(function, &l, stream, parameters));
}

int sim_run_launch(const sim_op *op)
{
    const sim_launch *l = &op->launch;
    sim_translate_begin(op->stream->object.context->device);
    sim_unlock();
    for (unsigned b = 0; b < l->grid_x; b++) {
        for (unsigned t = 0; t < l->block_x; t++) {
            l->function->body(l->parameters, l->grid_x, l->block_x, b, t);
        }
    }
    sim_lock();
    return sim_translate_failed();
}
