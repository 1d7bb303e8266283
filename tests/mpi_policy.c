/* SPDX-License-Identifier: Apache-2.0
 * The verdict of a series' policy is the same on all ranks, whatever differs between them: clocks,
 * signals, options, steps. (ALLSHARD_NO_MPI: also as one process.)
 */
/* ranks: 1 2 3 5 */
/* timeout: 120 */
#include <math.h>

#include "policy_scene.h"

/* ------------------------------------------------------------------------------------ clocks */

static void check_clocks(void)
{
    ranks_scene("clocks");
    as_policy_options o = quick();
    o.every_s = 3600;
    open_with(&o);
    int64_t step = 0;
    for (int i = 0; i < 5; i++) {
        hours = world_rank() == 0 ? hours : (double)(i * 1000 * world_rank());
        CHECK(!poll(++step).save); /* for others hours have passed */
    }
    hours = world_rank() == 0 ? 1.01 : 0;
    as_verdict v = poll(++step);
    CHECK(v.save && v.reasons == AS_REASON_SECONDS && !v.stop);
    save(step, 1, 1);
    CHECK(!poll(++step).save);
    close_it();

    o = quick();
    o.mtbf_s = 10000;
    o.overhead_percent = 0.5;
    open_with(&o);
    as_policy_loaded(policy, 10, world_rank() == 0 ? 100 : 1e-3 * world_rank());
    v = poll(11);
    CHECK(!v.save && v.interval_s == 20000); /* 100 s are half a percent of it */
    hours = world_rank() == 0 ? 6 : 0;
    v = poll(12);
    CHECK(v.save && v.reasons == AS_REASON_OVERHEAD);
    close_it();
}

/* ----------------------------------------------------------------------------------- signals */

static void check_signals(void)
{
    static const int save_list[] = {SIGUSR1};
    for (int rank = 0; rank < world_size(); rank++) {
        ranks_scene("signals to rank %d", rank);
        as_policy_options o = quick();
        o.signals = true;
        o.save_list = save_list;
        o.save_count = 1;
        struct sigaction before; /* MPICH has a handler of its own */
        CHECK(sigaction(SIGUSR1, NULL, &before) == 0);
        open_with(&o);
        CHECK(!poll(1).save);
        if (world_rank() == rank) {
            send(SIGUSR1);
        }
        as_verdict v = poll(2);
        CHECK(v.save && !v.stop && v.signal == SIGUSR1 && v.reasons == AS_REASON_SIGNAL);
        CHECK(poll(3).save); /* until it is done */
        save(3, 1, 1);
        v = poll(4);
        CHECK(!v.save && v.signal == 0);
        /* Another rank gets another signal at the same time. */
        if (world_rank() == rank) {
            send(SIGTERM);
        } else if (world_rank() == (rank + 1) % world_size()) {
            send(SIGUSR1);
        }
        v = poll(5);
        CHECK(v.save && v.stop && v.requeue && v.signal == SIGTERM);
        save(5, 1, 1);
        if (world_rank() == world_size() - 1) {
            send(SIGUSR2);
        }
        v = poll(6);
        CHECK(!v.save && v.stop && v.requeue && v.signal == SIGTERM);
        close_it();
        struct sigaction now;
        CHECK(sigaction(SIGTERM, NULL, &now) == 0 && now.sa_handler == SIG_DFL);
        CHECK(sigaction(SIGUSR1, NULL, &now) == 0 && now.sa_handler == before.sa_handler);
    }
    ranks_scene("no signals");
    as_policy_options o = quick();
    open_with(&o);
    struct sigaction now;
    CHECK(sigaction(SIGTERM, NULL, &now) == 0 && now.sa_handler == SIG_DFL);
    close_it();
}

/* Two series of a process both hear of it. */
static void check_two(void)
{
    ranks_scene("two series");
    as_error e = AS_ERROR_INIT;
    as_policy_options o = quick();
    o.signals = true;
    as_policy *other;
    open_with(&o);
    CHECK(as_policy_open(&other, comm, root, &o, &warnings_log, &e) == AS_OK);
    if (world_rank() == world_size() - 1) {
        send(SIGUSR2);
    }
    as_verdict v = poll(1);
    CHECK(v.stop && v.signal == SIGUSR2);
    close_it();
    policy = other;
    v = poll(1);
    CHECK(v.stop && v.signal == SIGUSR2);
    close_it();
}

/* ------------------------------------------------------------------------------------ errors */

