/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Whom the client trusts, and how it shows who it is. The certificates are made here: two authorities, each
 * with a server of 127.0.0.1 and one of another name, and a client. */

#include <fcntl.h>
#include <microhttpd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../unit/test.h"
#include "identity.h"
#include "io/http-client.h"
#include "io/loop.h"

#define AWAIT_USEC (20 * USEC_PER_SEC)

typedef struct Fixture {
        char directory[64];
        Identity authority, stranger; /* authorities */
        Identity server, misnamed, client, foreign_client;
        sd_event *event;
        HttpClient *http;
} Fixture;

static int setup(void **state) {
        Fixture *fixture = calloc(1, sizeof(*fixture));
        assert_non_null(fixture);
        (void) snprintf(fixture->directory, sizeof(fixture->directory), "/tmp/test-tls-XXXXXX");
        assert_non_null(mkdtemp(fixture->directory));
        identity_new(fixture->directory, &fixture->authority, "authority", NULL, NULL);
        identity_new(fixture->directory, &fixture->stranger, "stranger", NULL, NULL);
        identity_new(fixture->directory, &fixture->server, "server", &fixture->authority, "127.0.0.1");
        identity_new(fixture->directory, &fixture->misnamed, "misnamed", &fixture->authority, "127.0.0.9");
        identity_new(fixture->directory, &fixture->client, "client", &fixture->authority, NULL);
        identity_new(fixture->directory,
                     &fixture->foreign_client,
                     "foreign-client",
                     &fixture->stranger,
                     NULL);
        assert_int_equal(loop_new(&fixture->event), 0);
        static const HttpClientOptions options = {
                .connections_max = 4,
                .connections_per_host_max = 4,
                .calls_max = 10,
        };
        assert_int_equal(http_client_new(fixture->event, &options, &fixture->http), 0);
        *state = fixture;
        return 0;
}

static int teardown(void **state) {
        Fixture *fixture = *state;
        Identity *all[] = { &fixture->authority, &fixture->stranger, &fixture->server,
                            &fixture->misnamed,  &fixture->client,   &fixture->foreign_client };
        http_client_free(fixture->http);
        sd_event_unref(fixture->event);
        for (size_t i = 0; i < N_ELEMENTS(all); i++)
                identity_done(all[i]);
        assert_int_equal(rmdir(fixture->directory), 0);
        free(fixture);
        return 0;
}

static enum MHD_Result on_access(
                void *userdata,
                struct MHD_Connection *connection,
                const char *url,
                const char *method,
                const char *version,
                const char *data,
                size_t *size,
                void **context) {
        static char hello[] = "hello";
        struct MHD_Response *response = MHD_create_response_from_buffer(
                        strlen(hello), hello, MHD_RESPMEM_PERSISTENT);
        enum MHD_Result r = MHD_queue_response(connection, 200, response);
        MHD_destroy_response(response);
        return r;
}

static char *read_file(const char *path) {
        static char content[2][4096];
        static unsigned which;
        char *s = content[which++ % 2];
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = read(fd, s, sizeof(content[0]) - 1);
        assert_true(n > 0);
        s[n] = '\0';
        close(fd);
        return s;
}

static struct MHD_Daemon *server_new(const Identity *identity, const Identity *client_authority) {
        struct MHD_OptionItem options[] = {
                { MHD_OPTION_HTTPS_MEM_KEY, 0, read_file(identity->key_path) },
                { MHD_OPTION_HTTPS_MEM_CERT, 0, read_file(identity->certificate_path) },
                { MHD_OPTION_END, 0, NULL },
                { MHD_OPTION_END, 0, NULL },
        };
        static char trust[4096];
        if (client_authority) {
                (void) snprintf(trust, sizeof(trust), "%s", read_file(client_authority->certificate_path));
                options[2] = (struct MHD_OptionItem) { MHD_OPTION_HTTPS_MEM_TRUST, 0, trust };
                /* the buffers of read_file() were used up by now */
                options[0].ptr_value = read_file(identity->key_path);
                options[1].ptr_value = read_file(identity->certificate_path);
        }
        struct MHD_Daemon *daemon = MHD_start_daemon(
                        MHD_USE_TLS | MHD_USE_INTERNAL_POLLING_THREAD,
                        0,
                        NULL,
                        NULL,
                        on_access,
                        NULL,
                        MHD_OPTION_ARRAY,
                        options,
                        MHD_OPTION_END);
        assert_non_null(daemon);
        return daemon;
}

