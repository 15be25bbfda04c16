/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "leader/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>

#include "base/text.h"
#include "base/usec.h"

#define CGROUP_ROOT "/sys/fs/cgroup"

/* A file of a cgroup is a page at most, but for io.stat and the process lists of huge tasks. */
#define CGROUP_READ_MAX  (1024 * 1024)
#define CGROUP_DEPTH_MAX 32

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
        if (asprintf(&full, CGROUP_ROOT "%s%s", mount, path) < 0)
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
        if (asprintf(&mount, "/%s", plain ?: controllers) < 0)
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

typedef int (*ProcessVisitor)(Cgroup *cgroup, pid_t pid, void *userdata);

static int visit_listed(Cgroup *cgroup, char *list, ProcessVisitor visitor, void *userdata) {
        char *saved = NULL;
        for (char *line = strtok_r(list, "\n", &saved); line; line = strtok_r(NULL, "\n", &saved)) {
                uint64_t pid;
                if (text_parse_u64(line, 0, INT32_MAX, &pid) < 0)
                        return -EBADMSG;
                /* 0 stands for a process of another pid namespace: no way to reach it from here. */
                if (pid == 0 || (pid_t) pid == getpid())
                        continue;
                int r = visitor(cgroup, (pid_t) pid, userdata);
                if (r != 0)
                        return r;
        }
        return 0;
}

/* Calls VISITOR for every process but this one, in the directory and all below it (root tasks can
 * make cgroups of their own); stops at the first result that is not 0 and returns it. */
static int visit_others(
                Cgroup *cgroup,
                int directory_fd,
                unsigned depth,
                ProcessVisitor visitor,
                void *userdata) {
        if (depth > CGROUP_DEPTH_MAX)
                return -ELOOP;

        _cleanup_(text_done) Text list = {};
        int r = file_read(directory_fd, "cgroup.procs", &list);
        if (r == -ENOENT || r == -ENODEV)
                return 0; /* a subgroup that has just been removed */
        if (r < 0)
                return r;
        r = visit_listed(cgroup, list.data, visitor, userdata);
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
                        r = visit_others(cgroup, below, depth + 1, visitor, userdata);
        }
        closedir(directory);
        return r;
}

static int visitor_found(Cgroup *cgroup, pid_t pid, void *userdata) {
        return 1;
}

int cgroup_is_ours_alone(Cgroup *cgroup) {
        int r = visit_others(cgroup, cgroup->trees[TREE_PROCESSES], 0, visitor_found, NULL);
        return r < 0 ? r : r == 0;
}

/* Whether PID is (still) a process of the scope: the list it came from may be older than the pid. */
static bool process_is_in_unit(const Cgroup *cgroup, pid_t pid) {
        char path[sizeof("/proc//cgroup") + 3 * sizeof(pid)];
        (void) snprintf(path, sizeof(path), "/proc/%d/cgroup", (int) pid);
        _cleanup_(text_done) Text lines = {};
        return file_read(AT_FDCWD, path, &lines) >= 0 && strstr(lines.data, cgroup->unit);
}

static int visitor_signal(Cgroup *cgroup, pid_t pid, void *userdata) {
        const int *signal = userdata;
        _cleanup_(fd_close) int fd = (int) syscall(SYS_pidfd_open, pid, 0);
        if (fd < 0)
                return 0;
        if (process_is_in_unit(cgroup, pid))
                (void) syscall(SYS_pidfd_send_signal, fd, *signal, NULL, 0);
        return 0;
}

int cgroup_signal_others(Cgroup *cgroup, int signal) {
        return visit_others(cgroup, cgroup->trees[TREE_PROCESSES], 0, visitor_signal, &signal);
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
        *ret = (LeaderUsage){ .oom_kills = cgroup_oom_kills(cgroup), .cpu_usec = read_cpu_usec(cgroup) };
        ret->memory_peak_bytes = read_number(
                        cgroup->trees[TREE_MEMORY],
                        cgroup->unified ? "memory.peak" : "memory.max_usage_in_bytes");
        read_io(cgroup, ret);

        /* The leader itself is no process of the task. */
        uint64_t peak = read_number(cgroup->trees[TREE_PIDS], "pids.peak");
        ret->tasks_peak = peak > 1 ? peak - 1 : peak;
}
