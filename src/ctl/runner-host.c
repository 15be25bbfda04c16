/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "ctl/runner-host.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "core/config/config-runner.h"
#include "core/http/token.h"
#include "ctl/say.h"
#include "ctl/systemctl.h"
#include "io/file.h"
#include "io/random-id.h"

#define CONFIG  "/etc/daggyr/daggyr.json"
#define SERVICE "daggyr.service"
#define SOCKET  "daggyr.socket"

void runner_host_done(RunnerHost *host) {
        if (host->token)
                explicit_bzero(host->token, strlen(host->token));
        free(host->token);
        *host = (RunnerHost) {};
}

/* ── what there is ── */

static int read_token(const char *path, char **ret) {
        _cleanup_(text_done) Text text = {};
        int r = file_read_all(path, TOKEN_MAX + 1, &text);
        if (r >= 0)
                r = token_parse(text.data, text.size, ret);
        if (text.data)
                explicit_bzero(text.data, text.size);
        if (r < 0)
                say("cannot read the runner's token in %s: %s", path, strerror(-r));
        return r;
}

/* Where the last "LoadCredential=daggyr.token:PATH" of the unit says that it is; NULL: nowhere else than
 * usual. */
static int find_credential(char **ret) {
        static const char setting[] = "\nLoadCredential=daggyr.token:";
        _cleanup_(text_done) Text unit = {};
        int r = systemctl_read((const char *const[]) { "cat", SERVICE, NULL }, &unit);
        if (r < 0) {
                say("daggyr is not installed here: there is no %s", SERVICE);
                return r;
        }
        for (const char *at = unit.data; (at = strstr(at, setting));) {
                at += strlen(setting);
                free(*ret);
                *ret = *at == '/' ? strndup(at, strcspn(at, "\n")) : NULL;
                if (*at == '/' && !*ret)
                        return -ENOMEM;
        }
        return 0;
}

static int read_credential(char **ret) {
        static const char *const folders[] = { "/etc/credstore", "/run/credstore", "/usr/lib/credstore" };
        _cleanup_(freep) char *path = NULL;
        int r = find_credential(&path);
        if (r < 0 || path)
                return r < 0 ? r : read_token(path, ret);
        for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++) {
                _cleanup_(freep) char *usual = NULL;
                if (text_format(&usual, "%s/daggyr.token", folders[i]) < 0)
                        return -ENOMEM;
                if (access(usual, F_OK) >= 0)
                        return read_token(usual, ret);
        }
        return 0;
}

static int read_config(RunnerHost *host, bool *ret_names_token) {
        _cleanup_(text_done) Text text = {};
        _cleanup_(runner_config_freep) RunnerConfig *config = NULL;
        Problem problem = {};
        int r = file_read_all(CONFIG, CONFIG_SIZE_MAX, &text);
        if (r == -ENOENT)
                return 0;
        if (r >= 0)
                r = runner_config_parse(text.data, text.size, true, &config, &problem);
        if (r < 0) {
                say("cannot use %s: %s %s",
                    CONFIG,
                    problem.field,
                    *problem.detail ? problem.detail : strerror(-r));
                return r;
        }
        host->has_tls = config->service.tls_cert;
        host->wants_certificates = config->service.tls_client_ca;
        *ret_names_token = config->service.auth_token_file;
        return *ret_names_token ? read_token(config->service.auth_token_file, &host->token) : 0;
}

int runner_host_read(RunnerHost *ret) {
        bool names_token = false;
        int r = read_config(ret, &names_token);
        if (r >= 0 && !names_token)
                r = read_credential(&ret->token);
        ret->socket_is_active = r >= 0 && systemctl_is_active(SOCKET);
        ret->service_is_active = r >= 0 && systemctl_is_active(SERVICE);
        return r;
}

/* ── addresses ── */

bool runner_host_is_loopback(const char *address) {
        return text_after(address, "127.") || streq(address, "::1");
}

static int source_address(const struct addrinfo *to, char **ret) {
        char host[NI_MAXHOST];
        struct sockaddr_storage own = {};
        socklen_t size = sizeof(own);
        _cleanup_(fd_close) int fd = socket(to->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, to->ai_addr, to->ai_addrlen) < 0 ||
            getsockname(fd, (struct sockaddr *) &own, &size) < 0)
                return -errno;
        if (getnameinfo((struct sockaddr *) &own, size, host, sizeof(host), NULL, 0, NI_NUMERICHOST) != 0)
                return -EADDRNOTAVAIL;
        *ret = strdup(host);
        return *ret ? 0 : -ENOMEM;
}

/* The host in "http://HOST[:PORT]…", an IPv6 address without its brackets. */
static int host_of(const char *url, char **ret) {
        const char *host = strstr(url, "://");
        host = host ? host + strlen("://") : url;
        if (*host == '[')
                *ret = strndup(host + 1, strcspn(host + 1, "]"));
        else
                *ret = strndup(host, strcspn(host, ":/?#"));
        return *ret ? 0 : -ENOMEM;
}

