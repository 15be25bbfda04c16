/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* daggyr: command line, configuration, the loop, the exit code. */

#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <syslog.h>
#include <systemd/sd-daemon.h>

#include "base/log.h"
#include "base/text.h"
#include "core/json.h"
#include "io/loop.h"
#include "runner/config-load.h"
#include "runner/runner.h"

#define SERVICE_ACCOUNT "daggyr"

typedef enum Scope {
        SCOPE_AUTOMATIC,
        SCOPE_SYSTEM,
        SCOPE_USER,
} Scope;

static const char *arg_config;
static bool arg_daemonize, arg_check;
static Scope arg_scope;

static void print_help(void) {
        (void) printf("daggyr [OPTION…]\n\n"
                      "Runs tasks for other machines, each in a systemd scope of its own.\n\n"
                      "  -c, --config=FILE  read the configuration from FILE (JSON)\n"
                      "  -d, --daemonize    go to the background; returns when daggyr is ready\n"
                      "      --system       use the system's service manager\n"
                      "      --user         use the calling user's service manager\n"
                      "                     (default: --system for root and the account \"daggyr\")\n"
                      "      --check        check the configuration, print the capacity, exit\n"
                      "  -V, --version      print the version\n"
                      "  -h, --help         print this help\n");
}

/* 1 to go on, 0 when all is done, negative when the command line is wrong. */
static int parse_arguments(int argc, char *argv[]) {
        enum {
                ARG_SYSTEM = 0x100,
                ARG_USER,
                ARG_CHECK,
        };
        static const struct option options[] = {
                { "config", required_argument, NULL, 'c' },  { "daemonize", no_argument, NULL, 'd' },
                { "system", no_argument, NULL, ARG_SYSTEM }, { "user", no_argument, NULL, ARG_USER },
                { "check", no_argument, NULL, ARG_CHECK },   { "version", no_argument, NULL, 'V' },
                { "help", no_argument, NULL, 'h' },          {},
        };
        for (int c; (c = getopt_long(argc, argv, "c:dVh", options, NULL)) >= 0;)
                switch (c) {
                case 'c':
                        arg_config = optarg;
                        break;
                case 'd':
                        arg_daemonize = true;
                        break;
                case ARG_SYSTEM:
                        arg_scope = SCOPE_SYSTEM;
                        break;
                case ARG_USER:
                        arg_scope = SCOPE_USER;
                        break;
                case ARG_CHECK:
                        arg_check = true;
                        break;
                case 'V':
                        (void) printf("daggyr %s\n", VERSION);
                        return 0;
                case 'h':
                        print_help();
                        return 0;
                default: /* getopt has said what is wrong */
                        return -EINVAL;
                }
        if (optind < argc) {
                (void) fprintf(stderr, "daggyr: unexpected argument \"%s\"\n", argv[optind]);
                return -EINVAL;
        }
        return 1;
}

static bool is_user_mode(void) {
        if (arg_scope != SCOPE_AUTOMATIC)
                return arg_scope == SCOPE_USER;
        if (geteuid() == 0)
                return false;
        _cleanup_(account_done) Account account = {};
        return account_by_name(SERVICE_ACCOUNT, &account) < 0 || account.uid != geteuid();
}

static int print_capacity(const Runner *runner) {
        _cleanup_(json_putp) json_object *object = NULL;
        if (resources_to_json(&runner->pool.total, &object) < 0)
                return -ENOMEM;
        return printf("%s\n", json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN)) < 0 ? -EIO : 0;
}

/* Where a daemonized daggyr tells the process that started it that it is ready. */
typedef struct Startup {
        Runner *runner;
        int ready_fd;
} Startup;

static void detach(int *ready_fd) {
        int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        for (int fd = STDIN_FILENO; null_fd >= 0 && fd <= STDERR_FILENO; fd++)
                (void) dup2(null_fd, fd);
        fd_close(&null_fd);
        (void) !chdir("/"); /* only now: the configuration may have been named relative to where we were */
        (void) !write(*ready_fd, "", 1);
        fd_close(ready_fd);
}

static void on_ready(void *userdata) {
        Startup *startup = userdata;
        if (arg_check) {
                (void) sd_event_exit(startup->runner->event, print_capacity(startup->runner) < 0);
                return;
        }
        if (startup->runner->port > 0)
                log_line(LOG_INFO,
                         "Listening on %s port %u",
                         startup->runner->config->service.ip,
                         startup->runner->port);
        (void) sd_notify(false, "READY=1");
        if (startup->ready_fd >= 0)
                detach(&startup->ready_fd);
}

/* So that SIGHUP finds the file again wherever the daemon is by then. */
static int make_config_path_absolute(void) {
        if (!arg_config)
                return 0;
        static char absolute[PATH_MAX];
        if (!realpath(arg_config, absolute))
                return log_errno(LOG_ERR, errno, "Cannot read %s", arg_config);
        arg_config = absolute;
        return 0;
}

static int run(int ready_fd) {
        _cleanup_(runner_config_freep) RunnerConfig *config = NULL;
        int r = make_config_path_absolute();
        if (r >= 0)
                r = runner_config_load(arg_config, &config);
        if (r < 0)
                return r;
        bool user_mode = is_user_mode();
        if (!user_mode)
                r = runner_config_check_task_user(arg_config, config);
        if (r < 0)
                return r;

        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(runner_freep) Runner *runner = NULL;
        Startup startup = { .ready_fd = ready_fd };
        r = loop_new(&event);
        if (r >= 0)
                r = runner_new(event, arg_config, TAKE_PTR(config), user_mode, on_ready, &startup, &runner);
        if (r < 0)
                return log_errno(LOG_ERR, r, "Cannot set up");
        startup.runner = runner;
        r = arg_check ? runner_check(runner) : runner_start(runner);
        if (r < 0)
                return r;
        r = sd_event_loop(event);
        if (r < 0)
                return log_errno(LOG_ERR, r, "The event loop failed");
        return r;
}

/* The process that was started waits until its child is ready or has failed. */
static int wait_for_child(int ready_fd) {
        char byte;
        ssize_t n;
        do
                n = read(ready_fd, &byte, 1);
        while (n < 0 && errno == EINTR);
        return n == 1 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Returns only in the process that is to be the daemon, with the descriptor to report to. */
static int daemonize(void) {
        int fds[2];
        if (pipe2(fds, O_CLOEXEC) < 0)
                return log_errno(LOG_ERR, errno, "Cannot daemonize");
        pid_t pid = fork();
        if (pid < 0)
                return log_errno(LOG_ERR, errno, "Cannot daemonize");
        if (pid > 0) {
                (void) close(fds[1]);
                _exit(wait_for_child(fds[0]));
        }
        (void) close(fds[0]);
        if (setsid() < 0)
                return log_errno(LOG_ERR, errno, "Cannot daemonize");
        return fds[1];
}

int main(int argc, char *argv[]) {
        int r = parse_arguments(argc, argv);
        if (r <= 0)
                return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
        int ready_fd = -EBADF;
        if (arg_daemonize && !arg_check) {
                ready_fd = daemonize();
                if (ready_fd < 0)
                        return EXIT_FAILURE;
        }
        return run(ready_fd) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
