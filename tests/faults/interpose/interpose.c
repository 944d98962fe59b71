/*
 * Records what a process does to the files below one directory, in one true order over all its threads and all other
 * recorded processes, and lets calls fail, fall short, wait, or kill the process on command.
 *
 * Preloaded with LD_PRELOAD. Two shared mappings, made by the Python side (__init__.py has the same layouts):
 *   control  the lock, the end of the trace, and the rules of injection
 *   trace    one record after the other
 *
 * What keeps it honest:
 *   - it opens no watched file, closes none and takes no lock of fcntl or flock of its own: closing any descriptor of
 *     an SQLite database would drop the locks of the whole process;
 *   - the order is that of a robust mutex in shared memory: an operation and its record are one step under it, except
 *     for what may take long (syncs, waiting locks), which is recorded once it is over (a sync also when it begins);
 *   - under the mutex the record comes first and gets its result afterwards: what a SIGKILL came between has none;
 *   - a record only counts once `end` is behind it, so a torn one is overwritten by the next;
 *   - it calls the kernel itself (syscall(2)), never the next library's function, so nothing has to be looked up first.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MAGIC 0x51544c46u
#define RULES 16
#define FDS 65536
#define PAGE 65536
#define UNKNOWN INT64_MIN

enum { OPEN = 1, CLOSE, WRITE, TRUNCATE, SYNC_BEGIN, SYNC, ALLOCATE, UNLINK, RENAME, MKDIR, RMDIR, LINK, SYMLINK, MAP,
       LOCK, FLOCK, READ, MARK, FAULT };
enum { CREATED = 1, INJECTED = 2, PERFORMED = 4, DIRECTORY = 8, DATA_ONLY = 16, EMPTIED = 32 };
enum { FAIL = 1, SHORT, PARTIAL, PAUSE, KILL, DELAY };
enum { BEFORE = 0, AFTER = 1 };

struct rule {
    _Atomic uint32_t active;
    uint32_t operations; /* bit 1 << operation */
    uint32_t action;
    uint32_t when;
    int32_t error;
    int32_t pid;
    int64_t skip;
    int64_t times; /* -1: for ever */
    int64_t argument; /* bytes of SHORT and PARTIAL, microseconds of DELAY */
    uint32_t only; /* 0 anything, 1 files, 2 directories */
    _Atomic uint32_t released;
    _Atomic uint64_t matched;
    _Atomic uint64_t injected;
    _Atomic uint32_t waiting;
    uint32_t spare;
    char suffix[120];
};

struct control {
    uint32_t magic;
    _Atomic uint32_t has_rules;
    _Atomic uint64_t end;
    uint64_t capacity;
    _Atomic uint64_t sequence;
    _Atomic uint64_t overflowed;
    uint64_t keeps_data;
    _Atomic uint32_t recording;
    uint32_t spare;
    pthread_mutex_t mutex;
    char pad[512 - 56 - sizeof(pthread_mutex_t)];
    struct rule rules[RULES];
};

struct record {
    uint32_t magic;
    uint32_t size;
    uint64_t sequence;
    uint64_t time;
    uint32_t pid;
    uint32_t tid;
    uint16_t operation;
    uint16_t flags;
    uint32_t error;
    int64_t result;
    int64_t offset;
    int64_t length;
    uint64_t inode;
    uint32_t path_size;
    uint32_t data_size;
};

struct file {
    uint64_t inode;
    int is_directory;
    char path[];
};

static struct control *control;
static unsigned char *trace;
static char root[PATH_MAX];
static size_t root_size;
/* Entries are never freed: another thread may be using one, and there are few. */
static _Atomic(struct file *) files[FDS];

/* ---- set up -------------------------------------------------------------------------------------------------- */

static void *map_file(const char *path, size_t size) {
    long fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0) return NULL;
    long at = syscall(SYS_mmap, NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, (int)fd, 0L);
    syscall(SYS_close, (int)fd);
    return at == -1 ? NULL : (void *)at;
}

/* Called by the Python side, once, in the process that makes the files. */
int taquba_prepare(const char *path) {
    struct control *made = map_file(path, PAGE);
    if (!made) return -1;
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_ERRORCHECK);
    int failed = pthread_mutex_init(&made->mutex, &kind);
    munmap(made, PAGE);
    return failed;
}

