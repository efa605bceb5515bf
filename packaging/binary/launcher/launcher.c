#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* A slow disk takes a minute for what another start unpacks meanwhile. */
#define LOCK_WAIT_S 300.0

void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("fmedge: error: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

/* What Python's libraries were compiled for; without it they would die of an illegal instruction.
 */
static void check_processor(void) {
#ifdef __x86_64__
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("x86-64-v2")) {
        fail(
            "this processor is too old: fmedge's binary needs SSE4.2 and POPCNT (x86-64-v2), "
            "which processors have since about 2009");
    }
#endif
}

static void unpack_version(const struct payload *payload, int place, const char *path) {
    char temporary[64];
    snprintf(temporary, sizeof temporary, ".new-%ld", (long)getpid());
    remove_tree(place, temporary); /* of a process that had our number once */
    if (mkdirat(place, temporary, 0700) != 0) {
        fail("cannot unpack into %s: %s; " OTHER_PLACE, path, strerror(errno));
    }
    const int folder = openat(place, temporary, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    const char *at = ".";
    const int error = folder < 0 ? errno : unpack(payload, folder, &at);
    if (error == 0 && renameat(place, temporary, place, payload->name) == 0) {
        close(folder);
        return;
    }
    const int reason = error != 0 ? error : errno;
    remove_tree(place, temporary);
    if (reason == EBADMSG) {
        fail(DAMAGED);
    }
    if (reason == ENOSPC || reason == EDQUOT) {
        fail("cannot unpack into %s: %s. It takes %.0f MB: make room, or " OTHER_PLACE, path,
             strerror(reason), (double)payload->trailer->data_raw_bytes / 1e6);
    }
    fail("cannot unpack %s into %s: %s; " OTHER_PLACE, at, path, strerror(reason));
}

/* The folder to run, whole and trusted. */
static int ready_version(const struct payload *payload, int place, const char *path) {
    int version = open_version(place, payload->name);
    if (version >= 0 && differs(payload, version) == NULL) {
        const int lock = lock_place(place, 0.0);
        if (lock >= 0) { /* else another start does it */
            remove_unused(place, payload->name);
            close(lock);
        }
        return version;
    }
    if (version >= 0) {
        close(version);
    }
    const int lock = lock_place(place, LOCK_WAIT_S);
    if (lock < 0) {
        fail("another fmedge has been unpacking into %s for %.0f s; end it, or " OTHER_PLACE, path,
             LOCK_WAIT_S);
    }
    remove_unused(place, payload->name); /* makes room first */
    version = open_version(place, payload->name);
    const char *difference = version < 0 ? NULL : differs(payload, version);
    if (difference != NULL) {
        fprintf(stderr, "fmedge: %s/%s is unpacked anew: %s\n", path, payload->name, difference);
        close(version);
        set_aside(place, payload->name);
        remove_unused(place, payload->name);
        version = -1;
    }
    if (version < 0) {
        set_aside(place, payload->name); /* what is no folder, say */
        unpack_version(payload, place, path);
        version = open_version(place, payload->name);
        if (version < 0 || (difference = differs(payload, version)) != NULL) {
            fail("%s/%s was just unpacked and is not as it should be (%s); " OTHER_PLACE, path,
                 payload->name, difference != NULL ? difference : "it is gone");
        }
    }
    close(lock);
    return version;
}

int main(int argc, char **argv) {
    (void)argc;
    check_processor();
    struct payload payload;
    open_payload(&payload);
    char path[PATH_MAX], executable[PATH_MAX + 64];
    const int place = open_place(path);
    const int version = ready_version(&payload, place, path);
    close(place);
    /* Inherited: as long as fmedge runs, no other start removes what it runs from. */
    fcntl(version, F_SETFD, 0);
    snprintf(executable, sizeof executable, "%s/%s/fmedge", path, payload.name);
    execv(executable, argv);
    fail("cannot run %s: %s%s; " OTHER_PLACE, executable, strerror(errno),
         errno == EACCES ? " (is its file system mounted noexec?)" : "");
}
