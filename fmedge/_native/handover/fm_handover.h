/* Makes llama.cpp's RPC server, which listens for itself and bounds nothing, a part of ours.
 *
 * Preloaded (LD_PRELOAD) into a process that runs it, this library stands before libc and libggml:
 *
 *   accept()                       the next connection that the supervisor hands over
 *   bind(), listen()               nothing: the supervisor listens
 *   ggml_backend_dev_memory()      tells the limit, and what of it is free
 *   ggml_backend_buft_alloc_buffer(), ggml_backend_buffer_free()
 *                                  hold to the limit, over all processes of one supervisor
 *
 * Before fm_handover_start() everything goes to the originals. The usage table is shared memory:
 * used[process][device] in bytes; a process writes its own row alone, so what one that dies had
 * allocated is given back by clearing its row. */
#ifndef FM_HANDOVER_H
#define FM_HANDOVER_H

#include <stdint.h>

enum { FM_HANDOVER_MAX_DEVICES = 16, FM_HANDOVER_MAX_PROCESSES = 64 };

/* control: a Unix socket that a connection comes from as SCM_RIGHTS; a byte is sent before each
 * accept(), so the supervisor knows that this process is idle; its end ends the process. table:
 * file descriptor of the usage table; row: this process's. limits: bytes of each device.
 * Returns 0, or -1 where the process cannot be set up. */
__attribute__((visibility("default"))) int fm_handover_start(int control, int table, int row,
                                                             int parent_pid,
                                                             const char *const *devices,
                                                             const uint64_t *limits,
                                                             int num_devices);

#endif
