#include "fm_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fm_error.h"
#include "ggml.h"

enum { NAME_BYTES = 64, BACKEND_API_VERSION = 2, OFFLOADED_BATCH = 32 };

/* ggml installs no header for those who implement a device. These are its tables of functions in
 * the pinned version, member by member in its order; what we leave out is NULL, which it allows
 * for what it calls optional and never calls otherwise where nothing is computed. */

typedef void (*unused_fn)(void);

struct buft_functions {
    const char *(*get_name)(ggml_backend_buffer_type_t type);
    ggml_backend_buffer_t (*alloc_buffer)(ggml_backend_buffer_type_t type, size_t num_bytes);
    size_t (*get_alignment)(ggml_backend_buffer_type_t type);
    size_t (*get_max_size)(ggml_backend_buffer_type_t type);
    size_t (*get_alloc_size)(ggml_backend_buffer_type_t type, const struct ggml_tensor *tensor);
    bool (*is_host)(ggml_backend_buffer_type_t type);
};

struct ggml_backend_buffer_type {
    struct buft_functions functions;
    ggml_backend_dev_t device;
    void *context;
};

struct buffer_functions {
    void (*free_buffer)(ggml_backend_buffer_t buffer);
    void *(*get_base)(ggml_backend_buffer_t buffer);
    unused_fn init_tensor;
    void (*memset_tensor)(ggml_backend_buffer_t buffer, struct ggml_tensor *tensor, uint8_t value,
                          size_t offset, size_t num_bytes);
    void (*set_tensor)(ggml_backend_buffer_t buffer, struct ggml_tensor *tensor, const void *data,
                       size_t offset, size_t num_bytes);
    void (*get_tensor)(ggml_backend_buffer_t buffer, const struct ggml_tensor *tensor, void *data,
                       size_t offset, size_t num_bytes);
    unused_fn set_tensor_2d;
    unused_fn get_tensor_2d;
    unused_fn cpy_tensor;
    void (*clear)(ggml_backend_buffer_t buffer, uint8_t value);
    unused_fn reset;
};

ggml_backend_buffer_t ggml_backend_buffer_init(ggml_backend_buffer_type_t type,
                                               struct buffer_functions functions, void *context,
                                               size_t num_bytes);

struct backend_functions {
    const char *(*get_name)(ggml_backend_t backend);
    void (*free)(ggml_backend_t backend);
    unused_fn tensor_transfers[5];
    void (*synchronize)(ggml_backend_t backend);
    unused_fn graph_plans[4];
    enum ggml_status (*graph_compute)(ggml_backend_t backend, struct ggml_cgraph *graph);
    unused_fn events_and_optimize[3];
};

struct ggml_backend {
    ggml_guid_t guid;
    struct backend_functions functions;
    ggml_backend_dev_t device;
    void *context;
};

struct device_functions {
    const char *(*get_name)(ggml_backend_dev_t device);
    const char *(*get_description)(ggml_backend_dev_t device);
    void (*get_memory)(ggml_backend_dev_t device, size_t *free, size_t *total);
    enum ggml_backend_dev_type (*get_type)(ggml_backend_dev_t device);
    void (*get_props)(ggml_backend_dev_t device, struct ggml_backend_dev_props *props);
    ggml_backend_t (*init_backend)(ggml_backend_dev_t device, const char *params);
    ggml_backend_buffer_type_t (*get_buffer_type)(ggml_backend_dev_t device);
    unused_fn get_host_buffer_type;
    unused_fn buffer_from_host_ptr;
    bool (*supports_op)(ggml_backend_dev_t device, const struct ggml_tensor *op);
    bool (*supports_buft)(ggml_backend_dev_t device, ggml_backend_buffer_type_t type);
    bool (*offload_op)(ggml_backend_dev_t device, const struct ggml_tensor *op);
    unused_fn events[3];
};

struct ggml_backend_device {
    struct device_functions functions;
    ggml_backend_reg_t reg;
    void *context;
};

struct ggml_backend_reg {
    int api_version;
    const char *(*get_name)(ggml_backend_reg_t reg);
    size_t (*get_device_count)(ggml_backend_reg_t reg);
    ggml_backend_dev_t (*get_device)(ggml_backend_reg_t reg, size_t index);
    void *(*get_proc_address)(ggml_backend_reg_t reg, const char *name);
    void *context;
};

struct planned {
    char name[NAME_BYTES];
    fm_plan_device figures;
    struct ggml_backend_buffer_type buffer_type;
    struct ggml_backend_device device;
    struct ggml_backend_reg reg;
};

struct fm_plan {
    int32_t num_devices;
    struct planned devices[];
};

/* Buffers: a size, and an address that nothing is ever written to. */

