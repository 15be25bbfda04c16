/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One daemon of libmicrohttpd in our loop, with TLS or without.
 *
 * What took others time to find out (0.9.75):
 * - MHD_get_timeout() must be obeyed: the epoll set inside is edge-triggered, and data that was read ahead
 *   raises no further event.
 * - MHD_suspend_connection() inside of a callback leaves the connection in the state to be read from.
 * - MHD_stop_daemon() aborts while a connection is suspended.
 * - The path is percent-decoded before the handler sees it, so that "%2F" would read as "/": the
 *   raw target is taken from the log callback instead. */

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "io/http-internal.h"
#include "io/loop.h"

#define REQUEST_HEADER_BYTES (32 * 1024)

/* TLS 1.2 and 1.3, forward secrecy, authenticated encryption; nothing that is only kept for the old. */
#define TLS_PRIORITIES                                                   \
        "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-KX-ALL"             \
        ":+ECDHE-ECDSA:+ECDHE-RSA:-CIPHER-ALL:+AES-256-GCM"              \
        ":+CHACHA20-POLY1305:+AES-128-GCM:-MAC-ALL:+AEAD:-SIGN-RSA-SHA1" \
        ":-SIGN-ECDSA-SHA1:-SIGN-DSA-SHA1:%SERVER_PRECEDENCE"

/* Every answer moves the time-out of its connection. The timer may fire for one that was moved since: cheaper
 * than to set it each time. */
void http_engine_pump(Engine *engine) {
        (void) MHD_run(engine->mhd);
        http_server_suspend_requests(engine->server);
        http_server_hear_last_words(engine->server);
        http_tls_park_handshakes(engine);

        MHD_UNSIGNED_LONG_LONG timeout_msec;
        if (MHD_get_timeout(engine->mhd, &timeout_msec) != MHD_YES) {
                engine->timer_usec = USEC_INFINITY;
                (void) sd_event_source_set_enabled(engine->timer_source, SD_EVENT_OFF);
                return;
        }
        usec_t when = usec_add(usec_now(CLOCK_MONOTONIC), (usec_t) timeout_msec * USEC_PER_MSEC);
        if (when >= engine->timer_usec)
                return;
        engine->timer_usec = when;
        (void) sd_event_source_set_time(engine->timer_source, when);
        (void) sd_event_source_set_enabled(engine->timer_source, SD_EVENT_ONESHOT);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        http_engine_pump(userdata);
        return 0;
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata) {
        Engine *engine = userdata;
        engine->timer_usec = USEC_INFINITY;
        http_engine_pump(engine);
        return 0;
}

static size_t on_unescape(void *userdata, struct MHD_Connection *connection, char *s) {
        return strlen(s);
}

static void on_message(void *userdata, const char *format, va_list arguments)
                __attribute__((format(printf, 2, 0)));

/* Complaints about clients, without a word on which; what matters of them is told by on_dropped(). */
static void on_message(void *userdata, const char *format, va_list arguments) {
}

/* From 1.0 on connections are by default added later and by way of a lock, for the sake of threads. */
static unsigned engine_flags(const Engine *engine) {
        unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET |
                        MHD_USE_ERROR_LOG;
#if MHD_VERSION >= 0x01000000
        flags |= MHD_USE_NO_THREAD_SAFETY;
#endif
        return engine->is_tls ? flags | MHD_USE_TLS : flags;
}

static int engine_start(Engine *engine) {
        HttpServer *server = engine->server;
        struct MHD_OptionItem tls[] = {
                { MHD_OPTION_HTTPS_MEM_CERT, 0, engine->cert },
                { MHD_OPTION_HTTPS_MEM_KEY, 0, engine->key },
                { MHD_OPTION_HTTPS_PRIORITIES, 0, (void *) TLS_PRIORITIES },
                { engine->client_ca ? MHD_OPTION_HTTPS_MEM_TRUST : MHD_OPTION_END, 0, engine->client_ca },
                { MHD_OPTION_END, 0, NULL },
        };
        if (!engine->is_tls)
                tls[0].option = MHD_OPTION_END;
        engine->mhd = MHD_start_daemon(
                        engine_flags(engine),
                        0,
                        NULL,
                        NULL,
                        http_on_access,
                        server,
                        MHD_OPTION_EXTERNAL_LOGGER, /* first: it hears of what is wrong with the others */
                        on_message,
                        NULL,
                        MHD_OPTION_URI_LOG_CALLBACK,
                        http_on_target,
                        server,
                        MHD_OPTION_UNESCAPE_CALLBACK,
                        on_unescape,
                        NULL,
                        MHD_OPTION_NOTIFY_COMPLETED,
                        http_on_completed,
                        server,
                        MHD_OPTION_NOTIFY_CONNECTION,
                        http_on_connection,
                        engine,
                        MHD_OPTION_CONNECTION_TIMEOUT,
                        server->options.idle_timeout_sec,
                        MHD_OPTION_CONNECTION_LIMIT,
                        server->options.connections_max + 1,
                        MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                        (size_t) REQUEST_HEADER_BYTES,
                        /* The lenient one has little to be strict with, and then answers twice or not at all:
                         * http-layout.c sees to that. */
                        MHD_OPTION_STRICT_FOR_CLIENT,
                        http_library_is_lenient() ? 0 : 1,
                        MHD_OPTION_ARRAY,
                        tls,
                        MHD_OPTION_END);
        return engine->mhd ? 0 : -ENOMEM;
}

static int engine_attach(Engine *engine) {
        sd_event *event = engine->server->event;
        const union MHD_DaemonInfo *info = MHD_get_daemon_info(engine->mhd, MHD_DAEMON_INFO_EPOLL_FD);
        if (!info)
                return -EOPNOTSUPP;
        int r = sd_event_add_io(event, &engine->io_source, info->epoll_fd, EPOLLIN, on_io, engine);
        if (r < 0)
                return r;
        r = sd_event_add_time(event, &engine->timer_source, CLOCK_MONOTONIC, UINT64_MAX, 1, on_time, engine);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(engine->io_source, "http");
        (void) sd_event_source_set_description(engine->timer_source, "http-timeout");
        return 0;
}

static int engine_take_tls(Engine *engine, const HttpTls *tls) {
        engine->is_tls = true;
        engine->asks_certificate = tls->client_ca != NULL;
        engine->cert = strdup(tls->cert);
        engine->key = strdup(tls->key);
        engine->client_ca = tls->client_ca ? strdup(tls->client_ca) : NULL;
        return engine->cert && engine->key && (engine->client_ca || !tls->client_ca) ? 0 : -ENOMEM;
}

int http_engine_new(HttpServer *server, const HttpTls *tls, Engine **ret) {
        _cleanup_(http_engine_freep) Engine *engine = calloc(1, sizeof(*engine));
        if (!engine)
                return -ENOMEM;
        engine->server = server;
        engine->timer_usec = USEC_INFINITY;
        int r = tls ? engine_take_tls(engine, tls) : 0;
        if (r < 0)
                return r;
        r = engine_start(engine);
        if (r < 0)
                return r;
        r = engine_attach(engine);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(engine);
        return 0;
}

Engine *http_engine_free(Engine *engine) {
        if (!engine)
                return NULL;
        if (engine->mhd)
                MHD_stop_daemon(engine->mhd);
        event_source_dropp(&engine->io_source);
        event_source_dropp(&engine->timer_source);
        free(engine->cert);
        if (engine->key)
                explicit_bzero(engine->key, strlen(engine->key));
        free(engine->key);
        free(engine->client_ca);
        free(engine);
        return NULL;
}
