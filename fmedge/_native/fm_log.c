#define _GNU_SOURCE
#include "fm_log.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "llama.h"

enum { NUM_LINES = 1024 };

struct line {
    int level;
    int length;
    char text[FM_LOG_LINE_BYTES];
};

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint64_t num_written;
    uint64_t num_wakes;
    struct line pending; /* what came without a newline so far */
    struct line lines[NUM_LINES];
} ring = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void commit_pending(void) {
    if (ring.pending.length == 0) {
        return;
    }
    struct line *line = &ring.lines[ring.num_written % NUM_LINES];
    line->level = ring.pending.level;
    line->length = ring.pending.length;
    memcpy(line->text, ring.pending.text, (size_t)ring.pending.length);
    ring.pending.length = 0;
    ring.num_written++;
}

void fm_log_write(int level, const char *text) {
    pthread_mutex_lock(&ring.mutex);
    if (level != GGML_LOG_LEVEL_CONT) {
        commit_pending();
        ring.pending.level = level;
    }
    for (; *text != '\0'; text++) {
        if (*text == '\n') {
            commit_pending();
        } else if (ring.pending.length < FM_LOG_LINE_BYTES - 1) {
            ring.pending.text[ring.pending.length++] = *text;
        }
    }
    pthread_cond_broadcast(&ring.changed);
    pthread_mutex_unlock(&ring.mutex);
}

static void on_ggml_log(enum ggml_log_level level, const char *text, void *user_data) {
    (void)user_data;
    fm_log_write((int)level, text);
}

void fm_log_install(void) {
    llama_log_set(on_ggml_log, NULL);
}

uint64_t fm_log_cursor(void) {
    pthread_mutex_lock(&ring.mutex);
    const uint64_t cursor = ring.num_written;
    pthread_mutex_unlock(&ring.mutex);
    return cursor;
}

int fm_log_read(uint64_t *cursor, int *level, uint64_t *num_lost, char *text, int cap) {
    int length = -1;
    *num_lost = 0;
    pthread_mutex_lock(&ring.mutex);
    if (ring.num_written > NUM_LINES && *cursor < ring.num_written - NUM_LINES) {
        *num_lost = ring.num_written - NUM_LINES - *cursor;
        *cursor += *num_lost;
    }
    if (*cursor < ring.num_written && cap > 0) {
        const struct line *line = &ring.lines[*cursor % NUM_LINES];
        length = line->length < cap ? line->length : cap - 1;
        memcpy(text, line->text, (size_t)length);
        text[length] = '\0';
        *level = line->level;
        (*cursor)++;
    }
    pthread_mutex_unlock(&ring.mutex);
    return length;
}

const char *fm_log_first_error(uint64_t cursor, char *text, int cap) {
    char line[FM_LOG_LINE_BYTES];
    int level;
    uint64_t num_lost;
    text[0] = '\0';
    while (fm_log_read(&cursor, &level, &num_lost, line, sizeof line) >= 0) {
        if (level == GGML_LOG_LEVEL_ERROR) {
            snprintf(text, (size_t)cap, "%s", line);
            break;
        }
    }
    return text;
}

int fm_log_wait(uint64_t cursor, uint64_t num_wakes, int timeout_ms) {
    struct timespec deadline;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += timeout_ms / 1000;
    deadline.tv_nsec += (long)(timeout_ms % 1000) * 1000000L;
    if (deadline.tv_nsec >= 1000000000L) {
        deadline.tv_sec++;
        deadline.tv_nsec -= 1000000000L;
    }
    pthread_mutex_lock(&ring.mutex);
    int rc = 0;
    while (ring.num_written <= cursor && ring.num_wakes == num_wakes && rc == 0) {
        rc = pthread_cond_clockwait(&ring.changed, &ring.mutex, CLOCK_MONOTONIC, &deadline);
    }
    const int has_line = ring.num_written > cursor;
    pthread_mutex_unlock(&ring.mutex);
    return has_line;
}

uint64_t fm_log_num_wakes(void) {
    pthread_mutex_lock(&ring.mutex);
    const uint64_t num_wakes = ring.num_wakes;
    pthread_mutex_unlock(&ring.mutex);
    return num_wakes;
}

void fm_log_wake(void) {
    pthread_mutex_lock(&ring.mutex);
    ring.num_wakes++;
    pthread_cond_broadcast(&ring.changed);
    pthread_mutex_unlock(&ring.mutex);
}
