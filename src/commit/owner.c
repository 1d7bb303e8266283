/* SPDX-License-Identifier: Apache-2.0 */
#include "commit/owner.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/hash.h"

static const char version_key[] = "allshard_lock";

enum { VERSION = 1 };

/* The first line of a small file of the kernel or the system; empty if it cannot be
 * read. These lie on no checkpoint's disk, so they do not go through as_sys_table. */
static void read_line(const char *path, char *out, size_t size)
{
    out[0] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return;
    }
    ssize_t got = read(fd, out, size - 1);
    (void)close(fd);
    out[got > 0 ? got : 0] = '\0';
    out[strcspn(out, "\n")] = '\0';
}

/* State letter and start time of a process from /proc/PID/stat (fields 3 and 22). The
 * name in field 2 may hold blanks and brackets, so the search starts at the last ')'.
 * The letter is 0 if there is no such process. */
static void process_state(int64_t pid, char *state, int64_t *start)
{
    char path[64];
    char line[1024];
    *state = 0;
    *start = 0;
    (void)snprintf(path, sizeof path, "/proc/%" PRId64 "/stat", pid);
    read_line(path, line, sizeof line);
    const char *at = strrchr(line, ')');
    if (!at || at[1] != ' ' || !at[2]) {
        return;
    }
    *state = at[2];
    at += 2;
    for (int field = 3; field < 22; field++) {
        at = strchr(at, ' ');
        if (!at) {
            return;
        }
        at++;
    }
    *start = strtoll(at, NULL, 10);
}

void as_utc_text(int64_t seconds, char *out, size_t size)
{
    time_t moment = (time_t)seconds;
    struct tm parts;
    if (!gmtime_r(&moment, &parts) || strftime(out, size, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0) {
        (void)snprintf(out, size, "?");
    }
}

int as_owner_self(as_owner *out, as_error *e)
{
    *out = (as_owner){0};
    if (gethostname(out->host, sizeof out->host - 1) < 0) {
        return as_fail(e, AS_SYSTEM, errno, "cannot learn this host's name");
    }
    char id[128];
    read_line("/etc/machine-id", id, sizeof id);
    if (id[0]) {
        /* The id itself is meant to stay on the machine (machine-id(5)): keep a hash. */
        (void)snprintf(out->machine, sizeof out->machine, "%016" PRIx64,
                       as_hash_bytes(id, strlen(id)).low);
    }
    read_line("/proc/sys/kernel/random/boot_id", out->boot, sizeof out->boot);
    ssize_t length = readlink("/proc/self/ns/pid", out->space, sizeof out->space - 1);
    out->space[length > 0 ? length : 0] = '\0';
    out->pid = getpid();
    char state;
    process_state(out->pid, &state, &out->start);
    as_utc_text((int64_t)time(NULL), out->created, sizeof out->created);
    return AS_OK;
}

int as_owner_to_json(const as_owner *o, as_buffer *out, as_error *e)
{
    json_t *object = json_pack(
        "{s:i,s:s,s:s,s:s,s:s,s:I,s:I,s:s,s:I}", version_key, VERSION, "host", o->host, "machine",
        o->machine, "boot", o->boot, "pid_namespace", o->space, "pid", (json_int_t)o->pid, "start",
        (json_int_t)o->start, "created", o->created, "lease_ms", (json_int_t)o->lease_ms);
    char *text = object ? json_dumps(object, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
    json_decref(object);
    if (!text) {
        return as_fail_nomem(e);
    }
    int code = as_buffer_append(out, text, strlen(text), e);
    if (code == AS_OK) {
        code = as_buffer_char(out, '\n', e);
    }
    free(text);
    return code;
}

/* Copies a text of the object; false if it is not there or does not fit. */
static bool take_text(const json_t *object, const char *name, char *out, size_t size)
{
    const char *text = json_string_value(json_object_get(object, name));
    if (!text || strlen(text) >= size) {
        return false;
    }
    memcpy(out, text, strlen(text) + 1);
    return true;
}

static bool take_number(const json_t *object, const char *name, int64_t *out)
{
    const json_t *number = json_object_get(object, name);
    *out = json_integer_value(number);
    if (!json_is_integer(number) || *out < 0) {
        *out = 0;
        return false;
    }
    return true;
}

int as_owner_from_json(const char *bytes, size_t count, const char *what, as_owner *out,
                       as_error *e)
{
    *out = (as_owner){0};
    json_error_t fault;
    json_t *object = json_loadb(bytes ? bytes : "", count, JSON_REJECT_DUPLICATES, &fault);
    as_owner o = {0};
    int64_t version = 0;
    bool good = object && take_number(object, version_key, &version) && version == VERSION &&
                take_text(object, "host", o.host, sizeof o.host) &&
                take_text(object, "machine", o.machine, sizeof o.machine) &&
                take_text(object, "boot", o.boot, sizeof o.boot) &&
                take_text(object, "pid_namespace", o.space, sizeof o.space) &&
                take_text(object, "created", o.created, sizeof o.created) &&
                take_number(object, "pid", &o.pid) && take_number(object, "start", &o.start) &&
                o.pid > 0 && o.pid <= INT32_MAX;
    /* Locks of earlier versions do not have it. */
    (void)take_number(object, "lease_ms", &o.lease_ms);
    o.lease_ms = o.lease_ms < AS_LEASE_LARGEST_MS ? o.lease_ms : AS_LEASE_LARGEST_MS;
    json_decref(object);
    if (!good) {
        return as_fail(e, AS_FORMAT, 0, "%s: this is not a lock that allshard wrote", what);
    }
    *out = o;
    return AS_OK;
}

bool as_owner_is_newer(const char *bytes, size_t count)
{
    json_error_t fault;
    json_t *object = json_loadb(bytes ? bytes : "", count, JSON_REJECT_DUPLICATES, &fault);
    bool newer = json_integer_value(json_object_get(object, version_key)) > VERSION;
    json_decref(object);
    return newer;
}

enum as_life as_owner_life(const as_owner *o, const as_owner *self)
{
    if (o->pid == 0 || strcmp(o->host, self->host) != 0 || !o->boot[0] || !self->boot[0]) {
        return AS_LIFE_FAR;
    }
    /* Another boot may be this machine's last one, or that of a clone, or of a container on another
     * host: they share host names and machine ids when they come of one image. */
    if (strcmp(o->boot, self->boot) != 0 || !o->space[0] || strcmp(o->space, self->space) != 0) {
        return AS_LIFE_FAR;
    }
    char state;
    int64_t start;
    process_state(o->pid, &state, &start);
    if (state == 0) {
        /* Without a readable /proc the signal's answer is all there is to go by. */
        return kill((pid_t)o->pid, 0) < 0 && errno == ESRCH ? AS_LIFE_GONE : AS_LIFE_FAR;
    }
    if (state == 'Z' || state == 'X') {
        return AS_LIFE_GONE;
    }
    if (o->start && start && o->start != start) {
        return AS_LIFE_GONE;
    }
    return AS_LIFE_ALIVE;
}
