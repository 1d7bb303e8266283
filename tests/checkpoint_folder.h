/* SPDX-License-Identifier: Apache-2.0
 * Folders in tests: a scratch folder, small files, and whether a checkpoint folder holds
 * exactly the old or exactly the new set of files.
 */
#ifndef ALLSHARD_TESTS_CHECKPOINT_FOLDER_H
#define ALLSHARD_TESTS_CHECKPOINT_FOLDER_H

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* One file of a checkpoint: its content is "<tag>:<name>", as often as it takes to tell. */
typedef struct file_set {
    const char *tag;
    const char *const *names; /* sorted, ends with NULL */
} file_set;

static inline void must(bool good, const char *what)
{
    if (!good) {
        perror(what);
        abort();
    }
}

static inline void write_text(const char *folder, const char *name, const char *text)
{
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    must(f != NULL, path);
    must(fputs(text, f) >= 0 && fclose(f) == 0, path);
}

/* The text of a file, or NULL if it cannot be opened; static. */
static inline const char *read_text(const char *folder, const char *name)
{
    static char text[4096];
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_RDONLY);
    if (fd < 0) {
        return NULL;
    }
    ssize_t n = read(fd, text, sizeof text - 1);
    (void)close(fd);
    must(n >= 0, path);
    text[n] = '\0';
    return text;
}

static inline void content_of(const char *tag, const char *name, char *out, size_t size)
{
    (void)snprintf(out, size, "%s:%s", tag, name);
}

static inline void make_set(const char *folder, const file_set *set)
{
    for (const char *const *name = set->names; *name; name++) {
        char text[512];
        content_of(set->tag, *name, text, sizeof text);
        write_text(folder, *name, text);
    }
}

static inline bool exists(const char *folder, const char *name)
{
    char path[1024];
    struct stat status;
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return lstat(path, &status) == 0;
}

/* Does the folder hold exactly this set, besides .allshard? No folder is an empty set. */
static inline bool holds_set(const char *folder, const file_set *set)
{
    size_t expected = 0;
    for (const char *const *name = set->names; *name; name++, expected++) {
        char text[512];
        content_of(set->tag, *name, text, sizeof text);
        const char *found = read_text(folder, *name);
        if (!found || strcmp(found, text) != 0) {
            return false;
        }
    }
    size_t count = 0;
    DIR *stream = opendir(folder);
    if (!stream) {
        return expected == 0;
    }
    const struct dirent *entry;
    while ((entry = readdir(stream))) {
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
                 strcmp(entry->d_name, ".allshard") != 0;
    }
    (void)closedir(stream);
    return count == expected;
}

static inline void remove_tree(const char *path)
{
    DIR *stream = opendir(path);
    if (stream) {
        const struct dirent *entry;
        while ((entry = readdir(stream))) {
            if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
                char *child;
                must(asprintf(&child, "%s/%s", path, entry->d_name) >= 0, path);
                struct stat status;
                if (lstat(child, &status) == 0 && S_ISDIR(status.st_mode)) {
                    remove_tree(child);
                } else {
                    (void)unlink(child);
                }
                free(child);
            }
        }
        (void)closedir(stream);
        (void)rmdir(path);
    }
}

static inline int count_descriptors(void)
{
    int count = 0;
    DIR *stream = opendir("/proc/self/fd");
    must(stream != NULL, "/proc/self/fd");
    while (readdir(stream)) {
        count++;
    }
    (void)closedir(stream);
    return count;
}

/* A new scratch folder; static text. In memory if may be: thousands of small saves would
 * wait for a disk, and what they test does not need one. TMPDIR decides otherwise. */
static inline const char *scratch_folder(void)
{
    static char path[256];
    const char *base = getenv("TMPDIR");
    if (!base || !*base) {
        base = access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp";
    }
    (void)snprintf(path, sizeof path, "%s/allshard-test-XXXXXX", base);
    must(mkdtemp(path) != NULL, path);
    return path;
}

#endif
