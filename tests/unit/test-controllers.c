/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <string.h>

#include "core/task/controllers.h"
#include "test.h"

static void each_missing_controller_is_named(void **state) {
        static const struct {
                const char *label, *names, *missing[CONTROLLER_WARNINGS_MAX];
        } rows[] = {
                { "all", "cpuset cpu io memory hugetlb pids rdma misc\n", {} },
                { "as Debian delegates to users", "cpu memory pids\n", {} },
                { "as older systemd did", "memory pids\n", { "cpu" } },
                { "none", "", { "cpu", "memory", "pids" } },
                { "an empty line", "\n", { "cpu", "memory", "pids" } },
                { "names that only begin or end alike", "cpuset xmemory pid", { "cpu", "memory", "pids" } },
                { "last without a newline", "pids cpu\tmemory", {} },
        };
        for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
                const char *warnings[CONTROLLER_WARNINGS_MAX];
                size_t n = controllers_warnings(rows[i].names, warnings), n_missing = 0;

                for (; n_missing < CONTROLLER_WARNINGS_MAX && rows[i].missing[n_missing]; n_missing++)
                        check_true(rows[i].label,
                                   n_missing < n && strstr(warnings[n_missing], rows[i].missing[n_missing]));
                check_true(rows[i].label, n == n_missing);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_missing_controller_is_named),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