int runner_host_address_towards(const char *url, char **ret) {
        _cleanup_(freep) char *host = NULL;
        struct addrinfo *list = NULL;
        if (!url) {
                *ret = strdup("127.0.0.1");
                return *ret ? 0 : -ENOMEM;
        }
        int r = host_of(url, &host);
        if (r < 0)
                return r;
        static const struct addrinfo hints = { .ai_socktype = SOCK_DGRAM };
        int error = getaddrinfo(host, "9", &hints, &list);
        if (error != 0) {
                say("cannot find the address of %s: %s", host, gai_strerror(error));
                return -EHOSTUNREACH;
        }
        r = -EHOSTUNREACH;
        for (const struct addrinfo *to = list; to && r < 0; to = to->ai_next)
                r = source_address(to, ret);
        freeaddrinfo(list);
        if (r < 0)
                say("there is no way from here to %s: %s", host, strerror(-r));
        return r;
}

static int listen_text(const char *address, unsigned port, char **ret) {
        return text_format(ret, strchr(address, ':') ? "[%s]:%u" : "%s:%u", address, port);
}

static bool has_line(const Text *text, const char *line) {
        const char *end = strstr(text->data, line);
        return end && (end == text->data || end[-1] == '\n') && end[strlen(line)] == ' ';
}

bool runner_host_listens(const char *address, unsigned port) {
        const char *const addresses[] = { address, "0.0.0.0", "::" };
        _cleanup_(text_done) Text text = {};
        bool found = false;
        if (systemctl_read((const char *const[]) { "show", "--value", "-p", "Listen", SOCKET, NULL }, &text) <
            0)
                return false;
        for (size_t i = 0; i < sizeof(addresses) / sizeof(*addresses) && !found; i++) {
                _cleanup_(freep) char *line = NULL;
                found = listen_text(addresses[i], port, &line) >= 0 && has_line(&text, line);
        }
        return found;
}

/* ── changes ── */

static int say_failed(const char *path, int r) {
        say("cannot write %s: %s", path, strerror(-r));
        return r;
}

static int make_folder(const char *path, mode_t mode) {
        return mkdir(path, mode) < 0 && errno != EEXIST ? say_failed(path, -errno) : 0;
}

int runner_host_make_token(RunnerHost *host) {
        _cleanup_(freep) char *a = NULL, *b = NULL, *line = NULL;
        int r = make_folder("/etc/credstore", 0700);
        if (r < 0)
                return r;
        r = random_id_new(&a);
        if (r >= 0)
                r = random_id_new(&b);
        if (r >= 0)
                r = text_format(&line, "%s%s\n", a, b);
        if (r >= 0)
                r = file_replace(RUNNER_HOST_TOKEN, 0600, line, strlen(line));
        if (r < 0)
                return say_failed(RUNNER_HOST_TOKEN, r);
        return token_parse(line, strlen(line), &host->token);
}

/* Where another queue was joined at another address before, that stays. */
int runner_host_make_listen(const char *address, unsigned port) {
        _cleanup_(freep) char *listen = NULL;
        _cleanup_(text_done) Text text = {};
        int r = make_folder("/etc/systemd/system/daggyr.socket.d", 0755);
        if (r < 0)
                return r;
        r = file_read_all(RUNNER_HOST_LISTEN, CONFIG_SIZE_MAX, &text);
        if (r == -ENOENT)
                r = text_append(&text,
                                "# Made by \"daggyctl join\"; \"daggyctl leave\" removes it.\n"
                                "[Socket]\nFreeBind=yes\n");
        if (r >= 0)
                r = listen_text(address, port, &listen);
        if (r >= 0)
                r = text_appendf(&text, "ListenStream=%s\n", listen);
        if (r >= 0)
                r = file_replace(RUNNER_HOST_LISTEN, 0644, text.data, text.size);
        return r < 0 ? say_failed(RUNNER_HOST_LISTEN, r) : 0;
}

static int remove_file(const char *path) {
        if (unlink(path) >= 0 || errno == ENOENT)
                return 0;
        int r = -errno;
        say("cannot remove %s: %s", path, strerror(-r));
        return r;
}

int runner_host_remove_token(void) {
        return remove_file(RUNNER_HOST_TOKEN);
}

int runner_host_remove_listen(void) {
        return remove_file(RUNNER_HOST_LISTEN);
}

int runner_host_restart(void) {
        int r = systemctl_run((const char *const[]) { "daemon-reload", NULL });
        if (r >= 0)
                r = systemctl_run((const char *const[]) { "stop", SERVICE, SOCKET, NULL });
        if (r >= 0)
                r = systemctl_run((const char *const[]) { "--quiet", "enable", "--now", SOCKET, NULL });
        if (r < 0)
                say("cannot start %s anew; see: systemctl status %s", SOCKET, SOCKET);
        return r;
}

int runner_host_disable(void) {
        int r = systemctl_run((const char *const[]) { "--quiet", "disable", "--now", SOCKET, NULL });
        if (r >= 0)
                r = systemctl_run((const char *const[]) { "stop", SERVICE, NULL });
        if (r < 0)
                say("cannot stop %s", SOCKET);
        return r;
}
