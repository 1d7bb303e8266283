/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/gds_trial.h"

static enum as_gds_way way_of(int turn)
{
    return turn % 2 == 0 ? AS_GDS_BY_HOST : AS_GDS_STRAIGHT;
}

enum as_gds_way as_gds_trial_way(const as_gds_trial *t)
{
    if (t->decided) {
        return t->winner;
    }
    return t->begun == AS_GDS_TURN ? AS_GDS_LATER : way_of(t->turn);
}

void as_gds_trial_begin(as_gds_trial *t, int64_t bytes, int64_t now)
{
    if (t->decided) {
        return;
    }
    if (t->begun++ == 0) {
        t->start = now;
    }
    t->bytes[way_of(t->turn)] += bytes;
}

double as_gds_trial_rate(const as_gds_trial *t, enum as_gds_way way)
{
    return t->time[way] > 0 ? (double)t->bytes[way] / (double)t->time[way] : 0;
}

bool as_gds_trial_end(as_gds_trial *t, int64_t now)
{
    if (t->decided || ++t->ended < AS_GDS_TURN) {
        return false;
    }
    int64_t time = now - t->start;
    t->time[way_of(t->turn)] += time > 0 ? time : 1;
    t->turn++;
    t->begun = 0;
    t->ended = 0;
    if (t->turn < AS_GDS_TURNS) {
        return false;
    }
    /* What is as fast costs the processors less. */
    bool faster = as_gds_trial_rate(t, AS_GDS_STRAIGHT) >= as_gds_trial_rate(t, AS_GDS_BY_HOST);
    t->decided = true;
    t->winner = faster ? AS_GDS_STRAIGHT : AS_GDS_BY_HOST;
    return true;
}
