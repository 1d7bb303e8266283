/* SPDX-License-Identifier: Apache-2.0
 *
 * allshard: save and load a model that is spread over MPI ranks as one ordinary
 * Hugging Face checkpoint folder. This header is the manual.
 *
 * 1. The idea
 *    Every rank declares the tensors, or parts of tensors, that it holds, in an
 *    allshard_state. One collective call then writes the final
 *    model-0000X-of-0000N.safetensors and model.safetensors.index.json directly,
 *    every rank its own byte ranges, or reads such a folder into the declared
 *    memory, whatever number of ranks and whatever layout wrote it.
 *
 * 2. Words
 *    main process  rank 0 of the communicator; it alone cleans the folder and commits
 *    piece         the part of one tensor that one rank declares: a box (offset and shape
 *                  per dimension) or a flat range of elements, with a pointer and strides
 *    replica       the same box declared by several ranks; they share the writing
 *    collective    every rank of the communicator must call, in the same order
 *    local         any rank may call at any time
 *    in flight     a nonblocking save from allshard_isave until it is over
 *
 * 3. Results
 *    Functions return ALLSHARD_OK (0) or a negative code. A collective function returns
 *    the same code on every rank. allshard_last_error gives the text, with rank, host,
 *    file and cause. The library never prints, exits, aborts or touches signal handlers.
 *    With allshard_options.timeout_s every collective function may return ALLSHARD_TIMEOUT, and
 *    with check_calls ALLSHARD_MISMATCH.
 *    A NULL handle of a context, state or plan is ALLSHARD_INVALID at once, on the rank that
 *    gives it alone: there is no communicator to tell the others by.
 *
 * 4. Structures
 *    Option structures begin with `size_t size`, which the caller sets to
 *    sizeof(the structure); set every other member to zero for its default. Later
 *    versions only append members.
 *
 * 5. Threads
 *    One thread at a time per context, and the thread must be allowed to call MPI. The library's
 *    own threads read and write files, and copy; they call neither MPI nor the caller's functions.
 *
 * 6. Environment
 *    ALLSHARD_TIMEOUT, ALLSHARD_CHECK_CALLS and ALLSHARD_CUDA go before timeout_s, check_calls and
 *    cuda of allshard_options, where they are told of. ALLSHARD_LEASE, seconds (30): how long the
 *    lock of a save on another host may stand still before it counts as dead; the same for all who
 *    save into a folder. ALLSHARD_LINKS=off: links in place of a checkpoint's files are refused.
 *    ALLSHARD_CUFILE: the file of cuFile's library, or off; else it is libcufile.so.0.
 *    ALLSHARD_SHARE=off: ranks of a node send messages in place of sharing memory.
 *
 * Sizes are in bytes, shapes, offsets, strides and counts in elements, unless a line
 * says otherwise. Strings are UTF-8 and NUL-terminated; all are copied.
 */
#ifndef ALLSHARD_H
#define ALLSHARD_H

#include <stddef.h>
#include <stdint.h>

/* A build without MPI (-DALLSHARD_MPI=OFF) is for one process; pass ALLSHARD_COMM_SELF. */
#ifdef ALLSHARD_NO_MPI
typedef int allshard_comm;
#define ALLSHARD_COMM_SELF 0
#else
#include <mpi.h>
typedef MPI_Comm allshard_comm;
#define ALLSHARD_COMM_SELF MPI_COMM_SELF
#endif

#if defined(__GNUC__) && defined(ALLSHARD_BUILDING)
#define ALLSHARD_API __attribute__((visibility("default")))
#else
#define ALLSHARD_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define ALLSHARD_VERSION_MAJOR 0
#define ALLSHARD_VERSION_MINOR 1
#define ALLSHARD_VERSION_PATCH 0

/* ------------------------------------------------------------------ results */

enum allshard_code {
    ALLSHARD_OK = 0,
    ALLSHARD_INVALID = -1,    /* an argument or a declaration is wrong */
    ALLSHARD_NOMEM = -2,      /* out of memory */
    ALLSHARD_SYSTEM = -3,     /* a system call failed; see sys_errno */
    ALLSHARD_MPI = -4,        /* an MPI call failed */
    ALLSHARD_NOT_FOUND = -5,  /* there is no such file, folder or checkpoint */
    ALLSHARD_FORMAT = -6,     /* a file breaks the rules of its format */
    ALLSHARD_MISMATCH = -7,   /* ranks, or a rank and the checkpoint, disagree */
    ALLSHARD_COVERAGE = -8,   /* the declared boxes leave a gap or overlap */
    ALLSHARD_NAMES = -9,      /* load: names are missing or unexpected */
    ALLSHARD_TIED = -10,      /* shared storage without a tensor that covers it whole */
    ALLSHARD_EMPTY = -11,     /* the state holds no tensor */
    ALLSHARD_SIZE = -12,      /* the shard size cannot be read */
    ALLSHARD_PATTERN = -13,   /* the file name pattern is unusable */
    ALLSHARD_LIMIT = -14,     /* a limit of the format or of this library is passed */
    ALLSHARD_BUSY = -15,      /* another save holds the folder */
    ALLSHARD_PENDING = -16,   /* the save is durable, but its last renames wait for recovery */
    ALLSHARD_UNKNOWN = -17,   /* whether the save counts is unknown: run `allshard recover` */
    ALLSHARD_INTERNAL = -18,  /* a fault in allshard itself; please report it */
    ALLSHARD_TIMEOUT = -19,   /* a rank stalled; the context is good for closing only */
    ALLSHARD_CORRUPT = -20,   /* the bytes of a file are not those that were saved */
    ALLSHARD_CANCELLED = -21, /* the save was cancelled; the folder holds what it held before */
    ALLSHARD_CUDA = -22       /* a call of CUDA or cuFile failed; the text names it */
};

/* "ALLSHARD_FORMAT" for ALLSHARD_FORMAT; "ALLSHARD_?" for a number that is no code. Local. */
ALLSHARD_API const char *allshard_error_name(int code);

/* "0.1.0". Local. */
ALLSHARD_API const char *allshard_version(void);

/* ------------------------------------------------------------------ context */

typedef struct allshard allshard;

