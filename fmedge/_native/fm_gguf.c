#include "fm_gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fm_error.h"
#include "fm_guard.h"
#include "fm_log.h"
#include "gguf.h"

enum { READ_BYTES = 256 << 10 };

struct fm_gguf {
    struct gguf_context *ctx;
    uint64_t file_bytes;
};

/* ggml reads element by element; this makes a system call of every 256 KiB only. */
struct reader {
    int fd;
    uint64_t start; /* of what buffer holds */
    size_t num_bytes;
    uint8_t buffer[READ_BYTES];
};

static bool fill(struct reader *reader, uint64_t offset) {
    ssize_t num_read;
    do {
        num_read = pread(reader->fd, reader->buffer, READ_BYTES, (off_t)offset);
    } while (num_read < 0 && errno == EINTR);
    reader->start = offset;
    reader->num_bytes = num_read > 0 ? (size_t)num_read : 0;
    return num_read > 0;
}

static size_t on_read(void *data, void *output, uint64_t offset, size_t num_bytes) {
    struct reader *reader = data;
    size_t num_done = 0;
    while (num_done < num_bytes) {
        const uint64_t at = offset + num_done;
        if (at < reader->start || at >= reader->start + reader->num_bytes) {
            if (!fill(reader, at)) {
                break;
            }
        }
        const size_t skip = (size_t)(at - reader->start);
        size_t num_chunk = reader->num_bytes - skip;
        if (num_chunk > num_bytes - num_done) {
            num_chunk = num_bytes - num_done;
        }
        memcpy((uint8_t *)output + num_done, reader->buffer + skip, num_chunk);
        num_done += num_chunk;
    }
    return num_done;
}

/* The first 24 bytes: magic, version, number of tensors, number of keys. */
static int check_counts(const char *path, struct reader *reader, uint64_t file_bytes) {
    struct {
        char magic[4];
        uint32_t version;
        uint64_t num_tensors;
        uint64_t num_keys;
    } head;
    if (file_bytes < sizeof head || on_read(reader, &head, 0, sizeof head) != sizeof head) {
        return fm_fail(FM_ERR_FILE, "%s: not a GGUF: the file has only %llu bytes", path,
                       (unsigned long long)file_bytes);
    }
    if (memcmp(head.magic, GGUF_MAGIC, 4) != 0) {
        return fm_fail(FM_ERR_FILE, "%s: not a GGUF: it does not begin with the letters GGUF",
                       path);
    }
    if (head.num_tensors > FM_GGUF_MAX_TENSORS || head.num_keys > FM_GGUF_MAX_KEYS) {
        return fm_fail(FM_ERR_FILE,
                       "%s: a broken GGUF: its header claims %llu tensors and %llu keys", path,
                       (unsigned long long)head.num_tensors, (unsigned long long)head.num_keys);
    }
    return FM_OK;
}

static int check_arrays(const char *path, const struct gguf_context *ctx) {
    uint64_t num_elements = 0;
    for (int64_t i = 0; i < gguf_get_n_kv(ctx); i++) {
        if (gguf_get_kv_type(ctx, i) == GGUF_TYPE_ARRAY) {
            num_elements += gguf_get_arr_n(ctx, i);
        }
    }
    if (num_elements > FM_GGUF_MAX_ARRAY_ELEMENTS) {
        return fm_fail(FM_ERR_FILE, "%s: a broken GGUF: its metadata arrays have %llu elements",
                       path, (unsigned long long)num_elements);
    }
    return FM_OK;
}

static int check_data(const char *path, const struct gguf_context *ctx, uint64_t file_bytes) {
    uint64_t data_end = gguf_get_data_offset(ctx);
    const int64_t num_tensors = gguf_get_n_tensors(ctx);
    if (num_tensors > 0) {
        /* ggml has checked that offsets follow from sizes, so the last tensor is the end. */
        const uint64_t offset = gguf_get_tensor_offset(ctx, num_tensors - 1);
        const uint64_t num_bytes = gguf_get_tensor_size(ctx, num_tensors - 1);
        if (offset > UINT64_MAX - num_bytes || offset + num_bytes > UINT64_MAX - data_end) {
            return fm_fail(FM_ERR_FILE, "%s: a broken GGUF: its tensors are impossibly large",
                           path);
        }
        data_end += offset + num_bytes;
    }
    if (data_end > file_bytes) {
        return fm_fail(FM_ERR_FILE,
                       "%s: a truncated GGUF: the file has %llu bytes, but its header describes "
                       "%llu; download it again",
                       path, (unsigned long long)file_bytes, (unsigned long long)data_end);
    }
    return FM_OK;
}

static int parse(const char *path, struct reader *reader, uint64_t file_bytes,
                 struct gguf_context **ctx_out) {
    int rc = check_counts(path, reader, file_bytes);
    if (rc != FM_OK) {
        return rc;
    }
    const uint64_t cursor = fm_log_cursor();
    const uint64_t limit =
        file_bytes < FM_GGUF_MAX_HEADER_BYTES ? file_bytes : FM_GGUF_MAX_HEADER_BYTES;
    rc = fm_guard_gguf_open(on_read, reader, READ_BYTES, limit, ctx_out);
    if (rc != FM_OK) {
        return rc == FM_ERR ? fm_fail(FM_ERR_FILE, "%s: a broken GGUF", path) : rc;
    }
    if (*ctx_out == NULL) {
        char reason[FM_LOG_LINE_BYTES];
        return fm_fail(FM_ERR_FILE, "%s: a broken or truncated GGUF: %s", path,
                       fm_log_first_error(cursor, reason, sizeof reason));
    }
    rc = check_arrays(path, *ctx_out);
    return rc == FM_OK ? check_data(path, *ctx_out, file_bytes) : rc;
}

