/* SPDX-License-Identifier: Apache-2.0
 * Fuzzes the reader of a lock's content, and the judgement of whether its holder lives.
 */
#include "commit/owner.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    as_error e = AS_ERROR_INIT;
    as_owner o;
    int code = as_owner_from_json((const char *)data, size, "input", &o, &e);
    MUST(code == AS_OK || o.pid == 0);
    if (code == AS_OK) {
        MUST(o.pid > 0 && o.pid <= INT32_MAX && o.start >= 0);
        as_buffer b = AS_BUFFER_INIT;
        as_owner again;
        MUST(as_owner_to_json(&o, &b, &e) == AS_OK);
        MUST(as_owner_from_json(b.data, b.size, "written", &again, &e) == AS_OK);
        MUST(memcmp(&o, &again, sizeof o) == 0);
        as_buffer_free(&b);
        /* As one on the same machine sees it, and as one elsewhere. */
        static as_owner self;
        if (self.pid == 0) {
            MUST(as_owner_self(&self, &e) == AS_OK);
        }
        (void)as_owner_life(&o, &o);
        (void)as_owner_life(&o, &self);
        memcpy(o.host, self.host, sizeof o.host);
        memcpy(o.boot, self.boot, sizeof o.boot);
        memcpy(o.space, self.space, sizeof o.space);
        enum as_life life = as_owner_life(&o, &self);
        MUST(life == AS_LIFE_GONE || life == AS_LIFE_ALIVE || life == AS_LIFE_FAR);
    }
    fuzz_end(code, &e);
    return 0;
}
