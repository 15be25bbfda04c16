/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

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

static int write_all(int fd, const char *content, size_t size) {
        while (size > 0) {
                ssize_t n = write(fd, content, size);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                content += n;
                size -= (size_t) n;
        }
        return 0;
}

static int write_new(const char *path, mode_t mode, const char *content, size_t size) {
        _cleanup_(fd_close) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;
        int r = write_all(fd, content, size);
        if (r >= 0 && (fchmod(fd, mode) < 0 || fsync(fd) < 0))
                r = -errno;
        return r;
}

int file_sync_folder_of(const char *path) {
        _cleanup_(freep) char *folder = strdup(path);
        if (!folder)
                return -ENOMEM;
        char *slash = strrchr(folder, '/');
        if (slash)
                *slash = '\0';
        _cleanup_(fd_close) int fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

int file_replace(const char *path, mode_t mode, const char *content, size_t size) {
        _cleanup_(freep) char *unfinished = NULL;
        if (text_format(&unfinished, "%s.new", path) < 0)
                return -ENOMEM;
        (void) unlink(unfinished); /* of one that was interrupted */
        int r = write_new(unfinished, mode, content, size);
        if (r >= 0 && rename(unfinished, path) < 0)
                r = -errno;
        if (r < 0)
                (void) unlink(unfinished);
        return r < 0 ? r : file_sync_folder_of(path);
}
