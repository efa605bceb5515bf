#include "fm_engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fm_error.h"
#include "fm_guard.h"
#include "fm_internal.h"

enum {
    MAX_OVERRIDES = 256,
    MAX_DEVICES = 64,
    DEFAULT_CTX_SIZE = 8192,
    FM_CELL_RECORD_BYTES = 48, /* position, shift, extent and a bit for each sequence */
};

struct load_args {
    ggml_backend_dev_t devices[MAX_DEVICES + 1];
    struct llama_model_tensor_buft_override overrides[MAX_OVERRIDES + 1];
    float *tensor_split;
};

static int find_devices(const fm_engine_params *params, struct load_args *args) {
    if (params->num_devices > MAX_DEVICES) {
        return fm_fail(FM_ERR_ARGUMENT, "at most %d devices can be named", MAX_DEVICES);
    }
    for (int32_t i = 0; i < params->num_devices; i++) {
        ggml_backend_dev_t device = ggml_backend_dev_by_name(params->devices[i]);
        if (device == NULL) {
            return fm_fail(FM_ERR_ARGUMENT, "there is no device named %s", params->devices[i]);
        }
        if (ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU) {
            return fm_fail(FM_ERR_ARGUMENT,
                           "%s takes what no other device does and cannot be named as one",
                           params->devices[i]);
        }
        args->devices[i] = device;
    }
    return FM_OK;
}

static int plan_devices(const fm_engine_params *params, struct load_args *args, fm_engine *engine) {
    if (params->num_plan_devices > MAX_DEVICES) {
        return fm_fail(FM_ERR_ARGUMENT, "at most %d devices can be planned for", MAX_DEVICES);
    }
    return fm_plan_open(params->plan_devices, params->num_plan_devices, args->devices,
                        &engine->plan);
}

static ggml_backend_buffer_type_t buffer_type_by_name(const char *name) {
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        ggml_backend_dev_t device = ggml_backend_dev_get(i);
        ggml_backend_buffer_type_t candidates[] = {ggml_backend_dev_buffer_type(device),
                                                   ggml_backend_dev_host_buffer_type(device)};
        for (size_t j = 0; j < 2; j++) {
            if (candidates[j] != NULL && strcmp(ggml_backend_buft_name(candidates[j]), name) == 0) {
                return candidates[j];
            }
        }
    }
    return NULL;
}

static int find_overrides(const fm_engine_params *params, struct load_args *args) {
    if (params->num_overrides > MAX_OVERRIDES) {
        return fm_fail(FM_ERR_ARGUMENT, "at most %d tensor overrides are possible", MAX_OVERRIDES);
    }
    for (int32_t i = 0; i < params->num_overrides; i++) {
        ggml_backend_buffer_type_t buft = buffer_type_by_name(params->override_buffers[i]);
        if (buft == NULL) {
            return fm_fail(FM_ERR_ARGUMENT, "there is no buffer type named %s",
                           params->override_buffers[i]);
        }
        args->overrides[i].pattern = params->override_patterns[i];
        args->overrides[i].buft = buft;
    }
    return FM_OK;
}

/* KV types that llama.cpp's CPU kernels can write; any other aborts the process. */
static int kv_type_by_name(const char *name, enum ggml_type *type_out) {
    static const enum ggml_type usable[] = {
        GGML_TYPE_F32,  GGML_TYPE_F16,  GGML_TYPE_BF16, GGML_TYPE_Q8_0,   GGML_TYPE_Q4_0,
        GGML_TYPE_Q4_1, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1, GGML_TYPE_IQ4_NL,
    };
    for (size_t i = 0; i < sizeof usable / sizeof usable[0]; i++) {
        if (strcmp(ggml_type_name(usable[i]), name) == 0) {
            *type_out = usable[i];
            return FM_OK;
        }
    }
    return fm_fail(FM_ERR_ARGUMENT,
                   "%s is not a KV cache type: use f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0 "
                   "or iq4_nl",
                   name);
}

static bool on_progress(float fraction, void *data) {
    fm_engine *engine = data;
    if (engine->on_progress == NULL) {
        return true;
    }
    if (fraction - engine->last_fraction < 0.01F && fraction < 1.0F && fraction > 0.0F) {
        return true;
    }
    engine->last_fraction = fraction;
    engine->is_cancelled = !engine->on_progress(fraction, engine->on_progress_data);
    return !engine->is_cancelled;
}