unsigned long taquba_layout(int which) {
    switch (which) {
        case 0: return sizeof(struct rule);
        case 1: return offsetof(struct control, rules);
        case 2: return sizeof(struct record);
        case 3: return sizeof(struct control);
    }
    return 0;
}

__attribute__((constructor)) static void begin(void) {
    const char *directory = getenv("TAQUBA_INTERPOSE");
    const char *watched = getenv("TAQUBA_INTERPOSE_ROOT");
    char path[PATH_MAX];
    if (!directory || !watched || strlen(watched) >= sizeof root) return;
    snprintf(path, sizeof path, "%s/control", directory);
    struct control *found = map_file(path, PAGE);
    if (!found || found->magic != MAGIC) return;
    snprintf(path, sizeof path, "%s/trace", directory);
    trace = map_file(path, found->capacity);
    if (!trace) return;
    strcpy(root, watched);
    root_size = strlen(root);
    control = found;
}

/* ---- order --------------------------------------------------------------------------------------------------- */

static int enter(void) {
    int failed = pthread_mutex_lock(&control->mutex);
    if (failed == EOWNERDEAD) {
        pthread_mutex_consistent(&control->mutex);
        failed = 0;
    }
    return failed == 0; /* EDEADLK: a signal handler inside one of us; it goes unordered */
}

static void leave(int entered) {
    if (entered) pthread_mutex_unlock(&control->mutex);
}

static uint64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

/* Writes a record, without its result, and returns it; NULL where there is no room. Under the lock. */
static struct record *note(int operation, int flags, const char *path, uint64_t inode, int64_t offset, int64_t length,
                           const struct iovec *parts, int count) {
    if (!control->recording) return NULL;
    size_t data = 0, path_size = path ? strlen(path) : 0;
    int keeps = operation != WRITE || control->keeps_data;
    for (int i = 0; keeps && i < count; i++) data += parts[i].iov_len;
    size_t size = (sizeof(struct record) + path_size + data + 7) & ~(size_t)7;
    uint64_t at = control->end;
    if (at + size > control->capacity) {
        control->overflowed++;
        return NULL;
    }
    struct record *made = (struct record *)(trace + at);
    made->magic = MAGIC;
    made->size = (uint32_t)size;
    made->sequence = control->sequence++;
    made->time = now();
    made->pid = (uint32_t)syscall(SYS_getpid);
    made->tid = (uint32_t)syscall(SYS_gettid);
    made->operation = (uint16_t)operation;
    made->flags = (uint16_t)flags;
    made->error = 0;
    made->result = UNKNOWN;
    made->offset = offset;
    made->length = length;
    made->inode = inode;
    made->path_size = (uint32_t)path_size;
    made->data_size = (uint32_t)data;
    unsigned char *to = (unsigned char *)(made + 1);
    if (path_size) memcpy(to, path, path_size);
    to += path_size;
    for (int i = 0; keeps && i < count; i++) {
        memcpy(to, parts[i].iov_base, parts[i].iov_len);
        to += parts[i].iov_len;
    }
    atomic_store(&control->end, at + size);
    return made;
}

static void finish(struct record *made, long result) {
    if (!made) return;
    made->error = result < 0 ? (uint32_t)errno : 0;
    made->result = result;
    made->flags |= PERFORMED;
}

/* ---- injection ----------------------------------------------------------------------------------------------- */

static int ends_with(const char *path, const char *suffix) {
    size_t size = strlen(path), wanted = strlen(suffix);
    return wanted <= size && !memcmp(path + size - wanted, suffix, wanted);
}

/* The rule that strikes here, if one does. Counts; under the lock. */
static struct rule *struck(int operation, const char *path, int is_directory) {
    if (!control->has_rules) return NULL;
    for (int i = 0; i < RULES; i++) {
        struct rule *rule = &control->rules[i];
        if (!rule->active || !(rule->operations & 1u << operation)) continue;
        if (rule->pid && rule->pid != (int32_t)syscall(SYS_getpid)) continue;
        if ((rule->only == 1 && is_directory) || (rule->only == 2 && !is_directory)) continue;
        if (!ends_with(path, rule->suffix)) continue;
        uint64_t number = rule->matched++;
        if ((int64_t)number < rule->skip) continue;
        if (rule->times >= 0 && (int64_t)rule->injected >= rule->times) continue;
        rule->injected++;
        return rule;
    }
    return NULL;
}

