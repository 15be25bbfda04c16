/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/task-order.h"

#include "base/text.h"
#include "runner/runner.h"

#define DEFAULT_SHELL "/bin/sh"
#define TASK_PATH     "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* How soon a client may ask again that was told that the name service is silent. */
#define NAME_SERVICE_RETRY_SEC 5

const char *task_account_name(const Runner *runner, const char *user) {
        if (runner->daemon.user_mode)
                return NULL;
        if (!user)
                return runner->config->task_user;
        return streq(user, runner->config->task_user) || text_list_has(runner->config->allowed_users, user) ?
                        user :
                        NULL;
}

static int own_account(const Runner *runner, const TaskSpec *spec, Account *ret, Problem *problem) {
        if (spec->user && !streq(spec->user, runner->daemon_account.name))
                return problem_set(problem, 403, "/user", "this runner runs all tasks as its own user");
        return account_copy(&runner->daemon_account, ret);
}

int task_account(const Runner *runner, const TaskSpec *spec, Account *ret, Problem *reterr_problem) {
        if (runner->daemon.user_mode)
                return own_account(runner, spec, ret, reterr_problem);
        const char *name = task_account_name(runner, spec->user);
        if (!name)
                return problem_set(reterr_problem, 403, "/user", "this runner runs no tasks as that user");
        int r = task_accounts_get(runner->accounts, name, ret);
        if (r == -ENOENT)
                return problem_set(
                                reterr_problem, 422, "/user", "there is no user \"%s\" on this host", name);
        if (r == -ETIMEDOUT || r == -EINPROGRESS) {
                (void) problem_set_for_now(
                                reterr_problem,
                                503,
                                NAME_SERVICE_RETRY_SEC,
                                "the host's name service has not said yet who the user is");
                return r;
        }
        return r < 0 ? problem_from_errno(reterr_problem, r) : 0;
}

bool task_account_is_settled(const Runner *runner, const TaskSpec *spec) {
        _cleanup_(account_done) Account account = {};
        const char *name = task_account_name(runner, spec->user);
        if (!name) /* one's own user, or none that is allowed any more */
                return true;
        if (!task_accounts_is_fresh(runner->accounts, name))
                return false;
        int r = task_accounts_get(runner->accounts, name, &account);
        return r >= 0 || r == -ENOENT;
}

/* Sets NAME, replacing an earlier value. */
static int environment_set(char ***environment, const char *name, size_t name_length, const char *value) {
        _cleanup_(freep) char *entry = NULL;
        if (text_format(&entry, "%.*s=%s", (int) name_length, name, value) < 0)
                return -ENOMEM;
        for (char **set = *environment; set && *set; set++)
                if (strncmp(*set, entry, name_length + 1) == 0) {
                        free(*set);
                        *set = TAKE_PTR(entry);
                        return 0;
                }
        return text_list_append(environment, entry);
}

/* ENTRIES are of the form "NAME=value". */
static int environment_add(char ***environment, char *const *entries) {
        int r = 0;
        for (; r >= 0 && entries && *entries; entries++) {
                size_t name_length = strcspn(*entries, "=");
                r = environment_set(environment, *entries, name_length, *entries + name_length + 1);
        }
        return r;
}

/* Programs start $SHELL to run commands, which an account may do that cannot log in. */
static const char *account_shell(const Account *account) {
        static const char *const refusals[] = { "nologin", "false", "true" };
        const char *slash = strrchr(account->shell, '/');
        for (size_t i = 0; slash && i < sizeof(refusals) / sizeof(*refusals); i++)
                if (streq(slash + 1, refusals[i]))
                        return DEFAULT_SHELL;
        return *account->shell ? account->shell : DEFAULT_SHELL;
}

static int set_base(char ***environment, const TaskSpec *spec, const char *unit, const Account *account) {
        const char *const base[][2] = {
                { "PATH", TASK_PATH },
                { "HOME", account->home },
                { "USER", account->name },
                { "LOGNAME", account->name },
                { "SHELL", account_shell(account) },
                { "LANG", "C.UTF-8" },
                { "DAGGYR_TASK_ID", spec->task_id },
                { "DAGGYR_UNIT", unit },
        };
        for (size_t i = 0; i < sizeof(base) / sizeof(*base); i++) {
                int r = environment_set(environment, base[i][0], strlen(base[i][0]), base[i][1]);
                if (r < 0)
                        return r;
        }
        return 0;
}

int task_environment(
                const Runner *runner,
                const TaskSpec *spec,
                const char *unit,
                const Account *account,
                char *const *devices,
                char ***ret) {
        _cleanup_(text_list_freep) char **environment = NULL;
        int r = set_base(&environment, spec, unit, account);
        for (char **name = runner->config->pass_environment; r >= 0 && *name; name++) {
                const char *value = getenv(*name);
                if (value)
                        r = environment_set(&environment, *name, strlen(*name), value);
        }
        if (r >= 0)
                r = environment_add(&environment, spec->environment);
        if (r >= 0)
                r = environment_add(&environment, devices);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(environment);
        return 0;
}
