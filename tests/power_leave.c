/* SPDX-License-Identifier: Apache-2.0
 * Leaves behind what a killed save leaves, for power_full.py:
 *   power_leave FOLDER before|after         an old checkpoint, and a save that ends dead just
 *                                           before or just after it counts
 *   power_leave FOLDER is-before|is-after   is this what a recovery should give? exit status 0
 */
/* needs: mpi */
#include <unistd.h>

#include "save_scene.h"

static bool leave_after;

static int dying_renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    static bool counts;
    bool is_journal = strcmp(to, "journal") == 0;
    if ((is_journal && !leave_after) || (counts && !is_journal)) {
        _exit(0);
    }
    counts = counts || is_journal;
    return renameat(from_folder, from, to_folder, to);
}

int main(int argc, char **argv)
{
    const scene *s = &scenes[0];
    if (argc != 3) {
        (void)fprintf(stderr, "usage: power_leave FOLDER [is-]before|after\n");
        return 2;
    }
    (void)snprintf(dir, sizeof dir, "%s", argv[1]);
    if (strncmp(argv[2], "is-", 3) == 0) {
        enum found right = strcmp(argv[2], "is-after") == 0 ? NEW : OLD;
        return look_at_folder(s) == right && !has_leftovers() ? 0 : 1;
    }
    leave_after = strcmp(argv[2], "after") == 0;
    must(mkdir(dir, 0777) == 0, dir);
    make_set(dir, &s->old_set);
    as_sys_table.renameat = dying_renameat;
    act_save(s);
    (void)fprintf(stderr, "the save did not die\n");
    return 1;
}
