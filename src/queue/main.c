/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* daggyd: configuration, the loop, the exit code. */

#include <errno.h>
#include <stdio.h>
#include <syslog.h>

#include "base/log.h"
#include "io/loop.h"
#include "queue/config-load.h"
#include "queue/database-check.h"
#include "queue/queue.h"
#include "service/startup.h"

static const Program program = {
        .name = PROGRAM_NAME,
        .description = "Keeps tasks, and sends each to the runner where it takes the smallest share.",
        .check = "check the configuration and the database, print the number of workers, exit",
        .account = "daggyd",
};

static int check(const QueueConfig *config) {
        int r = config->postgres.conninfo ? database_check(&config->postgres) : 0;
        if (r < 0)
                return r;
        return printf("%zu workers\n", config->n_workers) < 0 ? -EIO : 0;
}

/* Returns only when it fails. */
static int begin_anew(const Queue *queue, const CommandLine *command_line) {
        char *arguments[] = {
                command_line->arguments[0],
                (char *) (command_line->user_mode ? "--user" : "--system"),
                (char *) (command_line->config_is_named ? "--config" : NULL),
                (char *) command_line->config_path,
                NULL,
        };
        int r = daemon_begin_anew(&queue->daemon, arguments);
        return log_errno(LOG_ERR, r, "Cannot begin anew");
}

static int run(CommandLine *command_line, int ready_fd) {
        _cleanup_(queue_config_freep) QueueConfig *config = NULL;
        int r = command_line_resolve_config(command_line);
        if (r >= 0)
                r = queue_config_load(command_line->config_path, &config);
        if (r < 0)
                return r;
        if (command_line->check)
                return check(config);

        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(queue_freep) Queue *queue = NULL;
        r = loop_new(&event);
        if (r < 0)
                return log_errno(LOG_ERR, r, "Cannot set up");
        r = queue_new(event, command_line->config_path, TAKE_PTR(config), command_line->user_mode, &queue);
        if (r >= 0)
                r = queue_start(queue);
        if (r < 0)
                return r;
        log_line(LOG_INFO, "This queue is %s, version %s", queue->address, queue_version(queue));
        startup_report_ready(&ready_fd);
        r = sd_event_loop(event);
        if (r < 0)
                return log_errno(LOG_ERR, r, "The event loop failed");
        return queue->begins_anew && !queue->daemon.stopping ? begin_anew(queue, command_line) : r;
}

int main(int argc, char *argv[]) {
        return startup_main(&program, run, argc, argv);
}
