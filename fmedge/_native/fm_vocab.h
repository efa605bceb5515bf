#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fm_engine.h"

/* A model's tokenizer, either opened alone (no weights) or that of a loaded engine. Its functions
 * may be called from several threads at once. */
typedef struct fm_vocab fm_vocab;

/* Token ids, -1 where the model has none. */
typedef struct {
    int32_t num_tokens;
    int32_t type; /* enum llama_vocab_type */
    int32_t bos;
    int32_t eos;
    int32_t eot;
    int32_t sep;
    int32_t fim_prefix;
    int32_t fim_suffix;
    int32_t fim_middle;
    bool adds_bos;
    bool adds_eos;
} fm_vocab_info;

enum { FM_TOKEN_EOG = 1, FM_TOKEN_CONTROL = 2 };

#ifdef __cplusplus
extern "C" {
#endif

/* FM_ERR_LOAD with llama.cpp's reasons in the log. */
int fm_vocab_open(const char *path, fm_vocab **vocab_out);

/* Valid as long as the engine. */
int fm_vocab_of_engine(const fm_engine *engine, fm_vocab **vocab_out);
void fm_vocab_free(fm_vocab *vocab);

void fm_vocab_get_info(const fm_vocab *vocab, fm_vocab_info *info);

/* tokens: [cap]. Returns how many there are; where that is more than cap, nothing useful was
 * written and the caller comes again with more room. < 0: an FM_ code. */
int32_t fm_vocab_tokenize(const fm_vocab *vocab, const char *text, int32_t num_bytes,
                          bool add_special, bool parse_special, int32_t *tokens, int32_t cap);

/* The bytes of a token, control tokens by name. Returns the length, or, where that is more than
 * cap, the length needed. */
int32_t fm_vocab_piece(const fm_vocab *vocab, int32_t token, char *piece, int32_t cap);

/* flags_out: [num_tokens] of FM_TOKEN_ bits. */
void fm_vocab_flags(const fm_vocab *vocab, uint8_t *flags_out);

#ifdef __cplusplus
}
#endif
