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

/* What is asked of the directory at PATH, a cgroup of the unit: 0 when this one is not it. */
typedef int (*DirectoryQuestion)(const char *path, const void *userdata);

/* Whether a process, a pid_t, is on the list of the directory. */
static int directory_has(const char *path, const void *userdata) {
        const pid_t *pid = userdata;
        _cleanup_(freep) char *file = NULL;
        if (asprintf(&file, "%s/cgroup.procs", path) < 0) {
                file = NULL;
                return -ENOMEM;
        }
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
        DirectoryQuestion question;
        const void *userdata;
} Search;

/* The manager's own cgroup is one of those above this process: a user's manager is below the system's. The
 * answer is the first that is not 0; errors count only where there is no other. */
static int search_upwards(const Search *search, const char *mount, char *path) {
        int answer = 0;
        for (;;) {
                _cleanup_(freep) char *directory = NULL;
                if (asprintf(&directory, CGROUP_ROOT "%s%s/%s/%s", mount, path, search->slice, search->unit) <
                    0) {
                        directory = NULL;
                        return -ENOMEM;
                }
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

static int search_all(const Search *search) {
        _cleanup_(text_done) Text lines = {};
        int answer = file_read_all("/proc/self/cgroup", OWN_LINES_MAX, &lines);
        if (answer < 0)
                return answer;
        bool is_unified = access(CGROUP_ROOT "/cgroup.controllers", F_OK) >= 0;
        char *saved = NULL;
        for (char *line = strtok_r(lines.data, "\n", &saved); line; line = strtok_r(NULL, "\n", &saved)) {
                char *path = strchr(line, '/');
                const char *mount = NULL;
                if (strstr(line, ":name=systemd:/"))
                        mount = "/systemd";
                else if (strncmp(line, "0::/", 4) == 0)
                        mount = is_unified ? "" : "/unified";
                int r = path && mount ? search_upwards(search, mount, path) : 0;
                if (r > 0)
                        return r;
                answer = r < 0 ? r : answer;
        }
        return answer;
}

bool unit_cgroup_has(const char *slice, const char *unit, pid_t pid) {
        return search_all(&(Search){ slice, unit, directory_has, &pid }) > 0;
}

int unit_cgroup_is_populated(const char *slice, const char *unit) {
        return search_all(&(Search){ slice, unit, directory_is_populated, NULL });
}
