/* SPDX-License-Identifier: Apache-2.0
 * Tied tensors: huggingface_hub's documented cases, and random storages against a
 * plain transcription of its rules.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/error.h"
#include "box_support.h"
#include "plan/ties.h"

enum { MOST = 12 };

/* ------------------------------------------------------------------------- the reference */

/* Is a before b, as Python sorts (begin, end, name)? */
static bool before(const as_tied *a, const as_tied *b)
{
    if (a->begin != b->begin) {
        return a->begin < b->begin;
    }
    return a->end != b->end ? a->end < b->end : strcmp(a->name, b->name) < 0;
}

static bool contains(const char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* Fills kept and place by the rules; false if an area has no complete name. */
static bool model_resolve(as_tied *t, size_t count, int64_t bytes, const char *const *discard,
                          size_t discard_count)
{
    for (size_t i = 0; i < count; i++) { /* insertion sort */
        for (size_t k = i; k > 0 && before(&t[k], &t[k - 1]); k--) {
            as_tied keep = t[k];
            t[k] = t[k - 1];
            t[k - 1] = keep;
        }
    }
    int area[MOST];
    int areas = 0;
    int64_t last_stop = -1;
    for (size_t i = 0; i < count; i++) {
        areas += t[i].begin >= last_stop;
        area[i] = areas;
        last_stop = t[i].end;
    }
    int64_t place = 0;
    for (int a = 1; a <= areas; a++) {
        const as_tied *keep = NULL;
        for (int round = 0; round < 2 && !keep; round++) {
            for (size_t i = 0; i < count; i++) {
                bool fits = area[i] == a && t[i].begin == 0 && t[i].end == bytes &&
                            (round == 1 || !contains(discard, discard_count, t[i].name));
                keep = fits && (!keep || strcmp(t[i].name, keep->name) < 0) ? &t[i] : keep;
            }
        }
        if (!keep) {
            return false;
        }
        for (size_t i = 0; i < count; i++) {
            t[i].kept = area[i] == a ? keep->tag : t[i].kept;
        }
        bool done[MOST] = {false};
        for (;;) { /* the others, sorted by name */
            size_t next = count;
            for (size_t i = 0; i < count; i++) {
                if (area[i] == a && !done[i] && &t[i] != keep &&
                    (next == count || strcmp(t[i].name, t[next].name) < 0)) {
                    next = i;
                }
            }
            if (next == count) {
                break;
            }
            done[next] = true;
            t[next].place = place++;
        }
    }
    return true;
}

static const as_tied *with_tag(const as_tied *t, size_t count, size_t tag)
{
    for (size_t i = 0; i < count; i++) {
        if (t[i].tag == tag) {
            return &t[i];
        }
    }
    fail();
    return NULL;
}

static void random_storages_are_the_references(void **state)
{
    (void)state;
    uint64_t seed = 7;
    static const char *const all[] = {"a",  "B",  "a.b", "aa", "é",   "z",
                                      "a0", "a1", "𝄞",   "_",  "a.a", "\xef\xbf\xbd"};
    int good = 0;
    int several = 0;
    for (int i = 0; i < 100000; i++) {
        int64_t bytes = between(&seed, 1, 6);
        size_t count = (size_t)between(&seed, 1, MOST);
        as_tied x[MOST] = {{0}};
        as_tied y[MOST] = {{0}};
        size_t from = (size_t)between(&seed, 0, MOST - 1);
        for (size_t k = 0; k < count; k++) {
            x[k].name = all[(from + 5 * k) % MOST];
            x[k].tag = 100 + k;
            x[k].begin = between(&seed, 0, 3) ? 0 : between(&seed, 0, bytes - 1);
            x[k].end = between(&seed, 0, 2) ? bytes : between(&seed, x[k].begin + 1, bytes);
            y[k] = x[k];
        }
        const char *discard[3] = {all[between(&seed, 0, 11)], all[between(&seed, 0, 11)], "none"};
        size_t discard_count = (size_t)between(&seed, 0, 3);
        size_t culprit = 0;
        as_error e = AS_ERROR_INIT;
        int code = as_ties_resolve(x, count, bytes, discard, discard_count, &culprit, &e);
        bool fine = model_resolve(y, count, bytes, discard, discard_count);
        assert_int_equal(code, fine ? AS_OK : AS_TIED);
        for (size_t k = 0; k < count && fine; k++) {
            const as_tied *t = with_tag(x, count, y[k].tag);
            assert_int_equal(t->kept, y[k].kept);
            if (t->kept != t->tag) {
                assert_int_equal(t->place, y[k].place);
                several++;
            }
        }
        if (!fine) {
            const as_tied *t = with_tag(x, count, culprit);
            assert_false(t->begin == 0 && t->end == bytes);
            assert_non_null(strstr(as_error_text(&e), "shared storage"));
        }
        good += fine;
        as_error_clear(&e);
    }
    assert_in_range(good, 10000, 95000);
    assert_true(several > 10000);
}

/* --------------------------------------------------------------------------- known cases */

/* "b>a" for each dropped name, in the order of recording; NULL: it must fail. */
static void expect(const char *verdict, int64_t bytes, as_tied *t, size_t count,
                   const char *const *discard, size_t discard_count)
{
    for (size_t i = 0; i < count; i++) {
        t[i].tag = i;
    }
    size_t culprit = count;
    int code = as_ties_resolve(t, count, bytes, discard, discard_count, &culprit, NULL);
    if (!verdict) {
        assert_int_equal(code, AS_TIED);
        assert_true(culprit < count);
        return;
    }
    assert_int_equal(code, AS_OK);
    char text[128] = "";
    size_t at = 0;
    for (int64_t place = 0; place < (int64_t)count; place++) {
        for (size_t i = 0; i < count; i++) {
            if (t[i].kept != t[i].tag && t[i].place == place) {
                at += (size_t)snprintf(text + at, sizeof text - at, "%s>%s ", t[i].name,
                                       with_tag(t, count, t[i].kept)->name);
            }
        }
    }
    assert_string_equal(text, verdict);
}

#define T(text, first, last)                                                                       \
    {                                                                                              \
        .name = (text), .begin = (first), .end = (last)                                            \
    }
#define TIED(...) (as_tied[]){__VA_ARGS__}, sizeof((as_tied[]){__VA_ARGS__}) / sizeof(as_tied)

static void documented_cases(void **state)
{
    (void)state;
    const char *const a[] = {"a", "b"};
    expect("b>a ", 8, TIED(T("b", 0, 8), T("a", 0, 8)), NULL, 0);
    expect("a>b ", 8, TIED(T("b", 0, 8), T("a", 0, 8)), a, 1);
    expect("b>a ", 8, TIED(T("b", 0, 8), T("a", 0, 8)), a, 2); /* discarding all is ignored */
    expect("b>a c>a ", 8, TIED(T("c", 0, 8), T("b", 0, 8), T("a", 0, 8)), NULL, 0);
    /* code points, not locale or case */
    expect("a>Z ", 8, TIED(T("a", 0, 8), T("Z", 0, 8)), NULL, 0);
    expect("é>z ", 8, TIED(T("é", 0, 8), T("z", 0, 8)), NULL, 0);
    /* a slice alone, disjoint halves */
    expect(NULL, 8, TIED(T("a", 0, 4)), NULL, 0);
    expect(NULL, 8, TIED(T("a", 4, 8)), NULL, 0);
    expect(NULL, 8, TIED(T("a", 0, 4), T("b", 4, 8)), NULL, 0);
    /* a view inside the whole is dropped for it, and even named first it is not kept */
    expect("a>b ", 8, TIED(T("b", 0, 8), T("a", 2, 5)), NULL, 0);
    expect("a>b ", 8, TIED(T("b", 0, 8), T("a", 0, 5)), NULL, 0);
    /* whole, [2:5] and [12:15]: the interval rule takes the last for a lone slice */
    expect(NULL, 100, TIED(T("full", 0, 100), T("x", 8, 20), T("y", 48, 60)), NULL, 0);
    expect("x>full y>full ", 100, TIED(T("full", 0, 100), T("x", 8, 20), T("y", 19, 60)), NULL, 0);
    expect("", 8, TIED(T("a", 0, 8)), NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documented_cases),
        cmocka_unit_test(random_storages_are_the_references),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
