/* SPDX-License-Identifier: Apache-2.0
 * The simulated driver's beginning, and its devices.
 */
#include "sim_state.h"

#include <stdio.h>

as_cu_result cu_init(unsigned flags)
{
    int code = sim_enter("cuInit", SIM_BEFORE);
    if (!code && flags) {
        code = AS_CU_INVALID_VALUE;
    }
    if (!code && sim_device_count() == 0) {
        code = AS_CU_NO_DEVICE;
    }
    if (!code && !sim_is_initialised()) {
        code = sim_start_worker();
        if (!code) {
            sim_set_initialised();
        }
    }
    return sim_leave(code);
}

as_cu_result cu_driver_version(int *version)
{
    int code = sim_enter("cuDriverGetVersion", SIM_BEFORE);
    if (!code) {
        *version = 12080;
    }
    return sim_leave(code);
}

as_cu_result cu_device_count(int *count)
{
    int code = sim_enter("cuDeviceGetCount", SIM_INIT);
    if (!code) {
        *count = sim_device_count();
    }
    return sim_leave(code);
}

static int known(as_cu_device device)
{
    return device >= 0 && device < sim_device_count() ? 0 : SIM_INVALID_DEVICE;
}

as_cu_result cu_device_get(as_cu_device *device, int ordinal)
{
    int code = sim_enter("cuDeviceGet", SIM_INIT);
    code = code ? code : known(ordinal);
    if (!code) {
        *device = ordinal;
    }
    return sim_leave(code);
}

as_cu_result cu_device_name(char *name, int length, as_cu_device device)
{
    int code = sim_enter("cuDeviceGetName", SIM_INIT);
    code = code ? code : known(device);
    if (!code && length <= 0) {
        code = AS_CU_INVALID_VALUE;
    }
    if (!code) {
        (void)snprintf(name, (size_t)length, "Simulated device %d", device);
    }
    return sim_leave(code);
}

as_cu_result cu_device_total(size_t *bytes, as_cu_device device)
{
    int code = sim_enter("cuDeviceTotalMem", SIM_INIT);
    code = code ? code : known(device);
    if (!code) {
        *bytes = SIM_DEVICE_BYTES;
    }
    return sim_leave(code);
}

static int attribute_of(int attribute, as_cu_device device, int *value)
{
    switch (attribute) {
    case AS_CU_DEVICE_MAX_PITCH:
        *value = SIM_MAX_PITCH;
        return 0;
    case AS_CU_DEVICE_MULTIPROCESSORS:
        *value = 4;
        return 0;
    case AS_CU_DEVICE_PCI_BUS:
        *value = device + 1;
        return 0;
    case AS_CU_DEVICE_PCI_DEVICE:
    case AS_CU_DEVICE_PCI_DOMAIN:
    case AS_CU_DEVICE_MINOR:
    case AS_CU_DEVICE_GPU_DIRECT_RDMA:
        *value = 0;
        return 0;
    case AS_CU_DEVICE_MAJOR:
        *value = 9;
        return 0;
    default:
        return AS_CU_INVALID_VALUE;
    }
}

as_cu_result cu_device_attribute(int *value, int attribute, as_cu_device device)
{
    int code = sim_enter("cuDeviceGetAttribute", SIM_INIT);
    code = code ? code : known(device);
    if (!code && sim_device_attribute(attribute, value) != 0) {
        code = attribute_of(attribute, device, value);
    }
    return sim_leave(code);
}
