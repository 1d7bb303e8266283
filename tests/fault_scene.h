/* SPDX-License-Identifier: Apache-2.0
 * For the fault matrices on many ranks: an old and a new checkpoint, what a folder holds, the calls
 * of an action, every fault at every call on every rank, and what must be true after each.
 */
#ifndef ALLSHARD_TESTS_FAULT_SCENE_H
#define ALLSHARD_TESTS_FAULT_SCENE_H

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint_folder.h"
#include "mpi_counts.h"
#include "support_faults.h"
#include "support_model.h"
#include "support_ranks.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define MANIFEST "allshard.manifest.json"

enum { CASE_SECONDS = 120 };

/* ---- what a folder holds ---- */

enum { MOST_FILES = 16 };

typedef struct picture {
    int count;
    char *names[MOST_FILES];
    char *bytes[MOST_FILES];
    size_t sizes[MOST_FILES];
    bool leftovers; /* .allshard */
} picture;

static inline void free_picture(picture *p)
{
    for (int i = 0; i < p->count; i++) {
        free(p->names[i]);
        free(p->bytes[i]);
    }
    *p = (picture){0};
}

static inline void take_picture(const char *dir, picture *p)
{
    struct dirent **entries = NULL;
    *p = (picture){0};
    int count = scandir(dir, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;
        if (strcmp(name, ".allshard") == 0) {
            p->leftovers = true;
        } else if (name[0] != '.') {
            char path[1024];
            struct stat status;
            (void)snprintf(path, sizeof path, "%s/%s", dir, name);
            int fd = open(path, O_RDONLY | O_NOFOLLOW);
            must(fd >= 0 && fstat(fd, &status) == 0 && p->count < MOST_FILES, path);
            char *bytes = malloc((size_t)status.st_size + 1);
            must(bytes && pread(fd, bytes, (size_t)status.st_size, 0) == status.st_size, path);
            (void)close(fd);
            p->names[p->count] = strdup(name);
            p->bytes[p->count] = bytes;
            p->sizes[p->count++] = (size_t)status.st_size;
        }
        free(entries[i]);
    }
    free(entries);
}

/* The same files with the same bytes; of the manifest of another save only that it is there. */
static inline bool same_picture(const picture *a, const picture *b, bool same_save)
{
    bool same = a->count == b->count;
    for (int i = 0; same && i < a->count; i++) {
        same = strcmp(a->names[i], b->names[i]) == 0;
        if (same && (same_save || strcmp(a->names[i], MANIFEST) != 0)) {
            same = a->sizes[i] == b->sizes[i] && memcmp(a->bytes[i], b->bytes[i], a->sizes[i]) == 0;
        }
    }
    return same;
}

static inline void put_picture(const char *dir, const picture *p)
{
    remove_tree(dir);
    must(mkdir(dir, 0777) == 0, dir);
    for (int i = 0; i < p->count; i++) {
        char path[1024];
        (void)snprintf(path, sizeof path, "%s/%s", dir, p->names[i]);
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0666);
        must(fd >= 0 && write(fd, p->bytes[i], p->sizes[i]) == (ssize_t)p->sizes[i], path);
        (void)close(fd);
    }
}

/* ---- two checkpoints ---- */

static const model_tensor old_tensors[] = {
    {"old.weight", ALLSHARD_F32, 2, {40, 90}},
    {"old.bias", ALLSHARD_BF16, 1, {500}},
    {"old.norm", ALLSHARD_F32, 1, {3000}},
};
static const model_tensor new_tensors[] = {
    {"embed", ALLSHARD_F32, 2, {60, 70}},
    {"layer.weight", ALLSHARD_BF16, 2, {90, 80}},
    {"layer.bias", ALLSHARD_F32, 1, {90}},
};
static const model model_old = {old_tensors, COUNT(old_tensors)};
static const model model_new = {new_tensors, COUNT(new_tensors)};

typedef struct side {
    holding h;
    allshard_state *s;
} side;

static const char *folder;
static picture old_picture, new_picture; /* on rank 0 */

