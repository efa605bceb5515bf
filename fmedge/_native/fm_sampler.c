/* The sampler: parameters and state, the draw from outside, log-probabilities.
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
    if (token >= 0 && token < s->num_vocab) {
        return FM_OK;
    }
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
    if (num <= 0) {
        return FM_OK;
    }
    s->bias = malloc((size_t)num * sizeof *s->bias);
    if (s->bias == NULL) {
        return fm_fail(FM_ERR_MEMORY, "no memory for %d biases", num);
    }
    for (int32_t i = 0; i < num; i++) {
        if (check_token(s, tokens[i]) != FM_OK) {
            return FM_ERR_ARGUMENT;
        }
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
    if (code != FM_OK) {
        return code;
    }
    const fm_kernels *kernels = fm_kernels_get(params->kernels);
    if (kernels == NULL) {
        return fm_fail(FM_ERR_ARGUMENT, "this CPU has no sampler kernels of kind %d",
                       params->kernels);
    }
    fm_sampler *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return fm_fail(FM_ERR_MEMORY, "no memory for a sampler");
    }
    s->params = *params;
    if (s->params.top_k < 0 || s->params.top_k >= num_vocab) {
        s->params.top_k = 0;
    }
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
    if (s == NULL) {
        return;
    }
    fm_history_free(&s->history);
    free(s->bias);
    free(s->banned);
    free(s->edits);
    free(s);
}

int fm_sampler_set_banned(fm_sampler *s, const int32_t *tokens, int32_t num_tokens) {
    int32_t *banned = NULL;
    for (int32_t i = 0; i < num_tokens; i++) {
        if (check_token(s, tokens[i]) != FM_OK) {
            return FM_ERR_ARGUMENT;
        }
    }
    if (num_tokens > 0) {
        banned = malloc((size_t)num_tokens * sizeof *banned);
        if (banned == NULL) {
            return fm_fail(FM_ERR_MEMORY, "no memory for banned tokens");
        }
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
    if (most == 0) {
        return 0;
    }
    if (most > s->edits_room) {
        const size_t room = (size_t)(most + most / 2);
        fm_edit *grown = realloc(s->edits, room * sizeof *grown);
        if (grown == NULL) {
            return fm_fail(FM_ERR_MEMORY, "no memory for edited logits");
        }
        s->edits = grown;
        s->edits_room = (int32_t)room;
    }
    int32_t num = 0, at_count = 0, at_bias = 0, at_ban = 0;
    for (;;) {
        int32_t token = INT32_MAX;
        if (at_count < num_counts) {
            token = counts[at_count].token;
        }
        if (at_bias < s->num_bias && s->bias[at_bias].token < token) {
            token = s->bias[at_bias].token;
        }
        if (at_ban < s->num_banned && s->banned[at_ban] < token) {
            token = s->banned[at_ban];
        }
        if (token == INT32_MAX) {
            return num;
        }
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

/* From the model's own logits; the view may still hold the scan of just these. */
static void write_logprobs(fm_sampler *s, fm_scratch *sc, const float *logits, bool is_scanned,
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
    if (top > 0) {
        num = fm_select_gather(v, fm_select_floor(v, top), INFINITY, top, sc->keys);
    }
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
    fm_scratch sc;
    fm_view *v = &sc.view;
    fm_view_init(v, s->kernels, logits, s->num_vocab);
    const int32_t num_edits = write_edits(s, logits);
    if (num_edits < 0) {
        return num_edits;
    }
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
        return fm_fail(FM_SAMPLER_NO_TOKEN,
                       "no token may be drawn: every one is masked, banned "
                       "or has a logit of -inf or NaN");
    }

    int32_t token;
    if (is_greedy) {
        token = fm_select_nth_equal(v, v->max, 1);
    } else if (is_truncated) {
        token = fm_choose_truncated(&sc, p, scale, s->num_emitted);
    } else {
        token = fm_choose_any(&sc, p, scale, s->num_emitted);
    }
    const int code = fm_sampler_accept(s, token);
    if (code != FM_OK) {
        return code;
    }
    if (p->top_logprobs >= 0) {
        write_logprobs(s, &sc, logits, is_models_own && scan_scale == FM_LOG2E, token);
    }
    *token_out = token;
    return FM_OK;
}

int fm_sampler_accept(fm_sampler *s, int32_t token) {
    if (check_token(s, token) != FM_OK) {
        return FM_ERR_ARGUMENT;
    }
    const int code = fm_history_accept(&s->history, token);
    if (code == FM_OK) {
        s->num_emitted++;
    }
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

int fm_sampler_has_kernels(int32_t kernels) {
    return fm_kernels_get(kernels) != NULL;
}
