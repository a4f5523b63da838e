/* Watches the system calls of a process on the files below one folder: writes them down, or makes one of them fail.

   Loaded with LD_PRELOAD and asked by the environment, at the start and whenever syscalls_setup() is called:

     SYSCALLS_FOLDER  the absolute path of the folder; without it nothing is watched
     SYSCALLS_TRACE   a file to which every change is appended (see syscalls.py, which reads it)
     SYSCALLS_CALLS   the kinds of calls that may fail, such as "write,sync"
     SYSCALLS_AT      the number of the call, among these, that fails, from 1
     SYSCALLS_ERRNO   what it fails with; 0 for a write that is done by half and says so
     SYSCALLS_MORE    1 if each later one fails too; those after a short write fail with ENOSPC

   SQLite is not changed for this: its calls and Python's go to the C library by name, and so come by here. What is
   mapped into memory does not; that is the -shm file alone, which is made anew after a power loss. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN, READ, WRITE, TRUNCATE, SYNC, RENAME, UNLINK, LOCK, MAP, KINDS };
static const char *const NAMES[KINDS] = {"open", "read", "write", "truncate", "sync", "rename", "unlink", "lock", "map"};

static char folder[PATH_MAX];
static size_t length;
static int trace = -1, kinds, number, more;
static long at, count, hits, counts[KINDS];
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

/* The function of that name in the C library. */
#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

