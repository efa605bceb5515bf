#pragma once

/* What llama.cpp would allocate, without allocating it and without the devices.
 *
 *     fm_sizing_copy_header(paths, num_paths, fd);      the header alone, into an empty file
 *     params.path = "/proc/self/fd/7";
 *     params.is_plan = true;
 *     params.plan_devices = devices;
 *     fm_engine_load(&params, &engine);                 llama.cpp lays out weights, KV and graphs
 *     fm_engine_memory(engine, rows, cap);              what it would have taken of each device
 *
 * A planning device is a ggml device of ours that holds nothing and computes nothing; it lays
 * tensors out as the backend that it stands for. An engine on such devices can do no more than
 * tell its memory. Broken files can end the process: run it in one that may end. */

#include <stdbool.h>
#include <stdint.h>

typedef struct fm_plan_device {
    const char *name; /* unique among the devices of one engine */
    uint64_t memory_bytes;
    uint32_t alignment;      /* of a tensor in a buffer; a power of two */
    uint32_t row_elements;   /* a quantised tensor's last row is padded to so many; 0: it is not */
    bool has_events;         /* steps overlap over several such devices */
    bool takes_host_weights; /* computes large products whose weights are on the host */
    bool widens_kv;          /* attention works on a 16-bit copy of quantised K and V */
} fm_plan_device;

#ifdef __cplusplus
extern "C" {
#endif

/* Writes the metadata and the tensor list of the GGUF in these parts to fd, as one file without
 * vocabulary and with its data as a hole. FM_ERR_FILE, FM_ERR_MEMORY. */
int fm_sizing_copy_header(const char *const *paths, int32_t num_paths, int fd);

#ifdef __cplusplus
}
#endif
