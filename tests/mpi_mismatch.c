/* SPDX-License-Identifier: Apache-2.0
 * Ranks that do not call the same function, or not with the same arguments: all get one error that
 * names functions or argument, the values and the ranks, nothing is written, and the context is as
 * good as before.
 */
/* ranks: 2 3 5 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint_folder.h"
#include "support_model.h"
#include "support_ranks.h"

#ifdef ALLSHARD_NO_MPI

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 60);
    return ranks_end();
}

#else

static allshard *as;
static allshard_state *s;
static const char *folder;
static int cases;

static bool is_odd(void)
{
    return world_rank() == world_size() - 1;
}

/* "rank 2", "ranks 0, 1" */
static const char *odd_text(void)
{
    static char text[32];
    (void)snprintf(text, sizeof text, "on rank %d", world_size() - 1);
    return text;
}

static const char *even_text(void)
{
    switch (world_size()) {
    case 2:
        return "on rank 0";
    case 3:
        return "on ranks 0, 1";
    case 4:
        return "on ranks 0, 1, 2";
    default:
        return "on ranks 0, 1, 2, 3";
    }
}

/* ---- functions ---- */

enum function { SAVE, ISAVE, LOAD, PLAN, TRACE, CLOSE, FUNCTIONS };

static const char *const names[] = {"allshard_save",        "allshard_isave",
                                    "allshard_load",        "allshard_plan_create",
                                    "allshard_trace_write", "allshard_close"};

static int call(enum function f)
{
    allshard_plan *plan = NULL;
    allshard_request *request = NULL;
    int code = ALLSHARD_OK;
    switch (f) {
    case SAVE:
        return allshard_save(s, folder, NULL);
    case ISAVE:
        code = allshard_isave(s, folder, NULL, &request);
        CHECK((request != NULL) == (code == ALLSHARD_OK));
        CHECK(allshard_wait(&request, NULL) == ALLSHARD_OK);
        return code;
    case LOAD:
        return allshard_load(s, folder, NULL);
    case PLAN:
        code = allshard_plan_create(&plan, s, NULL);
        CHECK((plan != NULL) == (code == ALLSHARD_OK));
        allshard_plan_free(plan);
        return code;
    case TRACE:
        return allshard_trace_write(as, scratch_path("trace"));
    default:
        return allshard_close(as);
    }
}

static void test_functions(void)
{
    for (int odd = 0; odd < FUNCTIONS; odd++) {
        for (int even = 0; even < FUNCTIONS; even++) {
            if (odd == even) {
                continue;
            }
            char who[2][64];
            (void)snprintf(who[0], sizeof who[0], "%s %s", names[odd], odd_text());
            (void)snprintf(who[1], sizeof who[1], "%s %s", names[even], even_text());
            int code = call(is_odd() ? (enum function)odd : (enum function)even);
            FAILS(as, code, ALLSHARD_MISMATCH, who[0], who[1], "different functions");
            CHECK(!exists(folder, ""));
            cases++;
        }
    }
}

/* ---- arguments ---- */

static int save_odd(const allshard_save_options *o)
{
    return allshard_save(s, folder, is_odd() ? o : NULL);
}

static int load_odd(const allshard_load_options *o)
{
    return allshard_load(s, folder, is_odd() ? o : NULL);
}

/* The argument, and who gave what. */
static void differs(int line, int code, const char *name, const char *odd, const char *even)
{
    char what[128];
    char who[2][256];
    (void)snprintf(what, sizeof what, "all ranks must give the same %s: ", name);
    (void)snprintf(who[0], sizeof who[0], "%s %s", odd, odd_text());
    (void)snprintf(who[1], sizeof who[1], "%s %s", even, even_text());
    const char *const pieces[] = {what, who[0], who[1], NULL};
    check_fails(__FILE__, line, world_comm(), as, code, ALLSHARD_MISMATCH, pieces);
    cases++;
}
#define DIFFERS(code, name, odd, even) differs(__LINE__, code, name, odd, even)

static void test_save_arguments(void)
{
    static const char *const discard[] = {"a", "b"};
    const allshard_save_options none = {.size = sizeof none};
    allshard_save_options o = none;
    char here[300];
    (void)snprintf(here, sizeof here, "folder\"");
    DIFFERS(allshard_save(s, is_odd() ? "elsewhere" : folder, NULL), "directory", "\"elsewhere\"",
            here);
    o.max_shard_size = "10KB";
    DIFFERS(save_odd(&o), "max_shard_size", "\"10KB\"", "the default");
    o = none;
    o.pattern = "m{suffix}.safetensors";
    DIFFERS(save_odd(&o), "pattern", "\"m{suffix}.safetensors\"", "\"model{suffix}.safetensors\"");
    o = none;
    o.discard = discard;
    o.discard_count = 2;
    DIFFERS(save_odd(&o), "discard list", "", "");
    o = none;
    o.mode = 0640;
    DIFFERS(save_odd(&o), "mode", "0640", "0000");
    o = none;
    o.block_bytes = 128;
    DIFFERS(save_odd(&o), "block_bytes", "128", "4194304");
    o = none;
    o.engine = "posix";
    DIFFERS(save_odd(&o), "engine", "\"posix\"", "the default");
    o = none;
    o.align = 4096;
    DIFFERS(save_odd(&o), "align", "4096", "0");
    o = none;
    o.checksum = ALLSHARD_CHECKSUM_NONE;
    DIFFERS(save_odd(&o), "checksum", "\"none\"", "\"xxh3\"");
    o = none;
    o.writers_per_node = 1;
    DIFFERS(save_odd(&o), "writers_per_node", "1", "0");
    o = none;
    o.creators = 1;
    DIFFERS(save_odd(&o), "creators", "1", "0");
    o = none;
    o.stripe_count = 2;
    DIFFERS(save_odd(&o), "stripe_count", "2", "0");
    o = none;
    o.stripe_bytes = 65536;
    DIFFERS(save_odd(&o), "stripe_bytes", "65536", "0");
    o = none;
    o.verify_after_write = 1;
    DIFFERS(save_odd(&o), "verify_after_write", "1", "0");
    CHECK(!exists(folder, ""));
}