static bool is_abort_requested(void *data) {
    fm_engine *engine = data;
    return __atomic_load_n(&engine->abort_requested, __ATOMIC_RELAXED) != 0;
}

static int make_model_params(const fm_engine_params *params, struct load_args *args,
                             fm_engine *engine, struct llama_model_params *out) {
    int rc = params->is_plan ? plan_devices(params, args, engine) : find_devices(params, args);
    rc = rc == FM_OK ? find_overrides(params, args) : rc;
    if (rc != FM_OK) {
        return rc;
    }
    struct llama_model_params model_params = llama_model_default_params();
    if (params->has_devices || params->is_plan) {
        model_params.devices = args->devices;
    }
    if (params->num_overrides > 0) {
        model_params.tensor_buft_overrides = args->overrides;
    }
    if (params->num_tensor_split > 0) {
        const size_t max_devices = llama_max_devices();
        if ((size_t)params->num_tensor_split > max_devices) {
            return fm_fail(FM_ERR_ARGUMENT, "tensor_split has %d shares, but at most %zu devices",
                           params->num_tensor_split, max_devices);
        }
        args->tensor_split = calloc(max_devices, sizeof(float));
        if (args->tensor_split == NULL) {
            return fm_fail(FM_ERR_MEMORY, "not enough memory on the host");
        }
        memcpy(args->tensor_split, params->tensor_split,
               (size_t)params->num_tensor_split * sizeof(float));
        model_params.tensor_split = args->tensor_split;
    }
    model_params.n_gpu_layers = params->gpu_layers;
    model_params.split_mode = (enum llama_split_mode)params->split_mode;
    model_params.main_gpu = params->main_gpu;
    model_params.load_mode =
        params->mmap ? (params->mlock ? LLAMA_LOAD_MODE_MMAP_MLOCK : LLAMA_LOAD_MODE_MMAP)
                     : (params->mlock ? LLAMA_LOAD_MODE_MLOCK : LLAMA_LOAD_MODE_NONE);
    if (params->is_plan) {
        model_params.no_alloc = true;
        model_params.load_mode = LLAMA_LOAD_MODE_NONE;
    }
    model_params.progress_callback = on_progress;
    model_params.progress_callback_user_data = engine;
    *out = model_params;
    return FM_OK;
}

/* The model's own value of "<arch>.<suffix>", or false. */
static bool model_meta(const struct llama_model *model, const char *suffix, char *text,
                       size_t cap) {
    char arch[64];
    char key[160];
    if (llama_model_meta_val_str(model, "general.architecture", arch, sizeof arch) < 0) {
        return false;
    }
    snprintf(key, sizeof key, "%s.%s", arch, suffix);
    return llama_model_meta_val_str(model, key, text, cap) >= 0;
}

static int32_t model_pooling(const struct llama_model *model) {
    char text[32];
    return model_meta(model, "pooling_type", text, sizeof text) ? atoi(text)
                                                                : LLAMA_POOLING_TYPE_UNSPECIFIED;
}

