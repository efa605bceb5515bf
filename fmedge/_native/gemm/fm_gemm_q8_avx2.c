/* Q8_0 times Q8_0 on AVX2.
 *
 * As in the AVX512 kernel a tile is 16 weight rows, transposed so that a vector's lanes hold
 * different rows and a scale costs little. The dot is of 16-bit numbers, widened once for each tile
 * and each column: exact for all values, where the 8-bit instruction saturates, and no slower than
 * the 8-bit one, which needs a sign moved and its sums widened. A 32-bit lane holds bytes 0 and 2
 * (even) or 1 and 3 (odd) of four, since that takes shifts alone.
 *
 * Measured on one Zen 4 core against llama.cpp's sgemm.cpp compiled for AVX2 alone: 1.4 to 2.3
 * times its speed for 2 to 512 columns at k = 512, 1.2 to 1.5 times at k = 4096, and 0.7 to 0.8
 * times for one column, which stays llama.cpp's. Against a build with VNNI it was 0.9 to 2.6 times,
 * so it is not chosen where the processor has that.
 */
#include "fm_gemm_q8.h"

#if defined(__x86_64__)

#include "fm_gemm_q8_x86.h"

#define TARGET __attribute__((target("avx2,f16c,fma")))

/* Compilers move the additions behind all products, for which there are not enough registers. */
#define KEEP_HERE(vector) __asm__("" : "+x"(vector))

enum {
    LANES = 8,
    GROUPS = ROWS / LANES,
    QUADS = 8,    /* of 4 weights in a block of 32 */
    STEPS = 16,   /* vectors of 2 weights in a block: even and odd of each quad */
    BLOCKS = 16,  /* blocks of k at a time: a tile of 16 KiB stays in the first-level cache */
    COLUMNS = 64, /* columns at a time: what a transposed tile is used for */
    PANEL = 4,    /* columns that a tile is multiplied with at once, in registers */
    TERMS = BLOCKS * COLUMNS,
};

typedef struct {
    __m256i q[STEPS][GROUPS]; /* [2 weights][8 rows] */
    __m256 scale[GROUPS];
} weights_block;

/* A block of a column: pairs as in weights_block, 32 bits a step. */
typedef struct {
    int32_t q[STEPS];
    float scale;
} activation_block;

static bool is_supported(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && fm_gemm_has_f16c();
}

/* Not beside AVX-VNNI or AVX512-VNNI, with which llama.cpp's own has a shorter dot than this. */
static bool is_faster(void) {
    enum { AVX_VNNI = 1 << 4, AVX512_VNNI = 1 << 11 }; /* of leaf 7: 1 in eax, 0 in ecx */
    unsigned a = 0, b = 0, c = 0, d = 0;
    const bool has_avx_vnni = __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & AVX_VNNI);
    const bool has_avx512_vnni = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c & AVX512_VNNI);
    return !has_avx_vnni && !has_avx512_vnni;
}

TARGET FM_GEMM_INLINED __m256i even_bytes(__m256i q) {
    return _mm256_srai_epi16(_mm256_slli_epi16(q, 8), 8);
}

TARGET FM_GEMM_INLINED __m256i odd_bytes(__m256i q) {
    return _mm256_srai_epi16(q, 8);
}

/* 16 weights of two rows in one vector. */
TARGET FM_GEMM_INLINED __m256i two_rows(const int8_t *low, const int8_t *high) {
    const __m256i first = _mm256_castsi128_si256(_mm_loadu_si128((const void *)low));
    return _mm256_inserti128_si256(first, _mm_loadu_si128((const void *)high), 1);
}

/* 16 weights of 8 rows, as 4 quads. */
TARGET FM_GEMM_INLINED void load_quads(const fm_q8_block *a, int64_t lda, int from,
                                       weights_block *to, int group) {
    __m256i r[4], q[4];
    for (int i = 0; i < 4; i++) {
        r[i] = two_rows(a[i * lda].q + from, a[(i + 4) * lda].q + from);
    }
    const __m256i r01 = _mm256_unpacklo_epi32(r[0], r[1]), s01 = _mm256_unpackhi_epi32(r[0], r[1]);
    const __m256i r23 = _mm256_unpacklo_epi32(r[2], r[3]), s23 = _mm256_unpackhi_epi32(r[2], r[3]);
    q[0] = _mm256_unpacklo_epi64(r01, r23);
    q[1] = _mm256_unpackhi_epi64(r01, r23);
    q[2] = _mm256_unpacklo_epi64(s01, s23);
    q[3] = _mm256_unpackhi_epi64(s01, s23);
    for (int i = 0; i < 4; i++) {
        const int quad = from / 4 + i;
        to->q[quad][group] = even_bytes(q[i]);
        to->q[quad + QUADS][group] = odd_bytes(q[i]);
    }
}

