/* The sampler: parameters, the draw, random numbers, log-probabilities.
 *
 * The rule: a draw changes the sampler only when it succeeds, and then by one accepted token. */
#include "fm_sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fm_sampler_internal.h"

struct fm_sampler {
    fm_sampler_params params;
    const fm_kernels *kernels;
    int32_t num_vocab;
    uint64_t num_emitted;
    fm_history history;
    fm_edit *bias; /* ascending by token, each once; `logit` is what is added */
    int32_t num_bias;
    int32_t *banned; /* ascending */
    int32_t num_banned;
    fm_edit *edits; /* [edits_room], rewritten by each draw */
    int32_t edits_room;
    bool has_logprobs;
    float logprob;
    int32_t num_top;
    int32_t top_tokens[FM_SAMPLER_MAX_TOP];
    float top_logprobs[FM_SAMPLER_MAX_TOP];
};

/* On the stack of a draw, so that samplers stay small and share nothing. */
typedef struct {
    fm_view view;
    uint64_t keys[FM_MAX_KEYS];
    float weights[FM_MAX_KEYS]; /* of keys, of blocks, of one block's tokens */
} scratch;

static int check_params(const fm_sampler_params *p, int32_t num_vocab) {
    const char *wrong = NULL;
    if (num_vocab < 1 || num_vocab > FM_SAMPLER_MAX_VOCAB) {
        return fm_fail(FM_ERR_ARGUMENT, "a vocabulary of %d tokens; 1 to %d are supported",
                       num_vocab, FM_SAMPLER_MAX_VOCAB);
    }
    if (!(p->temperature >= 0.0f && p->temperature <= FLT_MAX)) {
        wrong = "temperature must be a number of at least 0";
    } else if (!(p->top_p >= 0.0f && p->top_p <= 1.0f)) {
        wrong = "top_p must be between 0 and 1";
    } else if (!(p->min_p >= 0.0f && p->min_p <= 1.0f)) {
        wrong = "min_p must be between 0 and 1";
    } else if (!(p->repeat_penalty > 0.0f && p->repeat_penalty <= FLT_MAX &&
                 1.0f / p->repeat_penalty <= FLT_MAX)) {
        wrong = "repeat_penalty must be a number above 0";
    } else if (!isfinite(p->presence_penalty) || !isfinite(p->frequency_penalty)) {
        wrong = "presence_penalty and frequency_penalty must be finite";
    } else if (p->penalty_last_n < -1) {
        wrong = "penalty_last_n must be at least 0, or -1 for the whole sequence";
    } else if (p->top_logprobs < -1 || p->top_logprobs > FM_SAMPLER_MAX_TOP) {
        wrong = "top_logprobs must be between 0 and 20, or -1 for none";
    }
    return wrong == NULL ? FM_OK : fm_fail(FM_ERR_ARGUMENT, "%s", wrong);
}

static bool has_penalties(const fm_sampler_params *p) {
    return p->penalty_last_n != 0 && (p->repeat_penalty != 1.0f || p->presence_penalty != 0.0f ||
                                      p->frequency_penalty != 0.0f);
}

static int check_token(const fm_sampler *s, int32_t token) {
    if (token >= 0 && token < s->num_vocab) return FM_OK;
    return fm_fail(FM_ERR_ARGUMENT, "token %d is not in a vocabulary of %d", token, s->num_vocab);
}

static int by_token(const void *a, const void *b) {
    const int32_t x = ((const fm_edit *)a)->token, y = ((const fm_edit *)b)->token;
    return (x > y) - (x < y);
}