enum allshard_log_level {
    ALLSHARD_LOG_ERROR = 1,
    ALLSHARD_LOG_WARNING = 2,
    ALLSHARD_LOG_INFO = 3,
    ALLSHARD_LOG_DEBUG = 4
};

typedef struct allshard_options {
    size_t size; /* sizeof(allshard_options) */

    /* Called on the calling thread with the text of one line, without a newline: warnings on the
     * rank that has something to tell, and every error that is returned, on every rank, as
     * ALLSHARD_LOG_DEBUG. NULL: silent. */
    void (*log)(int level, const char *text, void *user);
    void *log_user;

    /* Called now and then during save and load with what this rank has written or read and
     * what it is to write or read in all, in bytes. NULL: not called. */
    void (*progress)(int64_t done, int64_t total, void *user);
    void *progress_user;

    /* Bytes that the pool of transfer buffers of each rank may take. 0: 64 MiB. It takes three
     * quarters of them at the most (the rest is for pages of other ranks' pools), no more than
     * blocks under way make use of, and four blocks at least, whatever this says. May differ
     * between ranks. The pool is made by the first save or load and kept for the next ones. */
    int64_t memory;

    /* Not 0: remembers what this rank does and when, for allshard_trace_write. */
    int32_t trace;

    /* Not 0, on any rank: at each collective call the ranks make sure that all are in the same
     * function, before anything else is done; without that, ranks in different functions may wait
     * for each other for ever. ALLSHARD_MISMATCH names functions and ranks; the context is as good
     * as before (after allshard_close, too: it is still open). That all arguments are the same is
     * always looked at. The environment variable ALLSHARD_CHECK_CALLS (1 or 0) goes before this;
     * builds without NDEBUG check unless it is 0. */
    int32_t check_calls;

    /* Seconds after which a rank that gives no sign of life, or whose storage brings no operation
     * to an end, while others wait for it in a collective call, becomes an error on all the others:
     * ALLSHARD_TIMEOUT; text, rank and host name it, and of a save the text tells what became of
     * it, or how to find out. Every further collective call on the context gives that error at
     * once, allshard_close waits for nobody, and what MPI may still use stays in memory. MPI itself
     * still knows the rank: MPI_Finalize may wait for it, so end the job with MPI_Abort. A rank
     * that comes back gets the same error and changes nothing on disk any more. One whose own
     * operation hangs returns when that ends. A rank that stalls when a call is all but done may
     * be told of in the next one.
     *
     * All ranks give the same number: 0, or 0.01 to 1e6. Make it several times as long as the
     * longest system call may take (an fsync of all that a rank wrote, a rename on a busy server),
     * and as the ranks may come to a call after each other: minutes rather than seconds. Calls are
     * then checked, too. The environment variable ALLSHARD_TIMEOUT goes before this. 0: wait for
     * ever, which costs nothing. A process that dies is the launcher's business. */
    double timeout_s;

    /* Bytes that nonblocking saves in flight may take on this rank for what they have copied and
     * not yet written, beside `memory`: the limit of all of them together. 0: half of the memory
     * that the node, or the rank's control group, has free at the first allshard_isave, shared
     * among the ranks of the node. Memory is had when a save first needs it, and kept for the next
     * ones (allshard_trim). May differ between ranks. */
    int64_t snapshot_memory;

    /* Not 0, on any rank: allshard_close cancels saves that are in flight; else it waits for
     * them. */
    int32_t cancel_on_close;

    /* enum allshard_cuda: whether pieces may lie in device memory. The environment variable
     * ALLSHARD_CUDA (auto, off, on) goes before this. May differ between ranks. What is had of
     * devices is kept until the context is closed. CUDA contexts that pieces have lain in may be
     * destroyed before, and devices be reset (cudaDeviceReset), between two calls: the next one
     * begins anew there. During a call that is ALLSHARD_CUDA. */
    int32_t cuda;
} allshard_options;

enum allshard_cuda {
    /* If the program has loaded CUDA's driver (libcuda.so.1) by the time of a save or load: nothing
     * of CUDA is called else. */
    ALLSHARD_CUDA_AUTO = 0,
    /* All pieces lie on the host: no call of CUDA, whatever the program does. */
    ALLSHARD_CUDA_OFF = 1,
    /* It is loaded and initialised by allshard_open, which fails with ALLSHARD_CUDA without it. */
    ALLSHARD_CUDA_ON = 2
};

/* Makes a context on a private duplicate of `comm`. Collective; waits inside MPI for all ranks to
 * come, whatever timeout_s is. `options` may be NULL.
 * *out is NULL after a failure, whose text goes to options->log. Close before MPI_Finalize.
 * Threads that the library starts for input and output make no MPI call: MPI_THREAD_FUNNELED will
 * do, and so will MPI_Init wherever that allows a process to have threads at all.
 * ALLSHARD_INVALID, ALLSHARD_MISMATCH (timeout_s), ALLSHARD_NOMEM, ALLSHARD_MPI. */
ALLSHARD_API int allshard_open(allshard **out, allshard_comm comm, const allshard_options *options);

#ifndef ALLSHARD_NO_MPI
/* The same with a Fortran communicator handle. Collective. */
ALLSHARD_API int allshard_open_f(allshard **out, MPI_Fint comm, const allshard_options *options);
#endif

/* Frees the context. Collective. States and plans of the context must be freed before, but states
 * of which a save is in flight after it. Saves in flight are waited for, or cancelled
 * (cancel_on_close); requests that were not waited for are freed, and a failure of one is returned.
 * NULL is allowed (then on every rank). ALLSHARD_TIMEOUT: a rank stalled before it came here; the
 * context is freed all the same. ALLSHARD_MISMATCH: see check_calls; it is not. ALLSHARD_MPI. */
ALLSHARD_API int allshard_close(allshard *as);

typedef struct allshard_error {
    size_t size;       /* sizeof(allshard_error), set by the caller */
    int32_t code;      /* ALLSHARD_OK or a negative code */
    int32_t sys_errno; /* errno of the cause, 0 if none */
    int32_t rank;      /* rank that met the error; -1 if it was local to the caller */
    int32_t reserved;
    const char *host; /* host of that rank */
    const char *text; /* what happened, to which file or tensor, and what to do */
} allshard_error;

