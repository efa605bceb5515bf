/* llama.cpp's estimate of its compute buffers, made by the very code that reserves them.
 *
 * Where nothing may be allocated, llama.cpp asks ggml_backend_sched_reserve_size() for the sizes of
 * the buffers. That forgets on which devices the graph's builder has put some values, so buffers
 * come out larger or smaller than those that a load gets. This library exports a function of that
 * name (see fm_gemm.h for how it comes to be the one that llama.cpp finds), which reserves as a
 * load does and reads the sizes off. Only for planning devices, whose memory is not real.
 */
#ifndef FM_RESERVE_H
#define FM_RESERVE_H

#include <stdbool.h>
#include <stddef.h>

struct ggml_backend_sched;
struct ggml_cgraph;

/* sizes[i]: bytes of the compute buffer of the scheduler's backend i for this graph. */
__attribute__((visibility("default"))) void ggml_backend_sched_reserve_size(
    struct ggml_backend_sched *sched, struct ggml_cgraph *graph, size_t *sizes);

/* 1: sizes are those of buffers reserved; 0 (at first): llama.cpp's own estimate. */
__attribute__((visibility("default"))) void fm_reserve_enable(int is_enabled);

#endif
