/* SPDX-License-Identifier: Apache-2.0
 * What launches of the pack kernel run in the simulation: the kernel's own body, compiled for the
 * host. Its PTX is not run.
 */
#include "sim_state.h"

#include <string.h>

#define AS_PACK_LOAD(type, at)                                                                     \
    (__extension__({                                                                               \
        type loaded;                                                                               \
        memcpy(&loaded, sim_translate((at), sizeof loaded), sizeof loaded);                        \
        loaded;                                                                                    \
    }))
#define AS_PACK_STORE(type, at, value)                                                             \
    (__extension__({                                                                               \
        type stored = (value);                                                                     \
        memcpy(sim_translate((at), sizeof stored), &stored, sizeof stored);                        \
    }))

#include "device/pack_body.h"

static void pack(void **parameters, unsigned grid_x, unsigned block_x, unsigned block,
                 unsigned thread)
{
    (void)grid_x;
    as_pack_thread(parameters[0], block * block_x + thread);
}

static void unpack(void **parameters, unsigned grid_x, unsigned block_x, unsigned block,
                   unsigned thread)
{
    (void)grid_x;
    as_unpack_thread(parameters[0], block * block_x + thread);
}

__attribute__((constructor)) static void tell_of_them(void)
{
    static const size_t bytes = sizeof(as_pack_args);
    sim_kernel("as_pack", pack, &bytes, 1);
    sim_kernel("as_unpack", unpack, &bytes, 1);
}
