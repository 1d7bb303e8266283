/* SPDX-License-Identifier: Apache-2.0 */
#include "support_rot.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/quote.h"
#include "checkpoint_folder.h"
#include "format/format.h"
#include "support_ranks.h"

enum { MOST_NAMES = 8 }; /* that an error of a load lists */

uint64_t rot_seed;
int64_t rot_flips;

uint64_t rot_draw(uint64_t below)
{
    rot_seed += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = rot_seed;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (z ^ (z >> 31)) % below;
}

rot_shard rot_shards[ROT_MOST_FILES];
int rot_shard_count;

void rot_path(char *out, size_t size, const char *folder, const char *name)
{
    int n = snprintf(out, size, "%s/%s", folder, name);
    CHECK(n > 0 && (size_t)n < size);
}

int64_t rot_size(const char *folder, const char *name)
{
    char path[1024];
    struct stat status = {0};
    rot_path(path, sizeof path, folder, name);
    return stat(path, &status) == 0 ? (int64_t)status.st_size : 0;
}

static int is_shard(const struct dirent *entry)
{
    size_t n = strlen(entry->d_name);
    return n > 12 && strcmp(entry->d_name + n - 12, ".safetensors") == 0;
}

void rot_free_shards(void)
{
    for (int i = 0; i < rot_shard_count; i++) {
        as_table_free(&rot_shards[i].table);
    }
    rot_shard_count = 0;
}

void rot_read_shards(const char *folder)
{
    struct dirent **names = NULL;
    rot_free_shards();
    rot_shard_count = scandir(folder, &names, is_shard, alphasort);
    CHECK(rot_shard_count > 0 && rot_shard_count <= ROT_MOST_FILES);
    for (int i = 0; i < rot_shard_count; i++) {
        char path[1024];
        rot_shard *s = &rot_shards[i];
        as_source source;
        (void)snprintf(s->name, sizeof s->name, "%s", names[i]->d_name);
        rot_path(path, sizeof path, folder, s->name);
        int fd = open(path, O_RDONLY);
        CHECK(fd >= 0 && as_source_file(&source, &fd, path, NULL) == AS_OK);
        CHECK(as_format_safetensors.read(&source, &s->table, NULL, NULL) == AS_OK);
        s->size = (int64_t)source.size;
        (void)close(fd);
        free(names[i]);
    }
    free(names);
    ranks_wait(world_comm()); /* before anything is flipped */
}

void rot_flip(const char *folder, const char *name, int64_t at, int bit)
{
    if (world_rank() == 0) {
        char path[1024];
        unsigned char byte = 0;
        rot_path(path, sizeof path, folder, name);
        int fd = open(path, O_RDWR);
        must(fd >= 0 && pread(fd, &byte, 1, (off_t)at) == 1, path);
        byte = (unsigned char)(byte ^ 1U << bit);
        must(pwrite(fd, &byte, 1, (off_t)at) == 1 && close(fd) == 0, path);
    }
}

const as_entry *rot_entry_at(const rot_shard *s, int64_t at, int64_t block, size_t *count)
{
    uint64_t low = (uint64_t)(at / block * block);
    uint64_t high = low + (uint64_t)block;
    const as_entry *found = NULL;
    *count = 0;
    for (size_t i = 0; i < as_table_count(&s->table); i++) {
        const as_entry *x = as_table_entry(&s->table, i);
        found = x->begin <= (uint64_t)at && (uint64_t)at < x->end ? x : found;
        *count += x->begin < x->end && x->begin < high && low < x->end;
    }
    return found;
}

void rot_expect_found(allshard *as, allshard_state *s, const char *path, const char *folder,
                      const rot_shard *f, int64_t at, int64_t block, const allshard_load_options *o)
{
    char bytes[100];
    size_t count;
    int bit = (int)rot_draw(8);
    const as_entry *x = rot_entry_at(f, at, block, &count);
    int64_t low = at / block * block;
    int64_t high = low + block < f->size ? low + block : f->size;
    (void)snprintf(bytes, sizeof bytes, "bytes %" PRId64 " to %" PRId64 " ", low, high - 1);
    as_quoted name = {"header"};
    if (x && count <= MOST_NAMES) {
        name = as_quote(f->table.names.data + x->name_at, x->name_length);
    } else if (x) {
        (void)snprintf(name.text, sizeof name.text, " more. Run");
    }
    rot_flip(folder, f->name, at, bit);
    int code = allshard_load(s, path, o);
    if (code == ALLSHARD_OK) {
        fail_test(__FILE__, __LINE__, "%s: bit %d of byte %lld was not found", f->name, bit,
                  (long long)at);
    }
    FAILS(as, code, ALLSHARD_CORRUPT, f->name, bytes, name.text, "allshard verify", "--no-check");
    rot_flip(folder, f->name, at, bit);
    rot_flips++;
}