static void test_load_arguments(void)
{
    const allshard_load_options none = {.size = sizeof none};
    allshard_load_options o = none;
    DIFFERS(allshard_load(s, is_odd() ? "elsewhere" : folder, NULL), "path", "\"elsewhere\"",
            "folder\"");
    o.pattern = "m{suffix}.safetensors";
    DIFFERS(load_odd(&o), "pattern", "\"m{suffix}.safetensors\"", "the default");
    o = none;
    o.allow_missing = 1;
    DIFFERS(load_odd(&o), "allow_missing", "1", "0");
    o = none;
    o.allow_unexpected = 1;
    DIFFERS(load_odd(&o), "allow_unexpected", "1", "0");
    o = none;
    o.block_bytes = 128;
    DIFFERS(load_odd(&o), "block_bytes", "128", "4194304");
    o = none;
    o.engine = "posix";
    DIFFERS(load_odd(&o), "engine", "\"posix\"", "the default");
    o = none;
    o.checksum = ALLSHARD_CHECKSUM_NONE;
    DIFFERS(load_odd(&o), "checksum", "\"none\"", "\"xxh3\"");
}

static void test_other_arguments(void)
{
    allshard_state *other = NULL;
    allshard_plan *plan = NULL;
    GOOD(as, allshard_state_create(&other, as, is_odd() ? "other" : "model"));
    DIFFERS(allshard_save(other, folder, NULL), "part of the state", "\"other\"", "\"model\"");
    DIFFERS(allshard_load(other, folder, NULL), "part of the state", "\"other\"", "\"model\"");
    DIFFERS(allshard_plan_create(&plan, other, NULL), "part of the state", "\"other\"",
            "\"model\"");
    CHECK(!plan);
    (void)allshard_state_free(other);
    /* Paths differ at their ends: of a long one that is shown. */
    char path[300];
    memset(path, 'x', sizeof path);
    (void)snprintf(path + 200, 100, "%s", is_odd() ? "/there" : "/here");
    DIFFERS(allshard_trace_write(as, path), "path", "x/there\"", "x/here\"");
}

/* A rank without options, or with bad ones, is told of before anything is compared. */
static void test_faults_first(void)
{
    allshard_save_options o = {.size = 3};
    FAILS(as, save_odd(&o), ALLSHARD_INVALID, "size");
    FAILS(as, allshard_save(s, is_odd() ? NULL : folder, NULL), ALLSHARD_INVALID, "directory");
    cases += 2;
}

static void open_context(int32_t check, int32_t trace)
{
    allshard_options o = {.size = sizeof o, .trace = trace, .check_calls = check};
    CHECK(allshard_open(&as, world_comm(), &o) == ALLSHARD_OK);
    GOOD(as, allshard_state_create(&s, as, "model"));
}

/* Time limits that differ are no context. */
static void keep_text(int level, const char *text, void *user)
{
    (void)level;
    (void)snprintf(user, 512, "%s", text);
}

static void test_limits(void)
{
    char text[512] = "";
    allshard *none = NULL;
    allshard_options o = {
        .size = sizeof o, .log = keep_text, .log_user = text, .timeout_s = is_odd() ? 60 : 30};
    CHECK(allshard_open(&none, world_comm(), &o) == ALLSHARD_MISMATCH && !none);
    CHECK_TEXT(strstr(text, "timeout_s") && strstr(text, "60 s") && strstr(text, odd_text()), "%s",
               text);
    o.timeout_s = is_odd() ? -1 : 30;
    CHECK(allshard_open(&none, world_comm(), &o) == ALLSHARD_INVALID && !none);
    CHECK_TEXT(strstr(text, "timeout_s is -1"), "%s", text);
    CHECK(setenv("ALLSHARD_TIMEOUT", is_odd() ? "soon" : "5", 1) == 0);
    CHECK(allshard_open(&none, world_comm(), &o) == ALLSHARD_INVALID && !none);
    CHECK_TEXT(strstr(text, "ALLSHARD_TIMEOUT is \"soon\""), "%s", text);
    CHECK(setenv("ALLSHARD_TIMEOUT", "50", 1) == 0); /* goes before the option */
    CHECK(allshard_open(&none, world_comm(), &o) == ALLSHARD_OK);
    CHECK(allshard_close(none) == ALLSHARD_OK);
    CHECK(unsetenv("ALLSHARD_TIMEOUT") == 0);
    cases += 4;
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 100);
    folder = strdup(scratch_path("folder"));
    test_limits();
    /* One rank that asks is enough, by option or environment. */
    CHECK(unsetenv("ALLSHARD_CHECK_CALLS") == 0);
    open_context(is_odd(), 1);
    test_functions();
    test_save_arguments();
    test_load_arguments();
    test_other_arguments();
    test_faults_first();
    check_works(as, folder);
    (void)allshard_state_free(s);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    remove_tree(folder);
    ranks_wait(world_comm());
    if (is_odd()) {
        CHECK(setenv("ALLSHARD_CHECK_CALLS", "1", 1) == 0);
    }
    open_context(0, 1);
    test_functions();
    (void)allshard_state_free(s);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    free((void *)(uintptr_t)folder);
    if (world_rank() == 0) {
        (void)printf("%d differences told\n", cases);
    }
    return ranks_end();
}

#endif
