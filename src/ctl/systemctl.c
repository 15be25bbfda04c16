/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "ctl/systemctl.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "io/file.h"

#define ARGUMENTS_MAX    14
#define OUTPUT_BYTES_MAX (1024 * 1024)

static int spawn(const char *const *arguments, int out_fd, pid_t *ret) {
        const char *argv[ARGUMENTS_MAX + 2] = { "systemctl" };
        posix_spawn_file_actions_t actions;
        for (size_t i = 0; i < ARGUMENTS_MAX && arguments[i]; i++)
                argv[i + 1] = arguments[i];
        int error = posix_spawn_file_actions_init(&actions);
        if (error != 0)
                return -error;
        if (out_fd >= 0) {
                (void) posix_spawn_file_actions_adddup2(&actions, out_fd, STDOUT_FILENO);
                (void) posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
        }
        error = posix_spawnp(ret, argv[0], &actions, NULL, (char *const *) argv, environ);
        (void) posix_spawn_file_actions_destroy(&actions);
        return -error;
}

static int await(pid_t pid) {
        int status;
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

int systemctl_run(const char *const *arguments) {
        pid_t pid = -1;
        int r = spawn(arguments, -1, &pid);
        return r < 0 ? r : await(pid);
}

int systemctl_read(const char *const *arguments, Text *ret) {
        int fds[2];
        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        pid_t pid = -1;
        _cleanup_(fd_close) int out_fd = fds[0];
        int r = spawn(arguments, fds[1], &pid);
        (void) close(fds[1]);
        if (r < 0)
                return r;
        r = file_read_rest(out_fd, OUTPUT_BYTES_MAX, ret);
        int ended = await(pid);
        return r < 0 ? r : ended;
}

bool systemctl_is_active(const char *unit) {
        _cleanup_(text_done) Text ignored = {};
        return systemctl_read((const char *const[]) { "is-active", "--quiet", unit, NULL }, &ignored) >= 0;
}
