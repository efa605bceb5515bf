/* Q8_0 times Q8_0 on AVX512-VNNI.
 *
 * A tile is 16 weight rows: their int8 are transposed so that a vector's 16 lanes hold 4 weights of
 * 16 rows, and one dot instruction multiplies them with 4 activations broadcast from memory. Scales
 * then cost one multiply and one fused multiply-add for 16 x 32 products, where a dot along the row
 * needs them for every 32. The instruction wants one side unsigned: weights are offset by 128, and
 * the sum starts from -128 times the activations' sum.
 *
 * Measured on one Zen 4 core with 68 MiB of weights (bench/gemm.py), against llama.cpp's own built
 * for that processor: 2.9 to 4.2 times its speed for 2 to 512 columns at k = 512, 2 to 2.6 times at
 * k = 4096; for one column, which is bound by memory, 1.0 to 1.2 times, so it too is ours, and what
 * a column gives does not depend on the others in the batch.
 */
#include "fm_gemm_q8.h"

#if defined(__x86_64__)

#include <string.h>

#include "fm_gemm_q8_x86.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")))

enum {
    STEPS = 8,     /* vectors of 4 weights in a block of 32 */
    BLOCKS = 32,   /* blocks of k at a time: a tile of 16 KiB stays in the first-level cache */
    COLUMNS = 128, /* columns at a time: what a transposed tile is used for */
    PANEL = 8,     /* columns that a tile is multiplied with at once, in registers */
    TERMS = BLOCKS * COLUMNS,
};

typedef struct {
    __m512i q[BLOCKS][STEPS]; /* [block][4 weights of each row], offset to unsigned */
    __m512 scale[BLOCKS];
} weights_tile;

/* [block][column], with `stride` columns a block. */
typedef struct {
    int32_t start[TERMS]; /* -128 * sum of the block's activations */
    float scale[TERMS];
} activation_terms;

static bool is_supported(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni") && fm_gemm_has_f16c() &&
           __builtin_cpu_supports("fma");
}

/* 32 weights of two rows in one vector. */
TARGET static inline __m512i two_rows(const fm_q8_block *low, const fm_q8_block *high) {
    const __m512i first = _mm512_castsi256_si512(_mm256_loadu_si256((const void *)low->q));
    return _mm512_inserti64x4(first, _mm256_loadu_si256((const void *)high->q), 1);
}

/* 4 x 4 transposition of 32-bit words within each 128-bit lane. */
TARGET static inline void transpose_lanes(__m512i r[4]) {
    const __m512i a = _mm512_unpacklo_epi32(r[0], r[1]);
    const __m512i b = _mm512_unpackhi_epi32(r[0], r[1]);
    const __m512i c = _mm512_unpacklo_epi32(r[2], r[3]);
    const __m512i d = _mm512_unpackhi_epi32(r[2], r[3]);
    r[0] = _mm512_unpacklo_epi64(a, c);
    r[1] = _mm512_unpackhi_epi64(a, c);
    r[2] = _mm512_unpacklo_epi64(b, d);
    r[3] = _mm512_unpackhi_epi64(b, d);
}

/* One block of 16 rows, transposed and offset. Rows are paired so that lanes come out in order. */
TARGET static inline void load_block(const fm_q8_block *a, int64_t lda, __m512i q[STEPS],
                                     __m512 *scale) {
    __m512i upper[4], lower[4];
    uint16_t scales[ROWS];
    for (int i = 0; i < 4; i++) {
        upper[i] = two_rows(a + i * lda, a + (i + 4) * lda);
        lower[i] = two_rows(a + (i + 8) * lda, a + (i + 12) * lda);
    }
    transpose_lanes(upper);
    transpose_lanes(lower);
    const __m512i offset = _mm512_set1_epi8((char)0x80);
    for (int i = 0; i < 4; i++) {
        q[i] = _mm512_xor_si512(_mm512_shuffle_i32x4(upper[i], lower[i], 0x88), offset);
        q[i + 4] = _mm512_xor_si512(_mm512_shuffle_i32x4(upper[i], lower[i], 0xDD), offset);
    }
    for (int i = 0; i < ROWS; i++) {
        scales[i] = a[i * lda].scale;
    }
    *scale = _mm512_cvtph_ps(_mm256_loadu_si256((const void *)scales));
}

