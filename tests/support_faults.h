/* SPDX-License-Identifier: Apache-2.0
 * Trouble on purpose: replaces the entries of as_sys_table, counts the calls, and makes chosen
 * ones fail, lie, stop short, stall, or kill. Linked into test programs only.
 *
 * In a program:
 *
 *     fault_install();                                   once
 *     fault_set(FAULT_FAIL, 7, EIO);                     the 7th call of any kind, on this process
 *     … or fault_read("rank=1,call=fsync,nth=2,do=stall:5", rank, rules, &count) and
 *     fault_begin(rules, count);
 *     the save
 *     fault_end();                                       how many calls were counted
 *
 * Trouble is set and ended while no thread of an engine runs; calls are counted from all threads.
 *
 * From outside, for the whole command line tool (tests/tool_faulty.c, in the build folder's
 * tests/tool_faulty): the environment
 *
 *     ALLSHARD_FAULT        rules, separated by ';'
 *     ALLSHARD_FAULT_COUNT  FILE: at its end each rank writes into FILE.RANK how often it made each
 *                           call: lines "CALL COUNT", and "any COUNT"
 *     ALLSHARD_FAULT_TRACE  FILE: each rank writes into FILE.RANK each call, in order, at once:
 *                           "NUMBER CALL PATH [TO] [OFFSET+COUNT] = RESULT"
 *
 * A rule is a list of KEY=VALUE, separated by ',':
 *
 *     rank=N     on that rank of the launcher's; all (default): on each, which counts for itself
 *     call=C     the calls that are counted, by the names in as_sys, several with '+': pwrite,
 *                fsync+ftruncate; "create" is an openat that creates, "opendirect" one
 *                with O_DIRECT, "openat" any other; "read", "change" and "space" are all that only
 *                look, that change something on the disk, and, of those, that need space on it; "any"
 *                (default)
 *     nth=N      the N-th of them; N-M: the N-th to the M-th; N-: from the N-th on. Default 1
 *     only=C     of those, only these calls are disturbed: "call=any,nth=20-,only=change,do=EROFS"
 *                is a folder that can only be read from the 20th call on. Default: all
 *     do=D       EIO (or another errno's name): is not made and fails; lie:EIO: is made, but says
 *                that it failed; full: fails with ENOSPC, and the first write that it hits is torn;
 *                full:EDQUOT; short: reads or writes only a part; stall:SECONDS: is made after so
 *                long; jitter:SECONDS: one in three is made after a random time of up to so long
 *                (ALLSHARD_SEED), and rarely ten times that; limit:BYTES: is made after files may not grow beyond that (RLIMIT_FSIZE), where
 *                SIGXFSZ kills, as it does by default; kill: SIGKILL in its place; killall: SIGKILL of all ranks on this machine;
 *                count (default): nothing
 */
#ifndef ALLSHARD_TESTS_SUPPORT_FAULTS_H
#define ALLSHARD_TESTS_SUPPORT_FAULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* ---- calls ---- */

enum fault_kind { KIND_READ, KIND_CHANGE, KIND_SPACE };

/* Number, name, kind. The number of a completion of io_uring's is that of uring_peek; looks that
 * find none are not counted. */
#define FAULT_CALLS(X)                                                                             \
    X(ON_OPEN, "openat", KIND_READ)                                                                \
    X(ON_CREATE, "create", KIND_SPACE)                                                             \
    X(ON_DIRECT, "opendirect", KIND_READ)                                                          \
    X(ON_CLOSE, "close", KIND_CHANGE)                                                              \
    X(ON_PREAD, "pread", KIND_READ)                                                                \
    X(ON_PWRITE, "pwrite", KIND_SPACE)                                                             \
    X(ON_FSYNC, "fsync", KIND_CHANGE)                                                              \
    X(ON_FTRUNCATE, "ftruncate", KIND_CHANGE)                                                      \
    X(ON_FSTAT, "fstat", KIND_READ)                                                                \
    X(ON_FSTATAT, "fstatat", KIND_READ)                                                            \
    X(ON_MKDIRAT, "mkdirat", KIND_SPACE)                                                           \
    X(ON_UNLINKAT, "unlinkat", KIND_CHANGE)                                                        \
    X(ON_RENAMEAT, "renameat", KIND_CHANGE)                                                        \
    X(ON_LINKAT, "linkat", KIND_SPACE)                                                             \
    X(ON_SYMLINKAT, "symlinkat", KIND_SPACE)                                                       \
    X(ON_READLINKAT, "readlinkat", KIND_READ)                                                      \
    X(ON_FACCESSAT, "faccessat", KIND_READ)                                                        \
    X(ON_FDOPENDIR, "fdopendir", KIND_READ)                                                        \
    X(ON_READDIR, "readdir", KIND_READ)                                                            \
    X(ON_CLOSEDIR, "closedir", KIND_READ)                                                          \
    X(ON_FCHMOD, "fchmod", KIND_CHANGE)                                                            \
    X(ON_FUTIMENS, "futimens", KIND_CHANGE)                                                        \
    X(ON_FLOCK, "flock", KIND_READ)                                                                \
    X(ON_SYNC_FILE_RANGE, "sync_file_range", KIND_CHANGE)                                          \
    X(ON_FALLOCATE, "fallocate", KIND_SPACE)                                                       \
    X(ON_STATX, "statx", KIND_READ)                                                                \
    X(ON_FSTATFS, "fstatfs", KIND_READ)                                                            \
    X(ON_IOCTL, "ioctl", KIND_CHANGE)                                                              \
    X(ON_PREADV2, "preadv2", KIND_READ)                                                            \
    X(ON_PTHREAD_CREATE, "pthread_create", KIND_READ)                                              \
    X(ON_URING_INIT, "uring_init", KIND_READ)                                                      \
    X(ON_URING_REGISTER, "uring_register", KIND_READ)                                              \
    X(ON_URING_SUBMIT, "uring_submit", KIND_SPACE)                                                 \
    X(ON_URING_PEEK, "uring_peek", KIND_SPACE)

