/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/publish_manifest.h"

#include <time.h>

#include "base/version.h"
#include "commit/folder.h"
#include "commit/owner.h"

/* 16 digits each leave half of the largest manifest to everything else. */
enum { MOST_SUMS = AS_MANIFEST_LARGEST / 2 / 16 };

/* The manifest tells of no checksum. */
static void drop_sums(as_manifest_part *part, as_manifest_file *files)
{
    for (size_t i = 0; files && i < part->file_count; i++) {
        files[i].sums = NULL;
        files[i].sum_count = 0;
    }
    part->checksum = AS_CHECKSUM_NONE;
}

/* Checksums of tiny blocks can make a manifest that no reader would take: better none of them than
 * a manifest that the next save has to throw away. */
static void drop_many_sums(const as_publication *p, as_manifest_part *part, as_manifest_file *files)
{
    size_t count = 0;
    for (size_t i = 0; files && i < part->file_count; i++) {
        count += files[i].sum_count;
    }
    if (count <= MOST_SUMS) {
        return;
    }
    as_log_say(&p->log, AS_LOG_WARNING,
               "the manifest is written without the checksums of %zu blocks, which would make it "
               "too large to read: save with larger blocks",
               count);
    drop_sums(part, files);
}

/* The manifest that lies there. What cannot be read counts as none, and is replaced. */
static int read_old(const as_publication *p, as_buffer *old, bool *found, as_error *e)
{
    as_error why = AS_ERROR_INIT;
    int code = as_txn_read(p->txn, AS_MANIFEST_NAME, AS_MANIFEST_LARGEST, old, found, &why);
    if (code == AS_INVALID || code == AS_LIMIT) {
        /* A link as in the Hub's cache, or something else that no save of ours left. */
        as_log_say(&p->log, AS_LOG_WARNING, "the old manifest is replaced: %s",
                   as_error_text(&why));
        as_error_clear(&why);
        *found = false;
    }
    return as_error_pass(e, &why);
}

int as_publish_manifest(const as_publication *p, as_buffer *files, const as_names *gone,
                        as_buffer *text, as_error *e)
{
    const as_plan *plan = &p->prepared->plan;
    as_manifest_file *list = (as_manifest_file *)(void *)files->data;
    char created[64];
    as_utc_text((int64_t)time(NULL), created, sizeof created);
    as_manifest_part part = {
        .part = p->part,
        .pattern = p->prepared->pattern,
        .index = p->index,
        .created = created,
        .world_size = p->ranks,
        .block_size = plan->block_bytes,
        .checksum = p->checksums ? AS_CHECKSUM_NAME : AS_CHECKSUM_NONE,
        .engine = p->engine,
        .engine_reason = p->engine_reason,
        .total_size = plan->total_size,
        .tensor_count = plan->tensor_count,
        .files = list,
        .file_count = files->size / sizeof *list,
        .writers = p->writers,
        .writer_count = (size_t)p->ranks,
    };
    drop_many_sums(p, &part, list);
    if (p->no_checksums) {
        drop_sums(&part, list);
    }
    as_buffer old = AS_BUFFER_INIT;
    bool found = false;
    int code = read_old(p, &old, &found, e);
    if (code == AS_OK) {
        code = as_manifest_to_bytes(&part, as_version(), found ? old.data : NULL, old.size, gone,
                                    &p->log, text, e);
    }
    if (code == AS_OK) {
        code = as_txn_put(p->txn, AS_MANIFEST_NAME, text->data, text->size, e);
    }
    as_buffer_free(&old);
    return code;
}
