/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "ctl/target.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/text.h"
#include "ctl/context.h"
#include "ctl/say.h"
#include "io/file.h"

#define SYSTEM_SOCKET   "/run/daggyr/daggyr.sock"
#define TOKEN_BYTES_MAX 4096

void target_done(Target *target) {
        free(target->url);
        free(target->unix_path);
        if (target->token)
                explicit_bzero(target->token, strlen(target->token));
        free(target->token);
        json_object_put(target->contexts);
        *target = (Target) {};
}

static int set_url(Target *target, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int set_url(Target *target, const char *format, ...) {
        va_list arguments;
        va_start(arguments, format);
        int r = text_vformat(&target->url, format, arguments);
        va_end(arguments);
        if (r < 0)
                return r;
        size_t n = strlen(target->url);
        while (n > 0 && target->url[n - 1] == '/')
                target->url[--n] = 0;
        return 0;
}

static int set_unix(Target *target, const char *path) {
        target->unix_path = strdup(path);
        return target->unix_path ? set_url(target, "http://localhost") : -ENOMEM;
}

/* "HOST", "HOST:PORT", ":PORT", "ADDRESS6", "[ADDRESS6]", "[ADDRESS6]:PORT". */
static int set_host(Target *target, const char *scheme, const char *host, unsigned port) {
        const char *colon = strrchr(host, ':');
        bool is_bare_address6 = *host != '[' && colon && strchr(host, ':') != colon;
        bool has_port = colon && !is_bare_address6 && (*host != '[' || (colon > host && colon[-1] == ']'));
        if (is_bare_address6)
                return set_url(target, "%s://[%s]:%u", scheme, host, port);
        if (has_port)
                return set_url(target, "%s://%s%s", scheme, colon == host ? "127.0.0.1" : "", host);
        return set_url(target, "%s://%s:%u", scheme, *host ? host : "127.0.0.1", port);
}

/* SCHEME://HOST[:PORT][/PREFIX]: without a port it is the daemon's, and not that of the web. */
static int set_given_url(Target *target, const char *url, unsigned port) {
        size_t scheme_size = (size_t) (strstr(url, "://") - url);
        const char *authority = url + scheme_size + strlen("://");
        size_t size = strcspn(authority, "/?#");
        _cleanup_(freep) char *scheme = strndup(url, scheme_size), *host = strndup(authority, size);
        if (!scheme || !host)
                return -ENOMEM;
        int r = set_host(target, scheme, host, port);
        if (r < 0 || !authority[size])
                return r;
        _cleanup_(freep) char *base = TAKE_PTR(target->url);
        return set_url(target, "%s%s", base, authority + size);
}

static int set_by_default(Target *target) {
        const char *runtime = getenv("XDG_RUNTIME_DIR");
        _cleanup_(freep) char *own = NULL;
        if (access(SYSTEM_SOCKET, W_OK) >= 0)
                return set_unix(target, SYSTEM_SOCKET);
        if (runtime && text_format(&own, "%s/daggyr.sock", runtime) < 0)
                return -ENOMEM;
        if (own && access(own, W_OK) >= 0)
                return set_unix(target, own);
        return set_url(target, "http://127.0.0.1:%d", TARGET_RUNNER_PORT);
}

static int set_place(Target *target, const Options *options, const char *host) {
        bool is_queue = options_has(options, OPTION_QUEUE);
        if (host && !*host)
                host = NULL;
        if (!host && !is_queue)
                return set_by_default(target);
        const char *path = host ? text_after(host, "unix:") : NULL;
        if (path)
                return set_unix(target, path);
        if (host && strstr(host, "://"))
                return set_given_url(target, host, is_queue ? TARGET_QUEUE_PORT : TARGET_RUNNER_PORT);
        /* Whoever names a certificate means TLS. */
        return set_host(target,
                        target->has_tls ? "https" : "http",
                        host ?: "",
                        is_queue ? TARGET_QUEUE_PORT : TARGET_RUNNER_PORT);
}

/* What is in the file, without the line's end. */
static int read_token(const char *path, char **ret) {
        _cleanup_(text_done) Text text = {};
        int r = file_read_all(path, TOKEN_BYTES_MAX, &text);
        if (r < 0) {
                say("cannot read the token in %s: %s", path, strerror(-r));
                return r;
        }
        text.data[strcspn(text.data, "\r\n")] = 0;
        if (!*text.data) {
                say("there is no token in %s", path);
                return -EINVAL;
        }
        *ret = TAKE_PTR(text.data);
        return 0;
}

int target_resolve_at(const Options *options, const char *host, bool with_token, Target *ret) {
        const char *token_file = options_get(options, OPTION_TOKEN_FILE) ?: getenv("DAGGYCTL_TOKEN_FILE");
        ret->tls = (HttpClientTls) { .ca_file = options_get(options, OPTION_CACERT),
                                     .cert_file = options_get(options, OPTION_CERT),
                                     .key_file = options_get(options, OPTION_KEY) };
        ret->has_tls = ret->tls.ca_file || ret->tls.cert_file || ret->tls.key_file;
        int r = set_place(ret, options, host);
        if (r < 0) {
                say("%s", strerror(-r));
                return r;
        }
        ret->name = ret->unix_path ?: ret->url;
        return with_token && token_file && *token_file ? read_token(token_file, &ret->token) : 0;
}

/* The context that is meant: by its name, or the current one where nobody says where. *RET stays NULL when
 * there is none. */
static int find_context(const Options *options, json_object **contexts, json_object **ret) {
        const char *name = options_get(options, OPTION_CONTEXT), *host = getenv("DAGGYCTL_HOST");
        bool is_said = options_has(options, OPTION_HOST) || options_has(options, OPTION_QUEUE);
        if (name && is_said) {
                say("--context says where: neither --host nor --queue goes with it");
                return -EINVAL;
        }
        if (!name && (is_said || (host && *host)))
                return 0;
        int r = contexts_read(contexts);
        if (r < 0)
                return r;
        if (!name)
                name = member_text(*contexts, "current");
        *ret = *name ? context_find(*contexts, name) : NULL;
        if (*ret || !*name)
                return 0;
        say("there is no context \"%s\"", name);
        return -EINVAL;
}

int target_resolve(const Options *options, Target *ret) {
        json_object *context = NULL;
        int r = find_context(options, &ret->contexts, &context);
        if (r < 0)
                return r;
        if (!context)
                return target_resolve_at(
                                options,
                                options_get(options, OPTION_HOST) ?: getenv("DAGGYCTL_HOST"),
                                true,
                                ret);
        /* What the command line says comes later, and counts. */
        Options all = {};
        context_add_options(context, &all);
        all.given |= options->given;
        for (unsigned i = 0; i < options->n && all.n < LIST_OPTION_MAX; i++)
                all.list[all.n++] = options->list[i];
        return target_resolve_at(&all, options_get(&all, OPTION_HOST), true, ret);
}
