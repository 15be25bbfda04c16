/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A message with descriptors over a Unix socket. */
#pragma once

#include <stddef.h>

#define SEND_FDS_MAX 8

/* Sends the SIZE bytes at BLOCK over SOCKET_FD, and copies of the N FDS (0…SEND_FDS_MAX) with them. FLAGS are
 * those of sendmsg(); a reader that is gone raises no signal in any case. Negative errno. */
int send_fds(int socket_fd, const void *block, size_t size, const int *fds, size_t n_fds, int flags);
