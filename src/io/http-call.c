/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One call: what libcurl is told of it, what becomes of the answer, and what the caller hears. No code of the
 * caller's ever runs inside one of libcurl's callbacks: what comes is kept (up to a limit; then libcurl has
 * to wait) and delivered from the loop. So the caller may do anything in its own callbacks. */

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/text.h"
#include "io/http-client-internal.h"
#include "io/loop.h"

#define UNACKNOWLEDGED_MSEC 20000 /* also of what keeps a connection alive */
#define KEEPALIVE_SEC       10L   /* of silence, before the first question */
#define KEEPALIVE_EVERY_SEC 5L

#define STREAM_BYTES_MAX (64 * 1024) /* kept for on_data; with what libcurl has read ahead a bit more */

static CURL *take_handle(HttpClient *client) {
        return client->n_spare > 0 ? client->spare[--client->n_spare] : curl_easy_init();
}

/* Nothing of the call is left in one that is kept. */
static void give_handle_back(HttpClient *client, CURL *easy) {
        if (!easy || !client || client->n_spare == SPARE_HANDLES_MAX) {
                curl_easy_cleanup(easy);
                return;
        }
        curl_easy_reset(easy);
        client->spare[client->n_spare++] = easy;
}

HttpCall *http_call_destroy(HttpCall *call) {
        event_source_dropp(&call->timer_source);
        give_handle_back(call->client, call->easy);
        curl_slist_free_all(call->headers);
        free(call->body);
        text_done(&call->answer);
        free(call);
        return NULL;
}

static bool status_is_success(const HttpCall *call) {
        long status = 0;
        (void) curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
        return status >= 200 && status <= 299;
}

/* Called by libcurl for each piece of the answer's body. */
static size_t on_curl_body(char *bytes, size_t one, size_t size, void *userdata) {
        HttpCall *call = userdata;
        call->streamed = call->on_data && status_is_success(call);
        if (call->streamed && call->answer.size >= STREAM_BYTES_MAX) {
                call->blocked = true;
                return CURL_WRITEFUNC_PAUSE;
        }
        if (!call->streamed && size > call->answer_bytes_max - call->answer.size) {
                call->error = -EMSGSIZE;
                return 0;
        }
        if (text_append_bytes(&call->answer, bytes, size) < 0) {
                call->error = -ENOMEM;
                return 0;
        }
        call->progress_usec = usec_now(CLOCK_BOOTTIME);
        http_call_settle(call);
        return size;
}

/* Told once, of the answer itself: neither of one before it (1xx) nor of what may follow the body. */
static void note_header(HttpCall *call) {
        bool is_first = !call->header_complete;
        call->header_complete = true;
        if (!is_first || !call->on_header || !status_is_success(call))
                return;
        call->header_news = true;
        http_call_settle(call);
}

/* libcurl (7.88) takes a header that breaks off for a complete one. */
static size_t on_curl_header(char *bytes, size_t one, size_t size, void *userdata) {
        HttpCall *call = userdata;
        call->progress_usec = usec_now(CLOCK_BOOTTIME);
        if (size > 5 && memcmp(bytes, "HTTP/", 5) == 0)
                call->header_complete = false;
        else if (size <= 2 && (bytes[0] == '\r' || bytes[0] == '\n'))
                note_header(call);
        return size;
}

/* libcurl 7.88 opens sockets that programs we execute would inherit. And what the peer does not acknowledge
 * is given up soon, also by sockets that are closed by then: a request whose call has ended must not arrive a
 * quarter of an hour later, as it could by default (tcp_retries2). */
static curl_socket_t on_curl_socket(void *userdata, curlsocktype purpose, struct curl_sockaddr *address) {
        int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
        if (fd < 0)
                return CURL_SOCKET_BAD;
        unsigned timeout_msec = UNACKNOWLEDGED_MSEC;
        if (address->family == AF_INET || address->family == AF_INET6)
                (void) setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_msec, sizeof(timeout_msec));
        return fd;
}

static bool header_value_valid(const char *value) {
        for (; *value; value++)
                if ((unsigned char) *value < ' ' && *value != '\t')
                        return false;
        return true;
}

/* Adds "NAMEVALUE" as a line; NAME ends with a colon, or is empty. */
static int call_add_header(HttpCall *call, const char *name, const char *value) {
        _cleanup_(text_done) Text line = {};
        if (!header_value_valid(value))
                return -EINVAL;
        if (text_append(&line, name) < 0 || text_append(&line, value) < 0)
                return -ENOMEM;
        struct curl_slist *headers = curl_slist_append(call->headers, line.data);
        if (!headers)
                return -ENOMEM;
        call->headers = headers;
        return 0;
}