static void *get_base(ggml_backend_buffer_t buffer) {
    (void)buffer;
    return (void *)(uintptr_t)(1 << 20);
}

static void ignore_memset(ggml_backend_buffer_t buffer, struct ggml_tensor *tensor, uint8_t value,
                          size_t offset, size_t num_bytes) {
    (void)buffer, (void)tensor, (void)value, (void)offset, (void)num_bytes;
}

static void ignore_set(ggml_backend_buffer_t buffer, struct ggml_tensor *tensor, const void *data,
                       size_t offset, size_t num_bytes) {
    (void)buffer, (void)tensor, (void)data, (void)offset, (void)num_bytes;
}

static void read_zeros(ggml_backend_buffer_t buffer, const struct ggml_tensor *tensor, void *data,
                       size_t offset, size_t num_bytes) {
    (void)buffer, (void)tensor, (void)offset;
    memset(data, 0, num_bytes);
}

static void ignore_clear(ggml_backend_buffer_t buffer, uint8_t value) {
    (void)buffer, (void)value;
}

static struct planned *of_type(ggml_backend_buffer_type_t type) {
    return type->context;
}

static const char *type_name(ggml_backend_buffer_type_t type) {
    return of_type(type)->name;
}

static ggml_backend_buffer_t alloc_buffer(ggml_backend_buffer_type_t type, size_t num_bytes) {
    const struct buffer_functions functions = {
        .get_base = get_base,
        .memset_tensor = ignore_memset,
        .set_tensor = ignore_set,
        .get_tensor = read_zeros,
        .clear = ignore_clear,
    };
    return ggml_backend_buffer_init(type, functions, NULL, num_bytes);
}

static size_t get_alignment(ggml_backend_buffer_type_t type) {
    return of_type(type)->figures.alignment;
}

static size_t align(size_t num_bytes, size_t alignment) {
    return (num_bytes + alignment - 1) / alignment * alignment;
}

/* Behind the result, CUDA keeps copies of K and V in 16 bits where they are not. */
static size_t attention_bytes(const struct ggml_tensor *tensor, size_t alignment) {
    size_t num_bytes = ggml_nbytes(tensor);
    for (int i = 1; i <= 2; i++) {
        const struct ggml_tensor *kv = tensor->src[i];
        if (kv != NULL && kv->type != GGML_TYPE_F16) {
            num_bytes = align(num_bytes, alignment) + 2 * (size_t)ggml_nelements(kv);
        }
    }
    return num_bytes;
}

static size_t get_alloc_size(ggml_backend_buffer_type_t type, const struct ggml_tensor *tensor) {
    const fm_plan_device *figures = &of_type(type)->figures;
    if (tensor->op == GGML_OP_FLASH_ATTN_EXT && figures->widens_kv) {
        return attention_bytes(tensor, figures->alignment);
    }
    size_t num_bytes = ggml_nbytes(tensor);
    if (figures->row_elements != 0 && ggml_is_quantized(tensor->type)) {
        const int64_t past = tensor->ne[0] % figures->row_elements;
        num_bytes += past == 0 ? 0 : ggml_row_size(tensor->type, figures->row_elements - past);
    }
    return num_bytes;
}

/* Backends */

static const char *backend_name(ggml_backend_t backend) {
    struct planned *planned = backend->context;
    return planned->name;
}

static void backend_free(ggml_backend_t backend) {
    free(backend);
}

static void backend_synchronize(ggml_backend_t backend) {
    (void)backend;
}

static enum ggml_status backend_compute(ggml_backend_t backend, struct ggml_cgraph *graph) {
    (void)backend, (void)graph;
    return GGML_STATUS_FAILED;
}

/* Devices */

static struct planned *of_device(ggml_backend_dev_t device) {
    return device->context;
}

static const char *device_name(ggml_backend_dev_t device) {
    return of_device(device)->name;
}

static void device_memory(ggml_backend_dev_t device, size_t *free_out, size_t *total_out) {
    *free_out = *total_out = of_device(device)->figures.memory_bytes;
}

static enum ggml_backend_dev_type device_type(ggml_backend_dev_t device) {
    (void)device;
    return GGML_BACKEND_DEVICE_TYPE_GPU;
}

static void device_props(ggml_backend_dev_t device, struct ggml_backend_dev_props *props) {
    const fm_plan_device *figures = &of_device(device)->figures;
    *props = (struct ggml_backend_dev_props){
        .name = device_name(device),
        .description = device_name(device),
        .memory_free = figures->memory_bytes,
        .memory_total = figures->memory_bytes,
        .type = GGML_BACKEND_DEVICE_TYPE_GPU,
        .caps = {.async = figures->has_events, .events = figures->has_events},
    };
}