/* The error of the last call on the context or one of its states. Local. The strings live
 * until the next call on the context. Returns the code. */
ALLSHARD_API int allshard_last_error(const allshard *as, allshard_error *out);

/* -------------------------------------------------------------------- state */

typedef struct allshard_state allshard_state;

enum { ALLSHARD_MAX_DIMS = 16 };

/* Element types, as safetensors names them. */
enum allshard_dtype {
    ALLSHARD_BOOL = 1,    /* 1 byte */
    ALLSHARD_F4 = 2,      /* 4 bits, two in a byte */
    ALLSHARD_F6_E2M3 = 3, /* 6 bits, four in three bytes */
    ALLSHARD_F6_E3M2 = 4, /* 6 bits, four in three bytes */
    ALLSHARD_U8 = 5,
    ALLSHARD_I8 = 6,
    ALLSHARD_F8_E5M2 = 7,
    ALLSHARD_F8_E4M3 = 8,
    ALLSHARD_F8_E8M0 = 9,
    ALLSHARD_F8_E4M3FNUZ = 10,
    ALLSHARD_F8_E5M2FNUZ = 11,
    ALLSHARD_I16 = 12,
    ALLSHARD_U16 = 13,
    ALLSHARD_F16 = 14,
    ALLSHARD_BF16 = 15,
    ALLSHARD_I32 = 16,
    ALLSHARD_U32 = 17,
    ALLSHARD_F32 = 18,
    ALLSHARD_C64 = 19, /* two 32-bit floats */
    ALLSHARD_F64 = 20,
    ALLSHARD_I64 = 21,
    ALLSHARD_U64 = 22
};

/* One piece. A rank may declare several pieces of one tensor; all ranks that declare the
 * tensor give the same name, dtype, shape, order key and storage. */
typedef struct allshard_tensor {
    size_t size;      /* sizeof(allshard_tensor) */
    const char *name; /* any UTF-8 but "__metadata__" */
    int32_t dtype;    /* enum allshard_dtype */
    int32_t ndim;     /* 0 (scalar) to ALLSHARD_MAX_DIMS */

    const int64_t *shape;       /* global shape, ndim elements */
    const int64_t *offset;      /* where the box begins; NULL: at 0 in every dimension */
    const int64_t *local_shape; /* shape of the box; NULL: all that follows the offset */

    /* Instead of a box: elements [flat_offset, flat_offset + flat_count) of the tensor in C
     * order, if flat is not 0 (then offset, local_shape and strides are NULL). */
    int32_t flat;
    int32_t reserved;
    int64_t flat_offset;
    int64_t flat_count;

    /* Distance in memory between neighbours of the box in each dimension; NULL: C order.
     * May be negative, and zero when saving. F4 and F6 elements must lie in whole bytes and
     * without gaps in the last dimension. */
    const int64_t *strides;

    /* The box's first element: on the host, or in memory of a CUDA device, which is found out by
     * the pointer at each save and load (allshard_options.cuda; managed memory counts as the
     * device's, memory that is registered with CUDA as the host's; several devices are fine). Read
     * by save, filled by load; stays the caller's, and must stay in place until the state is freed.
     * NULL only if the piece is empty. */
    void *data;

    /* Place in the global order: 1 or more, another for each tensor. 0 on all tensors of all
     * ranks: ordered by (lowest rank that declares it, position there). */
    int64_t order;

    /* Tied tensors: a number that is the same for all tensors of one storage on every rank
     * (0: none), the bytes of the whole storage (0: those of the tensor), and the tensor's
     * first byte in it. Tensors that are not so marked are tied if they have the same dtype and
     * shape, and all their pieces on all ranks show the same pointers. Of tied tensors one is
     * saved, by huggingface_hub's rule: of those that cover the storage whole the smallest name
     * in byte order that is not among allshard_save_options.discard. The others are recorded in
     * the metadata, and allshard_load fills them from it if dtype and shape are the same. */
    uint64_t storage;
    int64_t storage_bytes;
    int64_t storage_offset;

    /* The dtype in the file, if it is not that in memory: elements are cast, to nearest, ties to
     * even, when they are saved, and back when they are loaded. F64, F32, BF16, F16, F8_E4M3 and
     * F8_E5M2 can be cast into each other. NaN stays NaN; what is too large becomes infinity, or
     * NaN in F8_E4M3, which has no infinity. 0: as in memory. */
    int32_t stored_dtype;
    int32_t reserved_2;
} allshard_tensor;

/* A state holds the pieces that this rank declares under one part name ("model",
 * "optimizer"); declare once, save and load many times. Local; but every rank that takes
 * part in a save needs a state of the same part, if only an empty one. ALLSHARD_INVALID for a
 * name that cannot begin a file name, ALLSHARD_NOMEM. */
ALLSHARD_API int allshard_state_create(allshard_state **out, allshard *as, const char *part);

/* Adds a piece. Local. ALLSHARD_INVALID with a text that names the tensor. */
ALLSHARD_API int allshard_state_tensor(allshard_state *s, const allshard_tensor *tensor);

/* Adds metadata: written into the index, or into the header if there is one file. Local;
 * ranks may declare the same key only with the same value (ALLSHARD_MISMATCH from the save). A key
 * set twice: the last value counts. ALLSHARD_INVALID, ALLSHARD_NOMEM. */
ALLSHARD_API int allshard_state_meta(allshard_state *s, const char *key, const char *value);

/* A small file (config.json, tokenizer files) that is saved beside the weights, in the same
 * transaction. The bytes are copied. Local; ranks may declare the same name only with the
 * same bytes. The name must be a plain file name that is none of the checkpoint's own. */
ALLSHARD_API int allshard_state_file(allshard_state *s, const char *name, const void *bytes,
                                     size_t n);

/* Local. NULL is allowed. ALLSHARD_BUSY while a save of the state is in flight: it is not freed. */
ALLSHARD_API int allshard_state_free(allshard_state *s);

/* --------------------------------------------------------------------- save */

