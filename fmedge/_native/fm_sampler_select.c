/* What top_k, top_p and min_p keep.
 *
 * The rule: each keeps a prefix of one ranking (logits descending, ids ascending among equals), so
 * whatever is kept is said by a cut (a logit and an id), never by a list of the vocabulary. Few
 * candidates are gathered and popped off a heap; where they are many, the cut is found by bisection
 * over the logits, each step one vectorised pass over the blocks that can matter. */
#include "fm_sampler_internal.h"

float fm_select_floor(const fm_view *v, int32_t k) {
    const int32_t n = (v->num_blocks + FM_LANES_LOGICAL - 1) / FM_LANES_LOGICAL * FM_LANES_LOGICAL;
    if (v->kernels->count(v->block_max, n, -FLT_MAX) < k) {
        return -FLT_MAX;
    }
    float high = v->max; /* the first threshold that has k is at most this */
    float low = -FLT_MAX;
    for (float step = 1.0f; step < 1e6f; step *= 2.0f) {
        const float next = v->max - step;
        if (v->kernels->count(v->block_max, n, next) >= k) {
            low = next;
            break;
        }
        high = next;
    }
    /* A few too many are cheaper than further steps. */
    for (int i = 0; i < 16 && low > -FLT_MAX; i++) {
        const float middle = low + (high - low) * 0.5f;
        const int32_t num = v->kernels->count(v->block_max, n, middle);
        if (num < k) {
            high = middle;
            continue;
        }
        low = middle;
        if (num <= k + k / 8) {
            break;
        }
    }
    return low;
}

static void sift_down(uint64_t *keys, int32_t n, int32_t at) {
    const uint64_t key = keys[at];
    for (;;) {
        int32_t child = 2 * at + 1;
        if (child >= n) {
            break;
        }
        child += child + 1 < n && keys[child + 1] < keys[child];
        if (keys[child] >= key) {
            break;
        }
        keys[at] = keys[child];
        at = child;
    }
    keys[at] = key;
}

void fm_keys_heapify(uint64_t *keys, int32_t n) {
    for (int32_t at = n / 2 - 1; at >= 0; at--) {
        sift_down(keys, n, at);
    }
}

uint64_t fm_keys_pop(uint64_t *keys, int32_t n) {
    const uint64_t best = keys[0];
    keys[0] = keys[n - 1];
    keys[n - 1] = best;
    sift_down(keys, n - 1, 0);
    return best;
}

int32_t fm_select_gather(fm_view *v, float low, float high, int32_t best, uint64_t *keys) {
    int32_t num = 0;
    for (int32_t block = 0; block < v->num_blocks; block++) {
        if (!(v->block_max[block] >= low)) {
            continue;
        }
        int32_t n;
        const float *x = fm_view_block(v, block, &n);
        if (x == NULL) {
            continue;
        }
        for (int32_t i = 0; i < n;) {
            i += v->kernels->gather(x + i, n - i, low, high, block * v->block_size + i, keys, &num);
            if (i >= n) {
                break;
            }
            if (best <= 0) {
                return -1;
            }
            /* Full: keep the best, in the front, and from here on ask for more than the worst of
             * them: a later token with an equal logit ranks behind it. */
            fm_keys_heapify(keys, num);
            for (int32_t j = 0; j < best; j++) {
                fm_keys_pop(keys, num - j);
            }
            for (int32_t j = 0; j < best; j++) {
                keys[j] = keys[num - 1 - j];
            }
            num = best;
            low = nextafterf(fm_key_logit(keys[best - 1]), INFINITY);
        }
    }
    fm_keys_heapify(keys, num);
    return num;
}

typedef struct {
    int64_t count;
    double mass;
} tally;

static tally tally_above(fm_view *v, float low) {
    tally sum = {0, 0.0};
    for (int32_t block = 0; block < v->num_blocks; block++) {
        if (!(v->block_max[block] >= low)) {
            continue;
        }
        int32_t n;
        const float *x = fm_view_block(v, block, &n);
        if (x == NULL) {
            continue;
        }
        float mass;
        sum.count += v->kernels->count_sum(x, n, low, v->max, FM_LOG2E, &mass);
        sum.mass += (double)mass;
    }
    return sum;
}

int32_t fm_select_nth_equal(fm_view *v, float x, int64_t num) {
    int32_t last = -1;
    for (int32_t block = 0; block < v->num_blocks && num > 0; block++) {
        if (!(v->block_max[block] >= x)) {
            continue;
        }
        int32_t n;
        const float *logits = fm_view_block(v, block, &n);
        if (logits == NULL) {
            continue;
        }
        for (int32_t i = 0; i < n && num > 0; i++) {
            if (logits[i] == x) {
                last = block * v->block_size + i;
                num--;
            }
        }
    }
    return last;
}