static void check_refused(void)
{
    ranks_scene("refused");
    int last = world_size() - 1;
    const as_policy_options base = quick();
    for (int i = 0; i < 7; i++) {
        as_policy_options o = base;
        o.signals = true;
        o.walltime = true;
        const int kill_list[] = {SIGKILL};
        const int term[] = {SIGTERM};
        if (world_rank() == last) {
            o.every_steps = i == 0 ? -1 : 0;
            o.overhead_percent = i == 1 ? 101 : 0;
            o.mtbf_s = i == 2 ? -1 : 0;
            o.margin = i == 3 ? NAN : 0;
            o.stop_list = i == 4 ? kill_list : NULL;
            o.stop_count = i == 4 || i == 6;
            o.save_list = i == 5 ? term : NULL;
            o.save_count = i == 5;
        }
        as_error e = AS_ERROR_INIT;
        as_policy *none = (as_policy *)(uintptr_t)1;
        CHECK(as_policy_open(&none, comm, root, &o, NULL, &e) == AS_INVALID && !none);
        CHECK(ranks_agree(world_comm(), as_error_text(&e), strlen(as_error_text(&e))));
        CHECK(e.rank == last);
        as_error_clear(&e);
        struct sigaction now;
        CHECK(sigaction(SIGTERM, NULL, &now) == 0 && now.sa_handler == SIG_DFL);
    }
    as_error e = AS_ERROR_INIT;
    as_policy *none;
    CHECK(as_policy_open(&none, comm, "/no/such/root", &base, NULL, &e) == AS_NOT_FOUND);
    CHECK(strstr(as_error_text(&e), "/no/such/root"));
    as_error_clear(&e);
    as_policy_close(NULL);
}

static void refuse_step(int64_t step, int code, const char *piece)
{
    as_verdict v;
    as_error e = AS_ERROR_INIT;
    int64_t more = world_rank();
    CHECK(as_policy_poll(policy, step, &more, 1, &v, &e) == code);
    CHECK_TEXT(strstr(as_error_text(&e), piece), "%s", as_error_text(&e));
    CHECK(ranks_agree(world_comm(), as_error_text(&e), strlen(as_error_text(&e))));
    CHECK(more == world_size() - 1);
    as_error_clear(&e);
}

static void check_steps(void)
{
    ranks_scene("steps that differ");
    int last = world_size() - 1;
    as_policy_options o = quick();
    o.signals = true;
    open_with(&o);
    refuse_step(world_rank() == last ? -3 : 5, AS_INVALID, "step -1");
    refuse_step(world_rank() == last ? INT64_MIN : INT64_MAX, AS_INVALID, "0 or more");
    if (last > 0) {
        if (world_rank() == last) {
            send(SIGTERM);
        }
        refuse_step(world_rank() == last ? 4 : 5, AS_MISMATCH, "from 4 to 5");
    } else {
        send(SIGTERM);
    }
    CHECK(poll(6).stop); /* the signal is not lost with it */
    close_it();

    ranks_scene("more values");
    open_with(&o);
    int64_t more[AS_POLICY_MORE];
    for (int i = 0; i < AS_POLICY_MORE; i++) {
        more[i] = i % 2 ? world_rank() : -world_rank() - i;
    }
    as_verdict v;
    as_error e = AS_ERROR_INIT;
    CHECK(as_policy_poll(policy, INT64_MAX, more, AS_POLICY_MORE, &v, &e) == AS_OK);
    for (int i = 0; i < AS_POLICY_MORE; i++) {
        CHECK(more[i] == (i % 2 ? last : -i));
    }
    close_it();
}

/* ------------------------------------------------------------------------------------ random */

static uint64_t seed = 3;

/* The same on all ranks. */
static int64_t together(int64_t most)
{
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (int64_t)(seed >> 33) % (most + 1);
}

/* Signals to any ranks at any time, saves that fail and last: verdicts are equal (poll checks it), a
 * stop stays, and what was told after a signal is a save. */
static void check_random(void)
{
    int runs = is_sanitized() ? 10 : 30;
    for (int run = 0; run < runs; run++) {
        ranks_scene("random run %d", run);
        static const int save_list[] = {SIGUSR1};
        as_policy_options o = quick();
        o.signals = true;
        o.save_list = save_list;
        o.save_count = 1;
        o.every_steps = together(7);
        o.every_s = (double)together(3) * 1000;
        o.mtbf_s = (double)together(2) * 5000;
        open_with(&o);
        bool stopped = false;
        int64_t step = together(20);
        for (int i = 0; i < 40; i++) {
            int64_t target = together(6 * world_size());
            int number = together(3) ? SIGUSR1 : SIGTERM;
            if (world_rank() == target) {
                send(number);
            }
            bool hit = target < world_size();
            hours += (double)((world_rank() * 7 + i) % 5) / 10;
            as_verdict v = poll(++step);
            CHECK(v.stop || !(stopped || (hit && number == SIGTERM)));
            CHECK(v.save || !hit || (stopped && number == SIGTERM));
            stopped = v.stop;
            if (v.save && together(4)) {
                as_policy_began(policy, step);
                if (together(4)) {
                    as_policy_saved(policy, step, (double)world_rank(), (double)together(9));
                } else {
                    as_policy_failed(policy, step);
                }
            }
        }
        close_it();
    }
}

int main(int argc, char **argv)
{
    begin_scenes(&argc, &argv);
    check_clocks();
    check_signals();
    check_two();
    check_refused();
    check_steps();
    check_random();
    return end_scenes();
}
