/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "service/page.h"

#include <stdlib.h>

#include "core/json/json.h"
#include "ui/files.h"

#define PAGE_PATH "/ui/"
#define PAGE_FILE "index.html"

#define CODE_BYTES_MAX 64

/* Nothing but files of this server is loaded or asked, no script stands in HTML, no text is taken for HTML,
 * no other page frames this one. */
#define CONTENT_SECURITY_POLICY                                                             \
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " \
        "require-trusted-types-for 'script'; trusted-types 'none'"

/* ── files ── */

/* They may be kept, but their tag is to be compared each time: a daemon is updated under the same names. */
static int add_file_headers(HttpRequest *request, const StaticFile *file) {
        const char *const headers[][2] = {
                { "ETag", file->tag },
                { "Cache-Control", "no-cache" },
                { "Content-Security-Policy", CONTENT_SECURITY_POLICY },
                { "Referrer-Policy", "no-referrer" },
                { "Cross-Origin-Opener-Policy", "same-origin" },
                { "Cross-Origin-Resource-Policy", "same-origin" },
        };
        for (size_t i = 0; i < sizeof(headers) / sizeof(*headers); i++) {
                int r = http_request_add_header(request, headers[i][0], headers[i][1]);
                if (r < 0)
                        return r;
        }
        return 0;
}

static void answer_errno(HttpRequest *request, int error) {
        Problem problem = {};
        (void) problem_from_errno(&problem, error);
        http_request_answer_problem(request, &problem, NULL);
}

static void answer_file(HttpRequest *request, const char *name) {
        const StaticFile *file = static_file_find(ui_files, name);
        Problem problem = {};
        if (!file) {
                (void) problem_set(&problem, 404, NULL, "the page has no such file");
                http_request_answer_problem(request, &problem, NULL);
                return;
        }
        int r = add_file_headers(request, file);
        if (r < 0)
                answer_errno(request, r);
        else if (static_file_is_known(http_request_header(request, "If-None-Match"), file->tag))
                http_request_answer(request, 304, NULL, NULL, 0);
        else
                http_request_answer(request, 200, static_file_type(file->name), file->bytes, file->size);
}

static void route_page(void *userdata, HttpRequest *request, const RequestContext *context) {
        answer_file(request, PAGE_FILE);
}

static void route_file(void *userdata, HttpRequest *request, const RequestContext *context) {
        answer_file(request, context->match.parameters[0]);
}

static void route_to_page(void *userdata, HttpRequest *request, const RequestContext *context) {
        int r = http_request_add_header(request, "Location", PAGE_PATH);
        if (r < 0)
                answer_errno(request, r);
        else
                http_request_answer(request, 302, NULL, NULL, 0);
}

/* ── sessions ── */

static int parse_nothing(const HttpRequest *request, Problem *problem) {
        static const JsonField fields[] = { {} };
        _cleanup_(json_putp) json_object *body = NULL;
        size_t size;
        (void) http_request_body(request, &size);
        int r = size > 0 ? request_parse_body(request, &body, problem) : 0;
        return r < 0 || !body ? r : json_dispatch(body, fields, JSON_UNKNOWN_REFUSED, "", NULL, problem);
}

static json_object *code_to_json(const char *code) {
        _cleanup_(json_putp) json_object *object = json_object_new_object();
        usec_t expires_usec = usec_add(usec_now(CLOCK_REALTIME), SESSION_CODE_USEC);
        if (!object || json_add_string(object, "code", code) < 0 ||
            json_add_realtime(object, "expires", expires_usec) < 0)
                return NULL;
        return TAKE_PTR(object);
}

static void route_code(void *userdata, HttpRequest *request, const RequestContext *context) {
        Access *access = userdata;
        Problem problem = {};
        char code[SESSION_SECRET_SIZE];
        int r = parse_nothing(request, &problem);
        if (r >= 0) {
                r = access_add_code(access, code);
                if (r < 0)
                        (void) problem_from_errno(&problem, r);
        }
        if (r < 0)
                http_request_answer_problem(request, &problem, NULL);
        else
                http_request_answer_json(request, 200, code_to_json(code));
}

static int parse_code(const HttpRequest *request, char **ret, Problem *problem) {
        const JsonField fields[] = {
                { .name = "code", .parse = json_field_string, .max = CODE_BYTES_MAX, .required = true }, {}
        };
        _cleanup_(json_putp) json_object *body = NULL;
        int r = request_parse_body(request, &body, problem);
        return r < 0 ? r : json_dispatch(body, fields, JSON_UNKNOWN_REFUSED, "", ret, problem);
}

static void route_session(void *userdata, HttpRequest *request, const RequestContext *context) {
        Access *access = userdata;
        _cleanup_(freep) char *code = NULL;
        Problem problem = {};
        int r = parse_code(request, &code, &problem);
        if (r >= 0)
                r = access_begin_session(access, request, code, &problem);
        if (r < 0)
                http_request_answer_problem(request, &problem, NULL);
        else
                http_request_answer(request, 204, NULL, NULL, 0);
}

/* The files are for everybody, as they say nothing of what the daemon does. Sessions are known where they
 * were begun. */
const Endpoint page_endpoints[] = {
        { "GET", "/", ACCESS_PUBLIC, route_to_page, .everywhere = true },
        { "GET", "/ui", ACCESS_PUBLIC, route_to_page, .everywhere = true },
        { "GET", "/ui/", ACCESS_PUBLIC, route_page, .everywhere = true },
        { "GET", "/ui/{file}", ACCESS_PUBLIC, route_file, .everywhere = true },
        { "POST", "/ui/session", ACCESS_PUBLIC, route_session, .everywhere = true },
        { "POST", "/api/v1/ui/code", ACCESS_READ, route_code, .everywhere = true },
        {},
};
