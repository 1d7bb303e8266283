/* SPDX-License-Identifier: Apache-2.0 */
#include "base/codes.h"

const char *as_code_name(int code)
{
    switch (code) {
#define AS_CODE_NAME(name, value, text)                                                            \
    case (value):                                                                                  \
        return "ALLSHARD_" #name;
        AS_CODES(AS_CODE_NAME)
#undef AS_CODE_NAME
    default:
        return "ALLSHARD_?";
    }
}

const char *as_code_text(int code)
{
    switch (code) {
#define AS_CODE_TEXT(name, value, text)                                                            \
    case (value):                                                                                  \
        return text;
        AS_CODES(AS_CODE_TEXT)
#undef AS_CODE_TEXT
    default:
        return "not a result code";
    }
}
