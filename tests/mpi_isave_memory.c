/* SPDX-License-Identifier: Apache-2.0
 * Memory of nonblocking saves. The peak of each rank stays within snapshot_memory, the pool and a
 * few MiB for plan, threads and MPI, for models of half to 16 times that limit, as a snapshot where
 * it fits and as a stream where it does not. Many saves in a row: memory, descriptors, threads and
 * what MPI has open stay as they were, and no page is touched for the first time after the first.
 * 500 of them with ALLSHARD_LONG=1. Sanitizers use memory of their own: there only what is open is
 * looked at.
 */
/* ranks: 2 */
/* timeout: 300 */
/* long-timeout: 1200 */
#include <sys/prctl.h>
#include <sys/resource.h>

#include "memory_scene.h"
#include "mpi_counts.h"

enum {
    MIB = 1 << 20,
    LIMIT_MIB = 16, /* snapshot_memory */
    POOL_MIB = 8,
    SLACK_MIB = 10,
    ROWS = 2048, /* 16 MiB in a tensor, 8 of them on each rank */
    COLUMNS = 2048,
    TENSORS = 32,
    SMALL_ROWS = 1024,
    WARM = 6,
    SAVES = 60,
    LONG_SAVES = 500,
    SANITIZED_SAVES = 10,
    PAGE = 4096
};

static allshard *as;
static uint32_t *memory[TENSORS];
static int tensors;
static int64_t rows;
static int64_t peak_open; /* after allshard_open, bytes */

static int64_t elements(void)
{
    return rows * COLUMNS / world_size();
}

/* Element `k` of this rank's piece is that element of the tensor. */
static int64_t element_at(bool columns, int64_t k)
{
    int64_t width = COLUMNS / world_size();
    int64_t height = rows / world_size();
    return columns ? k / width * COLUMNS + world_rank() * width + k % width
                   : world_rank() * height * COLUMNS + k;
}