#define FAULT_NUMBER(number, name, kind) number,
enum fault_call { FAULT_CALLS(FAULT_NUMBER) FAULT_CALL_COUNT };
#undef FAULT_NUMBER

#define FAULT_BIT(call) (UINT64_C(1) << (call))
#define FAULT_ANY_CALL (FAULT_BIT(FAULT_CALL_COUNT) - 1)

const char *fault_call_name(enum fault_call call);
uint64_t fault_calls_of(enum fault_kind kind); /* a set of bits; KIND_CHANGE holds KIND_SPACE's */

/* ---- rules ---- */

enum fault_mode {
    FAULT_NONE,     /* only count */
    FAULT_KILL,     /* SIGKILL in place of the call */
    FAULT_KILL_ALL, /* of all ranks on this machine, the others first */
    FAULT_FAIL,     /* the call is not made and fails */
    FAULT_LIE,      /* it is made and says that it failed */
    FAULT_SHORT,    /* reads or writes a part; other calls are made as they are */
    FAULT_STALL,    /* sleeps first */
    FAULT_JITTER,   /* some calls sleep first, each for a time of its own */
    FAULT_HOLD,  /* waits for fault_release, `amount` seconds at most; not in the thread that called
                        fault_begin */
    FAULT_LIMIT, /* sets RLIMIT_FSIZE first, and SIGXFSZ to its default */
    FAULT_DEAD_DISK, /* fault_set: from call `at` on all that change something fail */
    FAULT_FULL_DISK  /* fails, and the first write that is hit is torn; fault_set: as DEAD_DISK */
};

typedef struct fault_rule {
    uint64_t counted; /* calls that have numbers */
    uint64_t hit;     /* those of them that are disturbed */
    int first;        /* 1 is the first call */
    int last;         /* INT_MAX: without end */
    enum fault_mode mode;
    int error;     /* errno of failing calls; what makes one jitter differ from another */
    double amount; /* seconds of a stall, of a jitter or hold at most; bytes of a limit */
} fault_rule;

enum { FAULT_MOST_RULES = 8 };

/* Reads rules as described above, for this rank; a rule for another rank only counts. NULL, or what
 * is wrong (static text). */
const char *fault_read(const char *text, int rank, fault_rule rules[FAULT_MOST_RULES], int *count);

/* ---- trouble ---- */

/* Puts the wrappers in place; once per process. */
void fault_install(void);

/* The rules hold from now on; counts begin at 0. */
void fault_begin(const fault_rule *rules, int count);

/* One rule: call number `at` of any kind. */
void fault_set(enum fault_mode mode, int at, int error);

/* Ends the trouble; the number of calls that the first rule counted. */
int fault_end(void);

/* Calls of a kind since fault_begin, also after fault_end. */
int fault_counted(enum fault_call call);

/* The first call that was disturbed since fault_begin. */
typedef struct fault_event {
    bool happened;
    enum fault_call call;
    char path[600]; /* the file, if the call tells; else empty */
} fault_event;

const fault_event *fault_first_hit(void);

/* Does a call of another thread stand still (FAULT_HOLD)? From any thread. */
bool fault_is_held(void);

/* Lets it go on, and holds no other until the next fault_begin. */
void fault_release(void);

/* Each call writes a line, if not NULL: call, last part of the folder's path, name, other name. */
extern FILE *fault_trace;

/* The environment's rules, counts and trace, for tool_faulty. Prints what is wrong with them and
 * exits. */
void fault_from_environment(int rank);

#endif