__attribute__((constructor)) void syscalls_setup(void) {
    const char *text = getenv("SYSCALLS_FOLDER");
    if (trace >= 0) REAL(close)(trace);
    trace = -1;
    count = hits = 0;
    memset(counts, 0, sizeof counts);
    length = 0;
    if (!text || !*text) return;
    snprintf(folder, sizeof folder, "%s", text);
    kinds = 0;
    if ((text = getenv("SYSCALLS_CALLS")))
        for (int n = 0; n < KINDS; n++)
            if (strstr(text, NAMES[n])) kinds |= 1 << n;
    at = (text = getenv("SYSCALLS_AT")) ? atol(text) : 0;
    number = (text = getenv("SYSCALLS_ERRNO")) ? atoi(text) : EIO;
    more = (text = getenv("SYSCALLS_MORE")) && atoi(text);
    if ((text = getenv("SYSCALLS_TRACE")) && *text)
        trace = REAL(open64)(text, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    length = strlen(folder);
}

/* How many calls of a kind there were, and how many of all failed. */
long syscalls_count(int kind) { return counts[kind]; }
long syscalls_hits(void) { return hits; }

/* Which file. */

static int below(const char *path) {
    return length && !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

static int named(int place, const char *name, char *path) {
    if (!length) return 0;
    if (name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
    } else {
        char link[64];
        ssize_t size;
        if (place == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", place);
        if ((size = readlink(link, path, PATH_MAX - 1)) < 0) return 0;
        snprintf(path + size, PATH_MAX - size, "/%s", name);
    }
    return below(path);
}

static int opened(int file, char *path) {
    char link[64];
    ssize_t size;
    if (!length || file < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    if ((size = readlink(link, path, PATH_MAX - 1)) < 0) return 0;
    path[size] = 0;
    return below(path);
}

/* Whether this call is to fail; the error is set then. -1 is a write that is to be short. */

static int fails(int kind) {
    __sync_add_and_fetch(&counts[kind], 1);
    if (!(kinds & 1 << kind) || !at) return 0;
    long this = __sync_add_and_fetch(&count, 1);
    if (this < at || (this > at && !more)) return 0;
    __sync_add_and_fetch(&hits, 1);
    errno = number ? number : ENOSPC;
    return this == at && !number ? -1 : 1;
}

/* What is written down: a kind, the file's number, a place in it, and two texts or a text and what was written. */

struct head { uint32_t kind, one, two, unused; uint64_t file, offset; };

static void note(char kind, uint64_t file, uint64_t offset, const char *one, const void *two, size_t size) {
    struct head head = {kind, one ? strlen(one) : 0, size, 0, file, offset};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)one, head.one}, {(void *)two, size}};
    int before = errno;
    if (REAL(writev)(trace, parts, 3) != (ssize_t)(sizeof head + head.one + size)) abort();
    errno = before;
}

static uint64_t inode(int file) {
    struct stat found;
    return fstat(file, &found) ? 0 : found.st_ino;
}

#define WATCHED(place) (trace >= 0 && (place))
#define BEGIN pthread_mutex_lock(&order)
#define END pthread_mutex_unlock(&order)

/* Opening. */

static int opening(int place, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    struct stat found;
    int ours = named(place, name, path);
    if (ours && fails(OPEN)) return -1;
    if (!WATCHED(ours) || !(flags & (O_CREAT | O_TRUNC))) return REAL(openat64)(place, name, flags, mode);
    BEGIN;
    int there = !stat(path, &found);
    int file = REAL(openat64)(place, name, flags, mode);
    if (file >= 0 && !there) note('C', inode(file), 0, path, NULL, 0);
    else if (file >= 0 && flags & O_TRUNC) note('T', inode(file), 0, NULL, NULL, 0);
    END;
    return file;
}

#define MODE(flags) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *name, int flags, ...) { MODE(flags) return opening(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE(flags) return opening(AT_FDCWD, name, flags, mode); }
int openat(int place, const char *name, int flags, ...) { MODE(flags) return opening(place, name, flags, mode); }
int openat64(int place, const char *name, int flags, ...) { MODE(flags) return opening(place, name, flags, mode); }

/* Reading. */

static int unreadable(int file) {
    char path[PATH_MAX];
    return opened(file, path) && fails(READ);
}

ssize_t read(int file, void *to, size_t size) { return unreadable(file) ? -1 : REAL(read)(file, to, size); }
ssize_t pread(int file, void *to, size_t size, off_t offset) {
    return unreadable(file) ? -1 : REAL(pread64)(file, to, size, offset);
}
ssize_t pread64(int file, void *to, size_t size, off64_t offset) {
    return unreadable(file) ? -1 : REAL(pread64)(file, to, size, offset);
}

/* Writing; an offset of -1 is where the file stands. */

static ssize_t writing(int file, const void *data, size_t size, off64_t offset) {
    char path[PATH_MAX];
    int ours = opened(file, path), failing = ours ? fails(WRITE) : 0;
    if (failing > 0) return -1;
    if (failing && size > 1) size /= 2;
    if (!WATCHED(ours)) return offset < 0 ? REAL(write)(file, data, size) : REAL(pwrite64)(file, data, size, offset);
    BEGIN;
    off64_t place = offset;
    if (offset < 0) {
        struct stat found;
        int appends = REAL(fcntl64)(file, F_GETFL) & O_APPEND && !fstat(file, &found);
        place = appends ? found.st_size : lseek64(file, 0, SEEK_CUR);
    }
    ssize_t done = offset < 0 ? REAL(write)(file, data, size) : REAL(pwrite64)(file, data, size, offset);
    if (done > 0) note('W', inode(file), place, path, data, done);
    END;
    return done;
}

ssize_t write(int file, const void *data, size_t size) { return writing(file, data, size, -1); }
ssize_t pwrite(int file, const void *data, size_t size, off_t offset) { return writing(file, data, size, offset); }
ssize_t pwrite64(int file, const void *data, size_t size, off64_t offset) { return writing(file, data, size, offset); }

/* Ways past it that programs must do without anyway: they are told to read and write. */

ssize_t sendfile64(int to, int from, off64_t *offset, size_t size) {
    char path[PATH_MAX];
    if (opened(to, path)) return errno = ENOTSOCK, -1;
    ssize_t (*real_one)(int, int, off64_t *, size_t) = real("sendfile64");
    return real_one(to, from, offset, size);
}
ssize_t sendfile(int to, int from, off_t *offset, size_t size) { return sendfile64(to, from, offset, size); }
ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t size, unsigned flags) {
    char path[PATH_MAX];
    if (opened(to, path)) return errno = ENOSYS, -1;
    return REAL(copy_file_range)(from, a, to, b, size, flags);
}

