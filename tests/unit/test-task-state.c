/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdio.h>

#include "base/text.h"
#include "core/task/task-state.h"
#include "test.h"

static void every_pair_of_state_and_event_follows_the_diagram(void **state) {
        enum {
                NO = -EPROTO
        };
        static const int next[_TASK_STATE_MAX][_TASK_EVENT_MAX] = {
                /* admitted, postponed, canceled, spawned, released, started, start failed, main exited,
                   leader lost, undone, gone */
                [TASK_QUEUED] = { TASK_SPAWNING, NO, TASK_FINISHED, NO, NO, NO, NO, NO, NO, NO, NO },
                [TASK_SPAWNING] = { NO, TASK_QUEUED, NO, TASK_PARKED, NO, NO, TASK_ENDING, NO, NO, NO, NO },
                [TASK_PARKED] = { NO, NO, NO, NO, TASK_RELEASED, NO, TASK_ENDING, NO, TASK_UNDOING, NO, NO },
                [TASK_UNDOING] = { NO, NO, NO, NO, NO, NO, TASK_ENDING, NO, NO, TASK_SPAWNING, NO },
                [TASK_RELEASED] = { NO, NO, NO, NO, NO, TASK_RUNNING, TASK_ENDING, NO, NO, NO, NO },
                [TASK_RUNNING] = { NO, NO, NO, NO, NO, NO, NO, TASK_ENDING, TASK_ENDING, NO, NO },
                [TASK_ENDING] = { NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, TASK_FINISHED },
                [TASK_FINISHED] = { NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO },
        };

        for (int s = 0; s < _TASK_STATE_MAX; s++)
                for (int e = 0; e < _TASK_EVENT_MAX; e++) {
                        char label[64];

                        (void) snprintf(label, sizeof(label), "state %d, event %d", s, e);
                        check_int(label, task_state_next((TaskState) s, (TaskEvent) e), next[s][e]);
                }
}

static void states_and_events_that_do_not_exist_lead_nowhere(void **state) {
        check_int("state", task_state_next(_TASK_STATE_MAX, TASK_EVENT_GONE), -EPROTO);
        check_int("event", task_state_next(TASK_QUEUED, _TASK_EVENT_MAX), -EPROTO);
}

static void the_end_of_a_task_is_judged_in_order(void **state) {
        static const struct {
                const char *label;
                TaskEnd end;
                TaskResult result;
        } rows[] = {
                { "nothing known", { 0 }, TASK_RESULT_CANCELED },
                { "stopped in the queue", { .stop = STOP_REQUESTED }, TASK_RESULT_CANCELED },
                { "shutdown in the queue", { .stop = STOP_SHUTDOWN }, TASK_RESULT_CANCELED },

                { "exit 0", { .admitted = true, .main_exited = true }, TASK_RESULT_SUCCESS },
                { "exit 1",
                  { .admitted = true, .main_exited = true, .exit_code = 1 },
                  TASK_RESULT_EXIT_CODE },
                { "exit 255",
                  { .admitted = true, .main_exited = true, .exit_code = 255 },
                  TASK_RESULT_EXIT_CODE },
                { "signal", { .admitted = true, .main_exited = true, .signal = 9 }, TASK_RESULT_SIGNAL },
                { "core dump",
                  { .admitted = true, .main_exited = true, .signal = 11, .core_dumped = true },
                  TASK_RESULT_CORE_DUMP },
                { "exit not seen", { .admitted = true }, TASK_RESULT_SIGNAL },

                { "main process killed for memory",
                  { .admitted = true, .main_exited = true, .signal = 9, .oom_kills = 1 },
                  TASK_RESULT_OOM_KILL },
                { "some other process killed for memory",
                  { .admitted = true, .main_exited = true, .oom_kills = 1 },
                  TASK_RESULT_OOM_KILL },
                { "another process killed for memory, and the main one failed of it",
                  { .admitted = true, .main_exited = true, .exit_code = 2, .oom_kills = 3 },
                  TASK_RESULT_OOM_KILL },
                { "the leader itself killed for memory",
                  { .admitted = true, .oom_kills = 1 },
                  TASK_RESULT_OOM_KILL },

                { "no scope", { .admitted = true, .start_error = ENOMEM }, TASK_RESULT_START_FAILED },
                { "no such program", { .admitted = true, .exec_error = ENOENT }, TASK_RESULT_EXEC_FAILED },
                { "exec failure beats what became of the leader",
                  { .admitted = true, .exec_error = E2BIG, .oom_kills = 1 },
                  TASK_RESULT_EXEC_FAILED },
                { "stop before the scope failed",
                  { .admitted = true, .stop = STOP_REQUESTED, .start_error = ECANCELED },
                  TASK_RESULT_STOPPED },
                { "timeout before exec failed",
                  { .admitted = true, .stop = STOP_TIMEOUT, .exec_error = ENOENT },
                  TASK_RESULT_TIMEOUT },

                { "stopped by request",
                  { .admitted = true, .stop = STOP_REQUESTED, .main_exited = true, .signal = 15 },
                  TASK_RESULT_STOPPED },
                { "stopped, and exited in good order",
                  { .admitted = true, .stop = STOP_REQUESTED, .main_exited = true },
                  TASK_RESULT_STOPPED },
                { "timeout",
                  { .admitted = true, .stop = STOP_TIMEOUT, .main_exited = true, .signal = 9 },
                  TASK_RESULT_TIMEOUT },
                { "timeout, then out of memory while ending",
                  { .admitted = true,
                    .stop = STOP_TIMEOUT,
                    .main_exited = true,
                    .signal = 9,
                    .oom_kills = 1 },
                  TASK_RESULT_TIMEOUT },
                { "timeout, exit not seen", { .admitted = true, .stop = STOP_TIMEOUT }, TASK_RESULT_TIMEOUT },
                { "shutdown",
                  { .admitted = true, .stop = STOP_SHUTDOWN, .main_exited = true, .exit_code = 1 },
                  TASK_RESULT_SHUTDOWN },
        };

        for (FOREACH_ROW(row, rows))
                check_int(row->label, task_result_decide(&row->end), row->result);
}

