/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <string.h>

#include "core/config/worker-plan.h"
#include "test.h"

static PresentWorker of_file = { "a", "http://a", NULL, WORKER_FROM_FILE, false };
static PresentWorker file_leaving = { "a", "http://a", NULL, WORKER_FROM_FILE, true };
static PresentWorker joined = { "a", "http://a", NULL, WORKER_JOINED, false };
static PresentWorker joined_leaving = { "a", "http://a", NULL, WORKER_JOINED, true };
static PresentWorker other = { "b", "http://b", NULL, WORKER_JOINED, false };
static PresentWorker other_leaving = { "b", "http://b", NULL, WORKER_FROM_FILE, true };

static PresentWorker just_moved = { "a", "http://a", "http://before", WORKER_JOINED, false };
static PresentWorker just_moved_from_b = { "a", "http://a", "http://b", WORKER_JOINED, false };
static PresentWorker other_was_there = { "b", "http://c", "http://b", WORKER_JOINED, false };

static WorkerConfig same = { .id = (char *) "a", .url = (char *) "http://a" };
static WorkerConfig moved = { .id = (char *) "a", .url = (char *) "http://b" };

static void the_file_adds_takes_over_moves_and_gives_up(void **state) {
        static const struct {
                const PresentWorker *present;
                const WorkerConfig *wanted;
                const PresentWorker *at_url;
                WorkerStep step;
        } rows[] = {
                { NULL, &same, NULL, WORKER_STEP_ADD },
                { &of_file, &same, &of_file, WORKER_STEP_SET },
                { &file_leaving, &same, &file_leaving, WORKER_STEP_SET },
                { &joined, &same, &joined, WORKER_STEP_SET },
                { &of_file, &moved, NULL, WORKER_STEP_MOVE },
                { &joined, &moved, NULL, WORKER_STEP_MOVE },
                { &of_file, NULL, NULL, WORKER_STEP_LEAVE },
                { &file_leaving, NULL, NULL, WORKER_STEP_KEEP },
                { &joined, NULL, NULL, WORKER_STEP_KEEP },
                { &joined_leaving, NULL, NULL, WORKER_STEP_KEEP },
                { NULL, &moved, &other, WORKER_STEP_WAIT },
                { &of_file, &moved, &other_leaving, WORKER_STEP_WAIT },
                { &of_file, &moved, &other_was_there, WORKER_STEP_WAIT },
                { &just_moved, &moved, NULL, WORKER_STEP_WAIT },
                { &just_moved, &same, &just_moved, WORKER_STEP_SET },
                { &just_moved_from_b, &moved, &just_moved_from_b, WORKER_STEP_MOVE },
        };
        for (FOREACH_ROW(row, rows))
                assert_int_equal(worker_plan_file(row->present, row->wanted, row->at_url), row->step);
}

static void who_joins_is_added_changed_or_refused(void **state) {
        static const struct {
                const PresentWorker *present;
                const WorkerConfig *wanted;
                const PresentWorker *at_url;
                int step;
                const char *field;
        } rows[] = {
                { NULL, &same, NULL, WORKER_STEP_ADD, "" },
                { &joined, &same, &joined, WORKER_STEP_SET, "" },
                { &joined_leaving, &same, &joined_leaving, WORKER_STEP_SET, "" },
                { &joined, &moved, NULL, WORKER_STEP_MOVE, "" },
                { &file_leaving, &same, &file_leaving, WORKER_STEP_SET, "" },
                { &of_file, &same, &of_file, -EEXIST, "/id" },
                { &of_file, &moved, NULL, -EEXIST, "/id" },
                { NULL, &moved, &other, -EEXIST, "/url" },
                { &joined, &moved, &other_leaving, -EEXIST, "/url" },
                { &joined, &moved, &other_was_there, -EEXIST, "/url" },
                { &just_moved, &moved, NULL, -EAGAIN, "" },
                { &just_moved_from_b, &moved, &just_moved_from_b, WORKER_STEP_MOVE, "" },
        };
        for (FOREACH_ROW(row, rows)) {
                Problem problem = {};
                int step = worker_plan_join(row->present, row->wanted, row->at_url, &problem);
                assert_int_equal(step, row->step);
                assert_string_equal(problem.field, row->field);
                assert_int_equal(problem.status, step == -EAGAIN ? 503 : step < 0 ? 409 : 0);
        }
}

static void only_what_the_file_does_not_have_can_leave(void **state) {
        static const struct {
                const PresentWorker *present;
                int status;
        } rows[] = {
                { NULL, 404 },  { &of_file, 409 },      { &file_leaving, 0 },
                { &joined, 0 }, { &joined_leaving, 0 },
        };
        for (FOREACH_ROW(row, rows)) {
                Problem problem = {};
                int step = worker_plan_leave(row->present, &problem);
                assert_int_equal(problem.status, row->status);
                assert_int_equal(step < 0, row->status != 0);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_file_adds_takes_over_moves_and_gives_up),
                cmocka_unit_test(who_joins_is_added_changed_or_refused),
                cmocka_unit_test(only_what_the_file_does_not_have_can_leave),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
