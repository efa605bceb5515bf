/* The launcher of the single binary: unpacks what follows it in its own file, once, and runs that.
 *
 * The rules: what is run was unpacked by the user or by root into a place that no one else may
 * write, is whole, and has nothing beside it. A folder gets its name when it is complete; whatever
 * ends an unpacking before leaves a folder that is never run and is removed by a later start.
 *
 *     launcher.c  the order of things
 *     payload.c   what was appended: index, contents, unpacking, comparing
 *     place.c     where it is unpacked, whom to trust there, removing
 */
#ifndef FMEDGE_LAUNCHER_H
#define FMEDGE_LAUNCHER_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NAME_LENGTH = 32 };

/* The end of the file; numbers are little-endian. */
struct trailer {
    uint64_t index_offset, index_bytes, index_raw_bytes;
    uint64_t data_offset, data_bytes, data_raw_bytes;
    int64_t time_s;         /* of change, of each file */
    char name[NAME_LENGTH]; /* hexadecimal digest of all of it */
    char magic[8];
} __attribute__((packed));

struct entry {
    const char *path;   /* relative to the folder; after the one of the folder that it is in */
    const char *target; /* of a link */
    uint64_t num_bytes;
    char kind; /* 'd', 'f', 'x' (an executable file) or 'l' */
};

struct payload {
    const struct trailer *trailer;
    const unsigned char *file; /* the whole of it, mapped */
    struct entry *entries;
    size_t num_entries;
    char name[NAME_LENGTH + 1];
};

/* Says what is wrong, as one line of the `fmedge` command does, and what to do; ends with 1. */
__attribute__((noreturn, format(printf, 1, 2))) void fail(const char *format, ...);

#define DAMAGED "this file is damaged or incomplete: fetch it again"
#define OTHER_PLACE "set XDG_CACHE_HOME to a folder of yours that can be written"

/* --- payload.c --- */
void open_payload(struct payload *payload);
/* NULL if the folder holds exactly what it should and only we or root could have changed it; else
 * what is wrong, as static text. */
const char *differs(const struct payload *payload, int folder);
/* 0, or errno's number; `at` then holds what could not be written. */
int unpack(const struct payload *payload, int folder, const char **at);

/* --- place.c --- */
/* The folder for all versions, made where it is missing, trusted; `path` gets its name. */
int open_place(char path[PATH_MAX]);
/* Whoever unpacks or removes holds this lock: the descriptor, or -1 if others kept it for wait_s.
 */
int lock_place(int place, double wait_s);
/* The unpacked folder, kept from removal for as long as the descriptor lives; -1 if there is none.
 */
int open_version(int place, const char *name);
/* Moves it to a name that is never run. */
void set_aside(int place, const char *name);
void remove_tree(int folder, const char *name);
/* Removes what unpackings left and versions that do not run. Only with the lock. */
void remove_unused(int place, const char *current);

#endif