TARGET static void load_tile(const fm_q8_block *a, int64_t lda, int num_blocks,
                             weights_tile *tile) {
    for (int block = 0; block < num_blocks; block++) {
        fm_gemm_prefetch_block(a + block, lda);
        load_block(a + block, lda, tile->q[block], &tile->scale[block]);
    }
}

TARGET static void sum_activations(const fm_q8_block *b, int64_t ldb, int num_blocks,
                                   int num_columns, int stride, activation_terms *terms) {
    const __m256i ones = _mm256_set1_epi8(1);
    for (int column = 0; column < num_columns; column++) {
        const fm_q8_block *row = b + column * ldb;
        for (int block = 0; block < num_blocks; block++) {
            const __m256i q = _mm256_loadu_si256((const void *)row[block].q);
            const __m256i sums = _mm256_dpbusd_epi32(_mm256_setzero_si256(), ones, q);
            __m128i sum =
                _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
            sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4E));
            sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xB1));
            terms->start[block * stride + column] = -128 * _mm_cvtsi128_si32(sum);
            terms->scale[block * stride + column] = _cvtsh_ss(row[block].scale);
        }
    }
}

/* One block of a tile times `count` columns, added to `sums`; a term has `count` neighbours. Column
 * by column within a step: each dot waits for its last, so several must be under way. */
TARGET FM_GEMM_INLINED void add_block(const __m512i q[STEPS], __m512 scale, const fm_q8_block *b,
                                      int64_t ldb, const int32_t *starts, const float *scales,
                                      __m512 sums[PANEL], const int count) {
    __m512i dots[PANEL];
    for (int j = 0; j < count; j++) {
        dots[j] = _mm512_set1_epi32(starts[j]);
    }
    for (int step = 0; step < STEPS; step++) {
        for (int j = 0; j < count; j++) {
            int32_t four;
            memcpy(&four, b[j * ldb].q + 4 * step, sizeof four);
            dots[j] = _mm512_dpbusd_epi32(dots[j], q[step], _mm512_set1_epi32(four));
        }
    }
    for (int j = 0; j < count; j++) {
        const __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(scales[j]));
        sums[j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[j]), both, sums[j]);
    }
}

/* A tile times `count` columns; `count` is a constant where this is inlined. */
TARGET FM_GEMM_INLINED void multiply_panel(const weights_tile *tile, int num_blocks,
                                           const fm_q8_block *b, int64_t ldb,
                                           const activation_terms *terms, int column, float *c,
                                           int64_t ldc, bool is_first, const int count) {
    __m512 sums[PANEL];
    for (int j = 0; j < count; j++) {
        sums[j] = is_first ? _mm512_setzero_ps() : _mm512_loadu_ps(c + j * ldc);
    }
    for (int block = 0; block < num_blocks; block++) {
        const int term = block * COLUMNS + column;
        add_block(tile->q[block], tile->scale[block], b + block, ldb, &terms->start[term],
                  &terms->scale[term], sums, count);
    }
    for (int j = 0; j < count; j++) {
        _mm512_storeu_ps(c + j * ldc, sums[j]);
    }
}

TARGET static void multiply_columns(const weights_tile *tile, int num_blocks, const fm_q8_block *b,
                                    int64_t ldb, const activation_terms *terms, int num_columns,
                                    float *c, int64_t ldc, bool is_first) {
    int j = 0;
    for (; j + PANEL <= num_columns; j += PANEL) {
        multiply_panel(tile, num_blocks, b + j * ldb, ldb, terms, j, c + j * ldc, ldc, is_first,
                       PANEL);
    }
    if (num_columns - j >= 4) {
        multiply_panel(tile, num_blocks, b + j * ldb, ldb, terms, j, c + j * ldc, ldc, is_first, 4);
        j += 4;
    }
    if (num_columns - j >= 2) {
        multiply_panel(tile, num_blocks, b + j * ldb, ldb, terms, j, c + j * ldc, ldc, is_first, 2);
        j += 2;
    }
    if (j < num_columns) {
        multiply_panel(tile, num_blocks, b + j * ldb, ldb, terms, j, c + j * ldc, ldc, is_first, 1);
    }
}

