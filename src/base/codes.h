/* SPDX-License-Identifier: Apache-2.0
 * Result codes, told once. include/allshard.h carries the same numbers as its
 * public ABI; src/api/abi.c asserts that the two lists agree.
 */
#ifndef ALLSHARD_BASE_CODES_H
#define ALLSHARD_BASE_CODES_H

/* X(name, value, one line for people). Values never change once released. */
#define AS_CODES(X)                                                                                \
    X(OK, 0, "success")                                                                            \
    X(INVALID, -1, "an argument or a declaration is wrong")                                        \
    X(NOMEM, -2, "out of memory")                                                                  \
    X(SYSTEM, -3, "a system call failed")                                                          \
    X(MPI, -4, "an MPI call failed")                                                               \
    X(NOT_FOUND, -5, "there is no such file, folder or checkpoint")                                \
    X(FORMAT, -6, "the file breaks the rules of its format")                                       \
    X(MISMATCH, -7, "ranks, or a rank and the checkpoint, disagree")                               \
    X(COVERAGE, -8, "the declared boxes leave a gap or overlap")                                   \
    X(NAMES, -9, "strict load: names are missing or unexpected")                                   \
    X(TIED, -10, "shared storage without a tensor that covers it whole")                           \
    X(EMPTY, -11, "the state holds no tensor")                                                     \
    X(SIZE, -12, "the shard size cannot be read")                                                  \
    X(PATTERN, -13, "the file name pattern is unusable")                                           \
    X(LIMIT, -14, "a limit of the format or of this library is passed")                            \
    X(BUSY, -15, "another save holds the folder")                                                  \
    X(PENDING, -16, "the save is durable, but its last renames wait for recovery")                 \
    X(UNKNOWN, -17, "whether the save counts is unknown: the storage failed at the last moment")   \
    X(INTERNAL, -18, "a fault in allshard itself")                                                 \
    X(TIMEOUT, -19, "a rank stalled: this context can only be closed")                             \
    X(CORRUPT, -20, "the bytes of a file are not those that were saved")                           \
    X(CANCELLED, -21, "the save was cancelled")                                                    \
    X(CUDA, -22, "a call of CUDA or cuFile failed")

enum as_code {
#define AS_CODE_ENUM(name, value, text) AS_##name = (value),
    AS_CODES(AS_CODE_ENUM)
#undef AS_CODE_ENUM
};

/* "ALLSHARD_FORMAT" for AS_FORMAT; "ALLSHARD_?" for a number that is no code. */
const char *as_code_name(int code);

/* The line for people; never NULL. */
const char *as_code_text(int code);

#endif