typedef struct Seen {
        unsigned n_done;
        int error, status;
        bool not_sent;
} Seen;

static void on_done(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        *(Seen *) userdata = (Seen) {
                .n_done = 1,
                .error = outcome->error,
                .status = outcome->status,
                .not_sent = outcome->not_sent,
        };
}

static Seen call(Fixture *fixture, struct MHD_Daemon *daemon, const HttpClientTls *tls) {
        char url[64];
        Seen seen = {};
        (void) snprintf(url,
                        sizeof(url),
                        "https://127.0.0.1:%u/",
                        MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
        const HttpCallOptions options = {
                .method = "GET",
                .url = url,
                .tls = tls,
                .total_usec = AWAIT_USEC,
                .answer_bytes_max = 100,
                .on_done = on_done,
                .userdata = &seen,
        };
        assert_int_equal(http_call_new(fixture->http, &options, NULL), 0);
        for (usec_t end = usec_now(CLOCK_BOOTTIME) + 2 * AWAIT_USEC; !seen.n_done;) {
                assert_true(usec_now(CLOCK_BOOTTIME) < end);
                assert_true(sd_event_run(fixture->event, 100 * USEC_PER_MSEC) >= 0);
        }
        return seen;
}

static void a_server_is_who_our_authority_says_it_is(void **state) {
        Fixture *fixture = *state;
        const HttpClientTls ours = { .ca_file = fixture->authority.certificate_path };
        const HttpClientTls others = { .ca_file = fixture->stranger.certificate_path };
        const HttpClientTls nobody = { .ca_file = "/nonexistent/ca.pem" };
        struct MHD_Daemon *daemon = server_new(&fixture->server, NULL);
        const struct {
                const char *label;
                const HttpClientTls *tls;
                int error;
        } rows[] = {
                { "ours", &ours, 0 },
                /* and no connection that somebody else trusted is used */
                { "another authority", &others, -EKEYREJECTED },
                { "the system's", NULL, -EKEYREJECTED },
                { "no such file", &nobody, -ENOKEY },
                { "ours again", &ours, 0 },
        };
        for (FOREACH_ROW(row, rows)) {
                Seen seen = call(fixture, daemon, row->tls);
                check_int(row->label, seen.error, row->error);
                check_int(row->label, seen.status, row->error ? 0 : 200);
                check_int(row->label, seen.not_sent, row->error != 0);
        }
        MHD_stop_daemon(daemon);

        daemon = server_new(&fixture->misnamed, NULL);
        Seen seen = call(fixture, daemon, &ours);
        assert_int_equal(seen.error, -EKEYREJECTED);
        assert_true(seen.not_sent);
        MHD_stop_daemon(daemon);
}

/* What a server makes of our certificate may, by TLS 1.3, come to light only after the request was sent. */
static void we_show_our_certificate_to_who_asks(void **state) {
        Fixture *fixture = *state;
        const char *ca = fixture->authority.certificate_path;
        const HttpClientTls ours = { ca, fixture->client.certificate_path, fixture->client.key_path };
        const HttpClientTls wrong_key = { ca, fixture->client.certificate_path, fixture->server.key_path };
        const HttpClientTls no_file = { ca, "/nonexistent/client.pem", NULL };
        struct MHD_Daemon *daemon = server_new(&fixture->server, &fixture->authority);
        assert_int_equal(call(fixture, daemon, &ours).status, 200);
        assert_true(call(fixture, daemon, &wrong_key).error < 0);
        assert_int_equal(call(fixture, daemon, &no_file).error, -ENOKEY);
        MHD_stop_daemon(daemon);
}

static void plain_http_is_not_tls(void **state) {
        Fixture *fixture = *state;
        struct MHD_Daemon *daemon = MHD_start_daemon(
                        MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, on_access, NULL, MHD_OPTION_END);
        assert_non_null(daemon);
        Seen seen = call(fixture, daemon, NULL);
        assert_true(seen.error == -EPROTO || seen.error == -ECONNRESET);
        assert_true(seen.not_sent);
        MHD_stop_daemon(daemon);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_server_is_who_our_authority_says_it_is),
                cmocka_unit_test(we_show_our_certificate_to_who_asks),
                cmocka_unit_test(plain_http_is_not_tls),
        };
        (void) signal(SIGPIPE, SIG_IGN);
        return cmocka_run_group_tests_name("http-client-tls", tests, setup, teardown);
}
