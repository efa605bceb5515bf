#include "launcher.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* $NAME as the start of an absolute path, or NULL: a relative one is to be ignored. */
static const char *folder_of(const char *name) {
    const char *value = getenv(name);
    return value != NULL && value[0] == '/' ? value : NULL;
}

static void name_place(char path[PATH_MAX]) {
    const char *service = folder_of("CACHE_DIRECTORY"); /* systemd's, several with colons */
    const char *cache = folder_of("XDG_CACHE_HOME");
    const char *home = folder_of("HOME");
    int length;
    if (service != NULL) {
        length = snprintf(path, PATH_MAX, "%.*s/binary", (int)strcspn(service, ":"), service);
    } else if (cache != NULL) {
        length = snprintf(path, PATH_MAX, "%s/fmedge/binary", cache);
    } else if (home != NULL) {
        length = snprintf(path, PATH_MAX, "%s/.cache/fmedge/binary", home);
    } else {
        fail(
            "there is no place to unpack into: neither HOME nor XDG_CACHE_HOME is "
            "set; " OTHER_PLACE);
    }
    if (length >= PATH_MAX - NAME_LENGTH - 8) {
        fail("the cache folder's name is too long: %s", path);
    }
}

static void make_folders(char path[PATH_MAX]) {
    for (char *end = path + 1;; end++) {
        if (*end != '/' && *end != '\0') {
            continue;
        }
        const char kept = *end;
        *end = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST) {
            fail("cannot make the folder %s: %s; " OTHER_PLACE, path, strerror(errno));
        }
        *end = kept;
        if (kept == '\0') {
            return;
        }
    }
}

/* Whoever may write into a folder on the way could put another in its place. */
static void check_owner(const char *path, int folder) {
    struct stat status;
    if (fstat(folder, &status) != 0) {
        fail("cannot look at %s: %s", path, strerror(errno));
    }
    if (status.st_uid != 0 && status.st_uid != geteuid()) {
        fail("%s belongs to user %u, not to you or root: nothing is run from there; " OTHER_PLACE,
             path, (unsigned)status.st_uid);
    }
    if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
        fail(
            "%s may be written by others (its mode is %04o): nothing is run from there. "
            "Run chmod go-w on it, or " OTHER_PLACE,
            path, (unsigned)status.st_mode & 07777);
    }
}

int open_place(char path[PATH_MAX]) {
    char named[PATH_MAX];
    name_place(named);
    make_folders(named);
    if (realpath(named, path) == NULL) {
        fail("cannot follow %s: %s; " OTHER_PLACE, named, strerror(errno));
    }
    int folder = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) {
        fail("cannot open /: %s", strerror(errno));
    }
    check_owner("/", folder);
    for (char *start = path + 1; *start != '\0';) {
        char *end = start + strcspn(start, "/");
        const char kept = *end;
        *end = '\0';
        /* O_PATH: a parent need not be readable. */
        const int flags = O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
        const int next = openat(folder, start, flags | (kept == '\0' ? O_RDONLY : O_PATH));
        if (next < 0) {
            fail("cannot open %s: %s; " OTHER_PLACE, path, strerror(errno));
        }
        check_owner(path, next);
        close(folder);
        folder = next;
        *end = kept;
        start = kept == '\0' ? end : end + 1;
    }
    return folder;
}

int lock_place(int place, double wait_s) {
    const int lock = openat(place, ".lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (lock < 0) {
        if (wait_s > 0) {
            fail("cannot write to the cache folder: %s; " OTHER_PLACE, strerror(errno));
        }
        return -1; /* what is there can run from where nothing can be written */
    }
    struct timespec now, pause = {0, 20 * 1000 * 1000};
    clock_gettime(CLOCK_MONOTONIC, &now);
    const double until_s = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec + wait_s;
    while (flock(lock, LOCK_EX | LOCK_NB) != 0) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        if ((double)now.tv_sec + 1e-9 * (double)now.tv_nsec >= until_s) {
            close(lock);
            return -1;
        }
        nanosleep(&pause, NULL);
    }
    return lock;
}

int open_version(int place, const char *name) {
    const int folder = openat(place, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0) {
        return -1;
    }
    struct stat ours, named;
    /* Whoever removes it holds the other lock; then it is renamed, and no longer what `name` is. */
    if (flock(folder, LOCK_SH | LOCK_NB) == 0 && fstat(folder, &ours) == 0 &&
        fstatat(place, name, &named, AT_SYMLINK_NOFOLLOW) == 0 && ours.st_ino == named.st_ino &&
        ours.st_dev == named.st_dev) {
        return folder;
    }
    close(folder);
    return -1;
}

void set_aside(int place, const char *name) {
    char aside[64];
    snprintf(aside, sizeof aside, ".old-%ld", (long)getpid());
    remove_tree(place, aside);
    if (renameat(place, name, place, aside) != 0 && errno != ENOENT) {
        fail("cannot rename the unpacked %s: %s; remove it, or " OTHER_PLACE, name,
             strerror(errno));
    }
}

void remove_tree(int folder, const char *name) {
    const int inner = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (inner < 0) {
        unlinkat(folder, name, 0);
        return;
    }
    DIR *listing = fdopendir(inner);
    if (listing == NULL) {
        close(inner);
        return;
    }
    const struct dirent *item;
    while ((item = readdir(listing)) != NULL) {
        if (strcmp(item->d_name, ".") != 0 && strcmp(item->d_name, "..") != 0) {
            remove_tree(inner, item->d_name);
        }
    }
    closedir(listing);
    unlinkat(folder, name, AT_REMOVEDIR);
}

static bool is_version(const char *name) {
    for (size_t i = 0; i < NAME_LENGTH; i++) {
        if (!isxdigit((unsigned char)name[i])) {
            return false;
        }
    }
    return name[NAME_LENGTH] == '\0';
}

void remove_unused(int place, const char *current) {
    const int again = openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *listing = again < 0 ? NULL : fdopendir(again);
    if (listing == NULL) {
        return;
    }
    const struct dirent *item;
    while ((item = readdir(listing)) != NULL) {
        const char *name = item->d_name;
        const bool is_left = strncmp(name, ".new-", 5) == 0 || strncmp(name, ".old-", 5) == 0;
        if (!is_left && (!is_version(name) || strcmp(name, current) == 0)) {
            continue;
        }
        const int folder = openat(place, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (folder < 0) {
            unlinkat(place, name,
                     0); /* whatever it is: it is no folder, as this does not remove one */
        } else if (flock(folder, LOCK_EX | LOCK_NB) == 0) {
            if (is_left) {
                remove_tree(place, name);
            } else {
                char aside[NAME_LENGTH + 8];
                snprintf(aside, sizeof aside, ".old-%.*s", NAME_LENGTH, name);
                if (renameat(place, name, place, aside) == 0) {
                    remove_tree(place, aside);
                }
            }
        }
        if (folder >= 0) {
            close(folder);
        }
    }
    closedir(listing);
}
