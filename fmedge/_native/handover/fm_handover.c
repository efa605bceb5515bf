#define _GNU_SOURCE
#include "fm_handover.h"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/* ggml's handles, as far as this library looks at them. */
typedef struct ggml_backend_device *device_t;
typedef struct ggml_backend_buffer *buffer_t;
typedef struct ggml_backend_buffer_type *buffer_type_t;

static struct {
    int is_started;
    int control;
    int row;
    int num_devices;
    device_t devices[FM_HANDOVER_MAX_DEVICES];
    uint64_t limits[FM_HANDOVER_MAX_DEVICES];
    uint64_t (*used)[FM_HANDOVER_MAX_DEVICES];
} state;

static struct {
    int (*accept)(int, struct sockaddr *, socklen_t *);
    int (*bind)(int, const struct sockaddr *, socklen_t);
    int (*listen)(int, int);
    void (*dev_memory)(device_t, size_t *, size_t *);
    buffer_t (*alloc_buffer)(buffer_type_t, size_t);
    void (*buffer_free)(buffer_t);
    size_t (*buffer_get_size)(buffer_t);
    buffer_type_t (*buffer_get_type)(buffer_t);
    device_t (*buft_get_device)(buffer_type_t);
    device_t (*dev_by_name)(const char *);
    device_t (*dev_by_type)(int); /* 0: the CPU */
} original;

static int resolve(void *function_out, const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    memcpy(function_out, &found, sizeof found);
    return found == NULL ? -1 : 0;
}

static int device_index(device_t device) {
    for (int i = 0; i < state.num_devices; i++) {
        if (state.devices[i] == device) {
            return i;
        }
    }
    return -1;
}

/* The host's own buffer type names no device. */
static int device_of(buffer_type_t buft) {
    device_t device = original.buft_get_device(buft);
    return device_index(device == NULL ? original.dev_by_type(0) : device);
}

static uint64_t used_of(int device) {
    uint64_t used = 0;
    for (int row = 0; row < FM_HANDOVER_MAX_PROCESSES; row++) {
        used += __atomic_load_n(&state.used[row][device], __ATOMIC_SEQ_CST);
    }
    return used;
}

EXPORT int fm_handover_start(int control, int table, int row, int parent_pid,
                             const char *const *devices, const uint64_t *limits, int num_devices) {
    if (num_devices < 1 || num_devices > FM_HANDOVER_MAX_DEVICES || row < 0 ||
        row >= FM_HANDOVER_MAX_PROCESSES) {
        errno = EINVAL;
        return -1;
    }
    if (resolve(&original.accept, "accept") || resolve(&original.bind, "bind") ||
        resolve(&original.listen, "listen") ||
        resolve(&original.dev_memory, "ggml_backend_dev_memory") ||
        resolve(&original.alloc_buffer, "ggml_backend_buft_alloc_buffer") ||
        resolve(&original.buffer_free, "ggml_backend_buffer_free") ||
        resolve(&original.buffer_get_size, "ggml_backend_buffer_get_size") ||
        resolve(&original.buffer_get_type, "ggml_backend_buffer_get_type") ||
        resolve(&original.buft_get_device, "ggml_backend_buft_get_device") ||
        resolve(&original.dev_by_name, "ggml_backend_dev_by_name") ||
        resolve(&original.dev_by_type, "ggml_backend_dev_by_type")) {
        errno = ENOSYS;
        return -1;
    }
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) {
        return -1;
    }
    if (getppid() != parent_pid) {
        _exit(0);
    }
    const size_t table_bytes = sizeof(uint64_t[FM_HANDOVER_MAX_PROCESSES][FM_HANDOVER_MAX_DEVICES]);
    void *memory = mmap(NULL, table_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, table, 0);
    if (memory == MAP_FAILED) {
        return -1;
    }
    state.used = memory;
    for (int i = 0; i < num_devices; i++) {
        state.devices[i] = original.dev_by_name(devices[i]);
        state.limits[i] = limits[i];
        if (state.devices[i] == NULL) {
            errno = ENODEV;
            return -1;
        }
    }
    state.num_devices = num_devices;
    state.control = control;
    state.row = row;
    state.is_started = 1;
    return 0;
}

