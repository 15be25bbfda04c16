/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/file.h"

#include <fcntl.h>

#include "base/cleanup.h"

int file_read_all(const char *path, size_t size_max_bytes, Text *ret) {
        _cleanup_(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        return fd < 0 ? -errno : file_read_rest(fd, size_max_bytes, ret);
}

int file_read_rest(int fd, size_t size_max_bytes, Text *ret) {
        char piece[4096];
        while (ret->size <= size_max_bytes) {
                ssize_t n = read(fd, piece, sizeof(piece));
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return text_append(ret, ""); /* so that there is a NUL even after nothing */
                int r = text_append_bytes(ret, piece, (size_t) n);
                if (r < 0)
                        return r;
        }
        return -EFBIG;
}