static int by_value(const void *a, const void *b) {
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static int set_bias(fm_sampler *s, const int32_t *tokens, const float *values, int32_t num) {
    if (num <= 0) return FM_OK;
    s->bias = malloc((size_t)num * sizeof *s->bias);
    if (s->bias == NULL) return fm_fail(FM_ERR_MEMORY, "no memory for %d biases", num);
    for (int32_t i = 0; i < num; i++) {
        if (check_token(s, tokens[i]) != FM_OK) return FM_ERR_ARGUMENT;
        if (!(values[i] <= FLT_MAX)) {
            return fm_fail(FM_ERR_ARGUMENT, "the bias of token %d must be finite or -inf",
                           tokens[i]);
        }
        s->bias[i] = (fm_edit){tokens[i], values[i]};
    }
    qsort(s->bias, (size_t)num, sizeof *s->bias, by_token);
    s->num_bias = 1;
    for (int32_t i = 1; i < num; i++) {
        fm_edit *last = &s->bias[s->num_bias - 1];
        if (s->bias[i].token == last->token) {
            last->logit += s->bias[i].logit;
        } else {
            s->bias[s->num_bias++] = s->bias[i];
        }
    }
    return FM_OK;
}

int fm_sampler_new(const fm_sampler_params *params, int32_t num_vocab, const int32_t *bias_tokens,
                   const float *bias_values, int32_t num_bias, const int32_t *history,
                   int32_t num_history, uint64_t num_emitted, fm_sampler **out) {
    *out = NULL;
    int code = check_params(params, num_vocab);
    if (code != FM_OK) return code;
    const fm_kernels *kernels = fm_kernels_get(params->kernels);
    if (kernels == NULL) {
        return fm_fail(FM_ERR_ARGUMENT, "this CPU has no sampler kernels of kind %d",
                       params->kernels);
    }
    fm_sampler *s = calloc(1, sizeof *s);
    if (s == NULL) return fm_fail(FM_ERR_MEMORY, "no memory for a sampler");
    s->params = *params;
    if (s->params.top_k < 0 || s->params.top_k >= num_vocab) s->params.top_k = 0;
    s->kernels = kernels;
    s->num_vocab = num_vocab;
    s->num_emitted = num_emitted;
    const int32_t last_n = has_penalties(params) ? params->penalty_last_n : 0;
    code = set_bias(s, bias_tokens, bias_values, num_bias);
    if (code == FM_OK) {
        code = fm_history_init(&s->history, last_n, num_vocab, history, num_history);
    }
    if (code != FM_OK) {
        fm_sampler_free(s);
        return code;
    }
    *out = s;
    return FM_OK;
}

void fm_sampler_free(fm_sampler *s) {
    if (s == NULL) return;
    fm_history_free(&s->history);
    free(s->bias);
    free(s->banned);
    free(s->edits);
    free(s);
}

int fm_sampler_set_banned(fm_sampler *s, const int32_t *tokens, int32_t num_tokens) {
    int32_t *banned = NULL;
    for (int32_t i = 0; i < num_tokens; i++) {
        if (check_token(s, tokens[i]) != FM_OK) return FM_ERR_ARGUMENT;
    }
    if (num_tokens > 0) {
        banned = malloc((size_t)num_tokens * sizeof *banned);
        if (banned == NULL) return fm_fail(FM_ERR_MEMORY, "no memory for banned tokens");
        memcpy(banned, tokens, (size_t)num_tokens * sizeof *banned);
        qsort(banned, (size_t)num_tokens, sizeof *banned, by_value);
    }
    free(s->banned);
    s->banned = banned;
    s->num_banned = num_tokens > 0 ? num_tokens : 0;
    return FM_OK;
}

static float penalise(const fm_sampler_params *p, float logit, int32_t count) {
    /* Dividing a negative logit would make its token likelier. */
    logit = logit <= 0.0f ? logit * p->repeat_penalty : logit / p->repeat_penalty;
    return logit - ((float)count * p->frequency_penalty + p->presence_penalty);
}

/* Merges the three sorted lists; returns the number of edits or a negative code. */
static int32_t write_edits(fm_sampler *s, const float *logits) {
    const fm_count *counts = s->history.counts;
    const int32_t num_counts = s->history.num_counts;
    const int64_t most = (int64_t)num_counts + s->num_bias + s->num_banned;
    if (most == 0) return 0;
    if (most > s->edits_room) {
        const size_t room = (size_t)(most + most / 2);
        fm_edit *grown = realloc(s->edits, room * sizeof *grown);
        if (grown == NULL) return fm_fail(FM_ERR_MEMORY, "no memory for edited logits");
        s->edits = grown;
        s->edits_room = (int32_t)room;
    }
    int32_t num = 0, at_count = 0, at_bias = 0, at_ban = 0;
    for (;;) {
        int32_t token = INT32_MAX;
        if (at_count < num_counts) token = counts[at_count].token;
        if (at_bias < s->num_bias && s->bias[at_bias].token < token) token = s->bias[at_bias].token;
        if (at_ban < s->num_banned && s->banned[at_ban] < token) token = s->banned[at_ban];
        if (token == INT32_MAX) return num;
        float logit = logits[token];
        if (at_count < num_counts && counts[at_count].token == token) {
            logit = penalise(&s->params, logit, counts[at_count++].count);
        }
        if (at_bias < s->num_bias && s->bias[at_bias].token == token) {
            logit += s->bias[at_bias++].logit;
        }
        while (at_ban < s->num_banned && s->banned[at_ban] == token) {
            logit = -INFINITY;
            at_ban++;
        }
        s->edits[num++] = (fm_edit){token, logit};
    }
}

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
        if (weights[i] <= 0.0f) continue;
        last = i;
        sum += (double)weights[i];
        if (sum > target) break;
    }
    return last;
}

