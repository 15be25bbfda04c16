/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "broker/leader-check.h"

#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "io/file.h"

#define SPAWNER_PREFIX "daggyr-spawner@"
#define SERVICE_SUFFIX ".service"

/* A file of /proc about one process; a process of very many v1 hierarchies has some KiB of cgroup lines. */
#define PROC_FILE_MAX ((size_t) 64 * 1024)

static int read_proc(pid_t pid, const char *name, Text *ret) {
        char path[64];
        (void) snprintf(path, sizeof(path), "/proc/%d/%s", (int) pid, name);
        return file_read_all(path, PROC_FILE_MAX, ret);
}

static const char *find_line(const char *text, const char *start) {
        for (const char *line = text; line && *line; line = strchr(line, '\n'), line += line != NULL)
                if (text_after(line, start))
                        return text_after(line, start);
        return NULL;
}

/* What follows NAME at the start of a line of a file such as status, as a number; 0 without such a line. */
static unsigned long long find_number(const char *text, const char *name) {
        const char *value = find_line(text, name);
        return value ? strtoull(value, NULL, 10) : 0;
}

/* systemd's own hierarchy: the one by that name with v1 and hybrid cgroups, the only one with v2. */
static const char *find_cgroup(const char *text) {
        for (const char *line = text; line && *line; line = strchr(line, '\n'), line += line != NULL) {
                const char *controllers = strchr(line, ':');
                if (controllers && text_after(controllers, ":name=systemd:"))
                        return text_after(controllers, ":name=systemd:");
        }
        return find_line(text, "0::");
}

static bool ends_with(const char *s, size_t size, const char *suffix) {
        size_t n = strlen(suffix);
        return size > n && memcmp(s + size - n, suffix, n) == 0;
}

/* The last component of the path that ends at the end of the line, if all others are slices; else NULL. */
static char *unit_of_cgroup(const char *path) {
        while (*path == '/') {
                const char *name = path + 1;
                size_t size = strcspn(name, "/\n");
                path = name + size;
                if (*path != '/')
                        return size > 0 && !ends_with(name, size, ".slice") ? strndup(name, size) : NULL;
                if (!ends_with(name, size, ".slice"))
                        return NULL;
        }
        return NULL;
}

int process_unit(pid_t pid, char **ret) {
        _cleanup_(text_done) Text text = {};
        int r = read_proc(pid, "cgroup", &text);
        if (r < 0)
                return r;
        const char *path = find_cgroup(text.data ?: "");
        char *unit = path ? unit_of_cgroup(path) : NULL;
        if (!unit)
                return -ENXIO;
        *ret = unit;
        return 0;
}

static bool is_spawner_unit(const char *unit) {
        return text_after(unit, SPAWNER_PREFIX) && ends_with(unit, strlen(unit), SERVICE_SUFFIX);
}

/* The process behind a pidfd; -ESRCH when it has ended and was reaped, -EPERM for another kind of descriptor.
 */
static int pid_of(int pid_fd, pid_t *ret) {
        char path[64];
        _cleanup_(text_done) Text text = {};
        (void) snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pid_fd);
        int r = file_read_all(path, PROC_FILE_MAX, &text);
        if (r < 0)
                return r;
        const char *value = find_line(text.data ?: "", "Pid:");
        if (!value)
                return -EPERM;
        long pid = strtol(value, NULL, 10);
        if (pid <= 0)
                return -ESRCH;
        *ret = (pid_t) pid;
        return 0;
}

/* Real, effective, saved and file system uid. */
static bool all_uids_are(const char *status, uid_t uid) {
        const char *value = find_line(status, "Uid:");
        for (size_t i = 0; value && i < 4; i++) {
                char *end;
                if (strtoul(value, &end, 10) != uid || end == value)
                        return false;
                value = end;
        }
        return value != NULL;
}

static int check_origin(pid_t pid, uid_t uid) {
        _cleanup_(text_done) Text status = {};
        _cleanup_(freep) char *unit = NULL, *parent_unit = NULL;
        int r = read_proc(pid, "status", &status);
        if (r < 0)
                return r;
        if (!all_uids_are(status.data ?: "", uid))
                return -EPERM;
        pid_t parent = (pid_t) find_number(status.data, "PPid:");
        r = process_unit(pid, &unit);
        if (r >= 0)
                r = process_unit(parent, &parent_unit);
        if (r < 0)
                return r;
        return is_spawner_unit(unit) && streq(unit, parent_unit) ? 0 : -EPERM;
}

int leader_check(int pid_fd, uid_t uid, pid_t *ret) {
        pid_t pid;
        int r = pid_of(pid_fd, &pid);
        if (r < 0)
                return r;
        r = check_origin(pid, uid);
        /* What was read was about this process only if it is still there. */
        struct pollfd alive = { .fd = pid_fd, .events = POLLIN };
        if (poll(&alive, 1, 0) != 0)
                return -ESRCH;
        if (r < 0)
                return r == -ENOMEM ? r : -EPERM;
        *ret = pid;
        return 0;
}
