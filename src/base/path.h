/* SPDX-License-Identifier: Apache-2.0
 * Paths as text.
 */
#ifndef ALLSHARD_BASE_PATH_H
#define ALLSHARD_BASE_PATH_H

/* The folder that `path` lies in: what stands before its last slash, "/" for "/x", "." for "x".
 * Heap; NULL without memory. */
char *as_path_folder(const char *path);

#endif