typedef struct allshard_save_options {
    size_t size; /* sizeof(allshard_save_options) */

    /* Largest shard: "5GB" (default), "500MB", "10KB": decimal units, read as
     * huggingface_hub reads them; a bare integer is bytes. */
    const char *max_shard_size;

    /* File name with {suffix}; default "<part>{suffix}.safetensors". */
    const char *pattern;

    /* Of tied tensors, names to discard if another can be kept. */
    const char *const *discard;
    size_t discard_count;

    /* Permission bits of the files; 0: 0666 less the umask. */
    int32_t mode;
    int32_t reserved;

    /* The unit of writing and exchange; a multiple of 64, up to 512 MiB. 0: 4 MiB. */
    int64_t block_bytes;

    /* How bytes get to storage: "posix" (through the page cache), "direct" (O_DIRECT), "uring"
     * (io_uring with O_DIRECT), or "auto" (NULL): what fits the file system. What the kernel or
     * the file system refuses is done the next simpler way; allshard_stats tells which did the
     * work, and why. "gds": blocks that lie on one CUDA device of this rank alone go straight from
     * its memory to the file by cuFile (GPUDirect Storage, docs/gpu.md), where that works, all
     * others as with "auto", which does so, too, where a trial finds it faster. */
    const char *engine;

    /* Tensor data of each file begin at a multiple of this power of two, up to 1 MiB; spaces
     * after the header fill the gap, as the format allows. 4096 spares a copy where tensors lie
     * on pages. 0: byte for byte as huggingface_hub writes it. */
    int64_t align;

    /* enum allshard_checksum: of each block, into the manifest. */
    int32_t checksum;

    /* Of the ranks of a node, so many write; the others hand them their bytes. 0: all write. */
    int32_t writers_per_node;

    /* So many ranks at the most create files at the same time. 0: no limit. */
    int32_t creators;

    /* On Lustre: stripes of the new files, −1 for all targets, and bytes of a stripe, a multiple
     * of 64 KiB. 0: as the folder has them. Elsewhere they mean nothing, which the log tells. */
    int32_t stripe_count;
    int64_t stripe_bytes;

    /* Not 0: when all ranks' files are synced, each reads what it wrote from storage, past the page
     * cache where the file system allows that (tmpfs keeps its files nowhere else), and compares
     * checksums, before the save counts; the main process does so with index, small files and
     * manifest. A difference is ALLSHARD_CORRUPT, whose text names file and bytes, and the old
     * checkpoint stays. Takes about as long as writing. With `checksum` ALLSHARD_CHECKSUM_NONE too:
     * then the sums are not kept. */
    int32_t verify_after_write;
    int32_t reserved_2;

    /* All that follows is for allshard_isave; only the first two must be the same on all ranks. */

    int32_t staging; /* enum allshard_staging */
    int32_t if_busy; /* enum allshard_if_busy: while a save of the same state is in flight */

    /* Threads of this rank that write, 1 to 16; 0: the engine's choice. (io_uring needs none.) */
    int32_t io_threads;

    /* Threads that copy, the calling one among them, 1 to 64; 0: as many as the rank has
     * processors for itself, 8 at the most. */
    int32_t copy_threads;

    /* Processors that all threads of the library in the background run on, such as "2-3,8"; NULL:
     * those of the calling thread. */
    const char *cpus;

    /* Of what they write: "idle", "best-effort:0" (first) to "best-effort:7" (last). The kernel
     * heeds it only with a disk scheduler that knows priorities. NULL: the calling thread's. */
    const char *io_priority;

    /* Bytes a second that this rank writes in the background, at the most; 0: no limit. */
    int64_t bandwidth;

    /* Pieces in device memory: a CUstream or cudaStream_t of this rank, in which the last work on
     * the weights was put; they are read when that is done. NULL: the legacy default stream, which
     * waits for all streams that were not made as non-blocking. 2 (cudaStreamPerThread): that of the
     * calling thread. Of other devices than the stream's the legacy default stream counts. Work
     * that is put into any stream after the call has returned may change the weights. No stream may
     * be captured into a graph meanwhile. Of this rank alone, not only for allshard_isave. */
    void *cuda_stream;
} allshard_save_options;

/* How the bytes of a nonblocking save leave the caller's memory. */
enum allshard_staging {
    /* A snapshot on all ranks if every rank's limit (snapshot_memory) has room for it, else a
     * stream on all; allshard_stats and the log tell why. */
    ALLSHARD_STAGE_AUTO = 0,
    /* All that this rank will write is copied, then allshard_isave returns. ALLSHARD_LIMIT if the
     * limit of some rank is too small. */
    ALLSHARD_STAGE_SNAPSHOT = 1,
    /* In bounded memory: copied and written at the same time; allshard_isave returns when the last
     * bytes are copied. Takes as much memory as the limit allows, 256 MiB at the most. */
    ALLSHARD_STAGE_STREAM = 2
};

enum allshard_if_busy {
    ALLSHARD_BUSY_WAIT = 0,  /* until the earlier save is over, whatever its outcome */
    ALLSHARD_BUSY_REFUSE = 1 /* ALLSHARD_BUSY at once */
};

enum allshard_checksum {
    ALLSHARD_CHECKSUM_DEFAULT = 0, /* XXH3 */
    ALLSHARD_CHECKSUM_NONE = 1,
    ALLSHARD_CHECKSUM_XXH3 = 2 /* 64 bits */
};

/* Saves the state as a checkpoint in `directory`, which is made if it is not there (with
 * its parents). Collective; all ranks give the same directory and options (NULL: defaults).
 * An older checkpoint of the same pattern in the folder is replaced, and stays whole until
 * the new one is durable; other files are left alone.
 *
 * After ALLSHARD_OK the checkpoint is durable and complete. ALLSHARD_PENDING: durable; the
 * next save, or `allshard recover`, finishes the renames. ALLSHARD_UNKNOWN: see its text.
 * After any other code the folder holds what it held before. The main process returns last: it
 * removes the old files and .allshard/ when the others have learned the outcome.
 *
 * ALLSHARD_INVALID, _SIZE, _PATTERN, _EMPTY, _MISMATCH, _COVERAGE, _TIED, _LIMIT, _BUSY,
 * _NOT_FOUND (the directory is a link to nothing), _FORMAT (a damaged journal lies there), _SYSTEM,
 * _MPI, _NOMEM, _PENDING, _UNKNOWN, _CORRUPT (verify_after_write), _CUDA, _TIMEOUT (timeout_s; the text
 * tells which checkpoint the folder holds, or how to find out), _INTERNAL. */
