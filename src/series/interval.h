/* SPDX-License-Identifier: Apache-2.0
 * How far apart saves should be. Seconds throughout, from the begin of a save to the begin of the
 * next.
 */
#ifndef ALLSHARD_SERIES_INTERVAL_H
#define ALLSHARD_SERIES_INTERVAL_H

/* With which the least time is lost to saves and to failures, where a save keeps the ranks from
 * working for `cost` and failures come every `mtbf` in the mean (larger than 0, at random): J. T.
 * Daly, "A higher order estimate of the optimum checkpoint interval for restart dumps", Future
 * Generation Computer Systems 22 (2006) 303-312, equation 37, which gives the work between saves,
 * plus the cost. J. W. Young's sqrt(2 cost mtbf), Communications of the ACM 17 (1974) 530, is its
 * first term. */
double as_interval_failures(double cost, double mtbf);

/* With which a save of that cost takes no more than so many percent (larger than 0) of the time. */
double as_interval_overhead(double cost, double percent);

#endif
