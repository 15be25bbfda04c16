/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdio.h>
#include <sys/socket.h>

#include "core/json/json.h"
#include "io/http-internal.h"

#define STREAM_BLOCK_BYTES (32 * 1024)

int http_request_add_header(HttpRequest *request, const char *name, const char *value) {
        if (request->n_headers >= HTTP_ANSWER_HEADERS_MAX)
                return -ENOSPC;
        _cleanup_(freep) char *name_copy = strdup(name), *value_copy = strdup(value);
        if (!name_copy || !value_copy)
                return -ENOMEM;
        request->header_names[request->n_headers] = TAKE_PTR(name_copy);
        request->header_values[request->n_headers++] = TAKE_PTR(value_copy);
        return 0;
}

/* No answer is to be kept by anybody, unless its program has said otherwise. */
static int response_add_common_headers(
                struct MHD_Response *response,
                const char *content_type,
                bool must_close) {
        if (content_type &&
            MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type) != MHD_YES)
                return -ENOMEM;
        if (MHD_add_response_header(response, "X-Content-Type-Options", "nosniff") != MHD_YES)
                return -ENOMEM;
        if (!MHD_get_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL) &&
            MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store") != MHD_YES)
                return -ENOMEM;
        if (must_close && MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close") != MHD_YES)
                return -ENOMEM;
        return 0;
}

/* Also when connections run short: each is then given back after its answer instead of idling. */
static bool request_must_close(const HttpRequest *request) {
        return request->must_close || request->server->winding_down ||
                        (request->on && request->on->engine->retired) ||
                        http_server_is_crowded(request->server);
}

static int response_add_headers(HttpRequest *request, const char *content_type) {
        for (size_t i = 0; i < request->n_headers; i++)
                if (MHD_add_response_header(
                                    request->response, request->header_names[i], request->header_values[i]) !=
                    MHD_YES)
                        return -ENOMEM;
        return response_add_common_headers(request->response, content_type, request_must_close(request));
}

static void request_answered(HttpRequest *request, int status) {
        HttpServer *server = request->server;
        request->status = status;
        request->state = REQUEST_ANSWERED;
        request->on_hangup = NULL;
        if (server->handlers.on_answered && !request->abort)
                server->handlers.on_answered(request, status, server->userdata);
        http_request_resume(request);
}

static void answer_too_much(HttpRequest *request) {
        Problem problem = {};
        (void) problem_set_for_now(&problem, 503, 1, "too many answers wait for their clients to read them");
        http_request_answer_problem(request, &problem, NULL);
}

void http_request_answer_text(HttpRequest *request, int status, const char *content_type, Text *text) {
        _cleanup_(freep) char *bytes = text->data;
        size_t size = text->size;
        *text = (Text) {};
        int r = http_body_new(request->server, &bytes, size, &request->kept, &request->response);
        if (r < 0 && r != -ENOMEM) {
                answer_too_much(request);
                return;
        }
        if (r < 0 || response_add_headers(request, content_type) < 0)
                request->abort = true;
        request_answered(request, status);
}

static HttpAnswer *answer_empty(HttpServer *server) {
        HttpAnswer *answer = calloc(1, sizeof(*answer));
        if (!answer)
                return NULL;
        *answer = (HttpAnswer) { .server = server, .n_references = 1, .kept = { .fd = -EBADF } };
        answer->response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
        if (!answer->response || response_add_common_headers(answer->response, NULL, false) < 0)
                return http_answer_unref(answer);
        return answer;
}

/* To make the same answer anew for each who asks whether we are there costs a sixth of all that it takes. */
static bool request_answer_empty(HttpRequest *request, int status) {
        HttpServer *server = request->server;
        if (request->n_headers > 0 || request_must_close(request))
                return false;
        if (!server->empty)
                server->empty = answer_empty(server);
        if (server->empty)
                http_request_answer_shared(request, status, server->empty);
        return server->empty != NULL;
}

void http_request_answer(
                HttpRequest *request,
                int status,
                const char *content_type,
                const void *body,
                size_t size) {
        if (size == 0 && !content_type && request_answer_empty(request, status))
                return;
        Text text = {};
        if (text_append_bytes(&text, body ?: "", size) < 0)
                request->abort = true;
        http_request_answer_text(request, status, content_type, &text);
}

/* A client is to know when something is missing. To libmicrohttpd every end is an orderly one: after an error
 * it would hold the descriptor of a client that is gone until the idle timeout (0.9.75). */
static ssize_t stream_end(HttpRequest *request, ssize_t reason) {
        if (reason != -ENODATA && request->on)
                (void) shutdown(request->on->fd, SHUT_RDWR);
        return MHD_CONTENT_READER_END_OF_STREAM;
}