ALLSHARD_API int allshard_save(allshard_state *s, const char *directory,
                               const allshard_save_options *options);

/* ------------------------------------------------------------- nonblocking save */

typedef struct allshard_request allshard_request;
typedef struct allshard_stats allshard_stats;

/* As allshard_save, but returns when the weights may be changed again (the save is staged); the
 * rest is done by threads of the library, which never call MPI: bytes are written and synced, then
 * the main process's thread makes the checkpoint count. In between all ranks have to agree, on the
 * calling thread: in allshard_test, allshard_wait and every collective call on the context; without
 * these the save gets as far as its bytes on disk, and the old checkpoint stays. What the ranks
 * exchange crosses before this function returns. Collective.
 *
 * After ALLSHARD_OK *request is to be ended with allshard_wait; else it is NULL, the folder holds
 * what it held before, and the codes are those of allshard_save, ALLSHARD_LIMIT (staging),
 * ALLSHARD_BUSY also if a save of the state is in flight (if_busy). A nonblocking save of a state
 * whose save is in flight waits for that first, or is refused; allshard_save waits. The earlier
 * request is to be ended all the same. Saves of several states may be in flight at a time, into a
 * folder for each: a folder takes one save at a time (ALLSHARD_BUSY). Tensors, metadata and files
 * that are added to the state meanwhile count for the next save. */
ALLSHARD_API int allshard_isave(allshard_state *s, const char *directory,
                                const allshard_save_options *options, allshard_request **request);

/* Moves the save on and tells whether it is over on this rank. Called by every rank, as often as it
 * likes and each in its own time, now and then, such as once a training step; never blocks and
 * never touches the disk. *done 0: in flight. 1: over; the outcome is returned, and again by
 * allshard_wait. Another rank may learn it some tests later; the main process, which tidies up, is
 * mostly the last. ALLSHARD_OK and *done 1: durable, as after allshard_save. A failure is the same
 * code and text on all ranks, and the folder holds what it held before. */
ALLSHARD_API int allshard_test(allshard_request *request, int *done);

/* Waits until the save is over, fills *stats (NULL: no; `stats->size` is set by the caller) with
 * what this rank did, frees the request and sets it to NULL. Every rank has to call it, but each in
 * its own time where allshard_test has said that the save is over: there it returns at once. (So
 * the ranks do not meet in it, whatever check_calls is.) NULL or a request that is NULL:
 * ALLSHARD_OK at once. The codes are those of allshard_save, and ALLSHARD_CANCELLED. Until the next
 * save or load allshard_get_stats tells of this save. */
ALLSHARD_API int allshard_wait(allshard_request **request, allshard_stats *stats);

/* Asks for the save to be given up, on all ranks: what it has written is removed, the outcome is
 * ALLSHARD_CANCELLED. May come too late once all ranks' bytes are on disk (ALLSHARD_AGREEING): then
 * the outcome is that of the save. Local, one rank is enough; never blocks. */
ALLSHARD_API int allshard_cancel(allshard_request *request);

/* Never goes back. */
enum allshard_phase {
    ALLSHARD_WRITING = 1,    /* this rank's bytes go to storage */
    ALLSHARD_AGREEING = 2,   /* they are there; the ranks have to agree on it */
    ALLSHARD_COMMITTING = 3, /* the main process makes it count */
    ALLSHARD_OVER = 4
};

typedef struct allshard_progress {
    size_t size;           /* sizeof(allshard_progress), set by the caller */
    int32_t phase;         /* enum allshard_phase */
    int32_t staging;       /* ALLSHARD_STAGE_SNAPSHOT or ALLSHARD_STAGE_STREAM: what was done */
    int64_t bytes_written; /* of this rank's, by now */
    int64_t bytes_total;   /* that this rank writes */
} allshard_progress;

/* How far a save is. Local, from any thread, at any time before the request is freed. */
ALLSHARD_API int allshard_request_progress(const allshard_request *request, allshard_progress *out);

/* Gives the memory of nonblocking saves that is not in use back to the system; the next one has
 * it anew. Local. */
ALLSHARD_API int allshard_trim(allshard *as);

/* --------------------------------------------------------------------- load */

typedef struct allshard_load_options {
    size_t size; /* sizeof(allshard_load_options) */

    /* File name with {suffix}: that checkpoint of the folder and no other. NULL:
     * "<part>{suffix}.safetensors"; for the part "model", if that is not there, the only
     * checkpoint of the folder, whatever its name. */
    const char *pattern;

    /* By default each declared name must be in the checkpoint and each name of the
     * checkpoint must be declared by some rank (strict). Not 0: allowed; the memory of a
     * missing tensor is left as it is. */
    int32_t allow_missing;
    int32_t allow_unexpected;

    /* The unit of reading and exchange; a multiple of 64, up to 512 MiB. 0: 4 MiB. Blocks whose
     * checksums are compared have the size that they were saved with, whatever this says. */
    int64_t block_bytes;

    /* As in allshard_save_options. "auto" reads through the page cache what lies in it. */
    const char *engine;

    /* By default every block that is read is compared with its checksum in allshard.manifest.json,
     * if that lies in the folder (for a path that is a file: beside it) and describes the
     * checkpoint: blocks that no rank wants a byte of are not read, those that headers and the
     * index lie in always are, before anything in them is believed. Blocks are then read whole, and
     * a block with a header once more. A difference, a file of another size than the manifest
     * tells, and a damaged manifest are ALLSHARD_CORRUPT; the text names file, bytes and tensors. A
     * checkpoint that the manifest does not mention is loaded unchecked, which the log tells.
     * ALLSHARD_CHECKSUM_NONE: the manifest is not looked at. */
    int32_t checksum;
    int32_t reserved;

    /* As in allshard_save_options: device memory is filled when the work in it is done. When the
     * load has returned all is in place, for every stream. */
    void *cuda_stream;
} allshard_load_options;