static void only_a_stop_that_comes_before_the_end_counts(void **state) {
        static const struct {
                const char *label;
                TaskEnd end;
                StopReason stop;
                TaskResult result;
        } rows[] = {
                { "running", { .admitted = true }, STOP_TIMEOUT, TASK_RESULT_TIMEOUT },
                { "waiting", { 0 }, STOP_TIMEOUT, TASK_RESULT_CANCELED },
                { "leftovers of a success",
                  { .admitted = true, .main_exited = true },
                  STOP_NONE,
                  TASK_RESULT_SUCCESS },
                { "leftovers of a failure",
                  { .admitted = true, .main_exited = true, .exit_code = 3 },
                  STOP_NONE,
                  TASK_RESULT_EXIT_CODE },
                { "already out of memory",
                  { .admitted = true, .main_exited = true, .signal = 9, .oom_kills = 1 },
                  STOP_NONE,
                  TASK_RESULT_OOM_KILL },
                { "no such program",
                  { .admitted = true, .exec_error = ENOENT },
                  STOP_NONE,
                  TASK_RESULT_EXEC_FAILED },
                { "no scope", { .admitted = true, .start_error = EIO }, STOP_NONE, TASK_RESULT_START_FAILED },
                { "stopped before",
                  { .admitted = true, .stop = STOP_REQUESTED },
                  STOP_REQUESTED,
                  TASK_RESULT_STOPPED },
        };

        for (FOREACH_ROW(row, rows)) {
                TaskEnd end = row->end;

                task_end_stop(&end, STOP_TIMEOUT);
                check_int(row->label, end.stop, row->stop);
                check_int(row->label, task_result_decide(&end), row->result);
        }
}

static void a_stop_is_remembered_when_the_end_follows(void **state) {
        TaskEnd end = { .admitted = true };

        task_end_stop(&end, STOP_REQUESTED);
        end.main_exited = true;
        end.signal = 15;
        task_end_stop(&end, STOP_SHUTDOWN);

        check_int("first reason", task_result_decide(&end), TASK_RESULT_STOPPED);
}

static void results_have_the_names_that_clients_know(void **state) {
        static const struct {
                const char *name;
                TaskResult result;
                const char *state;
        } rows[] = {
                { "success", TASK_RESULT_SUCCESS, "completed" },
                { "exit-code", TASK_RESULT_EXIT_CODE, "errored" },
                { "signal", TASK_RESULT_SIGNAL, "errored" },
                { "core-dump", TASK_RESULT_CORE_DUMP, "errored" },
                { "oom-kill", TASK_RESULT_OOM_KILL, "errored" },
                { "exec-failed", TASK_RESULT_EXEC_FAILED, "errored" },
                { "start-failed", TASK_RESULT_START_FAILED, "errored" },
                { "timeout", TASK_RESULT_TIMEOUT, "killed" },
                { "stopped", TASK_RESULT_STOPPED, "killed" },
                { "canceled", TASK_RESULT_CANCELED, "killed" },
                { "shutdown", TASK_RESULT_SHUTDOWN, "killed" },
        };

        check_int("all but none", N_ELEMENTS(rows), _TASK_RESULT_MAX - 1);
        for (FOREACH_ROW(row, rows)) {
                check_text(row->name, task_result_to_string(row->result), row->name);
                check_text(row->name, task_state_public(TASK_FINISHED, row->result), row->state);
                check_int(row->name, task_result_killed(row->result), streq(row->state, "killed"));
        }
}

static void a_live_task_has_no_result(void **state) {
        assert_null(task_result_to_string(TASK_RESULT_NONE));
        assert_false(task_result_killed(TASK_RESULT_NONE));
        check_text("queued", task_state_public(TASK_QUEUED, TASK_RESULT_NONE), "queued");
        check_text("spawning", task_state_public(TASK_SPAWNING, TASK_RESULT_NONE), "queued");
        check_text("starting", task_state_public(TASK_PARKED, TASK_RESULT_NONE), "running");
        check_text("running", task_state_public(TASK_RUNNING, TASK_RESULT_NONE), "running");
        check_text("ending", task_state_public(TASK_ENDING, TASK_RESULT_NONE), "running");
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_pair_of_state_and_event_follows_the_diagram),
                cmocka_unit_test(states_and_events_that_do_not_exist_lead_nowhere),
                cmocka_unit_test(the_end_of_a_task_is_judged_in_order),
                cmocka_unit_test(only_a_stop_that_comes_before_the_end_counts),
                cmocka_unit_test(a_stop_is_remembered_when_the_end_follows),
                cmocka_unit_test(results_have_the_names_that_clients_know),
                cmocka_unit_test(a_live_task_has_no_result),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