static int call_add_headers(HttpCall *call, const HttpCallOptions *options) {
        static const char *const unwanted[] = { "Expect:", "Accept-Encoding:" };
        int r = 0;
        for (size_t i = 0; r >= 0 && i < sizeof(unwanted) / sizeof(*unwanted); i++)
                r = call_add_header(call, unwanted[i], "");
        /* Without a value libcurl leaves out the one that it would have made up for a body. */
        if (r >= 0)
                r = call_add_header(
                                call,
                                options->content_type ? "Content-Type: " : "Content-Type:",
                                options->content_type ? options->content_type : "");
        if (r >= 0 && options->token)
                r = call_add_header(call, "Authorization: Bearer ", options->token);
        if (r >= 0 && options->lease_id)
                r = call_add_header(call, "Daggyr-Lease: ", options->lease_id);
        for (const char *const *header = options->headers; r >= 0 && header && *header; header++)
                r = strchr(*header, ':') ? call_add_header(call, "", *header) : -EINVAL;
        return r;
}

static bool method_valid(const char *method) {
        return method[0] && strspn(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == strlen(method);
}

/* Which request it is. A body, even an empty one of a POST or PUT, has its Content-Length. */
static int call_set_request(HttpCall *call, const HttpCallOptions *options) {
        CURL *easy = call->easy;
        size_t size = options->body ? options->body_size : 0;
        bool ok = true;
        if (!method_valid(options->method))
                return -EINVAL;
        if (options->body || streq(options->method, "POST") || streq(options->method, "PUT")) {
                call->body = malloc(size + 1);
                if (!call->body)
                        return -ENOMEM;
                if (options->body)
                        memcpy(call->body, options->body, size);
                ok = !curl_easy_setopt(easy, CURLOPT_POST, 1L) &&
                                !curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) size) &&
                                !curl_easy_setopt(easy, CURLOPT_POSTFIELDS, call->body);
        } else if (streq(options->method, "HEAD"))
                ok = !curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
        ok = ok && !curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, options->method) &&
                        !curl_easy_setopt(easy, CURLOPT_HTTPHEADER, call->headers) &&
                        !curl_easy_setopt(easy, CURLOPT_USERAGENT, call->client->user_agent);
        return ok ? 0 : -ENOMEM;
}

/* What is switched off stays off whatever the environment says. */
static int call_set_transport(HttpCall *call, const HttpCallOptions *options) {
        CURL *easy = call->easy;
        usec_t connect_msec = options->connect_usec / USEC_PER_MSEC;
        if (connect_msec == 0 || connect_msec > INT32_MAX)
                connect_msec = INT32_MAX; /* 0 would mean five minutes */
        bool ok = !curl_easy_setopt(easy, CURLOPT_URL, options->url) &&
                        !curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") &&
                        !curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1) &&
                        !curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L) && /* ids may hold dots */
                        !curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L) &&
                        !curl_easy_setopt(easy, CURLOPT_PROXY, "") &&
                        !curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) &&
                        /* or dropping a call would wait for the look-up of its host's name */
                        !curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L) &&
                        /* or the end of each call walks through all the names that are kept (7.88) */
                        !curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, 0L) &&
                        !curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_curl_socket) &&
                        !curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, options->unix_path) &&
                        !curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, options->fresh_connection ? 1L : 0L) &&
                        !curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, options->keepalive ? 1L : 0L) &&
                        !curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, KEEPALIVE_SEC) &&
                        !curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, KEEPALIVE_EVERY_SEC) &&
                        !curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long) connect_msec);
        return ok ? 0 : -ENOMEM;
}

static bool file_unreadable(const char *path) {
        return path && access(path, R_OK) < 0;
}