/* Fills the state's pieces from a checkpoint folder or a single file. Collective; all ranks
 * give the same path and options (NULL: defaults). Every byte that any rank needs is read
 * from storage once. Boxes may overlap and need not cover a tensor. Nothing on disk is
 * changed. After a failure the content of the declared memory is unspecified.
 *
 * A declared name that was dropped as tied when the checkpoint was saved is filled from the
 * tensor that was kept.
 *
 * ALLSHARD_INVALID, _NOT_FOUND, _FORMAT, _LIMIT, _MISMATCH, _NAMES, _BUSY (saves replaced the
 * files again and again meanwhile), _SYSTEM, _MPI, _NOMEM, _CORRUPT (the bytes on disk are not
 * those that were saved), _CUDA, _TIMEOUT (timeout_s), _INTERNAL. */
ALLSHARD_API int allshard_load(allshard_state *s, const char *path,
                               const allshard_load_options *options);

/* The names that the last load on this context found missing (declared, not in the
 * checkpoint) or unexpected (in the checkpoint, not declared): all of them, sorted by bytes,
 * the same on every rank, whether they were allowed or not. Local; valid until the next
 * call on the context. NULL past the end. */
ALLSHARD_API size_t allshard_missing_count(const allshard *as);
ALLSHARD_API const char *allshard_missing_name(const allshard *as, size_t i);
ALLSHARD_API size_t allshard_unexpected_count(const allshard *as);
ALLSHARD_API const char *allshard_unexpected_name(const allshard *as, size_t i);

/* -------------------------------------------------------------------- stats */

/* What one rank did in the last save or load on a context, or in a nonblocking save. Times are
 * seconds by a clock that only goes forward; the parts of transfer_s overlap and are no sum. */
struct allshard_stats {
    size_t size;       /* sizeof(allshard_stats), set by the caller */
    int32_t operation; /* enum allshard_operation */
    int32_t rank;
    int32_t ranks;
    int32_t plan_cached; /* 1: the plan of an earlier save served again */

    double plan_s;     /* arguments compared, plan made or found */
    double begin_s;    /* lock and new files; on loads: files found, headers read */
    double transfer_s; /* first block to last fsync, other ranks' included */
    double commit_s;   /* index, manifest, journal, renames; on loads: the last checks */
    double clean_s;    /* after the save is durable: old files removed. Main process only */
    /* From the call until the new checkpoint is in its place, durable, and this rank knows it;
     * loads: to the end. */
    double durable_s;
    double total_s; /* from the call to its return */

    double copy_s;     /* of transfer_s: bytes copied, packed, cast */
    double checksum_s; /* of transfer_s: blocks hashed; on loads in the threads that read them */
    double io_s;       /* of transfer_s: sum over the operations, which overlap, of their times */
    double sync_s;     /* of transfer_s: the same of fsync */
    double wait_s;     /* of transfer_s: nothing to do but to wait */

    int64_t bytes_written;  /* to files */
    int64_t bytes_read;     /* from files */
    int64_t bytes_direct;   /* of both, without a copy from or to the caller's memory */
    int64_t bytes_sent;     /* to other ranks by messages */
    int64_t bytes_shared;   /* to or from other ranks of the node through shared memory */
    int64_t bytes_checksum; /* hashed; on loads also blocks of headers and of the index */
    int64_t messages;       /* sent */
    int64_t operations;     /* reads and writes */
    int64_t memory;         /* bytes of the pool */
    int64_t plan_steps;     /* of the planner that ran on this rank; 0 if the plan was cached */

    const char *engine;        /* that did the work; lives until the next call on the context */
    const char *engine_reason; /* why that one */

    /* Nonblocking saves; 0 and "" for all else. */
    int32_t staging; /* enum allshard_staging: what was done */
    int32_t reserved;
    const char *staging_reason; /* why; lives as `engine` */
    double blocking_s;      /* the caller's thread in calls that moved it on, until it was over */
    double staged_s;        /* from the call of allshard_isave to its return */
    double background_s;    /* from there until the save is over on this rank */
    int64_t bytes_staged;   /* copied before allshard_isave returned */
    int64_t snapshot_bytes; /* of memory that the save had for them */
    int64_t touched_bytes;  /* of these, had from the system for this save */

    /* Pieces in device memory. */
    int64_t bytes_device; /* that went out of it or into it */
    const char *device; /* "cuda:0", "cuda:0, cuda:1", or "": there were none; lives as `engine` */
    /* Why there were none, or what went a slower way, and why; or "". Lives as `engine`. */
    const char *device_reason;
};

enum allshard_operation {
    ALLSHARD_NOTHING = 0,
    ALLSHARD_SAVE = 1,
    ALLSHARD_LOAD = 2,
    ALLSHARD_ISAVE = 3
};

/* The main process can ask for any rank, the others for their own. Local. `out->size` is set by
 * the caller. ALLSHARD_INVALID for another rank; allshard_last_error stays as it was. */
ALLSHARD_API int allshard_get_stats(const allshard *as, int rank, allshard_stats *out);

/* Writes what all ranks did since the context was opened with `trace`, as JSON in Chrome's
 * trace-event format, which Perfetto and chrome://tracing show: a process per rank, a row per
 * thread. Of a rank with more than 262,144 spans the first are kept, which the log tells.
 * Collective; all ranks give the same `path`, which the main process writes. ALLSHARD_INVALID
 * without `trace`, _MISMATCH, _SYSTEM, _MPI, _NOMEM, _TIMEOUT (timeout_s). */
ALLSHARD_API int allshard_trace_write(allshard *as, const char *path);

/* --------------------------------------------------------------------- plan */

typedef struct allshard_plan allshard_plan;

/* What a save would do, without writing anything: huggingface_hub's StateDictSplit, and who
 * writes how much. Collective; every rank gets the same plan. Those codes of allshard_save that do
 * not come of the folder. */
ALLSHARD_API int allshard_plan_create(allshard_plan **out, allshard_state *s,
                                      const allshard_save_options *options);

/* All local. Indexes past the end give 0 or NULL. Strings live as long as the plan. */
ALLSHARD_API int allshard_plan_is_sharded(const allshard_plan *p);
ALLSHARD_API int64_t allshard_plan_total_size(const allshard_plan *p); /* bytes of tensors */

