/* SPDX-License-Identifier: Apache-2.0 */
#include "format/pickle_write.h"

#include <string.h>

int as_pickler_op(as_pickler *w, char opcode, as_error *e)
{
    return as_buffer_char(w->out, opcode, e);
}

/* An opcode and a number behind it, little-endian. */
static int write(as_pickler *w, char opcode, uint64_t value, int bytes, as_error *e)
{
    char text[9];
    text[0] = opcode;
    for (int i = 0; i < bytes; i++) {
        text[1 + i] = (char)(value >> (8 * i) & 0xff);
    }
    return as_buffer_append(w->out, text, 1 + (size_t)bytes, e);
}

int as_pickler_put(as_pickler *w, uint32_t *number, as_error *e)
{
    if (w->memo == AS_PICKLER_NEW) {
        return as_fail(e, AS_LIMIT, 0, "a pickle can refer to 2^32 things and no more");
    }
    uint32_t given = w->memo++;
    if (number) {
        *number = given;
    }
    return given < 256 ? write(w, 'q', given, 1, e) : write(w, 'r', given, 4, e);
}

int as_pickler_get(as_pickler *w, uint32_t number, as_error *e)
{
    return number < 256 ? write(w, 'h', number, 1, e) : write(w, 'j', number, 4, e);
}

int as_pickler_int(as_pickler *w, uint64_t value, as_error *e)
{
    if (value <= 0xff) {
        return write(w, 'K', value, 1, e);
    }
    if (value <= 0xffff) {
        return write(w, 'M', value, 2, e);
    }
    if (value <= INT32_MAX) {
        return write(w, 'J', value, 4, e);
    }
    /* LONG1: as few bytes as hold it and a sign, which CPython takes from bits / 8 + 1. */
    int bytes = 0;
    while (bytes < 8 && value >> (8 * bytes) >= 0x80) {
        bytes++;
    }
    bytes++;
    int code = write(w, (char)0x8a, (uint64_t)bytes, 1, e);
    for (int i = 0; i < bytes && code == AS_OK; i++) {
        code = as_buffer_char(w->out, (char)(i < 8 ? value >> (8 * i) & 0xff : 0), e);
    }
    return code;
}

int as_pickler_bool(as_pickler *w, bool value, as_error *e)
{
    return as_pickler_op(w, value ? (char)0x88 : (char)0x89, e);
}

int as_pickler_string(as_pickler *w, const char *text, size_t length, uint32_t *number, as_error *e)
{
    if (number && *number != AS_PICKLER_NEW) {
        return as_pickler_get(w, *number, e);
    }
    if (length > UINT32_MAX) {
        return as_fail(e, AS_LIMIT, 0, "a name of more than 4 GiB");
    }
    int code = write(w, 'X', length, 4, e);
    code = code == AS_OK ? as_buffer_append(w->out, text, length, e) : code;
    return code == AS_OK ? as_pickler_put(w, number, e) : code;
}

int as_pickler_global(as_pickler *w, const char *module, const char *name, uint32_t *number,
                      as_error *e)
{
    if (*number != AS_PICKLER_NEW) {
        return as_pickler_get(w, *number, e);
    }
    int code = as_buffer_format(w->out, e, "c%s\n%s\n", module, name);
    return code == AS_OK ? as_pickler_put(w, number, e) : code;
}

int as_pickler_tuple(as_pickler *w, size_t count, as_error *e)
{
    static const char opcodes[] = {(char)0x85, (char)0x86, (char)0x87};
    if (count == 0) {
        return as_pickler_op(w, ')', e); /* has no number */
    }
    int code = as_pickler_op(w, count <= 3 ? opcodes[count - 1] : 't', e);
    return code == AS_OK ? as_pickler_put(w, NULL, e) : code;
}

int as_pickler_ints(as_pickler *w, const uint64_t *values, size_t count, as_error *e)
{
    int code = count > 3 ? as_pickler_op(w, '(', e) : AS_OK;
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        code = as_pickler_int(w, values[i], e);
    }
    return code == AS_OK ? as_pickler_tuple(w, count, e) : code;
}

/* Whether item i is written alone: the only one of a dict, the last one of an OrderedDict that
 * would begin a batch. */
static bool is_alone(bool ordered, size_t i, size_t count)
{
    return ordered ? i % AS_PICKLE_BATCH == 0 && i + 1 == count : count == 1;
}

int as_pickler_before_item(as_pickler *w, bool ordered, size_t i, size_t count, as_error *e)
{
    if (i % AS_PICKLE_BATCH == 0 && !is_alone(ordered, i, count)) {
        return as_pickler_op(w, '(', e);
    }
    return AS_OK;
}

int as_pickler_after_item(as_pickler *w, bool ordered, size_t i, size_t count, as_error *e)
{
    if (is_alone(ordered, i, count)) {
        return as_pickler_op(w, 's', e);
    }
    bool full = (i + 1) % AS_PICKLE_BATCH == 0;
    int code = full || i + 1 == count ? as_pickler_op(w, 'u', e) : AS_OK;
    if (code == AS_OK && full && i + 1 == count && !ordered) {
        /* A plain dict's loop goes on as long as batches are full: an empty one comes last. */
        code = as_pickler_op(w, '(', e);
        code = code == AS_OK ? as_pickler_op(w, 'u', e) : code;
    }
    return code;
}
