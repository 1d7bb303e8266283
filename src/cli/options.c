/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/options.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/quote.h"
#include "base/sys.h"
#include "cli/spread.h"
#include "io/manners.h"

static const char *const engines[] = {"auto", "posix", "direct", "uring"};

enum {
    ENGINE_COUNT = sizeof engines / sizeof engines[0],
    MOST_ALIGN = 1 << 20,
    MOST_RANKS = 1000000,
    MOST_STRIPES = 2000, /* as io/stripes.h */
    STRIPE_UNIT = 64 << 10,
    MOST_IO_THREADS = 16,
    MOST_COPY_THREADS = 64,
};

const char *as_engine_choice(size_t i)
{
    return i < ENGINE_COUNT ? engines[i] : NULL;
}

/* GPU-direct moves what lies in device memory. */
static int read_engine(const char *text, bool device, as_error *e)
{
    if (text && strcmp(text, "gds") == 0) {
        return device ? AS_OK
                      : as_fail(e, AS_INVALID, 0,
                                "--engine gds is for tensors in device memory, as `allshard bench` "
                                "holds them with --device");
    }
    for (size_t i = 0; text && i < ENGINE_COUNT; i++) {
        if (strcmp(text, engines[i]) == 0) {
            return AS_OK;
        }
    }
    return text ? as_fail(e, AS_INVALID, 0,
                          "--engine is %s; it must be auto, posix, direct or uring",
                          as_quote(text, strlen(text)).text)
                : AS_OK;
}

static int read_align(const char *text, int64_t *out, as_error *e)
{
    int code = as_args_memory(text, "--align", out, e);
    if (code == AS_OK && (*out > MOST_ALIGN || (*out & (*out - 1)) != 0)) {
        code = as_fail(e, AS_INVALID, 0, "--align is %s; it must be 0 or a power of two up to 1MiB",
                       as_quote(text, strlen(text)).text);
    }
    return code;
}

static int read_checksum(const char *text, int32_t *out, as_error *e)
{
    if (strcmp(text, "none") == 0) {
        *out = ALLSHARD_CHECKSUM_NONE;
    } else if (strcmp(text, "xxh3") == 0) {
        *out = ALLSHARD_CHECKSUM_XXH3;
    } else {
        return as_fail(e, AS_INVALID, 0, "--checksum is %s; it must be xxh3 or none",
                       as_quote(text, strlen(text)).text);
    }
    return AS_OK;
}

static int read_count(const char *text, const char *what, int64_t most, int32_t *out, as_error *e)
{
    int64_t value = 0;
    int code = as_args_number(text, what, 1, most, &value, e);
    *out = (int32_t)value;
    return code;
}

static int read_stripes(const as_save_arguments *a, allshard_save_options *save, as_error *e)
{
    int code = AS_OK;
    if (a->stripe_count && strcmp(a->stripe_count, "all") == 0) {
        save->stripe_count = -1;
    } else if (a->stripe_count) {
        code = read_count(a->stripe_count, "--stripe-count", MOST_STRIPES, &save->stripe_count, e);
    }
    if (code == AS_OK && a->stripe_size) {
        code = as_args_memory(a->stripe_size, "--stripe-size", &save->stripe_bytes, e);
    }
    if (code == AS_OK && save->stripe_bytes % STRIPE_UNIT != 0) {
        code = as_fail(e, AS_INVALID, 0, "--stripe-size is %s; it must be a multiple of 64KiB",
                       as_quote(a->stripe_size, a->stripe_size ? strlen(a->stripe_size) : 0).text);
    }
    return code;
}

int as_save_arguments_read(const as_save_arguments *a, allshard_save_options *save, int64_t *memory,
                           as_error *e)
{
    int code = as_save_options_check(a->max_shard_size, NULL, e);
    code = code == AS_OK ? read_engine(a->engine, a->device, e) : code;
    if (code == AS_OK && a->align) {
        code = read_align(a->align, &save->align, e);
    }
    if (code == AS_OK && a->checksum) {
        code = read_checksum(a->checksum, &save->checksum, e);
    }
    if (code == AS_OK && a->writers_per_node) {
        code = read_count(a->writers_per_node, "--writers-per-node", MOST_RANKS,
                          &save->writers_per_node, e);
    }
    if (code == AS_OK && a->creators) {
        code = read_count(a->creators, "--creators", MOST_RANKS, &save->creators, e);
    }
    code = code == AS_OK ? read_stripes(a, save, e) : code;
    code = code == AS_OK ? as_block_size_read(a->block_size, &save->block_bytes, e) : code;
    code = code == AS_OK ? as_memory_read(a->memory, memory, e) : code;
    save->max_shard_size = a->max_shard_size;
    save->engine = a->engine;
    save->verify_after_write = a->verify_after_write;
    return code;
}