TARGET FM_GEMM_INLINED void load_block(const fm_q8_block *a, int64_t lda, weights_block *to) {
    for (int group = 0; group < GROUPS; group++) {
        const fm_q8_block *rows = a + group * LANES * lda;
        uint16_t scales[LANES];
        load_quads(rows, lda, 0, to, group);
        load_quads(rows, lda, 16, to, group);
        for (int i = 0; i < LANES; i++) {
            scales[i] = rows[i * lda].scale;
        }
        to->scale[group] = _mm256_cvtph_ps(_mm_loadu_si128((const void *)scales));
    }
}

/* to: [column][block], with num_blocks a column. */
TARGET static void widen_activations(const fm_q8_block *b, int64_t ldb, int num_blocks,
                                     int num_columns, activation_block *to) {
    for (int column = 0; column < num_columns; column++) {
        for (int block = 0; block < num_blocks; block++, to++) {
            const fm_q8_block *from = b + column * ldb + block;
            const __m256i q = _mm256_loadu_si256((const void *)from->q);
            _mm256_storeu_si256((void *)to->q, even_bytes(q));
            _mm256_storeu_si256((void *)(to->q + QUADS), odd_bytes(q));
            to->scale = _cvtsh_ss(from->scale);
        }
    }
}

/* One block of a tile times `count` columns, added to `sums`. */
TARGET FM_GEMM_INLINED void add_block(const weights_block *a, const activation_block *b,
                                      int num_blocks, __m256 sums[PANEL][GROUPS], const int count) {
    __m256i dots[PANEL][GROUPS];
    for (int j = 0; j < count; j++) {
        dots[j][0] = dots[j][1] = _mm256_setzero_si256();
    }
    for (int step = 0; step < STEPS; step++) {
        const __m256i low = a->q[step][0], high = a->q[step][1];
        for (int j = 0; j < count; j++) {
            const __m256i two = _mm256_set1_epi32(b[j * num_blocks].q[step]);
            dots[j][0] = _mm256_add_epi32(dots[j][0], _mm256_madd_epi16(low, two));
            dots[j][1] = _mm256_add_epi32(dots[j][1], _mm256_madd_epi16(high, two));
            KEEP_HERE(dots[j][0]);
            KEEP_HERE(dots[j][1]);
        }
    }
    for (int j = 0; j < count; j++) {
        const __m256 scale = _mm256_set1_ps(b[j * num_blocks].scale);
        for (int group = 0; group < GROUPS; group++) {
            sums[j][group] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[j][group]),
                                             _mm256_mul_ps(a->scale[group], scale), sums[j][group]);
        }
    }
}

TARGET FM_GEMM_INLINED void load_sums(const float *c, int64_t ldc, bool is_first,
                                      __m256 sums[PANEL][GROUPS], const int count) {
    for (int j = 0; j < count; j++) {
        for (int group = 0; group < GROUPS; group++) {
            sums[j][group] =
                is_first ? _mm256_setzero_ps() : _mm256_loadu_ps(c + j * ldc + group * LANES);
        }
    }
}

TARGET FM_GEMM_INLINED void store_sums(__m256 sums[PANEL][GROUPS], float *c, int64_t ldc,
                                       const int count) {
    for (int j = 0; j < count; j++) {
        for (int group = 0; group < GROUPS; group++) {
            _mm256_storeu_ps(c + j * ldc + group * LANES, sums[j][group]);
        }
    }
}

/* A tile times `count` columns; `count` is a constant where this is inlined. */
TARGET FM_GEMM_INLINED void multiply_panel(const weights_block *tile, int num_blocks,
                                           const activation_block *b, float *c, int64_t ldc,
                                           bool is_first, const int count) {
    __m256 sums[PANEL][GROUPS];
    load_sums(c, ldc, is_first, sums, count);
    for (int block = 0; block < num_blocks; block++) {
        add_block(tile + block, b + block, num_blocks, sums, count);
    }
    store_sums(sums, c, ldc, count);
}

