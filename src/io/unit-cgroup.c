/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/unit-cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "io/file.h"

#define CGROUP_ROOT "/sys/fs/cgroup"

/* Of this process: a line for each hierarchy, 13 at most. */
#define OWN_LINES_MAX (64 * 1024)

/* A unit of ours that starts holds a process or two. */
#define PROCESSES_SIZE_MAX (64 * 1024)

/* Root's tasks, and users' with cgroup v2, can make cgroups of their own. */
#define DEPTH_MAX 32

/* Of the limits of some devices. */
#define VALUE_SIZE_MAX (64 * 1024)

/* "/" and a controller. */
#define MOUNT_SIZE 64

/* What is asked of the directory at PATH, a cgroup of the unit: 0 when this one is not it. */
typedef int (*DirectoryQuestion)(const char *path, const void *userdata);

/* Whether a process, a pid_t, is on the list of the directory. */
static int directory_has(const char *path, const void *userdata) {
        const pid_t *pid = userdata;
        _cleanup_(freep) char *file = NULL;
        if (text_format(&file, "%s/cgroup.procs", path) < 0)
                return -ENOMEM;
        _cleanup_(text_done) Text list = {};
        int r = file_read_all(file, PROCESSES_SIZE_MAX, &list);
        if (r < 0)
                return r;
        char wanted[3 * sizeof(*pid) + 2];
        size_t length = (size_t) snprintf(wanted, sizeof(wanted), "%d\n", (int) *pid);
        for (const char *line = list.data; line && *line;) {
                if (strncmp(line, wanted, length) == 0)
                        return true;
                line = strchr(line, '\n');
                line += line != NULL;
        }
        return false;
}

/* The first byte tells: an empty list has none. A threaded cgroup has no list, its processes are on that of
 * one above it. */
static int list_is_populated(int directory_fd) {
        _cleanup_(fd_close) int fd = openat(directory_fd, "cgroup.procs", O_RDONLY | O_CLOEXEC);
        char byte;
        ssize_t n = fd < 0 ? -1 : read(fd, &byte, 1);
        if (n < 0)
                return errno == ENOENT || errno == ENODEV || errno == EOPNOTSUPP ? 0 : -errno;
        return n > 0;
}

/* Of the directory and all below it; takes over FD. */
static int tree_is_populated(int fd, unsigned depth) {
        DIR *directory = depth > DEPTH_MAX ? NULL : fdopendir(fd);
        if (!directory) {
                int error = depth > DEPTH_MAX ? ELOOP : errno;
                close(fd);
                return -error;
        }
        int r = list_is_populated(fd);
        for (struct dirent *entry; r == 0 && (entry = readdir(directory));) {
                if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
                        continue;
                int below = openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                if (below >= 0)
                        r = tree_is_populated(below, depth + 1);
                else if (errno != ENOENT)
                        r = -errno;
        }
        closedir(directory);
        return r;
}

static int directory_is_populated(const char *path, const void *userdata) {
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT ? 0 : -errno;
        return tree_is_populated(fd, 0);
}

/* A unit, and what is asked of its cgroups. */
typedef struct Search {
        const char *slice, *unit;
        const char *controller; /* whose hierarchy of v1; NULL: the one that systemd keeps processes in */
        DirectoryQuestion question;
        const void *userdata;
} Search;

/* The manager's own cgroup is one of those above this process: a user's manager is below the system's. The
 * answer is the first that is not 0; errors count only where there is no other. */
static int search_upwards(const Search *search, const char *mount, char *path) {
        int answer = 0;
        for (;;) {
                _cleanup_(freep) char *directory = NULL;
                if (text_format(&directory,
                                CGROUP_ROOT "%s%s/%s/%s",
                                mount,
                                path,
                                search->slice,
                                search->unit) < 0)
                        return -ENOMEM;
                int r = search->question(directory, search->userdata);
                if (r > 0)
                        return r;
                answer = r < 0 ? r : answer;
                char *last = strrchr(path, '/');
                if (!last)
                        return answer;
                *last = '\0';
        }
}

/* Whether "4:cpu,cpuacct:/PATH", a line of /proc/self/cgroup, is about a hierarchy to look into, and where
 * that is mounted. Each controller of v1 has a mount point, or a link, of its own name. */
static bool search_mount(const Search *search, const char *line, char mount[static MOUNT_SIZE]) {
        const char *controllers = strchr(line, ':');
        if (!controllers)
                return false;
        controllers++;
        size_t size = strcspn(controllers, ":");
        *mount = '\0';
        if (size == 0) { /* v2 */
                if (unit_cgroup_is_unified())
                        return true;
                (void) snprintf(mount, MOUNT_SIZE, "/unified");
                return !search->controller;
        }
        if (!search->controller) {
                (void) snprintf(mount, MOUNT_SIZE, "/systemd");
                return strncmp(controllers, "name=systemd:", strlen("name=systemd:")) == 0;
        }
        (void) snprintf(mount, MOUNT_SIZE, "/%s", search->controller);
        for (size_t length = strlen(search->controller), n; size > 0; controllers += n, size -= n) {
                n = strcspn(controllers, ",:");
                if (n == length && memcmp(controllers, search->controller, n) == 0)
                        return true;
                n += controllers[n] == ',';
        }
        return false;
}

static int search_all(const Search *search) {
        _cleanup_(text_done) Text lines = {};
        int answer = file_read_all("/proc/self/cgroup", OWN_LINES_MAX, &lines);
        if (answer < 0)
                return answer;
        char *saved = NULL;
        for (char *line = strtok_r(lines.data, "\n", &saved); line; line = strtok_r(NULL, "\n", &saved)) {
                char *path = strchr(line, '/'), mount[MOUNT_SIZE];
                bool is_it = path && search_mount(search, line, mount);
                int r = is_it ? search_upwards(search, mount, path) : 0;
                if (r > 0)
                        return r;
                answer = r < 0 ? r : answer;
        }
        return answer;
}

bool unit_cgroup_has(const char *slice, const char *unit, pid_t pid) {
        return search_all(&(Search) { slice, unit, NULL, directory_has, &pid }) > 0;
}

int unit_cgroup_is_populated(const char *slice, const char *unit) {
        return search_all(&(Search) { slice, unit, NULL, directory_is_populated, NULL });
}

typedef struct Reading {
        const char *const *names;
        size_t n_names;
        Text *ret;
} Reading;

static int directory_read(const char *path, const void *userdata) {
        const Reading *reading = userdata;
        for (size_t i = 0; i < reading->n_names && reading->names[i]; i++) {
                _cleanup_(freep) char *file = NULL;
                if (text_format(&file, "%s/%s", path, reading->names[i]) < 0)
                        return -ENOMEM;
                int r = file_read_all(file, VALUE_SIZE_MAX, reading->ret);
                if (r != -ENOENT)
                        return r < 0 ? r : 1;
        }
        return 0;
}

int unit_cgroup_read(
                const char *slice,
                const char *unit,
                const char *controller,
                const char *const names[],
                size_t n_names,
                Text *ret) {
        Reading reading = { names, n_names, ret };
        return search_all(&(Search) { slice, unit, controller, directory_read, &reading });
}

bool unit_cgroup_is_unified(void) {
        return access(CGROUP_ROOT "/cgroup.controllers", F_OK) >= 0;
}

bool unit_cgroup_has_v2(void) {
        return unit_cgroup_is_unified() || access(CGROUP_ROOT "/unified/cgroup.procs", F_OK) >= 0;
}
