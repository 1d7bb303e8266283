/* SPDX-License-Identifier: Apache-2.0 */
#include "series/tags.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/sys.h"
#include "commit/folder.h"
#include "series/words.h"

static const char version_key[] = "allshard_tags";
static const char draft_prefix[] = AS_TAGS_NAME ".";

enum {
    VERSION = 1,
    LARGEST_FILE = 1 << 20, /* bytes; all tags at their longest, escaped, take a quarter of that */
    LOCK_TRIES = 500,
    LOCK_PAUSE_MS = 10,
};

int as_tag_check(const char *tag, as_error *e)
{
    size_t length = strlen(tag);
    if (length == 0 || length > AS_LONGEST_TAG || !as_is_line(tag) || strpbrk(tag, " /,")) {
        return as_fail(e, AS_INVALID, 0,
                       "\"%s\" cannot be a tag: it must be 1 to %d bytes of UTF-8 without spaces, "
                       "control characters, '/' and ','",
                       tag, AS_LONGEST_TAG);
    }
    return AS_OK;
}

/* Puts them in order, each once. */
static void tidy(as_names *tags)
{
    as_names_sort(tags);
    size_t kept = 0;
    for (size_t i = 0; i < tags->count; i++) {
        if (kept > 0 && strcmp(tags->items[kept - 1], tags->items[i]) == 0) {
            free(tags->items[i]);
        } else {
            tags->items[kept++] = tags->items[i];
        }
    }
    tags->count = kept;
}

/* -------------------------------------------------------------------- reading */

static int damaged(const char *what, const char *reason, as_error *e)
{
    return as_fail(e, AS_FORMAT, 0,
                   "%s/" AS_TAGS_NAME ": %s; remove this file, and tag the checkpoint again", what,
                   reason);
}

static int take_tags(const json_t *tree, const char *what, as_names *out, as_error *e)
{
    const json_t *version = json_object_get(tree, version_key);
    const json_t *list = json_object_get(tree, "tags");
    if (!json_is_integer(version)) {
        return damaged(what, "this is no list of tags", e);
    }
    if (json_integer_value(version) != VERSION) {
        return as_fail(e, AS_FORMAT, 0,
                       "%s/" AS_TAGS_NAME ": written by a newer allshard (version %lld of the "
                       "file); use that one",
                       what, (long long)json_integer_value(version));
    }
    if (!json_is_array(list) || json_array_size(list) > AS_MOST_TAGS) {
        return damaged(what, "\"tags\" is missing, no list, or longer than 256", e);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *tag = json_string_value(json_array_get(list, i));
        if (!tag || as_tag_check(tag, NULL) != AS_OK) {
            return damaged(what, "\"tags\" holds something that is no tag", e);
        }
        int code = as_names_add(out, tag, e);
        if (code != AS_OK) {
            return code;
        }
    }
    tidy(out);
    return AS_OK;
}

static int parse(const as_buffer *bytes, const char *what, as_names *out, as_error *e)
{
    json_error_t where;
    json_t *tree =
        json_loadb(bytes->data ? bytes->data : "", bytes->size, JSON_REJECT_DUPLICATES, &where);
    if (!tree) {
        return json_error_code(&where) == json_error_out_of_memory
                   ? as_fail_nomem(e)
                   : damaged(what, "this is not JSON", e);
    }
    int code = take_tags(tree, what, out, e);
    json_decref(tree);
    return code;
}

int as_tags_read(int folder, const char *what, as_names *out, as_error *e)
{
    as_buffer bytes = AS_BUFFER_INIT;
    as_error own = AS_ERROR_INIT;
    as_names tags = AS_NAMES_INIT;
    bool found = false;
    int code = as_file_read(folder, AS_TAGS_NAME, LARGEST_FILE, what, &bytes, NULL, &found, &own);
    if (code == AS_OK && found) {
        code = parse(&bytes, what, &tags, &own);
    } else if (code == AS_INVALID || code == AS_LIMIT) {
        as_error_clear(&own);
        code =
            damaged(what, "a link, a folder or a file of more than 1 MiB lies in its place", &own);
    }
    as_buffer_free(&bytes);
    if (code == AS_OK) {
        as_names_free(out);
        *out = tags;
    } else {
        as_names_free(&tags);
    }
    return as_error_pass(e, &own);
}

/* -------------------------------------------------------------------- writing */

int as_tags_to_bytes(const as_names *tags, as_buffer *out, as_error *e)
{
    as_names sorted = AS_NAMES_INIT;
    int code = AS_OK;
    for (size_t i = 0; code == AS_OK && i < tags->count; i++) {
        code = as_tag_check(tags->items[i], e);
        code = code == AS_OK ? as_names_add(&sorted, tags->items[i], e) : code;
    }
    tidy(&sorted);
    if (code == AS_OK && sorted.count > AS_MOST_TAGS) {
        code = as_fail(e, AS_LIMIT, 0, "a checkpoint can have %d tags, not %zu", AS_MOST_TAGS,
                       sorted.count);
    }
    json_t *tree = code == AS_OK ? json_pack("{s:i,s:[]}", version_key, VERSION, "tags") : NULL;
    json_t *list = json_object_get(tree, "tags");
    int failed = !list;
    for (size_t i = 0; !failed && i < sorted.count; i++) {
        failed = json_array_append_new(list, json_string(sorted.items[i])) != 0;
    }
    char *text = failed ? NULL : json_dumps(tree, 0);
    if (code == AS_OK && !text) {
        code = as_fail_nomem(e);
    }
    if (code == AS_OK) {
        code = as_buffer_format(out, e, "%s\n", text);
    }
    free(text);
    json_decref(tree);
    as_names_free(&sorted);
    return code;
}

