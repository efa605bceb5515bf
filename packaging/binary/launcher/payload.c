#include "launcher.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the trailer's numbers are little-endian"
#endif

static const char MAGIC[8] = "fmedge\x01\n";
static const uint64_t MAX_INDEX_BYTES = 64 << 20;
enum { OUT_BYTES = 1 << 20 };

static bool is_inside(uint64_t offset, uint64_t bytes, uint64_t total) {
    return offset <= total && bytes <= total - offset;
}

/* Kind, size, path and target of each; a path that would lead out of the folder is refused. */
static void read_index(struct payload *payload, char *at, const char *end) {
    size_t capacity = 0;
    while (at < end) {
        if (payload->num_entries == capacity) {
            capacity = capacity == 0 ? 1024 : 2 * capacity;
            payload->entries = realloc(payload->entries, capacity * sizeof *payload->entries);
            if (payload->entries == NULL) {
                fail("out of memory");
            }
        }
        struct entry *entry = &payload->entries[payload->num_entries++];
        entry->kind = *at++;
        if (end - at < 8) {
            fail(DAMAGED);
        }
        memcpy(&entry->num_bytes, at, sizeof entry->num_bytes);
        entry->path = at += sizeof entry->num_bytes;
        at = memchr(at, '\0', (size_t)(end - at));
        entry->target = at == NULL ? NULL : ++at;
        at = at == NULL ? NULL : memchr(at, '\0', (size_t)(end - at));
        if (at++ == NULL || entry->path[0] == '/' || entry->path[0] == '\0' ||
            strstr(entry->path, "..") != NULL || strchr("dfxl", entry->kind) == NULL) {
            fail(DAMAGED);
        }
    }
}

void open_payload(struct payload *payload) {
    memset(payload, 0, sizeof *payload);
    const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        fail("cannot read /proc/self/exe: %s (is /proc mounted?)", strerror(errno));
    }
    struct stat status;
    if (fstat(file, &status) != 0 || (size_t)status.st_size < sizeof *payload->trailer) {
        fail(DAMAGED);
    }
    const uint64_t size = (uint64_t)status.st_size;
    payload->file = mmap(NULL, size, PROT_READ, MAP_PRIVATE, file, 0);
    close(file);
    if (payload->file == MAP_FAILED) {
        fail("cannot map this file: %s", strerror(errno));
    }
    const struct trailer *trailer = (const void *)(payload->file + size - sizeof *trailer);
    if (memcmp(trailer->magic, MAGIC, sizeof MAGIC) != 0 ||
        !is_inside(trailer->index_offset, trailer->index_bytes, size) ||
        !is_inside(trailer->data_offset, trailer->data_bytes, size) ||
        trailer->index_raw_bytes > MAX_INDEX_BYTES) {
        fail(DAMAGED);
    }
    payload->trailer = trailer;
    memcpy(payload->name, trailer->name, NAME_LENGTH);
    char *index = malloc(trailer->index_raw_bytes);
    if (index == NULL) {
        fail("out of memory");
    }
    const size_t made =
        ZSTD_decompress(index, trailer->index_raw_bytes, payload->file + trailer->index_offset,
                        trailer->index_bytes);
    if (made != trailer->index_raw_bytes) {
        fail(DAMAGED);
    }
    read_index(payload, index, index + made);
}

/* --- what is there --- */

static const char *differing_owner(const struct stat *status) {
    if (status->st_uid != 0 && status->st_uid != geteuid()) {
        return "something in it belongs to another user";
    }
    if (!S_ISLNK(status->st_mode) && (status->st_mode & (S_IWGRP | S_IWOTH)) != 0) {
        return "something in it may be written by others";
    }
    return NULL;
}

