/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/task-journal.h"

#include <inttypes.h>
#include <stdio.h>
#include <syslog.h>

#include "base/text.h"
#include "runner/runner.h"

/* Explained in units/daggyr.catalog. */
#define MESSAGE_ID_TASK_STARTED  "f1c6f0a3a5a84c41a5d3c4e8a6fb0e11"
#define MESSAGE_ID_TASK_FINISHED "9b0d6e3c4f0f4a0f9f3e57c7a3f2d7c2"

typedef struct Priority {
        char text[2];
} Priority;

static Priority priority_text(int priority) {
        return (Priority) { { (char) ('0' + priority), '\0' } };
}

/* The program's name as journalctl shows it. */
static const char *task_identifier(const Task *task) {
        const char *program = task->spec->command[0];
        if (!program || !*program)
                return "daggyr";
        const char *slash = strrchr(program, '/');
        return slash && slash[1] ? slash + 1 : program;
}

static int entry_begin(Text *entry, const Task *task, const char *identifier, int priority) {
        int r = journal_entry_add_string(entry, "PRIORITY", priority_text(priority).text);
        if (r >= 0)
                r = journal_entry_add_string(entry, "SYSLOG_IDENTIFIER", identifier);
        if (r >= 0)
                r = journal_entry_add_string(entry, "DAGGYR_TASK_ID", task->spec->task_id);
        if (r >= 0)
                r = journal_entry_add_string(entry, "DAGGYR_UNIT", task->unit);
        return r;
}

/* The lease it was accepted under, which may have ended since. */
static int entry_add_lease(Text *entry, const Task *task) {
        char epoch[24], accepted[USEC_RFC3339_SIZE];
        if (!task->queue)
                return 0;
        usec_format_rfc3339(task->submit_usec, accepted);
        (void) snprintf(epoch, sizeof(epoch), "%" PRIu64, task->lease_epoch);
        int r = journal_entry_add_string(entry, "DAGGYR_QUEUE", task->queue);
        if (r >= 0)
                r = journal_entry_add_string(entry, "DAGGYR_LEASE_EPOCH", epoch);
        return r < 0 ? r : journal_entry_add_string(entry, "DAGGYR_SUBMIT_TIME", accepted);
}

/* A log must not hold up a task: what cannot be handed over now is dropped, and counted. */
static void entry_send(Task *task, const Text *entry) {
        if (!task->leader || leader_process_feed(task->leader, entry->data, entry->size) < 0)
                task->journal.rate.n_dropped++;
}

static void task_journal_flush(Task *task) {
        if (task->leader)
                leader_process_flush(task->leader);
}

/* RESULT is NULL while there is none. */
static void message_send(
                Task *task,
                int priority,
                const char *message_id,
                const char *result,
                const char *message) {
        if (!task->runner->config->journal)
                return;
        _cleanup_(text_done) Text entry = {};
        int r = entry_begin(&entry, task, "daggyr", priority);
        if (r >= 0)
                r = journal_entry_add_string(&entry, "MESSAGE_ID", message_id);
        if (r >= 0)
                r = entry_add_lease(&entry, task);
        if (r >= 0 && result)
                r = journal_entry_add_string(&entry, "DAGGYR_RESULT", result);
        if (r >= 0)
                r = journal_entry_add_string(&entry, "MESSAGE", message);
        if (r >= 0)
                entry_send(task, &entry);
        task_journal_flush(task);
}

void task_journal_started(Task *task) {
        _cleanup_(freep) char *message = NULL;
        if (text_format(&message, "Started task %s: %s", task->spec->task_id, task->spec->command[0]) >= 0)
                message_send(task, LOG_INFO, MESSAGE_ID_TASK_STARTED, NULL, message);
}

typedef struct LineContext {
        Task *task;
        TaskStream stream;
} LineContext;

static void on_line(const char *line, size_t size, void *userdata) {
        const LineContext *context = userdata;
        Task *task = context->task;
        if (!journal_rate_take(&task->journal.rate, size, usec_now(CLOCK_MONOTONIC)))
                return;
        _cleanup_(text_done) Text entry = {};
        bool is_error = context->stream == TASK_STREAM_ERROR;
        int r = entry_begin(&entry, task, task_identifier(task), is_error ? LOG_NOTICE : LOG_INFO);
        if (r >= 0)
                r = journal_entry_add_string(&entry, "DAGGYR_STREAM", is_error ? "stderr" : "stdout");
        if (r >= 0)
                r = journal_entry_add(&entry, "MESSAGE", line, size);
        if (r >= 0)
                entry_send(task, &entry);
        else
                task->journal.rate.n_dropped++;
}

void task_journal_output(Task *task, TaskStream stream, const char *bytes, size_t size) {
        if (!task->runner->config->journal)
                return;
        LineContext context = { .task = task, .stream = stream };
        LineSplitter *splitter = stream == TASK_STREAM_ERROR ? &task->journal.error : &task->journal.output;
        if (size > 0)
                line_splitter_feed(splitter, bytes, size, on_line, &context);
        else
                line_splitter_flush(splitter, on_line, &context);
        task_journal_flush(task);
}

void task_journal_finished(Task *task) {
        TaskResult result = task_result_decide(&task->end);
        _cleanup_(freep) char *dropped = NULL, *message = NULL;
        if (task->journal.rate.n_dropped > 0 &&
            text_format(&dropped,
                        "; %" PRIu64 " lines of its output not logged",
                        task->journal.rate.n_dropped) < 0)
                return;
        if (text_format(&message,
                        "Task %s ended: %s, %.3f s CPU, %.1f MB memory at most%s",
                        task->spec->task_id,
                        task_result_to_string(result),
                        (double) task->usage.cpu_usec / (double) USEC_PER_SEC,
                        (double) task->usage.memory_peak_bytes / (1024.0 * 1024.0),
                        dropped ?: "") < 0)
                return;
        message_send(task,
                     result == TASK_RESULT_SUCCESS ? LOG_INFO : LOG_NOTICE,
                     MESSAGE_ID_TASK_FINISHED,
                     task_result_to_string(result),
                     message);
}