static void die(void) {
    syscall(SYS_kill, (int)syscall(SYS_getpid), SIGKILL);
    for (;;) pause();
}

/* What a rule does beside letting the call fail; not under the lock. */
static void suffer(struct rule *rule) {
    int kept = errno;
    if (rule->action == KILL) die();
    if (rule->action == PAUSE) {
        rule->waiting++;
        struct timespec moment = {0, 1000000};
        while (!rule->released && rule->active) nanosleep(&moment, NULL);
        rule->waiting--;
    }
    if (rule->action == DELAY) {
        struct timespec moment = {rule->argument / 1000000, rule->argument % 1000000 * 1000};
        nanosleep(&moment, NULL);
    }
    errno = kept;
}

/* Notes that a rule struck; under the lock. */
static void note_fault(struct rule *rule, int operation, const char *path) {
    struct record *made = note(FAULT, INJECTED, path, 0, operation, (int64_t)(rule - control->rules), NULL, 0);
    if (made) made->result = rule->action, made->error = (uint32_t)rule->error;
}

/*
 * One operation and its record, one step under the lock if HELD. DO is an expression that calls the kernel.
 * Sets `result` and errno; what strikes before and after it is in here, so that every wrapper has it.
 */
#define STEP(OPERATION, FLAGS, PATH, IS_DIRECTORY, INODE, OFFSET, LENGTH, PARTS, COUNT, HELD, DO, ALSO)                \
    do {                                                                                                               \
        int entered_ = enter();                                                                                        \
        struct rule *rule_ = struck(OPERATION, PATH, IS_DIRECTORY);                                                    \
        if (rule_) note_fault(rule_, OPERATION, PATH);                                                                 \
        if (rule_ && rule_->when == BEFORE && rule_->action >= PAUSE) {                                                \
            leave(entered_);                                                                                           \
            suffer(rule_);                                                                                             \
            entered_ = enter();                                                                                        \
        }                                                                                                              \
        int flags_ = (FLAGS) | (rule_ ? INJECTED : 0) | ((IS_DIRECTORY) ? DIRECTORY : 0);                              \
        if (rule_ && rule_->when == BEFORE && rule_->action == FAIL) {                                                 \
            struct record *made_ = note(OPERATION, flags_, PATH, INODE, OFFSET, LENGTH, PARTS, COUNT);                 \
            errno = rule_->error;                                                                                      \
            result = -1;                                                                                               \
            if (made_) made_->result = -1, made_->error = (uint32_t)errno;                                             \
        } else {                                                                                                       \
            struct record *made_ = NULL;                                                                               \
            if (HELD) made_ = note(OPERATION, flags_, PATH, INODE, OFFSET, LENGTH, PARTS, COUNT);                      \
            if (!(HELD)) leave(entered_);                                                                              \
            result = (DO);                                                                                             \
            int kept_ = errno;                                                                                         \
            if (!(HELD)) entered_ = enter();                                                                           \
            if (!(HELD)) made_ = note(OPERATION, flags_, PATH, INODE, OFFSET, LENGTH, PARTS, COUNT);                   \
            errno = kept_;                                                                                             \
            finish(made_, result);                                                                                     \
            ALSO;                                                                                                      \
            if (rule_ && rule_->when == AFTER && rule_->action == FAIL) {                                              \
                errno = rule_->error;                                                                                  \
                result = -1;                                                                                           \
            }                                                                                                          \
        }                                                                                                              \
        int left_ = errno;                                                                                             \
        leave(entered_);                                                                                               \
        errno = left_;                                                                                                 \
        if (rule_ && rule_->when == AFTER && rule_->action >= PAUSE) suffer(rule_);                                    \
    } while (0)

/* ---- paths --------------------------------------------------------------------------------------------------- */

