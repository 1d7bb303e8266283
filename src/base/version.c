/* SPDX-License-Identifier: Apache-2.0 */
#include "base/version.h"

#define TEXT(x) #x
#define JOIN(a, b, c) TEXT(a) "." TEXT(b) "." TEXT(c)

const char *as_version(void)
{
    return JOIN(AS_VERSION_MAJOR, AS_VERSION_MINOR, AS_VERSION_PATCH);
}
