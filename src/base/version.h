/* SPDX-License-Identifier: Apache-2.0
 * The version of the library. include/allshard.h tells it to callers; src/api/abi.c
 * asserts that both are the same.
 */
#ifndef ALLSHARD_BASE_VERSION_H
#define ALLSHARD_BASE_VERSION_H

#define AS_VERSION_MAJOR 0
#define AS_VERSION_MINOR 1
#define AS_VERSION_PATCH 0

/* "0.1.0" */
const char *as_version(void);

#endif
