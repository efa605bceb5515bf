/* The engine's hot path: fill a batch, decode it, draw from its rows; and sequences' KV. */

#include <string.h>

#include "fm_engine.h"
#include "fm_error.h"
#include "fm_guard.h"
#include "fm_internal.h"
#include "fm_log.h"

void fm_batch_clear(fm_engine *engine) {
    if (engine == NULL) {
        return;
    }
    engine->batch.n_tokens = 0;
    engine->num_rows = 0;
}

int32_t fm_batch_num_tokens(const fm_engine *engine) {
    return engine == NULL ? 0 : engine->batch.n_tokens;
}

static bool is_seq(const fm_engine *engine, int32_t seq) {
    return seq >= 0 && seq < engine->info.num_seqs;
}

static int check_seq(const fm_engine *engine, int32_t seq) {
    if (!is_seq(engine, seq)) {
        return fm_fail(FM_ERR_ARGUMENT, "sequence id %d is not in 0..%d", seq,
                       engine->info.num_seqs - 1);
    }
    return FM_OK;
}

int32_t fm_batch_add(fm_engine *engine, int32_t seq, int32_t pos, const int32_t *tokens,
                     int32_t num_tokens, bool want_logits) {
    if (engine == NULL) {
        return fm_fail(FM_ERR_ARGUMENT, "this engine was closed");
    }
    struct llama_batch *batch = &engine->batch;
    if (check_seq(engine, seq) != FM_OK) {
        return FM_ERR_ARGUMENT;
    }
    if (num_tokens < 1 || num_tokens > engine->info.batch_size - batch->n_tokens) {
        return fm_fail(FM_ERR_ARGUMENT, "a batch of %d tokens with %d in it cannot take %d more",
                       engine->info.batch_size, batch->n_tokens, num_tokens);
    }
    if (want_logits && engine->num_rows >= engine->info.max_rows) {
        return fm_fail(FM_ERR_ARGUMENT, "a step has at most %d output rows", engine->info.max_rows);
    }
    const int32_t start = batch->n_tokens;
    memcpy(batch->token + start, tokens, (size_t)num_tokens * sizeof *tokens);
    memset(batch->logits + start, 0, (size_t)num_tokens);
    for (int32_t i = 0; i < num_tokens; i++) {
        batch->pos[start + i] = pos + i;
        batch->seq_id[start + i][0] = seq;
    }
    batch->n_tokens += num_tokens;
    if (!want_logits) {
        return -1;
    }
    batch->logits[batch->n_tokens - 1] = 1;
    engine->row_tokens[engine->num_rows] = batch->n_tokens - 1;
    return engine->num_rows++;
}

int32_t fm_batch_add_token(fm_engine *engine, int32_t seq, int32_t pos, int32_t token) {
    return fm_batch_add(engine, seq, pos, &token, 1, true);
}

int fm_engine_run_batch(fm_engine *engine, bool encode) {
    const uint64_t cursor = fm_log_cursor();
    int32_t rc_llama = 0;
    const int rc = encode ? fm_guard_encode(engine->ctx, engine->batch, &rc_llama)
                          : fm_guard_decode(engine->ctx, engine->batch, &rc_llama);
    const int was_aborted = __atomic_exchange_n(&engine->abort_requested, 0, __ATOMIC_RELAXED);
    if (rc != FM_OK) {
        return rc;
    }
    if (rc_llama == 0) {
        engine->has_pending_copy = false;
        return FM_OK;
    }
    if (rc_llama == 1 && !encode) {
        return fm_fail(FM_ERR_KV_FULL, "no KV cells for a batch of %d tokens",
                       engine->batch.n_tokens);
    }
    if (rc_llama == 2 || was_aborted) {
        return fm_fail(FM_ERR_ABORTED, "the step was aborted");
    }
    char reason[FM_LOG_LINE_BYTES];
    fm_log_first_error(cursor, reason, sizeof reason);
    return fm_fail(FM_ERR, "llama.cpp could not decode a batch of %d tokens (code %d): %s",
                   engine->batch.n_tokens, rc_llama, reason);
}

int fm_engine_step(fm_engine *engine) {
    engine->num_step_rows = 0;
    if (!engine->info.can_generate) {
        return fm_fail(FM_ERR_ARGUMENT, "this model cannot generate text");
    }
    if (engine->batch.n_tokens == 0) {
        return fm_fail(FM_ERR_ARGUMENT, "the batch is empty");
    }
    const int rc = fm_engine_run_batch(engine, false);
    if (rc == FM_OK) {
        engine->num_step_rows = engine->num_rows;
        llama_synchronize(engine->ctx);
    }
    return rc;
}

const float *fm_engine_logits(fm_engine *engine, int32_t row) {
    if (row < 0 || row >= engine->num_step_rows) {
        return NULL;
    }
    return llama_get_logits_ith(engine->ctx, engine->row_tokens[row]);
}

