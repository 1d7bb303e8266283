/* SPDX-License-Identifier: Apache-2.0
 * What an owner makes of headers, index lines and dropped names.
 */
#include "box_support.h"
#include "format_support.h"
#include "plan/found.h"
#include "plan/state.h"

enum { MOST = 60 };

/* The words of the messages, as they would lie in the mail. */
typedef struct messages {
    int64_t tensors[MOST][AS_F_HEAD];
    int64_t lines[MOST][AS_I_WORDS];
    int64_t aliases[MOST][AS_A_WORDS];
    int tensor_count;
    int line_count;
    int alias_count;
    as_found_list list;
} messages;

static as_hash hash_of(int64_t name)
{
    char text[24];
    int length = snprintf(text, sizeof text, "t%lld", (long long)name);
    return as_name_hash(text, (size_t)length);
}

static void put_hash(int64_t *words, int64_t name)
{
    as_hash h = hash_of(name);
    words[0] = (int64_t)h.high;
    words[1] = (int64_t)h.low;
}

static void add_tensor(messages *m, int64_t name, int64_t file)
{
    int64_t *words = m->tensors[m->tensor_count];
    put_hash(words, name);
    words[AS_F_FILE] = file;
    words[AS_F_LABEL] = -1 - m->tensor_count;
    as_found f = {.words = words, .rank = m->tensor_count++};
    assert_int_equal(as_buffer_append(&m->list.tensors, &f, sizeof f, NULL), AS_OK);
}

static void add_line(messages *m, int64_t name, int64_t file)
{
    int64_t *words = m->lines[m->line_count];
    put_hash(words, name);
    words[AS_I_FILE] = file;
    words[AS_I_LABEL] = -1 - m->line_count++;
    assert_int_equal(as_buffer_append(&m->list.lines, &words, sizeof words, NULL), AS_OK);
}

static void add_alias(messages *m, int64_t name, int64_t kept)
{
    int64_t *words = m->aliases[m->alias_count++];
    put_hash(words + AS_A_NAME, name);
    put_hash(words + AS_A_KEPT, kept);
    assert_int_equal(as_buffer_append(&m->list.aliases, &words, sizeof words, NULL), AS_OK);
}

/* Names in any order and in several files; the index takes each from one of them. */
static void the_index_decides(void **state)
{
    (void)state;
    uint64_t seed = 12;
    for (int i = 0; i < 20000; i++) {
        messages m = {.tensor_count = 0};
        int64_t in_file[MOST / 3]; /* by the index; −1: not named */
        int names = (int)between(&seed, 1, MOST / 3);
        bool indexed = between(&seed, 0, 3) > 0;
        bool broken = indexed && between(&seed, 0, 5) == 0;
        for (int n = 0; n < names; n++) {
            bool held[3] = {false};
            for (int64_t f = 0; f < (indexed ? 3 : 1); f++) {
                held[f] = !indexed || between(&seed, 0, 1);
                if (held[f]) {
                    add_tensor(&m, n, f);
                }
            }
            int64_t file = between(&seed, 0, 2);
            in_file[n] = indexed ? -1 : 0;
            if (indexed && held[file]) {
                in_file[n] = file;
                add_line(&m, n, file);
            }
        }
        if (broken) {
            add_line(&m, 1000, 2);
        }
        as_fault fault = AS_FAULT_INIT;
        as_error e = AS_ERROR_INIT;
        ASSERT_CODE(broken ? AS_FORMAT : AS_OK, as_found_settle(&m.list, indexed, &fault, &e), &e);
        for (int n = 0; n < names && !broken; n++) {
            const as_found *f = as_found_find(&m.list, hash_of(n));
            assert_int_equal(f != NULL, in_file[n] >= 0);
            if (f) {
                assert_int_equal(f->words[AS_F_FILE], in_file[n]);
                assert_true(as_hash_equal(as_words_hash(f->words), hash_of(n)));
                assert_int_equal(f->words[AS_F_LABEL], -1 - f->rank);
            }
        }
        assert_null(broken ? NULL : as_found_find(&m.list, hash_of(1000)));
        assert_int_equal(fault.rank[0], broken ? 0 : -1);
        as_error_clear(&e);
        as_found_free(&m.list);
    }
}

static void a_line_without_its_tensor(void **state)
{
    (void)state;
    messages m = {.tensor_count = 0};
    add_tensor(&m, 1, 0);
    add_tensor(&m, 2, 1);
    add_line(&m, 1, 0);
    add_line(&m, 2, 3); /* another file than the one that has it */
    as_fault fault = AS_FAULT_INIT;
    as_error e = AS_ERROR_INIT;
    ASSERT_CODE(AS_FORMAT, as_found_settle(&m.list, true, &fault, &e), &e);
    assert_int_equal(fault.rank[0], 0);
    assert_int_equal(fault.label[0], -2);
    assert_int_equal(fault.rank[1], 0);
    assert_int_equal(fault.label[1], AS_LABEL_FILE(3));
    as_fault_fill(&e, "na\"me", NULL);
    assert_non_null(strstr(as_error_text(&e), "tensor \"na\\\"me\" is in (name unknown)"));
    as_error_clear(&e);
    as_found_free(&m.list);
}

static void dropped_names(void **state)
{
    (void)state;
    messages m = {.tensor_count = 0};
    assert_int_equal(as_found_settle(&m.list, true, NULL, NULL), AS_OK);
    assert_null(as_found_alias(&m.list, hash_of(1)));
    assert_null(as_found_find(&m.list, hash_of(1)));
    for (int64_t n = 0; n < 50; n++) {
        add_alias(&m, n * 7 % 50, n);
    }
    assert_int_equal(as_found_settle(&m.list, false, NULL, NULL), AS_OK);
    for (int64_t n = 0; n < 50; n++) {
        const int64_t *words = as_found_alias(&m.list, hash_of(n * 7 % 50));
        assert_non_null(words);
        assert_true(as_hash_equal(as_words_hash(words + AS_A_KEPT), hash_of(n)));
    }
    assert_null(as_found_alias(&m.list, hash_of(50)));
    as_found_free(&m.list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_index_decides),
        cmocka_unit_test(a_line_without_its_tensor),
        cmocka_unit_test(dropped_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
