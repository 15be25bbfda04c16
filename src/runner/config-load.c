/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/config-load.h"

#include <stdio.h>
#include <syslog.h>

#include "base/log.h"
#include "base/text.h"
#include "core/token.h"
#include "io/accounts.h"
#include "io/file.h"

#define TOKEN_CREDENTIAL "daggyr.token"

/* The path of the credential, NULL when the unit passes none; the caller frees it. */
static int credential_path(char **ret) {
        const char *directory = getenv("CREDENTIALS_DIRECTORY");
        *ret = NULL;
        if (!directory)
                return 0;
        _cleanup_(freep) char *path = NULL;
        if (asprintf(&path, "%s/" TOKEN_CREDENTIAL, directory) < 0) {
                path = NULL;
                return -ENOMEM;
        }
        if (access(path, F_OK) >= 0)
                *ret = TAKE_PTR(path);
        return 0;
}

static const char *config_name(const char *path) {
        return path ?: "default configuration";
}

int runner_config_load(const char *path, RunnerConfig **ret) {
        _cleanup_(text_done) Text text = {};
        _cleanup_(freep) char *credential = NULL;
        int r = credential_path(&credential);
        if (r >= 0 && path)
                r = file_read_all(path, CONFIG_SIZE_MAX, &text);
        if (r < 0)
                return log_errno(LOG_ERR, r, "Cannot read %s", path);
        Problem problem = {};
        r = runner_config_parse(text.data ?: "", text.size, credential != NULL, ret, &problem);
        if (r >= 0 && (*ret)->service.tls_cert) {
                *ret = runner_config_free(*ret);
                r = problem_set(&problem, 501, "/tls", "HTTPS is not served yet");
        }
        if (r < 0)
                log_line(LOG_ERR,
                         "%s: %s%s%s",
                         config_name(path),
                         problem.field,
                         *problem.field ? ": " : "",
                         problem.detail);
        return r;
}

int runner_config_check_task_user(const char *path, const RunnerConfig *config) {
        _cleanup_(account_done) Account account = {};
        int r = account_by_name(config->task_user, &account);
        if (r == -ENOENT) {
                log_line(LOG_ERR,
                         "%s: /task_user: there is no account \"%s\": create it (systemd-sysusers does, from the "
                         "file that comes with daggyr) or name another",
                         config_name(path),
                         config->task_user);
                return r;
        }
        if (r < 0)
                return log_errno(LOG_ERR, r, "Cannot look up the account \"%s\"", config->task_user);
        if (account.uid == geteuid() || account.uid == 0) {
                log_line(LOG_ERR,
                         "%s: /task_user: \"%s\" is an account that may talk to systemd, which tasks must not be",
                         config_name(path),
                         config->task_user);
                return -EPERM;
        }
        return 0;
}

int runner_token_load(const RunnerConfig *config, char **ret) {
        _cleanup_(freep) char *credential = NULL;
        int r = credential_path(&credential);
        if (r < 0)
                return r;
        const char *path = config->service.auth_token_file ?: credential;
        *ret = NULL;
        if (!path)
                return 0;
        _cleanup_(text_done) Text text = {};
        r = file_read_all(path, TOKEN_MAX + 1, &text);
        if (r < 0)
                return log_errno(LOG_ERR, r, "Cannot read the token file %s", path);
        r = token_parse(text.data, text.size, ret);
        if (r < 0)
                return log_errno(
                                LOG_ERR,
                                r,
                                "%s: must be one line of %d to %d visible characters",
                                path,
                                TOKEN_MIN,
                                TOKEN_MAX);
        return 0;
}
