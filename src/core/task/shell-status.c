/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/task/shell-status.h"

#include <signal.h>
#include <string.h>

#include "base/text.h"

int shell_signal_number(const char *name) {
        const char *rest = text_after(name, "SIG");
        uint64_t number;
        if (!rest)
                return 0;
        for (int i = 1; i < SIGRTMIN; i++) {
                const char *abbreviation = sigabbrev_np(i);
                if (abbreviation && streq(rest, abbreviation))
                        return i;
        }
        const char *offset = text_after(rest, "RTMIN+");
        if (offset)
                return text_parse_u64(offset, 0, (uint64_t) (SIGRTMAX - SIGRTMIN), &number) < 0 ?
                                0 :
                                SIGRTMIN + (int) number;
        return text_parse_u64(rest, 1, (uint64_t) SIGRTMAX, &number) < 0 ? 0 : (int) number;
}

static const char *text_member(json_object *object, const char *key) {
        json_object *value;
        bool found = json_object_object_get_ex(object, key, &value) &&
                        json_object_is_type(value, json_type_string);
        return found ? json_object_get_string(value) : "";
}

int shell_status_of_attempt(json_object *attempt) {
        static const struct {
                const char *result;
                int status; /* 0: the signal's, or 143 without one */
        } rows[] = {
                { "exec-failed", SHELL_STATUS_NOT_EXECUTED },
                { "start-failed", SHELL_STATUS_REFUSED },
                { "worker-lost", SHELL_STATUS_REFUSED },
                { "timeout", SHELL_STATUS_TIMEOUT },
                { "oom-kill", SHELL_STATUS_SIGNAL + SIGKILL },
                { "signal", 0 },
                { "core-dump", 0 },
                { "stopped", 0 },
                { "canceled", 0 },
                { "shutdown", 0 },
        };
        const char *result = text_member(attempt, "result");
        json_object *code;
        if (streq(result, "success"))
                return 0;
        if (streq(result, "exit-code") && json_object_object_get_ex(attempt, "exit_code", &code))
                return json_object_get_int(code) & 0xff ?: SHELL_STATUS_REFUSED;
        for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
                if (streq(result, rows[i].result))
                        return rows[i].status ?:
                                                SHELL_STATUS_SIGNAL +
                                                        (shell_signal_number(text_member(attempt, "signal")) ?:
                                                                         SIGTERM);
        return SHELL_STATUS_REFUSED;
}
