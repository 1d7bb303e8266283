/* SPDX-License-Identifier: Apache-2.0
 * allshard info: MPI, and memory that ranks share.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <allshard.h>

#include "cli/info.h"
#include "comm/arena.h"
#include "comm/node.h"

enum { TRIAL_BYTES = 4096 };

#ifdef ALLSHARD_NO_MPI

static void tell_library(const as_info *i)
{
    as_info_row(i, "mpi", AS_INFO_NO, json_object(),
                "built without MPI (-DALLSHARD_MPI=OFF): one process; build with an MPI for more");
}

#else

/* "Open MPI v4.1.4": the library's own words, up to the first line end or comma. */
static void name_library(char *out, size_t size)
{
    char text[MPI_MAX_LIBRARY_VERSION_STRING + 1];
    int length = 0;
    if (MPI_Get_library_version(text, &length) != MPI_SUCCESS || length < 0) {
        length = 0;
    }
    text[length] = '\0';
    text[strcspn(text, ",\n")] = '\0';
    for (char *c = text; *c; c++) {
        *c = *c == '\t' ? ' ' : *c;
    }
    (void)snprintf(out, size, "%s", *text ? text : "MPI");
}

/* Which threads may call MPI, as the library was started here; NULL: it was not. */
static const char *thread_level(void)
{
    int started = 0;
    int level = MPI_THREAD_SINGLE;
    if (MPI_Initialized(&started) != MPI_SUCCESS || !started ||
        MPI_Query_thread(&level) != MPI_SUCCESS) {
        return NULL;
    }
    return level == MPI_THREAD_MULTIPLE     ? "multiple"
           : level == MPI_THREAD_SERIALIZED ? "serialized"
           : level == MPI_THREAD_FUNNELED   ? "funneled"
                                            : "single";
}

static void tell_library(const as_info *i)
{
    char library[MPI_MAX_LIBRARY_VERSION_STRING + 1];
    int version = 0;
    int subversion = 0;
    const char *level = thread_level();
    name_library(library, sizeof library);
    (void)MPI_Get_version(&version, &subversion);
    json_t *more =
        json_pack("{s:s%, s:o, s:i}", "library", library, strlen(library), "thread_level",
                  level ? json_string(level) : json_null(), "ranks", i->tool->world.size);
    if (level) {
        as_info_row(i, "mpi", AS_INFO_YES, more, "%s (MPI %d.%d), thread level %s, %d rank%s",
                    library, version, subversion, level, i->tool->world.size,
                    i->tool->world.size == 1 ? "" : "s");
    } else {
        as_info_row(i, "mpi", AS_INFO_YES, more,
                    "%s (MPI %d.%d), not started: `mpirun -n 2 allshard info` tries it", library,
                    version, subversion);
    }
}

#endif

/* How many pairs of ranks on this rank's node there are with it, and how many reach each other. */
static int count_pairs(as_comm *c, int64_t *pairs, int64_t *reached, as_error *e)
{
    int size = as_comm_size(c);
    as_arena *arena = NULL;
    int32_t *node = calloc((size_t)size, sizeof *node);
    if (!node) {
        (void)as_fail_nomem(e);
    }
    int code = as_comm_agree(c, e);
    code = code == AS_OK ? as_comm_nodes(c, node, e) : code;
    code = code == AS_OK ? as_arena_open(&arena, c, TRIAL_BYTES, e) : code;
    int64_t counts[2] = {0, 0};
    for (int r = 0; code == AS_OK && node && r < size; r++) {
        if (r != as_comm_rank(c) && node[r] == node[as_comm_rank(c)]) {
            counts[0]++;
            counts[1] += as_arena_of(arena, r) != NULL;
        }
    }
    code = code == AS_OK ? as_comm_sum(c, counts, 2, e) : code;
    as_arena_close(arena);
    free(node);
    *pairs = counts[0] / 2;
    *reached = counts[1] / 2;
    return code;
}

static int tell_sharing(const as_info *i, as_error *e)
{
    const as_world *w = &i->tool->world;
    int64_t pairs = 0;
    int64_t reached = 0;
    int code = w->comm && w->size > 1 ? count_pairs(w->comm, &pairs, &reached, e) : AS_OK;
    if (code != AS_OK || w->rank != 0) {
        return code;
    }
    const char *value = getenv(AS_ARENA_SWITCH);
    json_t *more =
        json_pack("{s:I, s:I}", "pairs", (json_int_t)pairs, "reached", (json_int_t)reached);
    if (value && strcmp(value, "off") == 0) {
        as_info_row(i, "sharing", AS_INFO_NO, more,
                    AS_ARENA_SWITCH " is off: ranks of a node send messages");
    } else if (w->size == 1) {
        as_info_row(i, "sharing", AS_INFO_UNKNOWN, more,
                    "of memory between ranks of a node: several ranks try it");
    } else if (pairs == 0) {
        as_info_row(i, "sharing", AS_INFO_UNKNOWN, more, "every rank is alone on its node");
    } else if (reached == pairs) {
        as_info_row(i, "sharing", AS_INFO_YES, more,
                    "ranks of a node reach each other's memory (%lld of %lld pairs)",
                    (long long)reached, (long long)pairs);
    } else {
        as_info_row(
            i, "sharing", AS_INFO_NO, more,
            "%lld of %lld pairs of ranks of a node reach each other's memory, the others "
            "send messages: in containers of their own, or of different users, ranks cannot "
            "open each other's /proc/PID/fd",
            (long long)reached, (long long)pairs);
    }
    return code;
}

int as_info_mpi(const as_info *i, as_error *e)
{
    if (i->tool->world.rank == 0) {
        tell_library(i);
    }
    return tell_sharing(i, e);
}
