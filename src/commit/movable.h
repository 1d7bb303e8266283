/* SPDX-License-Identifier: Apache-2.0
 * May a folder be renamed out of the one that it lies in? To be asked before a journal is written
 * that has it go: after that, a move that cannot be made holds up every save.
 */
#ifndef ALLSHARD_COMMIT_MOVABLE_H
#define ALLSHARD_COMMIT_MOVABLE_H

/* The folder `name` of the open folder `root`. NULL: yes, as far as one can tell, or it is gone. Else
 * why not, for the end of a sentence such as "it cannot be replaced: ..."; lives on. */
const char *as_immovable(int root, const char *name);

#endif
