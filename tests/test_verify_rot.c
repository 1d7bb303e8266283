/* SPDX-License-Identifier: Apache-2.0
 * timeout: 300
 * Bit rot: every byte of a small checkpoint (shards, index, an accompanying file, the manifest)
 * loses a bit once, and 1,000 random ones of a large one do. verify finds each in its file, and in
 * its tensor. ALLSHARD_SEED changes bits and places.
 */
#include "verify_scene.h"

static scene small_scene(const char *folder, int64_t block_bytes)
{
    static const int64_t a[] = {40, 100, 3};
    static const int64_t b[] = {200};
    static const int64_t c[] = {1, 63, 64, 65};
    scene s = {.folder = folder, .block_bytes = block_bytes};
    add_shard(&s, "model-00001-of-00003.safetensors", a, 3);
    add_shard(&s, "model-00002-of-00003.safetensors", b, 1);
    add_shard(&s, "model-00003-of-00003.safetensors", c, 4);
    add_index(&s);
    add_text(&s, "config.json", AS_ROLE_EXTRA, "{\"model_type\": \"llama\", \"x\": 0.5}\n");
    put_scene(&s);
    return s;
}

/* Is there a fault of that file, and, for a place in a shard's data, one that has the place and names
 * its tensor? */
static bool is_found(const as_findings *found, const char *file, int64_t at, const char *tensor)
{
    for (size_t i = 0; i < found->count; i++) {
        const as_finding *x = &found->items[i];
        if (!x->is_fault || strcmp(x->file, file) != 0) {
            continue;
        }
        if (!tensor ||
            (number_of(x, "begin") <= at && at < number_of(x, "end") && names_tensor(x, tensor))) {
            return true;
        }
    }
    return false;
}

/* Does the checksum of the block with that place tell, too? Not so where the index cannot be
 * read. */
static bool is_placed(const as_findings *found, const char *file, int64_t at)
{
    for (size_t i = 0; i < found->count; i++) {
        const as_finding *x = &found->items[i];
        if (strcmp(x->file, file) == 0 && number_of(x, "begin") <= at && at < number_of(x, "end")) {
            return true;
        }
    }
    return false;
}

static void flip(const scene *s, const char *name, const char *bytes, int64_t at,
                 const scene_file *shard)
{
    as_verify_options o = {.engine = "posix"};
    as_verdict v;
    as_error e = AS_ERROR_INIT;
    change_byte(s->folder, name, at, (char)(bytes[at] ^ (1 << (draw() & 7))));
    assert_int_equal(verify_now(&v, s->folder, &o, &e), AS_OK);
    const char *tensor = shard ? tensor_at(shard, at) : NULL;
    if (!is_found(&v.findings, name, at, tensor)) {
        fail_msg("%s: byte %lld (tensor %s) was not found", name, (long long)at,
                 tensor ? tensor : "none");
    }
    if (shard && shard->role != AS_ROLE_INDEX && !is_placed(&v.findings, name, at)) {
        fail_msg("%s: byte %lld has no range", name, (long long)at);
    }
    as_verdict_free(&v);
    change_byte(s->folder, name, at, bytes[at]);
}

static void check_good(const scene *s)
{
    as_verify_options o = {.deep = true};
    as_verdict v;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(verify_now(&v, s->folder, &o, &e), AS_OK);
    assert_int_equal(v.findings.count, 0);
    assert_null(v.unknown);
    int64_t blocks = 0;
    int64_t bytes = 0;
    for (int f = 0; f < s->count; f++) {
        blocks += (s->files[f].size - 1) / s->block_bytes + 1;
        bytes += s->files[f].size;
    }
    assert_int_equal(v.blocks_compared, blocks);
    assert_int_equal(v.bytes_read, bytes);
    as_verdict_free(&v);
}

static void test_every_byte(void **state)
{
    (void)state;
    static const int64_t block_sizes[] = {64, 4 << 20};
    int64_t flips = 0;
    for (size_t k = 0; k < sizeof block_sizes / sizeof *block_sizes; k++) {
        scene s = small_scene(scratch_folder(), block_sizes[k]);
        check_good(&s);
        for (int f = 0; f < s.count; f++) {
            for (int64_t at = 0; at < s.files[f].size; at++, flips++) {
                flip(&s, s.files[f].name, s.files[f].bytes, at, &s.files[f]);
            }
        }
        char manifest[16384];
        char path[512];
        (void)snprintf(path, sizeof path, "%s/%s", s.folder, AS_MANIFEST_NAME);
        FILE *in = fopen(path, "r");
        assert_non_null(in);
        int64_t size = (int64_t)fread(manifest, 1, sizeof manifest, in);
        assert_int_equal(fclose(in), 0);
        assert_true(size > 0 && size < (int64_t)sizeof manifest);
        for (int64_t at = 0; at < size; at++, flips++) {
            flip(&s, AS_MANIFEST_NAME, manifest, at, NULL);
        }
        check_good(&s);
        remove_tree(s.folder);
        free_scene(&s);
    }
    printf("%lld flipped bits in small checkpoints, all found\n", (long long)flips);
}

