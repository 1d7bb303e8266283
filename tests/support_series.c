/* SPDX-License-Identifier: Apache-2.0 */
#include "support_series.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sys.h"
#include "checkpoint_folder.h"
#include "commit/folder.h"
#include "commit/manifest.h"
#include "series/history.h"
#include "series/latest.h"
#include "series/record.h"
#include "series/tags.h"

#define SHARD "model.safetensors"

enum { DAMAGED_SIZE = 40 };

/* ---- the account ---- */

/* Is x the newer of the two? */
static bool newer(const book_one *x, const book_one *y)
{
    if (x->step != y->step) {
        return x->step > y->step;
    }
    if (x->time_ms != y->time_ms) {
        return x->time_ms > y->time_ms;
    }
    return strcmp(x->name, y->name) > 0;
}

book_one *book_find(book *b, const char *name)
{
    for (size_t i = 0; i < b->count; i++) {
        if (strcmp(b->items[i].name, name) == 0) {
            return &b->items[i];
        }
    }
    return NULL;
}

void book_drop(book *b, const char *name)
{
    book_one *one = book_find(b, name);
    if (one) {
        size_t after = b->count - 1 - (size_t)(one - b->items);
        memmove(one, one + 1, after * sizeof *one);
        b->count--;
    }
}

void book_put(book *b, const book_one *one)
{
    book_drop(b, one->name);
    must(b->count < BOOK_MOST, "the account is full");
    size_t at = b->count++;
    for (; at > 0 && newer(&b->items[at - 1], one); at--) {
        b->items[at] = b->items[at - 1];
    }
    b->items[at] = *one;
}

const book_one *book_newest(const book *b)
{
    const book_one *best = NULL;
    for (size_t i = 0; i < b->count; i++) {
        if (!b->items[i].damaged && (!best || newer(&b->items[i], best))) {
            best = &b->items[i];
        }
    }
    return best;
}

/* Keeps the first `most` of the good ones in an order. */
typedef struct ranking {
    const book_one *items[BOOK_MOST];
    size_t count;
} ranking;

static int by_age(const void *a, const void *b)
{
    const book_one *x = *(const book_one *const *)a;
    const book_one *y = *(const book_one *const *)b;
    return newer(x, y) ? -1 : 1;
}

static int by_low(const void *a, const void *b)
{
    const book_one *x = *(const book_one *const *)a;
    const book_one *y = *(const book_one *const *)b;
    return x->value == y->value ? by_age(a, b) : x->value < y->value ? -1 : 1;
}

static int by_high(const void *a, const void *b)
{
    const book_one *x = *(const book_one *const *)a;
    const book_one *y = *(const book_one *const *)b;
    return x->value == y->value ? by_age(a, b) : x->value > y->value ? -1 : 1;
}

static void keep_first(const ranking *r, int64_t most, const book *b, bool *stay)
{
    for (size_t i = 0; i < r->count && (int64_t)i < most; i++) {
        stay[r->items[i] - b->items] = true;
    }
}

void book_prune(book *b, const as_keep_rules *rules, const char *const *used, int64_t now_ms,
                bool only_may)
{
    bool stay[BOOK_MOST] = {false};
    ranking good = {.count = 0};
    ranking measured = {.count = 0};
    if (rules->last + rules->every + rules->best == 0 && rules->seconds == 0) {
        return;
    }
    for (size_t i = 0; i < b->count; i++) {
        const book_one *one = &b->items[i];
        stay[i] = one->damaged || one->tagged || one->foreign;
        for (const char *const *u = used; *u; u++) {
            stay[i] = stay[i] || strcmp(*u, one->name) == 0;
        }
        stay[i] = stay[i] || (rules->every && one->step % rules->every == 0);
        bool young = (double)(now_ms - one->time_ms) < rules->seconds * 1000;
        stay[i] = stay[i] || (rules->seconds > 0 && young);
        if (!one->damaged) {
            good.items[good.count++] = one;
            if (one->metric && !isnan(one->value) &&
                (!rules->metric || strcmp(rules->metric, one->metric) == 0)) {
                measured.items[measured.count++] = one;
            }
        }
    }
    qsort(good.items, good.count, sizeof *good.items, by_age);
    qsort(measured.items, measured.count, sizeof *measured.items,
          rules->metric_max ? by_high : by_low);
    keep_first(&good, rules->last > 1 ? rules->last : 1, b, stay);
    keep_first(&measured, rules->best, b, stay);
    for (size_t i = b->count; i-- > 0;) {
        if (!stay[i] && only_may) {
            b->items[i].may_go = true;
        } else if (!stay[i]) {
            memmove(&b->items[i], &b->items[i + 1], (b->count - 1 - i) * sizeof b->items[i]);
            b->count--;
        }
    }
}

/* ---- comparing ---- */

