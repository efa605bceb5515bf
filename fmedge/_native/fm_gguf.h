#pragma once

#include <stdbool.h>
#include <stdint.h>

/* A GGUF's header, read by ggml's own reader without its tensor data.
 *
 * A GGUF is untrusted input. So the reader sees at most FM_GGUF_MAX_HEADER_BYTES of the file and
 * counts are checked before it allocates by them; what it still throws ends in fm_guard.cpp. */
typedef struct fm_gguf fm_gguf;

enum {
    FM_GGUF_MAX_HEADER_BYTES = 64 << 20, /* the largest tokenizers take about 16 MiB */
    FM_GGUF_MAX_TENSORS = 1 << 18,
    FM_GGUF_MAX_KEYS = 1 << 16,
    FM_GGUF_MAX_ARRAY_ELEMENTS = 8 << 20, /* over all arrays */
};

typedef struct {
    int32_t version;
    int32_t num_keys;
    int32_t num_tensors;
    uint64_t alignment;
    uint64_t data_offset;
    uint64_t file_bytes;
} fm_gguf_info;

/* One key. Pointers live as long as the fm_gguf. */
typedef struct {
    const char *name;
    int32_t type; /* enum gguf_type, of the elements if it is an array */
    bool is_array;
    int32_t num_elements; /* 1 if it is no array */
    const void *data;     /* [num_elements] of type; NULL for strings */
    const char *string;   /* the value of a string that is no array, else NULL */
} fm_gguf_key;

typedef struct {
    const char *name;
    const char *type;
    int64_t shape[4]; /* ne[0] fastest, 1 beyond num_dims */
    int32_t num_dims; /* without trailing ones, at least 1 */
    uint64_t offset;  /* from data_offset */
    uint64_t num_bytes;
} fm_gguf_tensor;

#ifdef __cplusplus
extern "C" {
#endif

/* FM_ERR_FILE if it is no whole GGUF of sane size: also where tensor data is missing at the end. */
int fm_gguf_open(const char *path, fm_gguf **gguf_out);
void fm_gguf_free(fm_gguf *gguf);

/* ggml's own view of it, for C that has gguf.h. */
const struct gguf_context *fm_gguf_context(const fm_gguf *gguf);

void fm_gguf_get_info(const fm_gguf *gguf, fm_gguf_info *info);
int fm_gguf_get_key(const fm_gguf *gguf, int32_t index, fm_gguf_key *key);
int fm_gguf_get_tensor(const fm_gguf *gguf, int32_t index, fm_gguf_tensor *tensor);

/* An array of strings packed end to end: lengths [num_elements], and text [sum of lengths].
 * Returns the sum; with lengths NULL it writes nothing. */
int64_t fm_gguf_get_strings(const fm_gguf *gguf, int32_t index, uint32_t *lengths, char *text);

#ifdef __cplusplus
}
#endif