enum { ROUNDS = 20, FLIPS = 50, LARGE = 64 << 20 };

/* One round: several places at once; the blocks that are told are theirs, and no others. */
static void check_round(const scene *s)
{
    as_verify_options o = {0};
    as_verdict v;
    as_error e = AS_ERROR_INIT;
    int file[FLIPS];
    int64_t at[FLIPS];
    for (int i = 0; i < FLIPS; i++) {
        file[i] = (int)(draw() % 4);
        at[i] = (int64_t)(draw() % (uint64_t)s->files[file[i]].size);
        bool again = false;
        for (int k = 0; k < i; k++) {
            again = again || (file[k] == file[i] && at[k] == at[i]);
        }
        if (again) {
            i--;
            continue;
        }
        change_byte(s->folder, s->files[file[i]].name, at[i],
                    (char)(s->files[file[i]].bytes[at[i]] ^ (1 << (draw() & 7))));
    }
    assert_int_equal(verify_now(&v, s->folder, &o, &e), AS_OK);
    for (int i = 0; i < FLIPS; i++) {
        const scene_file *f = &s->files[file[i]];
        const char *tensor = tensor_at(f, at[i]);
        if (!is_placed(&v.findings, f->name, at[i]) ||
            (tensor && !is_found(&v.findings, f->name, at[i], tensor))) {
            fail_msg("%s: byte %lld was not found", f->name, (long long)at[i]);
        }
    }
    for (size_t k = 0; k < v.findings.count; k++) {
        const as_finding *x = &v.findings.items[k];
        for (int64_t b = number_of(x, "begin"); b >= 0 && b < number_of(x, "end");
             b += s->block_bytes) {
            bool mine = false;
            for (int i = 0; i < FLIPS; i++) {
                mine = mine || (strcmp(s->files[file[i]].name, x->file) == 0 && b <= at[i] &&
                                at[i] < b + s->block_bytes);
            }
            if (!mine) {
                fail_msg("%s: the block at %lld is good", x->file, (long long)b);
            }
        }
    }
    as_verdict_free(&v);
    for (int i = 0; i < FLIPS; i++) {
        const scene_file *f = &s->files[file[i]];
        change_byte(s->folder, f->name, at[i], f->bytes[at[i]]);
    }
}

static void test_large(void **state)
{
    (void)state;
    scene s = {.folder = scratch_folder(), .block_bytes = 64 << 10};
    for (int f = 0; f < 4; f++) {
        char name[64];
        int64_t sizes[MOST_TENSORS];
        int64_t left = LARGE;
        for (int i = 0; i < MOST_TENSORS; i++) {
            sizes[i] = i + 1 == MOST_TENSORS ? left : (int64_t)(draw() % (2 * LARGE / 16));
            sizes[i] = sizes[i] < left ? sizes[i] : left;
            left -= sizes[i];
        }
        (void)snprintf(name, sizeof name, "model-%05d-of-00004.safetensors", f + 1);
        add_shard(&s, name, sizes, MOST_TENSORS);
    }
    add_index(&s);
    put_scene(&s);
    check_good(&s);
    for (int i = 0; i < ROUNDS; i++) {
        check_round(&s);
    }
    check_good(&s);
    printf("%d flipped bits in %lld bytes, all found\n", ROUNDS * FLIPS, (long long)s.tensor_bytes);
    remove_tree(s.folder);
    free_scene(&s);
}

/* Blocks larger than what is read at once, and smaller than anything. */
static void test_block_sizes(void **state)
{
    (void)state;
    static const int64_t block_sizes[] = {
        1, 7, 4096, (4 << 20) - 64, 9 << 20, 5000001, INT64_C(1) << 62};
    static const int64_t sizes[] = {10 << 20, 100001};
    for (size_t k = 0; k < sizeof block_sizes / sizeof *block_sizes; k++) {
        scene s = {.folder = scratch_folder(), .block_bytes = block_sizes[k]};
        static const int64_t few[] = {4000, 333};
        add_shard(&s, "model.safetensors", k < 2 ? few : sizes, 2);
        put_scene(&s);
        check_good(&s);
        for (int i = 0; i < 20; i++) {
            flip(&s, s.files[0].name, s.files[0].bytes,
                 (int64_t)(draw() % (uint64_t)s.files[0].size), &s.files[0]);
        }
        check_good(&s);
        remove_tree(s.folder);
        free_scene(&s);
    }
}

int main(void)
{
    seed_from_environment();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_block_sizes),
        cmocka_unit_test(test_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