/* Few columns: bound by reading the weights, so rows are read whole, in the order of memory, and
 * multiplied where they are transposed, in registers. `count` is a constant where inlined. */
TARGET FM_GEMM_INLINED void multiply_rows(int64_t first, int64_t last, int num_blocks,
                                          const fm_q8_block *a, int64_t lda, const fm_q8_block *b,
                                          int64_t ldb, const activation_terms *terms, float *c,
                                          int64_t ldc, bool is_first, const int count) {
    const int64_t ahead = fm_gemm_ahead(lda);
    for (int64_t i = first; i < last; i++) {
        const fm_q8_block *rows = a + i * ROWS * lda;
        const uintptr_t next = (uintptr_t)rows + (uintptr_t)ahead;
        float *out = c + i * ROWS;
        __m512 sums[PANEL];
        for (int j = 0; j < count; j++) {
            sums[j] = is_first ? _mm512_setzero_ps() : _mm512_loadu_ps(out + j * ldc);
        }
        for (int block = 0; block < num_blocks; block++) {
            __m512i q[STEPS];
            __m512 scale;
            fm_gemm_prefetch_line(next, block);
            load_block(rows + block, lda, q, &scale);
            add_block(q, scale, b + block, ldb, &terms->start[block * PANEL],
                      &terms->scale[block * PANEL], sums, count);
        }
        for (int j = 0; j < count; j++) {
            _mm512_storeu_ps(out + j * ldc, sums[j]);
        }
    }
}

#define NARROW(count)                                                                          \
    case count:                                                                                \
        multiply_rows(first, last, num_blocks, a + block, lda, b + block, ldb, &terms, c, ldc, \
                      block == 0, count);                                                      \
        break

TARGET static void multiply_narrow(int64_t first, int64_t last, int64_t n, int64_t k,
                                   const fm_q8_block *a, int64_t lda, const fm_q8_block *b,
                                   int64_t ldb, float *c, int64_t ldc) {
    activation_terms terms;
    for (int64_t block = 0; block < k; block += TERMS / PANEL) {
        const int num_blocks = (int)(k - block < TERMS / PANEL ? k - block : TERMS / PANEL);
        sum_activations(b + block, ldb, num_blocks, (int)n, PANEL, &terms);
        switch (n) {
            NARROW(1);
            NARROW(2);
            NARROW(3);
            NARROW(4);
            NARROW(5);
            NARROW(6);
            NARROW(7);
            NARROW(8);
        }
    }
}

TARGET static void multiply_wide(int64_t first, int64_t last, int64_t n, int64_t k,
                                 const fm_q8_block *a, int64_t lda, const fm_q8_block *b,
                                 int64_t ldb, float *c, int64_t ldc) {
    weights_tile tile;      /* about 18 KiB */
    activation_terms terms; /* 32 KiB */
    for (int64_t column = 0; column < n; column += COLUMNS) {
        const int num_columns = (int)(n - column < COLUMNS ? n - column : COLUMNS);
        for (int64_t block = 0; block < k; block += BLOCKS) {
            const int num_blocks = (int)(k - block < BLOCKS ? k - block : BLOCKS);
            const fm_q8_block *columns = b + column * ldb + block;
            sum_activations(columns, ldb, num_blocks, num_columns, COLUMNS, &terms);
            for (int64_t i = first; i < last; i++) {
                load_tile(a + i * ROWS * lda + block, lda, num_blocks, &tile);
                multiply_columns(&tile, num_blocks, columns, ldb, &terms, num_columns,
                                 c + column * ldc + i * ROWS, ldc, block == 0);
            }
        }
    }
}

const fm_gemm_q8_kernel fm_gemm_q8_avx512 = {
    .name = "avx512vnni",
    .rows = ROWS,
    .min_columns = 1,
    .max_narrow = PANEL,
    .is_supported = is_supported,
    .is_faster = is_supported,
    .multiply_narrow = multiply_narrow,
    .multiply_wide = multiply_wide,
};

#endif
