/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What an answer over HTTP costs with libmicrohttpd alone: every GET is answered with the same bytes.
 *
 *   http-bare PORT SIZE      answers on 127.0.0.1:PORT with SIZE bytes until it is killed */

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static enum MHD_Result on_request(
                void *userdata,
                struct MHD_Connection *connection,
                const char *url,
                const char *method,
                const char *version,
                const char *upload,
                size_t *upload_size,
                void **state) {
        static int seen;
        if (!*state) { /* the head alone; libmicrohttpd calls again for the answer */
                *state = &seen;
                return MHD_YES;
        }
        return MHD_queue_response(connection, MHD_HTTP_OK, userdata);
}

int main(int argc, char **argv) {
        if (argc != 3) {
                (void) fprintf(stderr, "Usage: http-bare PORT SIZE\n");
                return EXIT_FAILURE;
        }
        size_t size = strtoul(argv[2], NULL, 10);
        char *body = malloc(size + 1);
        if (!body)
                return EXIT_FAILURE;
        memset(body, 'x', size);
        struct MHD_Response *response = MHD_create_response_from_buffer(size, body, MHD_RESPMEM_MUST_FREE);
        if (!response)
                return EXIT_FAILURE;
        (void) MHD_add_response_header(response, "Content-Type", "application/json");
        (void) MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
        (void) MHD_add_response_header(response, "Cache-Control", "no-store");

        const struct sockaddr_in address = {
                .sin_family = AF_INET,
                .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                .sin_port = htons((uint16_t) strtoul(argv[1], NULL, 10)),
        };
        struct MHD_Daemon *daemon = MHD_start_daemon(
                        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ERROR_LOG,
                        0,
                        NULL,
                        NULL,
                        on_request,
                        response,
                        MHD_OPTION_SOCK_ADDR,
                        &address,
                        MHD_OPTION_END);
        if (!daemon)
                return EXIT_FAILURE;
        (void) pause(); /* until a signal ends us */
        MHD_stop_daemon(daemon);
        MHD_destroy_response(response);
        return EXIT_SUCCESS;
}
