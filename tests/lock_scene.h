/* SPDX-License-Identifier: Apache-2.0
 * What the tests of the lock share: a folder, planted locks, and taking what is stale.
 */
#ifndef ALLSHARD_TESTS_LOCK_SCENE_H
#define ALLSHARD_TESTS_LOCK_SCENE_H

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/sys.h"
#include "checkpoint_folder.h"
#include "commit/folder.h"
#include "commit/holder.h"
#include "commit/lock.h"

enum { LEASE_MS = 200 };

static char dir[256];
static int folder;

static inline int set_up(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "%s", scratch_folder());
    folder = open(dir, O_RDONLY | O_DIRECTORY);
    must(folder >= 0, dir);
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    (void)close(folder);
    remove_tree(dir);
    return 0;
}

static inline int take(as_lock **out, as_error *e)
{
    return as_lock_take(out, folder, dir, LEASE_MS, NULL, e);
}

/* Puts a lock there as if somebody had left it. */
static inline void plant(const as_owner *owner)
{
    as_buffer text = AS_BUFFER_INIT;
    char meta[300];
    (void)snprintf(meta, sizeof meta, "%s/" AS_META_NAME, dir);
    must(mkdir(meta, 0777) == 0 || errno == EEXIST, meta);
    assert_int_equal(as_owner_to_json(owner, &text, NULL), AS_OK);
    write_text(meta, AS_LOCK_NAME, as_buffer_string(&text));
    as_buffer_free(&text);
}

static inline as_owner self(void)
{
    as_owner o;
    assert_int_equal(as_owner_self(&o, NULL), AS_OK);
    return o;
}

/* Taking it must work, within a lease or so, or at once. */
static inline void expect_stale(bool at_once)
{
    as_lock *lock;
    as_error e = AS_ERROR_INIT;
    int64_t begin = as_moment_ms();
    int code = take(&lock, &e);
    int64_t passed = as_moment_ms() - begin;
    if (code != AS_OK) {
        print_message("%s\n", as_error_text(&e));
    }
    assert_int_equal(code, AS_OK);
    assert_true(lock->broke_stale);
    assert_true(at_once ? passed < LEASE_MS : passed >= LEASE_MS);
    assert_int_equal(as_lock_release(lock, folder, &e), AS_OK);
    assert_false(exists(dir, AS_META_NAME));
}

#define LOCK_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
