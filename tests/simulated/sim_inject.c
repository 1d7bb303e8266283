/* SPDX-License-Identifier: Apache-2.0
 * The failures that tests ask for, by the names of calls.
 */
#include "sim_inject.h"

#include <stdlib.h>
#include <stdio.h>
#include <string.h>

enum { MOST = 32 };

typedef struct failure {
    char call[48]; /* "": any */
    bool late;
    bool on;  /* all that follow, too */
    int left; /* calls until it; 0: the place is free */
    int code;
} failure;

static failure failures[MOST];
static int64_t injected;

static size_t base_length(const char *call)
{
    size_t n = strlen(call);
    return n > 3 && strncmp(call + n - 3, "_v", 2) == 0 ? n - 3 : n;
}

bool sim_same_call(const char *a, const char *b)
{
    size_t n = base_length(a);
    return n == base_length(b) && strncmp(a, b, n) == 0;
}

static failure *place_of(const char *call, bool late)
{
    failure *spare = NULL;
    for (int i = 0; i < MOST; i++) {
        failure *f = &failures[i];
        if (f->left > 0 && f->late == late && sim_same_call(f->call, call)) {
            return f;
        }
        if (f->left == 0 && !spare) {
            spare = f;
        }
    }
    return spare;
}

void sim_inject_ask(const char *call, int nth, int code, bool late)
{
    failure *f = place_of(call, late);
    if (!f) {
        (void)fprintf(stderr, "simulated CUDA: more than %d failures at a time\n", (int)MOST);
        abort();
    }
    *f = (failure){.late = late, .on = nth < 0, .left = abs(nth), .code = code};
    (void)snprintf(f->call, sizeof f->call, "%s", call);
}

int sim_inject(const char *call, bool late)
{
    int code = 0;
    for (int i = 0; i < MOST; i++) {
        failure *f = &failures[i];
        if (f->left == 0 || f->late != late || (f->call[0] && !sim_same_call(f->call, call))) {
            continue;
        }
        if (f->left > 1) {
            f->left--;
            continue;
        }
        f->left = f->on ? 1 : 0;
        code = code ? code : f->code;
    }
    injected += code != 0;
    return code;
}

void sim_inject_reset(void)
{
    memset(failures, 0, sizeof failures);
    injected = 0;
}

int64_t sim_injected(void)
{
    return injected;
}
