/* SPDX-License-Identifier: Apache-2.0
 * What a program has open: descriptors, threads, shared mappings, and, by standing before MPI's
 * functions, communicators and requests. To be included by one file of a program: the
 * library's calls of those functions come here.
 */
#ifndef ALLSHARD_TESTS_MPI_COUNTS_H
#define ALLSHARD_TESTS_MPI_COUNTS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "allshard.h"
#include "checkpoint_folder.h"

/* ---- MPI's ---- */

enum { MOST_REQUESTS = 4096 };

static struct {
    int communicators;
    int types;
    int requests; /* started and neither tested nor waited to their end */
    MPI_Request known[MOST_REQUESTS];
} mpi_open;

int MPI_Comm_dup(MPI_Comm comm, MPI_Comm *out)
{
    int result = PMPI_Comm_dup(comm, out);
    mpi_open.communicators += result == MPI_SUCCESS;
    return result;
}

static int request_started(int result, const MPI_Request *request);

int MPI_Comm_idup(MPI_Comm comm, MPI_Comm *out, MPI_Request *request)
{
    int result = request_started(PMPI_Comm_idup(comm, out, request), request);
    mpi_open.communicators += result == MPI_SUCCESS;
    return result;
}

int MPI_Comm_split_type(MPI_Comm comm, int type, int key, MPI_Info info, MPI_Comm *out)
{
    int result = PMPI_Comm_split_type(comm, type, key, info, out);
    mpi_open.communicators += result == MPI_SUCCESS && *out != MPI_COMM_NULL;
    return result;
}

int MPI_Comm_free(MPI_Comm *comm)
{
    mpi_open.communicators--;
    return PMPI_Comm_free(comm);
}

int MPI_Type_commit(MPI_Datatype *type)
{
    mpi_open.types++;
    return PMPI_Type_commit(type);
}

int MPI_Type_free(MPI_Datatype *type)
{
    mpi_open.types--;
    return PMPI_Type_free(type);
}

static int request_started(int result, const MPI_Request *request)
{
    if (result == MPI_SUCCESS) {
        if (mpi_open.requests == MOST_REQUESTS) {
            abort();
        }
        mpi_open.known[mpi_open.requests++] = *request;
    }
    return result;
}

/* Of requests that were not counted when they were started nothing is known. */
static void request_ended(MPI_Request request)
{
    for (int i = 0; i < mpi_open.requests; i++) {
        if (mpi_open.known[i] == request) {
            mpi_open.known[i] = mpi_open.known[--mpi_open.requests];
            return;
        }
    }
}

int MPI_Isend(const void *bytes, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
              MPI_Request *request)
{
    return request_started(PMPI_Isend(bytes, count, type, to, tag, comm, request), request);
}

int MPI_Issend(const void *bytes, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
               MPI_Request *request)
{
    return request_started(PMPI_Issend(bytes, count, type, to, tag, comm, request), request);
}

int MPI_Irecv(void *bytes, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm,
              MPI_Request *request)
{
    return request_started(PMPI_Irecv(bytes, count, type, from, tag, comm, request), request);
}

int MPI_Ibarrier(MPI_Comm comm, MPI_Request *request)
{
    return request_started(PMPI_Ibarrier(comm, request), request);
}

int MPI_Iallreduce(const void *in, void *out, int count, MPI_Datatype type, MPI_Op op,
                   MPI_Comm comm, MPI_Request *request)
{
    return request_started(PMPI_Iallreduce(in, out, count, type, op, comm, request), request);
}

int MPI_Ibcast(void *bytes, int count, MPI_Datatype type, int root, MPI_Comm comm,
               MPI_Request *request)
{
    return request_started(PMPI_Ibcast(bytes, count, type, root, comm, request), request);
}

int MPI_Wait(MPI_Request *request, MPI_Status *status)
{
    MPI_Request before = *request;
    int result = PMPI_Wait(request, status);
    if (result == MPI_SUCCESS && before != MPI_REQUEST_NULL) {
        request_ended(before);
    }
    return result;
}

