/* SPDX-License-Identifier: Apache-2.0
 * What allshard needs of a set of ranks: exchanges, agreement, and messages that
 * are tested, never waited for. One implementation on MPI (mpi.c), one for a
 * single process without MPI (solo.c).
 *
 * Every collective function here returns the same code on every rank, and after
 * a failure `e` holds the same record on every rank (DESIGN rule 1).
 */
#ifndef ALLSHARD_COMM_COMM_H
#define ALLSHARD_COMM_COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/codes.h"
#include "base/error.h"
#include "plan/mail.h"

typedef struct as_comm as_comm;

/* Both out: the caller frees with as_comm_free. Collective over `mpi_comm`, a pointer to an
 * MPI_Comm (NULL: MPI_COMM_WORLD), which is duplicated. */
int as_comm_open(as_comm **out, const void *mpi_comm, as_error *e);
void as_comm_free(as_comm *c); /* collective; NULL is allowed */

/* In place of as_comm_free when MPI may still use it: after AS_MPI or AS_TIMEOUT. */
void as_comm_give_up(as_comm *c);

int as_comm_rank(const as_comm *c);
int as_comm_size(const as_comm *c);

/* The lowest rank that shares memory with this one. Collective, and waits inside MPI the first
 * time. */
int as_comm_lowest_on_node(as_comm *c, int *lowest, as_error *e);

/* After these codes no more can be agreed on: the communicator is good for as_comm_free only. What
 * a function that returned one of them was given to send or to receive into may still be used by
 * MPI: it must stay where it is for good, except for what the function's own comment says. */
static inline bool as_comm_is_lost(int code)
{
    return code == AS_MPI || code == AS_TIMEOUT;
}

/* A private communicator of the same ranks, on which messages and agreements are tested apart from
 * those on `c`. Nobody is watched on it. Collective: ranks that stall while it is made are found on
 * `c`. */
int as_comm_twin(as_comm **out, as_comm *c, as_error *e);

/* Agreement: if `e` holds an error on any rank, every rank gets the record of the lowest
 * such rank, with its rank and host filled in, and returns its code. Collective. */
int as_comm_agree(as_comm *c, as_error *e);

/* The same in two steps, neither of which blocks: one agreement at a time on a communicator. `e` is
 * only looked at; the error of the beginning itself goes to `trouble`. When *done is set, e holds
 * what was agreed on (its text cut to 2000 bytes), and the code is returned. While it is not set
 * the code is AS_OK, or that of MPI: then nothing more can be had of `c`. Collective. */
int as_comm_agree_begin(as_comm *c, const as_error *e, as_error *trouble);
int as_comm_agree_test(as_comm *c, bool *done, as_error *e);

/* Every rank gets root's bytes. The buffer form carries the size along. Collective. */
int as_comm_bcast(as_comm *c, int root, void *bytes, size_t count, as_error *e);
int as_comm_bcast_buffer(as_comm *c, int root, as_buffer *b, as_error *e);

/* Element-wise over ranks; every rank gets the result. Collective. */
int as_comm_sum(as_comm *c, int64_t *values, int count, as_error *e);
int as_comm_max(as_comm *c, int64_t *values, int count, as_error *e);

/* Sends m->out, receives m->in. A rank that enters with an error in `e` poisons the
 * exchange: no rank gets data and all return that error. Collective. */
int as_comm_exchange(as_comm *c, as_mail *m, as_error *e);

/* The same for m->share: every rank gets every rank's. Collective. */
int as_comm_share(as_comm *c, as_mail *m, as_error *e);

/* All of the above leave what they gave MPI where it is, and nothing of the caller's with it but
 * the buffers of a mail, which are empty then. */

/* While this rank waits in one of the above for others to come to it, and in as_comm_await, `call`
 * is called between the looks: what is not to stand still meanwhile goes on, on other communicators.
 * The others may be waiting for just that before they come. NULL: nothing is called. */
void as_comm_meanwhile(as_comm *c, void (*call)(void *user), void *user);

/* ------------------------------------------------- ranks that stall (mpi_watch.h) */

/* From now on a rank that gives no sign of life for so many seconds while others wait for it in a
 * function that was entered makes every function here end with AS_TIMEOUT, on all ranks. Collective,
 * and waits inside MPI. A single process watches nobody. */
int as_comm_watch(as_comm *c, double seconds, as_error *e);
bool as_comm_watches(const as_comm *c);

/* The error of all ranks once one has stalled; else NULL. */
const as_error *as_comm_verdict(const as_comm *c);

/* This rank is in a collective function of the library, whose name lives on; NULL: it leaves it.
 * Between the two calls it has to come to the functions of this header, or to as_comm_look, at
 * least as often as a sign of life is due. */
void as_comm_enter(as_comm *c, const char *function);

/* Until it is called with false, who is missing has not come to the function at all. */
void as_comm_meeting(as_comm *c, bool meeting);

/* Gives signs of life between two steps of this rank's own work. AS_TIMEOUT if there is a verdict,
 * AS_MPI; never blocks. */
int as_comm_look(as_comm *c, as_error *e);

/* A loop of tests begins. */
void as_comm_wait(as_comm *c);

/* In such a loop, where the tests are on a twin of `c`: gives signs of life, and judges those that
 * are waited for. AS_TIMEOUT, AS_MPI; never blocks. */
int as_comm_await(as_comm *c, as_error *e);

/* In such a loop: operations of this rank's storage are under way or not, and so many have ended.
 * If none ends for the limit this rank has stalled. */
void as_comm_storage(as_comm *c, bool under_way, int64_t ended);

/* Leaves memory (heap; NULL is allowed) to messages that nobody waits for any more. */
void as_comm_leave(as_comm *c, void *memory);

/* What a verdict of the main process is to add about the disk; lives on. NULL: nothing. */
void as_comm_outcome(as_comm *c, const char *outcome);

/* ------------------------------------------- messages inside a transfer */

/* Big enough for any MPI library's request handle. */
typedef struct as_message {
    void *handle[2];
    bool active;
} as_message;

/* Buffers stay in place until the message is done. Messages are ≤ 1 GiB. A send completes only once it has been matched (as MPI_Issend). */
int as_comm_send(as_comm *c, int to, int tag, const void *bytes, size_t count, as_message *m,
                 as_error *e);
int as_comm_receive(as_comm *c, int from, int tag, void *bytes, size_t count, as_message *m,
                    as_error *e);

/* Never blocks. *done is true for a message that is not active. */
int as_comm_test(as_comm *c, as_message *m, bool *done, as_error *e);

/* Is a message with that tag there? Then its sender and size. Never blocks. */
int as_comm_probe(as_comm *c, int tag, bool *there, int *from, size_t *count, as_error *e);

/* A barrier that is entered now and tested later. */
int as_comm_barrier_begin(as_comm *c, as_message *m, as_error *e);

/* A pause between tests: the core is left to others at first, then short sleeps that grow with what
 * was waited, to about a millisecond. *idle counts the fruitless tests; set it to 0 when something
 * moved. */
void as_comm_pause(int *idle);

/* The same inside a transfer, where a test is a walk over all that is under way: few tests at
 * once, since a rank that looks for news takes the core from one that makes it, and sleeps up to
 * `longest` nanoseconds; up to a millisecond if nothing comes for a while. */
void as_comm_rest(int *idle, int64_t longest);

#endif
