/* Chooses between our kernels and llama.cpp's. See fm_gemm.h. */
#include "fm_gemm.h"

#include <stddef.h>
#include <string.h>

#include "fm_gemm_q8.h"

enum { TYPE_F32 = 0, TYPE_Q8_0 = 8 }; /* of ggml's stable numbering (it is the file format's) */

/* The head of ggml's struct, the same since it has had one; checked by the pinned version. */
struct ggml_compute_params {
    int ith, nth;
};

static const fm_gemm_q8_kernel *const kernels[] = {
#if defined(__x86_64__)
    &fm_gemm_q8_avx512,
    &fm_gemm_q8_avx2,
#endif
    NULL,
};

static fm_gemm_function original;
static bool is_enabled = true;
static const fm_gemm_q8_kernel *chosen; /* NULL: none for this processor */

int fm_gemm_install(fm_gemm_function function) {
    original = function;
    chosen = NULL;
    for (int i = 0; kernels[i] != NULL && chosen == NULL; i++) {
        if (kernels[i]->is_supported() && kernels[i]->is_faster()) {
            chosen = kernels[i];
        }
    }
    return chosen != NULL;
}

int fm_gemm_use(const char *name) {
    for (int i = 0; kernels[i] != NULL; i++) {
        if (strcmp(kernels[i]->name, name) == 0 && kernels[i]->is_supported()) {
            chosen = kernels[i];
            return 1;
        }
    }
    return 0;
}

const char *fm_gemm_kernel(void) {
    return chosen != NULL && is_enabled ? chosen->name : "";
}

void fm_gemm_enable(int enabled) {
    is_enabled = enabled != 0;
}

/* Thread ith's share (of nth) of the tiles. */
static void multiply(const fm_gemm_q8_kernel *kernel, int64_t m, int64_t n, int64_t k,
                     const fm_q8_block *a, int64_t lda, const fm_q8_block *b, int64_t ldb, float *c,
                     int64_t ldc, int ith, int nth) {
    const int64_t num_tiles = m / kernel->rows;
    const int64_t first = num_tiles * ith / nth, last = num_tiles * (ith + 1) / nth;
    if (first < last) {
        const fm_gemm_q8_function function =
            n <= kernel->max_narrow ? kernel->multiply_narrow : kernel->multiply_wide;
        function(first, last, n, k, a, lda, b, ldb, c, ldc);
    }
}

bool llamafile_sgemm(const struct ggml_compute_params *params, int64_t m, int64_t n, int64_t k,
                     const void *a, int64_t lda, const void *b, int64_t ldb, void *c, int64_t ldc,
                     int a_type, int b_type, int c_type) {
    if (chosen != NULL && is_enabled && a_type == TYPE_Q8_0 && b_type == TYPE_Q8_0 &&
        c_type == TYPE_F32 && k > 0 && m % chosen->rows == 0 && n >= chosen->min_columns) {
        multiply(chosen, m, n, k, a, lda, b, ldb, c, ldc, params->ith, params->nth);
        return true;
    }
    return original != NULL &&
           original(params, m, n, k, a, lda, b, ldb, c, ldc, a_type, b_type, c_type);
}
