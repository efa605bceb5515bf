/* The loops that bench/sampler.py times, so that no Python lies between two draws.
 *
 * llama.cpp's side does per token what its server does: fill the candidate array from the logits,
 * apply the chain, accept the token. The array is allocated once, as there. */
#include <stdint.h>
#include <time.h>

#include "llama.h"

typedef int (*fm_draw)(void *sampler, const float *logits, const uint32_t *mask, int32_t *token);

/* Of this thread alone, so that a busy machine does not count. */
static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds for num_draws draws over num_rows rows of [num_vocab] logits in turn. */
double loop_ours(void *draw, void *sampler, const float *rows, int32_t num_rows, int32_t num_vocab,
                 int32_t num_draws, int64_t *checksum) {
    const double start_s = now_s();
    for (int32_t i = 0; i < num_draws; i++) {
        int32_t token = -1;
        if (((fm_draw)draw)(sampler, rows + (size_t)(i % num_rows) * num_vocab, 0, &token) != 0) {
            return -1.0;
        }
        *checksum += token;
    }
    return now_s() - start_s;
}

double loop_llama(void *chain, void *room, const float *rows, int32_t num_rows, int32_t num_vocab,
                  int32_t num_draws, int64_t *checksum) {
    llama_token_data *candidates = room;
    const double start_s = now_s();
    for (int32_t i = 0; i < num_draws; i++) {
        const float *logits = rows + (size_t)(i % num_rows) * num_vocab;
        for (llama_token token = 0; token < num_vocab; token++) {
            candidates[token] = (llama_token_data){token, logits[token], 0.0f};
        }
        llama_token_data_array array = {candidates, (size_t)num_vocab, -1, false};
        llama_sampler_apply(chain, &array);
        if (array.selected < 0) {
            return -1.0;
        }
        const llama_token token = candidates[array.selected].id;
        llama_sampler_accept(chain, token);
        *checksum += token;
    }
    return now_s() - start_s;
}