/* Puts the path below the root into `below` and returns 1; 0 for a path that is not watched. "." is the root. */
static int find(int at, const char *path, char *below) {
    if (!control || !path) return 0;
    char whole[2 * PATH_MAX];
    size_t size = 0;
    int kept = errno;
    if (path[0] != '/') {
        long got;
        if (at == AT_FDCWD) {
            got = syscall(SYS_getcwd, whole, (size_t)PATH_MAX);
            got = got > 0 ? got - 1 : -1;
        } else {
            char link[64];
            snprintf(link, sizeof link, "/proc/self/fd/%d", at);
            got = syscall(SYS_readlinkat, AT_FDCWD, link, whole, (size_t)PATH_MAX);
        }
        errno = kept;
        if (got < 0) return 0;
        size = (size_t)got;
    }
    if (strlen(path) >= PATH_MAX) return 0;
    for (const char *from = path; *from;) {
        while (*from == '/') from++;
        size_t part = strcspn(from, "/");
        if (part == 0) break;
        if (part == 2 && from[0] == '.' && from[1] == '.') {
            while (size && whole[--size] != '/') continue;
        } else if (!(part == 1 && from[0] == '.')) {
            whole[size++] = '/';
            memcpy(whole + size, from, part);
            size += part;
        }
        from += part;
    }
    whole[size] = 0;
    if (size < root_size || memcmp(whole, root, root_size)) return 0;
    if (size == root_size) {
        strcpy(below, ".");
        return 1;
    }
    if (whole[root_size] != '/' || size - root_size >= PATH_MAX) return 0;
    strcpy(below, whole + root_size + 1);
    return 1;
}

static struct file *watched(int fd) {
    return control && fd >= 0 && fd < FDS ? atomic_load(&files[fd]) : NULL;
}

static void remember(int fd, struct file *file) {
    if (fd >= 0 && fd < FDS) atomic_store(&files[fd], file);
}

static struct file *describe(int fd, const char *below) {
    struct stat found;
    int kept = errno;
    struct file *made = malloc(sizeof *made + strlen(below) + 1);
    if (made) {
        int has = fstat(fd, &found) == 0;
        made->inode = has ? found.st_ino : 0;
        made->is_directory = has && S_ISDIR(found.st_mode);
        strcpy(made->path, below);
    }
    errno = kept;
    return made;
}

static uint64_t inode_at(int at, const char *path, int *is_directory) {
    struct stat found;
    int kept = errno;
    int failed = fstatat(at, path, &found, AT_SYMLINK_NOFOLLOW);
    errno = kept;
    if (is_directory) *is_directory = !failed && S_ISDIR(found.st_mode);
    return failed ? 0 : found.st_ino;
}

/* ---- opening and closing ------------------------------------------------------------------------------------- */

static int do_open(int at, const char *path, int how, mode_t mode) {
    char below[PATH_MAX];
    long result;
    if (!find(at, path, below)) {
        result = syscall(SYS_openat, at, path, how, mode);
        if (result >= 0) remember((int)result, NULL);
        return (int)result;
    }
    int entered = enter(), is_directory = 0;
    uint64_t before = inode_at(at, path, &is_directory);
    struct rule *rule = struck(OPEN, below, is_directory);
    if (rule) note_fault(rule, OPEN, below);
    if (rule && rule->when == BEFORE && rule->action >= PAUSE) {
        leave(entered);
        suffer(rule);
        entered = enter();
        before = inode_at(at, path, &is_directory);
    }
    int flags = (rule ? INJECTED : 0) | (is_directory ? DIRECTORY : 0) | (how & O_TRUNC ? EMPTIED : 0);
    struct record *made = note(OPEN, flags, below, before, how, mode, NULL, 0);
    if (rule && rule->when == BEFORE && rule->action == FAIL) {
        errno = rule->error;
        result = -1;
        if (made) made->result = -1, made->error = (uint32_t)errno;
    } else {
        result = syscall(SYS_openat, at, path, how, mode);
        finish(made, result);
        if (result >= 0) {
            struct file *file = describe((int)result, below);
            remember((int)result, file);
            if (made && file) {
                if (!before) made->flags |= CREATED;
                made->inode = file->inode;
            }
        }
        if (rule && rule->when == AFTER && rule->action == FAIL) {
            /* Not closed: that would drop the process's locks on the file, which a failing open does not do. */
            if (result >= 0) remember((int)result, NULL);
            errno = rule->error;
            result = -1;
        }
    }
    int kept = errno;
    leave(entered);
    errno = kept;
    if (rule && rule->when == AFTER && rule->action >= PAUSE) suffer(rule);
    return (int)result;
}