static int make_context_params(const fm_engine_params *params, fm_engine *engine, bool embeds_whole,
                               struct llama_context_params *out) {
    const fm_engine_info *info = &engine->info;
    struct llama_context_params ctx_params = llama_context_default_params();
    const int64_t num_cells =
        info->kv_unified && params->kv_tokens > 0
            ? params->kv_tokens
            : (int64_t)info->ctx_size * (info->kv_unified ? info->slots : info->num_seqs);
    if (num_cells > INT32_MAX) {
        return fm_fail(FM_ERR_ARGUMENT,
                       "a context of %d tokens for each of %d slots is more than llama.cpp can "
                       "address: use fewer slots or a smaller context",
                       info->ctx_size, info->slots);
    }
    if (num_cells < info->ctx_size) {
        return fm_fail(FM_ERR_ARGUMENT,
                       "a KV pool of %d tokens cannot hold one sequence of %d: enlarge the pool or "
                       "shrink the context",
                       params->kv_tokens, info->ctx_size);
    }
    ctx_params.n_ctx = (uint32_t)num_cells;
    ctx_params.n_seq_max = (uint32_t)info->num_seqs;
    ctx_params.n_batch = (uint32_t)params->batch_size;
    ctx_params.n_ubatch = (uint32_t)params->ubatch_size;
    ctx_params.n_outputs_max = (uint32_t)engine->info.max_rows;
    if (embeds_whole) {
        const uint32_t longest = (uint32_t)info->ctx_size;
        ctx_params.n_batch = ctx_params.n_batch > longest ? ctx_params.n_batch : longest;
        ctx_params.n_ubatch = ctx_params.n_batch;
        ctx_params.n_outputs_max = 0;
        ctx_params.embeddings = true;
    }
    ctx_params.n_threads = params->threads;
    ctx_params.n_threads_batch = params->threads;
    if (embeds_whole) {
        ctx_params.pooling_type = (enum llama_pooling_type)params->pooling;
    } else if (model_pooling(engine->model) != LLAMA_POOLING_TYPE_UNSPECIFIED) {
        ctx_params.pooling_type = LLAMA_POOLING_TYPE_NONE;
    } else { /* none, too, but without a warning */
        ctx_params.pooling_type = LLAMA_POOLING_TYPE_UNSPECIFIED;
    }
    ctx_params.flash_attn_type = (enum llama_flash_attn_type)params->flash_attn;
    ctx_params.abort_callback = is_abort_requested;
    ctx_params.abort_callback_data = engine;
    ctx_params.offload_kqv = params->offload_kqv;
    ctx_params.op_offload = params->op_offload;
    ctx_params.no_perf = true;
    ctx_params.kv_unified = info->kv_unified;
    const int rc = kv_type_by_name(params->type_k, &ctx_params.type_k);
    *out = ctx_params;
    if (rc != FM_OK) {
        return rc;
    }
    return kv_type_by_name(params->type_v, &out->type_v);
}

static int check_host_memory(const fm_engine_params *params, const fm_engine *engine,
                             struct llama_model_params model_params,
                             struct llama_context_params ctx_params) {
    if (params->host_bytes_free == 0) {
        return FM_OK;
    }
    /* llama.cpp keeps a record of each cell, even where it only simulates. */
    const double records = (double)ctx_params.n_ctx * FM_CELL_RECORD_BYTES;
    if (records > (double)params->host_bytes_free / 2) {
        return fm_fail(FM_ERR_MEMORY,
                       "a context of %d tokens for each of %d slots takes more than the %llu MiB "
                       "of the host's memory that are free: use a smaller context or fewer slots",
                       engine->info.ctx_size, engine->info.slots,
                       (unsigned long long)(params->host_bytes_free >> 20));
    }
    if (params->is_plan) {
        return FM_OK;
    }
    /* An upper bound that costs nothing first: the widest any layer's K and V can be. */
    const struct llama_model *model = engine->model;
    char text[32];
    uint64_t head_k =
        model_meta(model, "attention.key_length", text, sizeof text) ? strtoull(text, NULL, 10) : 0;
    uint64_t head_v = model_meta(model, "attention.value_length", text, sizeof text)
                          ? strtoull(text, NULL, 10)
                          : 0;
    const uint64_t num_heads = (uint64_t)llama_model_n_head(model);
    const uint64_t width = (uint64_t)llama_model_n_embd(model);
    const uint64_t row_k = head_k * num_heads > width ? head_k * num_heads : width;
    const uint64_t row_v = head_v * num_heads > width ? head_v * num_heads : width;
    const double bound = (double)ctx_params.n_ctx * llama_model_n_layer(model) *
                         (double)(row_k + row_v) * (double)sizeof(float);
    if (bound < (double)params->host_bytes_free / 2) {
        return FM_OK;
    }
    uint64_t host_bytes = 0;
    const int rc = fm_memory_simulate(params->path, model_params, ctx_params, &host_bytes);
    if (rc != FM_OK) {
        return rc;
    }
    if (host_bytes > params->host_bytes_free) {
        return fm_fail(FM_ERR_MEMORY,
                       "a context of %d tokens for each of %d slots takes %llu MiB of the host's "
                       "memory, of which %llu MiB are free: use a smaller context, fewer slots or "
                       "a smaller KV type",
                       engine->info.ctx_size, engine->info.slots,
                       (unsigned long long)(host_bytes >> 20),
                       (unsigned long long)(params->host_bytes_free >> 20));
    }
    return FM_OK;
}

