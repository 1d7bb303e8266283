/* SPDX-License-Identifier: Apache-2.0
 * A series lives through 10,000 operations: saves that replace and go back, saves and prunes that
 * are killed anywhere or meet failing calls and full disks, recoveries killed in their turn, tags that
 * come and go, also while a prune is under way, checkpoints that rot or are removed by hand, clocks
 * that jump. After each the root must hold just what a simple account says (support_series.h): exactly
 * what the rules keep, the newest good one always, and after a failed save all that was there before.
 *
 * The seed is printed; ALLSHARD_SEED sets it, ALLSHARD_OPERATIONS the number.
 */
/* timeout: 300 */
/* long-timeout: 3600 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "box_support.h"
#include "checkpoint_folder.h"
#include "commit/folder.h"
#include "series/members.h"
#include "support_faults.h"
#include "support_series.h"
#include "support_series_jobs.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { OPERATIONS = 600 }; /* forks are dear */
#else
enum { OPERATIONS = 10000 };
#endif
enum { CANDIDATES = 40, CROWD = 13 };

static char root[256];
static uint64_t seed;
static int operation; /* for texts */

/* What the root may hold: one account where all is settled, several after a kill. */
static book accounts[CANDIDATES];
static size_t account_count;

static int64_t now_ms = INT64_C(1700000000000);
static int64_t next_id = 1;
static int64_t at_step = 10;   /* of the run */
static as_keep_rules rules;    /* of the run */
static char loaded[BOOK_NAME]; /* that the run was loaded from */

static struct {
    int saves, killed, failed, prunes, recoveries, tags, races, rots, jumps;
} tally;

/* ------------------------------------------------------------------ the accounts */

static void add_account(book *list, size_t *count, const book *b)
{
    must(*count < CANDIDATES, "too many accounts");
    list[(*count)++] = *b;
}

static void set_name(char to[BOOK_NAME], const char *name)
{
    (void)snprintf(to, BOOK_NAME, "%s", name);
}

/* The account; where there are several, settle() comes first. */
static book *account(void)
{
    assert_int_equal(account_count, 1);
    return &accounts[0];
}

/* ------------------------------------------------------------------ what is done */

enum trouble { NONE, KILL, FAIL, DEAD_DISK, FULL_DISK };

static struct { /* what was done last, for texts */
    job job;
    enum trouble trouble;
    int at; /* call that was disturbed */
    int code;
} last;

static int usual_calls[JOB_KINDS] = {200, 120, 60}; /* as many as the last time */

static int perform(const job *j, enum trouble trouble)
{
    static const int errors[] = {EIO, ENOSPC, EDQUOT, EACCES, EMFILE};
    static const enum fault_mode modes[] = {
        [KILL] = FAULT_KILL,
        [FAIL] = FAULT_FAIL,
        [DEAD_DISK] = FAULT_DEAD_DISK,
        [FULL_DISK] = FAULT_FULL_DISK,
    };
    int code;
    int at = (int)between(&seed, 1, usual_calls[j->kind] + 4);
    int error = trouble == FULL_DISK ? ENOSPC : errors[between(&seed, 0, 4)];
    if (j->kind != JOB_RECOVER) {
        last.job = *j;
        last.trouble = trouble;
        last.at = at;
    }
    if (trouble == NONE) {
        as_error e = AS_ERROR_INIT;
        fault_set(FAULT_NONE, 0, 0);
        code = job_do(j, &e);
        usual_calls[j->kind] = fault_end();
        if (code != AS_OK) {
            fail_msg("operation %d: %s", operation, as_error_text(&e));
        }
    } else {
        code = job_do_in_child(j, modes[trouble], at, error);
    }
    last.code = j->kind == JOB_RECOVER ? last.code : code;
    return code;
}

/* ------------------------------------------------------------------ what should be */

/* What got a tag while it was about to go stays, with the tag. */
static void note_race(const book *before, const job *j, book *after)
{
    if (!j->tag[0] || book_find(after, j->tag)) {
        return;
    }
    book was = *before;
    book_one one = *book_find(&was, j->tag);
    one.tagged = true;
    book_put(after, &one);
    tally.races++;
}

