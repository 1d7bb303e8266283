/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/seams.h"

#include "base/checked.h"
#include "plan/level.h"
#include "plan/part_message.h"
#include "plan/schedule.h"
#include "plan/sort.h"

/* Planner → writer. */
enum { OFFER_BLOCK = 0, OFFER_BYTES = 1, OFFER_HELD = 2, OFFER_WORDS = 3 };
/* Writer → all. */
enum { WEIGHT_FIXED = 0, WEIGHT_BLOCKS = 1, WEIGHT_WORDS = 2 };
/* Writer → planner. */
enum { MOVED_BLOCK = 0, MOVED_WRITER = 1, MOVED_WORDS = 2 };

/* A block that this rank plans. */
typedef struct seam_block {
    size_t first; /* part */
    size_t last;
    int writer;
} seam_block;

/* A full block that this rank could write. */
typedef struct offer {
    int32_t planner;
    int64_t block; /* the planner's number */
    int64_t held;  /* bytes of it that are this rank's own */
} offer;

void as_seams_free(as_seams *s)
{
    as_buffer_free(&s->messages);
    as_buffer_free(&s->parts);
    as_buffer_free(&s->blocks);
    as_buffer_free(&s->mine);
}

static int compare_parts(const void *a, const void *b, void *block_bytes)
{
    const int64_t *x = *(const int64_t *const *)a;
    const int64_t *y = *(const int64_t *const *)b;
    int64_t unit = *(const int64_t *)block_bytes;
    int64_t keys[3][2] = {{as_part_message_file(x), as_part_message_file(y)},
                          {x[AS_P_LOW] / unit, y[AS_P_LOW] / unit},
                          {as_part_message_writer(x), as_part_message_writer(y)}};
    for (int k = 0; k < 3; k++) {
        if (keys[k][0] != keys[k][1]) {
            return keys[k][0] < keys[k][1] ? -1 : 1;
        }
    }
    return (x[AS_P_LOW] > y[AS_P_LOW]) - (x[AS_P_LOW] < y[AS_P_LOW]);
}

/* Bytes that the parts from `i` on of one writer sum to; *next is the part after them. */
static int64_t writer_share(const int64_t *const *parts, size_t i, size_t last, size_t *next)
{
    int64_t bytes = 0;
    int writer = as_part_message_writer(parts[i]);
    size_t k = i;
    for (; k < last && as_part_message_writer(parts[k]) == writer; k++) {
        bytes += parts[k][AS_P_HIGH] - parts[k][AS_P_LOW];
    }
    *next = k;
    return bytes;
}

/* Spreads numbers evenly over 2^64: multiples of the golden ratio, modulo 1. Files go apart. */
static uint64_t spread(int64_t file, int64_t block)
{
    return (uint64_t)(block + 1) * UINT64_C(0x9E3779B97F4A7C15) +
           (uint64_t)file * UINT64_C(0x6A09E667F3BCC909);
}

/* The writer of a block of several regions: the one that has most of it; among equals the
 * block's number decides, so that blocks of many equal parts do not all fall to the lowest rank.
 * The parts are sorted by writer. */
static int propose(const as_schedule *s, const int64_t *const *parts, size_t first, size_t last,
                   int64_t *most)
{
    *most = 0;
    uint64_t equals = 0;
    size_t next;
    for (size_t i = first; i < last; i = next) {
        int64_t share = writer_share(parts, i, last, &next);
        equals = share > *most ? 1 : equals + (share == *most);
        *most = as_max_i64(*most, share);
    }
    uint64_t number =
        spread(as_part_message_file(parts[first]), parts[first][AS_P_LOW] / s->block_bytes);
    uint64_t pick = (uint64_t)(((unsigned __int128)number * equals) >> 64);
    for (size_t i = first; i < last; i = next) {
        if (writer_share(parts, i, last, &next) == *most && pick-- == 0) {
            return as_part_message_writer(parts[i]);
        }
    }
    return as_part_message_writer(parts[first]);
}

static int offer_block(as_schedule *s, size_t first, size_t last, as_buffer *out, as_error *e)
{
    const int64_t *const *parts = (const int64_t *const *)(const void *)s->seams.parts.data;
    int64_t held;
    seam_block block = {.first = first, .last = last};
    block.writer = propose(s, parts, first, last, &held);
    int64_t bytes = 0;
    for (size_t i = first; i < last; i++) {
        bytes += parts[i][AS_P_HIGH] - parts[i][AS_P_LOW];
    }
    int64_t words[OFFER_WORDS] = {
        [OFFER_BLOCK] = (int64_t)(s->seams.blocks.size / sizeof block),
        [OFFER_BYTES] = bytes,
        [OFFER_HELD] = held,
    };
    int code = as_words_put(&out[block.writer], words, OFFER_WORDS, e);
    return code == AS_OK ? as_buffer_append(&s->seams.blocks, &block, sizeof block, e) : code;
}

static int offer_blocks(as_schedule *s, as_buffer *out, as_error *e)
{
    const int64_t **parts = (const int64_t **)(void *)s->seams.parts.data;
    size_t count = s->seams.parts.size / sizeof *parts;
    int64_t unit = s->block_bytes;
    if (!parts) {
        return AS_OK;
    }
    as_sort_with(parts, count, sizeof *parts, compare_parts, &unit);
    int code = AS_OK;
    for (size_t first = 0; first < count && code == AS_OK;) {
        size_t last = first + 1;
        while (last < count &&
               as_part_message_file(parts[last]) == as_part_message_file(parts[first]) &&
               parts[last][AS_P_LOW] / unit == parts[first][AS_P_LOW] / unit) {
            last++;
        }
        code = offer_block(s, first, last, out, e);
        first = last;
    }
    return code;
}