ALLSHARD_API size_t allshard_plan_file_count(const allshard_plan *p);
ALLSHARD_API const char *allshard_plan_file_name(const allshard_plan *p, size_t file);
ALLSHARD_API int64_t allshard_plan_file_bytes(const allshard_plan *p, size_t file);

/* Tensors come in the order of the index: file by file; those of file f are
 * [first, first + count). */
ALLSHARD_API size_t allshard_plan_tensor_count(const allshard_plan *p);
ALLSHARD_API const char *allshard_plan_tensor_name(const allshard_plan *p, size_t tensor);
ALLSHARD_API size_t allshard_plan_tensor_file(const allshard_plan *p, size_t tensor);
ALLSHARD_API void allshard_plan_file_tensors(const allshard_plan *p, size_t file, size_t *first,
                                             size_t *count);

/* The file that holds a tensor; NULL if no tensor of that name is saved. */
ALLSHARD_API const char *allshard_plan_find(const allshard_plan *p, const char *name);

/* Tied names that are not saved, and the name that is kept in place of each. */
ALLSHARD_API size_t allshard_plan_dropped_count(const allshard_plan *p);
ALLSHARD_API const char *allshard_plan_dropped_name(const allshard_plan *p, size_t i);
ALLSHARD_API const char *allshard_plan_dropped_for(const allshard_plan *p, size_t i);

ALLSHARD_API int64_t allshard_plan_writer_bytes(const allshard_plan *p, int rank);
ALLSHARD_API int64_t allshard_plan_exchanged_bytes(const allshard_plan *p); /* between ranks */

ALLSHARD_API void allshard_plan_free(allshard_plan *p);

/* ------------------------------------------------------------------- series */

/* Checkpoints of one run over time: a root folder with a folder for each, named by a pattern.
 * A checkpoint holds one or several states (parts), their small files, each rank's small state, and
 * what it tells of itself (step, time, world, parent, metric, fields) in allshard.manifest.json. It
 * comes to be under ROOT/.allshard/ and takes its name, whole and durable, in one rename. */
typedef struct allshard_series allshard_series;

/* For steps: the newest good checkpoint. */
#define ALLSHARD_NEWEST INT64_C(-1)

enum allshard_signals {
    ALLSHARD_SIGNALS_NONE = 0,  /* no handler is touched */
    ALLSHARD_SIGNALS_CATCH = 1, /* those of the options; the handlers of before are called, too */
};

enum allshard_walltime {
    ALLSHARD_WALLTIME_AUTO = 0, /* ALLSHARD_END_TIME, Slurm, PBS, LSF: the first that knows */
    ALLSHARD_WALLTIME_OFF = 1
};

typedef struct allshard_series_options {
    size_t size; /* sizeof(allshard_series_options) */

    /* Names of the checkpoints' folders: text with {step}, {step:06} (padded with zeros), and
     * {NAME} for a field of allshard_checkpoint (letters, digits, '_'), such as
     * "checkpoint_epoch{epoch}_step{step}" or "v{version}". NULL: "checkpoint-{step}", as Hugging
     * Face's Trainer names them. Without {step} the manifest tells the step. */
    const char *pattern;

    /* Retention. A complete checkpoint stays while any rule keeps it; all rules 0: all stay. What
     * always stays: the newest good one, tagged ones, those that this run began from, damaged ones,
     * and what is no checkpoint of this pattern. */
    int64_t keep_last;  /* so many with the highest steps */
    int64_t keep_every; /* those whose step is a multiple of this */
    int64_t keep_best;  /* so many with the best metric */
    const char *metric; /* the metric that counts for keep_best; NULL: of any name */
    int32_t metric_max; /* not 0: larger is better */
    int32_t reserved;
    double keep_seconds; /* those that are younger, by the time in the manifest */

    /* Policy: when allshard_series_poll says to save. 0: not for this reason. */
    int64_t every_steps;
    double every_s; /* seconds since the last save began */
    double
        overhead_percent; /* as often as saves block the ranks for no more of the time; 0 to 100 */
    /* Mean time between failures of the whole job, seconds: saves are then so far apart that the
     * least time is lost (Daly 2006, "A higher order estimate of the optimum checkpoint interval
     * for restart dumps", equation 37, from the time that saves have blocked the ranks). With
     * overhead_percent the longer of both intervals counts. Until a save was measured, or a checkpoint
     * loaded that tells, both ask for one as soon as there is something to save. */
    double mtbf_s;

    /* The last save before the job's time ends begins margin × (its expected time to durable, from
     * those measured) + margin_s seconds before the end. margin 0: 1.2. margin_s 0: 5 seconds;
     * negative: none. Until a save was measured: first_margin_s, 0: 120 seconds, but at most a quarter of
     * the time that is left at first. The time from poll to poll is added. */
    double margin;
    double margin_s;
    double first_margin_s;

    int32_t signals;  /* enum allshard_signals */
    int32_t walltime; /* enum allshard_walltime */
    /* Numbers of signals. After a stop signal on any rank the verdict is: save and stop. After a
     * save signal: save and go on. NULL with count 0: SIGUSR2 and SIGTERM stop, none saves. */
    const int32_t *stop_signals;
    size_t stop_signal_count;
    const int32_t *save_signals;
    size_t save_signal_count;
} allshard_series_options;

/* Opens a series, whose root is made if it is not there; finishes or clears what dead saves left.
 * Collective; all ranks give the same root and options (NULL: defaults). One series of a context per
 * root; close it before the context. ALLSHARD_INVALID, _PATTERN, _MISMATCH, _SYSTEM, _NOMEM, _MPI,
 * _FORMAT (a damaged journal), _TIMEOUT. That another process saves into the root just now is no
 * error here: it is one (ALLSHARD_BUSY) when this one saves, unless that process is done with the
 * root within 30 s, which the save waits for: so `allshard prune` and `allshard recover` beside a
 * running job cost it a moment at most. */
ALLSHARD_API int allshard_series_open(allshard_series **out, allshard *as, const char *root,
                                      const allshard_series_options *options);

