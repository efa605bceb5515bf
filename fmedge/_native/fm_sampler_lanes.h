/* The vector kernels, compiled once for each width: fm_sampler_simd.c includes this file with
 *
 *   FM_WIDTH    floats in a vector: 4, 8 or 16
 *   FM_TARGET   function attribute that allows the instructions
 *   FM_(name)   name with the variant's suffix
 *   FM_MAX(x, y)       greater lane, y where x is NaN
 *   FM_FOLD_MAX(x)     greatest lane
 *   FM_RANGE(x, l, h)  bit i: l <= x[i] < h, for FM_LANES_LOGICAL floats at x
 *
 * The rule: every variant gives the same bits. So sums run in FM_LANES_LOGICAL lanes whatever the
 * width, lanes are added in one fixed tree, and no multiply and add is contracted into one (the
 * baseline has no such instruction). */
#ifdef FM_WIDTH

#define FM_PER_STEP (FM_LANES_LOGICAL / FM_WIDTH)
#define FM_INLINE FM_TARGET __attribute__((always_inline)) static inline

typedef float FM_(vf) __attribute__((vector_size(FM_WIDTH * 4)));
typedef int32_t FM_(vi) __attribute__((vector_size(FM_WIDTH * 4)));
typedef float FM_(vfu) __attribute__((vector_size(FM_WIDTH * 4), aligned(4), may_alias));
typedef int32_t FM_(viu) __attribute__((vector_size(FM_WIDTH * 4), aligned(4), may_alias));

FM_INLINE FM_(vf) FM_(load)(const float *x) {
    return *(const FM_(vfu) *)x;
}
FM_INLINE FM_(vf) FM_(all)(float x) {
    return x - (FM_(vf)){0};
}

/* 2^((x - origin) * scale), at least 2^-126; x <= origin. Relative error below 2e-7 near the
 * origin. */
FM_INLINE FM_(vf) FM_(exp)(FM_(vf) x, FM_(vf) origin, FM_(vf) scale) {
    FM_(vf) z = (x - origin) * scale;
    z = FM_MAX(z, FM_(all)(-126.0f));
    /* Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits. */
    const FM_(vf) shifted = z + 12582912.0f;
    const FM_(vf) f = z - (shifted - 12582912.0f);
    FM_(vf) p = f * 1.3264727123e-3f + 9.6715126448e-3f;
    p = p * f + 5.5507337435e-2f;
    p = p * f + 2.4022242085e-1f;
    p = p * f + 6.9314697760e-1f;
    p = p * f + 1.0f;
    return (FM_(vf))((FM_(vi))p + ((FM_(vi))shifted << 23));
}

FM_INLINE float FM_(fold_sum)(const FM_(vf) * sums) {
    float lane[FM_LANES_LOGICAL];
    __builtin_memcpy(lane, sums, sizeof lane);
    for (int half = FM_LANES_LOGICAL / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            lane[i] += lane[i + half];
        }
    }
    return lane[0];
}

FM_TARGET static float FM_(max)(const float *x, int32_t n) {
    FM_(vf) best[FM_PER_STEP];
    for (int j = 0; j < FM_PER_STEP; j++) {
        best[j] = FM_(all)(-INFINITY);
    }
    for (int32_t i = 0; i < n; i += FM_LANES_LOGICAL) {
        for (int j = 0; j < FM_PER_STEP; j++) {
            best[j] = FM_MAX(FM_(load)(x + i + j * FM_WIDTH), best[j]);
        }
    }
    for (int j = 1; j < FM_PER_STEP; j++) {
        best[0] = FM_MAX(best[j], best[0]);
    }
    return FM_FOLD_MAX(best[0]);
}

FM_TARGET static float FM_(max_sum)(const float *x, int32_t n, float scale, float *sum) {
    const float origin = FM_(max)(x, n);
    FM_(vf) sums[FM_PER_STEP] = {{0}};
    if (origin > -INFINITY) {
        for (int32_t i = 0; i < n; i += FM_LANES_LOGICAL) {
            for (int j = 0; j < FM_PER_STEP; j++) {
                sums[j] +=
                    FM_(exp)(FM_(load)(x + i + j * FM_WIDTH), FM_(all)(origin), FM_(all)(scale));
            }
        }
    }
    *sum = FM_(fold_sum)(sums);
    return origin;
}

FM_TARGET static int32_t FM_(count)(const float *x, int32_t n, float low) {
    FM_(vi) counts[FM_PER_STEP] = {{0}};
    for (int32_t i = 0; i < n; i += FM_LANES_LOGICAL) {
        for (int j = 0; j < FM_PER_STEP; j++) {
            counts[j] -= (FM_(vi))(FM_(load)(x + i + j * FM_WIDTH) >= FM_(all)(low));
        }
    }
    int32_t total = 0;
    for (int j = 0; j < FM_PER_STEP; j++) {
        for (int i = 0; i < FM_WIDTH; i++) {
            total += counts[j][i];
        }
    }
    return total;
}

