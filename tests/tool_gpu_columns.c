/* SPDX-License-Identifier: Apache-2.0
 * How fast pieces leave device memory that are column slices of 1 KiB rows, beside pieces that are
 * dense: usage: tool_gpu_columns FOLDER [MIB [REPEAT]]. One process holds all slices of a tensor of
 * bf16, saves it with a nonblocking save, and takes the time until the weights may change. Both ways
 * by turns; prints the medians of the rates and of their ratio. On a simulated device the figures
 * mean nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint_folder.h"
#include "device/cuda_library.h"
#include "support_ranks.h"

enum { ROW = 1024, SLICES = 8, ELEMENT = 2, MOST_REPEAT = 99 };

static const as_cuda *cuda;

#define GOOD_CU(call) CHECK_TEXT((call) == AS_CU_SUCCESS, "%s failed", #call)

/* The slices of a tensor of `rows` rows: all of them rows, or columns. */
static void declare(allshard_state *s, const char *name, void *memory, int64_t rows, bool columns)
{
    int64_t shape[] = {rows, (int64_t)SLICES * ROW / ELEMENT};
    int64_t part[] = {rows / SLICES, shape[1]};
    if (columns) {
        part[0] = rows;
        part[1] = ROW / ELEMENT;
    }
    for (int64_t i = 0; i < SLICES; i++) {
        int64_t offset[] = {columns ? 0 : i * part[0], columns ? i * part[1] : 0};
        allshard_tensor t = {.size = sizeof t,
                             .name = name,
                             .dtype = ALLSHARD_BF16,
                             .ndim = 2,
                             .shape = shape,
                             .offset = offset,
                             .local_shape = part,
                             .data = (char *)memory + i * part[0] * part[1] * ELEMENT};
        CHECK(allshard_state_tensor(s, &t) == ALLSHARD_OK);
    }
}

static double staged_in(allshard *as, allshard_state *s, const char *folder)
{
    allshard_save_options o = {.size = sizeof o, .staging = ALLSHARD_STAGE_SNAPSHOT};
    allshard_request *request = NULL;
    double begin = seconds_now();
    int code = allshard_isave(s, folder, &o, &request);
    double staged = seconds_now() - begin;
    code = code == ALLSHARD_OK ? allshard_wait(&request, NULL) : code;
    allshard_error e = {.size = sizeof e};
    (void)allshard_last_error(as, &e);
    CHECK_TEXT(code == ALLSHARD_OK, "%s: %s", allshard_error_name(code), e.text);
    return staged;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, 600);
    long mib = argc > 2 ? strtol(argv[2], NULL, 10) : 2048;
    long repeat = argc > 3 ? strtol(argv[3], NULL, 10) : 7;
    CHECK_TEXT(argc >= 2 && mib > 0 && mib <= 65536 && repeat > 0 && repeat <= MOST_REPEAT,
               "usage: %s FOLDER [MIB [REPEAT]]", argv[0]);
    const char *reason = "";
    cuda = as_cuda_library(AS_CUDA_ON, &reason);
    if (!cuda) {
        (void)printf("skipped: %s\n", reason);
        (void)ranks_end();
        return 77;
    }
    as_cu_device device;
    as_cu_context context;
    as_cu_pointer memory = 0;
    size_t bytes = (size_t)mib << 20;
    char name[128] = "";
    GOOD_CU(cuda->device_get(&device, 0));
    GOOD_CU(cuda->device_name(name, sizeof name, device));
    GOOD_CU(cuda->primary_retain(&context, device));
    GOOD_CU(cuda->context_push(context));
    GOOD_CU(cuda->memory_alloc(&memory, bytes));
    allshard *as = NULL;
    allshard_options options = {.size = sizeof options, .snapshot_memory = (int64_t)bytes * 5 / 4};
    CHECK(allshard_open(&as, ALLSHARD_COMM_SELF, &options) == ALLSHARD_OK);
    allshard_state *states[2];
    for (int columns = 0; columns < 2; columns++) {
        CHECK(allshard_state_create(&states[columns], as, "model") == ALLSHARD_OK);
        declare(states[columns], "weight", (void *)(uintptr_t)memory,
                (int64_t)bytes / (SLICES * ROW), columns);
        (void)staged_in(as, states[columns], argv[1]); /* plan, memory and pins are new to it */
    }
    double rates[2][MOST_REPEAT] = {{0}};
    double ratios[MOST_REPEAT] = {0};
    for (int i = 0; i < (int)repeat; i++) {
        for (int columns = 0; columns < 2; columns++) {
            rates[columns][i] = (double)bytes / 1e9 / staged_in(as, states[columns], argv[1]);
        }
        ratios[i] = rates[1][i] / rates[0][i];
    }
    double middle = median(ratios, (int)repeat);
    (void)printf("%s: %ld MiB, staged from dense pieces at %.2f GB/s, from column slices of 1 KiB "
                 "rows at %.2f GB/s; ratio %.2f (%.2f to %.2f)\n",
                 name, mib, median(rates[0], (int)repeat), median(rates[1], (int)repeat), middle,
                 ratios[0], ratios[repeat - 1]);
    for (int columns = 0; columns < 2; columns++) {
        (void)allshard_state_free(states[columns]);
    }
    CHECK(allshard_close(as) == ALLSHARD_OK);
    GOOD_CU(cuda->memory_free(memory));
    GOOD_CU(cuda->context_pop(&context));
    GOOD_CU(cuda->primary_release(device));
    return ranks_end();
}
