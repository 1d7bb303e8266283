/* SPDX-License-Identifier: Apache-2.0
 * Reading a checkpoint folder through the journal of a save that was killed, or is
 * being committed, without changing anything: what the journal brings in is looked
 * for in staging first, what it only takes out is not there any more.
 */
#ifndef ALLSHARD_COMMIT_VIEW_H
#define ALLSHARD_COMMIT_VIEW_H

#include <stdbool.h>

#include "base/error.h"
#include "commit/names.h"
#include "format/opener.h"

typedef struct as_view as_view;

/* Opens a folder, or a single file: then the view holds that file only, and the manifest that may
 * lie beside it. AS_NOT_FOUND
 * if there is neither; AS_FORMAT if a damaged journal is in the way. */
int as_view_open(as_view **out, const char *path, as_error *e);

/* The same without a look at .allshard/, for one whose journal cannot be read: what lies in place
 * may be of two checkpoints, or half of one. */
int as_view_open_in_place(as_view **out, const char *path, as_error *e);

/* The path as it was given. */
const char *as_view_path(const as_view *v);

/* The name of the only file, or NULL if the view is of a folder. */
const char *as_view_single(const as_view *v);

/* Opens a file for reading; the descriptor is the caller's. `name` may lie in a
 * sub-folder, but not lead out of the folder ("..", absolute) or into .allshard/: AS_INVALID. A
 * link in place of the file is followed, as in the Hub's cache, unless the environment says
 * ALLSHARD_LINKS=off; one in place of a sub-folder never is: AS_INVALID. AS_NOT_FOUND; AS_FORMAT
 * if it is not a regular file; AS_BUSY if saves keep replacing it while it is looked for. */
int as_view_open_file(as_view *v, const char *name, int *fd, as_error *e);

/* All names, sorted, without .allshard; of a single file its own name alone. */
int as_view_list(as_view *v, as_names *out, as_error *e);

/* Is what was opened through this view still one checkpoint? AS_OK, or AS_BUSY if a
 * save replaced one of the files since: close all and look again. */
int as_view_check(as_view *v, as_error *e);

/* What was opened under this name, or was not there, counts no more for as_view_check. */
void as_view_forget(as_view *v, const char *name);

/* Is there a .allshard/ in the folder, and a journal in it? Neither if the view is of what lies in
 * place. */
int as_view_leftovers(as_view *v, bool *meta, bool *journal, as_error *e);

/* The view as the format room wants it; valid as long as the view is open. */
as_opener as_view_opener(as_view *v);

void as_view_close(as_view *v);

#endif
