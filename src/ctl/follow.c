/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "ctl/follow.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/text.h"
#include "core/task/shell-status.h"
#include "ctl/attempt.h"
#include "ctl/path.h"
#include "ctl/say.h"
#include "io/loop.h"

#define STREAMS_MAX      2
#define IDLE_USEC        (60 * USEC_PER_SEC)
#define BUFFER_BYTES_MAX (256 * 1024)

typedef struct Follow Follow;

typedef struct Stream {
        Follow *follow;
        FollowedStream *told;
        HttpCall *call;
        sd_event_source *fd_source; /* NULL of a file, which is always ready */
        sd_event_source *retry_timer;
        Text buffer; /* from WRITTEN on not yet written */
        size_t written;
        bool paused;
        bool was_there; /* there was an answer once, so the task was known */
        unsigned n_failures;
        usec_t failing_since_usec; /* 0: it does not */
        bool ended;                /* nothing more comes */
} Stream;

struct Follow {
        Session *session;
        const char *task_id;
        bool follow;
        Stream streams[STREAMS_MAX];
        unsigned n;
        int status;
        bool done;
};

static void follow_check_done(Follow *follow) {
        bool all = true;
        for (unsigned i = 0; i < follow->n; i++)
                all &= follow->streams[i].ended && follow->streams[i].buffer.size == 0;
        follow->done = all || follow->status != 0;
}

static void fail(Follow *follow, int status) {
        if (follow->status == 0)
                follow->status = status;
        follow_check_done(follow);
}

static void buffer_clear(Stream *stream) {
        text_done(&stream->buffer);
        stream->buffer = (Text) {};
        stream->written = 0;
        if (stream->call && stream->paused)
                http_call_resume(stream->call);
        stream->paused = false;
        follow_check_done(stream->follow);
}

/* One piece of at most PIPE_BUF bytes: a pipe that is ready takes so much without blocking, and whether the
 * descriptor blocks is not ours to change, since others share it. */
static int write_piece(Stream *stream) {
        size_t left = stream->buffer.size - stream->written;
        size_t size = left < PIPE_BUF ? left : PIPE_BUF;
        ssize_t n = write(stream->told->fd, stream->buffer.data + stream->written, size);
        if (n < 0)
                return errno == EINTR || errno == EAGAIN ? 0 : -errno;
        stream->written += (size_t) n;
        if (stream->written == stream->buffer.size)
                buffer_clear(stream);
        return 0;
}

static void say_write_error(Stream *stream, int r) {
        if (r != -EPIPE)
                say("cannot write what comes from %s: %s", stream->told->name, strerror(-r));
        fail(stream->follow, r == -EPIPE ? SHELL_STATUS_SIGNAL + SIGPIPE : SHELL_STATUS_REFUSED);
}

static int on_writable(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        Stream *stream = userdata;
        int r = write_piece(stream);
        if (r < 0) {
                (void) sd_event_source_set_enabled(source, SD_EVENT_OFF);
                say_write_error(stream, r);
        } else if (stream->buffer.size == 0)
                (void) sd_event_source_set_enabled(source, SD_EVENT_OFF);
        return 0;
}

/* What is written is let go of, so that a buffer that never runs empty does not grow for ever. */
static void buffer_compact(Stream *stream) {
        if (stream->written < BUFFER_BYTES_MAX)
                return;
        stream->buffer.size -= stream->written;
        memmove(stream->buffer.data, stream->buffer.data + stream->written, stream->buffer.size + 1);
        stream->written = 0;
}

static int on_data(HttpCall *call, const void *bytes, size_t size, void *userdata) {
        Stream *stream = userdata;
        buffer_compact(stream);
        int r = text_append_bytes(&stream->buffer, bytes, size);
        if (r < 0)
                return r;
        stream->told->offset += size;
        stream->failing_since_usec = 0;
        stream->n_failures = 0;
        if (stream->fd_source) {
                if (stream->buffer.size - stream->written > BUFFER_BYTES_MAX) {
                        stream->paused = true;
                        http_call_pause(call);
                }
                return sd_event_source_set_enabled(stream->fd_source, SD_EVENT_ON);
        }
        while (stream->buffer.size > 0) {
                r = write_piece(stream);
                if (r < 0) {
                        say_write_error(stream, r);
                        return r;
                }
        }
        return 0;
}

