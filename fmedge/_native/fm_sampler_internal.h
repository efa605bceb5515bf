#pragma once
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fm_sampler.h"

/* A multiplication and an addition never become one instruction: CPUs that have it would round
 * otherwise than those that do not, and draw other tokens. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#else
#pragma GCC optimize("fp-contract=off")
#endif

/* Between the sampler's own files only.
 *
 * fm_sampler_lanes.h    vector kernels, written once, compiled for each vector width
 * fm_sampler_simd.c     those variants and the choice of one
 * fm_sampler_view.c     a row of logits seen block by block, with edits and mask applied
 * fm_sampler_select.c   what top_k, top_p and min_p keep
 * fm_sampler_history.c  penalties, bias and bans as a sparse list of edited logits
 * fm_sampler_choose.c   random numbers and the choice of a token
 * fm_sampler.c          parameters, state, the draw as a whole, logprobs */

/* The vocabulary is cut into at most FM_MAX_BLOCKS blocks of 128 tokens or the next power of two
 * that suffices; after one pass over the logits everything else reads only the blocks whose maximum
 * says that they matter. */
enum {
    FM_LANES_LOGICAL = 16, /* sums run in this many lanes whatever the vector width */
    FM_MIN_BLOCK = 128,
    FM_MAX_BLOCKS = 1024,
    FM_MAX_BLOCK = FM_SAMPLER_MAX_VOCAB / FM_MAX_BLOCKS,
    FM_BLOCK_GROUP = 32, /* block_max is filled up with -inf to a multiple of this */
    FM_MAX_KEYS = 4096,  /* candidates gathered at once */
};

#define FM_LOG2E 1.44269504088896340736f

/* Sizes n are multiples of FM_LANES_LOGICAL; pointers need no alignment; NaN counts as -inf.
 * `scale` is log2(e) / temperature, so weights are 2^((x - origin) * scale), and 0 below 2^-126. */
typedef struct {
    float (*max)(const float *x, int32_t n);
    /* Maximum, and sum of weights with that maximum as origin (0 when it is -inf). */
    float (*max_sum)(const float *x, int32_t n, float scale, float *sum);
    /* Number of x >= low, and the sum of their weights. */
    int32_t (*count_sum)(const float *x, int32_t n, float low, float origin, float scale,
                         float *sum);
    int32_t (*count)(const float *x, int32_t n, float low);
    /* Widens [*least, *greatest] to what of x lies in [low, high). */
    void (*bounds)(const float *x, int32_t n, float low, float high, float *least, float *greatest);
    /* w[i] = weight of x[i] where x[i] >= low, else 0. */
    void (*weigh)(const float *x, int32_t n, float low, float origin, float scale, float *w);
    /* Appends the keys of low <= x < high; stops before `keys` could overflow and returns how far
     * it came. */
    int32_t (*gather)(const float *x, int32_t n, float low, float high, int32_t first_token,
                      uint64_t *keys, int32_t *num_keys);
    /* out[i] = x[i] where bit i of words is set, else -inf. */
    void (*mask)(const float *x, int32_t n, const uint32_t *words, float *out);
} fm_kernels;

/* NULL where this CPU lacks the variant. */
const fm_kernels *fm_kernels_get(int32_t variant);

/* A key orders tokens as the sampler ranks them: ascending keys are descending logits, and
 * ascending ids among equals. */
static inline uint32_t fm_order(float x) {
    union {
        float f;
        uint32_t u;
    } bits = {x + 0.0f}; /* -0 becomes +0 */
    return bits.u ^ ((bits.u >> 31) ? 0xffffffffu : 0x80000000u);
}

static inline float fm_unorder(uint32_t order) {
    union {
        uint32_t u;
        float f;
    } bits = {order ^ ((order >> 31) ? 0x80000000u : 0xffffffffu)};
    return bits.f;
}

static inline uint64_t fm_key(float x, int32_t token) {
    return (uint64_t)~fm_order(x) << 32 | (uint32_t)token;
}
static inline float fm_key_logit(uint64_t key) {
    return fm_unorder(~(uint32_t)(key >> 32));
}
static inline int32_t fm_key_token(uint64_t key) {
    return (int32_t)(uint32_t)key;
}