static int open_context(const fm_engine_params *params, fm_engine *engine,
                        struct llama_model_params model_params) {
    const int32_t pooling = params->pooling != LLAMA_POOLING_TYPE_UNSPECIFIED
                                ? params->pooling
                                : model_pooling(engine->model);
    char text[16];
    bool embeds_whole = pooling == LLAMA_POOLING_TYPE_RANK ||
                        llama_model_has_encoder(engine->model) ||
                        (model_meta(engine->model, "attention.causal", text, sizeof text) &&
                         strcmp(text, "false") == 0);
    for (;;) {
        struct llama_context_params ctx_params;
        int rc = make_context_params(params, engine, embeds_whole, &ctx_params);
        rc = rc == FM_OK ? check_host_memory(params, engine, model_params, ctx_params) : rc;
        rc = rc == FM_OK ? fm_guard_init_context(engine->model, ctx_params, &engine->ctx) : rc;
        if (rc == FM_OK && engine->ctx == NULL) {
            rc = fm_fail(FM_ERR_CONTEXT,
                         "llama.cpp refused a context of %d tokens for each of %d slots",
                         engine->info.ctx_size, engine->info.slots);
        }
        if (rc != FM_OK) {
            return rc;
        }
        engine->memory = llama_get_memory(engine->ctx);
        /* Some models are bidirectional without saying so in their metadata. */
        const bool is_whole =
            embeds_whole || engine->memory == NULL || !llama_get_causal_attn(engine->ctx);
        if (is_whole == embeds_whole) {
            break;
        }
        llama_free(engine->ctx);
        engine->ctx = NULL;
        embeds_whole = is_whole;
    }
    engine->embeds_whole = embeds_whole;
    engine->llama_pooling = (int32_t)llama_pooling_type(engine->ctx);
    engine->info.pooling = engine->llama_pooling != LLAMA_POOLING_TYPE_NONE ? engine->llama_pooling
                           : pooling == LLAMA_POOLING_TYPE_UNSPECIFIED ? LLAMA_POOLING_TYPE_MEAN
                                                                       : pooling;
    return FM_OK;
}

static int allocate_batch(fm_engine *engine) {
    const int32_t batch_size = engine->info.batch_size;
    const size_t max_rows = (size_t)engine->info.max_rows;
    engine->batch = llama_batch_init(batch_size, 0, 1);
    engine->row_tokens = calloc(max_rows, sizeof *engine->row_tokens);
    if (engine->batch.token == NULL || engine->row_tokens == NULL) {
        return fm_fail(FM_ERR_MEMORY, "not enough memory on the host for a batch of %d tokens",
                       batch_size);
    }
    for (int32_t i = 0; i < batch_size; i++) {
        engine->batch.n_seq_id[i] = 1;
    }
    return FM_OK;
}

static void fill_info(fm_engine *engine, const fm_engine_params *params) {
    fm_engine_info *info = &engine->info;
    const struct llama_model *model = engine->model;
    const struct llama_context *ctx = engine->ctx;
    info->batch_size = (int32_t)llama_n_batch(ctx);
    info->ubatch_size = (int32_t)llama_n_ubatch(ctx);
    if (engine->embeds_whole) {
        info->max_rows = info->batch_size;
    } else if (info->max_rows > info->batch_size) {
        info->max_rows = info->batch_size;
    }
    info->num_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    info->num_embd = llama_model_n_embd_out(model);
    info->num_layers = llama_model_n_layer(model);
    info->num_params = (int64_t)llama_model_n_params(model);
    info->model_bytes = (int64_t)llama_model_size(model);
    info->threads = params->threads;
    info->kv_tokens = engine->memory == NULL ? 0 : (int32_t)llama_n_ctx(ctx);
    info->has_encoder = llama_model_has_encoder(model);
    info->has_decoder = llama_model_has_decoder(model);
    info->is_recurrent = llama_model_is_recurrent(model) || llama_model_is_hybrid(model);
    info->window_tokens = llama_model_n_swa(model);
    info->can_generate = engine->memory != NULL && !engine->embeds_whole && info->has_decoder &&
                         !info->has_encoder && !llama_model_is_diffusion(model);
    info->can_shift = engine->memory != NULL && llama_memory_can_shift(engine->memory);
    llama_model_desc(model, info->description, sizeof info->description);
}