static inline void open_side(allshard *context, side *x, const model *m)
{
    static const char config[] = "{\"a small file\": true}";
    holding_make(&x->h, m, LAYOUT_COLUMNS, world_rank(), world_size(), true);
    GOOD(context, allshard_state_create(&x->s, context, "model"));
    holding_declare(&x->h, context, x->s);
    GOOD(context, allshard_state_file(x->s, "config.json", config,
                                      m == &model_old ? sizeof config : sizeof config - 1));
    holding_fill(&x->h);
}

static inline void close_side(side *x)
{
    (void)allshard_state_free(x->s);
    holding_free(&x->h);
}

static inline allshard_save_options side_options(const char *engine)
{
    return (allshard_save_options){.size = sizeof(allshard_save_options),
                                   .max_shard_size = "17KB",
                                   .block_bytes = 4096,
                                   .engine = engine};
}

static inline int save_side(side *x, const char *engine)
{
    allshard_save_options o = side_options(engine);
    return allshard_save(x->s, folder, &o);
}

static inline int load_side(side *x, const char *engine)
{
    allshard_load_options o = {.size = sizeof o, .block_bytes = 4096, .engine = engine};
    holding_clear(&x->h);
    return allshard_load(x->s, folder, &o);
}

/* What was staged may change: bytes that are not to be in a checkpoint. */
static inline void spoil_side(side *x)
{
    for (size_t i = 0; i < x->h.count; i++) {
        memset(x->h.pieces[i].memory, 0xEE, x->h.pieces[i].bytes);
    }
}

/* Few buffers and all columns between each other: messages are always under way. A stream has room
 * for two blocks at a time. */
static inline allshard_options context_options(int32_t staging)
{
    enum { TWO_BLOCKS = 8192 };
    return (allshard_options){.size = sizeof(allshard_options),
                              .memory = 1,
                              .snapshot_memory = staging == ALLSHARD_STAGE_STREAM ? TWO_BLOCKS : 0};
}

static inline allshard *open_context(int32_t staging)
{
    allshard *context = NULL;
    allshard_options options = context_options(staging);
    CHECK(allshard_open(&context, world_comm(), &options) == ALLSHARD_OK);
    return context;
}

/* ---- cases ---- */

typedef struct trouble {
    const char *name;
    enum fault_mode mode;
    int error;
} trouble;

static const trouble troubles[] = {
    {"EIO", FAULT_FAIL, EIO},
    {"ENOSPC", FAULT_FAIL, ENOSPC},
    {"EDQUOT", FAULT_FAIL, EDQUOT},
    {"EINTR", FAULT_FAIL, EINTR},
    {"EACCES", FAULT_FAIL, EACCES},
    {"EMFILE", FAULT_FAIL, EMFILE},
    {"a short count", FAULT_SHORT, 0},
    {"a lie, EIO", FAULT_LIE, EIO},
    {"EROFS from then on", FAULT_DEAD_DISK, EROFS},
    {"ENOSPC from then on", FAULT_FULL_DISK, ENOSPC},
};

/* Everything goes wrong from some call on: nothing can be tidied up, and it is not the first that
 * must be told of. */
static inline bool is_lasting(const trouble *t)
{
    return t->mode == FAULT_DEAD_DISK || t->mode == FAULT_FULL_DISK;
}

/* A context of its own for each case makes all calls of a first save, the trial of the engine
 * among them. */
typedef struct scene {
    const char *engine; /* NULL: auto */
    bool fresh;
    int32_t staging; /* of nonblocking saves */
} scene;

static const scene scenes[] = {
    {"posix", false, 0}, {"direct", false, 0}, {"uring", false, 0},
    {"uring", true, 0},  {NULL, true, 0},
};

/* ALLSHARD_SCENES, of the digits 1 to 5, tries those alone: to repeat what failed. */
static inline bool is_wanted(size_t number)
{
    const char *wanted = getenv("ALLSHARD_SCENES");
    return !wanted || !*wanted || strchr(wanted, (int)('1' + number)) != NULL;
}

typedef struct fault_case {
    const scene *scene;
    const trouble *trouble;
    int victim; /* rank; the number of ranks: all of them */
    int at;     /* number of the call */
} fault_case;

static struct {
    uint64_t seed;
    const scene *scenes;
    unsigned one_in; /* so many cases one is tried */
    int tried, reached, absorbed, failed, pending, unknown;
} matrix;

