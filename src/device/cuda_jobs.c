/* SPDX-License-Identifier: Apache-2.0
 * The ring of a channel's jobs.
 */
#include "device/cuda_channel.h"

static as_job *oldest(const as_channel *c)
{
    return &c->jobs[c->first];
}

static void give_buffers_back(as_channel *c, as_job *job)
{
    if (job->bounce) {
        c->spare[c->spare_count++] = job->bounce;
    }
    if (job->staging) {
        c->spare_staging[c->spare_staging_count++] = job->staging;
    }
    job->bounce = NULL;
    job->staging = 0;
}

/* The oldest job has ended. */
static void end_oldest(as_channel *c, int code)
{
    as_job *job = oldest(c);
    if (code == AS_OK) {
        c->moved += job->bytes;
    } else if (job->copies->code == AS_OK) {
        job->copies->code = code;
    }
    job->copies->under_way--;
    c->changing = c->changing && !job->changes;
    give_buffers_back(c, job);
    c->first = (c->first + 1) % AS_JOBS;
    c->under_way--;
}

/* The event of the oldest job has come: the host's part. */
static void finish_oldest(as_channel *c, as_error *e)
{
    as_job *job = oldest(c);
    int code = AS_OK;
    if (job->finish) {
        as_error own = AS_ERROR_INIT;
        code = job->finish(c, job, &own);
        as_cu_result r = AS_CU_SUCCESS;
        if (code == AS_OK && job->again) {
            r = c->cuda->event_record(job->event, c->stream);
        }
        if (r) {
            code = as_cuda_fail(&own, c->cuda, "cuEventRecord", r, "the stream of %s", c->name);
        }
        if (code == AS_OK && job->again) {
            job->again = false;
            c->changing = c->changing && !job->changes;
            job->changes = false; /* another one may be changing when this one ends */
            return;
        }
        if (code != AS_OK) {
            as_channel_wait(c);
            (void)as_error_pass(e, &own);
        }
    }
    end_oldest(c, code);
}

/* With the context current. */
static void advance(as_channel *c, bool *moved, as_error *e)
{
    while (c->under_way > 0) {
        as_cu_result r = c->cuda->event_query(oldest(c)->event);
        if (r == AS_CU_NOT_READY) {
            return;
        }
        if (r) {
            as_channel_wait(c);
            end_oldest(c, as_cuda_fail(e, c->cuda, "cuEventQuery", r, "copies of %s", c->name));
        } else {
            finish_oldest(c, e);
        }
        *moved = true;
    }
}

/* The context cannot be made the current one: no job can be seen to. */
static void end_all(as_channel *c, int code)
{
    as_channel_wait(c);
    while (c->under_way > 0) {
        end_oldest(c, code);
    }
}

void as_channel_step(as_channel *c, bool wait, bool *moved, as_error *e)
{
    *moved = *moved || c->ended;
    c->ended = false;
    if (c->under_way == 0) {
        return;
    }
    as_error own = AS_ERROR_INIT;
    int code = as_channel_push(c, &own);
    if (code != AS_OK) {
        *moved = true;
        bool again = as_channel_push(c, NULL) == AS_OK;
        end_all(c, code);
        if (again) {
            (void)as_channel_pop(c, NULL);
        }
    } else {
        int before = c->under_way;
        int idle = 0;
        advance(c, moved, &own);
        while (wait && c->under_way == before) {
            (void)as_channel_pause(c, &idle, NULL);
            advance(c, moved, &own);
        }
        (void)as_channel_pop(c, &own);
    }
    (void)as_error_pass(e, &own);
}

/* What as_channel_take asks for, with the context current. */
static int provide(as_channel *c, as_job *job, bool bounce, bool staging, as_error *e)
{
    if (!job->event) {
        as_cu_result r = c->cuda->event_create(&job->event, AS_CU_EVENT_DISABLE_TIMING);
        if (r) {
            job->event = NULL;
            return as_cuda_fail(e, c->cuda, "cuEventCreate", r, "on %s", c->name);
        }
    }
    if (bounce && !c->bounces) {
        as_channel_make_bounces(c);
    }
    if (bounce && !c->bounces) {
        return as_fail_nomem(e);
    }
    job->bounce = bounce ? c->spare[--c->spare_count] : NULL;
    job->staging = staging ? c->spare_staging[--c->spare_staging_count] : 0;
    return AS_OK;
}

/* Has an older one to end first? */
static bool lacks_place(const as_channel *c, bool bounce, bool staging)
{
    return c->under_way > 0 && (c->under_way == AS_JOBS || c->changing ||
                                (bounce && c->bounces && c->spare_count == 0) ||
                                (staging && c->spare_staging_count == 0));
}

int as_channel_take(as_channel *c, bool bounce, bool staging, as_job **out, as_error *e)
{
    int code = as_channel_push(c, e);
    if (code != AS_OK) {
        return code;
    }
    as_error older = AS_ERROR_INIT;
    int idle = 0;
    while (older.code == AS_OK && lacks_place(c, bounce, staging)) {
        int before = c->under_way;
        advance(c, &c->ended, &older);
        if (c->under_way == before) {
            (void)as_channel_pause(c, &idle, &older);
        }
    }
    as_job *job = &c->jobs[(c->first + c->under_way) % AS_JOBS];
    *job = (as_job){.event = job->event};
    /* Where an older one failed nothing more is begun: that is the first error. */
    code = as_error_pass(e, &older);
    code = code == AS_OK ? provide(c, job, bounce, staging, e) : code;
    if (code != AS_OK) {
        (void)as_channel_pop(c, NULL);
        return code;
    }
    *out = job;
    return AS_OK;
}

int as_channel_submit(as_channel *c, as_job *job, as_copies *copies, as_error *e)
{
    as_cu_result r = c->cuda->event_record(job->event, c->stream);
    if (r) {
        int code = as_cuda_fail(e, c->cuda, "cuEventRecord", r, "the stream of %s", c->name);
        as_channel_drop(c, job);
        return code;
    }
    job->copies = copies;
    copies->under_way++;
    c->changing = job->changes;
    c->under_way++;
    return as_channel_pop(c, e);
}

void as_channel_drop(as_channel *c, as_job *job)
{
    as_channel_wait(c);
    give_buffers_back(c, job);
    (void)as_channel_pop(c, NULL);
}