static mode_t mode_of(int how, va_list rest) {
    return how & (O_CREAT | O_TMPFILE) ? (mode_t)va_arg(rest, int) : 0;
}

#define OPENING(NAME)                                                                                                  \
    int NAME(const char *path, int how, ...) {                                                                         \
        va_list rest;                                                                                                  \
        va_start(rest, how);                                                                                           \
        mode_t mode = mode_of(how, rest);                                                                              \
        va_end(rest);                                                                                                  \
        return do_open(AT_FDCWD, path, how, mode);                                                                     \
    }
#define OPENING_AT(NAME)                                                                                               \
    int NAME(int at, const char *path, int how, ...) {                                                                 \
        va_list rest;                                                                                                  \
        va_start(rest, how);                                                                                           \
        mode_t mode = mode_of(how, rest);                                                                              \
        va_end(rest);                                                                                                  \
        return do_open(at, path, how, mode);                                                                           \
    }
OPENING(open)
OPENING(open64)
OPENING_AT(openat)
OPENING_AT(openat64)
int __open_2(const char *path, int how) { return do_open(AT_FDCWD, path, how, 0); }
int __open64_2(const char *path, int how) { return do_open(AT_FDCWD, path, how, 0); }
int __openat_2(int at, const char *path, int how) { return do_open(at, path, how, 0); }
int __openat64_2(int at, const char *path, int how) { return do_open(at, path, how, 0); }
int creat(const char *path, mode_t mode) { return do_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

int close(int fd) {
    struct file *file = watched(fd);
    if (!file) return (int)syscall(SYS_close, fd);
    long result;
    /* Forgotten first: once it is closed, another thread may get the number. */
    STEP(CLOSE, 0, file->path, file->is_directory, file->inode, fd, 0, NULL, 0, 1,
         (remember(fd, NULL), syscall(SYS_close, fd)), (void)0);
    return (int)result;
}

int close_range(unsigned first, unsigned last, int how) {
    if (!(how & 4 /* CLOSE_RANGE_CLOEXEC */))
        for (unsigned fd = first; control && fd <= last && fd < FDS; fd++) remember((int)fd, NULL);
    return (int)syscall(SYS_close_range, first, last, how);
}

int dup(int fd) {
    long result = syscall(SYS_dup, fd);
    if (result >= 0) remember((int)result, watched(fd));
    return (int)result;
}

int dup3(int from, int to, int how) {
    long result = syscall(SYS_dup3, from, to, how);
    if (result >= 0) remember((int)result, watched(from));
    return (int)result;
}

int dup2(int from, int to) {
    if (from == to) return (int)syscall(SYS_fcntl, from, F_GETFD) < 0 ? -1 : to;
    return dup3(from, to, 0);
}

/* ---- data ---------------------------------------------------------------------------------------------------- */

static int64_t position(int fd) {
    int kept = errno;
    long how = syscall(SYS_fcntl, fd, F_GETFL, 0);
    struct stat found;
    int64_t at = how >= 0 && how & O_APPEND && fstat(fd, &found) == 0 ? found.st_size
                                                                      : (int64_t)syscall(SYS_lseek, fd, 0L, SEEK_CUR);
    errno = kept;
    return at;
}

/* A write of any kind: `at` < 0 means where the descriptor stands. */
static ssize_t do_write(int fd, struct file *file, const struct iovec *parts, int count, int64_t at) {
    int64_t wanted = 0;
    for (int i = 0; i < count; i++) wanted += (int64_t)parts[i].iov_len;
    int entered = enter();
    struct rule *rule = struck(WRITE, file->path, file->is_directory);
    if (rule) note_fault(rule, WRITE, file->path);
    if (rule && rule->when == BEFORE && rule->action >= PAUSE) {
        leave(entered);
        suffer(rule);
        entered = enter();
    }
    int64_t offset = at < 0 ? position(fd) : at;
    int64_t most = rule && (rule->action == SHORT || rule->action == PARTIAL) && rule->argument < wanted
                       ? rule->argument : wanted;
    int fails = rule && (rule->action == PARTIAL || rule->action == FAIL);
    int skips = rule && rule->action == FAIL && rule->when == BEFORE;
    struct iovec cut[count > 0 ? count : 1];
    int used = 0;
    for (int64_t left = most; used < count && left > 0; used++) {
        cut[used] = parts[used];
        if ((int64_t)cut[used].iov_len > left) cut[used].iov_len = (size_t)left;
        left -= (int64_t)cut[used].iov_len;
    }
    struct record *made = note(WRITE, rule ? INJECTED : 0, file->path, file->inode, offset, most, cut, used);
    long result;
    if (skips) {
        result = -1;
        errno = rule->error;
        if (made) made->result = -1, made->error = (uint32_t)errno;
    } else {
        result = at < 0 ? syscall(SYS_writev, fd, cut, used) : syscall(SYS_pwritev, fd, cut, used, at, 0L);
        finish(made, result);
        if (fails && result >= 0) {
            result = -1;
            errno = rule->error;
        }
    }
    int kept = errno;
    leave(entered);
    errno = kept;
    if (rule && rule->when == AFTER && rule->action >= PAUSE) suffer(rule);
    return result;
}

ssize_t write(int fd, const void *data, size_t size) {
    struct file *file = watched(fd);
    struct iovec part = {(void *)data, size};
    return file ? do_write(fd, file, &part, 1, -1) : syscall(SYS_write, fd, data, size);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    struct file *file = watched(fd);
    struct iovec part = {(void *)data, size};
    return file && at >= 0 ? do_write(fd, file, &part, 1, at) : syscall(SYS_pwrite64, fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return pwrite(fd, data, size, at); }
ssize_t writev(int fd, const struct iovec *parts, int count) {
    struct file *file = watched(fd);
    return file && count > 0 && count <= IOV_MAX ? do_write(fd, file, parts, count, -1)
                                                 : syscall(SYS_writev, fd, parts, count);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    struct file *file = watched(fd);
    return file && at >= 0 && count > 0 && count <= IOV_MAX ? do_write(fd, file, parts, count, at)
                                                            : syscall(SYS_pwritev, fd, parts, count, at, 0L);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) { return pwritev(fd, parts, count, at); }
/* CPython's os.pwritev comes this way; an offset of -1 means where the descriptor stands. */
ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t at, int flags) {
    struct file *file = watched(fd);
    return file && count > 0 && count <= IOV_MAX ? do_write(fd, file, parts, count, at)
                                                 : syscall(SYS_pwritev2, fd, parts, count, at, 0L, flags);
}
ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t at, int flags) {
    return pwritev2(fd, parts, count, at, flags);
}

