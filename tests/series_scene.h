/* SPDX-License-Identifier: Apache-2.0
 * A scratch folder, open, for each test of a series' small files. One program, one scene.
 */
#ifndef ALLSHARD_TESTS_SERIES_SCENE_H
#define ALLSHARD_TESTS_SERIES_SCENE_H

#include <stdio.h>

#include "base/sys.h"
#include "checkpoint_folder.h"

static char folder[256];
static int root = -1;
static as_sys real;

static inline int set_up(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "%s", scratch_folder());
    root = open(folder, O_RDONLY | O_DIRECTORY);
    must(root >= 0, folder);
    real = as_sys_table;
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    as_sys_table = real;
    (void)close(root);
    remove_tree(folder);
    return 0;
}

static inline int count_files(void)
{
    int count = 0;
    DIR *stream = opendir(folder);
    must(stream != NULL, folder);
    const struct dirent *entry;
    while ((entry = readdir(stream))) {
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    }
    (void)closedir(stream);
    return count;
}

#endif