static ssize_t on_stream_read(void *userdata, uint64_t position, char *buffer, size_t size) {
        HttpRequest *request = userdata;
        ssize_t n = request->abort ? -ECONNABORTED :
                                     request->stream_read(request->stream_userdata, buffer, size);
        if (n == 0 && request->server->stopping) /* one that waits for more would hold up the end */
                n = -ESHUTDOWN;
        if (n < 0)
                return stream_end(request, n);
        request->stream_idle = n == 0;
        if (n == 0)
                http_request_suspend(request);
        return n;
}

static ssize_t on_no_stream_read(void *userdata, uint64_t position, char *buffer, size_t size) {
        return MHD_CONTENT_READER_END_OF_STREAM;
}

/* The header of a stream alone, as HEAD asks for it. libmicrohttpd (0.9.75) would end the chunks that it does
 * not send, and so begin the next answer with "0": there must be neither chunks nor a next answer. */
static struct MHD_Response *stream_header_new(void) {
        struct MHD_Response *response = MHD_create_response_from_callback(
                        MHD_SIZE_UNKNOWN, STREAM_BLOCK_BYTES, on_no_stream_read, NULL, NULL);
        if (response)
                (void) MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
        return response;
}

void http_request_answer_stream(
                HttpRequest *request,
                int status,
                const char *content_type,
                HttpStreamReader read,
                void (*release)(void *userdata),
                void *userdata) {
        request->stream_read = read;
        request->stream_release = release;
        request->stream_userdata = userdata;
        request->response = streq(request->method, "HEAD") ?
                        stream_header_new() :
                        MHD_create_response_from_callback(
                                        MHD_SIZE_UNKNOWN, STREAM_BLOCK_BYTES, on_stream_read, request, NULL);
        if (!request->response || response_add_headers(request, content_type) < 0)
                request->abort = true;
        request_answered(request, status);
}

void http_request_stream_wake(HttpRequest *request) {
        if (!request->stream_idle)
                return;
        request->stream_idle = false;
        http_request_resume(request);
}

void http_request_answer_json(HttpRequest *request, int status, json_object *object) {
        _cleanup_(json_putp) json_object *owned = object;
        Text text = {};
        if (owned && json_format(owned, &text.data, &text.size) >= 0) {
                http_request_answer_text(request, status, "application/json", &text);
                return;
        }
        Problem problem = {};
        (void) problem_from_errno(&problem, ENOMEM);
        http_request_answer_problem(request, &problem, NULL);
}

int http_answer_new_json(HttpServer *server, json_object *object, HttpAnswer **ret) {
        _cleanup_(json_putp) json_object *owned = object;
        _cleanup_(http_answer_unrefp) HttpAnswer *answer = calloc(1, sizeof(*answer));
        _cleanup_(freep) char *text = NULL;
        size_t size = 0;
        if (!owned || !answer || json_format(owned, &text, &size) < 0)
                return -ENOMEM;
        answer->n_references = 1;
        answer->server = server;
        int r = http_body_new(server, &text, size, &answer->kept, &answer->response);
        if (r < 0)
                return r;
        if (response_add_common_headers(
                            answer->response, "application/json", http_server_is_crowded(server)) < 0)
                return -ENOMEM;
        *ret = TAKE_PTR(answer);
        return 0;
}

HttpAnswer *http_answer_unref(HttpAnswer *answer) {
        if (!answer)
                return NULL;
        if (answer->n_references > 1) {
                answer->n_references--;
                return NULL;
        }
        if (answer->response)
                MHD_destroy_response(answer->response);
        if (answer->server)
                http_body_done(answer->server, &answer->kept);
        free(answer);
        return NULL;
}

void http_request_answer_shared(HttpRequest *request, int status, HttpAnswer *answer) {
        if (request->must_close ||
            request->server->winding_down) { /* rare, and the others' connections stay */
                if (http_body_respond_again(&answer->kept, &request->response) < 0 ||
                    response_add_headers(request, "application/json") < 0)
                        request->abort = true;
                request_answered(request, status);
                return;
        }
        answer->n_references++;
        request->shared = answer;
        request_answered(request, status);
}

static int problem_body(const Problem *problem, json_object *extra, char **ret, size_t *ret_size) {
        _cleanup_(json_putp) json_object *object = NULL;
        int r = problem_to_json(problem, extra, &object);
        return r < 0 ? r : json_format(object, ret, ret_size);
}

void http_request_answer_problem(HttpRequest *request, const Problem *problem, json_object *extra) {
        _cleanup_(freep) char *text = NULL;
        size_t size = 0;
        if (problem_body(problem, extra, &text, &size) < 0) {
                request->abort = true;
                request_answered(request, problem->status);
                return;
        }
        if (problem->retry_after_sec > 0) {
                char seconds[16];
                (void) snprintf(seconds, sizeof(seconds), "%u", problem->retry_after_sec);
                (void) http_request_add_header(request, MHD_HTTP_HEADER_RETRY_AFTER, seconds);
        }
        http_request_answer(request, problem->status, "application/problem+json", text, size);
}
