/* SPDX-License-Identifier: Apache-2.0
 * Agreement in steps that are tested, for calls that must not block.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "comm/mpi_comm.h"

enum { TEXT_BYTES = 2000 };

/* What one rank tells all of its error. */
typedef struct told {
    as_wire_error wire;
    uint32_t length;
    char text[TEXT_BYTES];
} told;

struct as_tested {
    MPI_Request request;
    bool telling;   /* the second step: the lowest rank with an error tells it */
    int64_t lowest; /* such rank; INT_MAX: there is none */
    told told;
};

as_wire_error as_mpi_pack(const as_comm *c, const as_error *e)
{
    /* A record that was agreed on before keeps the rank that met the error. */
    bool agreed_before = e->rank >= 0;
    as_wire_error wire = {
        .code = e->code, .sys_errno = e->sys_errno, .rank = agreed_before ? e->rank : c->rank};
    memcpy(wire.host, agreed_before ? e->host : c->host, sizeof wire.host);
    return wire;
}

void as_mpi_unpack(const as_wire_error *wire, const char *text, size_t length, as_error *e)
{
    as_error agreed = AS_ERROR_INIT;
    if (length) {
        (void)as_fail(&agreed, wire->code, 0, "%.*s", (int)length, text);
    } else {
        (void)as_fail(&agreed, wire->code, 0, "%s", as_code_text(wire->code));
    }
    agreed.sys_errno = wire->sys_errno;
    agreed.rank = wire->rank;
    memcpy(agreed.host, wire->host, sizeof agreed.host);
    as_error_move(e, &agreed);
}

as_tested *as_mpi_tested_make(void)
{
    return calloc(1, sizeof(as_tested));
}

int as_comm_agree_begin(as_comm *c, const as_error *e, as_error *trouble)
{
    as_tested *t = c->tested;
    t->telling = false;
    t->lowest = e->code == AS_OK ? INT_MAX : c->rank;
    if (e->code != AS_OK) {
        const char *text = as_error_text(e);
        size_t length = strlen(text);
        t->told.wire = as_mpi_pack(c, e);
        t->told.length = (uint32_t)(length < TEXT_BYTES ? length : TEXT_BYTES);
        memcpy(t->told.text, text, t->told.length);
    }
    return as_mpi_check(
        trouble,
        MPI_Iallreduce(MPI_IN_PLACE, &t->lowest, 1, MPI_INT64_T, MPI_MIN, c->comm, &t->request),
        "MPI_Iallreduce");
}

static int test(as_tested *t, bool *done, as_error *e)
{
    int flag = 0;
    int code = as_mpi_check(e, MPI_Test(&t->request, &flag, MPI_STATUS_IGNORE), "MPI_Test");
    *done = code == AS_OK && flag;
    return code;
}

int as_comm_agree_test(as_comm *c, bool *done, as_error *e)
{
    as_tested *t = c->tested;
    int code = test(t, done, e);
    if (code == AS_OK && *done && !t->telling && t->lowest != INT_MAX) {
        t->telling = true;
        code = as_mpi_check(
            e, MPI_Ibcast(&t->told, sizeof t->told, MPI_BYTE, (int)t->lowest, c->comm, &t->request),
            "MPI_Ibcast");
        *done = false;
        if (code == AS_OK) {
            code = test(t, done, e);
        }
    }
    if (code != AS_OK || !*done) {
        return code;
    }
    as_error_clear(e);
    if (t->telling) {
        uint32_t length = t->told.length < TEXT_BYTES ? t->told.length : TEXT_BYTES;
        as_mpi_unpack(&t->told.wire, t->told.text, length, e);
    }
    return e->code;
}
