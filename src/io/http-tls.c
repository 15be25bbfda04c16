/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What of TLS is not left to libmicrohttpd: to say what is wrong with certificates, to judge those of
 * clients, and to wait during a handshake. */

#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string.h>
#include <sys/epoll.h>

#include "io/http-internal.h"
#include "io/loop.h"

static gnutls_datum_t datum_of(const char *text) {
        return (gnutls_datum_t) { .data = (unsigned char *) text, .size = (unsigned) strlen(text) };
}

/* libmicrohttpd would only say that it cannot start. */
static int tls_check(
                const HttpTls *tls,
                gnutls_certificate_credentials_t credentials,
                Problem *reterr_problem) {
        gnutls_datum_t cert = datum_of(tls->cert), key = datum_of(tls->key);
        int r = gnutls_certificate_set_x509_key_mem2(credentials, &cert, &key, GNUTLS_X509_FMT_PEM, NULL, 0);
        if (r < 0) {
                (void) problem_set(
                                reterr_problem,
                                400,
                                "/tls",
                                "\"cert\" and \"key\" make no pair (%s)",
                                gnutls_strerror(r));
                return -EBADMSG;
        }
        if (!tls->client_ca)
                return 0;
        gnutls_datum_t client_ca = datum_of(tls->client_ca);
        r = gnutls_certificate_set_x509_trust_mem(credentials, &client_ca, GNUTLS_X509_FMT_PEM);
        if (r > 0)
                return 0;
        (void) problem_set(
                        reterr_problem,
                        400,
                        "/tls/client_ca",
                        "there is no certificate in it%s%s",
                        r < 0 ? ": " : "",
                        r < 0 ? gnutls_strerror(r) : "");
        return -EBADMSG;
}

int http_tls_check(const HttpTls *tls, Problem *reterr_problem) {
        if (MHD_is_feature_supported(MHD_FEATURE_TLS) != MHD_YES) {
                (void) problem_set(reterr_problem, 501, "/tls", "libmicrohttpd was built without TLS here");
                return -EOPNOTSUPP;
        }
        gnutls_certificate_credentials_t credentials;
        if (gnutls_certificate_allocate_credentials(&credentials) < 0)
                return problem_from_errno(reterr_problem, ENOMEM);
        int r = tls_check(tls, credentials, reterr_problem);
        gnutls_certificate_free_credentials(credentials);
        return r;
}

bool http_tls_accepts_client(struct MHD_Connection *mhd) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(
                        mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION);
        if (!info || !info->tls_session)
                return false;
        gnutls_typed_vdata_st purpose = {
                .type = GNUTLS_DT_KEY_PURPOSE_OID,
                .data = (unsigned char *) GNUTLS_KP_TLS_WWW_CLIENT,
        };
        unsigned status = UINT32_MAX;
        int r = gnutls_certificate_verify_peers(info->tls_session, &purpose, 1, &status);
        return r >= 0 && status == 0;
}

static gnutls_session_t session_of(const HttpConnection *connection) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(
                        connection->mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION);
        return info ? info->tls_session : NULL;
}

/* GnuTLS has no question for this; but only a session that is set up has a description. */
static bool handshake_is_over(gnutls_session_t session) {
        char *description = gnutls_session_get_desc(session);
        bool is_over = description != NULL;
        gnutls_free(description);
        return is_over;
}

static int on_handshake_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        HttpConnection *connection = userdata;
        http_tls_resume_handshake(connection);
        http_server_schedule_pump(connection->server);
        return 0;
}

static void handshake_park(HttpConnection *connection, gnutls_session_t session) {
        uint32_t events = gnutls_record_get_direction(session) == 0 ? EPOLLIN | EPOLLRDHUP : EPOLLOUT;
        int r = sd_event_add_io(
                        connection->server->event,
                        &connection->handshake_source,
                        connection->fd,
                        events,
                        on_handshake_io,
                        connection);
        if (r < 0) { /* then it costs time instead, for a while */
                http_tls_begin_handshake(connection);
                return;
        }
        (void) sd_event_source_set_description(connection->handshake_source, "http-handshake");
        MHD_suspend_connection(connection->mhd);
}

void http_tls_park_handshakes(Engine *engine) {
        HttpConnection *next, *connection = engine->handshaking;
        engine->handshaking = NULL;
        for (; connection; connection = next) {
                next = connection->next_handshaking;
                connection->next_handshaking = NULL;
                gnutls_session_t session = session_of(connection);
                connection->in_handshake = session && !connection->dropped && !handshake_is_over(session);
                if (connection->in_handshake)
                        handshake_park(connection, session);
        }
}

void http_tls_begin_handshake(HttpConnection *connection) {
        connection->in_handshake = true;
        connection->next_handshaking = connection->engine->handshaking;
        connection->engine->handshaking = connection;
}

void http_tls_resume_handshake(HttpConnection *connection) {
        if (!connection->handshake_source)
                return;
        event_source_dropp(&connection->handshake_source);
        MHD_resume_connection(connection->mhd);
        http_tls_begin_handshake(connection);
}

void http_tls_forget_handshake(HttpConnection *connection) {
        event_source_dropp(&connection->handshake_source);
        for (HttpConnection **at = &connection->engine->handshaking; *at; at = &(*at)->next_handshaking)
                if (*at == connection) {
                        *at = connection->next_handshaking;
                        return;
                }
}
