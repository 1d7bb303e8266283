/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/load_checks.h"

#include <errno.h>
#include <string.h>

#include "base/checked.h"
#include "base/checksum.h"
#include "base/name_map.h"
#include "base/sys.h"
#include "commit/folder.h"
#include "plan/mail.h"
#include "transfer/save.h"

#define ADVICE                                                                                     \
    "run `allshard verify %s`; if another program rewrote the file after allshard saved it, "      \
    "remove " AS_MANIFEST_NAME " or load with checksum none (--no-check)"

/* ---- the manifest ---- */

static int read_bytes(int fd, as_buffer *out, as_error *e)
{
    struct stat status;
    if (as_sys_table.fstat(fd, &status) < 0) {
        return as_fail(e, AS_SYSTEM, errno, AS_MANIFEST_NAME ": cannot be looked at");
    }
    if (status.st_size > AS_MANIFEST_LARGEST) {
        return as_fail(e, AS_FORMAT, 0, AS_MANIFEST_NAME ": it has %lld bytes, far too many",
                       (long long)status.st_size);
    }
    void *bytes = NULL;
    int code = as_buffer_extend(out, (size_t)status.st_size, &bytes, e);
    return code == AS_OK ? as_read_all(fd, bytes, (size_t)status.st_size, 0, AS_MANIFEST_NAME, e)
                         : code;
}

int as_load_checks_read(as_load_checks *c, as_view *v, as_error *e)
{
    int fd = -1;
    as_error why = AS_ERROR_INIT;
    int code = as_view_open_file(v, AS_MANIFEST_NAME, &fd, &why);
    if (code == AS_NOT_FOUND) {
        as_error_clear(&why);
        return AS_OK;
    }
    as_buffer bytes = AS_BUFFER_INIT;
    if (code == AS_OK) {
        code = read_bytes(fd, &bytes, &why);
        (void)as_sys_table.close(fd);
    }
    if (code == AS_OK) {
        code = as_manifest_from_bytes(bytes.data ? bytes.data : "", bytes.size, AS_MANIFEST_NAME,
                                      &c->manifest, &why);
        c->has_manifest = code == AS_OK;
    }
    as_buffer_free(&bytes);
    if (code != AS_FORMAT) {
        return as_error_pass(e, &why);
    }
    code = as_fail(e, AS_CORRUPT, 0,
                   "%s. The files cannot be checked without it: run `allshard verify %s`; to load "
                   "them unchecked, remove " AS_MANIFEST_NAME
                   " or load with checksum none (--no-check)",
                   as_error_text(&why), c->path);
    as_error_clear(&why);
    return code;
}

/* The file of that role; NULL: there is none. */
static const as_manifest_file *find_file(const as_manifest_part *p, const char *name,
                                         enum as_role role)
{
    for (size_t i = 0; i < p->file_count; i++) {
        if (p->files[i].role == role && strcmp(p->files[i].name, name) == 0) {
            return &p->files[i];
        }
    }
    return NULL;
}

/* Are the checksums of the part's blocks those that this library knows? */
static bool has_sums(const as_manifest_part *p)
{
    return strcmp(p->checksum, AS_CHECKSUM_NAME) == 0 &&
           as_check_block_bytes(p->block_size, NULL) == AS_OK;
}

static int fail_size(const as_load_checks *c, const char *name, int64_t found, int64_t expected,
                     as_error *e)
{
    return as_fail(e, AS_CORRUPT, 0,
                   "%s: it has %lld bytes, but " AS_MANIFEST_NAME " says %lld: " ADVICE, name,
                   (long long)found, (long long)expected, c->path);
}

/* ---- the index ---- */

static const as_manifest_part *find_index(const as_load_checks *c, const char *name)
{
    for (size_t i = 0; c->has_manifest && i < c->manifest.part_count; i++) {
        const as_manifest_part *p = &c->manifest.parts[i];
        if (p->index && strcmp(p->index, name) == 0) {
            return p;
        }
    }
    return NULL;
}

