#pragma once

/* Where C++ exceptions end. llama.cpp throws out of some functions of its C interface; through our
 * C frames that would be the end of the process. Each function here is the llama.cpp call of the
 * same name with every exception turned into an FM_ code. */

#include <stddef.h>
#include <stdint.h>

#include "llama.h"

#ifdef __cplusplus
extern "C" {
#endif

/* llama_decode's (llama_encode's) code in *rc_out. */
int fm_guard_decode(struct llama_context *ctx, struct llama_batch batch, int32_t *rc_out);
int fm_guard_encode(struct llama_context *ctx, struct llama_batch batch, int32_t *rc_out);

int fm_guard_load_model(const char *path, struct llama_model_params params,
                        struct llama_model **model_out);
int fm_guard_init_context(struct llama_model *model, struct llama_context_params params,
                          struct llama_context **ctx_out);

/* gguf_init_from_callback without tensor data. */
int fm_guard_gguf_open(gguf_reader_callback_t on_read, void *data, size_t max_chunk_bytes,
                       uint64_t max_bytes, struct gguf_context **ctx_out);

/* *num_out: llama_tokenize's result (negative: the capacity needed, negated). */
int fm_guard_tokenize(const struct llama_vocab *vocab, const char *text, int32_t num_bytes,
                      llama_token *tokens, int32_t cap, bool add_special, bool parse_special,
                      int32_t *num_out);

int fm_guard_seq_remove(struct llama_context *ctx, int32_t seq, int32_t from_pos, int32_t to_pos,
                        bool *removed_out);
int fm_guard_seq_copy(struct llama_context *ctx, int32_t src, int32_t dst, int32_t from_pos,
                      int32_t to_pos);

int fm_guard_state_size(struct llama_context *ctx, int32_t seq, size_t *num_bytes_out);
int fm_guard_state_get(struct llama_context *ctx, int32_t seq, uint8_t *data, size_t num_bytes,
                       size_t *num_written_out);
int fm_guard_state_set(struct llama_context *ctx, int32_t seq, const uint8_t *data,
                       size_t num_bytes, size_t *num_read_out);

#ifdef __cplusplus
}
#endif