int MPI_Test(MPI_Request *request, int *done, MPI_Status *status)
{
    MPI_Request before = *request;
    int result = PMPI_Test(request, done, status);
    if (result == MPI_SUCCESS && *done && before != MPI_REQUEST_NULL) {
        request_ended(before);
    }
    return result;
}

int MPI_Testall(int count, MPI_Request requests[], int *done, MPI_Status statuses[])
{
    MPI_Request *before = malloc(((size_t)count + 1) * sizeof(MPI_Request));
    must(before != NULL, "malloc");
    memcpy(before, requests, (size_t)count * sizeof(MPI_Request));
    int result = PMPI_Testall(count, requests, done, statuses);
    for (int i = 0; result == MPI_SUCCESS && *done && i < count; i++) {
        if (before[i] != MPI_REQUEST_NULL) {
            request_ended(before[i]);
        }
    }
    free(before);
    return result;
}

/* ---- the process's ---- */

/* Without those that the kernel keeps a while for io_uring, and those that end while we look. */
static inline bool is_own_thread(const char *number)
{
    char path[300];
    char name[32] = "";
    (void)snprintf(path, sizeof path, "/proc/self/task/%s/comm", number);
    FILE *f = fopen(path, "re");
    bool there = f && fgets(name, sizeof name, f);
    if (f) {
        (void)fclose(f);
    }
    return there && strncmp(name, "iou-", 4) != 0;
}

static inline int count_threads(void)
{
    int count = 0;
    const struct dirent *entry;
    DIR *stream = opendir("/proc/self/task");
    must(stream != NULL, "/proc/self/task");
    while ((entry = readdir(stream))) {
        count += entry->d_name[0] != '.' && is_own_thread(entry->d_name);
    }
    (void)closedir(stream);
    return count;
}

/* Mappings of the library's arenas, own and of other ranks. */
static inline int count_arenas(void)
{
    int count = 0;
    char line[1024];
    FILE *f = fopen("/proc/self/maps", "re");
    must(f != NULL, "/proc/self/maps");
    while (fgets(line, sizeof line, f)) {
        count += strstr(line, "/memfd:allshard") != NULL;
    }
    (void)fclose(f);
    return count;
}

typedef struct open_things {
    int descriptors, threads, arenas, communicators, types, requests;
} open_things;

static inline open_things count_open(void)
{
    return (open_things){.descriptors = count_descriptors(),
                         .threads = count_threads(),
                         .arenas = count_arenas(),
                         .communicators = mpi_open.communicators,
                         .types = mpi_open.types,
                         .requests = mpi_open.requests};
}

static inline bool is_no_more(const open_things *now, const open_things *before)
{
    return now->descriptors <= before->descriptors && now->threads <= before->threads &&
           now->arenas <= before->arenas && now->communicators <= before->communicators &&
           now->types <= before->types && now->requests <= before->requests;
}

/* What there is more of than before; NULL: nothing. Static. Looks for a while: a thread that was
 * joined is still listed for a moment, and one of the kernel's has our name at first. */
static inline const char *what_leaked(const open_things *before)
{
    static char text[200];
    enum { LOOKS = 5000, PAUSE_NS = 1000000 };
    open_things now = count_open();
    for (int i = 0; i < LOOKS && !is_no_more(&now, before); i++) {
        (void)nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
        now = count_open();
    }
    bool same = is_no_more(&now, before);
    (void)snprintf(text, sizeof text,
                   "%d descriptors (before: %d), %d threads (%d), %d arenas (%d), %d communicators "
                   "(%d), %d types (%d), %d requests (%d)",
                   now.descriptors, before->descriptors, now.threads, before->threads, now.arenas,
                   before->arenas, now.communicators, before->communicators, now.types,
                   before->types, now.requests, before->requests);
    return same ? NULL : text;
}

#endif
