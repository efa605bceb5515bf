#pragma once

/* What fm_engine.c, fm_step.c, fm_embed.c and fm_memory.cpp share. Nothing else includes it. */

#include "fm_engine.h"
#include "fm_plan.h"
#include "llama.h"

/* llama.cpp computes logits for every token of a batch that is embedded, so embedding goes in
 * chunks of this many tokens: more would want larger compute and output buffers. */
enum { FM_EMBED_CHUNK_TOKENS = 64 };

struct fm_engine {
    struct fm_plan *plan; /* NULL: an engine that computes */
    bool is_locked;       /* the mapped file is held in memory as a whole */
    struct llama_model *model;
    struct llama_context *ctx;
    llama_memory_t memory; /* NULL: an encoder without KV */
    fm_engine_info info;

    bool embeds_whole;     /* llama.cpp must see an embedded sequence in one graph */
    int32_t llama_pooling; /* what llama.cpp pools itself, enum llama_pooling_type */

    /* the batch: arrays of info.batch_size */
    struct llama_batch batch;
    int32_t num_rows;
    int32_t *row_tokens;   /* [max_rows] batch index of each output row */
    int32_t num_step_rows; /* rows of the last step that succeeded */
    bool has_pending_copy; /* llama.cpp copies between streams at the next decode */

    int abort_requested; /* atomic */

    fm_progress_fn on_progress;
    void *on_progress_data;
    float last_fraction;
    bool is_cancelled;
};

#ifdef __cplusplus
extern "C" {
#endif

/* Decodes (or encodes) the engine's batch and turns llama.cpp's code into ours. */
int fm_engine_run_batch(fm_engine *engine, bool encode);

/* The device that a buffer type lies on; the host's pinned buffers count as the CPU's. */
const char *fm_device_of(ggml_backend_buffer_type_t buft);

/* Bytes that the model and a context with these params take of the host, without allocating. */
int fm_memory_simulate(const char *path, struct llama_model_params model_params,
                       struct llama_context_params ctx_params, uint64_t *host_bytes_out);

#ifdef __cplusplus
}
#endif