/* The accounts after a save over `before`. */
static void foresee_save(const book *before, const job *j, int code, enum trouble trouble,
                         book *list, size_t *count)
{
    const char *used[] = {j->one.name, loaded, NULL};
    bool clean = trouble == NONE;
    if (code != AS_OK && code != AS_PENDING) {
        add_account(list, count, before); /* a failed save changes nothing; a kill may not */
    }
    if (code != AS_OK && code != AS_PENDING && code != AS_UNKNOWN && code != JOB_KILLED) {
        return;
    }
    book after = *before;
    book_put(&after, &j->one);
    if (!clean) {
        add_account(list, count, &after);
    }
    set_name(after.latest, j->one.name);
    if (!clean) {
        add_account(list, count, &after);
    }
    /* Calls that fail while checkpoints are looked at can only keep more of them. */
    bool fails = !clean && trouble != KILL;
    book_prune(&after, &j->rules, used, now_ms, fails);
    note_race(before, j, &after);
    add_account(list, count, &after);
    if (fails) { /* the link's failure alone stops nothing */
        set_name(after.latest, before->latest);
        add_account(list, count, &after);
    }
}

static void foresee_prune(const book *before, const job *j, enum trouble trouble, book *list,
                          size_t *count)
{
    const char *used[] = {before->latest, NULL};
    book after = *before;
    book_prune(&after, &j->rules, used, now_ms, trouble != NONE && trouble != KILL);
    note_race(before, j, &after);
    if (trouble != NONE) {
        add_account(list, count, before);
    }
    add_account(list, count, &after);
}

/* A disk that was killed upon, or failed, is looked at by recovery; then one of the accounts must be
 * right, and it is the account from then on. */
static void settle(void)
{
    if (account_count == 1 && !exists(root, AS_META_NAME)) {
        return;
    }
    const job recovery = {.kind = JOB_RECOVER, .root = root};
    for (int i = (int)between(&seed, 0, 2); i > 0; i--) {
        tally.recoveries += perform(&recovery, KILL) == 1;
    }
    (void)perform(&recovery, NONE);
}

/* One of the accounts is right. */
static void check_root(const char *what)
{
    const char *wrong = "";
    for (size_t i = 0; i < account_count; i++) {
        wrong = book_compare(&accounts[i], root);
        if (!wrong) {
            accounts[0] = accounts[i];
            account_count = 1;
            return;
        }
    }
    for (size_t i = 0; i < account_count; i++) {
        book_print(&accounts[i]);
    }
    const as_keep_rules *r = &last.job.rules;
    print_message(
        "before: %s of %s, trouble %d at call %d of %d, code %d; last %lld, every %lld, best "
        "%lld %s %s, seconds %.0f; loaded %s, now %lld\n",
        last.job.kind == JOB_SAVE ? "save" : "prune", last.job.one.name, (int)last.trouble, last.at,
        usual_calls[last.job.kind], last.code, (long long)r->last, (long long)r->every,
        (long long)r->best, r->metric ? r->metric : "any", r->metric_max ? "max" : "min",
        r->seconds, loaded, (long long)now_ms);
    fail_msg("operation %d, %s: %s (the last of %zu possible states)", operation, what, wrong,
             account_count);
}

/* What the library sees is what the account tells. */
static void check_members(void)
{
    book *b = account();
    as_error e = AS_ERROR_INIT;
    as_members m = AS_MEMBERS_INIT;
    as_folder_pattern *pattern;
    assert_int_equal(as_folder_pattern_make(&pattern, SERIES_PATTERN, &e), AS_OK);
    assert_int_equal(as_members_read(&m, root, pattern, NULL, &e), AS_OK);
    assert_int_equal(m.count, b->count);
    for (size_t i = 0; i < m.count; i++) {
        const as_member *found = &m.items[i];
        const book_one *one = &b->items[i];
        if (strcmp(found->name, one->name) != 0 || found->step != one->step ||
            (found->state == AS_MEMBER_DAMAGED) != one->damaged ||
            (found->tags.count > 0) != one->tagged) {
            book_print(b);
            fail_msg("operation %d: found %s, step %lld, %zu tags, %s", operation, found->name,
                     (long long)found->step, found->tags.count, found->why ? found->why : "good");
        }
    }
    const as_member *newest = as_members_newest(&m);
    const book_one *expected = book_newest(b);
    assert_string_equal(newest ? newest->name : "", expected ? expected->name : "");
    as_members_free(&m);
    as_folder_pattern_free(pattern);
}