/* Waits for the save that is in flight (whose failure is returned) or cancels it (cancel_on_close of
 * the context), and for removals in the background; gives signals back to the handlers of before.
 * Collective. NULL is allowed (then on every rank). */
ALLSHARD_API int allshard_series_close(allshard_series *r);

typedef struct allshard_field {
    const char *name;  /* letters, digits and '_' */
    const char *value; /* UTF-8; where it is part of a folder's name: no '/' */
} allshard_field;

/* What is to be saved. All is borrowed for the call, but the states' tensors as in
 * allshard_isave. All ranks give the same, but rank_state. */
typedef struct allshard_checkpoint {
    size_t size;  /* sizeof(allshard_checkpoint) */
    int64_t step; /* 0 or more */

    /* The parts, of different names; and options of each: NULL, or pointers that may be NULL. */
    allshard_state *const *states;
    size_t state_count;
    const allshard_save_options *const *options;

    /* What this rank wants back when it loads: random generators, data position. Up to 64 MiB. NULL
     * and 0 on all ranks: none. Saved as part "ranks" in allshard-ranks{suffix}.safetensors. */
    const void *rank_state;
    size_t rank_state_bytes;

    const allshard_field *fields; /* for the name, and for whoever reads the manifest */
    size_t field_count;
    const char *const *tags; /* a tagged checkpoint is kept; a tag is a name without spaces */
    size_t tag_count;
    const char *metric; /* name; NULL: none is given */
    double metric_value;
    const char *note; /* a line for `allshard log`; NULL: none */
} allshard_checkpoint;

/* Saves a checkpoint of the series, all of it or nothing of it, then lets go of those that the
 * retention does not keep: they are renamed away and removed in the background, by all ranks. A
 * checkpoint of the same name is replaced; it stays until the new one is durable. ROOT/latest, a
 * symbolic link (a text file where there can be none), leads to the new one. Collective. Codes as of
 * allshard_save; a failure to tidy up, to link or to write the history is only a warning. */
ALLSHARD_API int allshard_series_save(allshard_series *r, const allshard_checkpoint *c);

/* The same as allshard_isave is to allshard_save: returns when the states may be changed. One
 * save of a series is in flight at a time: an earlier one is waited for. allshard_series_poll, every
 * collective call and allshard_series_wait move it on; outcome and figures come from the verdict of
 * poll, or from wait. Collective. */
ALLSHARD_API int allshard_series_isave(allshard_series *r, const allshard_checkpoint *c);

/* Waits for the save that is in flight; its outcome; ALLSHARD_OK if there is none, or poll has told of
 * it. `stats` (NULL: no): sums over its parts. Collective. */
ALLSHARD_API int allshard_series_wait(allshard_series *r, allshard_stats *stats);

typedef struct allshard_loaded {
    size_t size;      /* sizeof(allshard_loaded), set by the caller */
    int64_t step;     /* of the checkpoint that was loaded */
    const char *name; /* of its folder. These live until the next call on the series. */
    int32_t world;    /* ranks that saved it */
    int32_t passed;   /* newer checkpoints that were passed over as damaged; the log names them */
    const void *rank_state; /* that the rank of this number saved; NULL: none */
    size_t rank_state_bytes;
    const allshard_field *fields;
    size_t field_count;
} allshard_loaded;

/* Loads states from the checkpoint of a step, or from the newest good one: damaged and incomplete
 * ones are passed over, with a warning that names each, and left as they are. options: NULL, or
 * pointers for each state that may be NULL. It becomes the parent of the next save. Collective;
 * `out` may be NULL. ALLSHARD_NOT_FOUND: there is no checkpoint (a fresh run), or none of that step;
 * ALLSHARD_CORRUPT: there are some, but none is good. Other codes as of allshard_load. */
ALLSHARD_API int allshard_series_load(allshard_series *r, int64_t step,
                                      allshard_state *const *states, size_t count,
                                      const allshard_load_options *const *options,
                                      allshard_loaded *out);

/* Why, as bits. */
enum allshard_reason {
    ALLSHARD_REASON_STEPS = 1,
    ALLSHARD_REASON_SECONDS = 2,
    ALLSHARD_REASON_OVERHEAD = 4, /* saves are cheap enough to save again */
    ALLSHARD_REASON_FAILURES = 8, /* mtbf_s */
    ALLSHARD_REASON_SIGNAL = 16,
    ALLSHARD_REASON_WALLTIME = 32,
    ALLSHARD_REASON_CONTROL = 64 /* allshard.control, or `allshard stop|save-now` */
};

typedef struct allshard_verdict {
    size_t size;  /* sizeof(allshard_verdict), set by the caller */
    int32_t save; /* not 0: save now */
    int32_t stop; /* not 0: stop after that; it stays so from then on */
    /* Not 0: the work is not done and the job should be started again: leave with exit status 75.
     * Signals and the job's end of time say so; a stop that a person asked for does not. */
    int32_t requeue;
    int32_t reasons;     /* of save and stop: bits of enum allshard_reason; 0: none */
    int32_t signal;      /* that was caught; 0: none */
    int32_t held;        /* not 0: `allshard hold`: saves that can wait, wait */
    double seconds_left; /* until the job's time ends; negative: not known */
    double margin_s;     /* that the last save is given before it */
    double interval_s;   /* between saves, as mtbf_s or overhead_percent ask for; 0: they do not */

    int32_t in_flight;  /* not 0: a nonblocking save is on its way */
    int32_t saved;      /* not 0: one has become durable since the last poll ... */
    int64_t saved_step; /* ... that of this step */
    int32_t failed;     /* the code of one that failed since the last poll; 0: none */
    int32_t reserved;
} allshard_verdict;

/* Save now? Stop now? The same answer on every rank, from one small reduction; nothing that is slow
 * happens in it: a thread of the main process asks the scheduler and looks at the control file.
 * Moves a nonblocking save on. To be called once a step by all ranks. Collective. ALLSHARD_INVALID,
 * _MISMATCH (steps differ), _MPI, _TIMEOUT. That a save failed is told in the verdict, its text by the log. */
ALLSHARD_API int allshard_series_poll(allshard_series *r, int64_t step, allshard_verdict *verdict);

#ifdef __cplusplus
}
#endif

#endif
