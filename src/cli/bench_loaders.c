/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bench_loaders.h"

#ifdef ALLSHARD_NO_MPI

static int take_part(bool here, allshard_comm *out, as_error *e)
{
    (void)here;
    (void)e;
    *out = ALLSHARD_COMM_SELF;
    return AS_OK;
}

static void leave_part(allshard_comm *ranks)
{
    (void)ranks;
}

#else

/* All ranks call it, in the order that they have in the world; the others get MPI_COMM_NULL. */
static int take_part(bool here, allshard_comm *out, as_error *e)
{
    return MPI_Comm_split(MPI_COMM_WORLD, here ? 0 : MPI_UNDEFINED, 0, out) == MPI_SUCCESS
               ? AS_OK
               : as_fail(e, AS_MPI, 0, "the ranks that load cannot be set apart");
}

static void leave_part(allshard_comm *ranks)
{
    if (*ranks != MPI_COMM_NULL) {
        (void)MPI_Comm_free(ranks);
    }
}

#endif

static int open_world(as_world *w, const allshard_comm *ranks, as_error *e)
{
    int code = as_comm_open(&w->comm, ranks, e);
    if (code == AS_OK) {
        w->rank = as_comm_rank(w->comm);
        w->size = as_comm_size(w->comm);
    }
    return code;
}

int as_bench_loaders_open(as_bench_loaders *l, int count, as_tool *tool, as_spread *all,
                          const allshard_options *options, as_error *e)
{
    as_world *w = &tool->world;
    bool apart = count > 0;
    *l = (as_bench_loaders){.count = apart ? count : w->size, .apart = apart, .with = all};
    l->here = w->rank < l->count;
    if (!apart) {
        l->world = *w;
        return AS_OK;
    }
    l->with = &l->own;
    allshard_comm ranks;
    if (take_part(l->here, &ranks, e) == AS_OK) {
        if (l->here && open_world(&l->world, &ranks, e) == AS_OK) {
            (void)as_spread_start(&l->own, tool, &ranks, options, e);
        }
        leave_part(&ranks);
    }
    return as_world_agree(w, e);
}

void as_bench_loaders_close(as_bench_loaders *l)
{
    as_spread_close(&l->own);
    if (l->apart) {
        as_comm_free(l->world.comm);
    }
    *l = (as_bench_loaders){0};
}
