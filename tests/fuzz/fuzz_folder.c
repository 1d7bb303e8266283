/* SPDX-License-Identifier: Apache-2.0
 * Fuzzes a whole checkpoint folder: files that agree with each other only there. The input is a
 * row of sections, each a byte that chooses the name, two bytes of length (little endian) and the
 * content. The folder is listed, verified, loaded into memory and recovered, as a user would;
 * nothing outside of it may be opened, moved or removed, and what a load calls good must be what
 * the files hold.
 *
 * Contents are completed, since a fuzzer guesses no sums: a safetensors header gets its length
 * before it and zeros for its tensors behind it, a journal and a manifest their checksum.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <allshard.h>

#include "base/json_pull.h"
#include "base/sys.h"
#include "cli/read_checkpoint.h"
#include "cli/verify.h"
#include "commit/folder.h"
#include "commit/recover.h"
#include "format/safetensors.h"
#include "sealed.h"

enum kind { PLAIN, HEADER, SEALED };

static const struct {
    const char *name;
    enum kind kind;
} places[] = {
    {"model.safetensors.index.json", PLAIN},
    {"model.safetensors", HEADER},
    {"model-00001-of-00002.safetensors", HEADER},
    {"model-00002-of-00002.safetensors", HEADER},
    {AS_MANIFEST_NAME, SEALED},
    {AS_META_NAME "/" AS_JOURNAL_NAME, SEALED},
    {AS_META_NAME "/" AS_NEW_NAME "/model.safetensors", HEADER},
    {AS_META_NAME "/" AS_NEW_NAME "/model-00001-of-00002.safetensors", HEADER},
    {AS_META_NAME "/" AS_NEW_NAME "/model.safetensors.index.json", PLAIN},
    {AS_META_NAME "/" AS_LOCK_NAME, PLAIN},
    {AS_META_NAME "/" AS_OLD_NAME "/model.safetensors", PLAIN},
    {"sub/a.safetensors", HEADER},
    {"MODEL.SAFETENSORS", HEADER},
    {"other.safetensors", PLAIN},
    {"config.json", PLAIN},
};

enum {
    PLACES = sizeof places / sizeof places[0],
    MOST_DATA = 64 * 1024,   /* of the zeros behind a header, and of what is loaded */
    MOST_FILE = 1024 * 1024, /* nothing of what is read here needs more */
    LEASE_MS = 1
};

static char top[64];     /* holds the folder and a file that nobody may touch */
static char folder[128]; /* the checkpoint's */
static const char outside[] = "outside.safetensors";

/* ---- nothing outside ---- */

static as_sys real;

/* Paths that lead out of the folder: absolute ones elsewhere, and any with "..". */
static void check_path(const char *path)
{
    MUST(path[0] != '/' || strncmp(path, folder, strlen(folder)) == 0);
    for (const char *part = path; part; part = strchr(part, '/')) {
        part += *part == '/';
        MUST(strncmp(part, "..", 2) != 0 || (part[2] != '\0' && part[2] != '/'));
    }
}

static int openat_inside(int at, const char *path, int flags, mode_t mode)
{
    check_path(path);
    return real.openat(at, path, flags, mode);
}

static int unlinkat_inside(int at, const char *path, int flags)
{
    check_path(path);
    return real.unlinkat(at, path, flags);
}

static int renameat_inside(int from, const char *old, int to, const char *new)
{
    check_path(old);
    check_path(new);
    return real.renameat(from, old, to, new);
}

/* ---- the folder ---- */

static void write_file(const char *name, const void *bytes, size_t size)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    MUST(fd >= 0 && write(fd, bytes, size) == (ssize_t)size && close(fd) == 0);
}

static void make_folders(void)
{
    static const char *const names[] = {"", "sub", AS_META_NAME, AS_META_NAME "/" AS_NEW_NAME,
                                        AS_META_NAME "/" AS_OLD_NAME};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[256];
        (void)snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        MUST(mkdir(path, 0777) == 0 || errno == EEXIST);
    }
}

