#pragma once

#include <stdint.h>

/* One device of ggml's registry; memory in bytes. */
typedef struct {
    char name[128];
    char description[256];
    char backend[64];
    char device_id[64];
    int32_t kind; /* enum ggml_backend_dev_type */
    uint64_t memory_total;
    uint64_t memory_free;
} fm_device;

#ifdef __cplusplus
extern "C" {
#endif

/* Fills at most cap devices; returns how many there are. */
int32_t fm_probe_devices(fm_device *devices, int32_t cap);

#ifdef __cplusplus
}
#endif
