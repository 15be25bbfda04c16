/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* daggyr: configuration, the loop, the exit code. */

#include <stdio.h>
#include <syslog.h>

#include "base/log.h"
#include "base/text.h"
#include "core/json/json.h"
#include "io/loop.h"
#include "runner/config-load.h"
#include "runner/runner.h"
#include "runner/upgrade.h"
#include "service/startup.h"

static const Program program = {
        .name = PROGRAM_NAME,
        .description = "Runs tasks for other machines, each in a systemd scope of its own.",
        .check = "check the configuration, print the capacity, exit",
        .account = "daggyr",
        .takes_over = true,
};

static int print_capacity(const Runner *runner) {
        _cleanup_(json_putp) json_object *object = NULL;
        if (resources_to_json(&runner->pool.total, &object) < 0)
                return -ENOMEM;
        return printf("%s\n", json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN)) < 0 ? -EIO : 0;
}

typedef struct Startup {
        Runner *runner;
        bool check;
        int ready_fd; /* where a daemonized daggyr reports to */
} Startup;

static void on_ready(void *userdata) {
        Startup *startup = userdata;
        if (startup->check) {
                (void) sd_event_exit(startup->runner->daemon.event, print_capacity(startup->runner) < 0);
                return;
        }
        if (startup->runner->daemon.port > 0)
                log_line(LOG_INFO,
                         "Listening on %s port %u",
                         startup->runner->daemon.config.ip,
                         startup->runner->daemon.port);
        startup_report_ready(&startup->ready_fd);
}

/* What is executed from here on inherits none of its descriptors. */
static int take_state(int fd, Text *block, RunnerState *ret) {
        Problem problem = {};
        int r = upgrade_read_state(fd, block, ret, &problem);
        if (r < 0) {
                log_line(LOG_ERR, "Cannot go on from the state that was handed over: %s", problem.detail);
                return r;
        }
        r = state_set_inherited(ret, false);
        return r < 0 ? log_errno(LOG_ERR, r, "Not all descriptors were handed over") : 0;
}

static int run(CommandLine *command_line, int ready_fd) {
        _cleanup_(runner_config_freep) RunnerConfig *config = NULL;
        int r = command_line_resolve_config(command_line);
        const char *config_path = command_line->config_path;
        if (r < 0)
                return r;
        if (command_line->check_state)
                return upgrade_check_state(command_line);
        r = runner_config_load(config_path, &config);
        if (r >= 0 && !command_line->user_mode)
                r = runner_config_check_task_user(config_path, config);
        if (r < 0)
                return r;

        _cleanup_(text_done) Text block = {};
        _cleanup_(runner_state_done) RunnerState state = {};
        bool goes_on = command_line->state_fd >= 0;
        if (goes_on)
                r = take_state(TAKE_FD(command_line->state_fd), &block, &state);
        if (r < 0)
                return r;

        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(runner_freep) Runner *runner = NULL;
        Startup startup = { .check = command_line->check, .ready_fd = ready_fd };
        r = loop_new(&event);
        if (r >= 0)
                r = runner_new(event,
                               command_line,
                               TAKE_PTR(config),
                               goes_on ? &state : NULL,
                               on_ready,
                               &startup,
                               &runner);
        if (r < 0)
                return log_errno(LOG_ERR, r, "Cannot set up");
        startup.runner = runner;
        r = command_line->check ? runner_check(runner) : runner_start(runner);
        if (r < 0)
                return r;
        r = sd_event_loop(event);
        if (r < 0)
                return log_errno(LOG_ERR, r, "The event loop failed");
        return r;
}

int main(int argc, char *argv[]) {
        return startup_main(&program, run, argc, argv);
}