/* ------------------------------------------------------------------ operations */

static as_keep_rules any_rules(bool at_least_one)
{
    static const char *const metrics[] = {NULL, "loss", "f1"};
    as_keep_rules r = {0};
    do {
        r.last = between(&seed, 0, 2) ? between(&seed, 1, 5) : 0;
        r.every = between(&seed, 0, 2) ? 0 : between(&seed, 1, 60);
        r.best = between(&seed, 0, 2) ? 0 : between(&seed, 1, 4);
        r.metric = metrics[between(&seed, 0, 2)];
        r.metric_max = between(&seed, 0, 1) != 0;
        r.seconds = between(&seed, 0, 2) ? 0 : (double)between(&seed, 1, 40000);
    } while (at_least_one && !as_keep_rules_any(&r));
    return r;
}

static book_one *any_one(void)
{
    book *b = account();
    return b->count ? &b->items[between(&seed, 0, (int64_t)b->count - 1)] : NULL;
}

static book_one any_save(void)
{
    static const double values[] = {1, 2, 2.5, 2.5, -INFINITY, NAN};
    book_one one = {.id = next_id++, .time_ms = now_ms};
    if (between(&seed, 0, 9) == 0) {
        at_step = between(&seed, 10, at_step); /* the run went back */
    } else if (between(&seed, 0, 9)) {
        at_step += between(&seed, 1, 20);
    } /* else: the same step again */
    one.step = at_step;
    (void)snprintf(one.name, sizeof one.name, "e%d_s%lld", (int)between(&seed, 0, 1),
                   (long long)one.step);
    if (between(&seed, 0, 2)) {
        one.metric = between(&seed, 0, 3) ? "loss" : "f1";
        one.value = values[between(&seed, 0, 5)];
    }
    one.tagged = between(&seed, 0, 9) == 0;
    return one;
}

/* A save or a prune, in whatever state the root is, and the accounts afterwards. */
static void work(bool is_save)
{
    static book after[CANDIDATES];
    size_t count = 0;
    job j = {
        .kind = is_save ? JOB_SAVE : JOB_PRUNE,
        .root = root,
        .now_ms = now_ms,
        .rules = is_save ? rules : any_rules(true),
    };
    enum trouble trouble = NONE;
    set_name(j.loaded, loaded);
    if (is_save) {
        j.one = any_save();
    }
    if (between(&seed, 0, 9) < 5) {
        trouble = between(&seed, 0, 2) ? KILL : (enum trouble)between(&seed, FAIL, FULL_DISK);
    } else if (account_count == 1 && any_one() && between(&seed, 0, 2) == 0) {
        const book_one *one = any_one();
        if (strcmp(one->name, j.one.name) != 0) {
            set_name(j.tag, one->name);
        }
    }
    int code = perform(&j, trouble);
    for (size_t i = 0; i < account_count; i++) {
        if (is_save) {
            foresee_save(&accounts[i], &j, code, trouble, after, &count);
        } else {
            foresee_prune(&accounts[i], &j, trouble, after, &count);
        }
    }
    memcpy(accounts, after, count * sizeof *after);
    account_count = count;
    tally.saves += is_save;
    tally.prunes += !is_save;
    tally.killed += code == JOB_KILLED;
    tally.failed += code != AS_OK && code != JOB_KILLED;
    /* Now and then the next save or prune finds what a killed one left. What may have gone or not must
     * be known before the rules are asked again. */
    if (trouble != KILL || account_count > CANDIDATES / 8 || between(&seed, 0, 3)) {
        settle();
        check_root(is_save ? "save" : "prune");
    }
}

static void change_tag(void)
{
    book_one *one = any_one();
    if (one) {
        one->tagged = !one->tagged;
        series_tag(root, one->name, one->tagged);
        tally.tags++;
    }
}

