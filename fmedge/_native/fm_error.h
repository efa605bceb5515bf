#pragma once

/* Return codes of every fm_ function that can fail. The text of the last failure of this thread is
 * fm_error_text(). */
enum {
    FM_OK = 0,
    FM_ERR = -1,           /* llama.cpp or one of our kernels reported a failure */
    FM_ERR_ARGUMENT = -2,  /* the caller broke the contract; nothing was changed */
    FM_ERR_MEMORY = -3,    /* a device or the host could not hold what was asked */
    FM_ERR_KV_FULL = -4,   /* no KV cells for the batch; nothing was changed */
    FM_ERR_ABORTED = -5,   /* aborted on request */
    FM_ERR_FILE = -6,      /* the file is missing, broken or not what it claims to be */
    FM_ERR_CANCELLED = -7, /* the progress callback said no */
    FM_ERR_LOAD = -8,      /* llama.cpp refused the model */
    FM_ERR_CONTEXT = -9,   /* llama.cpp refused the context */
};

#ifdef __cplusplus
extern "C" {
#endif

/* Never NULL; valid until this thread's next failing call. */
const char *fm_error_text(void);

/* Records the text and returns code, so that a failure is `return fm_fail(CODE, "...")`. */
int fm_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

#ifdef __cplusplus
}
#endif
