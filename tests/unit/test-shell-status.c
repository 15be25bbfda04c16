/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <signal.h>

#include "core/task/shell-status.h"
#include "test.h"

static void every_end_has_its_status(void **state) {
        static const struct {
                const char *attempt;
                int status;
        } rows[] = {
                { "{\"result\":\"success\",\"exit_code\":0,\"signal\":null}", 0 },
                { "{\"result\":\"exit-code\",\"exit_code\":3,\"signal\":null}", 3 },
                { "{\"result\":\"exit-code\",\"exit_code\":255,\"signal\":null}", 255 },
                { "{\"result\":\"exit-code\",\"exit_code\":256}", 125 }, /* never 0 for what failed */
                { "{\"result\":\"exit-code\"}", 125 },
                { "{\"result\":\"signal\",\"exit_code\":-1,\"signal\":\"SIGSEGV\"}", 139 },
                { "{\"result\":\"core-dump\",\"exit_code\":-1,\"signal\":\"SIGABRT\"}", 134 },
                { "{\"result\":\"oom-kill\",\"exit_code\":1,\"signal\":null}", 137 },
                { "{\"result\":\"timeout\",\"exit_code\":-1,\"signal\":\"SIGTERM\"}", 124 },
                { "{\"result\":\"stopped\",\"exit_code\":-1,\"signal\":\"SIGKILL\"}", 137 },
                { "{\"result\":\"stopped\",\"exit_code\":0,\"signal\":null}", 143 },
                { "{\"result\":\"canceled\",\"exit_code\":null,\"signal\":null}", 143 },
                { "{\"result\":\"shutdown\",\"signal\":null}", 143 },
                { "{\"result\":\"exec-failed\"}", 126 },
                { "{\"result\":\"start-failed\"}", 125 },
                { "{\"result\":\"worker-lost\"}", 125 },
                { "{\"result\":null}", 125 },
                { "{\"result\":\"what is this\"}", 125 },
                { "{}", 125 },
        };
        for (FOREACH_ROW(row, rows)) {
                _cleanup_(json_putp) json_object *attempt = json_of(row->attempt);
                check_int(row->attempt, shell_status_of_attempt(attempt), row->status);
        }
}

static void signals_are_known_by_every_name(void **state) {
        static const struct {
                const char *name;
                int number;
        } rows[] = {
                { "SIGTERM", SIGTERM }, { "SIGKILL", SIGKILL }, { "SIG40", 40 },
                { "SIGX", 0 },          { "TERM", 0 },          { "", 0 },
                { "SIG0", 0 },          { "SIG65", 0 },
        };
        for (FOREACH_ROW(row, rows))
                check_int(row->name, shell_signal_number(row->name), row->number);
        check_int("SIGRTMIN+3", shell_signal_number("SIGRTMIN+3"), SIGRTMIN + 3);
        check_int("SIGRTMIN+99", shell_signal_number("SIGRTMIN+99"), 0);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_end_has_its_status),
                cmocka_unit_test(signals_are_known_by_every_name),
        };
        return cmocka_run_group_tests_name("shell-status", tests, NULL, NULL);
}