/* Smallest and greatest logit in [low, high); false where there is none. */
static bool bounds_within(fm_view *v, float low, float high, float *least, float *greatest) {
    *least = INFINITY;
    *greatest = -INFINITY;
    for (int32_t block = 0; block < v->num_blocks; block++) {
        if (!(v->block_max[block] >= low)) {
            continue;
        }
        int32_t n;
        const float *x = fm_view_block(v, block, &n);
        if (x != NULL) {
            v->kernels->bounds(x, n, low, high, least, greatest);
        }
    }
    return *least <= *greatest;
}

/* log2 to within 0.09, above it: guesses want no more, and libm's differs between systems. */
static double rough_log2(double x) {
    int exponent;
    const double mantissa = frexp(x, &exponent); /* in [0.5, 1) */
    return (double)exponent - 1.0 + (2.0 * mantissa - 1.0) + 0.09;
}

/* Where between high and low the amount above a logit should reach target, as a share of the way
 * down: it grows about exponentially over a wide bracket, evenly over a narrow one. */
static double share_down(double target, double at_high, double at_low) {
    if (!(target > at_high) || !(at_low > target)) {
        return target > at_high ? 1.0 : 0.0;
    }
    if (at_low < 3.0 * at_high) {
        return (target - at_high) / (at_low - at_high);
    }
    at_high = fmax(at_high, 1.0); /* the best token alone: one, and of weight 1 */
    return target > at_high ? rough_log2(target / at_high) / rough_log2(at_low / at_high) : 0.0;
}

fm_cut fm_select_search(fm_view *v, int64_t count, double mass, double total, uint64_t *keys,
                        double *mass_out) {
    /* Tokens >= low suffice; those >= high do not. */
    float low = -FLT_MAX, high = nextafterf(v->max, INFINITY);
    tally at_low, at_high = {0, 0.0};
    if (total > mass) {
        /* Even a whole vocabulary of tokens below this has too little to be missed. */
        const double log2_ratio = rough_log2((double)v->num_vocab / (total - mass));
        low = fmaxf(low, v->max - (float)(fmax(log2_ratio, 0.0) / (double)FM_LOG2E) - 1.0f);
        at_low = (tally){v->num_vocab, total};
    } else {
        at_low = tally_above(v, low);
        *mass_out = at_low.mass;
        if (at_low.count < count && at_low.mass < mass) {
            return (fm_cut){low, INT32_MAX};
        }
    }

    for (int step = 0; at_low.count - at_high.count > FM_MAX_KEYS / 4; step++) {
        if (step % 8 == 0) {
            /* Logits may be few values, each many times: close in on those that occur. */
            float least, greatest;
            if (!bounds_within(v, low, high, &least, &greatest)) {
                break;
            }
            low = least;
            high = nextafterf(greatest, INFINITY);
        }
        const uint32_t low_order = fm_order(low), high_order = fm_order(high);
        if (high_order - low_order <= 1) {
            break;
        }
        double share = 0.5;
        if (step % 4 != 3) {
            share = fmin(share_down((double)count, (double)at_high.count, (double)at_low.count),
                         share_down(mass, at_high.mass, at_low.mass));
            /* Aim now past the target and now short of it, so that both ends close in. */
            const double margin =
                0.02 + (double)(FM_MAX_KEYS / 16) / (double)(at_low.count - at_high.count);
            share += step % 2 == 0 ? margin : -margin;
            share = fmin(fmax(share, 0.02), 0.98);
        }
        float middle = (float)((double)high - ((double)high - (double)low) * share);
        if (step > 40 || !(middle > low && middle < high)) {
            middle = fm_unorder(low_order + (high_order - low_order) / 2);
        }
        const tally at_middle = tally_above(v, middle);
        if (at_middle.count >= count || at_middle.mass >= mass) {
            low = middle;
            at_low = at_middle;
        } else {
            high = middle;
            at_high = at_middle;
        }
    }

    const int32_t num_keys = fm_select_gather(v, low, high, 0, keys);
    tally sum = at_high;
    if (num_keys < 0) {
        /* More equal logits than keys: how many of them it takes is a division. */
        const double each = (double)fm_weight(low, v->max, FM_LOG2E);
        int64_t num = at_low.count - at_high.count;
        const int64_t by_count = count - at_high.count;
        if (by_count < num) {
            num = by_count;
        }
        if (each > 0.0 && (mass - at_high.mass) / each < (double)num) {
            num = (int64_t)ceil((mass - at_high.mass) / each);
        }
        *mass_out = at_high.mass + each * (double)num;
        return (fm_cut){low, fm_select_nth_equal(v, low, num)};
    }
    fm_cut cut = {low, INT32_MAX};
    for (int32_t i = 0; i < num_keys && sum.count < count && sum.mass < mass; i++) {
        const uint64_t key = fm_keys_pop(keys, num_keys - i);
        cut = (fm_cut){fm_key_logit(key), fm_key_token(key)};
        sum.count++;
        sum.mass += (double)fm_weight(cut.low, v->max, FM_LOG2E);
    }
    *mass_out = sum.mass;
    return cut;
}
