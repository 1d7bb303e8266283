/* SPDX-License-Identifier: Apache-2.0
 * Fuzzes the reader of the journal, as it comes and with its checksum put right: no name that it
 * lets through may lead out of the folder.
 */
#include "commit/journal.h"
#include "sealed.h"

static void check_names(const as_names *n)
{
    for (size_t i = 0; i < n->count; i++) {
        const char *name = n->items[i];
        MUST(*name && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
        MUST(as_name_is_plain(name));
    }
}

static void read_one(const char *data, size_t size)
{
    as_error e = AS_ERROR_INIT;
    as_journal j = AS_JOURNAL_INIT;
    int code = as_journal_from_bytes(data, size, "input", &j, &e);
    if (code == AS_OK) {
        check_names(&j.incoming);
        check_names(&j.outgoing);
        for (size_t i = 0; i < j.incoming.count; i++) {
            MUST(j.sizes[i] >= 0 && as_journal_brings(&j, j.incoming.items[i]));
        }
        for (size_t i = 0; i < j.outgoing.count; i++) {
            MUST(as_journal_takes(&j, j.outgoing.items[i]));
        }
        as_buffer b = AS_BUFFER_INIT;
        as_journal again;
        MUST(as_journal_to_bytes(&j, &b, &e) == AS_OK);
        MUST(as_journal_from_bytes(b.data, b.size, "written", &again, &e) == AS_OK);
        MUST(again.incoming.count == j.incoming.count && again.outgoing.count == j.outgoing.count);
        for (size_t i = 0; i < j.incoming.count; i++) {
            MUST(strcmp(again.incoming.items[i], j.incoming.items[i]) == 0);
            MUST(again.sizes[i] == j.sizes[i]);
        }
        MUST(again.folders == j.folders);
        as_journal_free(&again);
        as_buffer_free(&b);
        as_journal_free(&j);
    }
    fuzz_end(code, &e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_sealed(data, size, read_one);
    return 0;
}
