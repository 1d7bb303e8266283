/* SPDX-License-Identifier: Apache-2.0 */
#include "io/gds_area.h"

int as_gds_area_open(as_gds_area *a, const as_cufile *cufile, const as_cuda *cuda, size_t bytes,
                     as_error *e)
{
    *a = (as_gds_area){.bytes = bytes};
    as_cu_result r = cuda->memory_alloc(&a->allocation, bytes + AS_GDS_BASE);
    if (r) {
        *a = (as_gds_area){0};
        return as_cuda_fail(e, cuda, "cuMemAlloc", r, "%zu bytes", bytes + AS_GDS_BASE);
    }
    a->base = (a->allocation + AS_GDS_BASE - 1) / AS_GDS_BASE * AS_GDS_BASE;
    as_cufile_error registered = cufile->buffer_register(as_gds_pointer(a->base), bytes, 0);
    if (registered.code == AS_CUFILE_MEMORY_ALREADY_REGISTERED) {
        /* It was allocated just now: that is of earlier memory, which went with its context. */
        (void)cufile->buffer_deregister(as_gds_pointer(a->base));
        registered = cufile->buffer_register(as_gds_pointer(a->base), bytes, 0);
    }
    if (registered.code) {
        (void)cuda->memory_free(a->allocation);
        *a = (as_gds_area){0};
        return as_cufile_fail(e, cuda, "cuFileBufRegister", registered, "%zu bytes", bytes);
    }
    return AS_OK;
}

void as_gds_area_close(as_gds_area *a, const as_cufile *cufile, const as_cuda *cuda)
{
    if (a->allocation) {
        (void)cufile->buffer_deregister(as_gds_pointer(a->base));
        (void)cuda->memory_free(a->allocation);
    }
    *a = (as_gds_area){0};
}
