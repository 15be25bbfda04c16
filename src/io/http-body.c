/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Where an answer is kept until the client has read it. Clients may be slow, and many, so the memory for all
 * answers together has a bound; what is beyond it waits in files without a name, and they have a bound, too.
 */

#include <fcntl.h>
#include <unistd.h>

#include "io/http-internal.h"

/* What counts little: these stay in memory, one for each connection at most. */
#define SMALL_BYTES (16 * 1024)

static int write_all(int fd, const char *bytes, size_t size) {
        while (size > 0) {
                ssize_t n = write(fd, bytes, size);
                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n > 0) {
                        bytes += n;
                        size -= (size_t) n;
                }
        }
        return 0;
}

static int body_in_file(
                HttpServer *server,
                const void *body,
                size_t size,
                HttpBody *ret,
                struct MHD_Response **ret_response) {
        const HttpServerOptions *options = &server->options;
        if (!options->answers_directory ||
            server->answers_file_bytes + size > options->answers_file_bytes_max)
                return -ENOSPC;
        _cleanup_(fd_close) int fd = open(options->answers_directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        int r = write_all(fd, body, size);
        if (r < 0)
                return r;
        *ret_response = MHD_create_response_from_fd64(size, fd);
        if (!*ret_response)
                return -ENOMEM;
        ret->fd = TAKE_FD(fd); /* the response closes it */
        ret->file_bytes = size;
        server->answers_file_bytes += size;
        return 0;
}

int http_body_new(
                HttpServer *server,
                char **body,
                size_t size,
                HttpBody *ret,
                struct MHD_Response **ret_response) {
        *ret = (HttpBody) { .fd = -EBADF };
        if (size > SMALL_BYTES && server->answers_bytes + size > server->options.answers_bytes_max)
                return body_in_file(server, *body, size, ret, ret_response);
        *ret_response = MHD_create_response_from_buffer(size, *body, MHD_RESPMEM_MUST_FREE);
        if (!*ret_response)
                return -ENOMEM;
        ret->text = TAKE_PTR(*body);
        ret->bytes = size;
        server->answers_bytes += size;
        return 0;
}

int http_body_respond_again(const HttpBody *body, struct MHD_Response **ret) {
        size_t size = body->bytes + body->file_bytes;
        int fd = body->text ? -EBADF : fcntl(body->fd, F_DUPFD_CLOEXEC, 3);
        if (!body->text && fd < 0)
                return -errno;
        *ret = body->text ?
                        MHD_create_response_from_buffer(size, (void *) body->text, MHD_RESPMEM_MUST_COPY) :
                        MHD_create_response_from_fd64(size, fd);
        if (*ret)
                return 0;
        fd_close(&fd);
        return -ENOMEM;
}

void http_body_done(HttpServer *server, HttpBody *body) {
        server->answers_bytes -= body->bytes;
        server->answers_file_bytes -= body->file_bytes;
        *body = (HttpBody) { .fd = -EBADF };
}
