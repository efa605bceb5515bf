/* Embeddings: llama.cpp pools where a model was trained for it (encoders, rankers); for a causal
 * model we pool its token vectors, so that one context serves generation and embedding. */

#include <string.h>

#include "fm_engine.h"
#include "fm_error.h"
#include "fm_guard.h"
#include "fm_internal.h"

static int32_t num_vectors(const fm_engine *engine, int32_t num_tokens) {
    return engine->info.pooling == LLAMA_POOLING_TYPE_NONE ? num_tokens : 1;
}

static int32_t vector_width(const fm_engine *engine) {
    if (engine->info.pooling == LLAMA_POOLING_TYPE_RANK) {
        return (int32_t)llama_model_n_cls_out(engine->model);
    }
    return engine->info.num_embd;
}

size_t fm_engine_embed_floats(const fm_engine *engine, int32_t num_tokens) {
    return (size_t)num_vectors(engine, num_tokens) * (size_t)vector_width(engine);
}

static void fill_batch(fm_engine *engine, int32_t seq, int32_t pos, const int32_t *tokens,
                       int32_t num_tokens, bool all_output) {
    fm_batch_clear(engine);
    fm_batch_add(engine, seq, pos, tokens, num_tokens, false);
    memset(engine->batch.logits, all_output, (size_t)num_tokens);
}

/* Pools the vectors of tokens [start, start + num_chunk) of num_tokens, which the last decode put
 * out, into out. */
static int pool_chunk(fm_engine *engine, int32_t start, int32_t num_chunk, int32_t num_tokens,
                      float *out) {
    const int32_t width = engine->info.num_embd;
    for (int32_t i = 0; i < num_chunk; i++) {
        const float *vector = llama_get_embeddings_ith(engine->ctx, i);
        if (vector == NULL) {
            return fm_fail(FM_ERR, "this model gives no embeddings");
        }
        const int32_t position = start + i;
        switch (engine->info.pooling) {
            case LLAMA_POOLING_TYPE_NONE:
                memcpy(out + (size_t)position * (size_t)width, vector, (size_t)width * sizeof *out);
                break;
            case LLAMA_POOLING_TYPE_CLS:
            case LLAMA_POOLING_TYPE_LAST:
                if (position ==
                    (engine->info.pooling == LLAMA_POOLING_TYPE_CLS ? 0 : num_tokens - 1)) {
                    memcpy(out, vector, (size_t)width * sizeof *out);
                }
                break;
            default:
                for (int32_t j = 0; j < width; j++) {
                    out[j] += vector[j] / (float)num_tokens;
                }
        }
    }
    return FM_OK;
}

static int embed_whole(fm_engine *engine, int32_t seq, const int32_t *tokens, int32_t num_tokens,
                       float *out) {
    if (num_tokens > engine->info.ubatch_size) {
        return fm_fail(FM_ERR_ARGUMENT, "this model embeds at most %d tokens at once, not %d",
                       engine->info.ubatch_size, num_tokens);
    }
    fill_batch(engine, seq, 0, tokens, num_tokens, true);
    const int rc = fm_engine_run_batch(engine, engine->memory == NULL || engine->info.has_encoder);
    if (rc != FM_OK) {
        return rc;
    }
    if (engine->llama_pooling == LLAMA_POOLING_TYPE_NONE) {
        return pool_chunk(engine, 0, num_tokens, num_tokens, out);
    }
    const float *vector = llama_get_embeddings_seq(engine->ctx, seq);
    if (vector == NULL) {
        return fm_fail(FM_ERR, "this model gives no embeddings");
    }
    memcpy(out, vector, (size_t)vector_width(engine) * sizeof *out);
    return FM_OK;
}

static int embed_chunked(fm_engine *engine, int32_t seq, const int32_t *tokens, int32_t num_tokens,
                         float *out) {
    const int32_t pooling = engine->info.pooling;
    const int32_t batch_size = engine->info.batch_size;
    const int32_t chunk_size =
        batch_size < FM_EMBED_CHUNK_TOKENS ? batch_size : FM_EMBED_CHUNK_TOKENS;
    /* CLS and LAST look at one token: what lies before it needs no output, what comes after none
     * at all. */
    const int32_t end = pooling == LLAMA_POOLING_TYPE_CLS ? 1 : num_tokens;
    const int32_t num_silent = pooling == LLAMA_POOLING_TYPE_LAST ? num_tokens - 1 : 0;
    int rc = FM_OK;
    int32_t start = 0;
    while (rc == FM_OK && start < num_silent) {
        const int32_t left = num_silent - start;
        const int32_t num_chunk = left < batch_size ? left : batch_size;
        fill_batch(engine, seq, start, tokens + start, num_chunk, false);
        rc = fm_engine_run_batch(engine, false);
        start += num_chunk;
    }
    llama_set_embeddings(engine->ctx, true);
    while (rc == FM_OK && start < end) {
        const int32_t left = end - start;
        const int32_t num_chunk = left < chunk_size ? left : chunk_size;
        fill_batch(engine, seq, start, tokens + start, num_chunk, true);
        rc = fm_engine_run_batch(engine, false);
        rc = rc == FM_OK ? pool_chunk(engine, start, num_chunk, num_tokens, out) : rc;
        start += num_chunk;
    }
    llama_set_embeddings(engine->ctx, false);
    return rc;
}

int fm_engine_embed(fm_engine *engine, int32_t seq, const int32_t *tokens, int32_t num_tokens,
                    float *out) {
    engine->num_step_rows = 0;
    if (seq < 0 || seq >= engine->info.num_seqs) {
        return fm_fail(FM_ERR_ARGUMENT, "sequence id %d is not in 0..%d", seq,
                       engine->info.num_seqs - 1);
    }
    if (num_tokens < 1 || num_tokens > engine->info.ctx_size) {
        return fm_fail(FM_ERR_ARGUMENT, "cannot embed %d tokens: from 1 to %d are possible",
                       num_tokens, engine->info.ctx_size);
    }
    memset(out, 0, fm_engine_embed_floats(engine, num_tokens) * sizeof *out);
    fm_engine_seq_remove(engine, seq, -1, -1);
    const int rc = engine->embeds_whole ? embed_whole(engine, seq, tokens, num_tokens, out)
                                        : embed_chunked(engine, seq, tokens, num_tokens, out);
    fm_batch_clear(engine);
    fm_engine_seq_remove(engine, seq, -1, -1);
    return rc;
}
