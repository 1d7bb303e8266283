/* SPDX-License-Identifier: Apache-2.0
 * Saves on every number of ranks with every layout, loads on every number of ranks with every
 * layout: all saves give the same bytes, all loads the tensors that were saved. Small blocks and
 * four buffers make seams, exchanges and full pools of every save. Left out, but for
 * ALLSHARD_LONG=1, are three in four of the loads that have to do with tiles or with more than four
 * ranks (others with another ALLSHARD_SEED), and with ALLSHARD_SANITIZE=1 all loads but a sample.
 */
/* unshared: 4 */
/* ranks: 8 4 */
/* timeout: 300 */
/* long-timeout: 3600 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint_folder.h"
#include "support_model.h"
#include "support_ranks.h"

enum { MOST_RANKS = 8, SAMPLE = 11, ONE_IN = 4, FEW_RANKS = 4 };

static const char shard_size[] = "12KB";

/* What this rank holds in one world of `ranks` ranks. */
typedef struct party {
    int ranks;
    allshard_comm comm;
    allshard *as;
    holding holdings[LAYOUT_COUNT];
    allshard_state *states[LAYOUT_COUNT];
} party;

static void open_party(party *p, int ranks)
{
    p->ranks = ranks;
    ranks_first(ranks, &p->comm);
    if (world_rank() >= ranks) {
        return;
    }
    /* The fewest buffers, or some more. */
    allshard_options options = {.size = sizeof options, .memory = ranks % 2 ? 1 : 64 << 10};
    CHECK(allshard_open(&p->as, p->comm, &options) == ALLSHARD_OK);
    for (int layout = 0; layout < LAYOUT_COUNT; layout++) {
        holding_make(&p->holdings[layout], &model_mixed, (enum layout)layout, world_rank(), ranks,
                     true);
        GOOD(p->as, allshard_state_create(&p->states[layout], p->as, "model"));
        holding_declare(&p->holdings[layout], p->as, p->states[layout]);
    }
}

static void close_party(party *p)
{
    if (world_rank() < p->ranks) {
        for (int layout = 0; layout < LAYOUT_COUNT; layout++) {
            (void)allshard_state_free(p->states[layout]);
            holding_free(&p->holdings[layout]);
        }
        CHECK(allshard_close(p->as) == ALLSHARD_OK);
    }
    ranks_free(&p->comm);
}

static const char *folder_of(int ranks, int layout)
{
    char name[64];
    (void)snprintf(name, sizeof name, "saved-%d-%s", ranks, layout_name((enum layout)layout));
    return scratch_path(name);
}

/* Blocks of all sizes; the smallest only now and then, since they take their time. */
static int64_t block_bytes(unsigned number)
{
    static const int64_t sizes[] = {4096, 256, 1024, 64, 16384, 512};
    return sizes[number % (sizeof sizes / sizeof sizes[0])];
}

static void save(party *p, int layout)
{
    allshard_save_options options = {.size = sizeof options, .max_shard_size = shard_size};
    options.block_bytes = block_bytes((unsigned)(p->ranks + layout));
    holding_fill(&p->holdings[layout]);
    GOOD(p->as, allshard_save(p->states[layout], folder_of(p->ranks, layout), &options));
    /* A save changes nothing in memory. */
    CHECK(holding_wrong(&p->holdings[layout]) == NULL);
}

/* The bytes of a file; *size is −1 if it is not there. The caller frees. */
static char *bytes_of(const char *folder, const char *name, long *size)
{
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    *size = -1;
    if (!f) {
        return NULL;
    }
    CHECK(fseek(f, 0, SEEK_END) == 0 && (*size = ftell(f)) >= 0 && fseek(f, 0, SEEK_SET) == 0);
    char *bytes = malloc((size_t)*size + 1);
    CHECK(bytes && fread(bytes, 1, (size_t)*size, f) == (size_t)*size);
    (void)fclose(f);
    return bytes;
}

/* Files of the folder, whose bytes must be those of the same name in `other`; without the
 * manifest, which tells who wrote. */