/* A token whose logit differs from the model's, ascending by token. */
typedef struct {
    int32_t token;
    float logit;
} fm_edit;

typedef struct {
    const fm_kernels *kernels;
    const float *logits;  /* [num_vocab] */
    const uint32_t *mask; /* or NULL */
    const fm_edit *edits; /* [num_edits] */
    int32_t num_vocab, num_edits, block_size, num_blocks;
    int32_t next_edit; /* where the last block's edits ended */
    bool clamp;        /* +inf was seen */
    float max;
    float block_max[FM_MAX_BLOCKS]; /* filled up to whole groups with -inf */
    float block_sum[FM_MAX_BLOCKS];
    float room[FM_MAX_BLOCK]; /* a block that is not the model's own memory */
} fm_view;

void fm_view_init(fm_view *v, const fm_kernels *kernels, const float *logits, int32_t num_vocab);

/* The block's logits, valid until the next call: *n of them, padded with -inf. NULL: all masked. */
const float *fm_view_block(fm_view *v, int32_t block, int32_t *n);

/* Fills max and block_max; with scale > 0 block_sum as well, each with its own maximum as origin.
 */
void fm_view_scan(fm_view *v, float scale);

/* Total weight with v->max as origin, after a scan with that scale; weights: [FM_MAX_BLOCKS], each
 * block's share, or NULL. */
double fm_view_total(const fm_view *v, float scale, float *weights);

/* What is kept: logits above `low`, and those equal to it whose token is <= last_token. */
typedef struct {
    float low;
    int32_t last_token;
} fm_cut;

/* Threshold that at least k tokens reach, from block maxima alone: close to the k-th best logit.
 * -FLT_MAX where fewer than k blocks have a token. */
float fm_select_floor(const fm_view *v, int32_t k);

/* Keys of the tokens with logits in [low, high), as a heap for fm_keys_pop. Where they exceed
 * FM_MAX_KEYS: with best > 0 the `best` first survive, with best == 0 returns -1. */
int32_t fm_select_gather(fm_view *v, float low, float high, int32_t best, uint64_t *keys);

void fm_keys_heapify(uint64_t *keys, int32_t n);
/* Removes and returns the smallest of n > 0 keys and leaves it at keys[n - 1]. */
uint64_t fm_keys_pop(uint64_t *keys, int32_t n);

/* The shortest prefix of the ranking that has `count` tokens or reaches `mass` > 0 (weights at
 * temperature 1, v->max as origin); everything where neither is reached. total: the mass of all if
 * known, else 0. *mass_out: the prefix's mass. */
fm_cut fm_select_search(fm_view *v, int64_t count, double mass, double total, uint64_t *keys,
                        double *mass_out);

/* Id of the num-th token (from 1) whose logit equals x. */
int32_t fm_select_nth_equal(fm_view *v, float x, int64_t num);

/* One weight, by the vector kernels' arithmetic. */
float fm_weight(float x, float origin, float scale);

/* On the stack of a draw, so that samplers stay small and share nothing. */
typedef struct {
    fm_view view;
    uint64_t keys[FM_MAX_KEYS];
    float weights[FM_MAX_KEYS]; /* of keys, of blocks, of one block's tokens */
} fm_scratch;

/* A token from everything that sc->view, scanned, has. */
int32_t fm_choose_any(fm_scratch *sc, const fm_sampler_params *p, float scale, uint64_t index);

/* A token from what top_k, top_p and min_p leave. With top_p but no top_k the scan must have been
 * at temperature 1, with sums. */
int32_t fm_choose_truncated(fm_scratch *sc, const fm_sampler_params *p, float scale,
                            uint64_t index);

/* Tokens of the penalty window with their counts, ascending by token; the window itself is kept
 * only where it slides. */
typedef struct {
    int32_t token, count;
} fm_count;

typedef struct {
    fm_count *counts;
    int32_t num_counts, counts_room;
    int32_t *window; /* ring, NULL when the whole sequence counts */
    int32_t window_size, window_room, window_first, last_n;
} fm_history;

int fm_history_init(fm_history *h, int32_t last_n, int32_t num_vocab, const int32_t *tokens,
                    int32_t num_tokens);
int fm_history_accept(fm_history *h, int32_t token);
void fm_history_free(fm_history *h);
