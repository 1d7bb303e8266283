/* SPDX-License-Identifier: Apache-2.0
 * The parts of the safetensors format that its reader and its tests share.
 */
#ifndef ALLSHARD_FORMAT_SAFETENSORS_H
#define ALLSHARD_FORMAT_SAFETENSORS_H

#include "base/json_pull.h"
#include "format/format.h"

/* Longest header, in bytes: the reference reader's and writer's limit. */
#define AS_SAFETENSORS_LONGEST_HEADER UINT64_C(100000000)

/* The key that is metadata and can be no tensor's name. */
#define AS_SAFETENSORS_METADATA "__metadata__"

/* The reference reader's verdicts (its SafeTensorError), in the order of its checks. */
#define AS_SAFETENSORS_VERDICTS(X)                                                                 \
    X(OK, OK)                                                                                      \
    X(HEADER_TOO_SMALL, HeaderTooSmall)                                                            \
    X(HEADER_TOO_LARGE, HeaderTooLarge)                                                            \
    X(HEADER_LENGTH, InvalidHeaderLength)                                                          \
    X(HEADER, InvalidHeader)                                                                       \
    X(DESERIALIZATION, InvalidHeaderDeserialization)                                               \
    X(OFFSET, InvalidOffset)                                                                       \
    X(OVERFLOW, ValidationOverflow)                                                                \
    X(MISALIGNED, MisalignedSlice)                                                                 \
    X(INFO, TensorInvalidInfo)                                                                     \
    X(INCOMPLETE, MetadataIncompleteBuffer)                                                        \
    X(FAILED, Failed) /* none of the reference's: the file could not be read, or memory ran out */

enum as_safetensors_verdict {
#define AS_SAFETENSORS_ENUM(name, text) AS_SAFETENSORS_##name,
    AS_SAFETENSORS_VERDICTS(AS_SAFETENSORS_ENUM)
#undef AS_SAFETENSORS_ENUM
};

/* "InvalidOffset" for AS_SAFETENSORS_OFFSET. */
const char *as_safetensors_verdict_name(int verdict);

/* as_format_safetensors.read, which also gives the verdict. */
int as_safetensors_read(const as_source *source, as_table *out, const as_log *log, int *verdict,
                        as_error *e);

/* The header's JSON → entries in the order of the header, offsets as they stand there, names and
 * metadata keys not yet unique. AS_FORMAT without the file's name in the text. */
int as_safetensors_parse(as_json *json, as_table *out, as_error *e);

/* as_format_safetensors.layout. */
int as_safetensors_layout(as_format_tensor *tensors, size_t count, const as_pairs *metadata,
                          int64_t align, as_file_layout *out, as_error *e);

#endif
