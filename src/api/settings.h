/* SPDX-License-Identifier: Apache-2.0
 * Options that the environment may set for a program that cannot be changed.
 */
#ifndef ALLSHARD_API_SETTINGS_H
#define ALLSHARD_API_SETTINGS_H

#include <stdbool.h>

#include "allshard.h"
#include "base/error.h"
#include "comm/comm.h"
#include "device/cuda_library.h"

#define AS_TIMEOUT_VARIABLE "ALLSHARD_TIMEOUT"
#define AS_CHECK_VARIABLE "ALLSHARD_CHECK_CALLS"
#define AS_CUDA_VARIABLE "ALLSHARD_CUDA"

typedef struct as_settings {
    double timeout_s; /* 0: none */
    bool check_calls;
    bool cancel_on_close;
    enum as_cuda_wish cuda;
} as_settings;

/* This rank's, the environment before the options. AS_INVALID. */
int as_settings_read(as_settings *out, const allshard_options *options, as_error *e);

/* Those of all ranks: calls are checked, and saves cancelled, if any rank asks for it. AS_MISMATCH if the time limits
 * differ. A rank may come with an error: then all get it. Collective. */
int as_settings_agree(as_settings *s, as_comm *c, as_error *e);

#endif