static void remove_folder(void)
{
    int at = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    MUST(at >= 0);
    MUST(as_tree_remove(at, "checkpoint", top, NULL, NULL) == AS_OK);
    (void)close(at);
}

static void stop(void)
{
    char path[256];
    remove_folder();
    (void)snprintf(path, sizeof path, "%s/%s", top, outside);
    (void)unlink(path);
    (void)rmdir(top);
#ifndef ALLSHARD_NO_MPI
    (void)MPI_Finalize();
#endif
}

static void start(void)
{
    const char *memory = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
#ifndef ALLSHARD_NO_MPI
    MUST(MPI_Init(NULL, NULL) == MPI_SUCCESS);
#endif
    (void)snprintf(top, sizeof top, "%s/allshard-fuzz-XXXXXX", memory);
    MUST(mkdtemp(top) != NULL);
    (void)snprintf(folder, sizeof folder, "%s/checkpoint", top);
    MUST(mkdir(folder, 0777) == 0);
    write_file("../outside.safetensors", "outside", 7);
    real = as_sys_table;
    as_sys_table.openat = openat_inside;
    as_sys_table.unlinkat = unlinkat_inside;
    as_sys_table.renameat = renameat_inside;
    (void)atexit(stop);
}

/* Where the last tensor of a header ends, if that is near. */
static size_t data_size(const uint8_t *json_text, size_t size)
{
    as_json_memory t = {.at = json_text, .left = size};
    as_json *json;
    as_table table = AS_TABLE_INIT;
    uint64_t end = 0;
    MUST(as_json_open(&json, as_json_fill_memory, &t, AS_JSON_SERDE, NULL) == AS_OK);
    (void)as_safetensors_parse(json, &table, NULL);
    as_json_close(json);
    for (size_t i = 0; i < as_table_count(&table); i++) {
        const as_entry *x = as_table_entry(&table, i);
        end = x->end > end && x->end <= MOST_DATA ? x->end : end;
    }
    as_table_free(&table);
    return (size_t)end;
}

static void write_header(const char *name, const uint8_t *data, size_t size)
{
    as_buffer b = AS_BUFFER_INIT;
    void *zeros;
    for (int i = 0; i < 8; i++) {
        MUST(as_buffer_char(&b, (char)((uint64_t)size >> (8 * i) & 0xff), NULL) == AS_OK);
    }
    MUST(as_buffer_append(&b, data, size, NULL) == AS_OK);
    size_t count = data_size(data, size);
    MUST(as_buffer_extend(&b, count, &zeros, NULL) == AS_OK);
    for (size_t i = 0; i < count; i++) {
        ((char *)zeros)[i] = (char)(i * 7 + size);
    }
    write_file(name, b.data, b.size);
    as_buffer_free(&b);
}

static void write_sections(const uint8_t *data, size_t size)
{
    while (size >= 3) {
        size_t place = data[0] & 0x7f;
        bool raw = data[0] & 0x80;
        size_t length = data[1] | (size_t)data[2] << 8;
        data += 3;
        size -= 3;
        length = length < size ? length : size;
        as_buffer sealed = AS_BUFFER_INIT;
        if (place >= PLACES) {
            /* No file of that name. */
        } else if (!raw && places[place].kind == HEADER) {
            write_header(places[place].name, data, length);
        } else if (!raw && places[place].kind == SEALED && fuzz_seal(data, length, &sealed)) {
            write_file(places[place].name, sealed.data, sealed.size);
        } else {
            write_file(places[place].name, data, length);
        }
        as_buffer_free(&sealed);
        data += length;
        size -= length;
    }
}

/* ---- what is done with it ---- */

