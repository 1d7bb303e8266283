/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/world.h"

#include <stdlib.h>

#include <allshard.h>

/* How launchers tell a process who it is: Open MPI, PMI (MPICH, Intel, Cray), MVAPICH, Flux and
 * Slurm's own; then those that tell the rank only. A pair counts only if both are there: inside a
 * batch script SLURM_PROCID is set without srun, SLURM_STEP_NUM_TASKS is not. */
static const struct {
    const char *size; /* NULL: it is not told */
    const char *rank;
} launchers[] = {
    {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"},
    {"PMI_SIZE", "PMI_RANK"},
    {"MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"},
    {"FLUX_JOB_SIZE", "FLUX_TASK_RANK"},
    {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID"},
    {NULL, "PMIX_RANK"},
    {NULL, "PALS_RANKID"},
};

static int read_environment(const char *name)
{
    const char *text = getenv(name);
    if (!text || *text == '\0') {
        return -1;
    }
    char *end = NULL;
    long value = strtol(text, &end, 10);
    return *end == '\0' && value >= 0 && value <= INT32_MAX ? (int)value : -1;
}

/* False, and 0 of 1, if there is no launcher. */
static bool ask_launcher(int *rank, int *size)
{
    *rank = 0;
    *size = 1;
    for (size_t i = 0; i < sizeof launchers / sizeof launchers[0]; i++) {
        const char *name = launchers[i].size;
        int s = name ? read_environment(name) : 0;
        int r = read_environment(launchers[i].rank);
        if (r >= 0 && (name ? r < s : true)) {
            *rank = r;
            *size = s;
            return true;
        }
    }
    return false;
}

bool as_world_launched(void)
{
    int rank = 0;
    int size = 1;
    return ask_launcher(&rank, &size);
}

int as_world_launched_rank(void)
{
    int rank = 0;
    int size = 1;
    (void)ask_launcher(&rank, &size);
    return rank;
}

int as_world_launched_size(void)
{
    int rank = 0;
    int size = 1;
    (void)ask_launcher(&rank, &size);
    return size;
}

static bool lost;

#ifdef ALLSHARD_NO_MPI

void as_world_abort(int status)
{
    (void)status;
}

static int start_mpi(as_world *w, as_error *e)
{
    (void)w;
    (void)e;
    return AS_OK;
}

static void stop_mpi(as_world *w)
{
    (void)w;
}

#else

void as_world_abort(int status)
{
    (void)MPI_Abort(MPI_COMM_WORLD, status);
}

static int start_mpi(as_world *w, as_error *e)
{
    int there = 0;
    (void)MPI_Initialized(&there);
    if (there) {
        return AS_OK;
    }
    if (as_world_launched_size() == 1) {
        /* A single process of Open MPI 4 starts a daemon, which may outlive it and keeps its
         * stdout open. Nothing here needs that daemon; other MPI libraries do not look. */
        (void)setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
    }
    int provided = 0;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) {
        return as_fail(e, AS_MPI, 0, "MPI could not be started");
    }
    w->started = true;
    return AS_OK;
}

static void stop_mpi(as_world *w)
{
    if (w->started) {
        (void)MPI_Finalize();
    }
}

#endif

int as_world_start(as_world *w, bool mpi, as_error *e)
{
    *w = (as_world){.rank = 0, .size = 1};
    int launched = as_world_launched_size();
    if (!mpi && launched == 1) {
        return AS_OK;
    }
    int code = start_mpi(w, e);
    if (code == AS_OK) {
        code = as_comm_open(&w->comm, NULL, e);
    }
    if (code != AS_OK) {
        return code;
    }
    w->rank = as_comm_rank(w->comm);
    w->size = as_comm_size(w->comm);
    if (w->size == 1 && launched > 1) {
        w->rank = as_world_launched_rank();
        return as_fail(
            e, AS_MPI, 0,
            "%d processes were started, but each of them is alone: the launcher and this "
            "build's MPI do not fit (try `srun --mpi=pmix`, or the mpirun that came with "
            "the MPI that allshard was built with)",
            launched);
    }
    return AS_OK;
}

void as_world_lose(void)
{
    lost = true;
}

bool as_world_is_lost(void)
{
    return lost;
}

void as_world_stop(as_world *w)
{
    as_comm_free(w->comm);
    w->comm = NULL;
    stop_mpi(w);
}

/* Is there somebody to ask? */
static bool has_others(const as_world *w)
{
    return w->comm && !lost;
}

int as_world_agree(as_world *w, as_error *e)
{
    return has_others(w) ? as_comm_agree(w->comm, e) : e->code;
}

int as_world_bcast(as_world *w, int root, as_buffer *b, as_error *e)
{
    return has_others(w) ? as_comm_bcast_buffer(w->comm, root, b, e) : e->code;
}

int as_world_sum(as_world *w, int64_t *values, int count, as_error *e)
{
    return has_others(w) ? as_comm_sum(w->comm, values, count, e) : e->code;
}

int as_world_max(as_world *w, int64_t *values, int count, as_error *e)
{
    return has_others(w) ? as_comm_max(w->comm, values, count, e) : e->code;
}
