#include "fm_rpc.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fm_error.h"
#include "ggml-backend.h"
#include "ggml-rpc.h"

enum { MAX_OFFERED = 16 };

/* Not linked: a build of llama.cpp may lack the backend. */
static void *rpc_function(const char *name) {
    ggml_backend_reg_t reg = ggml_backend_reg_by_name("RPC");
    return reg == NULL ? NULL : ggml_backend_reg_get_proc_address(reg, name);
}

static int no_backend(void) {
    return fm_fail(FM_ERR_ARGUMENT,
                   "this build of llama.cpp has no RPC backend: reinstall llama-cpp-python with "
                   "CMAKE_ARGS=-DGGML_RPC=ON");
}

static void on_abort(const char *message) {
    static const char *const signs[] = {"Remote RPC server crashed", "Failed to connect to",
                                        "RPC handshake failed"};
    fprintf(stderr, "%s\n", message);
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++) {
        if (strstr(message, signs[i]) != NULL) {
            fflush(stderr);
            _exit(FM_RPC_EXIT_LOST);
        }
    }
}

int32_t fm_rpc_add_server(const char *endpoint, fm_rpc_name *names, int32_t cap) {
    typedef ggml_backend_reg_t (*add_server_fn)(const char *);
    add_server_fn add_server = (add_server_fn)rpc_function("ggml_backend_rpc_add_server");
    if (add_server == NULL) {
        return no_backend();
    }
    ggml_set_abort_callback(on_abort);
    ggml_backend_reg_t reg = add_server(endpoint);
    if (reg == NULL) {
        return fm_fail(FM_ERR_ARGUMENT, "the device server at %s offers no device", endpoint);
    }
    const int32_t num_devices = (int32_t)ggml_backend_reg_dev_count(reg);
    for (int32_t i = 0; i < num_devices; i++) {
        const char *name = ggml_backend_dev_name(ggml_backend_reg_dev_get(reg, (size_t)i));
        if (i < cap) {
            snprintf(names[i].name, sizeof names[i].name, "%s", name);
        }
    }
    if (num_devices > 0 &&
        ggml_backend_dev_by_name(ggml_backend_dev_name(ggml_backend_reg_dev_get(reg, 0))) == NULL) {
        ggml_backend_register(reg);
    }
    return num_devices;
}

int fm_rpc_serve(int32_t threads, const char *const *devices, int32_t num_devices) {
    typedef void (*serve_fn)(const char *, const char *, size_t, size_t, ggml_backend_dev_t *);
    serve_fn serve = (serve_fn)rpc_function("ggml_backend_rpc_start_server");
    if (serve == NULL) {
        return no_backend();
    }
    ggml_backend_dev_t offered[MAX_OFFERED];
    if (num_devices < 1 || num_devices > MAX_OFFERED) {
        return fm_fail(FM_ERR_ARGUMENT, "between 1 and %d devices can be offered", MAX_OFFERED);
    }
    for (int32_t i = 0; i < num_devices; i++) {
        offered[i] = ggml_backend_dev_by_name(devices[i]);
        if (offered[i] == NULL) {
            return fm_fail(FM_ERR_ARGUMENT, "there is no device named %s", devices[i]);
        }
    }
    /* The address is not listened on: bind() and listen() are fm_handover's. */
    serve("127.0.0.1:1", NULL, (size_t)threads, (size_t)num_devices, offered);
    return fm_fail(FM_ERR, "llama.cpp's RPC server did not start");
}