static int call_set_tls(HttpCall *call, const HttpClientTls *tls) {
        CURL *easy = call->easy;
        call->tls_unreadable = tls &&
                        (file_unreadable(tls->ca_file) || file_unreadable(tls->cert_file) ||
                         file_unreadable(tls->key_file));
        bool ok = !curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2) &&
                        /* or a session from before a file changed could be taken up again */
                        !curl_easy_setopt(easy, CURLOPT_SSL_SESSIONID_CACHE, 0L);
        if (tls && tls->ca_file) /* without the second the system's would be trusted as well */
                ok = ok && !curl_easy_setopt(easy, CURLOPT_CAINFO, tls->ca_file) &&
                                !curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
        if (tls && tls->cert_file)
                ok = ok && !curl_easy_setopt(easy, CURLOPT_SSLCERT, tls->cert_file) &&
                                !curl_easy_setopt(
                                                easy,
                                                CURLOPT_SSLKEY,
                                                tls->key_file ? tls->key_file : tls->cert_file);
        return ok ? 0 : -ENOMEM;
}

static int call_set_callbacks(HttpCall *call) {
        CURL *easy = call->easy;
        bool ok = !curl_easy_setopt(easy, CURLOPT_PRIVATE, call) &&
                        !curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->error_buffer) &&
                        !curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_curl_body) &&
                        !curl_easy_setopt(easy, CURLOPT_WRITEDATA, call) &&
                        !curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_curl_header) &&
                        !curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
        return ok ? 0 : -ENOMEM;
}

static int url_result(CURLUcode code) {
        return code == CURLUE_OK ? 0 : code == CURLUE_OUT_OF_MEMORY ? -ENOMEM : -EINVAL;
}

static void curl_textp(char **text) {
        curl_free(*text);
}

static void curl_urlp(CURLU **url) {
        curl_url_cleanup(*url);
}

/* "unix:/path" or "http://host:port": what one limit of connections is for. */
static int host_key(const HttpCallOptions *options, char **ret) {
        _cleanup_(curl_urlp) CURLU *url = curl_url();
        _cleanup_(curl_textp) char *scheme = NULL, *host = NULL, *port = NULL, *fragment = NULL;
        if (!url)
                return -ENOMEM;
        int r = url_result(curl_url_set(
                        url, CURLUPART_URL, options->url, CURLU_DISALLOW_USER | CURLU_PATH_AS_IS));
        if (r >= 0)
                r = url_result(curl_url_get(url, CURLUPART_SCHEME, &scheme, 0));
        if (r >= 0)
                r = url_result(curl_url_get(url, CURLUPART_HOST, &host, 0));
        if (r >= 0)
                r = url_result(curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT));
        if (r < 0)
                return r;
        if (!streq(scheme, "http") && !streq(scheme, "https"))
                return -EINVAL;
        if (curl_url_get(url, CURLUPART_FRAGMENT, &fragment, 0) != CURLUE_NO_FRAGMENT)
                return -EINVAL;
        if (options->unix_path && strlen(options->unix_path) >= sizeof((struct sockaddr_un) {}.sun_path))
                return -EINVAL;
        if (options->unix_path)
                return text_format(ret, "unix:%s", options->unix_path);
        return text_format(ret, "%s://%s:%s", scheme, host, port);
}

int http_call_prepare(
                HttpClient *client,
                const HttpCallOptions *options,
                HttpCall **ret,
                char **ret_host_key) {
        _cleanup_(http_call_destroyp) HttpCall *call = calloc(1, sizeof(*call));
        _cleanup_(freep) char *key = NULL;
        if (!call)
                return -ENOMEM;
        *call = (HttpCall) {
                .client = client,
                .on_done = options->on_done,
                .on_header = options->on_header,
                .on_data = options->on_data,
                .userdata = options->userdata,
                .answer_bytes_max = options->answer_bytes_max,
                .idle_usec = options->idle_usec > 0 ? options->idle_usec : USEC_INFINITY,
                .progress_usec = usec_now(CLOCK_BOOTTIME),
        };
        call->total_deadline_usec = options->total_usec > 0 ?
                        usec_add(call->progress_usec, options->total_usec) :
                        USEC_INFINITY;
        call->easy = take_handle(client);
        if (!call->easy)
                return -ENOMEM;
        int r = host_key(options, &key);
        if (r >= 0)
                r = call_add_headers(call, options);
        if (r >= 0)
                r = call_set_request(call, options);
        if (r >= 0)
                r = call_set_transport(call, options);
        if (r >= 0)
                r = call_set_tls(call, options->tls);
        if (r >= 0)
                r = call_set_callbacks(call);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(call);
        *ret_host_key = TAKE_PTR(key);
        return 0;
}

static int connect_error(const HttpCall *call) {
        long error = 0;
        (void) curl_easy_getinfo(call->easy, CURLINFO_OS_ERRNO, &error);
        return error > 0 ? -(int) error : -ECONNREFUSED;
}