/* Length, and reaching the disk. */

int ftruncate64(int file, off64_t size) {
    char path[PATH_MAX];
    int ours = opened(file, path);
    if (ours && fails(TRUNCATE)) return -1;
    if (!WATCHED(ours)) return REAL(ftruncate64)(file, size);
    BEGIN;
    int result = REAL(ftruncate64)(file, size);
    if (!result) note('T', inode(file), size, NULL, NULL, 0);
    END;
    return result;
}
int ftruncate(int file, off_t size) { return ftruncate64(file, size); }
int truncate64(const char *name, off64_t size) {
    int file = opening(AT_FDCWD, name, O_WRONLY | O_CLOEXEC, 0);
    int result = file < 0 ? -1 : ftruncate64(file, size), before = errno;
    if (file >= 0) REAL(close)(file);
    errno = before;
    return result;
}
int truncate(const char *name, off_t size) { return truncate64(name, size); }

static int syncing(int file, int (*call)(int)) {
    char path[PATH_MAX];
    struct stat found;
    int ours = opened(file, path);
    if (ours && fails(SYNC)) return -1;
    if (!WATCHED(ours)) return call(file);
    BEGIN;
    int result = call(file);
    if (!result && !fstat(file, &found)) note(S_ISDIR(found.st_mode) ? 'D' : 'S', found.st_ino, 0, path, NULL, 0);
    END;
    return result;
}

int fsync(int file) { return syncing(file, REAL(fsync)); }
int fdatasync(int file) { return syncing(file, REAL(fdatasync)); }

/* Names. */

static int moving(int a, const char *from, int b, const char *to, int links, int flags) {
    char one[PATH_MAX], two[PATH_MAX];
    int first = named(a, from, one), ours = named(b, to, two) || first;
    if (ours && fails(RENAME)) return -1;
    if (ours) BEGIN;
    int result = links ? REAL(linkat)(a, from, b, to, flags) : REAL(renameat)(a, from, b, to);
    if (!result && WATCHED(ours)) note(links ? 'L' : 'R', 0, 0, one, two, strlen(two));
    if (ours) END;
    return result;
}

int rename(const char *from, const char *to) { return moving(AT_FDCWD, from, AT_FDCWD, to, 0, 0); }
int renameat(int a, const char *from, int b, const char *to) { return moving(a, from, b, to, 0, 0); }
int link(const char *from, const char *to) { return moving(AT_FDCWD, from, AT_FDCWD, to, 1, 0); }
int linkat(int a, const char *from, int b, const char *to, int flags) { return moving(a, from, b, to, 1, flags); }

int unlinkat(int place, const char *name, int flags) {
    char path[PATH_MAX];
    int ours = named(place, name, path);
    if (ours && fails(UNLINK)) return -1;
    if (ours) BEGIN;
    int result = REAL(unlinkat)(place, name, flags);
    if (!result && WATCHED(ours) && !(flags & AT_REMOVEDIR)) note('U', 0, 0, path, NULL, 0);
    if (ours) END;
    return result;
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }

/* Locks and maps. */

int fcntl64(int file, int command, ...) {
    char path[PATH_MAX];
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if ((command == F_SETLK || command == F_SETLKW) && opened(file, path) && fails(LOCK)) return -1;
    return REAL(fcntl64)(file, command, argument);
}
int fcntl(int file, int command, ...) {
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    return fcntl64(file, command, argument);
}

void *mmap64(void *where, size_t size, int protection, int flags, int file, off64_t offset) {
    char path[PATH_MAX];
    if (!(flags & MAP_ANONYMOUS) && opened(file, path) && fails(MAP)) return MAP_FAILED;
    return REAL(mmap64)(where, size, protection, flags, file, offset);
}
void *mmap(void *where, size_t size, int protection, int flags, int file, off_t offset) {
    return mmap64(where, size, protection, flags, file, offset);
}
