/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/schedule.h"

#include <string.h>

#include "base/checked.h"
#include "plan/part_message.h"
#include "plan/sort.h"

/* Owner → coordinator, and how the coordinator sorts. */
enum { ASK_GROUP = 0, ASK_FILE = 2, ASK_LOW = 3, ASK_BYTES = 4, ASK_REGION = 5, ASK_WORDS = 6 };
/* Coordinator → owner. */
enum { ANSWER_REGION = 0, ANSWER_PREFIX = 1, ANSWER_TOTAL = 2, ANSWER_WORDS = 3 };

int as_schedule_ask(as_schedule *s, as_mail *mail, as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; i < as_regions_count(&s->regions) && code == AS_OK; i++) {
        as_region *r = as_regions_at(&s->regions, i);
        if (r->rank_count == 1) { /* nothing to share out: nobody need be asked */
            r->total = r->high - r->low;
            continue;
        }
        as_hash group = as_region_group(&s->regions, r);
        int64_t words[ASK_WORDS] = {
            [ASK_GROUP] = (int64_t)group.high,
            [ASK_GROUP + 1] = (int64_t)group.low,
            [ASK_FILE] = r->file,
            [ASK_LOW] = r->low,
            [ASK_BYTES] = r->high - r->low,
            [ASK_REGION] = (int64_t)i,
        };
        code = as_words_put(&mail->out[as_hash_owner(group, s->size)], words, ASK_WORDS, e);
    }
    return code;
}

typedef struct asked {
    const int64_t *words;
    int rank;
} asked;

static int compare_asked(const void *a, const void *b)
{
    const asked *x = a;
    const asked *y = b;
    int order =
        as_hash_compare(as_words_hash(x->words + ASK_GROUP), as_words_hash(y->words + ASK_GROUP));
    for (int k = ASK_FILE; k <= ASK_LOW && order == 0; k++) {
        order = (x->words[k] > y->words[k]) - (x->words[k] < y->words[k]);
    }
    return order;
}

/* Regions [first, last) are one group's, in file order. */
static int answer_group(const asked *asks, size_t first, size_t last, as_buffer *out, as_error *e)
{
    int64_t total = 0;
    for (size_t i = first; i < last; i++) {
        total += asks[i].words[ASK_BYTES];
    }
    int64_t prefix = 0;
    int code = AS_OK;
    for (size_t i = first; i < last && code == AS_OK; i++) {
        int64_t words[ANSWER_WORDS] = {[ANSWER_REGION] = asks[i].words[ASK_REGION],
                                       [ANSWER_PREFIX] = prefix,
                                       [ANSWER_TOTAL] = total};
        code = as_words_put(&out[asks[i].rank], words, ANSWER_WORDS, e);
        prefix += asks[i].words[ASK_BYTES];
    }
    return code;
}

int as_schedule_answer(as_schedule *s, as_mail *mail, as_error *e)
{
    size_t count = mail->in.size / sizeof(int64_t) / ASK_WORDS;
    as_buffer room = AS_BUFFER_INIT;
    void *place = NULL;
    int code = as_buffer_extend(&room, count * sizeof(asked), &place, e);
    if (code != AS_OK) {
        return code;
    }
    asked *asks = place;
    size_t n = 0;
    for (int rank = 0; rank < s->size; rank++) {
        as_words w = as_words_between(mail->in.data, mail->in_at[rank], mail->in_at[rank + 1]);
        const int64_t *words;
        while ((words = as_words_take(&w, ASK_WORDS))) {
            asks[n++] = (asked){.words = words, .rank = rank};
        }
    }
    as_sort(asks, n, sizeof *asks, compare_asked);
    size_t first = 0;
    for (size_t i = 1; i <= n && code == AS_OK; i++) {
        if (i == n || memcmp(asks[i].words, asks[first].words, 2 * sizeof(int64_t)) != 0) {
            code = answer_group(asks, first, i, mail->out, e);
            first = i;
        }
    }
    as_buffer_free(&room);
    return code;
}

/* The writer of the block that begins at `block`, as far as this region goes. */
static int block_writer(const as_schedule *s, const as_region *r, int64_t block)
{
    int64_t place = r->prefix + as_max_i64(block, r->low) - r->low;
    int64_t count = (int64_t)r->rank_count;
    int64_t slot = (int64_t)((__int128)place * count / r->total);
    return as_schedule_writer(s, as_region_ranks(&s->regions, r)[as_min_i64(slot, count - 1)]);
}

static int block_planner(const as_schedule *s, int32_t file, int64_t block)
{
    uint64_t key[2] = {(uint64_t)file, (uint64_t)(block / s->block_bytes)};
    return as_hash_owner(as_hash_bytes(key, sizeof key), s->size);
}

static int cut_region(const as_schedule *s, const as_region *r, as_buffer *out, as_error *e)
{
    int64_t size = s->file_size[r->file];
    int64_t open = -1; /* where the run of whole blocks of one writer began */
    int open_writer = -1;
    int code = AS_OK;
    int64_t block = r->low / s->block_bytes * s->block_bytes;
    for (; block < r->high && code == AS_OK; block += s->block_bytes) {
        int64_t end = as_min_i64(block + s->block_bytes, size);
        bool whole = r->low <= block && end <= r->high &&
                     (!r->holes || as_part_message_has_boxes(s, r, block, end));
        int writer = block_writer(s, r, block);
        if (open >= 0 && (!whole || writer != open_writer)) {
            code = as_part_message_put(&out[open_writer], s, r, open, block, open_writer, false, e);
            open = -1;
        }
        if (code == AS_OK && whole && open < 0) {
            open = block;
            open_writer = writer;
        }
        if (code == AS_OK && !whole) {
            code = as_part_message_put(&out[block_planner(s, r->file, block)], s, r,
                                       as_max_i64(block, r->low), as_min_i64(end, r->high), writer,
                                       true, e);
        }
    }
    if (code == AS_OK && open >= 0) {
        code = as_part_message_put(&out[open_writer], s, r, open, r->high, open_writer, false, e);
    }
    return code;
}

int as_schedule_cut(as_schedule *s, as_mail *mail, as_error *e)
{
    as_words w = as_words_of(mail->in.data, mail->in.size);
    const int64_t *words;
    while ((words = as_words_take(&w, ANSWER_WORDS))) {
        as_region *r = as_regions_at(&s->regions, (size_t)words[ANSWER_REGION]);
        r->prefix = words[ANSWER_PREFIX];
        r->total = words[ANSWER_TOTAL];
    }
    int code = AS_OK;
    for (size_t i = 0; i < as_regions_count(&s->regions) && code == AS_OK; i++) {
        code = cut_region(s, as_regions_at(&s->regions, i), mail->out, e);
    }
    return code;
}

static int compare_parts(const void *a, const void *b)
{
    const as_part *x = a;
    const as_part *y = b;
    if (x->file != y->file) {
        return x->file < y->file ? -1 : 1;
    }
    return (x->low > y->low) - (x->low < y->low);
}

int as_schedule_finish(as_schedule *s, as_mail *mail, as_plan *plan, as_error *e)
{
    as_words w = as_words_of(mail->in.data, mail->in.size);
    const int64_t *message;
    int code = AS_OK;
    while (code == AS_OK && (message = as_part_message_take(&w))) {
        code = as_part_message_keep(message, plan, &s->choice, e);
    }
    as_buffer_free(&mail->in);
    if (code == AS_OK) {
        as_sort(plan->parts.data, as_plan_part_count(plan), sizeof(as_part), compare_parts);
    }
    return code;
}
