/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "leader/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>

#include "base/text.h"
#include "base/usec.h"

#define CGROUP_ROOT "/sys/fs/cgroup"

/* A file of a cgroup is a page at most, but for io.stat and the process lists of huge tasks. */
#define CGROUP_READ_MAX  (1024 * 1024)
#define CGROUP_DEPTH_MAX 32

/* Processes that are signalled together: a leader has few descriptors. */
#define SIGNAL_BATCH_MAX 64

/* On cgroup v1 every controller has a tree of its own; on v2 all of these are one directory. */
typedef enum Tree {
        TREE_PROCESSES,
        TREE_CPU,
        TREE_MEMORY,
        TREE_IO,
        TREE_PIDS,
        TREE_CPU_V2, /* hybrid: the v2 tree has no controllers, but its cpu.stat counts all the same */
        _TREE_MAX,
} Tree;

static const char *const tree_controllers[_TREE_MAX] = {
        [TREE_PROCESSES] = "name=systemd",
        [TREE_CPU] = "cpuacct",
        [TREE_MEMORY] = "memory",
        [TREE_IO] = "blkio",
        [TREE_PIDS] = "pids",
};

struct Cgroup {
        char *unit;
        bool unified;
        int trees[_TREE_MAX]; /* directory descriptors, -EBADF where the scope has none */
        int oom_fd;           /* memory.events or memory.oom_control */
};

Cgroup *cgroup_free(Cgroup *cgroup) {
        if (!cgroup)
                return NULL;
        for (Tree tree = 0; tree < _TREE_MAX; tree++)
                fd_close(&cgroup->trees[tree]);
        fd_close(&cgroup->oom_fd);
        free(cgroup->unit);
        free(cgroup);
        return NULL;
}

/* Reads all of a file; cgroup files have no size of their own. */
static int file_read(int directory_fd, const char *name, Text *ret) {
        _cleanup_(fd_close) int fd = openat(directory_fd, name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
                return -errno;

        char chunk[4096];
        while (ret->size < CGROUP_READ_MAX) {
                ssize_t n = read(fd, chunk, sizeof(chunk));
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                int r = text_append_bytes(ret, chunk, (size_t) n);
                if (r < 0)
                        return r;
        }
        return text_append(ret, ""); /* so that there is a NUL even after nothing */
}

static bool path_ends_with_unit(const char *path, const char *unit) {
        const char *last = strrchr(path, '/');
        return last && streq(last + 1, unit);
}

static bool list_has(const char *comma_list, const char *word) {
        size_t length = strlen(word);
        for (const char *p = comma_list; *p;) {
                size_t n = strcspn(p, ",");
                if (n == length && strncmp(p, word, n) == 0)
                        return true;
                p += n + (p[n] == ',');
        }
        return false;
}

static int open_directory(const char *mount, const char *path) {
        _cleanup_(freep) char *full = NULL;
        if (text_format(&full, CGROUP_ROOT "%s%s", mount, path) < 0)
                return -ENOMEM;
        int fd = open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

/* One line of /proc/self/cgroup: "4:memory:/daggyr.slice/x.scope", or "0::/…" for the v2 tree. The
 * v1 mount point has the name of the controllers, that of named hierarchies without "name=". */
static int cgroup_take_line(Cgroup *cgroup, char *line) {
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path)
                return -EBADMSG;
        *path++ = '\0';
        controllers++;
        if (!path_ends_with_unit(path, cgroup->unit))
                return 0;

        if (*controllers == '\0') {
                int fd = open_directory("", path);
                if (fd < 0) { /* hybrid: the v2 tree is mounted elsewhere */
                        cgroup->trees[TREE_CPU_V2] = open_directory("/unified", path);
                        return 0;
                }
                cgroup->unified = true;
                for (Tree tree = 0; tree < _TREE_MAX; tree++) {
                        cgroup->trees[tree] = tree == 0 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, 3);
                        if (cgroup->trees[tree] < 0)
                                return -errno;
                }
                return 0;
        }

        const char *plain = text_after(controllers, "name=");
        _cleanup_(freep) char *mount = NULL;
        if (text_format(&mount, "/%s", plain ?: controllers) < 0)
                return -ENOMEM;
        for (Tree tree = 0; tree < _TREE_MAX; tree++)
                if (cgroup->trees[tree] < 0 && tree_controllers[tree] &&
                    list_has(controllers, tree_controllers[tree]))
                        cgroup->trees[tree] = open_directory(mount, path);
        return 0;
}