int http_call_error(const HttpCall *call, CURLcode code) {
        if (call->error < 0)
                return call->error;
        switch ((int) code) {
        case CURLE_OK:
                return call->header_complete ? 0 : -ECONNRESET;
        case CURLE_OPERATION_TIMEDOUT:
                return -ETIMEDOUT;
        case CURLE_COULDNT_CONNECT:
                return connect_error(call);
        case CURLE_COULDNT_RESOLVE_HOST:
                return -EHOSTUNREACH;
        case CURLE_SEND_ERROR:
        case CURLE_RECV_ERROR:
        case CURLE_GOT_NOTHING:
        case CURLE_PARTIAL_FILE:
                return -ECONNRESET;
        case CURLE_PEER_FAILED_VERIFICATION:
        case CURLE_SSL_ISSUER_ERROR:
        case CURLE_SSL_INVALIDCERTSTATUS:
                return -EKEYREJECTED;
        case CURLE_SSL_CACERT_BADFILE:
        case CURLE_SSL_CERTPROBLEM:
                return -ENOKEY;
        case CURLE_SSL_CONNECT_ERROR: /* with GnuTLS, for our own certificate as well */
                return call->tls_unreadable ? -ENOKEY : -EPROTO;
        case CURLE_OUT_OF_MEMORY:
                return -ENOMEM;
        default:
                return -EPROTO;
        }
}

void http_call_note_end(HttpCall *call, int error) {
        long status = 0, request_bytes = 0;
        (void) curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
        /* Of all attempts: libcurl repeats a request by itself when the kept connection it used turns out to
         * have been closed. */
        (void) curl_easy_getinfo(call->easy, CURLINFO_REQUEST_SIZE, &request_bytes);
        call->error = error;
        call->status = (int) status;
        call->not_sent = error < 0 && request_bytes == 0;
}

bool http_call_has_header(const HttpCall *call) {
        return call->header_news && !call->paused;
}

void http_call_deliver_header(HttpCall *call) {
        call->header_news = false;
        call->in_callback = true;
        call->on_header(call, call->userdata);
        call->in_callback = false;
}

bool http_call_has_data(const HttpCall *call) {
        return call->streamed && !call->paused && call->answer.size > 0;
}

int http_call_deliver_data(HttpCall *call) {
        Text piece = call->answer;
        call->answer = (Text) {};
        call->in_callback = true;
        int r = call->on_data(call, piece.data, piece.size, call->userdata);
        call->in_callback = false;
        text_done(&piece);
        if (r < 0 || call->freed)
                return r;
        if (call->state == CALL_ACTIVE && call->blocked) {
                call->blocked = false;
                call->progress_usec = usec_now(CLOCK_BOOTTIME);
                (void) curl_easy_pause(call->easy, CURLPAUSE_CONT);
        }
        return 0;
}

int http_call_status(HttpCall *call) {
        long status = 0;
        (void) curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
        return (int) status;
}

const char *http_call_answer_header(HttpCall *call, const char *name) {
        struct curl_header *header;
        return curl_easy_header(call->easy, name, 0, CURLH_HEADER, -1, &header) == CURLHE_OK ? header->value :
                                                                                               NULL;
}

void http_call_deliver_outcome(HttpCall *call) {
        char *content_type = NULL;
        curl_off_t retry_after_sec = 0;
        bool collected = call->answer.size > 0 && !call->streamed;
        if (call->status > 0) {
                (void) curl_easy_getinfo(call->easy, CURLINFO_CONTENT_TYPE, &content_type);
                (void) curl_easy_getinfo(call->easy, CURLINFO_RETRY_AFTER, &retry_after_sec);
        }
        const HttpOutcome outcome = {
                .error = call->error,
                .error_text = call->error == 0        ? "" :
                                call->error_buffer[0] ? call->error_buffer :
                                                        strerror(-call->error),
                .not_sent = call->not_sent,
                .status = call->status,
                .content_type = content_type,
                .retry_after_sec = retry_after_sec > 0 && retry_after_sec <= INT32_MAX ?
                                (unsigned) retry_after_sec :
                                0,
                .body = collected ? call->answer.data : "",
                .body_size = collected ? call->answer.size : 0,
        };
        call->in_callback = true;
        call->on_done(call, &outcome, call->userdata);
        call->in_callback = false;
}
