#pragma once

/* One loaded model with one llama.cpp context: the loop's engine.
 *
 *     fm_engine *engine;
 *     fm_engine_load(&params, &engine);
 *     fm_batch_clear(engine);
 *     int32_t row = fm_batch_add(engine, seq, pos, tokens, num_tokens, true);
 *     fm_engine_step(engine);
 *     fm_engine_sample(engine, 1, &row, &sampler, NULL, &token);
 *
 * One thread owns an engine; only fm_engine_abort may be called from another. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fm_sampler.h"
#include "fm_sizing.h"

typedef struct fm_engine fm_engine;

/* fraction in [0, 1]; false cancels the load. Called on the loading thread. */
typedef bool (*fm_progress_fn)(float fraction, void *user_data);

/* What is NULL or 0 takes llama.cpp's default unless said otherwise. */
typedef struct {
    const char *path;
    int32_t ctx_size; /* longest sequence in tokens; 0: min(the model's, 8192) */
    int32_t slots;    /* sequences that decode at once */
    bool kv_unified;
    int32_t kv_tokens;   /* unified: cells of the pool; 0: ctx_size x slots */
    int32_t extra_seqs;  /* unified: sequence ids beyond the slots (retained prefixes) */
    int32_t batch_size;  /* most tokens a step */
    int32_t ubatch_size; /* most tokens a compute graph */
    int32_t threads;
    int32_t gpu_layers; /* -1: all */
    bool has_devices;   /* false: every GPU; true: `devices`, none where num_devices is 0 */
    const char *const *devices;
    int32_t num_devices;
    int32_t split_mode; /* enum llama_split_mode */
    int32_t main_gpu;
    const float *tensor_split; /* [num_tensor_split] */
    int32_t num_tensor_split;
    const char *const *override_patterns; /* [num_overrides] regex on tensor names ... */
    const char *const *override_buffers;  /* ... and the buffer type that takes them */
    int32_t num_overrides;
    const char *type_k; /* ggml type names */
    const char *type_v;
    int32_t flash_attn; /* -1 auto, 0 off, 1 on */
    bool mmap;
    bool mlock;
    bool offload_kqv;
    bool op_offload;
    int32_t pooling;          /* enum llama_pooling_type; -1: as the model says */
    uint64_t host_bytes_free; /* refuse a context that takes more of the host; 0: no check */
    fm_progress_fn on_progress;
    void *on_progress_data;
    bool is_plan; /* only size it, on plan_devices in place of `devices` (fm_sizing.h) */
    const fm_plan_device *plan_devices;
    int32_t num_plan_devices;
} fm_engine_params;

typedef struct {
    int32_t ctx_size;
    int32_t slots;
    int32_t num_seqs; /* sequence ids are 0 .. num_seqs - 1 */
    int32_t batch_size;
    int32_t ubatch_size;
    int32_t max_rows; /* most output rows a step */
    int32_t num_vocab;
    int32_t num_embd; /* width of an embedding */
    int32_t num_layers;
    int64_t num_params;
    int64_t model_bytes;
    int32_t ctx_train;
    int32_t threads;
    bool kv_unified;
    int32_t kv_tokens; /* cells over all sequences; 0: this model has no memory */
    int32_t pooling;   /* what embed does, enum llama_pooling_type */
    bool has_encoder;
    bool has_decoder;
    bool can_generate;
    bool is_recurrent;
    int32_t window_tokens; /* of sliding or chunked attention; 0: every layer sees everything */
    bool can_shift;
    char description[128];
} fm_engine_info;

/* Bytes allocated on one device. */
typedef struct {
    char device[128];
    uint64_t weights;
    uint64_t context;
    uint64_t compute;
} fm_memory_row;

/* Where a layer's weights are; expert_device "": it has no experts. */
typedef struct {
    char device[128];
    char expert_device[128];
} fm_layer_row;

#ifdef __cplusplus
extern "C" {
#endif

/* FM_ERR_ARGUMENT, _FILE, _LOAD, _CANCELLED, _MEMORY, _CONTEXT; llama.cpp's reasons are in the
 * log. */
int fm_engine_load(const fm_engine_params *params, fm_engine **engine_out);
void fm_engine_free(fm_engine *engine);
void fm_engine_get_info(const fm_engine *engine, fm_engine_info *info);

/* Fills at most cap rows; returns how many there are. */
int fm_engine_memory(const fm_engine *engine, fm_memory_row *rows, int cap);

/* Fills at most cap rows, one for each layer and then the output head; returns how many. */
int fm_engine_layers(const fm_engine *engine, fm_layer_row *rows, int cap);

/* The step in flight ends within one graph node; with none in flight, the next one ends at once.
 * From any thread. */
void fm_engine_abort(fm_engine *engine);

/* The batch outlives its engine in Python, so these three take NULL for a closed one. */
void fm_batch_clear(fm_engine *engine);
int32_t fm_batch_num_tokens(const fm_engine *engine);

/* Appends tokens [num_tokens] of seq at positions pos, pos + 1, ...; with want_logits the last of
 * them gets an output row. Returns that row, -1 for none, or FM_ERR_ARGUMENT (< -1). */
int32_t fm_batch_add(fm_engine *engine, int32_t seq, int32_t pos, const int32_t *tokens,
                     int32_t num_tokens, bool want_logits);
int32_t fm_batch_add_token(fm_engine *engine, int32_t seq, int32_t pos, int32_t token);

/* Decodes the batch: FM_ERR_KV_FULL, FM_ERR_ABORTED, FM_ERR. */
int fm_engine_step(fm_engine *engine);

/* Logits of an output row of the last step, [num_vocab]; NULL if there is no such row. */
const float *fm_engine_logits(fm_engine *engine, int32_t row);

/* tokens_out[i] := a draw by samplers[i] from row rows[i] under masks[i]; masks may be NULL, and
 * so may each of it. A row that cannot be drawn gets -1. Returns FM_OK, or FM_ERR_ARGUMENT for a
 * row that the last step did not have. */
int fm_engine_sample(fm_engine *engine, int32_t num_rows, const int32_t *rows,
                     fm_sampler *const *samplers, const uint32_t *const *masks,
                     int32_t *tokens_out);

/* dst := the first num_tokens positions of src. */
int fm_engine_seq_copy(fm_engine *engine, int32_t src, int32_t dst, int32_t num_tokens);

/* Removes positions [from_pos, to_pos); to_pos -1: to the end. 1: done, 0: this model cannot
 * remove part of a sequence, < 0: an FM_ code. */
int fm_engine_seq_remove(fm_engine *engine, int32_t seq, int32_t from_pos, int32_t to_pos);

/* Number of positions, or an FM_ code. */
int32_t fm_engine_seq_len(const fm_engine *engine, int32_t seq);

int fm_engine_state_size(fm_engine *engine, int32_t seq, size_t *num_bytes_out);
int fm_engine_state_save(fm_engine *engine, int32_t seq, uint8_t *data, size_t num_bytes,
                         size_t *num_written_out);
int fm_engine_state_restore(fm_engine *engine, int32_t seq, const uint8_t *data, size_t num_bytes);

/* Floats that fm_engine_embed will write for num_tokens tokens. */
size_t fm_engine_embed_floats(const fm_engine *engine, int32_t num_tokens);

/* Pools the embeddings of tokens into out; uses seq and leaves it empty. Clobbers the batch. */
int fm_engine_embed(fm_engine *engine, int32_t seq, const int32_t *tokens, int32_t num_tokens,
                    float *out);

#ifdef __cplusplus
}
#endif
