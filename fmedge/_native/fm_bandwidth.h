#pragma once

/* How fast a device computes and how fast it is reached, by ggml's own kernels.
 *
 *     fm_bandwidth *probe;
 *     fm_bandwidth_open("CPU", 2, &probe);
 *     fm_bandwidth_load(probe, "q8_0", 4096, 4096, 8, &num_bytes);    8 matrices of 4096 x 4096
 *     fm_bandwidth_run(probe, 0, 8, 1, 1, &seconds);                  each times one vector, once
 *     fm_bandwidth_attention(probe, &(fm_attention){8, 4, 128, 512, 4, 8}, &seconds);
 *     fm_bandwidth_link(probe, 1 << 20, &seconds);
 *     fm_bandwidth_close(probe);
 *
 * One thread at a time. A device that fails badly ends the process: run it in one that may end. */

#include <stdint.h>

typedef struct fm_bandwidth fm_bandwidth;

#ifdef __cplusplus
extern "C" {
#endif

/* device: ggml's name of it; threads: where it is the CPU. Of one thread the seconds are its own,
 * whatever else runs meanwhile. */
int fm_bandwidth_open(const char *device, int32_t threads, fm_bandwidth **out);

/* The device's memory in bytes, by its own account; 0 where it has none. */
void fm_bandwidth_memory(const fm_bandwidth *probe, uint64_t *free_out, uint64_t *total_out);

/* Puts num_matrices matrices of [rows][width] of a ggml type there, in place of earlier ones, and
 * in the buffer type that llama.cpp would take. *num_bytes_out: what reading them all reads.
 * FM_ERR_ARGUMENT where the device cannot multiply this type. */
int fm_bandwidth_load(fm_bandwidth *probe, const char *type, int32_t width, int32_t rows,
                      int32_t num_matrices, uint64_t *num_bytes_out);

/* The seconds that `repeats` times the products of num_matrices matrices, from number `first` on,
 * with a [num_tokens][width] input take, one after the other. */
int fm_bandwidth_run(fm_bandwidth *probe, int32_t first, int32_t num_matrices, int32_t num_tokens,
                     int32_t repeats, double *seconds_out);

/* One token's attention, num_calls times: heads query heads of `width` values over f16 keys and
 * values for kv_heads heads and `depth` tokens, in num_caches caches in turn. */
typedef struct {
    int32_t heads, kv_heads, width, depth, num_caches, num_calls;
} fm_attention;

/* The seconds that it takes by the fused kernel, laid out as llama.cpp's caches are.
 * FM_ERR_ARGUMENT where the device has no such kernel. */
int fm_bandwidth_attention(fm_bandwidth *probe, const fm_attention *asked, double *seconds_out);

/* The seconds that num_bytes to the device and back take, each until they are there. */
int fm_bandwidth_link(fm_bandwidth *probe, uint64_t num_bytes, double *seconds_out);

/* NULL is allowed. */
void fm_bandwidth_close(fm_bandwidth *probe);

#ifdef __cplusplus
}
#endif