static size_t num_inside(int folder, const char *path) {
    const int inner = openat(folder, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *listing = inner < 0 ? NULL : fdopendir(inner);
    if (listing == NULL) {
        return SIZE_MAX / 2;
    }
    size_t count = 0;
    while (readdir(listing) != NULL) {
        count++;
    }
    closedir(listing);
    return count - 2; /* without . and .. */
}

static const char *differing_entry(const struct payload *payload, const struct entry *entry,
                                   int folder) {
    struct stat status;
    if (fstatat(folder, entry->path, &status, AT_SYMLINK_NOFOLLOW) != 0) {
        return "something is missing";
    }
    const mode_t kind = entry->kind == 'd' ? S_IFDIR : entry->kind == 'l' ? S_IFLNK : S_IFREG;
    if ((status.st_mode & S_IFMT) != kind) {
        return "something is of another kind";
    }
    if (kind == S_IFREG && ((uint64_t)status.st_size != entry->num_bytes ||
                            status.st_mtim.tv_sec != payload->trailer->time_s ||
                            ((status.st_mode & S_IXUSR) != 0) != (entry->kind == 'x'))) {
        return "a file was changed";
    }
    if (kind == S_IFLNK) {
        char target[PATH_MAX];
        const ssize_t length = readlinkat(folder, entry->path, target, sizeof target);
        if (length != (ssize_t)strlen(entry->target) ||
            memcmp(target, entry->target, (size_t)length) != 0) {
            return "a link was changed";
        }
    }
    return differing_owner(&status);
}

const char *differs(const struct payload *payload, int folder) {
    struct stat status;
    if (fstat(folder, &status) != 0) {
        return "it cannot be looked at";
    }
    const char *difference = differing_owner(&status);
    size_t count = num_inside(folder, ".");
    for (size_t i = 0; i < payload->num_entries && difference == NULL; i++) {
        const struct entry *entry = &payload->entries[i];
        difference = differing_entry(payload, entry, folder);
        if (difference == NULL && entry->kind == 'd') {
            count += num_inside(folder, entry->path);
        }
    }
    if (difference != NULL) {
        return difference;
    }
    return count == payload->num_entries ? NULL : "something is in it that does not belong there";
}

/* --- unpacking --- */

struct source {
    ZSTD_DStream *stream;
    ZSTD_inBuffer in;
    ZSTD_outBuffer out; /* what is decompressed; `taken` of it is used */
    size_t taken;
    size_t rest; /* 0: the frame's end, and its checksum, were right */
};

/* Some of what follows, at most `wanted`; 0 where there is no more. */
static size_t next_bytes(struct source *source, uint64_t wanted, const char **bytes) {
    if (source->taken == source->out.pos) {
        source->out.pos = source->taken = 0;
        while (source->out.pos == 0 && source->rest != 0 && source->in.pos < source->in.size) {
            source->rest = ZSTD_decompressStream(source->stream, &source->out, &source->in);
            if (ZSTD_isError(source->rest)) {
                return 0;
            }
        }
    }
    const size_t available = source->out.pos - source->taken;
    const size_t count = wanted < available ? (size_t)wanted : available;
    *bytes = (const char *)source->out.dst + source->taken;
    source->taken += count;
    return count;
}

static int write_all(int file, const char *bytes, size_t count) {
    while (count > 0) {
        const ssize_t written = write(file, bytes, count);
        if (written < 0 && errno != EINTR) {
            return errno;
        }
        if (written > 0) {
            bytes += written;
            count -= (size_t)written;
        }
    }
    return 0;
}

static int unpack_file(const struct payload *payload, const struct entry *entry, int folder,
                       struct source *source) {
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    const int file = openat(folder, entry->path, flags, 0600);
    if (file < 0) {
        return errno;
    }
    int error = 0;
    for (uint64_t left = entry->num_bytes; left > 0 && error == 0;) {
        const char *bytes;
        const size_t count = next_bytes(source, left, &bytes);
        if (count == 0) {
            error = EBADMSG;
            break;
        }
        error = write_all(file, bytes, count);
        left -= count;
    }
    const struct timespec time = {payload->trailer->time_s, 0}, times[2] = {time, time};
    if (error == 0 &&
        (fchmod(file, entry->kind == 'x' ? 0555 : 0444) != 0 || futimens(file, times) != 0)) {
        error = errno;
    }
    if (close(file) != 0 && error == 0) {
        error = errno;
    }
    return error;
}

int unpack(const struct payload *payload, int folder, const char **at) {
    const struct trailer *trailer = payload->trailer;
    struct source source = {
        .stream = ZSTD_createDStream(),
        .in = {payload->file + trailer->data_offset, trailer->data_bytes, 0},
        .out = {malloc(OUT_BYTES), OUT_BYTES, 0},
        .rest = 1,
    };
    if (source.stream == NULL || source.out.dst == NULL) {
        return ENOMEM;
    }
    int error = 0;
    for (size_t i = 0; i < payload->num_entries && error == 0; i++) {
        const struct entry *entry = &payload->entries[i];
        *at = entry->path;
        if (entry->kind == 'd') {
            error = mkdirat(folder, entry->path, 0755) == 0 ? 0 : errno;
        } else if (entry->kind == 'l') {
            error = symlinkat(entry->target, folder, entry->path) == 0 ? 0 : errno;
        } else {
            error = unpack_file(payload, entry, folder, &source);
        }
    }
    const char *bytes;
    if (error == 0 && (next_bytes(&source, 1, &bytes) != 0 || source.rest != 0)) {
        error = EBADMSG;
    }
    if (error == EBADMSG) {
        *at = "itself";
    }
    ZSTD_freeDStream(source.stream);
    free(source.out.dst);
    return error;
}