TARGET static void multiply_columns(const weights_block *tile, int num_blocks,
                                    const activation_block *b, int num_columns, float *c,
                                    int64_t ldc, bool is_first) {
    int j = 0;
    for (; j + PANEL <= num_columns; j += PANEL) {
        multiply_panel(tile, num_blocks, b + j * num_blocks, c + j * ldc, ldc, is_first, PANEL);
    }
    if (num_columns - j >= 2) {
        multiply_panel(tile, num_blocks, b + j * num_blocks, c + j * ldc, ldc, is_first, 2);
        j += 2;
    }
    if (j < num_columns) {
        multiply_panel(tile, num_blocks, b + j * num_blocks, c + j * ldc, ldc, is_first, 1);
    }
}

/* Few columns: rows are read whole, in the order of memory. `count` is a constant where inlined. */
TARGET FM_GEMM_INLINED void multiply_rows(int64_t first, int64_t last, int num_blocks,
                                          const fm_q8_block *a, int64_t lda,
                                          const activation_block *b, float *c, int64_t ldc,
                                          bool is_first, const int count) {
    weights_block weights;
    const int64_t ahead = fm_gemm_ahead(lda);
    for (int64_t i = first; i < last; i++) {
        __m256 sums[PANEL][GROUPS];
        load_sums(c + i * ROWS, ldc, is_first, sums, count);
        for (int block = 0; block < num_blocks; block++) {
            const fm_q8_block *rows = a + i * ROWS * lda;
            const uintptr_t next = (uintptr_t)rows + (uintptr_t)ahead;
            fm_gemm_prefetch_line(next, block);
            load_block(rows + block, lda, &weights);
            add_block(&weights, b + block, num_blocks, sums, count);
        }
        store_sums(sums, c + i * ROWS, ldc, count);
    }
}

TARGET static void multiply_narrow(int64_t first, int64_t last, int64_t n, int64_t k,
                                   const fm_q8_block *a, int64_t lda, const fm_q8_block *b,
                                   int64_t ldb, float *c, int64_t ldc) {
    activation_block activations[TERMS];
    for (int64_t block = 0; block < k; block += TERMS / PANEL) {
        const int num_blocks = (int)(k - block < TERMS / PANEL ? k - block : TERMS / PANEL);
        const fm_q8_block *rows = a + block;
        const bool is_first = block == 0;
        widen_activations(b + block, ldb, num_blocks, (int)n, activations);
        switch (n) {
            case 1:
                multiply_rows(first, last, num_blocks, rows, lda, activations, c, ldc, is_first, 1);
                break;
            case 2:
                multiply_rows(first, last, num_blocks, rows, lda, activations, c, ldc, is_first, 2);
                break;
            case 3:
                multiply_rows(first, last, num_blocks, rows, lda, activations, c, ldc, is_first, 3);
                break;
            default:
                multiply_rows(first, last, num_blocks, rows, lda, activations, c, ldc, is_first, 4);
        }
    }
}

TARGET static void multiply_wide(int64_t first, int64_t last, int64_t n, int64_t k,
                                 const fm_q8_block *a, int64_t lda, const fm_q8_block *b,
                                 int64_t ldb, float *c, int64_t ldc) {
    weights_block tile[BLOCKS];          /* 17 KiB */
    activation_block activations[TERMS]; /* 68 KiB */
    for (int64_t column = 0; column < n; column += COLUMNS) {
        const int num_columns = (int)(n - column < COLUMNS ? n - column : COLUMNS);
        for (int64_t block = 0; block < k; block += BLOCKS) {
            const int num_blocks = (int)(k - block < BLOCKS ? k - block : BLOCKS);
            widen_activations(b + column * ldb + block, ldb, num_blocks, num_columns, activations);
            for (int64_t i = first; i < last; i++) {
                const fm_q8_block *rows = a + i * ROWS * lda + block;
                for (int j = 0; j < num_blocks; j++) {
                    fm_gemm_prefetch_block(rows + j, lda);
                    load_block(rows + j, lda, &tile[j]);
                }
                multiply_columns(tile, num_blocks, activations, num_columns,
                                 c + column * ldc + i * ROWS, ldc, block == 0);
            }
        }
    }
}

const fm_gemm_q8_kernel fm_gemm_q8_avx2 = {
    .name = "avx2",
    .rows = ROWS,
    .min_columns = 2,
    .max_narrow = PANEL,
    .is_supported = is_supported,
    .is_faster = is_faster,
    .multiply_narrow = multiply_narrow,
    .multiply_wide = multiply_wide,
};

#endif
