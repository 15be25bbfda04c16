/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/capture.h"

#include <fcntl.h>
#include <sys/epoll.h>

#include "io/loop.h"

/* A quarter of a pipe: with many chatty tasks the loop comes round to everything else within a millisecond.
 */
#define PIECE_BYTES (16 * 1024)

/* Enough turns to empty the largest pipe that an unprivileged task can make of ours (F_SETPIPE_SZ, 1 MiB). */
#define FINISH_PIECES_MAX 256

struct Capture {
        sd_event *event;
        int fd;
        sd_event_source *source;
        OutputStore store;
        CaptureHandler handler;
        void *userdata;
};

static void capture_end(Capture *capture) {
        event_source_dropp(&capture->source);
        fd_close(&capture->fd);
        capture->handler(capture, NULL, 0, capture->userdata);
}

/* 1 after a piece, 0 when there is nothing to read now, -EPIPE at the end. */
static int capture_read(Capture *capture) {
        static char piece[PIECE_BYTES];
        ssize_t n = read(capture->fd, piece, sizeof(piece));
        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -EPIPE;
        if (n == 0)
                return -EPIPE;
        output_store_append(&capture->store, piece, (size_t) n);
        capture->handler(capture, piece, (size_t) n, capture->userdata);
        return 1;
}

static int on_pipe_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Capture *capture = userdata;
        if (capture_read(capture) < 0)
                capture_end(capture);
        return 0;
}

int capture_new(sd_event *event,
                const char *directory,
                uint64_t bytes_max,
                CaptureHandler handler,
                void *userdata,
                Capture **ret,
                int *ret_write_fd) {
        _cleanup_(capture_freep) Capture *capture = calloc(1, sizeof(*capture));
        if (!capture)
                return -ENOMEM;
        capture->event = sd_event_ref(event);
        capture->fd = -EBADF;
        capture->handler = handler;
        capture->userdata = userdata;
        output_store_init(&capture->store, directory, bytes_max);

        int fds[2];
        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        capture->fd = fds[0];
        _cleanup_(fd_close) int write_fd = fds[1];
        if (fcntl(capture->fd, F_SETFL, O_NONBLOCK) <
            0) /* ours only: the task's end blocks, as programs expect */
                return -errno;
        *ret = TAKE_PTR(capture);
        *ret_write_fd = TAKE_FD(write_fd);
        return 0;
}

int capture_start(Capture *capture) {
        int r = sd_event_add_io(capture->event, &capture->source, capture->fd, EPOLLIN, on_pipe_io, capture);
        return r < 0 ? r : sd_event_source_set_description(capture->source, "task-output");
}

Capture *capture_free(Capture *capture) {
        if (!capture)
                return NULL;
        event_source_dropp(&capture->source);
        fd_close(&capture->fd);
        output_store_done(&capture->store);
        sd_event_unref(capture->event);
        free(capture);
        return NULL;
}

void capture_finish(Capture *capture) {
        if (capture->fd < 0)
                return;
        int r = 1;
        for (unsigned i = 0; r > 0 && i < FINISH_PIECES_MAX; i++)
                r = capture_read(capture);
        capture_end(capture);
}

const OutputStore *capture_store(const Capture *capture) {
        return &capture->store;
}

SavedCapture capture_save(const Capture *capture) {
        const OutputStore *store = &capture->store;
        return (SavedCapture) {
                .pipe_fd = capture->fd,
                .file_fd = store->file_fd,
                .reading = capture->source != NULL,
                .bytes_max = store->bytes_max,
                .bytes_kept = store->bytes_kept,
                .bytes_total = store->bytes_total,
                .memory = { store->memory.data, store->memory.size },
                .error = store->error,
        };
}

int capture_restore(
                sd_event *event,
                const char *directory,
                const SavedCapture *saved,
                CaptureHandler handler,
                void *userdata,
                Capture **ret) {
        Capture *capture = calloc(1, sizeof(*capture));
        if (!capture)
                return -ENOMEM;
        *capture = (Capture) {
                .event = sd_event_ref(event),
                .fd = (int) saved->pipe_fd,
                .handler = handler,
                .userdata = userdata,
        };
        output_store_init(&capture->store, directory, saved->bytes_max);
        capture->store.bytes_kept = saved->bytes_kept;
        capture->store.bytes_total = saved->bytes_total;
        capture->store.file_fd = (int) saved->file_fd;
        capture->store.error = (int) saved->error;
        int r = record_bytes_append(&saved->memory, &capture->store.memory);
        if (r >= 0 && saved->reading)
                r = capture_start(capture);
        if (r < 0) { /* the descriptors stay the caller's */
                capture->fd = capture->store.file_fd = -EBADF;
                capture_free(capture);
                return r;
        }
        *ret = capture;
        return 0;
}