static int open_file(const char *path, int *fd_out, uint64_t *file_bytes_out) {
    /* O_NONBLOCK: a FIFO must not hang us; it means nothing to a regular file. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return fm_fail(FM_ERR_FILE, "%s: %s", path, strerror(errno));
    }
    struct stat status;
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        close(fd);
        return fm_fail(FM_ERR_FILE, "%s: not a regular file", path);
    }
    *fd_out = fd;
    *file_bytes_out = (uint64_t)status.st_size;
    return FM_OK;
}

int fm_gguf_open(const char *path, fm_gguf **gguf_out) {
    *gguf_out = NULL;
    int fd = -1;
    uint64_t file_bytes = 0;
    int rc = open_file(path, &fd, &file_bytes);
    if (rc != FM_OK) {
        return rc;
    }
    struct reader *reader = malloc(sizeof *reader);
    fm_gguf *gguf = calloc(1, sizeof *gguf);
    if (reader == NULL || gguf == NULL) {
        rc = fm_fail(FM_ERR_MEMORY, "not enough memory on the host");
    } else {
        reader->fd = fd;
        reader->start = 0;
        reader->num_bytes = 0;
        gguf->file_bytes = file_bytes;
        rc = parse(path, reader, file_bytes, &gguf->ctx);
    }
    free(reader);
    close(fd);
    if (rc != FM_OK) {
        fm_gguf_free(gguf);
        return rc;
    }
    *gguf_out = gguf;
    return FM_OK;
}

void fm_gguf_free(fm_gguf *gguf) {
    if (gguf == NULL) {
        return;
    }
    if (gguf->ctx != NULL) {
        gguf_free(gguf->ctx);
    }
    free(gguf);
}

const struct gguf_context *fm_gguf_context(const fm_gguf *gguf) {
    return gguf->ctx;
}

void fm_gguf_get_info(const fm_gguf *gguf, fm_gguf_info *info) {
    *info = (fm_gguf_info){
        .version = (int32_t)gguf_get_version(gguf->ctx),
        .num_keys = (int32_t)gguf_get_n_kv(gguf->ctx),
        .num_tensors = (int32_t)gguf_get_n_tensors(gguf->ctx),
        .alignment = gguf_get_alignment(gguf->ctx),
        .data_offset = gguf_get_data_offset(gguf->ctx),
        .file_bytes = gguf->file_bytes,
    };
}

int fm_gguf_get_key(const fm_gguf *gguf, int32_t index, fm_gguf_key *key) {
    if (index < 0 || index >= gguf_get_n_kv(gguf->ctx)) {
        return fm_fail(FM_ERR_ARGUMENT, "there is no key %d", index);
    }
    const enum gguf_type type = gguf_get_kv_type(gguf->ctx, index);
    const bool is_array = type == GGUF_TYPE_ARRAY;
    const enum gguf_type element = is_array ? gguf_get_arr_type(gguf->ctx, index) : type;
    const bool is_string = element == GGUF_TYPE_STRING;
    *key = (fm_gguf_key){
        .name = gguf_get_key(gguf->ctx, index),
        .type = (int32_t)element,
        .is_array = is_array,
        .num_elements = is_array ? (int32_t)gguf_get_arr_n(gguf->ctx, index) : 1,
        .data = is_string  ? NULL
                : is_array ? gguf_get_arr_data(gguf->ctx, index)
                           : gguf_get_val_data(gguf->ctx, index),
        .string = is_string && !is_array ? gguf_get_val_str(gguf->ctx, index) : NULL,
    };
    return FM_OK;
}

int64_t fm_gguf_get_strings(const fm_gguf *gguf, int32_t index, uint32_t *lengths, char *text) {
    const size_t num_strings = gguf_get_arr_n(gguf->ctx, index);
    int64_t total = 0;
    for (size_t i = 0; i < num_strings; i++) {
        const char *string = gguf_get_arr_str(gguf->ctx, index, i);
        const size_t length = strlen(string);
        if (lengths != NULL) {
            lengths[i] = (uint32_t)length;
            memcpy(text + total, string, length);
        }
        total += (int64_t)length;
    }
    return total;
}

int fm_gguf_get_tensor(const fm_gguf *gguf, int32_t index, fm_gguf_tensor *tensor) {
    if (index < 0 || index >= gguf_get_n_tensors(gguf->ctx)) {
        return fm_fail(FM_ERR_ARGUMENT, "there is no tensor %d", index);
    }
    const int64_t *shape = gguf_get_tensor_ne(gguf->ctx, index);
    *tensor = (fm_gguf_tensor){
        .name = gguf_get_tensor_name(gguf->ctx, index),
        .type = ggml_type_name(gguf_get_tensor_type(gguf->ctx, index)),
        .num_dims = 1,
        .offset = gguf_get_tensor_offset(gguf->ctx, index),
        .num_bytes = gguf_get_tensor_size(gguf->ctx, index),
    };
    for (int32_t i = 0; i < 4; i++) {
        tensor->shape[i] = shape[i];
        if (shape[i] != 1) {
            tensor->num_dims = i + 1;
        }
    }
    return FM_OK;
}