static ggml_backend_t init_backend(ggml_backend_dev_t device, const char *params) {
    (void)params;
    static ggml_guid guid = {'f', 'm', 'e', 'd', 'g', 'e', ' ', 'p', 'l', 'a', 'n'};
    ggml_backend_t backend = calloc(1, sizeof *backend);
    if (backend != NULL) {
        backend->guid = &guid;
        backend->functions = (struct backend_functions){
            .get_name = backend_name,
            .free = backend_free,
            .synchronize = backend_synchronize,
            .graph_compute = backend_compute,
        };
        backend->device = device;
        backend->context = device->context;
    }
    return backend;
}

static ggml_backend_buffer_type_t device_buffer_type(ggml_backend_dev_t device) {
    return &of_device(device)->buffer_type;
}

static bool supports_op(ggml_backend_dev_t device, const struct ggml_tensor *op) {
    (void)device, (void)op;
    return true;
}

static bool supports_buft(ggml_backend_dev_t device, ggml_backend_buffer_type_t type) {
    return type == device_buffer_type(device);
}

static bool offload_op(ggml_backend_dev_t device, const struct ggml_tensor *op) {
    if (!of_device(device)->figures.takes_host_weights) {
        return false;
    }
    int64_t batch = ggml_nrows(op);
    if (op->op == GGML_OP_GET_ROWS) {
        batch = 0;
    } else if (op->op == GGML_OP_MUL_MAT) {
        batch = op->ne[1];
    } else if (op->op == GGML_OP_MUL_MAT_ID || op->op == GGML_OP_ROPE) {
        batch = op->ne[2];
    }
    return batch >= OFFLOADED_BATCH;
}

/* The registry that each device says it is of */

static const char *reg_name(ggml_backend_reg_t reg) {
    (void)reg;
    return "fmedge";
}

static size_t reg_count(ggml_backend_reg_t reg) {
    (void)reg;
    return 1;
}

static ggml_backend_dev_t reg_device(ggml_backend_reg_t reg, size_t index) {
    struct planned *planned = reg->context;
    return index == 0 ? &planned->device : NULL;
}

static void *reg_proc(ggml_backend_reg_t reg, const char *name) {
    (void)reg, (void)name;
    return NULL;
}

static void fill(struct planned *planned, const fm_plan_device *figures) {
    snprintf(planned->name, sizeof planned->name, "%s", figures->name);
    planned->figures = *figures;
    planned->buffer_type = (struct ggml_backend_buffer_type){
        .functions = {.get_name = type_name,
                      .alloc_buffer = alloc_buffer,
                      .get_alignment = get_alignment,
                      .get_alloc_size = get_alloc_size},
        .device = &planned->device,
        .context = planned,
    };
    planned->device = (struct ggml_backend_device){
        .functions = {.get_name = device_name,
                      .get_description = device_name,
                      .get_memory = device_memory,
                      .get_type = device_type,
                      .get_props = device_props,
                      .init_backend = init_backend,
                      .get_buffer_type = device_buffer_type,
                      .supports_op = supports_op,
                      .supports_buft = supports_buft,
                      .offload_op = offload_op},
        .reg = &planned->reg,
        .context = planned,
    };
    planned->reg = (struct ggml_backend_reg){
        .api_version = BACKEND_API_VERSION,
        .get_name = reg_name,
        .get_device_count = reg_count,
        .get_device = reg_device,
        .get_proc_address = reg_proc,
        .context = planned,
    };
}

int fm_plan_open(const fm_plan_device *devices, int32_t num_devices,
                 ggml_backend_dev_t *devices_out, struct fm_plan **plan_out) {
    for (int32_t i = 0; i < num_devices; i++) {
        const uint32_t alignment = devices[i].alignment;
        if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > 1 << 16) {
            return fm_fail(FM_ERR_ARGUMENT, "%s: an alignment of %u bytes cannot be",
                           devices[i].name, alignment);
        }
        if (strlen(devices[i].name) >= NAME_BYTES) {
            return fm_fail(FM_ERR_ARGUMENT, "a device's name is longer than %d bytes: %s",
                           NAME_BYTES - 1, devices[i].name);
        }
    }
    struct fm_plan *plan = calloc(1, sizeof *plan + (size_t)num_devices * sizeof plan->devices[0]);
    if (plan == NULL) {
        return fm_fail(FM_ERR_MEMORY, "not enough memory on the host");
    }
    plan->num_devices = num_devices;
    for (int32_t i = 0; i < num_devices; i++) {
        fill(&plan->devices[i], &devices[i]);
        devices_out[i] = &plan->devices[i].device;
    }
    *plan_out = plan;
    return FM_OK;
}

void fm_plan_close(struct fm_plan *plan) {
    free(plan);
}
