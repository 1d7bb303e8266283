/* SPDX-License-Identifier: Apache-2.0 */
#include "tensor/cast.h"

#include <stddef.h>
#include <string.h>

#include "tensor/cast_element.h"
#include "tensor/dtype.h"

/* Loops run over whole groups. Their fixed count leaves no rest to see to, which lets compilers
 * vectorise at low levels of optimisation too. */
enum { GROUP = 64, WIDEST = 8 };

/* X(from, to) of all pairs but F64 → F32. */
#define FROM_F64(X) X(F64, BF16) X(F64, F16) X(F64, F8_E4M3) X(F64, F8_E5M2)
#define FROM_F32(X) X(F32, F64) X(F32, BF16) X(F32, F16) X(F32, F8_E4M3) X(F32, F8_E5M2)
#define FROM_BF16(X) X(BF16, F64) X(BF16, F32) X(BF16, F16) X(BF16, F8_E4M3) X(BF16, F8_E5M2)
#define FROM_F16(X) X(F16, F64) X(F16, F32) X(F16, BF16) X(F16, F8_E4M3) X(F16, F8_E5M2)
#define FROM_E4M3(X)                                                                               \
    X(F8_E4M3, F64) X(F8_E4M3, F32) X(F8_E4M3, BF16) X(F8_E4M3, F16) X(F8_E4M3, F8_E5M2)
#define FROM_E5M2(X)                                                                               \
    X(F8_E5M2, F64) X(F8_E5M2, F32) X(F8_E5M2, BF16) X(F8_E5M2, F16) X(F8_E5M2, F8_E4M3)
#define PAIRS(X) FROM_F64(X) FROM_F32(X) FROM_BF16(X) FROM_F16(X) FROM_E4M3(X) FROM_E5M2(X)

/* Made by macros from the dtypes' names.
 * NOLINTBEGIN(readability-identifier-naming) */
typedef as_bits64 element_F64;
typedef as_bits32 element_F32;
typedef as_bits16 element_BF16;
typedef as_bits16 element_F16;
typedef as_bits8 element_F8_E4M3;
typedef as_bits8 element_F8_E5M2;
/* NOLINTEND(readability-identifier-naming) */

/* The loop of a pair for one set of instructions. */
#define KERNEL(set, attribute, from, to, cast)                                                     \
    attribute static void set##_##from##_##to(const void *restrict in, void *restrict out,         \
                                              int64_t groups)                                      \
    {                                                                                              \
        const element_##from *restrict x = in;                                                     \
        element_##to *restrict y = out;                                                            \
        for (int64_t g = 0; g < groups; g++, x += GROUP, y += GROUP) {                             \
            for (int i = 0; i < GROUP; i++) {                                                      \
                y[i] = cast;                                                                       \
            }                                                                                      \
        }                                                                                          \
    }

typedef void kernel(const void *restrict in, void *restrict out, int64_t groups);
typedef kernel *kernel_table[AS_DTYPE_END][AS_DTYPE_END];

#define PLAIN_KERNEL(from, to) KERNEL(plain, , from, to, as_to_##to(as_from_##from(x[i])))
PAIRS(PLAIN_KERNEL)
KERNEL(plain, , F64, F32, as_f64_to_f32(x[i]))

#define PLAIN_ENTRY(from, to) [AS_##from][AS_##to] = plain_##from##_##to,
static const kernel_table plain = {PAIRS(PLAIN_ENTRY) PLAIN_ENTRY(F64, F32)};

/* Shifts of each element by a number of its own came to x86 with AVX2. The choice is made here and
 * not by the dynamic linker (ifunc), which not every libc's does, and which would make it before a
 * sanitizer is ready. */
#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_AVX2 1
#define AVX2 __attribute__((target("avx2")))
#define AVX2_KERNEL(from, to) KERNEL(avx2, AVX2, from, to, as_to_##to(as_from_##from(x[i])))
PAIRS(AVX2_KERNEL)
KERNEL(avx2, AVX2, F64, F32, as_f64_to_f32(x[i]))

#define AVX2_ENTRY(from, to) [AS_##from][AS_##to] = avx2_##from##_##to,
static const kernel_table avx2 = {PAIRS(AVX2_ENTRY) AVX2_ENTRY(F64, F32)};
#endif

bool as_cast_known(int from, int to)
{
    return as_dtype_valid(from) && as_dtype_valid(to) && plain[from][to];
}

static void run(kernel *each, int from, int to, const char *in, char *out, int64_t count)
{
    size_t from_bytes = (size_t)as_dtype_bits(from) / 8;
    size_t to_bytes = (size_t)as_dtype_bits(to) / 8;
    int64_t groups = count / GROUP;
    size_t left = (size_t)(count % GROUP);
    each(in, out, groups);
    if (left) {
        char last_in[GROUP * WIDEST] = {0};
        char last_out[GROUP * WIDEST];
        memcpy(last_in, in + (size_t)groups * GROUP * from_bytes, left * from_bytes);
        each(last_in, last_out, 1);
        memcpy(out + (size_t)groups * GROUP * to_bytes, last_out, left * to_bytes);
    }
}

void as_cast_plain(int from, int to, const void *in, void *out, int64_t count)
{
    run(plain[from][to], from, to, in, out, count);
}

void as_cast(int from, int to, const void *in, void *out, int64_t count)
{
#ifdef HAVE_AVX2
    if (__builtin_cpu_supports("avx2")) {
        run(avx2[from][to], from, to, in, out, count);
        return;
    }
#endif
    as_cast_plain(from, to, in, out, count);
}