static char complaint[256];

__attribute__((format(printf, 1, 2))) static const char *complain(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(complaint, sizeof complaint, format, arguments);
    va_end(arguments);
    return complaint;
}

/* NULL: the folder is the one of the account. */
static const char *compare_one(const book_one *one, const char *folder)
{
    char path[800];
    int64_t id = 0;
    struct stat status = {.st_size = 0};
    (void)snprintf(path, sizeof path, "%s/%s", folder, SHARD);
    int fd = open(path, O_RDONLY);
    bool whole = fd >= 0 && fstat(fd, &status) == 0 && status.st_size > 8 &&
                 pread(fd, &id, sizeof id, status.st_size - 8) == 8;
    if (fd >= 0) {
        (void)close(fd);
    }
    bool good = one->damaged ? status.st_size == DAMAGED_SIZE : whole && id == one->id;
    if (!good) {
        return complain("%s holds other bytes", one->name);
    }
    if (exists(folder, AS_TAGS_NAME) != one->tagged) {
        return complain("%s: the tag %s", one->name, one->tagged ? "is gone" : "came from nowhere");
    }
    if (exists(folder, AS_MANIFEST_NAME) == one->foreign) {
        return complain("%s: the manifest", one->name);
    }
    return NULL;
}

const char *book_compare(book *b, const char *root)
{
    DIR *stream = opendir(root);
    must(stream != NULL, root);
    bool seen[BOOK_MOST] = {false};
    char latest[BOOK_NAME] = "";
    const char *wrong = NULL;
    const struct dirent *entry;
    while (!wrong && (entry = readdir(stream))) {
        const char *name = entry->d_name;
        char path[700];
        (void)snprintf(path, sizeof path, "%.400s/%s", root, name);
        /* A draft of the link, which the next save takes. */
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
            strcmp(name, "." AS_LATEST_NAME ".new") == 0 || strcmp(name, AS_HISTORY_NAME) == 0) {
            continue;
        }
        if (strcmp(name, AS_LATEST_NAME) == 0) {
            ssize_t n = readlink(path, latest, sizeof latest - 1);
            must(n >= 0, path);
            latest[n] = '\0';
            continue;
        }
        const book_one *one = book_find(b, name);
        wrong = one ? compare_one(one, path) : complain("%s should not be there", name);
        if (one) {
            seen[one - b->items] = true;
        }
    }
    (void)closedir(stream);
    for (size_t i = b->count; !wrong && i-- > 0;) {
        if (!seen[i] && !b->items[i].may_go) {
            wrong = complain("%s is gone", b->items[i].name);
        }
    }
    if (!wrong && strcmp(latest, b->latest) != 0) {
        wrong = complain("latest leads to \"%s\", not to \"%s\"", latest, b->latest);
    }
    for (size_t i = b->count; !wrong && i-- > 0;) {
        b->items[i].may_go = false;
        if (!seen[i]) {
            book_drop(b, b->items[i].name);
        }
    }
    return wrong;
}

void book_print(const book *b)
{
    (void)fprintf(stderr, "latest -> %s\n", b->latest);
    for (size_t i = 0; i < b->count; i++) {
        const book_one *one = &b->items[i];
        (void)fprintf(stderr, "  %-12s id %lld, time %lld, %s %g%s%s%s%s\n", one->name,
                      (long long)one->id, (long long)one->time_ms, one->metric ? one->metric : "-",
                      one->value, one->tagged ? ", tagged" : "", one->damaged ? ", damaged" : "",
                      one->foreign ? ", foreign" : "", one->may_go ? ", may go" : "");
    }
}

/* ---- the disk ---- */

static int put_shard(int folder, const char *path, const char *name, int64_t id, int64_t *size,
                     as_error *e)
{
    static const char header[] =
        "{\"id\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]}}         ";
    char bytes[8 + sizeof header + 8];
    uint64_t length = (sizeof header - 1) / 8 * 8;
    memcpy(bytes, &length, 8); /* the machines that run this are little-endian */
    memcpy(bytes + 8, header, length);
    memcpy(bytes + 8 + length, &id, 8);
    *size = (int64_t)(8 + length + 8);
    return as_file_put(folder, name, 0, path, bytes, (size_t)*size, e);
}

int series_record(const book_one *one, json_t **out, as_error *e)
{
    const as_record record = {.step = one->step,
                              .time_ms = one->time_ms,
                              .save_seconds = 0.5,
                              .world_size = 1,
                              .metric = (char *)one->metric,
                              .metric_value = one->value};
    return as_record_to_json(&record, out, e);
}

