#include "fm_sizing.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fm_error.h"
#include "fm_gguf.h"
#include "ggml.h"
#include "gguf.h"

enum { KEY_BYTES = 160 };

static bool starts_with(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* The number of tokens under <architecture>.vocab_size, which llama.cpp reads where there is no
 * vocabulary; what the file says there already is overruled as it is by a vocabulary. */
static void set_vocab_size(struct gguf_context *to, const struct gguf_context *from) {
    const int64_t architecture = gguf_find_key(from, "general.architecture");
    const int64_t tokens = gguf_find_key(from, "tokenizer.ggml.tokens");
    if (architecture < 0 || gguf_get_kv_type(from, architecture) != GGUF_TYPE_STRING ||
        tokens < 0 || gguf_get_kv_type(from, tokens) != GGUF_TYPE_ARRAY) {
        return;
    }
    char key[KEY_BYTES];
    snprintf(key, sizeof key, "%s.vocab_size", gguf_get_val_str(from, architecture));
    gguf_set_val_u32(to, key, (uint32_t)gguf_get_arr_n(from, tokens));
}

/* Numbers of the tokenizer stay: some architectures need them. */
static bool is_dropped(const struct gguf_context *gguf, int64_t i) {
    const char *key = gguf_get_key(gguf, i);
    const enum gguf_type type = gguf_get_kv_type(gguf, i);
    return (starts_with(key, "tokenizer.") &&
            (type == GGUF_TYPE_ARRAY || type == GGUF_TYPE_STRING)) ||
           starts_with(key, "split.") || strcmp(key, "general.alignment") == 0;
}

static int drop_keys(struct gguf_context *gguf) {
    for (int64_t i = gguf_get_n_kv(gguf) - 1; i >= 0; i--) {
        if (is_dropped(gguf, i)) {
            char *key = strdup(gguf_get_key(gguf, i)); /* it goes with the entry */
            if (key == NULL) {
                return fm_fail(FM_ERR_MEMORY, "not enough memory on the host");
            }
            gguf_remove_key(gguf, key);
            free(key);
        }
    }
    return FM_OK;
}

static int add_tensors(struct gguf_context *to, const struct gguf_context *from) {
    const int64_t num_tensors = gguf_get_n_tensors(from);
    const struct ggml_init_params params = {
        .mem_size = ggml_tensor_overhead() * (size_t)(num_tensors + 1), .no_alloc = true};
    struct ggml_context *ctx = ggml_init(params);
    if (ctx == NULL) {
        return fm_fail(FM_ERR_MEMORY, "not enough memory on the host");
    }
    for (int64_t i = 0; i < num_tensors; i++) {
        struct ggml_tensor *tensor = ggml_new_tensor(ctx, gguf_get_tensor_type(from, i),
                                                     GGML_MAX_DIMS, gguf_get_tensor_ne(from, i));
        ggml_set_name(tensor, gguf_get_tensor_name(from, i));
        gguf_add_tensor(to, tensor);
    }
    ggml_free(ctx);
    return FM_OK;
}

static int write_header(const struct gguf_context *gguf, int fd) {
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (!gguf_write_to_file(gguf, path, true)) {
        return fm_fail(FM_ERR_FILE, "cannot write the header's copy: %s", strerror(errno));
    }
    uint64_t data_bytes = 0;
    const int64_t num_tensors = gguf_get_n_tensors(gguf);
    if (num_tensors > 0) {
        data_bytes = gguf_get_tensor_offset(gguf, num_tensors - 1) +
                     GGML_PAD(gguf_get_tensor_size(gguf, num_tensors - 1), GGUF_DEFAULT_ALIGNMENT);
    }
    struct stat status;
    if (fstat(fd, &status) != 0 || ftruncate(fd, status.st_size + (off_t)data_bytes) != 0) {
        return fm_fail(FM_ERR_FILE, "cannot extend the header's copy: %s", strerror(errno));
    }
    return FM_OK;
}

int fm_sizing_copy_header(const char *const *paths, int32_t num_paths, int fd) {
    struct gguf_context *copy = gguf_init_empty();
    if (copy == NULL) {
        return fm_fail(FM_ERR_MEMORY, "not enough memory on the host");
    }
    int rc = FM_OK;
    for (int32_t i = 0; i < num_paths && rc == FM_OK; i++) {
        fm_gguf *part = NULL;
        rc = fm_gguf_open(paths[i], &part);
        if (rc != FM_OK) {
            break;
        }
        const struct gguf_context *from = fm_gguf_context(part);
        if (i == 0) {
            gguf_set_kv(copy, from);
            rc = drop_keys(copy);
            gguf_set_val_str(copy, "tokenizer.ggml.model", "no_vocab");
            set_vocab_size(copy, from);
        }
        rc = rc == FM_OK ? add_tensors(copy, from) : rc;
        fm_gguf_free(part);
    }
    rc = rc == FM_OK ? write_header(copy, fd) : rc;
    gguf_free(copy);
    return rc;
}
