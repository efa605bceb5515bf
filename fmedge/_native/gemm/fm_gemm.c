/* Chooses between our kernel and llama.cpp's. See fm_gemm.h. */
#include "fm_gemm.h"

#include <stddef.h>

#include "fm_gemm_q8.h"

enum { TYPE_F32 = 0, TYPE_Q8_0 = 8 }; /* of ggml's stable numbering (it is the file format's) */

/* The head of ggml's struct, the same since it has had one; checked by the pinned version. */
struct ggml_compute_params {
    int ith, nth;
};

static fm_gemm_function original;
static bool is_enabled = true;
static bool has_kernels;

int fm_gemm_install(fm_gemm_function function) {
    original = function;
    has_kernels = fm_gemm_q8_supported();
    return has_kernels;
}

void fm_gemm_enable(int enabled) {
    is_enabled = enabled != 0;
}

bool llamafile_sgemm(const struct ggml_compute_params *params, int64_t m, int64_t n, int64_t k,
                     const void *a, int64_t lda, const void *b, int64_t ldb, void *c, int64_t ldc,
                     int a_type, int b_type, int c_type) {
    if (has_kernels && is_enabled && a_type == TYPE_Q8_0 && b_type == TYPE_Q8_0 &&
        c_type == TYPE_F32 && m % FM_GEMM_ROWS == 0 && n >= FM_GEMM_MIN_COLUMNS) {
        fm_gemm_q8(m, n, k, a, lda, b, ldb, c, ldc, params->ith, params->nth);
        return true;
    }
    return original != NULL &&
           original(params, m, n, k, a, lda, b, ldb, c, ldc, a_type, b_type, c_type);
}