/* Of one part, as an ordinary save writes it; `whole`: with the record, as that of a series. */
static int put_manifest(int folder, const char *path, const char *name, const book_one *one,
                        int64_t size, bool whole, as_error *e)
{
    const as_manifest_file file = {.name = name, .size = size, .role = AS_ROLE_SHARD};
    const as_manifest_part part = {
        .part = strcmp(name, SHARD) == 0 ? "model" : "optimizer",
        .has_step = true,
        .step = one->step,
        .pattern = strcmp(name, SHARD) == 0 ? "model{suffix}.safetensors"
                                            : "optimizer{suffix}.safetensors",
        .created = "2026-01-31T12:00:00Z",
        .world_size = 1,
        .block_size = 4096,
        .checksum = "none",
        .total_size = 8,
        .tensor_count = 1,
        .files = &file,
        .file_count = 1,
    };
    json_t *checkpoint = NULL;
    as_buffer plain = AS_BUFFER_INIT;
    as_buffer text = AS_BUFFER_INIT;
    as_manifest manifest = AS_MANIFEST_INIT;
    int code = as_manifest_to_bytes(&part, "0.1.0", NULL, 0, NULL, NULL, &plain, e);
    if (code == AS_OK && whole) {
        code = series_record(one, &checkpoint, e);
    }
    if (code == AS_OK && whole) {
        code = as_manifest_from_bytes(plain.data, plain.size, path, &manifest, e);
    }
    if (code == AS_OK && whole) {
        const as_manifest *all[] = {&manifest};
        code = as_manifest_join(all, 1, "0.1.0", checkpoint, &text, e);
    }
    if (code == AS_OK) {
        const as_buffer *bytes = whole ? &text : &plain;
        code = as_file_put(folder, AS_MANIFEST_NAME, 0, path, bytes->data, bytes->size, e);
    }
    json_decref(checkpoint);
    as_manifest_free(&manifest);
    as_buffer_free(&plain);
    as_buffer_free(&text);
    return code;
}

static int put_tag(int folder, const char *path, as_error *e)
{
    as_names tags = AS_NAMES_INIT;
    as_buffer text = AS_BUFFER_INIT;
    int code = as_names_add(&tags, SERIES_TAG, e);
    if (code == AS_OK) {
        code = as_tags_to_bytes(&tags, &text, e);
    }
    if (code == AS_OK) {
        code = as_file_put(folder, AS_TAGS_NAME, 0, path, text.data, text.size, e);
    }
    as_names_free(&tags);
    as_buffer_free(&text);
    return code;
}

static int make_folder(int parent, const char *path, const char *name, int *out, as_error *e)
{
    if (as_sys_table.mkdirat(parent, name, 0777) < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s/%s: cannot make it", path, name);
    }
    *out = as_open(parent, name, O_RDONLY | O_DIRECTORY, 0);
    return *out >= 0 ? AS_OK : as_fail(e, AS_SYSTEM, errno, "%s/%s: cannot open it", path, name);
}

int series_lay(int parent, const char *path, const book_one *one, as_error *e)
{
    int folder = -1;
    int64_t size = 0;
    int code = make_folder(parent, path, one->name, &folder, e);
    if (code != AS_OK) {
        return code;
    }
    code = put_shard(folder, path, SHARD, one->id, &size, e);
    if (code == AS_OK && !one->foreign) {
        code = put_manifest(folder, path, SHARD, one, size, true, e);
    }
    if (code == AS_OK && one->tagged) {
        code = put_tag(folder, path, e);
    }
    (void)as_sys_table.close(folder);
    return code;
}

int series_lay_parts(int staged, const char *path, const book_one *one, as_error *e)
{
    static const char *const files[] = {SHARD, "optimizer.safetensors"};
    static const char *const folders[] = {"part-0", "part-1"};
    int code = AS_OK;
    for (int i = 0; i < 2 && code == AS_OK; i++) {
        int folder = -1;
        int64_t size = 0;
        code = make_folder(staged, path, folders[i], &folder, e);
        if (code != AS_OK) {
            return code;
        }
        code = put_shard(folder, path, files[i], one->id, &size, e);
        if (code == AS_OK) {
            code = put_manifest(folder, path, files[i], one, size, false, e);
        }
        (void)as_sys_table.close(folder);
    }
    return code;
}

void series_damage(const char *root, const char *name)
{
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/%s/" SHARD, root, name);
    must(truncate(path, DAMAGED_SIZE) == 0, path);
}

void series_tag(const char *root, const char *name, bool tagged)
{
    char folder[700];
    (void)snprintf(folder, sizeof folder, "%.400s/%s", root, name);
    if (tagged) {
        write_text(folder, AS_TAGS_NAME,
                   "{\"allshard_tags\": 1, \"tags\": [\"" SERIES_TAG "\"]}\n");
    } else {
        char path[1100];
        (void)snprintf(path, sizeof path, "%s/%s", folder, AS_TAGS_NAME);
        must(unlink(path) == 0 || errno == ENOENT, path);
    }
}
