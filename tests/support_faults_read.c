/* SPDX-License-Identifier: Apache-2.0
 * Rules of support_faults.h, read from text.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "support_faults.h"

#define ERRNO(name)                                                                                \
    {                                                                                              \
#name, name                                                                                \
    }
static const struct {
    const char *name;
    int value;
} errors[] = {
    ERRNO(EACCES), ERRNO(EAGAIN),        ERRNO(EBADF),      ERRNO(EBUSY),  ERRNO(EDQUOT),
    ERRNO(EEXIST), ERRNO(EFAULT),        ERRNO(EFBIG),      ERRNO(EINTR),  ERRNO(EINVAL),
    ERRNO(EIO),    ERRNO(EISDIR),        ERRNO(ELOOP),      ERRNO(EMFILE), ERRNO(ENFILE),
    ERRNO(ENODEV), ERRNO(ENOENT),        ERRNO(ENOLCK),     ERRNO(ENOMEM), ERRNO(ENOSPC),
    ERRNO(ENOSYS), ERRNO(EPERM),         ERRNO(EOPNOTSUPP), ERRNO(EROFS),  ERRNO(ESTALE),
    ERRNO(EXDEV),  {"ENOTSUP", ENOTSUP},
};

static bool read_errno(const char *name, int *out)
{
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        if (strcmp(name, errors[i].name) == 0) {
            *out = errors[i].value;
            return true;
        }
    }
    return false;
}

static bool read_call(const char *name, uint64_t *set)
{
    if (strcmp(name, "any") == 0) {
        *set |= FAULT_ANY_CALL;
        return true;
    }
    if (strcmp(name, "read") == 0) {
        *set |= fault_calls_of(KIND_READ);
        return true;
    }
    if (strcmp(name, "change") == 0) {
        *set |= fault_calls_of(KIND_CHANGE);
        return true;
    }
    if (strcmp(name, "space") == 0) {
        *set |= fault_calls_of(KIND_SPACE);
        return true;
    }
    for (int c = 0; c < FAULT_CALL_COUNT; c++) {
        if (strcmp(name, fault_call_name((enum fault_call)c)) == 0) {
            *set |= FAULT_BIT(c);
            return true;
        }
    }
    return false;
}

static bool read_calls(char *text, uint64_t *out)
{
    char *rest = NULL;
    *out = 0;
    for (char *name = strtok_r(text, "+", &rest); name; name = strtok_r(NULL, "+", &rest)) {
        if (!read_call(name, out)) {
            return false;
        }
    }
    return *out != 0;
}

static bool read_number(const char *text, char **end, int *out)
{
    errno = 0;
    long value = strtol(text, end, 10);
    *out = (int)value;
    return errno == 0 && *end != text && value >= 0 && value < INT_MAX;
}

static bool read_nth(const char *text, fault_rule *r)
{
    char *end;
    if (!read_number(text, &end, &r->first)) {
        return false;
    }
    r->last = r->first;
    if (*end == '-' && end[1] == '\0') {
        r->last = INT_MAX;
        return true;
    }
    return *end == '\0' || (*end == '-' && read_number(end + 1, &end, &r->last) && *end == '\0');
}

static bool read_deed(char *text, fault_rule *r)
{
    char *more = strchr(text, ':');
    if (more) {
        *more++ = '\0';
    }
    if (strcmp(text, "stall") == 0 || strcmp(text, "jitter") == 0 || strcmp(text, "limit") == 0) {
        char *end = NULL;
        r->mode = *text == 's' ? FAULT_STALL : *text == 'j' ? FAULT_JITTER : FAULT_LIMIT;
        r->amount = more ? strtod(more, &end) : -1;
        return more && end != more && *end == '\0' && r->amount >= 0;
    }
    if (strcmp(text, "lie") == 0) {
        r->mode = FAULT_LIE;
        r->error = EIO;
        return !more || read_errno(more, &r->error);
    }
    if (strcmp(text, "full") == 0) {
        r->mode = FAULT_FULL_DISK;
        r->error = ENOSPC;
        return !more || read_errno(more, &r->error);
    }
    static const struct {
        const char *name;
        enum fault_mode mode;
    } deeds[] = {{"count", FAULT_NONE},
                 {"kill", FAULT_KILL},
                 {"killall", FAULT_KILL_ALL},
                 {"short", FAULT_SHORT}};
    for (size_t i = 0; i < sizeof deeds / sizeof deeds[0]; i++) {
        if (strcmp(text, deeds[i].name) == 0) {
            r->mode = deeds[i].mode;
            return !more;
        }
    }
    r->mode = FAULT_FAIL;
    return !more && read_errno(text, &r->error);
}

static const char *read_item(char *item, fault_rule *r, int *rank)
{
    char *value = strchr(item, '=');
    char *end;
    if (!value) {
        return "a rule is KEY=VALUE,KEY=VALUE…";
    }
    *value++ = '\0';
    if (strcmp(item, "rank") == 0) {
        bool all = strcmp(value, "all") == 0;
        *rank = -1;
        return all || (read_number(value, &end, rank) && *end == '\0')
                   ? NULL
                   : "rank= wants a number or \"all\"";
    }
    if (strcmp(item, "call") == 0) {
        return read_calls(value, &r->counted) ? NULL : "call= names a call that there is not";
    }
    if (strcmp(item, "only") == 0) {
        return read_calls(value, &r->hit) ? NULL : "only= names a call that there is not";
    }
    if (strcmp(item, "nth") == 0) {
        return read_nth(value, r) ? NULL : "nth= wants N, N-M or N-";
    }
    if (strcmp(item, "do") == 0) {
        return read_deed(value, r) ? NULL : "do= wants an errno's name or a deed";
    }
    return "the keys are rank, call, only, nth and do";
}

static const char *read_rule(char *text, int rank, fault_rule *r)
{
    char *rest = NULL;
    int wanted = -1;
    *r = (fault_rule){.counted = FAULT_ANY_CALL, .hit = FAULT_ANY_CALL, .first = 1, .last = 1};
    for (char *item = strtok_r(text, ",", &rest); item; item = strtok_r(NULL, ",", &rest)) {
        const char *wrong = read_item(item, r, &wanted);
        if (wrong) {
            return wrong;
        }
    }
    if (wanted >= 0 && wanted != rank) {
        r->mode = FAULT_NONE;
    }
    return NULL;
}

const char *fault_read(const char *text, int rank, fault_rule rules[FAULT_MOST_RULES], int *count)
{
    char *copy = strdup(text);
    char *rest = NULL;
    const char *wrong = copy ? NULL : "no memory";
    *count = 0;
    for (char *rule = copy ? strtok_r(copy, ";", &rest) : NULL; rule && !wrong;
         rule = strtok_r(NULL, ";", &rest)) {
        wrong = *count < FAULT_MOST_RULES ? read_rule(rule, rank, &rules[*count])
                                          : "there are too many rules";
        *count += !wrong;
    }
    free(copy);
    return wrong;
}