/* ---------------------------------------------------------------- nonblocking */

static int read_staging(const char *text, int32_t *out, as_error *e)
{
    static const char *const names[] = {[ALLSHARD_STAGE_AUTO] = "auto",
                                        [ALLSHARD_STAGE_SNAPSHOT] = "snapshot",
                                        [ALLSHARD_STAGE_STREAM] = "stream"};
    for (int i = 0; i < (int)(sizeof names / sizeof names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = i;
            return AS_OK;
        }
    }
    return as_fail(e, AS_INVALID, 0, "--staging is %s; it must be auto, snapshot or stream",
                   as_quote(text, strlen(text)).text);
}

static int read_amount(const char *text, const char *what, int64_t *out, as_error *e)
{
    int code = as_args_memory(text, what, out, e);
    return code == AS_OK && *out == 0
               ? as_fail(e, AS_INVALID, 0, "%s is 0; it must be an amount of bytes", what)
               : code;
}

static int check_manners(const char *what, const as_manners *m, as_error *e)
{
    int code = as_manners_check(m, e);
    if (code != AS_OK) {
        as_error_prefix(e, "%s", what);
    }
    return code;
}

/* The first one that was given; NULL: none. */
static const char *given_of(const as_isave_arguments *a)
{
    return a->staging           ? "--staging"
           : a->snapshot_memory ? "--snapshot-memory"
           : a->cpus            ? "--cpus"
           : a->io_threads      ? "--io-threads"
           : a->copy_threads    ? "--copy-threads"
           : a->io_priority     ? "--io-priority"
           : a->bandwidth       ? "--bandwidth"
                                : NULL;
}

int as_isave_arguments_read(const as_isave_arguments *a, bool wanted, allshard_save_options *save,
                            int64_t *snapshot_memory, as_error *e)
{
    const char *given = given_of(a);
    if (given && !wanted) {
        return as_fail(e, AS_INVALID, 0, "%s goes with --nonblocking", given);
    }
    int code = a->staging ? read_staging(a->staging, &save->staging, e) : AS_OK;
    if (code == AS_OK && a->snapshot_memory) {
        code = read_amount(a->snapshot_memory, "--snapshot-memory", snapshot_memory, e);
    }
    if (code == AS_OK && a->io_threads) {
        code = read_count(a->io_threads, "--io-threads", MOST_IO_THREADS, &save->io_threads, e);
    }
    if (code == AS_OK && a->copy_threads) {
        code = read_count(a->copy_threads, "--copy-threads", MOST_COPY_THREADS, &save->copy_threads,
                          e);
    }
    if (code == AS_OK && a->bandwidth) {
        code = read_amount(a->bandwidth, "--bandwidth", &save->bandwidth, e);
    }
    save->cpus = a->cpus;
    save->io_priority = a->io_priority;
    code = code == AS_OK ? check_manners("--cpus", &(as_manners){.cpus = a->cpus}, e) : code;
    return code == AS_OK
               ? check_manners("--io-priority", &(as_manners){.priority = a->io_priority}, e)
               : code;
}

int32_t as_load_checksum(const as_save_arguments *a)
{
    return a->no_check ? ALLSHARD_CHECKSUM_NONE : ALLSHARD_CHECKSUM_DEFAULT;
}

int as_trace_check(const char *path, as_error *e)
{
    if (!path) {
        return AS_OK;
    }
    if (!*path) {
        return as_fail(e, AS_SYSTEM, 0, "--trace: no path is given to write the trace to");
    }
    int flags = O_WRONLY | O_NONBLOCK; /* a pipe that nobody reads must not hold us up */
    int fd = as_open(AT_FDCWD, path, flags, 0);
    if (fd < 0 && errno == ENOENT) {
        fd = as_open(AT_FDCWD, path, flags | O_CREAT | O_EXCL, 0666);
        if (fd >= 0) {
            (void)as_sys_table.unlinkat(AT_FDCWD, path, 0);
        }
    }
    int code = fd >= 0 && lseek(fd, 0, SEEK_CUR) >= 0
                   ? AS_OK
                   : as_fail(e, AS_SYSTEM, errno, "%s: the trace cannot be written to it", path);
    if (fd >= 0) {
        (void)as_sys_table.close(fd);
    }
    return code;
}