static allshard_state *declare(bool columns)
{
    int64_t from[2] = {0, 0};
    int64_t local[2] = {rows, COLUMNS};
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
                             .shape = (int64_t[]){rows, COLUMNS},
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

static void spoil(int value)
{
    for (int i = 0; i < tensors; i++) {
        memset(memory[i], value, (size_t)elements() * sizeof(uint32_t));
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

/* Saves; the weights change as soon as they may. */
static allshard_stats save(allshard_state *s, const char *folder, int32_t staging)
{
    allshard_save_options o = {
        .size = sizeof o, .max_shard_size = "300MB", .block_bytes = MIB, .staging = staging};
    allshard_stats stats = {.size = sizeof stats};
    allshard_request *request = NULL;
    int over = 0;
    GOOD(as, allshard_isave(s, folder, &o, &request));
    spoil(1);
    while (!over) {
        GOOD(as, allshard_test(request, &over));
        (void)nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
    GOOD(as, allshard_wait(&request, &stats));
    return stats;
}

/* ---- the peak ---- */

static void check_peak(const char *what, bool reset, int64_t base, const allshard_stats *stats)
{
    int64_t declared = tensors * elements() * (int64_t)sizeof(uint32_t);
    int64_t limit = (int64_t)(LIMIT_MIB + POOL_MIB + SLACK_MIB) * MIB + (reset ? 0 : declared);
    int64_t above = status_of("VmHWM") - (reset ? base : peak_open);
    int64_t most = ranks_max(world_comm(), above);
    bool stream = declared > (int64_t)LIMIT_MIB * MIB;
    if (world_rank() == 0) {
        (void)printf("%s: %lld MiB on each rank, limit %d MiB: a %s in %.1f s, returned after %.2f "
                     "s; peak %.1f MiB above, %lld allowed\n",
                     what, (long long)(declared / MIB), LIMIT_MIB, stream ? "stream" : "snapshot",
                     stats->durable_s, stats->staged_s, (double)most / MIB,
                     (long long)(limit / MIB));
    }
    CHECK_TEXT(above < limit, "%s: %lld bytes above, limit %lld", what, (long long)above,
               (long long)limit);
    CHECK(stats->staging == (stream ? ALLSHARD_STAGE_STREAM : ALLSHARD_STAGE_SNAPSHOT));
    CHECK_TEXT(*stats->staging_reason, "no reason is told");
    CHECK_TEXT(stats->snapshot_bytes <= (int64_t)LIMIT_MIB * MIB, "%lld bytes of memory",
               (long long)stats->snapshot_bytes);
}

static void run(const char *folder, bool columns)
{
    allshard_state *s = declare(columns);
    fill(columns);
    bool reset = ranks_max(world_comm(), !reset_peak()) == 0;
    int64_t base = status_of("VmRSS");
    allshard_stats stats = save(s, folder, ALLSHARD_STAGE_AUTO);
    check_peak(columns ? "columns" : "fsdp", reset, base, &stats);
    GOOD(as, allshard_trim(as));
    /* The pool stays, as far as it was used. */
    int64_t more = status_of("VmRSS") - base;
    CHECK_TEXT(more < (int64_t)(POOL_MIB + SLACK_MIB) * MIB, "%lld bytes more after allshard_trim",
               (long long)more);
    GOOD(as, allshard_load(s, folder, NULL));
    check_filled(columns);
    (void)allshard_state_free(s);
}

static void get_memory(void)
{
    for (int i = 0; i < tensors; i++) {
        memory[i] = malloc((size_t)elements() * sizeof(uint32_t));
        CHECK(memory[i] != NULL);
    }
    spoil(2);
}

static void free_memory(void)
{
    for (int i = 0; i < tensors; i++) {
        free(memory[i]);
    }
}

static void open_limited(void)
{
    allshard_options o = {.size = sizeof o,
                          .memory = (int64_t)POOL_MIB * MIB,
                          .snapshot_memory = (int64_t)LIMIT_MIB * MIB};
    CHECK(allshard_open(&as, world_comm(), &o) == ALLSHARD_OK);
}

static void check_peaks(const char *folder)
{
    static const int sizes[] = {1, 8, TENSORS};
    open_limited();
    peak_open = status_of("VmHWM");
    rows = ROWS;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        tensors = sizes[i];
        get_memory();
        run(folder, false);
        run(folder, true);
        free_memory();
    }
    CHECK(allshard_close(as) == ALLSHARD_OK);
}

/* ---- many in a row ---- */

static int64_t faults_now(void)
{
    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
    return usage.ru_minflt;
}

/* Snapshots and streams in turn: both fit into what the first one had. */
static void save_many(allshard_state *s, const char *folder, int from, int to)
{
    for (int i = from; i < to; i++) {
        allshard_stats stats =
            save(s, folder, i % 3 == 2 ? ALLSHARD_STAGE_STREAM : ALLSHARD_STAGE_SNAPSHOT);
        CHECK_TEXT((stats.touched_bytes > 0) == (i == 0), "save %d: %lld bytes were had", i,
                   (long long)stats.touched_bytes);
    }
}

static void check_many(void)
{
    const char *folder = scratch_path("many");
    const char *given = getenv("ALLSHARD_LONG");
    bool lengthy = given && *given && strcmp(given, "0") != 0;
    int saves = lengthy ? LONG_SAVES : is_sanitized() ? SANITIZED_SAVES : SAVES;
    rows = SMALL_ROWS;
    tensors = 2;
    /* One fault for each page that is touched first. */
    (void)prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    open_limited();
    get_memory();
    allshard_state *s = declare(true);
    save_many(s, folder, 0, WARM);
    open_things baseline = count_open();
    int64_t pages = tensors * elements() * (int64_t)sizeof(uint32_t) / PAGE;
    int64_t resident = status_of("VmRSS");
    int64_t faults = faults_now();
    double start = seconds_now();
    save_many(s, folder, WARM, WARM + saves);
    faults = (faults_now() - faults) / saves;
    resident = status_of("VmRSS") - resident;
    const char *leaked = what_leaked(&baseline);
    CHECK_TEXT(!leaked, "after %d saves: %s", saves, leaked);
    int64_t most_faults = ranks_max(world_comm(), faults);
    int64_t most_resident = ranks_max(world_comm(), resident);
    if (world_rank() == 0) {
        (void)printf("%d nonblocking saves in a row, %lld pages each, %.1f s: %lld page faults in "
                     "each, %lld KiB more\n",
                     saves, (long long)pages, seconds_now() - start, (long long)most_faults,
                     (long long)most_resident / 1024);
    }
    if (!is_sanitized()) {
        CHECK_TEXT(faults < pages / 16, "%lld page faults in each save", (long long)faults);
        CHECK_TEXT(resident < 2L * MIB, "%lld bytes more", (long long)resident);
    }
    (void)allshard_state_free(s);
    CHECK(allshard_close(as) == ALLSHARD_OK);
    free_memory();
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 280);
    CHECK(world_size() == 2);
    const char *folder = is_sanitized() ? NULL : disk_folder(2);
    if (folder) {
        check_peaks(folder);
        ranks_wait(world_comm());
        if (world_rank() == 0) {
            remove_tree(folder);
        }
    } else if (world_rank() == 0) {
        (void)printf("without the peaks: sanitizers, or no 2 GiB of disk (TMPDIR says where)\n");
    }
    (void)alarm(1100);
    check_many();
    return ranks_end();
}
