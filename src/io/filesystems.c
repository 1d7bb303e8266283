/* SPDX-License-Identifier: Apache-2.0
 * Magic numbers are those of linux/magic.h; of Lustre, GPFS, BeeGFS and ZFS, which are not in the
 * kernel, those that their statfs gives.
 */
#include "io/filesystems.h"

#include <stddef.h>

/* Magic number, name, in memory?, O_DIRECT?, least offset that is worth it, why. */
static const as_file_system table[] = {
    /* ---- disks of this machine ---- */
    {0xEF53, "ext4", false, true, 0, "O_DIRECT saves the copy and the write-back"},
    {0x58465342, "xfs", false, true, 0,
     "O_DIRECT saves the copy and the write-back, and writers of one file do not wait for each "
     "other"},
    {0xF2F52010, "f2fs", false, true, 0, "O_DIRECT saves the copy and the write-back"},
    /* Data with checksums must not change while it is written: newer kernels copy it into the page
     * cache all the same, and a call with O_DIRECT then waits for both; older ones may write a
     * checksum that does not fit. */
    {0x9123683E, "btrfs", false, false, 0, "checksums of data want the page cache"},
    /* Takes O_DIRECT before 2.3 and does nothing with it; after, it must match the record size,
     * which nobody tells us. */
    {0x2FC12FC1, "zfs", false, false, 0, "its own cache takes the data in any case"},
    /* What lies below decides, and shows it in the trial: overlay hands calls on. */
    {0x794C7630, "overlay", false, true, 0, "what it lies upon is tried"},

    /* ---- memory ---- */
    /* Newer kernels accept O_DIRECT on tmpfs, and copy as before. */
    {0x01021994, "tmpfs", true, false, 0, "it is the page cache"},
    {0x858458F6, "ramfs", true, false, 0, "it is the page cache"},

    /* ---- parallel file systems ---- */
    /* Below a stripe's worth the round trip of each call costs more than the copy; servers lock by
     * pages, and clients up to 2.15 refuse what is not aligned to pages. */
    {0x0BD00BD0, "lustre", false, true, 4 << 20, "O_DIRECT from 4 MiB on"},
    /* The page pool writes behind in blocks of the file system over many servers at once; a call
     * with O_DIRECT is one transfer that waits. */
    {0x47504653, "gpfs", false, false, 0, "its page pool writes behind over many servers"},
    {0x19830326, "beegfs", false, false, 0, "its client writes behind over many servers"},
    {0x00C36400, "ceph", false, false, 0, "O_DIRECT waits for every object's replicas"},

    /* ---- networks ---- */
    /* With O_DIRECT each call waits for its round trips; the cache keeps many under way and
     * commits at the fsync. */
    {0x6969, "nfs", false, false, 0, "the cache keeps many requests under way"},
    {0xFF534D42, "cifs", false, false, 0, "the cache keeps many requests under way"},
    {0xFE534D42, "smb2", false, false, 0, "the cache keeps many requests under way"},
    {0x01021997, "9p", false, false, 0, "whether O_DIRECT reaches the disk is the host's affair"},
    /* Its program takes O_DIRECT as it likes: a trial shows that one call was accepted, and neither
     * that others are nor that anything is gained. virtiofs counts as FUSE as well. */
    {0x65735546, "fuse", false, false, 0, "a trial says little about a program's file system"},
};

static const as_file_system unknown = {0, "unknown", false, true, 0, "the trial decides"};

const as_file_system *as_file_system_by_magic(uint64_t magic)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (table[i].magic == magic) {
            return &table[i];
        }
    }
    return &unknown;
}
