#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "fm_error.h"
#include "fm_guard.h"
#include "fm_internal.h"

// llama.cpp exports this, but installs no header that declares it.
struct llama_memory_breakdown_data {
    size_t model = 0;
    size_t context = 0;
    size_t compute = 0;
};
std::map<ggml_backend_buffer_type_t, llama_memory_breakdown_data> llama_get_memory_breakdown(
    const llama_context *ctx);

const char *fm_device_of(ggml_backend_buffer_type_t buft) {
    ggml_backend_dev_t device = ggml_backend_buft_get_device(buft);
    if (ggml_backend_buft_is_host(buft) || device == nullptr) {
        device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    }
    return device == nullptr ? ggml_backend_buft_name(buft) : ggml_backend_dev_name(device);
}

const std::vector<std::pair<std::string, ggml_tensor *>> &llama_internal_get_tensor_map(
    const llama_model *model);

static const char *host_name() {
    ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    return cpu == nullptr ? "CPU" : ggml_backend_dev_name(cpu);
}

static int breakdown(const llama_context *ctx, fm_memory_row *rows, int cap) {
    int num_rows = 0;
    for (const auto &[buft, bytes] : llama_get_memory_breakdown(ctx)) {
        const char *device = fm_device_of(buft);
        int i = 0;
        while (i < num_rows && strcmp(rows[i].device, device) != 0) {
            i++;
        }
        if (i == num_rows) {
            if (num_rows == cap) {
                continue;
            }
            rows[i] = {};
            strncpy(rows[i].device, device, sizeof rows[i].device - 1);
            num_rows++;
        }
        rows[i].weights += bytes.model;
        rows[i].context += bytes.context;
        rows[i].compute += bytes.compute;
    }
    return num_rows;
}

// A mapped file counts from its first to its last tensor on the host, others' between them
// included: pages that nothing reads. What is there is what the tensors take.
static void count_mapped(const fm_engine *engine, fm_memory_row *rows, int num_rows) {
    const char *host = host_name();
    uint64_t num_bytes = 0;
    for (const auto &[name, tensor] : llama_internal_get_tensor_map(engine->model)) {
        if (tensor->buffer == nullptr) {
            return;
        }
        ggml_backend_buffer_type_t buft = ggml_backend_buffer_get_type(tensor->buffer);
        if (strcmp(fm_device_of(buft), host) == 0) {
            num_bytes += GGML_PAD(ggml_backend_buft_get_alloc_size(buft, tensor),
                                  ggml_backend_buft_get_alignment(buft));
        }
    }
    for (int i = 0; i < num_rows; i++) {
        if (strcmp(rows[i].device, host) == 0 && num_bytes < rows[i].weights) {
            rows[i].weights = num_bytes;
        }
    }
}

int fm_engine_memory(const fm_engine *engine, fm_memory_row *rows, int cap) {
    try {
        const int num_rows = breakdown(engine->ctx, rows, cap);
        if (engine->plan == nullptr && !engine->is_locked) {
            count_mapped(engine, rows, num_rows);
        }
        return num_rows;
    } catch (const std::exception &error) {
        return fm_fail(FM_ERR, "memory breakdown: %s", error.what());
    }
}

int fm_memory_simulate(const char *path, llama_model_params model_params,
                       llama_context_params ctx_params, uint64_t *host_bytes_out) {
    model_params.no_alloc = true;
    model_params.load_mode = LLAMA_LOAD_MODE_NONE;
    model_params.progress_callback = nullptr;
    ctx_params.abort_callback = nullptr;
    llama_model *model = nullptr;
    int rc = fm_guard_load_model(path, model_params, &model);
    if (rc != FM_OK || model == nullptr) {
        return rc != FM_OK ? rc : fm_fail(FM_ERR_LOAD, "cannot load the model to size its context");
    }
    llama_context *ctx = nullptr;
    rc = fm_guard_init_context(model, ctx_params, &ctx);
    if (rc == FM_OK && ctx == nullptr) {
        rc = fm_fail(FM_ERR_CONTEXT, "cannot size the context");
    }
    *host_bytes_out = 0;
    if (rc == FM_OK) {
        fm_memory_row rows[64];
        const int num_rows = breakdown(ctx, rows, 64);
        ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
        for (int i = 0; i < num_rows; i++) {
            if (cpu != nullptr && strcmp(rows[i].device, ggml_backend_dev_name(cpu)) == 0) {
                *host_bytes_out = rows[i].context + rows[i].compute;
            }
        }
        llama_free(ctx);
    }
    llama_model_free(model);
    return rc;
}