/* Reads are not recorded; they can fail. */
static int spoil_read(int fd, int *error) {
    struct file *file = watched(fd);
    if (!file || !control->has_rules) return 0;
    int entered = enter();
    struct rule *rule = struck(READ, file->path, file->is_directory);
    if (rule) note_fault(rule, READ, file->path);
    leave(entered);
    if (!rule) return 0;
    if (rule->action >= PAUSE) suffer(rule);
    *error = rule->error;
    return rule->action == FAIL;
}
ssize_t read(int fd, void *to, size_t size) {
    int error;
    if (spoil_read(fd, &error)) return errno = error, -1;
    return syscall(SYS_read, fd, to, size);
}
ssize_t pread(int fd, void *to, size_t size, off_t at) {
    int error;
    if (spoil_read(fd, &error)) return errno = error, -1;
    return syscall(SYS_pread64, fd, to, size, at);
}
ssize_t pread64(int fd, void *to, size_t size, off64_t at) { return pread(fd, to, size, at); }

int ftruncate(int fd, off_t size) {
    struct file *file = watched(fd);
    long result;
    if (!file) return (int)syscall(SYS_ftruncate, fd, size);
    STEP(TRUNCATE, 0, file->path, 0, file->inode, 0, size, NULL, 0, 1, syscall(SYS_ftruncate, fd, size), (void)0);
    return (int)result;
}
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

int truncate(const char *path, off_t size) {
    char below[PATH_MAX];
    long result;
    if (!find(AT_FDCWD, path, below)) return (int)syscall(SYS_truncate, path, size);
    STEP(TRUNCATE, 0, below, 0, inode_at(AT_FDCWD, path, NULL), 0, size, NULL, 0, 1, syscall(SYS_truncate, path, size),
         (void)0);
    return (int)result;
}
int truncate64(const char *path, off64_t size) { return truncate(path, size); }

