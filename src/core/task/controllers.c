/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/task/controllers.h"

#include <stdbool.h>
#include <string.h>

#define SPACE " \t\n"

static bool is_among(const char *names, const char *wanted) {
        size_t length = strlen(wanted);
        for (const char *p = names + strspn(names, SPACE); *p; p += strspn(p, SPACE)) {
                size_t n = strcspn(p, SPACE);
                if (n == length && memcmp(p, wanted, n) == 0)
                        return true;
                p += n;
        }
        return false;
}

size_t controllers_warnings(const char *names, const char *ret[static CONTROLLER_WARNINGS_MAX]) {
        static const struct {
                const char *controller, *warning;
        } rows[CONTROLLER_WARNINGS_MAX] = {
                { "cpu", "no cpu controller: cores are counted, but nothing keeps a task from using more" },
                { "memory",
                  "no memory controller: memory_mb is counted, but nothing keeps a task from using more" },
                { "pids", "no pids controller: tasks_max has no effect" },
        };
        size_t n = 0;
        for (size_t i = 0; i < CONTROLLER_WARNINGS_MAX; i++)
                if (!is_among(names, rows[i].controller))
                        ret[n++] = rows[i].warning;
        return n;
}
