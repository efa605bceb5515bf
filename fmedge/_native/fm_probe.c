#include "fm_probe.h"

#include <stdio.h>

#include "ggml-backend.h"

static void copy(char *to, size_t cap, const char *from) {
    snprintf(to, cap, "%s", from == NULL ? "" : from);
}

int32_t fm_probe_devices(fm_device *devices, int32_t cap) {
    const int32_t num_devices = (int32_t)ggml_backend_dev_count();
    for (int32_t i = 0; i < num_devices && i < cap; i++) {
        ggml_backend_dev_t dev = ggml_backend_dev_get((size_t)i);
        struct ggml_backend_dev_props props = {0};
        ggml_backend_dev_get_props(dev, &props);
        fm_device *out = &devices[i];
        *out = (fm_device){
            .kind = (int32_t)props.type,
            .memory_total = props.memory_total,
            .memory_free = props.memory_free,
        };
        copy(out->name, sizeof out->name, props.name);
        copy(out->description, sizeof out->description, props.description);
        copy(out->device_id, sizeof out->device_id, props.device_id);
        ggml_backend_reg_t reg = ggml_backend_dev_backend_reg(dev);
        copy(out->backend, sizeof out->backend, reg == NULL ? "" : ggml_backend_reg_name(reg));
    }
    return num_devices;
}
