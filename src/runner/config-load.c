/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/config-load.h"

#include <errno.h>
#include <syslog.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "io/accounts.h"
#include "service/config-file.h"

int runner_config_load(const char *path, RunnerConfig **ret) {
        _cleanup_(text_done) Text text = {};
        bool token_given;
        int r = config_file_read(PROGRAM_NAME, path, &text, &token_given);
        if (r < 0)
                return r;
        Problem problem = {};
        r = runner_config_parse(text.data ?: "", text.size, token_given, ret, &problem);
        if (r < 0)
                config_file_log_problem(path, &problem);
        return r;
}

int runner_config_check_account(
                const char *path,
                const RunnerConfig *config,
                int error,
                const Account *account) {
        if (error == -ENOENT) {
                log_line(LOG_ERR,
                         "%s: /task_user: there is no account \"%s\": create it (systemd-sysusers does, from the "
                         "file that comes with daggyr) or name another",
                         config_file_name(path),
                         config->task_user);
                return error;
        }
        if (error < 0)
                return log_errno(LOG_ERR, error, "Cannot look up the account \"%s\"", config->task_user);
        if (account->uid == geteuid() || account->uid == 0) {
                log_line(LOG_ERR,
                         "%s: /task_user: \"%s\" is an account that may talk to systemd, which tasks must not be",
                         config_file_name(path),
                         config->task_user);
                return -EPERM;
        }
        return 0;
}

int runner_config_check_task_user(const char *path, const RunnerConfig *config) {
        _cleanup_(account_done) Account account = {};
        int r = account_by_name(config->task_user, &account);
        return runner_config_check_account(path, config, r, &account);
}