int as_load_checks_guard(void *checks, const char *name, as_source *source, as_error *e)
{
    as_load_checks *c = checks;
    const as_manifest_part *p = find_index(c, name);
    const as_manifest_file *f = p ? find_file(p, name, AS_ROLE_INDEX) : NULL;
    if (!f) {
        return AS_OK;
    }
    if ((int64_t)source->size != f->size) {
        return fail_size(c, name, (int64_t)source->size, f->size, e);
    }
    if (f->sums && has_sums(p)) {
        as_checked_source_close(&c->index); /* of an index that was looked at before */
        c->index = (as_checked_source){.plain = *source,
                                       .file = -1,
                                       .sums = f->sums,
                                       .sum_count = f->sum_count,
                                       .block_bytes = p->block_size,
                                       .path = c->path};
        as_checked_source_open(&c->index, source);
    }
    return AS_OK;
}

/* ---- the checkpoint ---- */

/* All files of the checkpoint as the part has them; false if one is not there, *missing. */
static int list_files(as_load_checks *c, const as_manifest_part *p, const as_checkpoint *checkpoint,
                      const char **missing, as_error *e)
{
    int code = AS_OK;
    as_name_map shards = AS_NAME_MAP_INIT;
    c->files.size = 0;
    *missing = NULL;
    for (size_t i = 0; i < p->file_count && code == AS_OK; i++) {
        if (p->files[i].role == AS_ROLE_SHARD) {
            code = as_name_map_add(&shards, p->files[i].name, i, e);
        }
    }
    for (size_t i = 0; i < as_checkpoint_file_count(checkpoint) && code == AS_OK && !*missing;
         i++) {
        const char *name = as_checkpoint_file(checkpoint, i);
        size_t number = 0;
        if (as_name_map_find(&shards, name, &number)) {
            const as_manifest_file *f = &p->files[number];
            code = as_buffer_append(&c->files, &f, sizeof f, e);
        } else {
            *missing = name;
        }
    }
    as_name_map_free(&shards);
    return code;
}

static const as_manifest_file *file_at(const as_load_checks *c, size_t i)
{
    return ((const as_manifest_file *const *)(const void *)c->files.data)[i];
}

/* Takes the sizes of the files that were found, and looks whether all have their checksums. */
static int take_part(as_load_checks *c, const as_manifest_part *p, as_error *e)
{
    int code = AS_OK;
    c->described = true;
    c->summed = has_sums(p);
    c->block_bytes = p->block_size;
    for (size_t i = 0; i < c->files.size / sizeof(void *) && code == AS_OK; i++) {
        const as_manifest_file *f = file_at(c, i);
        c->summed = c->summed && (f->sums || f->size == 0);
        code = as_buffer_append(&c->sizes, &f->size, sizeof f->size, e);
    }
    return code;
}

static int find_part(as_load_checks *c, const as_checkpoint *checkpoint,
                     const as_manifest_part **out, as_error *e)
{
    const char *missing = NULL;
    const as_manifest_part *p =
        checkpoint->index_name ? find_index(c, checkpoint->index_name) : NULL;
    *out = p;
    if (p) {
        int code = list_files(c, p, checkpoint, &missing, e);
        return missing
                   ? as_fail(e, AS_CORRUPT, 0,
                             "%s: it names %s, which " AS_MANIFEST_NAME " does not have: " ADVICE,
                             p->index, missing, c->path)
                   : code;
    }
    for (size_t i = 0; i < c->manifest.part_count; i++) {
        p = &c->manifest.parts[i];
        int code = list_files(c, p, checkpoint, &missing, e);
        if (code != AS_OK || !missing) {
            *out = p;
            return code;
        }
    }
    return AS_OK;
}

int as_load_checks_match(as_load_checks *c, const as_checkpoint *checkpoint, const as_log *log,
                         as_error *e)
{
    const as_manifest_part *p = NULL;
    if (!c->has_manifest) {
        return AS_OK;
    }
    int code = find_part(c, checkpoint, &p, e);
    if (code != AS_OK) {
        return code;
    }
    if (!p) {
        as_log_say(log, AS_LOG_WARNING,
                   "%s: " AS_MANIFEST_NAME " does not describe this checkpoint: its bytes are "
                   "loaded unchecked",
                   c->path);
        return AS_OK;
    }
    code = take_part(c, p, e);
    if (code == AS_OK && !c->summed) {
        as_log_say(log, AS_LOG_INFO,
                   "%s: " AS_MANIFEST_NAME " has no checksums of blocks that could be checked "
                   "(\"%s\", blocks of %lld bytes): only sizes are",
                   c->path, p->checksum, (long long)p->block_size);
    }
    return code;
}