/* Everything is kept. The maxima bound each block's weight from above, so the draw is a rejection
 * sampler over blocks: propose one by its bound, compute its true weight, accept in proportion; a
 * rejected block's bound becomes its weight. A handful of blocks are exponentiated, not all. Given
 * the past, each try is an exact draw if it accepts; the last possible try cannot reject. */
static int32_t draw_all(const fm_sampler *s, scratch *sc, float scale) {
    fm_view *v = &sc->view;
    const fm_kernels *k = v->kernels;
    float *peaks = sc->weights;               /* weight of each block's best token */
    float *sums = peaks + FM_MAX_BLOCKS;      /* each block's weight in units of its peak, or n */
    float *tokens = sums + FM_MAX_BLOCKS;     /* weights within one block */
    uint32_t exact[FM_MAX_BLOCKS / FM_BLOCK_GROUP];    /* which sums are weights, not bounds */
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
        for (int32_t g = 0; g < num_groups; g++) total += groups[g];
        double rest = uniform(s->params.seed, s->num_emitted, try) * total;
        int32_t g = 0;
        while (g < num_groups - 1 && rest >= groups[g]) rest -= groups[g++];
        int32_t b = g * FM_BLOCK_GROUP, last = -1;
        for (; b < (g + 1) * FM_BLOCK_GROUP; b++) {
            const double weight = (double)peaks[b] * (double)sums[b];
            if (weight <= 0.0) continue;
            last = b;
            if (rest < weight) break;
            rest -= weight;
        }
        if (last < 0) continue; /* rounding at the very end of the last group */
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
            if (rest >= (double)sum) continue;
        }
        k->weigh(x, n, -FLT_MAX, v->block_max[b], scale, tokens);
        return b * v->block_size + pick(tokens, n, rest);
    }
}

static int32_t draw_listed(scratch *sc, const uint64_t *keys, int32_t num, float scale, double u) {
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
    if (x == NULL || cut.last_token >= first + *n - 1) return x;
    if (cut.last_token < first) {
        *low = nextafterf(cut.low, INFINITY);
        return x;
    }
    if (x != v->room) memcpy(v->room, x, (size_t)*n * sizeof *x);
    for (int32_t i = cut.last_token - first + 1; i < *n; i++) {
        if (v->room[i] == cut.low) v->room[i] = -INFINITY;
    }
    return v->room;
}

