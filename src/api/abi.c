/* SPDX-License-Identifier: Apache-2.0
 * The public numbers and those of the rooms are the same. Nothing of this is run.
 */
#include "allshard.h"
#include "base/codes.h"
#include "base/log.h"
#include "base/version.h"
#include "device/cuda_library.h"
#include "tensor/dtype.h"
#include "tensor/geometry.h"
#include "transfer/isave.h"
#include "transfer/session.h"

#define SAME_CODE(name, value, text) _Static_assert((int)ALLSHARD_##name == (value), "code " #name);
AS_CODES(SAME_CODE)

#define SAME_DTYPE(name, number, bits)                                                             \
    _Static_assert((int)ALLSHARD_##name == (number), "dtype " #name);
AS_DTYPES(SAME_DTYPE)

_Static_assert((int)ALLSHARD_MAX_DIMS == (int)AS_MAX_DIMS, "dimensions");
_Static_assert((int)ALLSHARD_LOG_ERROR == (int)AS_LOG_ERROR, "log levels");
_Static_assert((int)ALLSHARD_LOG_WARNING == (int)AS_LOG_WARNING, "log levels");
_Static_assert((int)ALLSHARD_LOG_INFO == (int)AS_LOG_INFO, "log levels");
_Static_assert((int)ALLSHARD_LOG_DEBUG == (int)AS_LOG_DEBUG, "log levels");
_Static_assert((int)ALLSHARD_SAVE == (int)AS_SAVE, "operations");
_Static_assert((int)ALLSHARD_LOAD == (int)AS_LOAD, "operations");
_Static_assert(ALLSHARD_VERSION_MAJOR == AS_VERSION_MAJOR, "version");
_Static_assert(ALLSHARD_VERSION_MINOR == AS_VERSION_MINOR, "version");
_Static_assert(ALLSHARD_VERSION_PATCH == AS_VERSION_PATCH, "version");

_Static_assert((int)ALLSHARD_ISAVE == (int)AS_ISAVE, "operations");
_Static_assert((int)ALLSHARD_CUDA_AUTO == (int)AS_CUDA_AUTO, "cuda");
_Static_assert((int)ALLSHARD_CUDA_OFF == (int)AS_CUDA_OFF, "cuda");
_Static_assert((int)ALLSHARD_CUDA_ON == (int)AS_CUDA_ON, "cuda");
_Static_assert((int)ALLSHARD_STAGE_SNAPSHOT == (int)AS_STAGE_SNAPSHOT, "staging");
_Static_assert((int)ALLSHARD_STAGE_STREAM == (int)AS_STAGE_STREAM, "staging");
_Static_assert((int)ALLSHARD_WRITING == (int)AS_PHASE_WRITING, "phases");
_Static_assert((int)ALLSHARD_AGREEING == (int)AS_PHASE_AGREEING, "phases");
_Static_assert((int)ALLSHARD_COMMITTING == (int)AS_PHASE_COMMITTING, "phases");
_Static_assert((int)ALLSHARD_OVER == (int)AS_PHASE_OVER, "phases");