FM_TARGET static int32_t FM_(count_sum)(const float *x, int32_t n, float low, float origin,
                                        float scale, float *sum) {
    FM_(vf) sums[FM_PER_STEP] = {{0}};
    FM_(vi) counts[FM_PER_STEP] = {{0}};
    for (int32_t i = 0; i < n; i += FM_LANES_LOGICAL) {
        for (int j = 0; j < FM_PER_STEP; j++) {
            const FM_(vf) value = FM_(load)(x + i + j * FM_WIDTH);
            const FM_(vi) kept = (FM_(vi))(value >= FM_(all)(low));
            const FM_(vf) weight = FM_(exp)(value, FM_(all)(origin), FM_(all)(scale));
            sums[j] += (FM_(vf))((FM_(vi))weight & kept);
            counts[j] -= kept;
        }
    }
    int32_t total = 0;
    for (int j = 0; j < FM_PER_STEP; j++) {
        for (int i = 0; i < FM_WIDTH; i++) {
            total += counts[j][i];
        }
    }
    *sum = FM_(fold_sum)(sums);
    return total;
}

FM_TARGET static void FM_(bounds)(const float *x, int32_t n, float low, float high, float *least,
                                  float *greatest) {
    const FM_(vi) never = (FM_(vi))FM_(all)(-INFINITY);
    FM_(vf) above = FM_(all)(*greatest), below = FM_(all)(-*least);
    for (int32_t i = 0; i < n; i += FM_WIDTH) {
        const FM_(vf) value = FM_(load)(x + i);
        const FM_(vf) negated = -value;
        const FM_(vi) in = (FM_(vi))(value >= FM_(all)(low)) & (FM_(vi))(value < FM_(all)(high));
        above = FM_MAX((FM_(vf))(((FM_(vi))value & in) | (never & ~in)), above);
        below = FM_MAX((FM_(vf))(((FM_(vi))negated & in) | (never & ~in)), below);
    }
    *greatest = FM_FOLD_MAX(above);
    *least = -FM_FOLD_MAX(below);
}

FM_TARGET static void FM_(weigh)(const float *x, int32_t n, float low, float origin, float scale,
                                 float *w) {
    /* Below 2^-126 the kernel's exp stops falling; a weight there is none. */
    const FM_(vf) least = FM_(all)(-126.0f);
    for (int32_t i = 0; i < n; i += FM_WIDTH) {
        const FM_(vf) value = FM_(load)(x + i);
        const FM_(vi) kept = (FM_(vi))(value >= FM_(all)(low)) &
                             (FM_(vi))((value - FM_(all)(origin)) * FM_(all)(scale) > least);
        const FM_(vf) weight = FM_(exp)(value, FM_(all)(origin), FM_(all)(scale));
        *(FM_(viu) *)(w + i) = (FM_(vi))weight & kept;
    }
}

FM_TARGET static int32_t FM_(gather)(const float *x, int32_t n, float low, float high,
                                     int32_t first_token, uint64_t *keys, int32_t *num_keys) {
    int32_t num = *num_keys;
    int32_t i = 0;
    for (; i < n && num <= FM_MAX_KEYS - FM_LANES_LOGICAL; i += FM_LANES_LOGICAL) {
        for (uint32_t hits = FM_RANGE(x + i, low, high); hits; hits &= hits - 1) {
            const int32_t at = i + __builtin_ctz(hits);
            keys[num++] = fm_key(x[at], first_token + at);
        }
    }
    *num_keys = num;
    return i;
}

FM_TARGET static void FM_(mask)(const float *x, int32_t n, const uint32_t *words, float *out) {
    FM_(vi) bit;
    for (int i = 0; i < FM_WIDTH; i++) {
        bit[i] = 1 << i;
    }
    const FM_(vi) never = (FM_(vi))FM_(all)(-INFINITY);
    for (int32_t i = 0; i < n; i += FM_WIDTH) {
        const int32_t bits = (int32_t)(words[i / 32] >> (i % 32));
        const FM_(vi) allowed = (FM_(vi))((bits & bit) != 0);
        const FM_(vi) value = *(const FM_(viu) *)(x + i);
        *(FM_(viu) *)(out + i) = (value & allowed) | (never & ~allowed);
    }
}

static const fm_kernels FM_(kernels) = {
    .max = FM_(max),
    .max_sum = FM_(max_sum),
    .count_sum = FM_(count_sum),
    .count = FM_(count),
    .bounds = FM_(bounds),
    .weigh = FM_(weigh),
    .gather = FM_(gather),
    .mask = FM_(mask),
};

#undef FM_PER_STEP
#undef FM_INLINE
#undef FM_WIDTH
#undef FM_TARGET
#undef FM_
#undef FM_MAX
#undef FM_FOLD_MAX
#undef FM_RANGE
#endif
