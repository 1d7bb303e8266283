/* SPDX-License-Identifier: Apache-2.0 */
#include "format/safetensors.h"

static int read(const as_source *source, as_table *out, const as_log *log, as_error *e)
{
    int verdict;
    return as_safetensors_read(source, out, log, &verdict, e);
}

const as_format as_format_safetensors = {
    .name = "safetensors",
    .extension = ".safetensors",
    .layout = as_safetensors_layout,
    .read = read,
};