static int stream_start(Stream *stream);

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        Stream *stream = userdata;
        if (stream_start(stream) < 0)
                fail(stream->follow, SHELL_STATUS_REFUSED);
        return 0;
}

/* It may be that the daemon is restarted, or the network away for a moment. */
static void stream_broke(Stream *stream, const HttpOutcome *outcome) {
        Follow *follow = stream->follow;
        usec_t now = usec_now(CLOCK_BOOTTIME);
        if (outcome->status == 200) {
                stream->was_there = true;
                stream->failing_since_usec = 0;
                stream->n_failures = 0;
        }
        if (stream->failing_since_usec == 0)
                stream->failing_since_usec = now;
        if (now - stream->failing_since_usec > PATIENCE_USEC || outcome->error == -ENOMEM ||
            (!follow->session->connected && outcome->not_sent)) {
                say("%s does not answer: %s",
                    follow->session->target.name,
                    *outcome->error_text ? outcome->error_text : strerror(-outcome->error));
                fail(follow, SHELL_STATUS_UNREACHABLE);
                return;
        }
        usec_t when = usec_add(now, session_retry_delay(stream->n_failures++));
        if (loop_set_timer(follow->session->event, &stream->retry_timer, when, on_retry, stream, "retry") < 0)
                fail(follow, SHELL_STATUS_REFUSED);
}

static void on_done(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        Stream *stream = userdata;
        Follow *follow = stream->follow;
        stream->call = NULL;
        stream->paused = false;
        http_call_free(call);
        if (follow->status != 0)
                return;
        if (!outcome->not_sent)
                follow->session->connected = true;
        if (outcome->error < 0)
                stream_broke(stream, outcome);
        else if (outcome->status == 200) {
                stream->ended = true;
                follow_check_done(follow);
        } else if (outcome->status == 404 && stream->was_there)
                fail(follow, attempt_say_gone(follow->task_id));
        else {
                session_say_problem(follow->session, outcome->status, outcome->body, outcome->body_size);
                fail(follow, SHELL_STATUS_REFUSED);
        }
}

static int stream_start(Stream *stream) {
        Follow *follow = stream->follow;
        _cleanup_(freep) char *path = NULL, *url = NULL;
        HttpCallOptions options;
        int r = path_format(
                        &path,
                        follow->task_id,
                        "/output?stream=%s&offset=%" PRIu64 "&follow=%s",
                        stream->told->name,
                        stream->told->offset,
                        follow->follow ? "true" : "false");
        if (r >= 0)
                r = session_prepare(follow->session, "GET", path, &options, &url);
        if (r < 0)
                return r;
        options.idle_usec = IDLE_USEC;
        options.on_done = on_done;
        options.on_data = on_data;
        options.userdata = stream;
        return http_call_new(follow->session->client, &options, &stream->call);
}

static int stream_open(Stream *stream) {
        sd_event *event = stream->follow->session->event;
        int r = sd_event_add_io(event, &stream->fd_source, stream->told->fd, EPOLLOUT, on_writable, stream);
        if (r >= 0)
                r = sd_event_source_set_enabled(stream->fd_source, SD_EVENT_OFF);
        else if (r == -EPERM) /* a regular file, or /dev/null */
                r = 0;
        return r < 0 ? r : stream_start(stream);
}

static void follow_done(Follow *follow) {
        for (unsigned i = 0; i < follow->n; i++) {
                Stream *stream = &follow->streams[i];
                http_call_free(stream->call);
                event_source_dropp(&stream->fd_source);
                event_source_dropp(&stream->retry_timer);
                text_done(&stream->buffer);
        }
}

int follow_streams(Session *session, const char *task_id, FollowedStream *streams, unsigned n, bool follow) {
        _cleanup_(follow_done) Follow state = {
                .session = session,
                .task_id = task_id,
                .follow = follow,
                .n = n,
        };
        assert(n <= STREAMS_MAX);
        int r = 0;
        for (unsigned i = 0; i < n; i++)
                state.streams[i] = (Stream) { .follow = &state, .told = &streams[i] };
        for (unsigned i = 0; r >= 0 && i < n; i++)
                r = stream_open(&state.streams[i]);
        if (r >= 0)
                r = session_run_until(session, &state.done);
        if (r == -EINTR)
                return SHELL_STATUS_SIGNAL + SIGINT;
        if (r < 0) {
                say("cannot follow %s: %s", task_id, strerror(-r));
                return SHELL_STATUS_REFUSED;
        }
        return state.status;
}
