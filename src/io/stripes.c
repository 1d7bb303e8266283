/* SPDX-License-Identifier: Apache-2.0
 * The numbers and layouts are Lustre's user ABI, which its header lustre_user.h tells.
 */
#include "io/stripes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

#include "base/sys.h"

#define SET_STRIPE _IOW('f', 154, long)
#define GET_STRIPE _IOW('f', 155, long)

enum {
    LUSTRE = 0x0BD00BD0,      /* statfs.f_type */
    MAGIC_V1 = 0x0BD10BD0,    /* of a layout */
    MAGIC_V3 = 0x0BD30BD0,    /* the same, with the name of a pool behind the fixed part */
    MAGIC_PARTS = 0x0BD60BD0, /* several layouts, each for a range of the file */
    ALL = 0xFFFF,             /* of a count or an index: -1 */
    STRIPES_MOST = 2000,
    STRIPE_UNIT = 64 << 10,
    ANSWER_BYTES = 64 << 10 /* what Lustre answers at the most, as an extended attribute's value */
};

/* lov_user_md_v1 without its list of servers. */
typedef struct layout {
    uint32_t magic;
    uint32_t pattern; /* 0: the default; 1: stripes in turn */
    uint8_t object[16];
    uint32_t stripe_bytes;
    uint16_t stripe_count;
    uint16_t first_server; /* ALL: any */
} layout;

/* lov_comp_md_v1 and its entries. */
typedef struct parts {
    uint32_t magic;
    uint32_t bytes;
    uint32_t generation;
    uint16_t flags;
    uint16_t count;
    uint8_t rest[16];
} parts;

typedef struct part {
    uint32_t id;
    uint32_t flags;
    uint8_t extent[16];
    uint32_t offset; /* of its layout, from the beginning of `parts` */
    uint32_t bytes;
    uint8_t rest[16];
} part;

_Static_assert(sizeof(layout) == 32 && sizeof(parts) == 32 && sizeof(part) == 48, "Lustre's ABI");

static bool is_lustre_here(int fd)
{
    struct statfs status;
    return as_sys_table.fstatfs(fd, &status) == 0 && (uint32_t)status.f_type == LUSTRE;
}

/* Where in the answer the layout is that counts. False: it makes no sense. */
static bool find_layout(const char *answer, size_t *at)
{
    parts head;
    part last;
    memcpy(&head, answer, sizeof head);
    *at = 0;
    if (head.magic != MAGIC_PARTS) {
        return true;
    }
    if (head.count == 0 || head.count > (ANSWER_BYTES - sizeof head) / sizeof last) {
        return false;
    }
    memcpy(&last, answer + sizeof head + (head.count - 1) * sizeof last, sizeof last);
    *at = last.offset;
    return last.offset <= ANSWER_BYTES - sizeof(layout);
}

int as_stripes_read(int fd, const char *name, bool *is_lustre, as_stripes *out, as_error *e)
{
    *out = (as_stripes){0};
    *is_lustre = false;
    if (!is_lustre_here(fd)) {
        return AS_OK;
    }
    char *answer = calloc(1, ANSWER_BYTES);
    if (!answer) {
        return as_fail_nomem(e);
    }
    /* The question says which form is understood and how many servers there is room for. */
    layout l = {.magic = MAGIC_V1, .stripe_count = STRIPES_MOST};
    size_t at = 0;
    memcpy(answer, &l, sizeof l);
    if (as_sys_table.ioctl(fd, GET_STRIPE, answer) < 0) {
        int cause = errno;
        free(answer);
        /* A folder without a layout of its own: the file system's default, which is not told. */
        return cause == ENODATA || cause == ENOTTY
                   ? AS_OK
                   : as_fail(e, AS_SYSTEM, cause, "%s: cannot read its Lustre stripes", name);
    }
    bool sane = find_layout(answer, &at);
    if (sane) {
        memcpy(&l, answer + at, sizeof l);
        sane = l.magic == MAGIC_V1 || l.magic == MAGIC_V3;
    }
    free(answer);
    if (sane) {
        *is_lustre = true;
        *out = (as_stripes){.count = l.stripe_count == ALL ? -1 : l.stripe_count,
                            .bytes = l.stripe_bytes};
    }
    return AS_OK;
}

int as_stripes_set(int folder, const char *name, as_stripes stripes, bool *is_lustre, as_error *e)
{
    *is_lustre = false;
    if (stripes.bytes < 0 || stripes.bytes > UINT32_MAX || stripes.bytes % STRIPE_UNIT != 0) {
        return as_fail(e, AS_INVALID, 0,
                       "a Lustre stripe of %lld bytes: it must be a multiple of 64 KiB below 4 GiB",
                       (long long)stripes.bytes);
    }
    if (stripes.count < -1 || stripes.count > STRIPES_MOST) {
        return as_fail(e, AS_INVALID, 0,
                       "%d Lustre stripes: it must be 1 to %d, -1 for all servers, or 0 for the "
                       "default",
                       (int)stripes.count, STRIPES_MOST);
    }
    if (!is_lustre_here(folder)) {
        return AS_OK;
    }
    layout l = {.magic = MAGIC_V1,
                .stripe_bytes = (uint32_t)stripes.bytes,
                .stripe_count = stripes.count < 0 ? ALL : (uint16_t)stripes.count,
                .first_server = ALL};
    if (as_sys_table.ioctl(folder, SET_STRIPE, &l) < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot set Lustre stripes (%d of %lld bytes)",
                       name, (int)stripes.count, (long long)stripes.bytes);
    }
    *is_lustre = true;
    return AS_OK;
}