int fallocate(int fd, int how, off_t at, off_t size) {
    struct file *file = watched(fd);
    long result;
    if (!file) return (int)syscall(SYS_fallocate, fd, how, at, size);
    STEP(ALLOCATE, how, file->path, 0, file->inode, at, size, NULL, 0, 1, syscall(SYS_fallocate, fd, how, at, size),
         (void)0);
    return (int)result;
}
int fallocate64(int fd, int how, off64_t at, off64_t size) { return fallocate(fd, how, at, size); }
int posix_fallocate(int fd, off_t at, off_t size) {
    int kept = errno, failed = fallocate(fd, 0, at, size) ? errno : 0;
    errno = kept;
    return failed;
}
int posix_fallocate64(int fd, off64_t at, off64_t size) { return posix_fallocate(fd, at, size); }

/* What had been written before SYNC_BEGIN is on disk at SYNC; what was written in between may be, or not. */
static int do_sync(int fd, struct file *file, int flags, long number) {
    long result;
    int entered = enter();
    struct record *begun = note(SYNC_BEGIN, flags | (file->is_directory ? DIRECTORY : 0), file->path, file->inode, 0, 0,
                                NULL, 0);
    int64_t since = begun ? (int64_t)begun->sequence : -1;
    if (begun) begun->result = 0;
    leave(entered);
    STEP(SYNC, flags, file->path, file->is_directory, file->inode, since, 0, NULL, 0, 0, syscall(number, fd), (void)0);
    return (int)result;
}
int fsync(int fd) {
    struct file *file = watched(fd);
    return file ? do_sync(fd, file, 0, SYS_fsync) : (int)syscall(SYS_fsync, fd);
}
int fdatasync(int fd) {
    struct file *file = watched(fd);
    return file ? do_sync(fd, file, DATA_ONLY, SYS_fdatasync) : (int)syscall(SYS_fdatasync, fd);
}

/* ---- directories --------------------------------------------------------------------------------------------- */

int unlinkat(int at, const char *path, int how) {
    char below[PATH_MAX];
    long result;
    if (!find(at, path, below)) return (int)syscall(SYS_unlinkat, at, path, how);
    int operation = how & AT_REMOVEDIR ? RMDIR : UNLINK;
    STEP(operation, 0, below, operation == RMDIR, inode_at(at, path, NULL), 0, 0, NULL, 0, 1,
         syscall(SYS_unlinkat, at, path, how), (void)0);
    return (int)result;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) {
    int is_directory;
    inode_at(AT_FDCWD, path, &is_directory);
    return is_directory ? rmdir(path) : unlink(path);
}