EXPORT int accept(int fd, struct sockaddr *address, socklen_t *length) {
    if (!state.is_started) {
        return resolve(&original.accept, "accept") ? -1 : original.accept(fd, address, length);
    }
    if (send(state.control, "i", 1, MSG_NOSIGNAL) != 1) {
        _exit(0);
    }
    char byte;
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } ancillary;
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &ancillary,
                             .msg_controllen = sizeof ancillary};
    ssize_t num_bytes;
    do {
        num_bytes = recvmsg(state.control, &message, MSG_CMSG_CLOEXEC);
    } while (num_bytes < 0 && errno == EINTR);
    const struct cmsghdr *header = num_bytes == 1 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header == NULL || header->cmsg_type != SCM_RIGHTS) {
        _exit(0); /* the supervisor is gone, or wants this process to be */
    }
    int connection;
    memcpy(&connection, CMSG_DATA(header), sizeof connection);
    return connection;
}

EXPORT int bind(int fd, const struct sockaddr *address, socklen_t length) {
    if (!state.is_started) {
        return resolve(&original.bind, "bind") ? -1 : original.bind(fd, address, length);
    }
    return 0;
}

EXPORT int listen(int fd, int backlog) {
    if (!state.is_started) {
        return resolve(&original.listen, "listen") ? -1 : original.listen(fd, backlog);
    }
    return 0;
}

EXPORT void ggml_backend_dev_memory(device_t device, size_t *free, size_t *total) {
    if (!state.is_started && resolve(&original.dev_memory, "ggml_backend_dev_memory")) {
        *free = *total = 0;
        return;
    }
    original.dev_memory(device, free, total);
    const int i = state.is_started ? device_index(device) : -1;
    if (i < 0) {
        return;
    }
    const uint64_t used = used_of(i);
    const uint64_t left = used < state.limits[i] ? state.limits[i] - used : 0;
    *total = state.limits[i];
    *free = *free < left ? *free : left;
}

EXPORT buffer_t ggml_backend_buft_alloc_buffer(buffer_type_t buft, size_t size) {
    if (!state.is_started) {
        return resolve(&original.alloc_buffer, "ggml_backend_buft_alloc_buffer")
                   ? NULL
                   : original.alloc_buffer(buft, size);
    }
    const int i = device_of(buft);
    if (i < 0) {
        return original.alloc_buffer(buft, size);
    }
    /* Claimed first and looked at then: two that claim at once may both be refused, but never both
     * be granted more than there is. */
    uint64_t *own = &state.used[state.row][i];
    if (size > state.limits[i]) {
        return NULL;
    }
    __atomic_add_fetch(own, size, __ATOMIC_SEQ_CST);
    if (used_of(i) > state.limits[i]) {
        __atomic_sub_fetch(own, size, __ATOMIC_SEQ_CST);
        const uint64_t used = used_of(i);
        fprintf(stderr, "refused a buffer of %.1f MiB: %.1f of %.1f MiB are in use\n",
                (double)size / 1048576.0, (double)used / 1048576.0,
                (double)state.limits[i] / 1048576.0);
        return NULL;
    }
    buffer_t buffer = original.alloc_buffer(buft, size);
    const uint64_t got = buffer == NULL ? 0 : original.buffer_get_size(buffer);
    __atomic_add_fetch(own, got - size, __ATOMIC_SEQ_CST); /* wraps where got is less */
    return buffer;
}

EXPORT void ggml_backend_buffer_free(buffer_t buffer) {
    if (!state.is_started && resolve(&original.buffer_free, "ggml_backend_buffer_free")) {
        return;
    }
    uint64_t bytes = 0;
    int i = -1;
    if (state.is_started && buffer != NULL) {
        i = device_of(original.buffer_get_type(buffer));
        bytes = original.buffer_get_size(buffer);
    }
    original.buffer_free(buffer);
    if (i >= 0) {
        __atomic_sub_fetch(&state.used[state.row][i], bytes, __ATOMIC_SEQ_CST);
    }
}
