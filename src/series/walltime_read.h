/* SPDX-License-Identifier: Apache-2.0
 * What the commands of schedulers write about the time that a job has left.
 */
#ifndef ALLSHARD_SERIES_WALLTIME_READ_H
#define ALLSHARD_SERIES_WALLTIME_READ_H

enum as_left {
    AS_LEFT_UNKNOWN, /* the text does not tell */
    AS_LEFT_ENDLESS, /* the job has no limit */
    AS_LEFT_KNOWN
};

/* Each sets *seconds, 0 or more, if it is known. */

/* squeue -h -o %L: "[days-]hours:minutes:seconds", "minutes:seconds", UNLIMITED; of several lines
 * (parts of one job) the least. */
enum as_left as_left_slurm(const char *text, double *seconds);

/* qstat -f of PBS and TORQUE: the least of Walltime.Remaining and of Resource_List.walltime after
 * stime or start_time (local time; `now`: seconds since the epoch). resources_used.walltime, which
 * lags behind, only where there is neither. */
enum as_left as_left_pbs(const char *text, double now, double *seconds);

/* bjobs -noheader -o time_left: "hours:minutes L"; "-": no limit; E and X: estimates, at which no
 * job is ended. Cut to whole minutes, of which the last may be over: it does not count. */
enum as_left as_left_lsf(const char *text, double *seconds);

#endif
