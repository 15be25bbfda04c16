/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "service/command-line.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "io/accounts.h"
#include "service/config-file.h"

typedef enum Scope {
        SCOPE_AUTOMATIC,
        SCOPE_SYSTEM,
        SCOPE_USER,
} Scope;

static void print_help(const Program *program) {
        (void) printf("%s [OPTION…]\n\n"
                      "%s\n\n"
                      "  -c, --config=FILE  read the configuration from FILE (JSON)\n"
                      "                     (default with --system, where it exists:\n"
                      "                     " CONFIG_FILE_DEFAULT ")\n"
                      "  -d, --daemonize    go to the background; returns when %s is ready\n"
                      "      --system       use the system's service manager\n"
                      "      --user         use the calling user's service manager\n"
                      "                     (default: --system for root and the account \"%s\")\n"
                      "      --check        %s\n"
                      "  -V, --version      print the version\n"
                      "  -h, --help         print this help\n",
                      program->name,
                      program->description,
                      program->name,
                      program->name,
                      program->account,
                      program->check);
}

static bool is_user_mode(const Program *program, Scope scope) {
        if (scope != SCOPE_AUTOMATIC)
                return scope == SCOPE_USER;
        if (geteuid() == 0)
                return false;
        _cleanup_(account_done) Account account = {};
        return account_by_name(program->account, &account) < 0 || account.uid != geteuid();
}

static int parse_options(const Program *program, int argc, char *argv[], CommandLine *ret, Scope *ret_scope) {
        enum {
                ARG_SYSTEM = 0x100,
                ARG_USER,
                ARG_CHECK,
                ARG_CHECK_STATE,
        };
        static const struct option options[] = {
                { "config", required_argument, NULL, 'c' },
                { "daemonize", no_argument, NULL, 'd' },
                { "system", no_argument, NULL, ARG_SYSTEM },
                { "user", no_argument, NULL, ARG_USER },
                { "check", no_argument, NULL, ARG_CHECK },
                { "version", no_argument, NULL, 'V' },
                { "help", no_argument, NULL, 'h' },
                { "check-state", no_argument, NULL, ARG_CHECK_STATE },
                {},
        };
        for (int c; (c = getopt_long(argc, argv, "c:dVh", options, NULL)) >= 0;)
                switch (c) {
                case 'c':
                        ret->config_path = optarg;
                        ret->config_is_named = true;
                        break;
                case 'd':
                        ret->daemonize = true;
                        break;
                case ARG_SYSTEM:
                        *ret_scope = SCOPE_SYSTEM;
                        break;
                case ARG_USER:
                        *ret_scope = SCOPE_USER;
                        break;
                case ARG_CHECK:
                        ret->check = true;
                        break;
                case ARG_CHECK_STATE:
                        if (!program->takes_over) {
                                (void) fprintf(stderr, "%s: takes over no state\n", program->name);
                                return -EINVAL;
                        }
                        ret->check_state = true;
                        break;
                case 'V':
                        (void) printf("%s %s\n", program->name, VERSION);
                        return 0;
                case 'h':
                        print_help(program);
                        return 0;
                default: /* getopt has said what is wrong */
                        return -EINVAL;
                }
        return 1;
}

/* Processes that are executed from here on are not to take it for theirs. */
static int take_state_fd(void) {
        const char *number = getenv(STATE_FD_VARIABLE);
        uint64_t fd;
        int r = number ? text_parse_u64(number, 3, INT_MAX, &fd) : -ENOENT;
        (void) unsetenv(STATE_FD_VARIABLE);
        return r < 0 ? -EBADF : (int) fd;
}

int command_line_parse(const Program *program, int argc, char *argv[], CommandLine *ret) {
        Scope scope = SCOPE_AUTOMATIC;
        *ret = (CommandLine) { .state_fd = -EBADF, .arguments = argv };
        int r = parse_options(program, argc, argv, ret, &scope);
        if (r <= 0)
                return r;
        if (optind < argc) {
                (void) fprintf(stderr, "%s: unexpected argument \"%s\"\n", program->name, argv[optind]);
                return -EINVAL;
        }
        if (program->takes_over && !ret->check && !ret->check_state)
                ret->state_fd = take_state_fd();
        /* Whom sockets were passed to, and nobody else, is to serve them: a child could not. */
        bool is_passed_sockets = sd_listen_fds(false) > 0;
        ret->daemonize &= !ret->check && !ret->check_state && ret->state_fd < 0 && !is_passed_sockets;
        ret->user_mode = is_user_mode(program, scope);
        if (!ret->config_is_named && !ret->user_mode)
                ret->config_path = config_file_default_path(program->name);
        return 1;
}

int command_line_resolve_config(CommandLine *command_line) {
        if (!command_line->config_is_named)
                return 0;
        static char absolute[PATH_MAX];
        if (!realpath(command_line->config_path, absolute))
                return log_errno(LOG_ERR, errno, "Cannot read %s", command_line->config_path);
        command_line->config_path = absolute;
        return 0;
}