/* One rots; the newest is spared now and then, so that there is something to go on from. */
static void rot(void)
{
    book_one *one = any_one();
    if (one && !one->foreign && !one->damaged) {
        one->damaged = true;
        series_damage(root, one->name);
        tally.rots++;
    }
}

/* A person tidies up: what the rules never take. */
static void tidy(void)
{
    book *b = account();
    for (size_t i = b->count; i-- > 0;) {
        book_one one = b->items[i];
        char path[400];
        (void)snprintf(path, sizeof path, "%s/%s", root, one.name);
        if (one.damaged && strcmp(one.name, b->latest) != 0) {
            remove_tree(path);
            book_drop(b, one.name);
        } else if (one.tagged && between(&seed, 0, 1)) {
            b->items[i].tagged = false;
            series_tag(root, one.name, false);
        }
    }
}

/* Another run takes over, from one of the checkpoints, by its own rules. */
static void restart(void)
{
    const book_one *one = between(&seed, 0, 3) ? book_newest(account()) : any_one();
    rules = any_rules(false);
    set_name(loaded, one ? one->name : "none");
    at_step = one && one->step >= 10 ? one->step : 10;
}

static void operate(void)
{
    int64_t what = between(&seed, 0, 99);
    now_ms += between(&seed, 1, 3600) * 1000;
    if (what < 55) {
        work(true);
        return;
    }
    if (what < 72) {
        work(false);
        return;
    }
    settle();
    check_root("recovery");
    if (what < 82) {
        change_tag();
    } else if (what < 86) {
        rot();
    } else if (what < 92) {
        now_ms += between(&seed, -30, 30) * 86400 * 1000 / 7;
        tally.jumps++;
    } else if (what < 97) {
        restart();
    } else {
        tidy();
    }
    if (account()->count > CROWD) {
        rules.last = 2;
        tidy();
    }
    check_root("an operation by hand");
    check_members();
}

static int64_t number_of(const char *variable, int64_t usual)
{
    const char *text = getenv(variable);
    return text && *text ? strtoll(text, NULL, 0) : usual;
}

static void lay_foreign(const char *name, int64_t step)
{
    as_error e = AS_ERROR_INIT;
    book_one one = {.id = next_id++, .step = step, .foreign = true};
    (void)snprintf(one.name, sizeof one.name, "%s", name);
    int folder = open(root, O_RDONLY | O_DIRECTORY);
    must(folder >= 0, root);
    assert_int_equal(series_lay(folder, root, &one, &e), AS_OK);
    (void)close(folder);
    book_put(&accounts[0], &one);
}

static void a_series_lives_through_all_of_it(void **state)
{
    (void)state;
    const char *text = getenv("ALLSHARD_LONG");
    bool is_long = text && *text && strcmp(text, "0") != 0;
    uint64_t begin = (uint64_t)number_of("ALLSHARD_SEED", 20261122);
    int operations = (int)number_of("ALLSHARD_OPERATIONS", is_long ? 100000 : OPERATIONS);
    seed = begin;
    print_message("seed %llu, %d operations\n", (unsigned long long)begin, operations);
    account_count = 1;
    lay_foreign("e0_s1", 1); /* somebody else's, which no rule takes */
    lay_foreign("e1_s3", 3);
    rules = (as_keep_rules){.last = 3};
    for (operation = 1; operation <= operations; operation++) {
        operate();
    }
    settle();
    check_root("the end");
    print_message("saves %d, prunes %d; killed %d, failed %d, recoveries killed %d; tags %d, of "
                  "which came in a prune %d; rotten %d, clock jumps %d\n",
                  tally.saves, tally.prunes, tally.killed, tally.failed, tally.recoveries,
                  tally.tags + tally.races, tally.races, tally.rots, tally.jumps);
    assert_true(tally.killed > operations / 20 && tally.failed > operations / 200);
    assert_true(tally.races > 0 || operations < 1000);
}

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(root, sizeof root, "%s", scratch_folder());
    fault_install();
    job_install();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    remove_tree(root);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_series_lives_through_all_of_it),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