static int compare_files(const char *folder, const char *other)
{
    DIR *stream = opendir(folder);
    CHECK_TEXT(stream != NULL, "%s cannot be listed", folder);
    int count = 0;
    const struct dirent *entry;
    while ((entry = readdir(stream))) {
        if (entry->d_name[0] == '.' && strcmp(entry->d_name, ".allshard") != 0) {
            continue;
        }
        count++;
        if (strcmp(entry->d_name, "allshard.manifest.json") == 0) {
            continue;
        }
        long size;
        long other_size;
        char *bytes = bytes_of(folder, entry->d_name, &size);
        char *others = bytes_of(other, entry->d_name, &other_size);
        CHECK_TEXT(bytes && size == other_size && memcmp(bytes, others, (size_t)size) == 0,
                   "%s of %s has %ld bytes, that of %s has %ld or others", entry->d_name, folder,
                   size, other, other_size);
        free(bytes);
        free(others);
    }
    (void)closedir(stream);
    return count;
}

static unsigned number_from(const char *variable, unsigned otherwise)
{
    const char *text = getenv(variable);
    return text && *text ? (unsigned)strtoul(text, NULL, 10) : otherwise;
}

/* Among those that stay are all pairs of numbers of ranks, and all pairs of layouts. */
static bool is_left_out(int saved_as, int loaded_as, int most_ranks, unsigned number)
{
    bool costly = saved_as == LAYOUT_TILES || loaded_as == LAYOUT_TILES || most_ranks > FEW_RANKS;
    unsigned place = number + (unsigned)saved_as + number_from("ALLSHARD_SEED", 0);
    return number_from("ALLSHARD_LONG", 0) == 0 &&
           ((is_sanitized() && number % SAMPLE != 0) || (costly && place % ONE_IN != 0));
}

static void load(party *p, int layout, const char *from, unsigned number)
{
    allshard_load_options options = {.size = sizeof options};
    options.block_bytes = number % 8 == 0 ? block_bytes(number / 8) : 4096;
    holding_clear(&p->holdings[layout]);
    GOOD(p->as, allshard_load(p->states[layout], from, &options));
    const char *wrong = holding_wrong(&p->holdings[layout]);
    CHECK_TEXT(wrong == NULL, "%s on %d ranks from %s: tensor \"%s\" is wrong",
               layout_name((enum layout)layout), p->ranks, from, wrong);
    CHECK(allshard_missing_count(p->as) == 0 && allshard_unexpected_count(p->as) == 0);
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 1200);
    int most = world_size() < MOST_RANKS ? world_size() : MOST_RANKS;
    static party parties[MOST_RANKS + 1];
    double start = seconds_now();
    for (int ranks = 1; ranks <= most; ranks++) {
        open_party(&parties[ranks], ranks);
    }
    int saves = 0;
    for (int ranks = 1; ranks <= most; ranks++) {
        for (int layout = 0; layout < LAYOUT_COUNT; layout++, saves++) {
            if (world_rank() < ranks) {
                save(&parties[ranks], layout);
            }
            if (world_rank() == 0) {
                int files = compare_files(folder_of(ranks, layout), folder_of(1, LAYOUT_WHOLE));
                CHECK(files == compare_files(folder_of(1, LAYOUT_WHOLE), folder_of(ranks, layout)));
                CHECK(files >= 6); /* shards, index, manifest */
            }
            ranks_wait(world_comm());
        }
    }
    double saved = seconds_now();
    unsigned number = 0;
    int loads = 0;
    for (int ranks = 1; ranks <= most; ranks++) {
        for (int layout = 0; layout < LAYOUT_COUNT; layout++) {
            for (int on = 1; on <= most; on++) {
                for (int as_layout = 0; as_layout < LAYOUT_COUNT; as_layout++, number++) {
                    if (is_left_out(layout, as_layout, ranks > on ? ranks : on, number)) {
                        continue;
                    }
                    loads++;
                    if (world_rank() < on) {
                        load(&parties[on], as_layout, folder_of(ranks, layout), number);
                    }
                }
            }
        }
        ranks_wait(world_comm());
    }
    if (world_rank() == 0) {
        (void)printf("%d saves in %.1f s, all of the same bytes; %d of %u loads in %.1f s%s\n",
                     saves, saved - start, loads, number, seconds_now() - saved,
                     is_sanitized() ? " (with sanitizers: a sample)" : "");
    }
    for (int ranks = 1; ranks <= most; ranks++) {
        close_party(&parties[ranks]);
    }
    return ranks_end();
}
