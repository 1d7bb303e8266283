/* SPDX-License-Identifier: Apache-2.0
 * Fuzzes the unpickler: the input is a pickle. Memory stays in proportion to it, whatever it says.
 */
#include "format/pickle_read.h"
#include "format/pickle_torch.h"
#include "fuzz.h"

static void check(const as_pickle *p, size_t size)
{
    MUST(p->at <= p->text.size && p->text.size <= size);
    MUST(p->nodes.size / sizeof(as_pickle_node) <= size);
    MUST(p->cells.size / sizeof(as_pickle_cell) <= 2 * size + 1);
    MUST(p->memo.size / sizeof(as_pickle_value) <= size + 1);
    for (size_t i = 0; i < p->tensors.size / sizeof(as_pickle_tensor); i++) {
        const as_pickle_tensor *t = as_pickle_tensor_at(p, i);
        MUST(as_pickle_node_at(p, t->shape)->count == as_pickle_node_at(p, t->strides)->count);
        const as_pickle_view *v = as_pickle_view_at(p, t->view);
        const as_pickle_storage *s = as_pickle_storage_at(p, v->storage);
        MUST(v->offset + v->numel <= s->numel);
        size_t found;
        MUST(as_name_map_find(&p->keys, s->key, &found) && found == v->storage);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    as_source source = as_source_memory(data, size, "input");
    as_error e = AS_ERROR_INIT;
    as_pickle p;
    as_pickle_value v;
    as_pickle_open(&p, &source, "data.pkl", 0, size);
    /* Several one behind the other, as the form before zip files has them. */
    for (int code = AS_OK; code == AS_OK;) {
        code = as_pickle_run(&p, &v, &e);
        check(&p, size);
        fuzz_end(code, &e);
    }
    as_pickle_close(&p);
    return 0;
}