static int load(const fm_engine_params *params, struct load_args *args, fm_engine *engine) {
    struct llama_model_params model_params;
    int rc = make_model_params(params, args, engine, &model_params);
    if (rc != FM_OK) {
        return rc;
    }
    rc = fm_guard_load_model(params->path, model_params, &engine->model);
    if (rc != FM_OK) {
        return rc;
    }
    if (engine->model == NULL) {
        return engine->is_cancelled ? fm_fail(FM_ERR_CANCELLED, "the load was cancelled")
                                    : fm_fail(FM_ERR_LOAD, "llama.cpp could not load the model");
    }
    fm_engine_info *info = &engine->info;
    info->ctx_train = llama_model_n_ctx_train(engine->model);
    info->ctx_size = params->ctx_size > 0                 ? params->ctx_size
                     : info->ctx_train > DEFAULT_CTX_SIZE ? DEFAULT_CTX_SIZE
                                                          : info->ctx_train;
    info->slots = params->slots;
    info->kv_unified = params->kv_unified;
    info->num_seqs = params->slots + (params->kv_unified ? params->extra_seqs : 0);
    info->max_rows =
        info->num_seqs > FM_EMBED_CHUNK_TOKENS ? info->num_seqs : FM_EMBED_CHUNK_TOKENS;
    rc = open_context(params, engine, model_params);
    if (rc != FM_OK) {
        return rc;
    }
    fill_info(engine, params);
    return allocate_batch(engine);
}

int fm_engine_load(const fm_engine_params *params, fm_engine **engine_out) {
    *engine_out = NULL;
    const int32_t max_seqs = (int32_t)llama_max_parallel_sequences();
    const int32_t num_seqs = params->slots + (params->kv_unified ? params->extra_seqs : 0);
    if (params->slots < 1 || num_seqs > max_seqs) {
        return fm_fail(FM_ERR_ARGUMENT, "slots must lie between 1 and %d, but is %d",
                       max_seqs - (params->kv_unified ? params->extra_seqs : 0), params->slots);
    }
    if (params->batch_size < num_seqs || params->ubatch_size < 1) {
        return fm_fail(FM_ERR_ARGUMENT,
                       "batch_size must be at least %d (a token for each sequence) and ubatch_size "
                       "at least 1, but they are %d and %d",
                       num_seqs, params->batch_size, params->ubatch_size);
    }
    if (params->ctx_size < 0 || params->threads < 1) {
        return fm_fail(FM_ERR_ARGUMENT, "ctx_size (%d) and threads (%d) must be positive",
                       params->ctx_size, params->threads);
    }
    fm_engine *engine = calloc(1, sizeof *engine);
    struct load_args *args = calloc(1, sizeof *args);
    int rc = FM_ERR_MEMORY;
    if (engine != NULL && args != NULL) {
        engine->on_progress = params->on_progress;
        engine->on_progress_data = params->on_progress_data;
        engine->is_locked = params->mlock;
        rc = load(params, args, engine);
        engine->on_progress = NULL;
    }
    if (args != NULL) {
        free(args->tensor_split);
        free(args);
    }
    if (rc != FM_OK) {
        fm_engine_free(engine);
        return rc;
    }
    *engine_out = engine;
    return FM_OK;
}

void fm_engine_free(fm_engine *engine) {
    if (engine == NULL) {
        return;
    }
    if (engine->batch.token != NULL) {
        llama_batch_free(engine->batch);
    }
    llama_free(engine->ctx);
    llama_model_free(engine->model);
    fm_plan_close(engine->plan);
    free(engine->row_tokens);
    free(engine);
}

void fm_engine_get_info(const fm_engine *engine, fm_engine_info *info) {
    *info = engine->info;
}

void fm_engine_abort(fm_engine *engine) {
    __atomic_store_n(&engine->abort_requested, 1, __ATOMIC_RELAXED);
}
