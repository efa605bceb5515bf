/* The kernel: Q8_0 weights times Q8_0 activations to float. */
#ifndef FM_GEMM_Q8_H
#define FM_GEMM_Q8_H

#include <stdbool.h>
#include <stdint.h>

enum {
    FM_GEMM_ROWS = 16,       /* weight rows of a tile: the lanes of a vector */
    FM_GEMM_MIN_COLUMNS = 1,
};

/* ggml's block of 32 weights; 34 bytes, so blocks are not aligned. */
typedef struct {
    uint16_t scale; /* IEEE half */
    int8_t q[32];
} fm_q8_block;

bool fm_gemm_q8_supported(void);

/* C[j * ldc + i] = sum over blocks of A[i] . B[j], for this thread's share of the m rows.
 *
 * a: m rows of k blocks, lda blocks apart; b: n rows of k blocks, ldb blocks apart; m is a multiple
 * of FM_GEMM_ROWS. A row's result does not depend on n, on nth or on the other columns. */
void fm_gemm_q8(int64_t m, int64_t n, int64_t k, const fm_q8_block *a, int64_t lda,
                const fm_q8_block *b, int64_t ldb, float *c, int64_t ldc, int ith, int nth);

#endif
