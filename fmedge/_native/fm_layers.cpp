#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "fm_engine.h"
#include "fm_error.h"
#include "fm_internal.h"

// llama.cpp exports this, but installs no header that declares it.
const std::vector<std::pair<std::string, ggml_tensor *>> &llama_internal_get_tensor_map(
    const llama_model *model);

// The layer of a tensor by its name, -1 if it is in none; the head is layer num_layers.
static int layer_of(const char *name, int num_layers) {
    if (strncmp(name, "output", 6) == 0) {
        return num_layers;
    }
    const char *block = strncmp(name, "dec.", 4) == 0 ? name + 4 : name;
    return strncmp(block, "blk.", 4) == 0 ? atoi(block + 4) : -1;
}

static void copy(char *to, size_t cap, const char *from) {
    snprintf(to, cap, "%s", from);
}

int fm_engine_layers(const fm_engine *engine, fm_layer_row *rows, int cap) {
    const int num_layers = llama_model_n_layer(engine->model);
    const int num_rows = num_layers + 1 < cap ? num_layers + 1 : cap;
    // Of each row its largest tensor so far: small ones may lie where a backend lacks an operation.
    std::vector<size_t> largest(static_cast<size_t>(num_rows), 0);
    std::vector<size_t> largest_expert(static_cast<size_t>(num_rows), 0);
    for (int i = 0; i < num_rows; i++) {
        rows[i] = {};
    }
    try {
        for (const auto &[name, tensor] : llama_internal_get_tensor_map(engine->model)) {
            const int layer = layer_of(name.c_str(), num_layers);
            if (layer < 0 || layer >= num_rows || tensor->buffer == nullptr) {
                continue;
            }
            const char *device = fm_device_of(ggml_backend_buffer_get_type(tensor->buffer));
            const size_t nbytes = ggml_nbytes(tensor);
            const bool is_expert = name.find("_exps") != std::string::npos;
            size_t &most = (is_expert ? largest_expert : largest)[static_cast<size_t>(layer)];
            if (nbytes > most) {
                most = nbytes;
                fm_layer_row *row = &rows[layer];
                copy(is_expert ? row->expert_device : row->device, sizeof row->device, device);
            }
        }
    } catch (const std::exception &error) {
        return fm_fail(FM_ERR, "layers: %s", error.what());
    }
    return num_rows;
}