/* A file of its own, then one rename: a reader sees the old tags or the new ones. */
static int replace(int folder, const char *what, const as_buffer *bytes, as_error *e)
{
    as_buffer path = AS_BUFFER_INIT;
    char draft[64];
    (void)snprintf(draft, sizeof draft, "%s%ld-%" PRIx64, draft_prefix, (long)getpid(),
                   (uint64_t)as_clock());
    int code = as_buffer_format(&path, e, "%s/" AS_TAGS_NAME, what);
    code = code == AS_OK ? as_file_put(folder, draft, 0, path.data, bytes->data, bytes->size, e)
                         : code;
    as_buffer_free(&path);
    if (code == AS_OK && as_sys_table.renameat(folder, draft, folder, AS_TAGS_NAME) < 0) {
        code = as_fail(e, AS_SYSTEM, errno, "%s: cannot rename a file to " AS_TAGS_NAME, what);
        (void)as_sys_table.unlinkat(folder, draft, 0);
    }
    return code;
}

int as_tags_write(int folder, const char *what, const as_names *tags, as_error *e)
{
    as_buffer bytes = AS_BUFFER_INIT;
    int code = as_tags_to_bytes(tags, &bytes, e);
    if (code == AS_OK && tags->count > 0) {
        code = replace(folder, what, &bytes, e);
    } else if (code == AS_OK && as_sys_table.unlinkat(folder, AS_TAGS_NAME, 0) < 0 &&
               errno != ENOENT) {
        code = as_fail(e, AS_SYSTEM, errno, "%s: cannot remove " AS_TAGS_NAME, what);
    }
    as_buffer_free(&bytes);
    return code == AS_OK ? as_folder_sync(folder, what, e) : code;
}

/* ------------------------------------------------------------------- changing */

/* Two who tag the same checkpoint at the same time would else lose a tag of one. *held false:
 * the file system has no such locks, or somebody who has it does not come to an end. */
static void lock(int folder, bool *held)
{
    const struct timespec pause = {.tv_nsec = LOCK_PAUSE_MS * 1000000};
    *held = false;
    for (int i = 0; i < LOCK_TRIES; i++) {
        *held = as_sys_table.flock(folder, LOCK_EX | LOCK_NB) == 0;
        if (*held || (errno != EWOULDBLOCK && errno != EINTR)) {
            return;
        }
        (void)nanosleep(&pause, NULL);
    }
}

/* What one that was killed between its file and the rename has left. */
static void remove_drafts(int folder, const char *what)
{
    as_names names = AS_NAMES_INIT;
    if (as_folder_list(folder, what, &names, NULL) == AS_OK) {
        for (size_t i = 0; i < names.count; i++) {
            if (strncmp(names.items[i], draft_prefix, strlen(draft_prefix)) == 0) {
                (void)as_sys_table.unlinkat(folder, names.items[i], 0);
            }
        }
    }
    as_names_free(&names);
}

/* `before` with `add` and without `gone`, both of which may be NULL. */
static int combine(const as_names *before, const as_names *add, const as_names *gone,
                   as_names *after, as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; code == AS_OK && i < before->count; i++) {
        bool stays = true;
        for (size_t k = 0; gone && stays && k < gone->count; k++) {
            stays = strcmp(before->items[i], gone->items[k]) != 0;
        }
        code = stays ? as_names_add(after, before->items[i], e) : AS_OK;
    }
    for (size_t i = 0; add && code == AS_OK && i < add->count; i++) {
        code = as_tag_check(add->items[i], e);
        code = code == AS_OK ? as_names_add(after, add->items[i], e) : code;
    }
    tidy(after);
    return code;
}

static bool same(const as_names *a, const as_names *b)
{
    bool equal = a->count == b->count;
    for (size_t i = 0; equal && i < a->count; i++) {
        equal = strcmp(a->items[i], b->items[i]) == 0;
    }
    return equal;
}

int as_tags_change(int folder, const char *what, const as_names *add, const as_names *gone,
                   as_names *before, as_names *after, as_error *e)
{
    bool held;
    as_names old = AS_NAMES_INIT;
    as_names now = AS_NAMES_INIT;
    lock(folder, &held);
    int code = as_tags_read(folder, what, &old, e);
    code = code == AS_OK ? combine(&old, add, gone, &now, e) : code;
    if (code == AS_OK && !same(&old, &now)) {
        code = as_tags_write(folder, what, &now, e);
    }
    if (held) {
        remove_drafts(folder, what);
        (void)as_sys_table.flock(folder, LOCK_UN);
    }
    if (code == AS_OK) {
        as_names_free(before);
        as_names_free(after);
        *before = old;
        *after = now;
    } else {
        as_names_free(&old);
        as_names_free(&now);
    }
    return code;
}
