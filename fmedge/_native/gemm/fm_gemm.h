/* Matrix products of Q8_0 weights for x86 with AVX512-VNNI or AVX2, in place of llama.cpp's.
 *
 * llama.cpp routes every dense CPU matrix product through one exported C function,
 * llamafile_sgemm(). This library exports a function of that name; loaded into the global scope
 * before libggml-cpu, it is the one that the dynamic linker finds. What it does not do better it
 * hands to the original, so every type and processor behaves as before.
 *
 * Usage, from Python:
 *     gemm = ctypes.CDLL(path, RTLD_GLOBAL)       before libggml-cpu
 *     gemm.fm_gemm_install(address of libggml-cpu's llamafile_sgemm)
 */
#ifndef FM_GEMM_H
#define FM_GEMM_H

#include <stdbool.h>
#include <stdint.h>

struct ggml_compute_params;

/* C[n][m] = A[m][k] * B[n][k] with k in blocks; true if done, false if the caller must do it. */
__attribute__((visibility("default"))) bool llamafile_sgemm(
    const struct ggml_compute_params *params, int64_t m, int64_t n, int64_t k, const void *a,
    int64_t lda, const void *b, int64_t ldb, void *c, int64_t ldc, int a_type, int b_type,
    int c_type);

typedef bool (*fm_gemm_function)(const struct ggml_compute_params *, int64_t, int64_t, int64_t,
                                 const void *, int64_t, const void *, int64_t, void *, int64_t, int,
                                 int, int);

/* Where everything else goes. Returns 1 if a kernel of ours is
 * faster on this processor, else 0. */
__attribute__((visibility("default"))) int fm_gemm_install(fm_gemm_function original);

/* 0: the original does everything, as if this library were not there; 1: our kernels. Only while no
 * product is being computed: threads of one product must not see different answers. */
__attribute__((visibility("default"))) void fm_gemm_enable(int is_enabled);

/* For tests and measurements: this kernel from now on. 0 if this processor does not have it; the
 * choice then stays. As with fm_gemm_enable(), not during a product. */
__attribute__((visibility("default"))) int fm_gemm_use(const char *name);

/* The kernel in use; "" if llama.cpp's own is. */
__attribute__((visibility("default"))) const char *fm_gemm_kernel(void);

#endif
