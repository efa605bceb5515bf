/* The choice of a token, once the view is scanned: random numbers and what they pick.
 *
 * The rule: a choice is a function of the view, the parameters and the output's index; what else
 * the scan was made for (logprobs) never shows in it. */
#include <math.h>
#include <string.h>

#include "fm_sampler_internal.h"

/* Philox4x32-10 (Salmon et al. 2011): key is the seed, counter the output's index and the how
 * many-th number this is for it. In [0, 1). */
static double uniform(uint64_t seed, uint64_t index, uint64_t try) {
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32), c2 = (uint32_t)try,
             c3 = (uint32_t)(try >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ key0;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ key1;
        c1 = (uint32_t)b;
        c3 = (uint32_t)a;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return (double)((uint64_t)(c0 >> 5) << 26 | c1 >> 6) * 0x1p-53;
}

/* First index at which the running sum passes target: never one of weight 0. */
static int32_t pick(const float *weights, int32_t n, double target) {
    double sum = 0.0;
    int32_t last = 0;
    for (int32_t i = 0; i < n; i++) {
        if (weights[i] <= 0.0f) {
            continue;
        }
        last = i;
        sum += (double)weights[i];
        if (sum > target) {
            break;
        }
    }
    return last;
}

/* Everything is kept. The maxima bound each block's weight from above, so the draw is a rejection
 * sampler over blocks: propose one by its bound, compute its true weight, accept in proportion; a
 * rejected block's bound becomes its weight. A handful of blocks are exponentiated, not all. Given
 * the past, each try is an exact draw if it accepts; the last possible try cannot reject. */
int32_t fm_choose_any(fm_scratch *sc, const fm_sampler_params *p, float scale, uint64_t index) {
    fm_view *v = &sc->view;
    const fm_kernels *k = v->kernels;
    float *peaks = sc->weights;           /* weight of each block's best token */
    float *sums = peaks + FM_MAX_BLOCKS;  /* each block's weight in units of its peak, or n */
    float *tokens = sums + FM_MAX_BLOCKS; /* weights within one block */
    uint32_t exact[FM_MAX_BLOCKS / FM_BLOCK_GROUP]; /* which sums are weights, not bounds */
    double groups[FM_MAX_BLOCKS / FM_BLOCK_GROUP];
    const int32_t num_groups = (v->num_blocks + FM_BLOCK_GROUP - 1) / FM_BLOCK_GROUP;
    k->weigh(v->block_max, num_groups * FM_BLOCK_GROUP, -FLT_MAX, v->max, scale, peaks);
    for (int32_t g = 0; g < num_groups; g++) {
        double sum = 0.0;
        for (int32_t b = g * FM_BLOCK_GROUP; b < (g + 1) * FM_BLOCK_GROUP; b++) {
            sums[b] = (float)v->block_size;
            sum += (double)peaks[b];
        }
        groups[g] = sum * v->block_size;
        exact[g] = 0;
    }
    for (uint64_t try = 0;; try++) {
        double total = 0.0;
        for (int32_t g = 0; g < num_groups; g++) {
            total += groups[g];
        }
        double rest = uniform(p->seed, index, try) * total;
        int32_t g = 0;
        while (g < num_groups - 1 && rest >= groups[g]) {
            rest -= groups[g++];
        }
        int32_t b = g * FM_BLOCK_GROUP, last = -1;
        for (; b < (g + 1) * FM_BLOCK_GROUP; b++) {
            const double weight = (double)peaks[b] * (double)sums[b];
            if (weight <= 0.0) {
                continue;
            }
            last = b;
            if (rest < weight) {
                break;
            }
            rest -= weight;
        }
        if (last < 0) {
            continue; /* rounding at the very end of the last group */
        }
        b = last;
        rest /= (double)peaks[b];
        int32_t n;
        const float *x = fm_view_block(v, b, &n);
        const bool was_exact = exact[g] >> (b % FM_BLOCK_GROUP) & 1;
        if (!was_exact) {
            float sum;
            k->max_sum(x, n, scale, &sum);
            groups[g] -= ((double)sums[b] - (double)sum) * (double)peaks[b];
            sums[b] = sum;
            exact[g] |= 1u << (b % FM_BLOCK_GROUP);
            if (rest >= (double)sum) {
                continue;
            }
        }
        k->weigh(x, n, -FLT_MAX, v->block_max[b], scale, tokens);
        return b * v->block_size + pick(tokens, n, rest);
    }
}

static int32_t draw_listed(fm_scratch *sc, const uint64_t *keys, int32_t num, float scale,
                           double u) {
    double total = 0.0;
    for (int32_t i = 0; i < num; i++) {
        sc->weights[i] = fm_weight(fm_key_logit(keys[i]), sc->view.max, scale);
        total += (double)sc->weights[i];
    }
    return fm_key_token(keys[pick(sc->weights, num, u * total)]);
}

/* A block of which only what the cut keeps is at or above *low. */
static const float *kept_block(fm_view *v, int32_t block, fm_cut cut, int32_t *n, float *low) {
    const int32_t first = block * v->block_size;
    const float *x = fm_view_block(v, block, n);
    *low = cut.low;
    if (x == NULL || cut.last_token >= first + *n - 1) {
        return x;
    }
    if (cut.last_token < first) {
        *low = nextafterf(cut.low, INFINITY);
        return x;
    }
    if (x != v->room) {
        memcpy(v->room, x, (size_t)*n * sizeof *x);
    }
    for (int32_t i = cut.last_token - first + 1; i < *n; i++) {
        if (v->room[i] == cut.low) {
            v->room[i] = -INFINITY;
        }
    }
    return v->room;
}

