/* SPDX-License-Identifier: Apache-2.0 */
#include "support_simulated.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device/cuda_kernel.h"

static void *library;

/* A function's address, into a pointer to such a function. */
static void look_up(void *member, const char *symbol)
{
    void *found = dlsym(library, symbol);
    if (!found) {
        (void)fprintf(stderr, "libcuda.so.1 has no %s; is it the simulated one?\n", symbol);
        exit(1);
    }
    memcpy(member, &found, sizeof found);
}

const sim_library *simulated(void)
{
    static sim_library sim;
    if (library) {
        return &sim;
    }
    library = dlopen("libcuda.so.1", RTLD_NOW);
    if (!library) {
        (void)fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    if (!as_kernel_image) { /* the simulation has the kernel in any case */
        as_kernel_image = SIM_MODULE_IMAGE;
    }
#define LOOK_UP(member, symbol, parameters) look_up(&sim.cuda.member, symbol);
    AS_CUDA_FUNCTIONS(LOOK_UP)
#undef LOOK_UP
#define LOOK_UP(member, symbol, parameters) look_up(&sim.member, symbol);
    SIM_MORE_FUNCTIONS(LOOK_UP)
#undef LOOK_UP
#define LOOK_UP(member, function) look_up(&sim.member, #function);
    SIM_CONTROLS(LOOK_UP)
#undef LOOK_UP
    return &sim;
}
