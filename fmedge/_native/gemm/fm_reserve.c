#define _GNU_SOURCE
#include "fm_reserve.h"

#include <dlfcn.h>

struct ggml_backend;

typedef void (*reserve_size_fn)(struct ggml_backend_sched *, struct ggml_cgraph *, size_t *);
typedef bool (*reserve_fn)(struct ggml_backend_sched *, struct ggml_cgraph *);
typedef int (*count_fn)(struct ggml_backend_sched *);
typedef struct ggml_backend *(*backend_fn)(struct ggml_backend_sched *, int);
typedef size_t (*buffer_size_fn)(struct ggml_backend_sched *, struct ggml_backend *);

static bool is_reserving;

void fm_reserve_enable(int is_enabled) {
    is_reserving = is_enabled != 0;
}

/* llama.cpp's libraries come after this one, so their functions are found when they are needed. */
static bool reserve(struct ggml_backend_sched *sched, struct ggml_cgraph *graph, size_t *sizes) {
    const reserve_fn reserve_graph = (reserve_fn)dlsym(RTLD_DEFAULT, "ggml_backend_sched_reserve");
    const count_fn count = (count_fn)dlsym(RTLD_DEFAULT, "ggml_backend_sched_get_n_backends");
    const backend_fn backend = (backend_fn)dlsym(RTLD_DEFAULT, "ggml_backend_sched_get_backend");
    const buffer_size_fn buffer_size =
        (buffer_size_fn)dlsym(RTLD_DEFAULT, "ggml_backend_sched_get_buffer_size");
    if (reserve_graph == NULL || count == NULL || backend == NULL || buffer_size == NULL ||
        !reserve_graph(sched, graph)) {
        return false;
    }
    for (int i = 0; i < count(sched); i++) {
        sizes[i] = buffer_size(sched, backend(sched, i));
    }
    return true;
}

void ggml_backend_sched_reserve_size(struct ggml_backend_sched *sched, struct ggml_cgraph *graph,
                                     size_t *sizes) {
    if (is_reserving && reserve(sched, graph, sizes)) {
        return;
    }
    const reserve_size_fn original =
        (reserve_size_fn)dlsym(RTLD_NEXT, "ggml_backend_sched_reserve_size");
    if (original != NULL) {
        original(sched, graph, sizes);
    }
}
