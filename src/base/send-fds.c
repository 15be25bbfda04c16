/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "base/send-fds.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

int send_fds(int socket_fd, const void *block, size_t size, const int *fds, size_t n_fds, int flags) {
        union {
                char buffer[CMSG_SPACE(SEND_FDS_MAX * sizeof(int))];
                struct cmsghdr alignment;
        } control = {};
        struct iovec io = { .iov_base = (void *) block, .iov_len = size };
        struct msghdr message = { .msg_iov = &io, .msg_iovlen = 1 };
        assert(n_fds <= SEND_FDS_MAX);
        if (n_fds > 0) {
                message.msg_control = control.buffer;
                message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
                struct cmsghdr *head = CMSG_FIRSTHDR(&message);
                head->cmsg_level = SOL_SOCKET;
                head->cmsg_type = SCM_RIGHTS;
                head->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
                memcpy(CMSG_DATA(head), fds, n_fds * sizeof(int));
        }
        return sendmsg(socket_fd, &message, flags | MSG_NOSIGNAL) < 0 ? -errno : 0;
}