static inline const char *scene_text(const scene *s)
{
    static char text[64];
    (void)snprintf(text, sizeof text, "%s%s%s", s->engine ? s->engine : "auto",
                   s->fresh ? ", fresh" : "",
                   s->staging == ALLSHARD_STAGE_SNAPSHOT ? ", snapshot"
                   : s->staging == ALLSHARD_STAGE_STREAM ? ", stream"
                                                         : "");
    return text;
}

static inline const char *case_text(const fault_case *c)
{
    static char text[200];
    (void)snprintf(text, sizeof text, "%s, rank %d%s, call %d: %s", scene_text(c->scene), c->victim,
                   c->victim == world_size() ? " (all)" : "", c->at, c->trouble->name);
    return text;
}

/* One in so many, but others with another seed. */
static inline bool is_chosen(const fault_case *c)
{
    uint64_t x = matrix.seed * UINT64_C(0x9E3779B97F4A7C15) +
                 (uint64_t)(c->scene - matrix.scenes) * 1000003U +
                 (uint64_t)(c->trouble - troubles) * 10007U + (uint64_t)c->victim * 101U +
                 (uint64_t)c->at * 7919U;
    x ^= x >> 31;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 29;
    return x % matrix.one_in == 0;
}

static inline void begin_case(const fault_case *c, const char *what)
{
    ranks_scene("%s, %s", what, case_text(c));
    ranks_again();
    bool mine = c->victim == world_rank() || c->victim == world_size();
    fault_set(mine ? c->trouble->mode : FAULT_NONE, c->at, c->trouble->error);
}

/* What happened, of the lowest rank where anything did; the same on every rank. */
typedef struct hit {
    int rank; /* -1: none */
    fault_event event;
} hit;

static inline hit end_case(void)
{
    hit h = {.rank = -1, .event = *fault_first_hit()};
    (void)fault_end();
    int64_t lowest = ranks_max(world_comm(), h.event.happened ? world_size() - world_rank() : 0);
    h.rank = lowest > 0 ? world_size() - (int)lowest : -1;
    (void)MPI_Bcast(&h.event, (int)sizeof h.event, MPI_BYTE, h.rank < 0 ? 0 : h.rank, world_comm());
    return h;
}

/* Calls that signals interrupt, and that are then to be made again. */
static inline bool is_made_again(const fault_case *c, const fault_event *event)
{
    if (c->trouble->mode == FAULT_SHORT || !event->happened) {
        return true;
    }
    switch (event->call) {
    case ON_OPEN:
    case ON_CREATE:
    case ON_DIRECT:
    case ON_CLOSE:
    case ON_PREAD:
    case ON_PREADV2:
    case ON_PWRITE:
    case ON_FSYNC:
    case ON_FTRUNCATE:
    case ON_FALLOCATE:
    case ON_FLOCK:
    case ON_URING_SUBMIT:
    case ON_URING_PEEK:
        return c->trouble->mode == FAULT_FAIL && c->trouble->error == EINTR;
    default:
        return false;
    }
}

/* Must it go well all the same? The same on every rank. */
static inline bool is_absorbed(const fault_case *c)
{
    return ranks_max(world_comm(), !is_made_again(c, fault_first_hit())) == 0;
}

/* The file that the call was about, as texts should name it; static. */
static inline const char *name_in_texts(const fault_event *event)
{
    static char name[600];
    const char *tail = strrchr(event->path, '/');
    (void)snprintf(name, sizeof name, "%s", tail ? tail + 1 : "");
    if (strncmp(event->path, folder, strlen(folder)) != 0 || name[strspn(name, ".")] == '\0' ||
        strstr(name, "(deleted)") || strncmp(name, ".allshard-trial", 15) == 0) {
        return "";
    }
    if (strncmp(name, "lock-", 5) == 0) {
        return "lock"; /* on its way to that name */
    }
    return name;
}