/* Each tensor in memory is what lies in its file at its place. */
static void compare(const as_contents *c, char *const *memory)
{
    as_view *v;
    MUST(as_view_open(&v, folder, NULL) == AS_OK);
    for (size_t i = 0; i < as_tensors_count(&c->tensors); i++) {
        const as_tensor_row *row = as_tensors_row(&c->tensors, i);
        int fd;
        char *bytes = malloc((size_t)row->bytes + 1);
        MUST(bytes != NULL);
        MUST(as_view_open_file(v, c->files.items[row->file], &fd, NULL) == AS_OK);
        MUST(pread(fd, bytes, (size_t)row->bytes, (off_t)row->begin) == (ssize_t)row->bytes);
        MUST(memcmp(bytes, memory[i], (size_t)row->bytes) == 0);
        (void)close(fd);
        free(bytes);
    }
    as_view_close(v);
}

static int declare(allshard_state *s, const as_contents *c, char **memory)
{
    int code = ALLSHARD_OK;
    for (size_t i = 0; i < as_tensors_count(&c->tensors) && code == ALLSHARD_OK; i++) {
        const as_tensor_row *row = as_tensors_row(&c->tensors, i);
        memory[i] = malloc((size_t)row->bytes + 1);
        MUST(memory[i] != NULL);
        memset(memory[i], 0x55, (size_t)row->bytes);
        allshard_tensor t = {.size = sizeof t,
                             .name = as_tensors_name(&c->tensors, i),
                             .dtype = row->dtype,
                             .ndim = row->ndim,
                             .shape = as_tensors_shape(&c->tensors, i),
                             .data = memory[i],
                             .order = (int64_t)i + 1};
        code = allshard_state_tensor(s, &t);
    }
    return code;
}

static void load(const as_contents *c)
{
    const allshard_options options = {.size = sizeof options, .memory = 1};
    const allshard_load_options how = {
        .size = sizeof how, .block_bytes = 4096, .engine = "posix", .allow_unexpected = 1};
    size_t count = as_tensors_count(&c->tensors);
    char **memory = calloc(count + 1, sizeof *memory);
    allshard *as;
    allshard_state *s;
    MUST(memory != NULL);
    MUST(allshard_open(&as, ALLSHARD_COMM_SELF, &options) == ALLSHARD_OK);
    MUST(allshard_state_create(&s, as, "model") == ALLSHARD_OK);
    if (declare(s, c, memory) == ALLSHARD_OK && allshard_load(s, folder, &how) == ALLSHARD_OK) {
        compare(c, memory);
    }
    MUST(allshard_state_free(s) == ALLSHARD_OK);
    MUST(allshard_close(as) == ALLSHARD_OK);
    for (size_t i = 0; i < count; i++) {
        free(memory[i]);
    }
    free(memory);
}

static void check_outside(void)
{
    char path[256];
    char bytes[16];
    (void)snprintf(path, sizeof path, "%s/%s", top, outside);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    MUST(fd >= 0 && read(fd, bytes, sizeof bytes) == 7 && memcmp(bytes, "outside", 7) == 0);
    (void)close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!top[0]) {
        start();
    }
    make_folders();
    write_sections(data, size < MOST_FILE ? size : MOST_FILE);
    as_error e = AS_ERROR_INIT;
    as_contents c = AS_CONTENTS_INIT;
    as_progress silent = {.out = NULL};
    int code = as_contents_read(&c, folder, NULL, NULL, NULL, &e);
    fuzz_end(code, &e);
    as_verdict verdict = AS_VERDICT_INIT;
    as_world alone = {.size = 1};
    const as_verify_options all = {.deep = true, .engine = "posix"};
    int judged = as_verify(&verdict, &alone, folder, &all, &silent, &e);
    MUST(judged != AS_OK || verdict.findings.count >= verdict.findings.faults);
    /* What cannot be read is never called good. */
    MUST(code == AS_OK || judged != AS_OK || verdict.findings.faults > 0);
    as_verdict_free(&verdict);
    fuzz_end(judged, &e);
    if (code == AS_OK && c.tensors.bytes <= 16 * MOST_DATA) {
        load(&c);
    }
    as_contents_free(&c);
    code = as_recover(folder, false, LEASE_MS, NULL, NULL, &e);
    fuzz_end(code, &e);
    check_outside();
    remove_folder();
    return 0;
}
