#include "fm_vocab.h"

#include <stdlib.h>

#include "fm_error.h"
#include "fm_guard.h"
#include "fm_internal.h"

struct fm_vocab {
    struct llama_model *owned_model; /* NULL: an engine owns it */
    const struct llama_vocab *vocab;
};

static int make(struct llama_model *owned, const struct llama_model *model, fm_vocab **vocab_out) {
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    if (vocab == NULL || llama_vocab_type(vocab) == LLAMA_VOCAB_TYPE_NONE) {
        return fm_fail(FM_ERR_LOAD, "the model has no tokenizer");
    }
    fm_vocab *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return fm_fail(FM_ERR_MEMORY, "not enough memory on the host");
    }
    made->owned_model = owned;
    made->vocab = vocab;
    *vocab_out = made;
    return FM_OK;
}

int fm_vocab_open(const char *path, fm_vocab **vocab_out) {
    *vocab_out = NULL;
    struct llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    params.n_gpu_layers = 0;
    ggml_backend_dev_t no_devices[] = {NULL};
    params.devices = no_devices;
    struct llama_model *model;
    int rc = fm_guard_load_model(path, params, &model);
    if (rc == FM_OK && model == NULL) {
        rc = fm_fail(FM_ERR_LOAD, "llama.cpp could not load the tokenizer");
    }
    if (rc != FM_OK) {
        return rc;
    }
    rc = make(model, model, vocab_out);
    if (rc != FM_OK) {
        llama_model_free(model);
    }
    return rc;
}

int fm_vocab_of_engine(const fm_engine *engine, fm_vocab **vocab_out) {
    *vocab_out = NULL;
    return make(NULL, engine->model, vocab_out);
}

void fm_vocab_free(fm_vocab *vocab) {
    if (vocab == NULL) {
        return;
    }
    llama_model_free(vocab->owned_model);
    free(vocab);
}

void fm_vocab_get_info(const fm_vocab *vocab, fm_vocab_info *info) {
    const struct llama_vocab *v = vocab->vocab;
    *info = (fm_vocab_info){
        .num_tokens = llama_vocab_n_tokens(v),
        .type = (int32_t)llama_vocab_type(v),
        .bos = llama_vocab_bos(v),
        .eos = llama_vocab_eos(v),
        .eot = llama_vocab_eot(v),
        .sep = llama_vocab_sep(v),
        .fim_prefix = llama_vocab_fim_pre(v),
        .fim_suffix = llama_vocab_fim_suf(v),
        .fim_middle = llama_vocab_fim_mid(v),
        .adds_bos = llama_vocab_get_add_bos(v),
        .adds_eos = llama_vocab_get_add_eos(v),
    };
}

int32_t fm_vocab_tokenize(const fm_vocab *vocab, const char *text, int32_t num_bytes,
                          bool add_special, bool parse_special, int32_t *tokens, int32_t cap) {
    int32_t num_tokens = 0;
    const int rc = fm_guard_tokenize(vocab->vocab, text, num_bytes, tokens, cap, add_special,
                                     parse_special, &num_tokens);
    if (rc != FM_OK) {
        return rc;
    }
    if (num_tokens == INT32_MIN) {
        return fm_fail(FM_ERR_ARGUMENT, "a text of %d bytes has too many tokens to count",
                       num_bytes);
    }
    return num_tokens < 0 ? -num_tokens : num_tokens;
}

int32_t fm_vocab_piece(const fm_vocab *vocab, int32_t token, char *piece, int32_t cap) {
    if (token < 0 || token >= llama_vocab_n_tokens(vocab->vocab)) {
        return fm_fail(FM_ERR_ARGUMENT, "there is no token %d", token);
    }
    const int32_t length = llama_token_to_piece(vocab->vocab, token, piece, cap, 0, true);
    return length < 0 ? -length : length;
}

void fm_vocab_flags(const fm_vocab *vocab, uint8_t *flags_out) {
    const int32_t num_tokens = llama_vocab_n_tokens(vocab->vocab);
    for (int32_t token = 0; token < num_tokens; token++) {
        flags_out[token] =
            (uint8_t)((llama_vocab_is_eog(vocab->vocab, token) ? FM_TOKEN_EOG : 0) |
                      (llama_vocab_is_control(vocab->vocab, token) ? FM_TOKEN_CONTROL : 0));
    }
}
