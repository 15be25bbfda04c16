/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/config/config-worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "core/config/config-service.h"
#include "core/http/token.h"
#include "core/scheduling/worker-id.h"

#define URL_SIZE_MAX 1024

void worker_config_done(WorkerConfig *worker) {
        free(worker->id);
        free(worker->url);
        free(worker->token);
        free(worker->token_file);
        free(worker->ca_file);
        free(worker->cert_file);
        free(worker->key_file);
        *worker = (WorkerConfig) {};
}

static bool copy_text(const char *text, char **ret) {
        *ret = text ? strdup(text) : NULL;
        return !text || *ret;
}

int worker_config_copy(const WorkerConfig *worker, WorkerConfig *ret) {
        *ret = (WorkerConfig) {};
        bool ok = copy_text(worker->id, &ret->id) && copy_text(worker->url, &ret->url) &&
                        copy_text(worker->token, &ret->token) &&
                        copy_text(worker->token_file, &ret->token_file) &&
                        copy_text(worker->ca_file, &ret->ca_file) &&
                        copy_text(worker->cert_file, &ret->cert_file) &&
                        copy_text(worker->key_file, &ret->key_file);
        return ok ? 0 : -ENOMEM;
}

/* What goes into URLs of requests is put behind it, so it ends with the port or the host. */
static int field_url(
                json_object *value,
                const JsonField *field,
                const char *field_path,
                void *target,
                Problem *reterr_problem) {
        int r = json_field_string(value, field, field_path, target, reterr_problem);
        if (r < 0)
                return r;
        char *url = *(char **) target;
        const char *host = text_after(url, "http://") ?: text_after(url, "https://");
        size_t size = host ? strlen(host) : 0;
        if (size > 0 && host[size - 1] == '/')
                url[strlen(url) - 1] = '\0';
        if (!host || !*host || strpbrk(host, "/?#@ \t\r\n"))
                return problem_set(
                                reterr_problem,
                                400,
                                field_path,
                                "must be http://host:port or https://host:port");
        return 0;
}

int worker_config_read(json_object *value, const char *path, WorkerConfig *ret, Problem *reterr_problem) {
        static const JsonField fields[] = {
                { "id", json_field_string, offsetof(WorkerConfig, id), true, 1, WORKER_ID_MAX },
                { "url", field_url, offsetof(WorkerConfig, url), true, 1, URL_SIZE_MAX },
                { "token_file",
                  json_field_string,
                  offsetof(WorkerConfig, token_file),
                  false,
                  1,
                  PATH_SIZE_MAX },
                { "ca_file", json_field_string, offsetof(WorkerConfig, ca_file), false, 1, PATH_SIZE_MAX },
                { "cert_file",
                  json_field_string,
                  offsetof(WorkerConfig, cert_file),
                  false,
                  1,
                  PATH_SIZE_MAX },
                { "key_file", json_field_string, offsetof(WorkerConfig, key_file), false, 1, PATH_SIZE_MAX },
                {},
        };
        return json_dispatch(value, fields, JSON_UNKNOWN_REFUSED, path, ret, reterr_problem);
}

static int field_token(
                json_object *value,
                const JsonField *field,
                const char *field_path,
                void *target,
                Problem *reterr_problem) {
        _cleanup_(freep) char *token = NULL;
        int r = json_field_string(value, field, field_path, target, reterr_problem);
        if (r < 0)
                return r;
        const char *text = *(char **) target;
        if (strchr(text, '\n') || token_parse(text, strlen(text), &token) < 0)
                return problem_set(
                                reterr_problem,
                                400,
                                field_path,
                                "must be %d to %d visible ASCII characters",
                                TOKEN_MIN,
                                TOKEN_MAX);
        return 0;
}

int worker_config_read_joining(json_object *body, WorkerConfig *ret, Problem *reterr_problem) {
        static const JsonField fields[] = {
                { "id", json_field_string, offsetof(WorkerConfig, id), true, 1, WORKER_ID_MAX },
                { "url", field_url, offsetof(WorkerConfig, url), true, 1, URL_SIZE_MAX },
                { "token", field_token, offsetof(WorkerConfig, token), false, TOKEN_MIN, TOKEN_MAX },
                {},
        };
        return json_dispatch(body, fields, JSON_UNKNOWN_REFUSED, "", ret, reterr_problem);
}
