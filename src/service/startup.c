/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "service/startup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <syslog.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

/* EX_DATAERR; in RestartPreventExitStatus= of units. */
#define EXIT_DAMAGED 65

/* The process that was started waits until its child is ready or has failed. */
static int wait_for_child(int ready_fd) {
        char byte;
        ssize_t n;
        do
                n = read(ready_fd, &byte, 1);
        while (n < 0 && errno == EINTR);
        return n == 1 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Returns only in the process that is to be the daemon, with the descriptor to report to the one that was
 * started and waits; that one fails when the descriptor is closed without a report. */
static int daemonize(void) {
        int fds[2];
        if (pipe2(fds, O_CLOEXEC) < 0)
                return log_errno(LOG_ERR, errno, "Cannot daemonize");
        pid_t pid = fork();
        if (pid < 0)
                return log_errno(LOG_ERR, errno, "Cannot daemonize");
        if (pid > 0) {
                (void) close(fds[1]);
                _exit(wait_for_child(fds[0]));
        }
        (void) close(fds[0]);
        if (setsid() < 0)
                return log_errno(LOG_ERR, errno, "Cannot daemonize");
        return fds[1];
}

static void detach(int *ready_fd) {
        int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        for (int fd = STDIN_FILENO; null_fd >= 0 && fd <= STDERR_FILENO; fd++)
                (void) dup2(null_fd, fd);
        fd_close(&null_fd);
        (void) !chdir("/"); /* only now: the configuration may have been named relative to where we were */
        (void) !write(*ready_fd, "", 1);
        fd_close(ready_fd);
}

void startup_report_ready(int *ready_fd) {
        (void) sd_notify(false, "READY=1");
        if (*ready_fd >= 0)
                detach(ready_fd);
}

int startup_main(const Program *program, StartupRun run, int argc, char *argv[]) {
        CommandLine command_line;
        int r = command_line_parse(program, argc, argv, &command_line);
        if (r <= 0)
                return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
        int ready_fd = -EBADF;
        if (command_line.daemonize) {
                ready_fd = daemonize();
                if (ready_fd < 0)
                        return EXIT_FAILURE;
        }
        r = run(&command_line, ready_fd);
        if (r == -EUCLEAN) /* starting anew at once would bury what was kept: somebody is to look first */
                return EXIT_DAMAGED;
        return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
