#include "fm_bandwidth.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fm_error.h"
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml.h"

enum {
    MAX_MATRICES = 256,
    MAX_TOKENS = 1 << 16,
    MAX_REPEATS = 1 << 16,
    MAX_CALLS = 256,
    MAX_HEADS = 1 << 10,
    MAX_DEPTH = 1 << 20,
    FILL = 0x11, /* in every type a small number: no NaN, no infinity, no denormal */
};

struct fm_bandwidth {
    ggml_backend_dev_t device;
    ggml_backend_t backend;
    clockid_t clock;
    struct ggml_context *weights_ctx;
    ggml_backend_buffer_t weights;
    struct ggml_tensor *matrices[MAX_MATRICES];
    int32_t num_matrices;
};

typedef void (*set_threads_fn)(ggml_backend_t backend, int threads);
typedef ggml_backend_buffer_type_t *(*extra_bufts_fn)(ggml_backend_dev_t device);

static double now_s(const fm_bandwidth *probe) {
    struct timespec now;
    clock_gettime(probe->clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static struct ggml_context *new_context(size_t num_tensors, size_t num_graph_bytes) {
    return ggml_init((struct ggml_init_params){
        .mem_size = num_tensors * ggml_tensor_overhead() + num_graph_bytes,
        .no_alloc = true,
    });
}

static void *proc(ggml_backend_dev_t device, const char *name) {
    ggml_backend_reg_t reg = ggml_backend_dev_backend_reg(device);
    return reg == NULL ? NULL : ggml_backend_reg_get_proc_address(reg, name);
}

int fm_bandwidth_open(const char *device, int32_t threads, fm_bandwidth **out) {
    ggml_backend_dev_t dev = ggml_backend_dev_by_name(device);
    if (dev == NULL) {
        return fm_fail(FM_ERR_ARGUMENT, "there is no device %s", device);
    }
    fm_bandwidth *probe = calloc(1, sizeof *probe);
    if (probe == NULL) {
        return fm_fail(FM_ERR_MEMORY, "no memory to probe %s", device);
    }
    probe->device = dev;
    probe->backend = ggml_backend_dev_init(dev, NULL);
    if (probe->backend == NULL) {
        free(probe);
        return fm_fail(FM_ERR, "%s cannot be used", device);
    }
    /* One thread of the CPU computes in the caller's: its own clock does not count while others are
     * let run. */
    const bool is_own_thread =
        ggml_backend_dev_type(dev) == GGML_BACKEND_DEVICE_TYPE_CPU && threads == 1;
    probe->clock = is_own_thread ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
    set_threads_fn set_threads = (set_threads_fn)proc(dev, "ggml_backend_set_n_threads");
    if (set_threads != NULL && threads > 0) {
        set_threads(probe->backend, threads);
    }
    *out = probe;
    return FM_OK;
}

void fm_bandwidth_memory(const fm_bandwidth *probe, uint64_t *free_out, uint64_t *total_out) {
    size_t num_free = 0, num_total = 0;
    ggml_backend_dev_memory(probe->device, &num_free, &num_total);
    *free_out = num_free;
    *total_out = num_total;
}

static void unload(fm_bandwidth *probe) {
    ggml_backend_buffer_free(probe->weights);
    ggml_free(probe->weights_ctx);
    probe->weights = NULL;
    probe->weights_ctx = NULL;
    probe->num_matrices = 0;
}

static enum ggml_type type_of(const char *name) {
    for (int type = 0; type < GGML_TYPE_COUNT; type++) {
        const char *known = ggml_type_name((enum ggml_type)type);
        if (known != NULL && ggml_blck_size((enum ggml_type)type) > 0 && strcmp(known, name) == 0) {
            return (enum ggml_type)type;
        }
    }
    return GGML_TYPE_COUNT;
}

/* A device may compute a type from one buffer type only: asked with a buffer of no size there. */
static bool can_multiply(fm_bandwidth *probe, ggml_backend_buffer_type_t buft) {
    struct ggml_tensor *weight = probe->matrices[0];
    struct ggml_context *ctx = new_context(2, 0);
    if (ctx == NULL) {
        return false;
    }
    struct ggml_tensor *input = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, weight->ne[0], 1);
    struct ggml_tensor *product = ggml_mul_mat(ctx, weight, input);
    weight->buffer = ggml_backend_buft_alloc_buffer(buft, 0);
    const bool can = weight->buffer != NULL && ggml_backend_dev_supports_op(probe->device, product);
    ggml_backend_buffer_free(weight->buffer);
    weight->buffer = NULL;
    ggml_free(ctx);
    return can;
}

/* The CPU has buffer types that keep weights in a faster order; llama.cpp takes the first that
 * knows the type. NULL: the device cannot multiply it. */
static ggml_backend_buffer_type_t choose_buft(fm_bandwidth *probe) {
    extra_bufts_fn list = (extra_bufts_fn)proc(probe->device, "ggml_backend_dev_get_extra_bufts");
    ggml_backend_buffer_type_t *extra = list == NULL ? NULL : list(probe->device);
    for (; extra != NULL && *extra != NULL; extra++) {
        if (can_multiply(probe, *extra)) {
            return *extra;
        }
    }
    ggml_backend_buffer_type_t usual = ggml_backend_dev_buffer_type(probe->device);
    return can_multiply(probe, usual) ? usual : NULL;
}

int fm_bandwidth_load(fm_bandwidth *probe, const char *type, int32_t width, int32_t rows,
                      int32_t num_matrices, uint64_t *num_bytes_out) {
    const enum ggml_type kind = type_of(type);
    if (kind == GGML_TYPE_COUNT || num_matrices < 1 || num_matrices > MAX_MATRICES || rows < 1 ||
        width < 1 || width % ggml_blck_size(kind) != 0) {
        return fm_fail(FM_ERR_ARGUMENT, "no matrices of %d x %d %s to probe with", rows, width,
                       type);
    }
    unload(probe);
    probe->weights_ctx = new_context((size_t)num_matrices, 0);
    if (probe->weights_ctx == NULL) {
        return fm_fail(FM_ERR_MEMORY, "no memory to describe matrices");
    }
    *num_bytes_out = 0;
    for (int32_t i = 0; i < num_matrices; i++) {
        probe->matrices[i] = ggml_new_tensor_2d(probe->weights_ctx, kind, width, rows);
        *num_bytes_out += ggml_nbytes(probe->matrices[i]);
    }
    const char *name = ggml_backend_dev_name(probe->device);
    ggml_backend_buffer_type_t buft = choose_buft(probe);
    if (buft == NULL) {
        return fm_fail(FM_ERR_ARGUMENT, "%s does not multiply %s", name, type);
    }
    probe->weights = ggml_backend_alloc_ctx_tensors_from_buft(probe->weights_ctx, buft);
    if (probe->weights == NULL) {
        return fm_fail(FM_ERR_MEMORY, "%s has no %llu MiB left to probe with", name,
                       (unsigned long long)(*num_bytes_out >> 20));
    }
    ggml_backend_buffer_set_usage(probe->weights, GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    ggml_backend_buffer_clear(probe->weights, FILL);
    probe->num_matrices = num_matrices;
    return FM_OK;
}

/* The RPC backend's synchronize waits for nothing; whoever reads a result has to. */
static void wait_for(fm_bandwidth *probe, struct ggml_cgraph *graph) {
    float last;
    ggml_backend_synchronize(probe->backend);
    ggml_backend_tensor_get(ggml_graph_node(graph, -1), &last, 0, sizeof last);
}

static int time_graph(fm_bandwidth *probe, struct ggml_cgraph *graph, int32_t repeats,
                      double *seconds_out) {
    wait_for(probe, graph);
    const double start_s = now_s(probe);
    for (int32_t i = 0; i < repeats; i++) {
        const enum ggml_status status = ggml_backend_graph_compute_async(probe->backend, graph);
        if (status != GGML_STATUS_SUCCESS) {
            return fm_fail(status == GGML_STATUS_ALLOC_FAILED ? FM_ERR_MEMORY : FM_ERR,
                           "%s failed to compute (%s)", ggml_backend_dev_name(probe->device),
                           ggml_status_to_string(status));
        }
    }
    wait_for(probe, graph);
    *seconds_out = now_s(probe) - start_s;
    return FM_OK;
}

int fm_bandwidth_run(fm_bandwidth *probe, int32_t first, int32_t num_matrices, int32_t num_tokens,
                     int32_t repeats, double *seconds_out) {
    if (first < 0 || first >= probe->num_matrices || num_matrices < 1 ||
        num_matrices > probe->num_matrices - first || num_tokens < 1 || num_tokens > MAX_TOKENS ||
        repeats < 1 || repeats > MAX_REPEATS) {
        return fm_fail(FM_ERR_ARGUMENT, "%d matrices from %d of %d, %d tokens, %d times: no run",
                       num_matrices, first, probe->num_matrices, num_tokens, repeats);
    }
    const size_t num_nodes = (size_t)num_matrices + 1;
    struct ggml_context *ctx =
        new_context(num_nodes, ggml_graph_overhead_custom(2 * MAX_MATRICES + 16, false));
    if (ctx == NULL) {
        return fm_fail(FM_ERR_MEMORY, "no memory for a graph");
    }
    const int64_t width = probe->matrices[0]->ne[0];
    struct ggml_tensor *input = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, width, num_tokens);
    struct ggml_cgraph *graph = ggml_new_graph_custom(ctx, 2 * MAX_MATRICES + 16, false);
    for (int32_t i = 0; i < num_matrices; i++) {
        ggml_build_forward_expand(graph, ggml_mul_mat(ctx, probe->matrices[first + i], input));
    }
    ggml_backend_buffer_t buffer = ggml_backend_alloc_ctx_tensors(ctx, probe->backend);
    int rc;
    if (buffer == NULL) {
        rc = fm_fail(FM_ERR_MEMORY, "%s has no memory left for products",
                     ggml_backend_dev_name(probe->device));
    } else {
        ggml_backend_buffer_clear(buffer, FILL);
        rc = time_graph(probe, graph, repeats, seconds_out);
        ggml_backend_buffer_free(buffer);
    }
    ggml_free(ctx);
    return rc;
}

static bool is_attention(const fm_attention *a) {
    return a->kv_heads >= 1 && a->heads >= a->kv_heads && a->heads <= MAX_HEADS &&
           a->heads % a->kv_heads == 0 && a->width >= 1 && a->width <= MAX_HEADS && a->depth >= 1 &&
           a->depth <= MAX_DEPTH && a->num_caches >= 1 && a->num_calls >= a->num_caches &&
           a->num_calls <= MAX_CALLS;
}

/* [head][token][width], as the kernel wants it, of what lies as [token][head][width]. */
static struct ggml_tensor *by_head(struct ggml_context *ctx, enum ggml_type type, int32_t width,
                                   int32_t heads, int32_t num_tokens) {
    return ggml_permute(ctx, ggml_new_tensor_3d(ctx, type, width, heads, num_tokens), 0, 2, 1, 3);
}

int fm_bandwidth_attention(fm_bandwidth *probe, const fm_attention *asked, double *seconds_out) {
    const fm_attention a = *asked;
    if (!is_attention(&a)) {
        return fm_fail(
            FM_ERR_ARGUMENT,
            "%d heads over %d of %d values, %d tokens, %d caches, %d calls: no attention", a.heads,
            a.kv_heads, a.width, a.depth, a.num_caches, a.num_calls);
    }
    struct ggml_context *ctx =
        new_context(5 * MAX_CALLS + 4, ggml_graph_overhead_custom(8 * MAX_CALLS, false));
    if (ctx == NULL) {
        return fm_fail(FM_ERR_MEMORY, "no memory for a graph");
    }
    const char *name = ggml_backend_dev_name(probe->device);
    struct ggml_cgraph *graph = ggml_new_graph_custom(ctx, 8 * MAX_CALLS, false);
    struct ggml_tensor *query = by_head(ctx, GGML_TYPE_F32, a.width, a.heads, 1);
    struct ggml_tensor *mask = ggml_new_tensor_2d(ctx, GGML_TYPE_F16, a.depth, 1);
    struct ggml_tensor *keys[MAX_CALLS], *values[MAX_CALLS], *out = NULL;
    for (int32_t i = 0; i < a.num_calls; i++) {
        if (i < a.num_caches) {
            keys[i] = by_head(ctx, GGML_TYPE_F16, a.width, a.kv_heads, a.depth);
            values[i] = by_head(ctx, GGML_TYPE_F16, a.width, a.kv_heads, a.depth);
        }
        const int32_t cache = i % a.num_caches;
        out = ggml_flash_attn_ext(ctx, query, keys[cache], values[cache], mask, 0.1F, 0.0F, 0.0F);
        ggml_build_forward_expand(graph, out);
    }
    int rc;
    ggml_backend_buffer_t buffer = NULL;
    if (!ggml_backend_dev_supports_op(probe->device, out)) {
        rc = fm_fail(FM_ERR_ARGUMENT, "%s has no fused attention", name);
    } else if ((buffer = ggml_backend_alloc_ctx_tensors(ctx, probe->backend)) == NULL) {
        rc = fm_fail(FM_ERR_MEMORY, "%s has no memory left for a cache", name);
    } else {
        ggml_backend_buffer_clear(buffer, FILL);
        rc = time_graph(probe, graph, 1, seconds_out);
    }
    ggml_backend_buffer_free(buffer);
    ggml_free(ctx);
    return rc;
}

int fm_bandwidth_link(fm_bandwidth *probe, uint64_t num_bytes, double *seconds_out) {
    if (num_bytes < 1 || num_bytes > (uint64_t)1 << 30) {
        return fm_fail(FM_ERR_ARGUMENT, "%llu bytes are no transfer to time",
                       (unsigned long long)num_bytes);
    }
    struct ggml_context *ctx = new_context(1, 0);
    uint8_t *host = malloc(num_bytes);
    ggml_backend_buffer_t buffer = NULL;
    struct ggml_tensor *tensor = NULL;
    if (ctx != NULL && host != NULL) {
        tensor = ggml_new_tensor_1d(ctx, GGML_TYPE_I8, (int64_t)num_bytes);
        buffer = ggml_backend_alloc_ctx_tensors(ctx, probe->backend);
    }
    int rc = FM_OK;
    if (buffer == NULL) {
        rc = fm_fail(FM_ERR_MEMORY, "no memory for a transfer to %s",
                     ggml_backend_dev_name(probe->device));
    } else {
        memset(host, FILL, num_bytes);
        const double start_s = now_s(probe);
        ggml_backend_tensor_set(tensor, host, 0, num_bytes);
        ggml_backend_tensor_get(tensor, host, 0, num_bytes);
        *seconds_out = now_s(probe) - start_s;
    }
    ggml_backend_buffer_free(buffer);
    free(host);
    ggml_free(ctx);
    return rc;
}

void fm_bandwidth_close(fm_bandwidth *probe) {
    if (probe != NULL) {
        unload(probe);
        ggml_backend_free(probe->backend);
        free(probe);
    }
}
