/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* daggyr-broker: started by systemd with the connection of a daggyr as its stdin. It has root's number and
 * none of root's capabilities: systemd asks polkit only about those who are not uid 0. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <syslog.h>

#include "base/log.h"
#include "broker/broker.h"
#include "io/loop.h"

/* Takes the connection away from stdin, so that nothing writes to it by mistake. */
static int take_connection(void) {
        int type;
        socklen_t size = sizeof(type);
        if (getsockopt(STDIN_FILENO, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_SEQPACKET)
                return -ENOTSOCK;
        _cleanup_(fd_close) int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
        _cleanup_(fd_close) int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (fd < 0 || null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0)
                return -errno;
        return TAKE_FD(fd);
}

static int run(int fd) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(broker_freep) Broker *broker = NULL;
        int r = loop_new(&event);
        if (r < 0) {
                (void) close(fd);
                return r;
        }
        r = broker_new(event, fd, &broker);
        return r < 0 ? r : sd_event_loop(event);
}

int main(void) {
        int fd = take_connection();
        if (fd < 0) {
                (void) fprintf(stderr,
                               "daggyr-broker is started for daggyr by systemd; it is no command of its own.\n");
                return EXIT_FAILURE;
        }
        int r = run(fd);
        if (r < 0)
                (void) log_errno(LOG_ERR, r, "Cannot serve a daggyr");
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