int cgroup_open_own(const char *unit, Cgroup **ret) {
        _cleanup_(cgroup_freep) Cgroup *cgroup = calloc(1, sizeof(*cgroup));
        if (!cgroup)
                return -ENOMEM;
        cgroup->oom_fd = -EBADF;
        for (Tree tree = 0; tree < _TREE_MAX; tree++)
                cgroup->trees[tree] = -EBADF;
        cgroup->unit = strdup(unit);
        if (!cgroup->unit)
                return -ENOMEM;

        _cleanup_(text_done) Text lines = {};
        int r = file_read(AT_FDCWD, "/proc/self/cgroup", &lines);
        if (r < 0)
                return r;
        char *saved = NULL;
        for (char *line = strtok_r(lines.data, "\n", &saved); line; line = strtok_r(NULL, "\n", &saved)) {
                r = cgroup_take_line(cgroup, line);
                if (r < 0)
                        return r;
        }
        if (cgroup->trees[TREE_PROCESSES] < 0)
                return -EXDEV;

        if (cgroup->trees[TREE_MEMORY] >= 0)
                cgroup->oom_fd = openat(
                                cgroup->trees[TREE_MEMORY],
                                cgroup->unified ? "memory.events" : "memory.oom_control",
                                O_RDONLY | O_CLOEXEC);
        *ret = TAKE_PTR(cgroup);
        return 0;
}

typedef struct PidList {
        pid_t *pids;
        size_t n, n_allocated;
} PidList;

static void pid_list_done(PidList *list) {
        free(list->pids);
        *list = (PidList) {};
}

static int pid_list_add(PidList *list, pid_t pid) {
        if (list->n == list->n_allocated) {
                size_t n = list->n_allocated > 0 ? 2 * list->n_allocated : 16;
                pid_t *pids = reallocarray(list->pids, n, sizeof(*pids));
                if (!pids)
                        return -ENOMEM;
                list->pids = pids;
                list->n_allocated = n;
        }
        list->pids[list->n++] = pid;
        return 0;
}

static bool pid_list_has(const PidList *list, pid_t pid) {
        for (size_t i = 0; i < list->n; i++)
                if (list->pids[i] == pid)
                        return true;
        return false;
}

