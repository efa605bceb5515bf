#pragma once

/* llama.cpp's RPC backend, both ends. A build without it answers FM_ERR_ARGUMENT.
 *
 * As a client llama.cpp ends the process where a server is down, or goes away later. Whoever adds a
 * server must have looked at it before; if it goes away then, the process ends with the status
 * FM_RPC_EXIT_LOST instead of a signal, so that whoever watches it knows what was lost. */

#include <stdint.h>

enum { FM_RPC_EXIT_LOST = 5 };

typedef struct {
    char name[64];
} fm_rpc_name;

#ifdef __cplusplus
extern "C" {
#endif

/* Registers a server's devices with ggml, once in a process. Fills at most cap names; returns how
 * many devices it has, or an FM_ code. */
int32_t fm_rpc_add_server(const char *endpoint, fm_rpc_name *names, int32_t cap);

/* Serves connections as long as accept() gives some; these come from fm_handover. */
int fm_rpc_serve(int32_t threads, const char *const *devices, int32_t num_devices);

#ifdef __cplusplus
}
#endif
