#pragma once
#include <stdint.h>

#include "fm_error.h"

/* Fused sampler: draws one token from one row of logits without a candidate array of the
 * vocabulary.
 *
 *     fm_sampler *s;
 *     fm_sampler_new(&params, num_vocab, NULL, NULL, 0, prompt, num_prompt, 0, &s);
 *     while (fm_sampler_draw(s, logits, NULL, &token) == FM_OK) ...
 *     fm_sampler_free(s);
 *
 * Order of what happens to a logit: penalties, bias, banned tokens and mask, then top_k, top_p and
 * min_p (each on what the one before left, at temperature 1), then temperature, then the draw. That
 * is llama.cpp's default order, save that its bias comes before the penalties. NaN counts as -inf,
 * +inf as the largest float. Equal logits rank by token id, lower first.
 *
 * The random number of a draw is a function of (seed, num_emitted) alone, and every kernel variant
 * computes the same bits, so the token depends on nothing but parameters, history, that index, mask
 * and logits: not on batch mates, not on the CPU's vector width.
 *
 * A sampler belongs to one thread at a time. Drawing allocates nothing, except that a history that
 * is penalised as a whole (penalty_last_n -1) grows by doubling. */

#define FM_SAMPLER_NO_TOKEN (-20) /* every token is masked, banned or -inf; nothing was drawn */
#define FM_SAMPLER_MAX_TOP 20
#define FM_SAMPLER_MAX_VOCAB (1 << 20)

enum { FM_KERNELS_BEST = 0, FM_KERNELS_BASELINE = 1, FM_KERNELS_AVX2 = 2, FM_KERNELS_AVX512 = 3 };

typedef struct {
    float temperature;      /* 0 is greedy */
    int32_t top_k;          /* below 1 is off */
    float top_p;            /* 1 is off */
    float min_p;            /* 0 is off */
    float repeat_penalty;   /* 1 is off */
    float presence_penalty; /* 0 is off */
    float frequency_penalty;
    int32_t penalty_last_n; /* tokens looked at: 0 none, -1 all */
    uint64_t seed;
    int32_t top_logprobs; /* -1 no logprobs, 0 the drawn token's, up to FM_SAMPLER_MAX_TOP more */
    int32_t kernels;      /* FM_KERNELS_*; a variant that this CPU lacks is refused */
} fm_sampler_params;

typedef struct fm_sampler fm_sampler;

#ifdef __cplusplus
extern "C" {
#endif

/* bias_tokens, bias_values: [num_bias]; values of equal tokens add up. history: [num_history],
 * prompt and then what was emitted; num_emitted: index of the next output token. Nothing is kept of
 * the arrays. FM_ERR_ARGUMENT: a parameter or token is out of range; *out is NULL on any error. */
int fm_sampler_new(const fm_sampler_params *params, int32_t num_vocab, const int32_t *bias_tokens,
                   const float *bias_values, int32_t num_bias, const int32_t *history,
                   int32_t num_history, uint64_t num_emitted, fm_sampler **out);
void fm_sampler_free(fm_sampler *s);

/* Replaces the set of tokens that may not be drawn. */
int fm_sampler_set_banned(fm_sampler *s, const int32_t *tokens, int32_t num_tokens);

/* Draws a token and accepts it. logits: [num_vocab]. mask: NULL, or ceil(num_vocab / 32) words
 * whose bit t % 32 of word t / 32 allows token t. */
int fm_sampler_draw(fm_sampler *s, const float *logits, const uint32_t *mask, int32_t *token_out);

/* Counts a token as emitted that was not drawn (a forced one). */
int fm_sampler_accept(fm_sampler *s, int32_t token);

/* Log-probabilities of the last draw, from the model's own distribution: softmax of the logits as
 * given, before penalties, bias, mask, truncation and temperature. top_tokens, top_logprobs:
 * [FM_SAMPLER_MAX_TOP], best first. Returns the number of alternatives, or FM_ERR_ARGUMENT where
 * the sampler has none to give. */
int fm_sampler_logprobs(const fm_sampler *s, float *logprob, int32_t *top_tokens,
                        float *top_logprobs);

/* 1 where this CPU can run that variant (FM_KERNELS_*), 0 where not. */
int fm_sampler_has_kernels(int32_t kernels);

#ifdef __cplusplus
}
#endif