int mkdirat(int at, const char *path, mode_t mode) {
    char below[PATH_MAX];
    long result;
    if (!find(at, path, below)) return (int)syscall(SYS_mkdirat, at, path, mode);
    STEP(MKDIR, 0, below, 1, 0, 0, mode, NULL, 0, 1, syscall(SYS_mkdirat, at, path, mode),
         if (made_) made_->inode = inode_at(at, path, NULL));
    return (int)result;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

/* The path is the old one, the data the new one; one that is not below the root is empty. */
static int do_rename(int operation, int at, const char *path, int to_at, const char *to, unsigned how) {
    char below[PATH_MAX] = "", to_below[PATH_MAX] = "";
    long result, number = operation == RENAME ? SYS_renameat2 : SYS_linkat;
    int is_here = find(at, path, below), is_there = find(to_at, to, to_below);
    if (!is_here && !is_there) return (int)syscall(number, at, path, to_at, to, how);
    if (!is_here) below[0] = 0;
    struct iovec other = {to_below, is_there ? strlen(to_below) : 0};
    int is_directory = 0;
    uint64_t inode = inode_at(at, path, &is_directory);
    STEP(operation, 0, below, is_directory, inode, 0, 0, &other, 1, 1, syscall(number, at, path, to_at, to, how),
         (void)0);
    return (int)result;
}
int renameat2(int at, const char *path, int to_at, const char *to, unsigned how) {
    return do_rename(RENAME, at, path, to_at, to, how);
}
int renameat(int at, const char *path, int to_at, const char *to) { return do_rename(RENAME, at, path, to_at, to, 0); }
int rename(const char *path, const char *to) { return do_rename(RENAME, AT_FDCWD, path, AT_FDCWD, to, 0); }
int linkat(int at, const char *path, int to_at, const char *to, int how) {
    return do_rename(LINK, at, path, to_at, to, (unsigned)how);
}
int link(const char *path, const char *to) { return do_rename(LINK, AT_FDCWD, path, AT_FDCWD, to, 0); }

int symlinkat(const char *target, int at, const char *path) {
    char below[PATH_MAX];
    long result;
    if (!find(at, path, below)) return (int)syscall(SYS_symlinkat, target, at, path);
    struct iovec other = {(void *)target, strlen(target)};
    STEP(SYMLINK, 0, below, 0, 0, 0, 0, &other, 1, 1, syscall(SYS_symlinkat, target, at, path), (void)0);
    return (int)result;
}
int symlink(const char *target, const char *path) { return symlinkat(target, AT_FDCWD, path); }

/* ---- mappings and locks -------------------------------------------------------------------------------------- */

void *mmap(void *at, size_t size, int protection, int how, int fd, off_t offset) {
    struct file *file = how & MAP_ANONYMOUS ? NULL : watched(fd);
    long result;
    if (!file) return (void *)syscall(SYS_mmap, at, size, protection, how, fd, offset);
    STEP(MAP, 0, file->path, 0, file->inode, offset, (int64_t)size, NULL, 0, 1,
         syscall(SYS_mmap, at, size, protection, how, fd, offset), (void)0);
    return (void *)result;
}
void *mmap64(void *at, size_t size, int protection, int how, int fd, off64_t offset) {
    return mmap(at, size, protection, how, fd, offset);
}

/* A lock's record has l_type as one byte of data, then one for what else the command was (1: waiting, 2: OFD). */
static int do_lock(int fd, struct file *file, int command, struct flock *lock) {
    long result;
    unsigned char kind[2] = {(unsigned char)lock->l_type, 0};
    int waits = command == F_SETLKW || command == F_OFD_SETLKW;
    kind[1] = (unsigned char)((waits ? 1 : 0) | (command == F_OFD_SETLK || command == F_OFD_SETLKW ? 2 : 0));
    struct iovec part = {kind, 2};
    STEP(LOCK, 0, file->path, 0, file->inode, lock->l_start, lock->l_len, &part, 1, !waits,
         syscall(SYS_fcntl, fd, command, lock), (void)0);
    return (int)result;
}

static int do_fcntl(int fd, int command, void *argument) {
    struct file *file = watched(fd);
    if (file && (command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK || command == F_OFD_SETLKW))
        return do_lock(fd, file, command, argument);
    long result = syscall(SYS_fcntl, fd, command, argument);
    if (result >= 0 && (command == F_DUPFD || command == F_DUPFD_CLOEXEC)) remember((int)result, file);
    return (int)result;
}
#define FCNTL(NAME)                                                                                                    \
    int NAME(int fd, int command, ...) {                                                                               \
        va_list rest;                                                                                                  \
        va_start(rest, command);                                                                                       \
        void *argument = va_arg(rest, void *);                                                                         \
        va_end(rest);                                                                                                  \
        return do_fcntl(fd, command, argument);                                                                        \
    }
FCNTL(fcntl)
FCNTL(fcntl64)

int flock(int fd, int how) {
    struct file *file = watched(fd);
    long result;
    if (!file) return (int)syscall(SYS_flock, fd, how);
    STEP(FLOCK, 0, file->path, 0, file->inode, how, 0, NULL, 0, how & (LOCK_NB | LOCK_UN), syscall(SYS_flock, fd, how),
         (void)0);
    return (int)result;
}

/* ---- marks --------------------------------------------------------------------------------------------------- */

/* Puts a text of the traced program into the same order; returns its number, -1 where nothing records. */
long taquba_mark(const char *text) {
    if (!control) return -1;
    struct iovec part = {(void *)text, strlen(text)};
    int kept = errno, entered = enter();
    struct record *made = note(MARK, PERFORMED, "", 0, 0, 0, &part, 1);
    long number = made ? (long)made->sequence : -1;
    if (made) made->result = 0;
    leave(entered);
    errno = kept;
    return number;
}
