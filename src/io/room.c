/* SPDX-License-Identifier: Apache-2.0 */
#include "io/room.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/checked.h"
#include "io/cpus.h"

/* Whole files of the kernel: the longest have one line for each of a dozen control groups. */
enum { TEXT = 64 << 10, PATH = 4096, LINES = 64 };

typedef struct room {
    const char *root;
    int64_t bytes; /* the least so far; −1: nobody knows */
    char *text;    /* [TEXT + 1]: the file that was read last */
    char *groups;  /* [TEXT + 1]: /proc/self/cgroup */
} room;

/* ---- files; they lie on no checkpoint's disk, so they do not go through as_sys_table ---- */

/* Empty if it cannot be read, and cut if it is too long. */
static const char *read_text(const room *r, char *out, const char *folder, const char *name)
{
    char path[PATH];
    size_t n = 0;
    out[0] = '\0';
    int length = snprintf(path, sizeof path, "%s%s/%s", r->root, folder, name);
    if (length < 0 || (size_t)length >= sizeof path) {
        return out;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    while (fd >= 0 && n < TEXT) {
        ssize_t got = read(fd, out + n, TEXT - n);
        if (got <= 0) {
            break;
        }
        n += (size_t)got;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    out[n] = '\0';
    return out;
}

/* The number that the text begins with, behind blanks; −1 if there is none. Too large is the
 * largest. */
static int64_t number(const char *text)
{
    int64_t value = -1;
    text += strspn(text, " \t");
    for (; *text >= '0' && *text <= '9'; text++) {
        int64_t digit = *text - '0';
        value = value < 0 ? 0 : value;
        if (!as_mul_i64(value, 10, &value) || !as_add_i64(value, digit, &value)) {
            return INT64_MAX;
        }
    }
    return value;
}

static int64_t file_number(const room *r, const char *folder, const char *name)
{
    return number(read_text(r, r->text, folder, name));
}

/* Of the line that begins with that word; −1 if there is none. */
static int64_t line_number(const char *text, const char *word)
{
    size_t length = strlen(word);
    while (text && *text) {
        if (strncmp(text, word, length) == 0 && (text[length] == ' ' || text[length] == '\t')) {
            return number(text + length);
        }
        text = strchr(text, '\n');
        text = text ? text + 1 : NULL;
    }
    return -1;
}

static int64_t times(int64_t a, int64_t b)
{
    int64_t product = 0;
    return a < 0 ? -1 : as_mul_i64(a, b, &product) ? product : INT64_MAX;
}

/* ---- what leaves how much ---- */

static void leave(room *r, int64_t bytes)
{
    bytes = as_max_i64(bytes, 0);
    r->bytes = r->bytes < 0 ? bytes : as_min_i64(r->bytes, bytes);
}

/* All but the free part of what is used counts against the limit. */
static void leave_of_limit(room *r, int64_t limit, int64_t used, int64_t reclaimable)
{
    used = as_max_i64(used, 0) - as_min_i64(as_max_i64(reclaimable, 0), as_max_i64(used, 0));
    leave(r, limit - as_min_i64(used, limit));
}

static void look_at_node(room *r)
{
    int64_t promises = file_number(r, "/proc/sys/vm", "overcommit_memory");
    const char *text = read_text(r, r->text, "/proc", "meminfo");
    int64_t available = times(line_number(text, "MemAvailable:"), 1024);
    int64_t limit = times(line_number(text, "CommitLimit:"), 1024);
    int64_t promised = times(line_number(text, "Committed_AS:"), 1024);
    if (available >= 0) {
        leave(r, available);
    }
    if (promises == 2 && limit >= 0 && promised >= 0) {
        leave_of_limit(r, limit, promised, 0);
    }
}

static void look_at_limit(room *r, bool data, int64_t used)
{
    struct rlimit limit;
    if (getrlimit(data ? RLIMIT_DATA : RLIMIT_AS, &limit) == 0 &&
        limit.rlim_cur < (rlim_t)INT64_MAX && used >= 0) {
        leave_of_limit(r, (int64_t)limit.rlim_cur, used, 0);
    }
}

/* /proc/self/statm: pages of address space come first, those of data sixth. */
static void look_at_process(room *r)
{
    long page = sysconf(_SC_PAGESIZE);
    const char *at = read_text(r, r->text, "/proc/self", "statm");
    for (int field = 1; at && field <= 6; field++) {
        int64_t bytes = times(number(at), page > 0 ? page : 4096);
        if (field == 1) {
            look_at_limit(r, false, bytes);
        } else if (field == 6) {
            look_at_limit(r, true, bytes);
        }
        at = strchr(at, ' ');
        at = at ? at + 1 : NULL;
    }
}

/* ---- control groups ---- */

typedef struct hierarchy {
    const char *controller; /* as /proc/self/cgroup names it; "": v2 */
    const char *mount;
    const char *limits[2]; /* memory.high: beyond it the group is slowed down */
    const char *used;
    const char *reclaimable; /* of memory.stat, of the group and those below */
} hierarchy;

static const hierarchy hierarchies[] = {
    {"", "/sys/fs/cgroup", {"memory.max", "memory.high"}, "memory.current", "inactive_file"},
    {"",
     "/sys/fs/cgroup/unified",
     {"memory.max", "memory.high"},
     "memory.current",
     "inactive_file"},
    {"memory",
     "/sys/fs/cgroup/memory",
     {"memory.limit_in_bytes", NULL},
     "memory.usage_in_bytes",
     "total_inactive_file"},
};

static void look_at_group(room *r, const hierarchy *h, const char *folder)
{
    for (int i = 0; i < 2 && h->limits[i]; i++) {
        /* v2 writes "max" for none; v1 a number that no machine reaches. */
        int64_t limit = file_number(r, folder, h->limits[i]);
        if (limit >= 0) {
            int64_t used = file_number(r, folder, h->used);
            const char *text = read_text(r, r->text, folder, "memory.stat");
            leave_of_limit(r, limit, used, line_number(text, h->reclaimable));
        }
    }
}

/* The group and all above it. In a container the path may be that of the node, of which only the
 * last part, or nothing, is to be seen: then the first folders of it are left out. */
static void look_at_path(room *r, const hierarchy *h, const char *path, size_t length)
{
    char folder[PATH];
    char full[PATH];
    length = length < PATH ? length : 0; /* no path of the kernel's is as long */
    for (;;) {
        int n = snprintf(folder, sizeof folder, "%s%.*s", h->mount, (int)length, path);
        int m = snprintf(full, sizeof full, "%s%s", r->root, folder);
        if (n >= 0 && (size_t)n < sizeof folder && m >= 0 && (size_t)m < sizeof full &&
            access(full, F_OK) == 0) {
            break;
        }
        const char *next = length > 1 ? memchr(path + 1, '/', length - 1) : NULL;
        if (!next) {
            (void)snprintf(folder, sizeof folder, "%s", h->mount);
            break;
        }
        length -= (size_t)(next - path);
        path = next;
    }
    for (;;) {
        look_at_group(r, h, folder);
        char *slash = strrchr(folder, '/');
        if (strlen(folder) <= strlen(h->mount) || !slash) {
            return;
        }
        *slash = '\0';
    }
}

/* "memory" in "cpu,memory"; "" in "". */
static bool has_word(const char *list, size_t length, const char *word)
{
    size_t size = strlen(word);
    for (;;) {
        const char *comma = memchr(list, ',', length);
        size_t n = comma ? (size_t)(comma - list) : length;
        if (n == size && strncmp(list, word, n) == 0) {
            return true;
        }
        if (!comma) {
            return false;
        }
        list += n + 1;
        length -= n + 1;
    }
}

/* Lines such as "4:memory:/a/b" (v1) and "0::/a/b" (v2); see cgroups(7). */
static void look_at_groups(room *r)
{
    const char *line = read_text(r, r->groups, "/proc/self", "cgroup");
    for (int i = 0; *line && i < LINES; i++) {
        size_t length = strcspn(line, "\n");
        const char *list = memchr(line, ':', length);
        list = list ? list + 1 : line + length;
        const char *path = memchr(list, ':', length - (size_t)(list - line));
        for (size_t k = 0; path && k < sizeof hierarchies / sizeof *hierarchies; k++) {
            if (path[1] == '/' &&
                has_word(list, (size_t)(path - list), hierarchies[k].controller)) {
                look_at_path(r, &hierarchies[k], path + 1, length - (size_t)(path + 1 - line));
            }
        }
        line += length;
        line += *line == '\n';
    }
}

/* ---- the whole ---- */

int64_t as_room_memory_below(const char *root)
{
    room r = {.root = root, .bytes = -1, .text = malloc(TEXT + 1), .groups = malloc(TEXT + 1)};
    if (r.text && r.groups) {
        look_at_node(&r);
        look_at_process(&r);
        look_at_groups(&r);
    }
    free(r.text);
    free(r.groups);
    return r.bytes < 0 ? 0 : as_max_i64(r.bytes, 1);
}

int64_t as_room_memory(void)
{
    return as_room_memory_below("");
}

int as_room_processors(void)
{
    as_cpus cpus;
    (void)as_cpus_of_thread(&cpus);
    int count = as_cpus_count(&cpus);
    return count > 0 ? count : 1;
}
