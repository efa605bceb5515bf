#include "fm_guard.h"

#include <exception>
#include <new>

#include "fm_error.h"

template <typename Call>
static int guarded(const char *what, Call call) {
    try {
        call();
        return FM_OK;
    } catch (const std::bad_alloc &) {
        return fm_fail(FM_ERR_MEMORY, "%s: not enough memory on the host", what);
    } catch (const std::exception &error) {
        return fm_fail(FM_ERR, "%s: %s", what, error.what());
    } catch (...) {
        return fm_fail(FM_ERR, "%s: unknown C++ exception", what);
    }
}

int fm_guard_decode(llama_context *ctx, llama_batch batch, int32_t *rc_out) {
    return guarded("decode", [&] { *rc_out = llama_decode(ctx, batch); });
}

int fm_guard_encode(llama_context *ctx, llama_batch batch, int32_t *rc_out) {
    return guarded("encode", [&] { *rc_out = llama_encode(ctx, batch); });
}

int fm_guard_load_model(const char *path, llama_model_params params, llama_model **model_out) {
    *model_out = nullptr;
    return guarded("load", [&] { *model_out = llama_model_load_from_file(path, params); });
}

int fm_guard_init_context(llama_model *model, llama_context_params params,
                          llama_context **ctx_out) {
    *ctx_out = nullptr;
    return guarded("context", [&] { *ctx_out = llama_init_from_model(model, params); });
}

int fm_guard_gguf_open(gguf_reader_callback_t on_read, void *data, size_t max_chunk_bytes,
                       uint64_t max_bytes, gguf_context **ctx_out) {
    *ctx_out = nullptr;
    const gguf_init_params params = {/*.no_alloc =*/true, /*.ctx =*/nullptr};
    return guarded("GGUF header", [&] {
        *ctx_out = gguf_init_from_callback(on_read, data, max_chunk_bytes, max_bytes, params);
    });
}

int fm_guard_tokenize(const llama_vocab *vocab, const char *text, int32_t num_bytes,
                      llama_token *tokens, int32_t cap, bool add_special, bool parse_special,
                      int32_t *num_out) {
    return guarded("tokenize", [&] {
        *num_out = llama_tokenize(vocab, text, num_bytes, tokens, cap, add_special, parse_special);
    });
}

int fm_guard_seq_remove(llama_context *ctx, int32_t seq, int32_t from_pos, int32_t to_pos,
                        bool *removed_out) {
    return guarded("sequence removal", [&] {
        *removed_out = llama_memory_seq_rm(llama_get_memory(ctx), seq, from_pos, to_pos);
    });
}

int fm_guard_seq_copy(llama_context *ctx, int32_t src, int32_t dst, int32_t from_pos,
                      int32_t to_pos) {
    return guarded("sequence copy",
                   [&] { llama_memory_seq_cp(llama_get_memory(ctx), src, dst, from_pos, to_pos); });
}

int fm_guard_state_size(llama_context *ctx, int32_t seq, size_t *num_bytes_out) {
    return guarded("state size", [&] { *num_bytes_out = llama_state_seq_get_size(ctx, seq); });
}

int fm_guard_state_get(llama_context *ctx, int32_t seq, uint8_t *data, size_t num_bytes,
                       size_t *num_written_out) {
    return guarded("state save",
                   [&] { *num_written_out = llama_state_seq_get_data(ctx, data, num_bytes, seq); });
}

int fm_guard_state_set(llama_context *ctx, int32_t seq, const uint8_t *data, size_t num_bytes,
                       size_t *num_read_out) {
    return guarded("state restore",
                   [&] { *num_read_out = llama_state_seq_set_data(ctx, data, num_bytes, seq); });
}
