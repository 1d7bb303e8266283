/* SPDX-License-Identifier: Apache-2.0
 * Peak memory of each rank in a save and a load of a model of more than 1 GiB: at most the pool,
 * what the rank declares, and 32 MiB, above its peak after allshard_open. Where the kernel lets the
 * peak be set back the test is stricter: the declared memory has been touched before, and does not
 * count. Sanitizers use memory of their own: skipped there, and without 3 GiB of disk.
 */
/* unshared: 4 */
/* ranks: 4 */
/* timeout: 400 */
#include "memory_scene.h"

/* 64 MiB each; the largest model is more than 1 GiB. */
enum { TENSORS = 17, ROWS = 4096, COLUMNS = 4096, MIB = 1 << 20, POOL_MIB = 64, SLACK_MIB = 32 };

static allshard *as;
static uint32_t *memory[TENSORS];
static int tensors;       /* of the model that is being tried */
static int64_t peak_open; /* after allshard_open, bytes */

/* Element `k` of this rank's piece is that element of the tensor. */
static int64_t element_at(bool columns, int64_t k)
{
    int64_t width = COLUMNS / world_size();
    int64_t height = ROWS / world_size();
    return columns ? k / width * COLUMNS + world_rank() * width + k % width
                   : world_rank() * height * COLUMNS + k;
}

static int64_t elements(void)
{
    return (int64_t)ROWS * COLUMNS / world_size();
}

static allshard_state *declare(bool columns)
{
    const int64_t shape[2] = {ROWS, COLUMNS};
    int64_t from[2] = {0, 0};
    int64_t local[2] = {ROWS, COLUMNS};
    allshard_state *s = NULL;
    GOOD(as, allshard_state_create(&s, as, "model"));
    local[columns] /= world_size();
    from[columns] = world_rank() * local[columns];
    for (int i = 0; i < tensors; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "layers.%d.weight", i);
        allshard_tensor t = {.size = sizeof t,
                             .name = name,
                             .dtype = ALLSHARD_U32,
                             .ndim = 2,
                             .shape = shape,
                             .offset = from,
                             .local_shape = local,
                             .data = memory[i],
                             .order = i + 1};
        GOOD(as, allshard_state_tensor(s, &t));
    }
    return s;
}

static void fill(bool columns)
{
    for (int i = 0; i < tensors; i++) {
        for (int64_t k = 0; k < elements(); k++) {
            memory[i][k] = value_at(i, element_at(columns, k));
        }
    }
}

static void check_filled(bool columns)
{
    for (int i = 0; i < tensors; i++) {
        for (int64_t k = 0; k < elements(); k++) {
            CHECK(memory[i][k] == value_at(i, element_at(columns, k)));
        }
    }
}

/* The highest peak of all ranks, and whether it is within bounds. */
static void check_peak(const char *what, bool columns, bool reset, int64_t base, double seconds)
{
    int64_t declared = tensors * elements() * (int64_t)sizeof(uint32_t);
    int64_t limit = (int64_t)(POOL_MIB + SLACK_MIB) * MIB + (reset ? 0 : declared);
    int64_t above = status_of("VmHWM") - (reset ? base : peak_open);
    int64_t most = ranks_max(world_comm(), above);
    if (world_rank() == 0) {
        (void)printf("%s of %lld MiB by %s in %.1f s: peak %.1f MiB above %s, limit %lld MiB\n",
                     what, (long long)(declared * world_size() / MIB), columns ? "columns" : "fsdp",
                     seconds, (double)most / MIB,
                     reset ? "declared memory and what was there" : "that after allshard_open",
                     (long long)(limit / MIB));
    }
    CHECK_TEXT(above < limit, "%s: %lld bytes above, limit %lld", what, (long long)above,
               (long long)limit);
}

static void run(const char *folder, bool save, bool columns)
{
    allshard_save_options options = {.size = sizeof options, .max_shard_size = "300MB"};
    allshard_state *s = declare(columns);
    if (save) {
        fill(columns);
    } else {
        for (int i = 0; i < tensors; i++) {
            memset(memory[i], 1, (size_t)elements() * sizeof(uint32_t));
        }
    }
    bool reset = ranks_max(world_comm(), !reset_peak()) == 0;
    int64_t base = status_of("VmRSS");
    double start = seconds_now();
    GOOD(as, save ? allshard_save(s, folder, &options) : allshard_load(s, folder, NULL));
    check_peak(save ? "save" : "load", columns, reset, base, seconds_now() - start);
    check_filled(columns);
    (void)allshard_state_free(s);
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 900);
    const char *folder = is_sanitized() ? NULL : disk_folder(3);
    if (!folder) {
        if (world_rank() == 0) {
            (void)printf("skipped: sanitizers, or no 3 GiB of disk (TMPDIR says where)\n");
        }
        (void)ranks_end();
        return 77;
    }
    CHECK(allshard_open(&as, world_comm(), NULL) == ALLSHARD_OK);
    peak_open = status_of("VmHWM");
    for (int i = 0; i < TENSORS; i++) {
        memory[i] = malloc((size_t)elements() * sizeof(uint32_t));
        CHECK(memory[i] != NULL);
    }
    /* The bound is the same for 1, 4 and 17 times the model. Each layout reads what the other has
     * written. */
    static const int sizes[] = {1, 4, TENSORS};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        tensors = sizes[i];
        run(folder, true, false);
        run(folder, false, true);
        run(folder, true, true);
        run(folder, false, false);
    }
    for (int i = 0; i < TENSORS; i++) {
        free(memory[i]);
    }
    CHECK(allshard_close(as) == ALLSHARD_OK);
    ranks_wait(world_comm());
    if (world_rank() == 0) {
        remove_tree(folder);
    }
    return ranks_end();
}
