/* SPDX-License-Identifier: Apache-2.0 */
#include "support_snapshot.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "checkpoint_folder.h"
#include "commit/view.h"

enum { SHOWN = 120 };

static int compare_files(const void *a, const void *b)
{
    return strcmp(((const snapshot_file *)a)->name, ((const snapshot_file *)b)->name);
}

static snapshot_file *add(snapshot *s, const char *name, const char *end)
{
    snapshot_file *grown = realloc(s->files, (s->count + 1) * sizeof *grown);
    must(grown != NULL, "memory");
    s->files = grown;
    snapshot_file *f = &s->files[s->count++];
    *f = (snapshot_file){0};
    must(asprintf(&f->name, "%s%s", name, end) >= 0, "memory");
    return f;
}

/* Takes the descriptor over. */
static bool read_file(snapshot_file *f, int fd)
{
    struct stat status;
    bool good = fstat(fd, &status) == 0;
    size_t size = good ? (size_t)status.st_size : 0;
    f->bytes = malloc(size + 1);
    must(f->bytes != NULL, "memory");
    while (good && f->size < size) {
        ssize_t n = read(fd, f->bytes + f->size, size - f->size);
        good = n > 0;
        f->size += n > 0 ? (size_t)n : 0;
    }
    int reason = errno;
    (void)close(fd);
    errno = reason;
    return good;
}

bool snapshot_take(snapshot *s, const char *folder)
{
    *s = SNAPSHOT_INIT;
    DIR *stream = opendir(folder);
    if (!stream) {
        return errno == ENOENT;
    }
    bool good = true;
    const struct dirent *entry;
    while (good && (entry = readdir(stream))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        int fd = openat(dirfd(stream), entry->d_name, O_RDONLY | O_CLOEXEC);
        struct stat status;
        good = fd >= 0 && fstat(fd, &status) == 0;
        if (good && S_ISDIR(status.st_mode)) {
            (void)add(s, entry->d_name, "/");
            (void)close(fd);
        } else if (good) {
            good = read_file(add(s, entry->d_name, ""), fd);
        }
    }
    int reason = errno;
    (void)closedir(stream);
    errno = reason;
    if (s->count) {
        qsort(s->files, s->count, sizeof *s->files, compare_files);
    }
    return good;
}

bool snapshot_view(snapshot *s, const char *folder)
{
    *s = SNAPSHOT_INIT;
    as_view *v;
    as_names names = AS_NAMES_INIT;
    as_error e = AS_ERROR_INIT;
    int code = as_view_open(&v, folder, &e);
    if (code != AS_OK) {
        as_error_clear(&e);
        errno = EIO;
        return code == AS_NOT_FOUND;
    }
    bool good = as_view_list(v, &names, &e) == AS_OK;
    for (size_t i = 0; good && i < names.count; i++) {
        int fd;
        good = as_view_open_file(v, names.items[i], &fd, &e) == AS_OK &&
               read_file(add(s, names.items[i], ""), fd);
    }
    as_names_free(&names);
    as_error_clear(&e);
    as_view_close(v);
    return good;
}

/* The text after `key`, up to the next quote. */
static void blank(char *text, const char *key)
{
    for (char *at = strstr(text, key); at; at = strstr(at, key)) {
        at += strlen(key);
        memset(at, '-', strcspn(at, "\""));
    }
}

void snapshot_forget_time(snapshot *s)
{
    for (size_t i = 0; i < s->count; i++) {
        if (strcmp(s->files[i].name, "allshard.manifest.json") == 0) {
            char *text = (char *)s->files[i].bytes;
            text[s->files[i].size] = '\0'; /* there is one byte more */
            blank(text, "\"created\": \"");
            blank(text, "\"checksum\": \"");
        }
    }
}

/* Cuts the value of a key out of the text, which ends in NUL. */
static void cut(char *text, const char *key)
{
    char *value = strstr(text, key);
    if (value) {
        value += strlen(key);
        const char *end = value;
        while (*end && (*end != '"' || end[-1] == '\\')) {
            end++;
        }
        memmove(value, end, strlen(end) + 1);
    }
}

void snapshot_forget_engine(snapshot *s)
{
    for (size_t i = 0; i < s->count; i++) {
        if (strcmp(s->files[i].name, "allshard.manifest.json") == 0) {
            char *text = (char *)s->files[i].bytes;
            text[s->files[i].size] = '\0'; /* there is one byte more */
            cut(text, "\"engine\": \"");
            cut(text, "\"engine_reason\": \"");
            s->files[i].size = strlen(text);
        }
    }
}

static bool same_file(const snapshot_file *a, const snapshot_file *b)
{
    return strcmp(a->name, b->name) == 0 && a->size == b->size &&
           (a->size == 0 || memcmp(a->bytes, b->bytes, a->size) == 0);
}

bool snapshot_same(const snapshot *a, const snapshot *b)
{
    bool same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++) {
        same = same_file(&a->files[i], &b->files[i]);
    }
    return same;
}

/* How many bytes of a file from there on are fit for a message. */
static int shown(const snapshot *s, size_t i, size_t at)
{
    size_t left = i < s->count ? s->files[i].size - at : 0;
    return (int)(left < SHOWN ? left : SHOWN);
}

const char *snapshot_difference(const snapshot *a, const snapshot *b)
{
    static char text[1024];
    size_t i = 0;
    size_t at = 0;
    while (i < a->count && i < b->count && same_file(&a->files[i], &b->files[i])) {
        i++;
    }
    const char *left = i < a->count ? a->files[i].name : "nothing";
    const char *right = i < b->count ? b->files[i].name : "nothing";
    size_t left_size = i < a->count ? a->files[i].size : 0;
    size_t right_size = i < b->count ? b->files[i].size : 0;
    while (at < left_size && at < right_size && a->files[i].bytes[at] == b->files[i].bytes[at]) {
        at++;
    }
    (void)snprintf(text, sizeof text,
                   "%s of %zu bytes instead of %s of %zu bytes; from byte %zu on \"%.*s\" instead "
                   "of \"%.*s\"",
                   left, left_size, right, right_size, at, shown(a, i, at),
                   left_size ? (const char *)a->files[i].bytes + at : "", shown(b, i, at),
                   right_size ? (const char *)b->files[i].bytes + at : "");
    return i == a->count && i == b->count ? "no difference" : text;
}

void snapshot_write(const snapshot *s, const char *folder)
{
    must(mkdir(folder, 0777) == 0 || errno == EEXIST, folder);
    for (size_t i = 0; i < s->count; i++) {
        char *path;
        const snapshot_file *f = &s->files[i];
        must(asprintf(&path, "%s/%s", folder, f->name) >= 0, "memory");
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        must(fd >= 0 && write(fd, f->bytes, f->size) == (ssize_t)f->size && close(fd) == 0, path);
        free(path);
    }
}

size_t snapshot_bytes(const snapshot *s)
{
    size_t sum = 0;
    for (size_t i = 0; i < s->count; i++) {
        sum += s->files[i].size;
    }
    return sum;
}

void snapshot_free(snapshot *s)
{
    for (size_t i = 0; i < s->count; i++) {
        free(s->files[i].name);
        free(s->files[i].bytes);
    }
    free(s->files);
    *s = SNAPSHOT_INIT;
}