static int32_t draw_kept(fm_scratch *sc, fm_cut cut, float scale, double u) {
    fm_view *v = &sc->view;
    double total = 0.0;
    int32_t n;
    float low;
    float *sums = sc->weights;
    for (int32_t b = 0; b < v->num_blocks; b++) {
        sums[b] = 0.0f;
        if (!(v->block_max[b] >= cut.low)) {
            continue;
        }
        const float *x = kept_block(v, b, cut, &n, &low);
        if (x == NULL) {
            continue;
        }
        v->kernels->count_sum(x, n, low, v->max, scale, &sums[b]);
        total += (double)sums[b];
    }
    const double target = u * total;
    double below = 0.0, before = 0.0;
    int32_t block = 0;
    for (int32_t b = 0; b < v->num_blocks; b++) {
        if (sums[b] <= 0.0f) {
            continue;
        }
        block = b;
        before = below;
        below += (double)sums[b];
        if (below > target) {
            break;
        }
    }
    const float *x = kept_block(v, block, cut, &n, &low);
    v->kernels->weigh(x, n, low, v->max, scale, sc->weights);
    return block * v->block_size + pick(sc->weights, n, target - before);
}

int32_t fm_choose_truncated(fm_scratch *sc, const fm_sampler_params *p, float scale,
                            uint64_t index) {
    fm_view *v = &sc->view;
    uint64_t *keys = sc->keys;
    const double u = uniform(p->seed, index, 0);
    const float min_p_low =
        p->min_p > 0.0f ? fmaxf(v->max + (float)log((double)p->min_p), -FLT_MAX) : -FLT_MAX;
    const bool has_top_p = p->top_p < 1.0f;
    double total = INFINITY; /* what top_p is a share of, once known */

    if (p->top_k > 0 && p->top_k <= v->num_blocks) {
        float low = fm_select_floor(v, p->top_k);
        if (!has_top_p) {
            low = fmaxf(low, min_p_low);
        }
        const int32_t num = fm_select_gather(v, low, INFINITY, p->top_k, keys);
        const int32_t most = num < p->top_k ? num : p->top_k;
        total = 0.0;
        for (int32_t i = 0; i < most; i++) {
            const uint64_t key = fm_keys_pop(keys, num - i);
            if (!has_top_p) {
                continue;
            }
            sc->weights[i] = fm_weight(fm_key_logit(key), v->max, FM_LOG2E);
            total += (double)sc->weights[i];
        }
        int32_t kept = most;
        double mass = 0.0;
        for (int32_t i = 0; has_top_p && i < most; i++) {
            mass += (double)sc->weights[i];
            if (mass >= total * (double)p->top_p) {
                kept = i + 1;
                break;
            }
        }
        while (kept > 1 && fm_key_logit(keys[num - kept]) < min_p_low) {
            kept--;
        }
        return draw_listed(sc, keys + num - kept, kept, scale, u);
    }

    if (p->top_k == 0 && !has_top_p) {
        const int32_t num = fm_select_gather(v, min_p_low, INFINITY, 0, keys);
        if (num >= 0) {
            return draw_listed(sc, keys, num, scale, u);
        }
    } else if (p->top_k == 0) {
        /* Mostly a few dozen tokens hold the mass, else mostly a thousand. */
        total = fm_view_total(v, FM_LOG2E, NULL);
        const int32_t attempts[] = {v->num_blocks / 2 < 64 ? v->num_blocks / 2 + 1 : 64,
                                    v->num_blocks - v->num_blocks / 8};
        for (int attempt = 0; attempt < 2; attempt++) {
            const float low = fmaxf(min_p_low, fm_select_floor(v, attempts[attempt]));
            const int32_t num = fm_select_gather(v, low, INFINITY, 0, keys);
            if (num < 0) {
                break;
            }
            const double wanted = total * (double)p->top_p;
            double gathered = 0.0, mass = 0.0;
            for (int32_t i = 0; i < num; i++) {
                gathered += (double)fm_weight(fm_key_logit(keys[i]), v->max, FM_LOG2E);
            }
            if (gathered < wanted && low > min_p_low) {
                continue; /* popping them all would be in vain */
            }
            for (int32_t i = 0; i < num; i++) {
                const float logit = fm_key_logit(fm_keys_pop(keys, num - i));
                mass += (double)fm_weight(logit, v->max, FM_LOG2E);
                if (mass >= wanted || (i + 1 == num && low == min_p_low)) {
                    return draw_listed(sc, keys + num - i - 1, i + 1, scale, u);
                }
            }
        }
    }

    const int64_t most = p->top_k > 0 ? p->top_k : INT64_MAX;
    fm_cut cut = {-FLT_MAX, INT32_MAX};
    double mass = INFINITY;
    if (p->top_k > 0) {
        cut = fm_select_search(v, most, INFINITY, 0.0, keys, &total);
    }
    if (has_top_p) {
        const double known = p->top_k > 0 ? 0.0 : total;
        cut =
            fm_select_search(v, most, fmax(total * (double)p->top_p, DBL_MIN), known, keys, &mass);
    }
    if (min_p_low > cut.low) {
        cut = (fm_cut){min_p_low, INT32_MAX};
    }
    return draw_kept(sc, cut, scale, u);
}