/* The same error on every rank, with rank, host, file and cause. */
static inline void check_error(allshard *context, int code, const fault_case *c, const hit *h)
{
    allshard_error e = {.size = sizeof e};
    fault_event event = h->event;
    FAILS(context, code, code, folder);
    (void)allshard_last_error(context, &e);
    if (c->victim == world_size()) {
        event = *fault_first_hit();
        (void)MPI_Bcast(&event, (int)sizeof event, MPI_BYTE, e.rank, world_comm());
    }
    CHECK_TEXT(e.rank == h->rank || c->victim == world_size(),
               "%s: the error is said to be rank %d's: %s", case_text(c), e.rank, e.text);
    CHECK_TEXT(strstr(e.text, strerror(c->trouble->error)) != NULL, "%s: the cause is not in: %s",
               case_text(c), e.text);
    CHECK_TEXT(e.sys_errno == c->trouble->error, "%s: errno %d: %s", case_text(c), e.sys_errno,
               e.text);
    CHECK_TEXT(is_lasting(c->trouble) || strstr(e.text, name_in_texts(&event)) != NULL,
               "%s: %s of \"%s\" failed, which is not in: %s", case_text(c),
               fault_call_name(event.call), event.path, e.text);
}

static inline void count_code(int code, bool reached)
{
    matrix.tried++;
    matrix.reached += reached;
    matrix.absorbed += reached && code == ALLSHARD_OK;
    matrix.pending += code == ALLSHARD_PENDING;
    matrix.unknown += code == ALLSHARD_UNKNOWN;
    matrix.failed += code != ALLSHARD_OK && code != ALLSHARD_PENDING && code != ALLSHARD_UNKNOWN;
}

/* Every fault on first, middle, last and all ranks, at each of calls[rank] calls and a few more. */
static inline void try_all(const scene *s, const int *calls, void (*one)(const fault_case *c))
{
    int ranks = world_size();
    for (int victim = 0; victim <= ranks; victim++) {
        int most = calls[victim < ranks ? victim : 0];
        for (size_t t = 0; t < COUNT(troubles); t++) {
            for (int at = 1; at <= most; at++) {
                fault_case c = {.scene = s, .trouble = &troubles[t], .victim = victim, .at = at};
                if (is_chosen(&c)) {
                    one(&c);
                }
            }
        }
    }
}

static inline void share_calls(int own, int *calls)
{
    for (int r = 0; r < world_size(); r++) {
        calls[r] = (int)ranks_max(world_comm(), r == world_rank() ? own : 0);
    }
}

/* Seed and share of the matrix; both checkpoints and their pictures; the folder holds the new. */
static inline void begin_matrix(const scene *its_scenes, unsigned one_in)
{
    const char *seed = getenv("ALLSHARD_SEED");
    const char *all = getenv("ALLSHARD_LONG");
    matrix.seed = seed && *seed ? strtoull(seed, NULL, 10) : 1;
    matrix.scenes = its_scenes;
    matrix.one_in = all && *all && strcmp(all, "0") != 0 ? 1 : one_in;
    folder = strdup(scratch_path("folder"));
    allshard *context = open_context(0);
    side first;
    side second;
    open_side(context, &first, &model_old);
    open_side(context, &second, &model_new);
    GOOD(context, save_side(&first, NULL));
    if (world_rank() == 0) {
        take_picture(folder, &old_picture);
    }
    GOOD(context, save_side(&second, NULL));
    if (world_rank() == 0) {
        take_picture(folder, &new_picture);
    }
    close_side(&first);
    close_side(&second);
    CHECK(allshard_close(context) == ALLSHARD_OK);
    fault_install();
}

static inline void end_scene(const scene *s, const int *calls, int tried, double start)
{
    if (world_rank() == 0) {
        (void)printf("%s: %d, %d, %d calls, %d faults, %.0f s\n", scene_text(s), calls[0], calls[1],
                     calls[2], matrix.tried - tried, seconds_now() - start);
        (void)fflush(stdout);
    }
}

static inline int end_pictures(void)
{
    free_picture(&old_picture);
    free_picture(&new_picture);
    free((void *)(uintptr_t)folder);
    return ranks_end();
}

static inline int end_matrix(const char *what)
{
    if (world_rank() == 0) {
        (void)printf("%s, seed %llu, one of %u cases: %d faults, %d reached: %d done all the same, "
                     "%d failed, %d pending, %d unknown\n",
                     what, (unsigned long long)matrix.seed, matrix.one_in, matrix.tried,
                     matrix.reached, matrix.absorbed, matrix.failed, matrix.pending,
                     matrix.unknown);
    }
    return end_pictures();
}

#endif
