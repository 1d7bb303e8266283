/* SPDX-License-Identifier: Apache-2.0
 * Fuzzes the reader of torch's files. The first byte says what the rest is: a whole file, or (with
 * P) a pickle, around which a zip file with storages is made, so that the fuzzer need not find
 * CRCs. What is accepted lies in the file, and is read again the same when our writer has written
 * it.
 */
#include "base/checked.h"
#include "base/crc32.h"
#include "format/torch.h"
#include "format/zip_write.h"
#include "fuzz.h"
#include "tensor/dtype.h"

enum { STORAGES = 4, MOST = 256 };

static const uint64_t storage_bytes[STORAGES] = {24, 0, 64, 8};

static void check_entry(const as_table *t, size_t i, uint64_t file_size)
{
    const as_entry *x = as_table_entry(t, i);
    as_storage s = as_table_storage(t, i);
    const uint64_t *shape = as_table_shape(t, i);
    const uint64_t *strides = as_table_strides(t, i);
    uint64_t numel;
    MUST(as_dtype_valid(x->dtype) && as_shape_numel(shape, (int)x->ndim, &numel));
    MUST(s.begin <= s.end && s.end <= file_size);
    MUST(x->begin >= s.begin && x->begin <= x->end && x->end <= s.end);
    MUST(as_table_name(t, i)[x->name_length] == '\0');
    /* The last element, by shape and strides. */
    uint64_t last = 0;
    for (uint32_t d = 0; d < x->ndim && numel > 0; d++) {
        uint64_t step;
        MUST(as_mul_u64(shape[d] - 1, strides[d], &step) && as_add_u64(last, step, &last));
    }
    uint64_t bytes;
    bool whole;
    MUST(as_dtype_bytes(x->dtype, numel > 0 ? last + 1 : 0, &bytes, &whole) && whole);
    MUST(bytes == x->end - x->begin);
}

/* Lays out what was read, as the views that it is. */
static void write_again(const as_table *t)
{
    size_t count = as_table_count(t);
    size_t storage_count = t->storages.size / sizeof(as_storage);
    as_torch_tensor *tensors = calloc(count + 1, sizeof *tensors);
    as_torch_storage *storages = calloc(storage_count + 1, sizeof *storages);
    MUST(tensors && storages);
    for (size_t i = 0; i < count; i++) {
        const as_entry *x = as_table_entry(t, i);
        as_storage s = as_table_storage(t, i);
        uint64_t unit = (uint64_t)as_dtype_group_bytes(x->dtype);
        tensors[i] = (as_torch_tensor){.name = as_table_name(t, i),
                                       .name_length = x->name_length,
                                       .shape = as_table_shape(t, i),
                                       .strides = x->dtype == AS_F4 ? NULL : as_table_strides(t, i),
                                       .ndim = (int)x->ndim,
                                       .dtype = x->dtype,
                                       .storage = ((const uint32_t *)(void *)t->storage_of.data)[i],
                                       .first = (x->begin - s.begin) / unit};
    }
    for (size_t i = 0; i < storage_count; i++) {
        const as_storage *s = (const as_storage *)(const void *)t->storages.data + i;
        storages[i].bytes = s->end - s->begin;
    }
    as_error e = AS_ERROR_INIT;
    as_file_layout l;
    int code = as_torch_layout(tensors, count, storages, storage_count, NULL, &l, &e);
    /* Storages without a tensor, or with several dtypes, are not written. */
    MUST(code == AS_OK || code == AS_INVALID);
    fuzz_end(code, &e);
    if (code == AS_OK) {
        char *file = calloc(1, l.file_size);
        MUST(file != NULL);
        for (int late = 0; late < 2; late++) {
            for (size_t i = 0; i < l.literal_count; i++) {
                as_literal *x = &l.literals[i];
                if (x->late && late) {
                    as_literal_patch(x, as_crc32(0, file + x->sum_of, x->sum_size));
                }
                memcpy(file + x->offset, x->bytes, x->size);
            }
        }
        as_source source = as_source_memory(file, l.file_size, "written");
        as_table again;
        MUST(as_torch_read(&source, &again, NULL, &e) == AS_OK);
        MUST(as_table_count(&again) == count);
        for (size_t i = 0; i < count; i++) {
            check_entry(&again, i, l.file_size);
        }
        as_table_free(&again);
        free(file);
        as_file_layout_free(&l);
    }
    free(tensors);
    free(storages);
}

static void read_one(const as_source *source)
{
    as_error e = AS_ERROR_INIT;
    as_table t;
    int code = as_torch_read(source, &t, NULL, &e);
    fuzz_end(code, &e);
    if (code != AS_OK) {
        MUST(as_table_count(&t) == 0 && t.strides.data == NULL);
        return;
    }
    for (size_t i = 0; i < as_table_count(&t); i++) {
        check_entry(&t, i, source->size);
    }
    if (as_table_count(&t) < MOST) {
        write_again(&t);
    }
    as_table_free(&t);
}

/* A zip file of the pickle, with storages "0" to "3". */
static void read_pickle(const uint8_t *data, size_t size)
{
    as_zip_writer w;
    as_file_layout l;
    as_error e = AS_ERROR_INIT;
    as_zip_begin(&w, AS_ZIP_TORCH, 64);
    MUST(as_zip_add_bytes(&w, "a/data.pkl", 10, data, size, NULL, &e) == AS_OK);
    for (size_t i = 0; i < STORAGES; i++) {
        static const char zeros[64];
        char name[16];
        int length = snprintf(name, sizeof name, "a/data/%zu", i);
        MUST(as_zip_add_bytes(&w, name, (size_t)length, zeros, storage_bytes[i], NULL, &e) ==
             AS_OK);
    }
    MUST(as_zip_add_bytes(&w, "a/version", 9, "3\n", 2, NULL, &e) == AS_OK);
    MUST(as_zip_end(&w, &l, &e) == AS_OK);
    MUST(l.literal_count == 1);
    as_source source = as_source_memory(l.literals[0].bytes, l.file_size, "input");
    read_one(&source);
    as_file_layout_free(&l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] == 'P') {
        read_pickle(data + 1, size - 1);
    } else {
        as_source source = as_source_memory(data, size, "input");
        read_one(&source);
    }
    return 0;
}
