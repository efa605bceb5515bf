#pragma once

/* Planning devices as ggml devices. Nothing but fm_engine.c includes it; see fm_sizing.h. */

#include "fm_sizing.h"
#include "ggml-backend.h"

struct fm_plan;

/* *plan_out owns devices_out[num_devices], and must outlive what is loaded on them. */
int fm_plan_open(const fm_plan_device *devices, int32_t num_devices,
                 ggml_backend_dev_t *devices_out, struct fm_plan **plan_out);

/* NULL is allowed. */
void fm_plan_close(struct fm_plan *plan);
