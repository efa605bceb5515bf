/* The vector kernels' variants, side by side, and the choice of one. */
#include "fm_sampler_internal.h"

#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi" /* vectors pass between inlined functions only */
#endif

#if defined(__x86_64__) && !defined(FM_PORTABLE_KERNELS)
#include <immintrin.h>

__attribute__((always_inline)) static inline uint32_t range_sse2(const float *x, float low,
                                                                 float high) {
    uint32_t hits = 0;
    for (int j = 0; j < 4; j++) {
        const __m128 v = _mm_loadu_ps(x + j * 4);
        const __m128 in =
            _mm_and_ps(_mm_cmpge_ps(v, _mm_set1_ps(low)), _mm_cmplt_ps(v, _mm_set1_ps(high)));
        hits |= (uint32_t)_mm_movemask_ps(in) << (j * 4);
    }
    return hits;
}

__attribute__((always_inline)) static inline float fold_sse2(__m128 x) {
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps(x, x, 1)));
}

#define FM_WIDTH 4
#define FM_TARGET
#define FM_(name) name##_sse2
#define FM_MAX(x, y) _mm_max_ps(x, y)
#define FM_FOLD_MAX(x) fold_sse2(x)
#define FM_RANGE(x, l, h) range_sse2(x, l, h)
#include "fm_sampler_lanes.h"

__attribute__((always_inline, target("avx2"))) static inline uint32_t range_avx2(const float *x,
                                                                                 float low,
                                                                                 float high) {
    uint32_t hits = 0;
    for (int j = 0; j < 2; j++) {
        const __m256 v = _mm256_loadu_ps(x + j * 8);
        const __m256 in = _mm256_and_ps(_mm256_cmp_ps(v, _mm256_set1_ps(low), _CMP_GE_OQ),
                                        _mm256_cmp_ps(v, _mm256_set1_ps(high), _CMP_LT_OQ));
        hits |= (uint32_t)_mm256_movemask_ps(in) << (j * 8);
    }
    return hits;
}

#define FM_WIDTH 8
#define FM_TARGET __attribute__((target("avx2")))
#define FM_(name) name##_avx2
#define FM_MAX(x, y) _mm256_max_ps(x, y)
#define FM_FOLD_MAX(x) fold_sse2(_mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1)))
#define FM_RANGE(x, l, h) range_avx2(x, l, h)
#include "fm_sampler_lanes.h"

#define FM_TARGET_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))

FM_TARGET_AVX512
__attribute__((always_inline)) static inline uint32_t range_avx512(const float *x, float low,
                                                                   float high) {
    const __m512 v = _mm512_loadu_ps(x);
    return (uint32_t)(_mm512_cmp_ps_mask(v, _mm512_set1_ps(low), _CMP_GE_OQ) &
                      _mm512_cmp_ps_mask(v, _mm512_set1_ps(high), _CMP_LT_OQ));
}

#define FM_WIDTH 16
#define FM_TARGET FM_TARGET_AVX512
#define FM_(name) name##_avx512
#define FM_MAX(x, y) _mm512_max_ps(x, y)
#define FM_FOLD_MAX(x) _mm512_reduce_max_ps(x)
#define FM_RANGE(x, l, h) range_avx512(x, l, h)
#include "fm_sampler_lanes.h"

const fm_kernels *fm_kernels_get(int32_t variant) {
    __builtin_cpu_init();
    const bool has_avx2 = __builtin_cpu_supports("avx2");
    const bool has_avx512 =
        __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    switch (variant) {
        case FM_KERNELS_BEST:
            return has_avx512 ? &kernels_avx512 : has_avx2 ? &kernels_avx2 : &kernels_sse2;
        case FM_KERNELS_BASELINE:
            return &kernels_sse2;
        case FM_KERNELS_AVX2:
            return has_avx2 ? &kernels_avx2 : NULL;
        case FM_KERNELS_AVX512:
            return has_avx512 ? &kernels_avx512 : NULL;
        default:
            return NULL;
    }
}

#else /* 128-bit vectors as the compiler knows them, so NEON on aarch64 */

typedef float portable_vf __attribute__((vector_size(16)));
typedef int32_t portable_vi __attribute__((vector_size(16)));

__attribute__((always_inline)) static inline portable_vf greater_portable(portable_vf x,
                                                                          portable_vf y) {
    const portable_vi above = (portable_vi)(x > y);
    return (portable_vf)(((portable_vi)x & above) | ((portable_vi)y & ~above));
}

__attribute__((always_inline)) static inline float fold_portable(portable_vf x) {
    const float a = x[0] > x[1] ? x[0] : x[1], b = x[2] > x[3] ? x[2] : x[3];
    return a > b ? a : b;
}

__attribute__((always_inline)) static inline uint32_t range_portable(const float *x, float low,
                                                                     float high) {
    uint32_t hits = 0;
    for (int i = 0; i < FM_LANES_LOGICAL; i++) {
        hits |= (uint32_t)((x[i] >= low) & (x[i] < high)) << i;
    }
    return hits;
}

#define FM_WIDTH 4
#define FM_TARGET
#define FM_(name) name##_portable
#define FM_MAX(x, y) greater_portable(x, y)
#define FM_FOLD_MAX(x) fold_portable(x)
#define FM_RANGE(x, l, h) range_portable(x, l, h)
#include "fm_sampler_lanes.h"

const fm_kernels *fm_kernels_get(int32_t variant) {
    return variant == FM_KERNELS_BEST || variant == FM_KERNELS_BASELINE ? &kernels_portable : NULL;
}

#endif

float fm_weight(float x, float origin, float scale) {
    const float z = (x - origin) * scale;
    if (!(z > -126.0f)) {
        return 0.0f;
    }
    const float shifted = z + 12582912.0f;
    const float f = z - (shifted - 12582912.0f);
    float p = f * 1.3264727123e-3f + 9.6715126448e-3f;
    p = p * f + 5.5507337435e-2f;
    p = p * f + 2.4022242085e-1f;
    p = p * f + 6.9314697760e-1f;
    p = p * f + 1.0f;
    union {
        float f;
        uint32_t u;
    } bits = {p}, step = {shifted};
    bits.u += step.u << 23;
    return bits.f;
}
