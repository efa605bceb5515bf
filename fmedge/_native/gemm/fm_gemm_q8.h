/* The kernels: Q8_0 weights times Q8_0 activations to float. */
#ifndef FM_GEMM_Q8_H
#define FM_GEMM_Q8_H

#include <stdbool.h>
#include <stdint.h>

/* ggml's block of 32 weights; 34 bytes, so blocks are not aligned. */
typedef struct {
    uint16_t scale; /* IEEE half */
    int8_t q[32];
} fm_q8_block;

/* C[j * ldc + i] = sum over blocks of A[i] . B[j], for the tiles first to last - 1 of the rows.
 *
 * a: rows of k blocks, lda blocks apart; b: n rows of k blocks, ldb blocks apart. An element's bits
 * do not depend on n, first, last or on the other rows and columns. */
typedef void (*fm_gemm_q8_function)(int64_t first, int64_t last, int64_t n, int64_t k,
                                    const fm_q8_block *a, int64_t lda, const fm_q8_block *b,
                                    int64_t ldb, float *c, int64_t ldc);

typedef struct {
    const char *name;
    int rows;        /* of a tile; the number of rows must be a multiple */
    int min_columns; /* below, llama.cpp's own is as fast */
    int max_narrow;  /* up to so many columns are multiplied narrow */
    bool (*is_supported)(void);
    bool (*is_faster)(void); /* than llama.cpp's own on this processor, which supports it */
    fm_gemm_q8_function multiply_narrow, multiply_wide;
} fm_gemm_q8_kernel;

#if defined(__x86_64__)
extern const fm_gemm_q8_kernel fm_gemm_q8_avx512;
extern const fm_gemm_q8_kernel fm_gemm_q8_avx2;
#endif

#endif
