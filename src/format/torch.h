/* SPDX-License-Identifier: Apache-2.0
 * Files of torch.save: a state dict as a zip file (torch 1.6 and later), or in the form before
 * that, which is read only. docs/formats.md tells what of them is read, refused and written.
 */
#ifndef ALLSHARD_FORMAT_TORCH_H
#define ALLSHARD_FORMAT_TORCH_H

#include "format/format.h"
#include "format/pickle_read.h"
#include "format/table.h"

/* ---- reading ---- */

/* as_format.read: entries are views of storages (table.h). Nested dicts and lists are one name,
 * with dots ("state.0.exp_avg"); strings, numbers and booleans are metadata, as text. The order of
 * the dict is that of the names in as_table.names. AS_FORMAT, AS_LIMIT, AS_CORRUPT (a CRC of the
 * pickle), with the reason. */
int as_torch_read(const as_source *source, as_table *out, const as_log *log, as_error *e);

/* The parts of it. Ranges: where the storages of the pickle lie, as many as it has. */
int as_torch_read_zip(const as_source *source, as_table *out, const as_log *log, as_error *e);
int as_torch_read_legacy(const as_source *source, as_table *out, const as_log *log, as_error *e);
int as_torch_table(const as_pickle *p, const as_pickle_value *root, const as_storage *ranges,
                   as_table *out, const as_log *log, as_error *e);

/* ---- writing ---- */

enum as_torch_version {
    AS_TORCH_NEWEST,
    AS_TORCH_1_6, /* 1.6 to 2.0: data.pkl, data/ sorted as strings, version */
    AS_TORCH_2_1, /* 2.1 to 2.6: a byteorder record and a serialization id besides */
    AS_TORCH_2_7, /* 2.7 on (looked at until 2.15): two more records, data/ in order of use */
};

/* Memory that one or more tensors are views of. It is written whole, once. */
typedef struct as_torch_storage {
    uint64_t bytes;
    uint64_t offset; /* out: first byte, counted from the start of the file */
} as_torch_storage;

/* Names, shapes and strides are borrowed. */
typedef struct as_torch_tensor {
    const char *name;
    size_t name_length;
    const uint64_t *shape;   /* ndim dimensions, in elements of the dtype */
    const uint64_t *strides; /* elements; NULL: C order */
    int ndim;
    int dtype;
    size_t storage;
    uint64_t first;  /* of the storage's elements that is its first one */
    bool parameter;  /* a torch.nn.Parameter, as a dict of parameters has them */
    bool needs_grad; /* requires_grad */
} as_torch_tensor;

/* A module's version, as nn.Module.state_dict() has it in _metadata. */
typedef struct as_torch_module {
    const char *name;
    size_t name_length;
    int64_t version;
} as_torch_module;

/* Zeros are what huggingface_hub writes with the newest torch: a plain dict. */
typedef struct as_torch_options {
    int version;         /* enum as_torch_version */
    const char *archive; /* the folder in the zip, see as_torch_archive; NULL: "archive" */
    bool ordered;        /* an OrderedDict in place of a dict */
    const as_torch_module *modules; /* of an OrderedDict: its _metadata; NULL: it has none */
    size_t module_count;
} as_torch_options;

/* Lays out a new file: the tensors' dict in this order. Storages are numbered by first use, as
 * torch does. CRCs of storages are late literals. AS_INVALID for a tensor that torch could not save
 * so (a name twice or not UTF-8, two dtypes on one storage, elements beyond it, a storage without
 * tensors, a dtype that the version does not have); AS_LIMIT. Then *out holds nothing. */
int as_torch_layout(const as_torch_tensor *tensors, size_t count, as_torch_storage *storages,
                    size_t storage_count, const as_torch_options *options, as_file_layout *out,
                    as_error *e);

/* *out (heap, the caller's): the folder that torch.save gives the records of a file at that path:
 * its base name without the last extension; "archive" if that is empty or the path is not ASCII. */
int as_torch_archive(const char *path, char **out, as_error *e);

/* data.pkl of as_torch_layout → *out (appended); keys[i]: the storage that is number i, as many as
 * there are. */
int as_torch_pickle(const as_torch_tensor *tensors, size_t count, const as_torch_storage *storages,
                    size_t storage_count, const as_torch_options *options, size_t *keys,
                    as_buffer *out, as_error *e);

#endif