static int pid_list_parse(char *lines, PidList *ret) {
        char *saved = NULL;
        for (char *line = strtok_r(lines, "\n", &saved); line; line = strtok_r(NULL, "\n", &saved)) {
                uint64_t pid;
                if (text_parse_u64(line, 0, INT32_MAX, &pid) < 0)
                        return -EBADMSG;
                /* 0 stands for a process of another pid namespace: no way to reach it from here. */
                int r = pid == 0 || (pid_t) pid == getpid() ? 0 : pid_list_add(ret, (pid_t) pid);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* The processes but this one in the directory itself. Only the kernel's own list is asked: a /proc mounted
 * with hidepid= shows no process of another account. */
static int read_others(int directory_fd, PidList *ret) {
        _cleanup_(text_done) Text lines = {};
        int r = file_read(directory_fd, "cgroup.procs", &lines);
        if (r == -ENOENT || r == -ENODEV)
                return 0; /* a subgroup that has just been removed */
        return r < 0 ? r : pid_list_parse(lines.data, ret);
}

/* Called with the processes but this one of one directory. */
typedef int (*DirectoryVisitor)(int directory_fd, const PidList *others, void *userdata);

/* Calls VISITOR for the directory and all below it (root tasks can make cgroups of their own); stops at the
 * first result that is not 0 and returns it. */
static int visit_others(int directory_fd, unsigned depth, DirectoryVisitor visitor, void *userdata) {
        if (depth > CGROUP_DEPTH_MAX)
                return -ELOOP;

        _cleanup_(pid_list_done) PidList others = {};
        int r = read_others(directory_fd, &others);
        if (r >= 0)
                r = visitor(directory_fd, &others, userdata);
        if (r != 0)
                return r;

        int fd = openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        DIR *directory = fdopendir(fd);
        if (!directory) {
                r = -errno;
                close(fd);
                return r;
        }
        for (struct dirent *entry; r == 0 && (entry = readdir(directory));) {
                if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
                        continue;
                _cleanup_(fd_close) int below = openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                if (below >= 0)
                        r = visit_others(below, depth + 1, visitor, userdata);
        }
        closedir(directory);
        return r;
}

static int visitor_found(int directory_fd, const PidList *others, void *userdata) {
        return others->n > 0;
}

int cgroup_is_ours_alone(Cgroup *cgroup) {
        int r = visit_others(cgroup->trees[TREE_PROCESSES], 0, visitor_found, NULL);
        return r < 0 ? r : r == 0;
}

/* A pid may have been given to a stranger since it was listed. So each is held by a pidfd first, and then has
 * to be listed once more: whatever has it now either is of the cgroup, or is not the process that the pidfd
 * holds, which has ended then and hears nothing. */
static int signal_batch(int directory_fd, const pid_t *pids, size_t n, int signal) {
        int fds[SIGNAL_BATCH_MAX];
        for (size_t i = 0; i < n; i++)
                fds[i] = (int) syscall(SYS_pidfd_open, pids[i], 0);

        _cleanup_(pid_list_done) PidList still = {};
        int r = read_others(directory_fd, &still);
        for (size_t i = 0; i < n; i++) {
                if (r >= 0 && fds[i] >= 0 && pid_list_has(&still, pids[i]))
                        (void) syscall(SYS_pidfd_send_signal, fds[i], signal, NULL, 0);
                fd_close(&fds[i]);
        }
        return r;
}

static int visitor_signal(int directory_fd, const PidList *others, void *userdata) {
        const int *signal = userdata;
        for (size_t start = 0; start < others->n; start += SIGNAL_BATCH_MAX) {
                size_t n = others->n - start;
                int r = signal_batch(
                                directory_fd,
                                others->pids + start,
                                n < SIGNAL_BATCH_MAX ? n : SIGNAL_BATCH_MAX,
                                *signal);
                if (r < 0)
                        return r;
        }
        return 0;
}

int cgroup_signal_others(Cgroup *cgroup, int signal) {
        return visit_others(cgroup->trees[TREE_PROCESSES], 0, visitor_signal, &signal);
}

/* The number after KEY at the start of a line, as in "oom_kill 3"; 0 when there is none. */
static uint64_t keyed_value(const char *lines, const char *key) {
        size_t length = strlen(key);
        for (const char *line = lines; line; line = strchr(line, '\n')) {
                line += *line == '\n';
                if (strncmp(line, key, length) == 0 && line[length] == ' ')
                        return strtoull(line + length + 1, NULL, 10);
        }
        return 0;
}

uint64_t cgroup_oom_kills(Cgroup *cgroup) {
        char content[1024];
        if (cgroup->oom_fd < 0)
                return 0;
        ssize_t n = pread(cgroup->oom_fd, content, sizeof(content) - 1, 0);
        if (n < 0)
                return 0;
        content[n] = '\0';
        return keyed_value(content, "oom_kill");
}

int cgroup_oom_fd(Cgroup *cgroup) {
        return cgroup->unified && cgroup->oom_fd >= 0 ? cgroup->oom_fd : -EOPNOTSUPP;
}

static uint64_t read_number(int directory_fd, const char *name) {
        _cleanup_(text_done) Text content = {};
        if (directory_fd < 0 || file_read(directory_fd, name, &content) < 0)
                return 0;
        return strtoull(content.data ?: "", NULL, 10);
}

/* Sums the numbers that follow WORD on all lines: "8:0 rbytes=1 wbytes=2 …" with "rbytes=" on v2, "8:0 Read
 * 1" with " Read " on v1. */
static uint64_t sum_after(const char *content, const char *word) {
        uint64_t sum = 0;
        for (const char *p = strstr(content, word); p; p = strstr(p, word)) {
                p += strlen(word);
                sum += strtoull(p, NULL, 10);
        }
        return sum;
}

static void read_io(Cgroup *cgroup, LeaderUsage *ret) {
        _cleanup_(text_done) Text content = {};
        const char *file = cgroup->unified ? "io.stat" : "blkio.throttle.io_service_bytes";
        if (cgroup->trees[TREE_IO] < 0 || file_read(cgroup->trees[TREE_IO], file, &content) < 0)
                return;
        ret->io_read_bytes = sum_after(content.data ?: "", cgroup->unified ? "rbytes=" : " Read ");
        ret->io_write_bytes = sum_after(content.data ?: "", cgroup->unified ? "wbytes=" : " Write ");
}

static uint64_t read_cpu_usec(Cgroup *cgroup) {
        if (!cgroup->unified && cgroup->trees[TREE_CPU] >= 0)
                return read_number(cgroup->trees[TREE_CPU], "cpuacct.usage") / 1000;
        _cleanup_(text_done) Text cpu = {};
        int fd = cgroup->trees[cgroup->unified ? TREE_CPU : TREE_CPU_V2];
        return fd < 0 || file_read(fd, "cpu.stat", &cpu) < 0 ? 0 : keyed_value(cpu.data, "usage_usec");
}

void cgroup_usage(Cgroup *cgroup, LeaderUsage *ret) {
        *ret = (LeaderUsage) { .oom_kills = cgroup_oom_kills(cgroup), .cpu_usec = read_cpu_usec(cgroup) };
        ret->memory_peak_bytes = read_number(
                        cgroup->trees[TREE_MEMORY],
                        cgroup->unified ? "memory.peak" : "memory.max_usage_in_bytes");
        read_io(cgroup, ret);

        /* The leader itself is no process of the task. */
        uint64_t peak = read_number(cgroup->trees[TREE_PIDS], "pids.peak");
        ret->tasks_peak = peak > 1 ? peak - 1 : peak;
}
