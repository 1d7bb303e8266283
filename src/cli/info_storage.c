/* SPDX-License-Identifier: Apache-2.0
 * allshard info: how bytes get to storage, and limits.
 */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include <allshard.h>

#include "cli/info.h"
#include "io/room.h"
#include "io/uring.h"
#include "transfer/save.h"

/* From where on the reason is about O_DIRECT itself, not about who asked for it. */
static const char *about_direct(const as_engine_choice *c)
{
    const char *at = strstr(c->reason, "O_DIRECT does not work");
    return at ? at : c->reason;
}

static void tell_direct(const as_info *i, const as_engine_choice *c)
{
    if (!c->direct) {
        as_info_row(i, "direct", AS_INFO_NO, json_object(), "%s", about_direct(c));
        return;
    }
    json_t *more = json_pack("{s:I, s:I}", "offset_align", (json_int_t)c->offset_align,
                             "memory_align", (json_int_t)c->memory_align);
    as_info_row(i, "direct", AS_INFO_YES, more,
                "O_DIRECT works on this %s: files in units of %lld bytes, memory of %lld",
                c->file_system, (long long)c->offset_align, (long long)c->memory_align);
}

int as_info_try_folder(as_info *i, as_error *e)
{
    int code = as_probe_folder(i->folder, "auto", true, &i->chosen, e);
    return code == AS_OK ? as_probe_folder(i->folder, "direct", true, &i->direct, e) : code;
}

void as_info_storage(const as_info *i)
{
    char why[AS_URING_WHY] = "";
    bool ring = as_uring_works(why);
    json_t *more =
        json_pack("{s:o, s:s, s:s}", "folder", as_json_text(i->folder, strlen(i->folder)),
                  "file_system", i->chosen.file_system, "auto", i->chosen.engine);
    const char *refused = strstr(i->direct.reason, "no trial file");
    as_info_row(i, "storage", refused ? AS_INFO_NO : AS_INFO_YES, more, "in %s auto is %s: %s",
                i->folder, i->chosen.engine, refused ? i->direct.reason : i->chosen.reason);
    as_info_row(i, "posix", AS_INFO_YES, json_object(), "through the page cache, everywhere");
    tell_direct(i, &i->direct);
    as_info_row(i, "uring", ring ? AS_INFO_YES : AS_INFO_NO, json_object(), "%s",
                ring ? "io_uring works" : why);
}

void as_info_formats(const as_info *i)
{
    as_info_row(i, "hdf5", AS_INFO_NO, json_object(),
                "not in this build: allshard %s writes and reads safetensors only",
                allshard_version());
}

/* NULL for "unlimited", in JSON. */
static json_t *limit_json(rlim_t limit)
{
    return limit == RLIM_INFINITY ? json_null() : json_integer((json_int_t)limit);
}

static void limit_text(char *out, size_t size, rlim_t limit, bool bytes)
{
    if (limit == RLIM_INFINITY) {
        (void)snprintf(out, size, "unlimited");
    } else if (bytes) {
        (void)snprintf(out, size, "%s", as_human_bytes((int64_t)limit).text);
    } else {
        (void)snprintf(out, size, "%llu", (unsigned long long)limit);
    }
}

void as_info_limits(const as_info *i)
{
    struct rlimit lock = {.rlim_cur = RLIM_INFINITY};
    struct rlimit files = {.rlim_cur = RLIM_INFINITY};
    char lock_text[40];
    char files_text[40];
    int64_t room = as_room_memory();
    (void)getrlimit(RLIMIT_MEMLOCK, &lock);
    (void)getrlimit(RLIMIT_NOFILE, &files);
    limit_text(lock_text, sizeof lock_text, lock.rlim_cur, true);
    limit_text(files_text, sizeof files_text, files.rlim_cur, false);
    json_t *more = json_pack("{s:i, s:I, s:I, s:o, s:o, s:I, s:i}", "dimensions", ALLSHARD_MAX_DIMS,
                             "block_bytes", (json_int_t)AS_BLOCK_BYTES, "most_block_bytes",
                             (json_int_t)AS_MOST_BLOCK_BYTES, "memlock_bytes",
                             limit_json(lock.rlim_cur), "open_files", limit_json(files.rlim_cur),
                             "memory_bytes", (json_int_t)room, "processors", as_room_processors());
    as_info_row(i, "limits", AS_INFO_YES, more,
                "%d dimensions; blocks of %d MiB, up to %d MiB; page-locked memory %s "
                "(RLIMIT_MEMLOCK), open files %s (RLIMIT_NOFILE)",
                ALLSHARD_MAX_DIMS, AS_BLOCK_BYTES >> 20, AS_MOST_BLOCK_BYTES >> 20, lock_text,
                files_text);
    as_info_line(i, "%s of memory to be had, %d processors for this process",
                 room > 0 ? as_human_bytes(room).text : "unknown bytes", as_room_processors());
}