int as_seams_settle(as_schedule *s, as_mail *mail, as_plan *plan, as_error *e)
{
    s->seams.messages = mail->in; /* parts of seams are looked at in place from here on */
    mail->in = AS_BUFFER_INIT;
    as_words w = as_words_of(s->seams.messages.data, s->seams.messages.size);
    const int64_t *message;
    int code = AS_OK;
    while (code == AS_OK && (message = as_part_message_take(&w))) {
        if (as_part_message_seam(message)) {
            code = as_buffer_append(&s->seams.parts, &message, sizeof message, e);
        } else {
            s->seams.fixed += message[AS_P_HIGH] - message[AS_P_LOW];
            code = as_part_message_keep(message, plan, &s->choice, e);
        }
    }
    return code == AS_OK ? offer_blocks(s, mail->out, e) : code;
}

/* The last block of a file is smaller than the others, and stays where it is proposed: so all
 * that move are alike. */
int as_seams_weigh(as_schedule *s, as_mail *mail, as_error *e)
{
    int code = AS_OK;
    for (int rank = 0; rank < s->size; rank++) {
        as_words w = as_words_between(mail->in.data, mail->in_at[rank], mail->in_at[rank + 1]);
        const int64_t *words;
        while (code == AS_OK && (words = as_words_take(&w, OFFER_WORDS))) {
            offer o = {.planner = rank, .block = words[OFFER_BLOCK], .held = words[OFFER_HELD]};
            if (words[OFFER_BYTES] == s->block_bytes) {
                code = as_buffer_append(&s->seams.mine, &o, sizeof o, e);
            } else {
                s->seams.fixed += words[OFFER_BYTES];
            }
        }
    }
    int64_t weight[WEIGHT_WORDS] = {
        [WEIGHT_FIXED] = s->seams.fixed,
        [WEIGHT_BLOCKS] = (int64_t)(s->seams.mine.size / sizeof(offer)),
    };
    return code == AS_OK ? as_words_put(&mail->share, weight, WEIGHT_WORDS, e) : code;
}

static int compare_offers(const void *a, const void *b)
{
    const offer *x = a;
    const offer *y = b;
    if (x->held != y->held) {
        return x->held < y->held ? -1 : 1;
    }
    if (x->planner != y->planner) {
        return x->planner < y->planner ? -1 : 1;
    }
    return (x->block > y->block) - (x->block < y->block);
}

/* This rank keeps the blocks that it holds most of, up to its quota. */
static int give_away(as_schedule *s, const as_level_rank *ranks, as_buffer *out, as_error *e)
{
    offer *mine = (offer *)(void *)s->seams.mine.data;
    int64_t surplus = ranks[s->rank].blocks - ranks[s->rank].quota;
    if (surplus <= 0) {
        return AS_OK;
    }
    as_sort(mine, s->seams.mine.size / sizeof *mine, sizeof *mine, compare_offers);
    as_level_walk takers = as_level_walk_begin(ranks, s->size, s->rank);
    int code = AS_OK;
    for (int64_t i = 0; i < surplus && code == AS_OK; i++) {
        int64_t words[MOVED_WORDS] = {
            [MOVED_BLOCK] = mine[i].block, [MOVED_WRITER] = as_level_walk_next(&takers)};
        code = as_words_put(&out[mine[i].planner], words, MOVED_WORDS, e);
    }
    return code;
}

int as_seams_level(as_schedule *s, as_mail *mail, as_error *e)
{
    as_buffer room = AS_BUFFER_INIT;
    void *place;
    int code = as_buffer_extend(&room, (size_t)s->size * sizeof(as_level_rank), &place, e);
    if (code == AS_OK) {
        as_level_rank *ranks = place;
        as_words w = as_words_of(mail->in.data, mail->in.size);
        const int64_t *words;
        for (int r = 0; r < s->size && (words = as_words_take(&w, WEIGHT_WORDS)); r++) {
            ranks[r].fixed = words[WEIGHT_FIXED];
            ranks[r].blocks = words[WEIGHT_BLOCKS];
            ranks[r].writes = as_schedule_writer(s, r) == r;
        }
        as_level(ranks, s->size, s->block_bytes);
        code = give_away(s, ranks, mail->out, e);
    }
    as_buffer_free(&room);
    as_buffer_free(&s->seams.mine);
    return code;
}

int as_seams_hand(as_schedule *s, as_mail *mail, as_error *e)
{
    seam_block *blocks = (seam_block *)(void *)s->seams.blocks.data;
    size_t count = s->seams.blocks.size / sizeof *blocks;
    as_words w = as_words_of(mail->in.data, mail->in.size);
    const int64_t *moved;
    while ((moved = as_words_take(&w, MOVED_WORDS))) {
        blocks[moved[MOVED_BLOCK]].writer = (int)moved[MOVED_WRITER];
    }
    const int64_t *const *parts = (const int64_t *const *)(const void *)s->seams.parts.data;
    int code = AS_OK;
    for (size_t b = 0; b < count; b++) {
        as_buffer *out = &mail->out[blocks[b].writer];
        for (size_t i = blocks[b].first; i < blocks[b].last && code == AS_OK; i++) {
            code = as_words_put(out, parts[i], as_part_message_size(parts[i]), e);
        }
    }
    as_seams_free(&s->seams);
    s->seams = (as_seams){0};
    return code;
}
