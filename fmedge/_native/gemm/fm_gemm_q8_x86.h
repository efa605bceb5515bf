/* What the x86 kernels share: a tile of 16 weight rows, and how it is fetched ahead.
 *
 * 16 rows at once are too many streams for the hardware's prefetcher: without these hints a
 * single column took 1.5 to 3 times as long. Into the second-level cache (T1): into the first, as
 * long as without. */
#ifndef FM_GEMM_Q8_X86_H
#define FM_GEMM_Q8_X86_H

#include <cpuid.h>
#include <immintrin.h>

#include "fm_gemm_q8.h"

/* Always: GCC takes a function that only prefetches for one without effect, and drops the call. */
#define FM_GEMM_INLINED static inline __attribute__((always_inline))

enum {
    ROWS = 16,
    LINE = 64, /* bytes of a cache line */
    BLOCK_LINES = (ROWS * (int)sizeof(fm_q8_block) + LINE - 1) / LINE,
    AHEAD = 64 * 1024, /* bytes, at least; 32 to 128 KiB were alike */
};

/* clang 14 cannot ask for it by name. */
static inline bool fm_gemm_has_f16c(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

/* Bytes ahead of a tile that is read whole: of whole tiles, whose bytes follow each other. */
static inline int64_t fm_gemm_ahead(int64_t lda) {
    const int64_t tile = ROWS * lda * (int64_t)sizeof(fm_q8_block);
    return (AHEAD + tile - 1) / tile * tile;
}

/* `next`: fm_gemm_ahead() after the tile. Its lines are shared out among the tile's blocks. */
FM_GEMM_INLINED void fm_gemm_prefetch_line(uintptr_t next, int block) {
    for (int line = 0; line < BLOCK_LINES; line++) {
        _mm_prefetch((const char *)(next + (block * BLOCK_LINES + line) * LINE), _MM_HINT_T1);
    }
}

/* The same block of the next tile, where a tile is read in parts. */
FM_GEMM_INLINED void fm_gemm_prefetch_block(const fm_q8_block *block, int64_t lda) {
    const uintptr_t next = (uintptr_t)block + ROWS * lda * sizeof *block;
    for (int i = 0; i < ROWS; i++) {
        _mm_prefetch((const char *)(next + i * lda * sizeof *block), _MM_HINT_T1);
    }
}

#endif
