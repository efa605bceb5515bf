/* The penalty window: which tokens it holds and how often.
 *
 * The rule: counts stay sorted by token, so that a draw merges them with bias and bans in one sweep
 * and never sorts. */
#include "fm_sampler_internal.h"

#include <stdlib.h>
#include <string.h>

static int no_memory(void) {
    return fm_fail(FM_ERR_MEMORY, "no memory for the sampler's penalty window");
}

static int32_t find(const fm_history *h, int32_t token) {
    int32_t low = 0, high = h->num_counts;
    while (low < high) {
        const int32_t middle = low + (high - low) / 2;
        if (h->counts[middle].token < token) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static int reserve_counts(fm_history *h, int32_t room) {
    if (room <= h->counts_room) {
        return FM_OK;
    }
    fm_count *grown = realloc(h->counts, (size_t)room * sizeof *grown);
    if (grown == NULL) {
        return no_memory();
    }
    h->counts = grown;
    h->counts_room = room;
    return FM_OK;
}

static int count_token(fm_history *h, int32_t token) {
    const int32_t at = find(h, token);
    if (at < h->num_counts && h->counts[at].token == token) {
        h->counts[at].count++;
        return FM_OK;
    }
    if (h->num_counts == h->counts_room) {
        const int code = reserve_counts(h, h->counts_room + h->counts_room / 2 + 64);
        if (code != FM_OK) {
            return code;
        }
    }
    memmove(h->counts + at + 1, h->counts + at, (size_t)(h->num_counts - at) * sizeof *h->counts);
    h->counts[at] = (fm_count){token, 1};
    h->num_counts++;
    return FM_OK;
}

static void forget_token(fm_history *h, int32_t token) {
    const int32_t at = find(h, token);
    if (--h->counts[at].count > 0) {
        return;
    }
    h->num_counts--;
    memmove(h->counts + at, h->counts + at + 1, (size_t)(h->num_counts - at) * sizeof *h->counts);
}

/* Counts many tokens through a dense array: insertion one by one is quadratic in a long prompt. */
static int count_all(fm_history *h, int32_t num_vocab, const int32_t *tokens, int32_t num_tokens) {
    int32_t *dense = calloc((size_t)num_vocab, sizeof *dense);
    if (dense == NULL) {
        return no_memory();
    }
    int32_t num_distinct = 0;
    for (int32_t i = 0; i < num_tokens; i++) {
        num_distinct += dense[tokens[i]]++ == 0;
    }
    const int code = reserve_counts(h, num_distinct + 64);
    for (int32_t token = 0; code == FM_OK && token < num_vocab; token++) {
        if (dense[token] > 0) {
            h->counts[h->num_counts++] = (fm_count){token, dense[token]};
        }
    }
    free(dense);
    return code;
}

int fm_history_init(fm_history *h, int32_t last_n, int32_t num_vocab, const int32_t *tokens,
                    int32_t num_tokens) {
    memset(h, 0, sizeof *h);
    h->last_n = last_n;
    if (last_n >= 0 && num_tokens > last_n) {
        tokens += num_tokens - last_n;
        num_tokens = last_n;
    }
    if (last_n == 0) {
        return FM_OK;
    }
    for (int32_t i = 0; i < num_tokens; i++) {
        if (tokens[i] < 0 || tokens[i] >= num_vocab) {
            return fm_fail(FM_ERR_ARGUMENT, "token %d in the history is not in a vocabulary of %d",
                           tokens[i], num_vocab);
        }
    }
    if (last_n > 0) {
        /* Most windows are short; a long one grows as the sequence does. */
        h->window_room = last_n < num_tokens + 256 ? last_n : num_tokens + 256;
        h->window = malloc((size_t)h->window_room * sizeof *h->window);
        if (h->window == NULL) {
            return no_memory();
        }
        if (num_tokens > 0) {
            memcpy(h->window, tokens, (size_t)num_tokens * sizeof *h->window);
        }
        h->window_size = num_tokens;
    }
    if (num_tokens > 256) {
        return count_all(h, num_vocab, tokens, num_tokens);
    }
    int code = reserve_counts(h, num_tokens + 64);
    for (int32_t i = 0; code == FM_OK && i < num_tokens; i++) {
        code = count_token(h, tokens[i]);
    }
    return code;
}

int fm_history_accept(fm_history *h, int32_t token) {
    if (h->last_n == 0) {
        return FM_OK;
    }
    if (h->last_n > 0) {
        if (h->window_size == h->last_n) {
            forget_token(h, h->window[h->window_first]);
            h->window[h->window_first] = token;
            h->window_first = (h->window_first + 1) % h->last_n;
        } else {
            if (h->window_size == h->window_room) {
                /* The window has not slid yet, so it starts at 0 and may simply grow. */
                const int32_t twice =
                    h->window_room < INT32_MAX / 2 ? h->window_room * 2 : INT32_MAX;
                const int32_t room = twice < h->last_n ? twice : h->last_n;
                int32_t *grown = realloc(h->window, (size_t)room * sizeof *grown);
                if (grown == NULL) {
                    return no_memory();
                }
                h->window = grown;
                h->window_room = room;
            }
            h->window[h->window_size++] = token;
        }
    }
    return count_token(h, token);
}

void fm_history_free(fm_history *h) {
    free(h->counts);
    free(h->window);
}