int as_load_checks_share(as_load_checks *c, as_comm *comm, as_error *e)
{
    int64_t head[3] = {c->described, c->summed, c->block_bytes};
    int code = as_comm_agree(comm, e);
    if (code == AS_OK) {
        code = as_comm_bcast(comm, 0, head, sizeof head, e);
    }
    if (code != AS_OK) {
        return code;
    }
    c->described = head[0] != 0;
    c->summed = head[1] != 0;
    c->block_bytes = head[2];
    if (c->described) {
        (void)as_comm_bcast_buffer(comm, 0, &c->sizes, e);
    }
    return as_comm_agree(comm, e);
}

int as_load_checks_size(const as_load_checks *c, int32_t file, const char *name, uint64_t size,
                        as_error *e)
{
    if (!c->described) {
        return AS_OK;
    }
    int64_t expected = ((const int64_t *)(const void *)c->sizes.data)[file];
    return size == (uint64_t)expected ? AS_OK : fail_size(c, name, (int64_t)size, expected, e);
}

/* ---- checksums on their way ---- */

static int answer(const as_load_checks *c, const as_mail *in, as_buffer *out, as_error *e)
{
    int code = AS_OK;
    for (int rank = 0; rank < in->size && code == AS_OK; rank++) {
        const char *at = in->in.data + in->in_at[rank];
        size_t count = (in->in_at[rank + 1] - in->in_at[rank]) / sizeof(as_block_run);
        for (size_t i = 0; i < count && code == AS_OK; i++) {
            as_block_run run;
            memcpy(&run, at + i * sizeof run, sizeof run);
            bool inside = run.file >= 0 && (size_t)run.file < c->files.size / sizeof(void *);
            const as_manifest_file *f = inside ? file_at(c, (size_t)run.file) : NULL;
            if (!f || run.first < 0 || run.count < 0 || run.first > (int64_t)f->sum_count ||
                run.count > (int64_t)f->sum_count - run.first) {
                return as_fail(e, AS_INTERNAL, 0,
                               "rank %d asks for the checksums of blocks that are not there", rank);
            }
            if (run.count) {
                code = as_buffer_append(&out[rank], f->sums + run.first,
                                        (size_t)run.count * sizeof *f->sums, e);
            }
        }
    }
    return code;
}

int as_load_checks_fetch(const as_load_checks *c, as_comm *comm, const as_buffer *runs,
                         as_buffer *sums, as_error *e)
{
    as_mail mail = {0};
    if (e->code == AS_OK && as_mail_init(&mail, as_comm_size(comm), e) == AS_OK && runs->size) {
        (void)as_buffer_append(&mail.out[0], runs->data, runs->size, e);
    }
    int code = as_comm_agree(comm, e);
    if (code == AS_OK) {
        code = as_comm_exchange(comm, &mail, e);
    }
    if (code == AS_OK) {
        if (as_comm_rank(comm) == 0) {
            (void)answer(c, &mail, mail.out, e);
        }
        code = as_comm_exchange(comm, &mail, e);
    }
    if (code == AS_OK) {
        as_buffer_free(sums);
        *sums = mail.in;
        mail.in = AS_BUFFER_INIT;
        size_t count = 0;
        const as_block_run *run = (const as_block_run *)(const void *)runs->data;
        for (size_t i = 0; i < runs->size / sizeof *run; i++) {
            count += (size_t)run[i].count;
        }
        if (sums->size != count * sizeof(uint64_t)) {
            (void)as_fail(e, AS_INTERNAL, 0, "a message with checksums has the wrong size");
        }
        code = as_comm_agree(comm, e);
    }
    as_mail_free(&mail);
    return code;
}

void as_load_checks_free(as_load_checks *c)
{
    if (c->has_manifest) {
        as_manifest_free(&c->manifest);
    }
    as_checked_source_close(&c->index);
    as_buffer_free(&c->files);
    as_buffer_free(&c->sizes);
    *c = (as_load_checks){.path = c->path};
}
