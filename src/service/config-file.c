/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "service/config-file.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "core/http/token.h"
#include "io/file.h"

/* The path of the credential, NULL when the unit passes none; the caller frees it. */
static int credential_path(const char *program, char **ret) {
        const char *directory = getenv("CREDENTIALS_DIRECTORY");
        *ret = NULL;
        if (!directory)
                return 0;
        _cleanup_(freep) char *path = NULL;
        if (text_format(&path, "%s/%s.token", directory, program) < 0)
                return -ENOMEM;
        if (access(path, F_OK) >= 0)
                *ret = TAKE_PTR(path);
        return 0;
}

const char *config_file_default_path(const char *program) {
        static char path[sizeof(CONFIG_FILE_DEFAULT) + 32];
        int n = snprintf(path, sizeof(path), CONFIG_FILE_DEFAULT, program);
        assert(n > 0 && (size_t) n < sizeof(path));
        return path;
}

const char *config_file_name(const char *path) {
        return path ?: "default configuration";
}

int config_file_read(const char *program, const char *path, Text *ret, bool *ret_token_given) {
        _cleanup_(freep) char *credential = NULL;
        int r = credential_path(program, &credential);
        if (r >= 0 && path)
                r = file_read_all(path, CONFIG_SIZE_MAX, ret);
        if (r == -ENOENT && streq(path, config_file_default_path(program)))
                r = 0;
        if (r < 0)
                return log_errno(LOG_ERR, r, "Cannot read %s", config_file_name(path));
        *ret_token_given = credential != NULL;
        return 0;
}

void config_file_log_problem(const char *path, const Problem *problem) {
        log_line(LOG_ERR,
                 "%s: %s%s%s",
                 config_file_name(path),
                 problem->field,
                 *problem->field ? ": " : "",
                 problem->detail);
}

int config_file_read_token(const char *program, const ServiceConfig *config, char **ret) {
        _cleanup_(freep) char *credential = NULL;
        int r = credential_path(program, &credential);
        if (r < 0)
                return r;
        const char *path = config->auth_token_file ?: credential;
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