static int32_t draw_kept(scratch *sc, fm_cut cut, float scale, double u) {
    fm_view *v = &sc->view;
    double total = 0.0;
    int32_t n;
    float low;
    float *sums = sc->weights;
    for (int32_t b = 0; b < v->num_blocks; b++) {
        sums[b] = 0.0f;
        if (!(v->block_max[b] >= cut.low)) continue;
        const float *x = kept_block(v, b, cut, &n, &low);
        if (x == NULL) continue;
        v->kernels->count_sum(x, n, low, v->max, scale, &sums[b]);
        total += (double)sums[b];
    }
    const double target = u * total;
    double below = 0.0, before = 0.0;
    int32_t block = 0;
    for (int32_t b = 0; b < v->num_blocks; b++) {
        if (sums[b] <= 0.0f) continue;
        block = b;
        before = below;
        below += (double)sums[b];
        if (below > target) break;
    }
    const float *x = kept_block(v, block, cut, &n, &low);
    v->kernels->weigh(x, n, low, v->max, scale, sc->weights);
    return block * v->block_size + pick(sc->weights, n, target - before);
}

static int32_t draw_truncated(const fm_sampler_params *p, scratch *sc, float scale, double u) {
    fm_view *v = &sc->view;
    uint64_t *keys = sc->keys;
    const float min_p_low =
        p->min_p > 0.0f ? fmaxf(v->max + (float)log((double)p->min_p), -FLT_MAX) : -FLT_MAX;
    const bool has_top_p = p->top_p < 1.0f;
    double total = INFINITY; /* what top_p is a share of, once known */

    if (p->top_k > 0 && p->top_k <= v->num_blocks) {
        float low = fm_select_floor(v, p->top_k);
        if (!has_top_p) low = fmaxf(low, min_p_low);
        const int32_t num = fm_select_gather(v, low, INFINITY, p->top_k, keys);
        const int32_t most = num < p->top_k ? num : p->top_k;
        total = 0.0;
        for (int32_t i = 0; i < most; i++) {
            const uint64_t key = fm_keys_pop(keys, num - i);
            if (!has_top_p) continue;
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
        while (kept > 1 && fm_key_logit(keys[num - kept]) < min_p_low) kept--;
        return draw_listed(sc, keys + num - kept, kept, scale, u);
    }

    if (p->top_k == 0) {
        float low = min_p_low;
        if (has_top_p) {
            /* Mostly a few dozen tokens hold the mass. */
            total = fm_view_total(v, FM_LOG2E, NULL);
            const int32_t few = v->num_blocks / 2 < 64 ? v->num_blocks / 2 : 64;
            low = fmaxf(low, fm_select_floor(v, few > 0 ? few : 1));
        }
        const int32_t num = fm_select_gather(v, low, INFINITY, 0, keys);
        if (num >= 0 && !has_top_p) return draw_listed(sc, keys, num, scale, u);
        double mass = 0.0;
        for (int32_t i = 0; i < num; i++) {
            mass += (double)fm_weight(fm_key_logit(fm_keys_pop(keys, num - i)), v->max, FM_LOG2E);
            if (mass >= total * (double)p->top_p || (i + 1 == num && low == min_p_low)) {
                return draw_listed(sc, keys + num - i - 1, i + 1, scale, u);
            }
        }
    }

    const int64_t most = p->top_k > 0 ? p->top_k : INT64_MAX;
    fm_cut cut = {-FLT_MAX, INT32_MAX};
    double mass = INFINITY;
    if (p->top_k > 0) cut = fm_select_search(v, most, INFINITY, keys, &total);
    if (has_top_p) {
        cut = fm_select_search(v, most, fmax(total * (double)p->top_p, DBL_MIN), keys, &mass);
    }
    if (min_p_low > cut.low) cut = (fm_cut){min_p_low, INT32_MAX};
    return draw_kept(sc, cut, scale, u);
}

/* From the model's own logits; the view may still hold the scan of just these. */
static void write_logprobs(fm_sampler *s, scratch *sc, const float *logits, bool is_scanned,
                           int32_t token) {
    fm_view *v = &sc->view;
    if (!is_scanned) {
        fm_view_init(v, s->kernels, logits, s->num_vocab);
        fm_view_scan(v, FM_LOG2E);
    }
    const double log_total = log(fm_view_total(v, FM_LOG2E, NULL)) + (double)v->max;
    s->logprob = (float)(fmin((double)logits[token], FLT_MAX) - log_total);
    const int32_t top = s->params.top_logprobs;
    int32_t num = 0;
    if (top > 0) num = fm_select_gather(v, fm_select_floor(v, top), INFINITY, top, sc->keys);
    s->num_top = num < top ? num : top;
    for (int32_t i = 0; i < s->num_top; i++) {
        const uint64_t key = fm_keys_pop(sc->keys, num - i);
        s->top_tokens[i] = fm_key_token(key);
        s->top_logprobs[i] = (float)((double)fm_key_logit(key) - log_total);
    }
    s->has_logprobs = true;
}

int fm_sampler_draw(fm_sampler *s, const float *logits, const uint32_t *mask, int32_t *token_out) {
    const fm_sampler_params *p = &s->params;
    scratch sc;
    fm_view *v = &sc.view;
    fm_view_init(v, s->kernels, logits, s->num_vocab);
    const int32_t num_edits = write_edits(s, logits);
    if (num_edits < 0) return num_edits;
    v->edits = s->edits;
    v->num_edits = num_edits;
    v->mask = mask;

    const bool is_greedy = p->temperature == 0.0f;
    const bool is_truncated = !is_greedy && (p->top_k > 0 || p->top_p < 1.0f || p->min_p > 0.0f);
    const bool is_models_own = num_edits == 0 && mask == NULL;
    /* The bounds keep scale finite: beyond them a draw is greedy, or uniform, anyway. */
    const float scale = FM_LOG2E * fminf(fmaxf(1.0f / p->temperature, 1e-30f), 1e30f);
    float scan_scale = 0.0f;
    if ((!is_greedy && p->top_k == 0 && p->top_p < 1.0f) ||
        (p->top_logprobs >= 0 && is_models_own)) {
        scan_scale = FM_LOG2E;
    }
    fm_view_scan(v, scan_scale);
    if (v->max == -INFINITY) {
        return fm_fail(FM_SAMPLER_NO_TOKEN, "no token may be drawn: every one is masked, banned "
                                            "or has a logit of -inf or NaN");
    }

    int32_t token;
    if (is_greedy) {
        token = fm_select_nth_equal(v, v->max, 1);
    } else if (is_truncated) {
        token = draw_truncated(p, &sc, scale, uniform(p->seed, s->num_emitted, 0));
    } else {
        token = draw_all(s, &sc, scale);
    }
    const int code = fm_sampler_accept(s, token);
    if (code != FM_OK) return code;
    if (p->top_logprobs >= 0) {
        write_logprobs(s, &sc, logits, is_models_own && scan_scale == FM_LOG2E, token);
    }
    *token_out = token;
    return FM_OK;
}

int fm_sampler_accept(fm_sampler *s, int32_t token) {
    if (check_token(s, token) != FM_OK) return FM_ERR_ARGUMENT;
    const int code = fm_history_accept(&s->history, token);
    if (code == FM_OK) s->num_emitted++;
    return code;
}

int fm_sampler_logprobs(const fm_sampler *s, float *logprob, int32_t *top_tokens,
                        float *top_logprobs) {
    if (!s->has_logprobs) {
        return fm_fail(FM_ERR_ARGUMENT, "no draw with logprobs has been made");
    }
    *logprob = s->logprob;
    for (int32_t i = 0; i < s->num_top; i++) {
        top_tokens[i] = s->top_tokens[i];
        top_logprobs[i] = s->top_logprobs[i];
    }
    return s->num_top;
}

int fm_sampler_has_kernels(int32_t kernels) { return fm_kernels_get(kernels) != NULL; }