int fm_engine_sample(fm_engine *engine, int32_t num_rows, const int32_t *rows,
                     fm_sampler *const *samplers, const uint32_t *const *masks,
                     int32_t *tokens_out) {
    for (int32_t i = 0; i < num_rows; i++) {
        if (rows[i] < 0 || rows[i] >= engine->num_step_rows) {
            return fm_fail(FM_ERR_ARGUMENT, "the last step had %d output rows, not one numbered %d",
                           engine->num_step_rows, rows[i]);
        }
    }
    for (int32_t i = 0; i < num_rows; i++) {
        const float *logits = fm_engine_logits(engine, rows[i]);
        const uint32_t *mask = masks == NULL ? NULL : masks[i];
        if (logits == NULL || fm_sampler_draw(samplers[i], logits, mask, &tokens_out[i]) != FM_OK) {
            tokens_out[i] = -1;
        }
    }
    return FM_OK;
}

int fm_engine_seq_copy(fm_engine *engine, int32_t src, int32_t dst, int32_t num_tokens) {
    if (check_seq(engine, src) != FM_OK || check_seq(engine, dst) != FM_OK) {
        return FM_ERR_ARGUMENT;
    }
    const int32_t src_len = fm_engine_seq_len(engine, src);
    if (src == dst || num_tokens < 0 || num_tokens > src_len) {
        return fm_fail(FM_ERR_ARGUMENT, "cannot copy %d tokens of sequence %d (%d long) to %d",
                       num_tokens, src, src_len, dst);
    }
    if (engine->info.is_recurrent && num_tokens != 0 && num_tokens != src_len) {
        return fm_fail(FM_ERR_ARGUMENT,
                       "a recurrent model's sequence of %d tokens cannot be copied in part (%d)",
                       src_len, num_tokens);
    }
    bool removed = true;
    int rc = fm_guard_seq_remove(engine->ctx, dst, -1, -1, &removed);
    if (rc != FM_OK || num_tokens == 0) {
        return rc;
    }
    if (engine->info.kv_unified) {
        const int32_t end = num_tokens == src_len ? -1 : num_tokens;
        return fm_guard_seq_copy(engine->ctx, src, dst, end < 0 ? -1 : 0, end);
    }
    rc = fm_guard_seq_copy(engine->ctx, src, dst, -1, -1);
    engine->has_pending_copy = true;
    if (rc == FM_OK && num_tokens < src_len) {
        rc = fm_guard_seq_remove(engine->ctx, dst, num_tokens, -1, &removed);
    }
    if (rc == FM_OK && !removed) {
        fm_guard_seq_remove(engine->ctx, dst, -1, -1, &removed);
        rc = fm_fail(FM_ERR, "this model cannot cut a copied sequence to %d tokens", num_tokens);
    }
    return rc;
}

int fm_engine_seq_remove(fm_engine *engine, int32_t seq, int32_t from_pos, int32_t to_pos) {
    if (check_seq(engine, seq) != FM_OK) {
        return FM_ERR_ARGUMENT;
    }
    if (engine->memory == NULL) {
        return 1;
    }
    bool removed = false;
    /* llama.cpp never refuses a whole sequence, if told so by negative bounds. */
    const int rc = fm_guard_seq_remove(engine->ctx, seq, from_pos <= 0 ? -1 : from_pos,
                                       to_pos < 0 ? -1 : to_pos, &removed);
    return rc == FM_OK ? removed : rc;
}

int32_t fm_engine_seq_len(const fm_engine *engine, int32_t seq) {
    if (check_seq(engine, seq) != FM_OK) {
        return FM_ERR_ARGUMENT;
    }
    return engine->memory == NULL ? 0 : llama_memory_seq_pos_max(engine->memory, seq) + 1;
}

static int check_state(const fm_engine *engine, int32_t seq) {
    if (check_seq(engine, seq) != FM_OK) {
        return FM_ERR_ARGUMENT;
    }
    if (engine->memory == NULL) {
        return fm_fail(FM_ERR_ARGUMENT, "this model has no state to save");
    }
    if (engine->has_pending_copy) {
        return fm_fail(FM_ERR_ARGUMENT,
                       "a sequence copy is pending until the next step: step first");
    }
    return FM_OK;
}

int fm_engine_state_size(fm_engine *engine, int32_t seq, size_t *num_bytes_out) {
    const int rc = check_state(engine, seq);
    return rc != FM_OK ? rc : fm_guard_state_size(engine->ctx, seq, num_bytes_out);
}

int fm_engine_state_save(fm_engine *engine, int32_t seq, uint8_t *data, size_t num_bytes,
                         size_t *num_written_out) {
    int rc = check_state(engine, seq);
    if (rc != FM_OK) {
        return rc;
    }
    rc = fm_guard_state_get(engine->ctx, seq, data, num_bytes, num_written_out);
    if (rc == FM_OK && *num_written_out == 0) {
        rc = fm_fail(FM_ERR, "llama.cpp could not save sequence %d", seq);
    }
    return rc;
}

int fm_engine_state_restore(fm_engine *engine, int32_t seq, const uint8_t *data, size_t num_bytes) {
    int rc = check_state(engine, seq);
    if (rc != FM_OK) {
        return rc;
    }
    bool removed;
    size_t num_read = 0;
    rc = fm_guard_seq_remove(engine->ctx, seq, -1, -1, &removed);
    rc = rc == FM_OK ? fm_guard_state_set(engine->ctx, seq, data, num_bytes, &num_read) : rc;
    if (rc == FM_OK && num_read == 0) {
        fm_guard_seq_remove(engine->ctx, seq, -1, -1, &removed);
        rc = fm_fail(FM_ERR, "llama.cpp could not restore sequence %d from %zu bytes", seq,
                     num_bytes);
    }
    return rc;
}
