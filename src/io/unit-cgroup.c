/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/unit-cgroup.h"

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

/* Whether "PID\n" is a line of the list at CGROUP_ROOT MOUNT PARENT /SLICE/UNIT. */
static bool list_has(const char *mount, const char *parent, const char *slice, const char *unit, pid_t pid) {
        _cleanup_(freep) char *path = NULL;
        if (asprintf(&path, CGROUP_ROOT "%s%s/%s/%s/cgroup.procs", mount, parent, slice, unit) < 0) {
                path = NULL;
                return false;
        }
        _cleanup_(text_done) Text list = {};
        if (file_read_all(path, PROCESSES_SIZE_MAX, &list) < 0)
                return false;
        char wanted[3 * sizeof(pid) + 2];
        size_t length = (size_t) snprintf(wanted, sizeof(wanted), "%d\n", (int) pid);
        for (const char *line = list.data; line && *line;) {
                if (strncmp(line, wanted, length) == 0)
                        return true;
                line = strchr(line, '\n');
                line += line != NULL;
        }
        return false;
}

/* The manager's own cgroup is one of those above this process: a user's manager is below the system's. */
static bool any_ancestor_has(const char *mount, char *path, const char *slice, const char *unit, pid_t pid) {
        for (;;) {
                if (list_has(mount, path, slice, unit, pid))
                        return true;
                char *last = strrchr(path, '/');
                if (!last)
                        return false;
                *last = '\0';
        }
}

bool unit_cgroup_has(const char *slice, const char *unit, pid_t pid) {
        _cleanup_(text_done) Text lines = {};
        if (file_read_all("/proc/self/cgroup", OWN_LINES_MAX, &lines) < 0)
                return false;
        bool is_unified = access(CGROUP_ROOT "/cgroup.controllers", F_OK) >= 0;
        char *saved = NULL;
        for (char *line = strtok_r(lines.data, "\n", &saved); line; line = strtok_r(NULL, "\n", &saved)) {
                char *path = strchr(line, '/');
                if (!path)
                        continue;
                if (strstr(line, ":name=systemd:/") && any_ancestor_has("/systemd", path, slice, unit, pid))
                        return true;
                if (strncmp(line, "0::/", 4) == 0 &&
                    any_ancestor_has(is_unified ? "" : "/unified", path, slice, unit, pid))
                        return true;
        }
        return false;
}
