#pragma once

#include <stdint.h>

/* llama.cpp logs from any of its threads, also while Python's lock is held or wanted. So a line
 * goes into a ring of fixed size and readers come and fetch it: the logging side takes one short
 * mutex, calls nothing, and can neither block nor deadlock. A reader that is too slow loses the
 * oldest lines and learns how many.
 *
 *     uint64_t cursor = fm_log_cursor();
 *     ...
 *     while ((n = fm_log_read(&cursor, &level, &num_lost, text, sizeof text)) >= 0) { ... }
 */

enum { FM_LOG_LINE_BYTES = 512 };

#ifdef __cplusplus
extern "C" {
#endif

/* Takes over llama.cpp's and ggml's log. */
void fm_log_install(void);

/* The number of the next line to be written. */
uint64_t fm_log_cursor(void);

/* Copies the line at *cursor (no newline, NUL-terminated, cut to cap) and moves on.
 * level: ggml's (1 debug, 2 info, 3 warn, 4 error). num_lost: lines overwritten before they were
 * read. Returns its length, or -1 if there is none yet. */
int fm_log_read(uint64_t *cursor, int *level, uint64_t *num_lost, char *text, int cap);

/* The first line of level error since cursor, or "" ; returns text. llama.cpp says first what was
 * wrong and then, function by function, that it failed. */
const char *fm_log_first_error(uint64_t cursor, char *text, int cap);

/* Waits until there is a line at cursor, the number of wakes is not num_wakes any more, or
 * timeout_ms passed. Returns 1 if there is a line. */
int fm_log_wait(uint64_t cursor, uint64_t num_wakes, int timeout_ms);
uint64_t fm_log_num_wakes(void);
void fm_log_wake(void);

/* Writes a line as llama.cpp would; fragments without newline are joined. */
void fm_log_write(int level, const char *text);

#ifdef __cplusplus
}
#endif
