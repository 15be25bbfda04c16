/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "ctl/attempt.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "base/text.h"
#include "core/json/json.h"
#include "core/task/shell-status.h"
#include "core/text/amount-text.h"
#include "ctl/path.h"
#include "ctl/say.h"

#define POLL_SEC    60
#define MB_BYTES    UINT64_C(1048576)
#define NUMBER_SIZE 32

static int ask_for_task(
                Session *session,
                const char *method,
                const char *path,
                unsigned wait_sec,
                bool once,
                Answer *ret) {
        return session_ask(
                        session,
                        &(Ask) { .method = method,
                                 .path = path,
                                 .extra_usec = wait_sec * USEC_PER_SEC,
                                 .once = once },
                        ret);
}

int attempt_get(Session *session, const char *task_id, const char *output, Answer *ret) {
        _cleanup_(freep) char *path = NULL;
        if (path_format(&path, task_id, "?output=%s", output) < 0)
                return SHELL_STATUS_REFUSED;
        return ask_for_task(session, "GET", path, 0, false, ret);
}

/* As "wait" has it, which hears of the shutdown. */
int attempt_say_gone(const char *task_id) {
        say("%s is gone: its runner was restarted, which ends its tasks, or it was forgotten", task_id);
        return SHELL_STATUS_SIGNAL + SIGTERM;
}

int attempt_get_if_there(Session *session, const char *task_id, Answer *ret) {
        _cleanup_(freep) char *path = NULL;
        if (path_format(&path, task_id, "?output=none") < 0)
                return SHELL_STATUS_REFUSED;
        return session_ask(session, &(Ask) { .method = "GET", .path = path, .expected = 404 }, ret);
}

int attempt_get_submitted(Session *session, const char *task_id, Answer *ret) {
        int status = attempt_get_if_there(session, task_id, ret);
        return status == 0 && ret->status == 404 ? attempt_say_gone(task_id) : status;
}

int attempt_await(Session *session, const char *task_id, const char *output, usec_t when_usec, Answer *ret) {
        for (;;) {
                _cleanup_(freep) char *path = NULL;
                _cleanup_(answer_done) Answer answer = {};
                usec_t left_sec = usec_subtract(when_usec, usec_now(CLOCK_BOOTTIME)) / USEC_PER_SEC;
                unsigned wait_sec = left_sec < POLL_SEC ? (unsigned) left_sec + 1 : POLL_SEC;
                if (path_format(&path, task_id, "?wait=%u&output=%s", wait_sec, output) < 0)
                        return SHELL_STATUS_REFUSED;
                int status = ask_for_task(session, "GET", path, wait_sec, false, &answer);
                if (status != 0)
                        return status;
                if (!attempt_is_live(answer.json)) {
                        *ret = answer;
                        answer = (Answer) {};
                        return 0;
                }
                if (usec_now(CLOCK_BOOTTIME) >= when_usec) {
                        say("%s is still %s", task_id, member_text(answer.json, "state"));
                        return SHELL_STATUS_TIMEOUT;
                }
        }
}

int attempt_stop(Session *session, const char *task_id, Answer *ret) {
        _cleanup_(freep) char *path = NULL;
        if (path_format(&path, task_id, "%s", ATTEMPT_STOP_QUERY) < 0)
                return SHELL_STATUS_REFUSED;
        return ask_for_task(session, "DELETE", path, 0, false, ret);
}

int attempt_forget(Session *session, const char *task_id, Answer *ret) {
        _cleanup_(freep) char *path = NULL;
        if (path_format(&path, task_id, "%s", "") < 0)
                return SHELL_STATUS_REFUSED;
        return ask_for_task(session, "DELETE", path, 0, true, ret);
}

bool attempt_is_live(json_object *attempt) {
        const char *state = member_text(attempt, "state");
        return streq(state, "queued") || streq(state, "running");
}

size_t attempt_n_earlier(json_object *attempt) {
        return element_count(member(attempt, "attempts"));
}

void attempt_say_end(json_object *attempt) {
        const char *result = member_text(attempt, "result");
        json_object *notes = member(attempt, "executor");
        size_t n = element_count(notes);
        json_object *last = n > 0 ? element(notes, n - 1) : NULL;
        if (streq(result, "success") || streq(result, "exit-code"))
                return;
        say("%s: %s%s%s",
            member_text(attempt, "task_id"),
            *result ? result : "not finished",
            last ? ": " : "",
            last ? json_object_get_string(last) : "");
}

int attempt_state_text(json_object *attempt, char **ret) {
        const char *state = member_text(attempt, "state"), *result = member_text(attempt, "result");
        return *result ? text_format(ret, "%s (%s)", state, result) : text_format(ret, "%s", state);
}

int attempt_print_end(Session *session, const char *task_id, const Answer *answer) {
        _cleanup_(freep) char *state = NULL;
        _cleanup_(text_done) Text line = {};
        if (session->json)
                return session_print_json(session, answer);
        if (attempt_state_text(answer->json, &state) < 0 ||
            text_appendf(&line, "%s: %s\n", task_id, state) < 0 || print_bytes(line.data, line.size) < 0)
                return SHELL_STATUS_REFUSED;
        return 0;
}

/* As a shell reads it: between apostrophes nothing is special but the apostrophe itself, which stands
 * outside. */
static int append_quoted(Text *text, const char *argument) {
        int r = text_append(text, "'");
        for (const char *c = argument; r >= 0 && *c; c++)
                r = *c == '\'' ? text_append(text, "'\\''") : text_append_bytes(text, c, 1);
        return r < 0 ? r : text_append(text, "'");
}

/* What a terminal must not get is written in the form that bash, ksh and zsh read. */
static int append_escaped(Text *text, const char *argument) {
        int r = text_append(text, "$'");
        for (const char *c = argument; r >= 0 && *c; c++) {
                unsigned char byte = (unsigned char) *c;
                bool is_c1 = byte == 0xc2 && ((unsigned char) c[1] & 0xe0) == 0x80;
                if (*c == '\'' || *c == '\\')
                        r = text_appendf(text, "\\%c", *c);
                else if (*c == '\n' || *c == '\t')
                        r = text_append(text, *c == '\n' ? "\\n" : "\\t");
                else if (is_c1) {
                        r = text_appendf(text, "\\%03o\\%03o", byte, (unsigned char) c[1]);
                        c++;
                } else if (byte < ' ' || byte == 0x7f)
                        r = text_appendf(text, "\\%03o", byte);
                else
                        r = text_append_bytes(text, c, 1);
        }
        return r < 0 ? r : text_append(text, "'");
}

static bool has_controls(const char *s) {
        for (; *s; s++)
                if ((unsigned char) *s < ' ' || *s == 0x7f ||
                    ((unsigned char) *s == 0xc2 && ((unsigned char) s[1] & 0xe0) == 0x80))
                        return true;
        return false;
}

/* What can be pasted into a shell again. */
static int command_text(json_object *command, Text *ret) {
        int r = text_append(ret, "");
        for (size_t i = 0; r >= 0 && i < element_count(command); i++) {
                const char *argument = json_object_get_string(element(command, i)) ?: "";
                if (i > 0)
                        r = text_append(ret, " ");
                if (r >= 0 && has_controls(argument))
                        r = append_escaped(ret, argument);
                else if (r >= 0 && (!*argument || strpbrk(argument, " '\"\\$`|&;<>()*?[]{}~#!^=")))
                        r = append_quoted(ret, argument);
                else if (r >= 0)
                        r = text_append(ret, argument);
        }
        return r;
}

static void number_text(double number, char buffer[static NUMBER_SIZE]) {
        (void) snprintf(buffer, NUMBER_SIZE, "%.10g", number);
}

static bool time_of(json_object *attempt, const char *key, usec_t *ret) {
        return amount_parse_rfc3339(member_text(attempt, key), ret) >= 0;
}

/* How long it waits, runs or ran. */
static void span_text(json_object *attempt, usec_t now, char buffer[static AMOUNT_TEXT_SIZE]) {
        usec_t start, stop;
        if (!time_of(attempt, "start_time", &start) && !time_of(attempt, "submit_time", &start))
                start = stop = 0;
        else if (!time_of(attempt, "stop_time", &stop))
                stop = attempt_is_live(attempt) ? now : start;
        amount_format_span(usec_subtract(stop, start), buffer);
}

static const char *const headers[] = {
        "ID", "STATE", "RESULT", ">CORES", ">MEMORY", ">TIME", "WORKER", "COMMAND", NULL,
};
static const char *const wide_headers[] = {
        "ID",        "STATE",   "RESULT", ">CORES", ">MEMORY", ">TIME", "WORKER",
        "SUBMITTED", "STARTED", "EXIT",   "LABELS", "COMMAND", NULL,
};
static_assert(sizeof(wide_headers) / sizeof(*wide_headers) == ATTEMPT_COLUMNS_MAX + 1, "");

int attempt_table_new(bool wide, Table **ret) {
        return table_new(wide ? wide_headers : headers, ret);
}

const char *attempt_state_colour(const char *state) {
        static const struct {
                const char *state, *sequence;
        } rows[] = {
                { "running", "\033[36m" },
                { "completed", "\033[32m" },
                { "errored", "\033[31m" },
                { "killed", "\033[33m" },
        };
        for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
                if (streq(rows[i].state, state))
                        return rows[i].sequence;
        return NULL;
}

int attempt_table_add(Table *table, const AttemptCells *cells) {
        int r = table_add(table, (const char *const *) cells->texts);
        return r < 0 ? r : table_paint(table, 1, attempt_state_colour(cells->texts[1]));
}

void attempt_cells_done(AttemptCells *cells) {
        for (size_t i = 0; i < ATTEMPT_COLUMNS_MAX; i++)
                free(cells->texts[i]);
        *cells = (AttemptCells) {};
}

static int labels_text(json_object *labels, Text *ret) {
        int r = text_append(ret, "");
        if (r < 0 || !json_object_is_type(labels, json_type_object))
                return r;
        json_object_object_foreach(labels, key, value) {
                r = text_appendf(
                                ret,
                                "%s%s=%s",
                                ret->size > 0 ? "," : "",
                                key,
                                json_object_get_string(value) ?: "");
                if (r < 0)
                        return r;
        }
        /* One word in each column but the last. */
        for (char *c = ret->data; *c; c++)
                if (*c == ' ')
                        *c = '_';
        return 0;
}

int attempt_cells(json_object *attempt, bool wide, usec_t now_realtime_usec, AttemptCells *ret) {
        json_object *resources = member(attempt, "resources");
        char cores[NUMBER_SIZE], memory[AMOUNT_TEXT_SIZE], span[AMOUNT_TEXT_SIZE], status[NUMBER_SIZE] = "";
        _cleanup_(text_done) Text command = {}, labels = {};
        int r = command_text(member(attempt, "command"), &command);
        if (r >= 0)
                r = labels_text(member(attempt, "labels"), &labels);
        if (r < 0)
                return r;
        number_text(member_number(resources, "cores"), cores);
        amount_format_bytes((uint64_t) member_number(resources, "memory_mb") * MB_BYTES, memory);
        span_text(attempt, now_realtime_usec, span);
        if (member(attempt, "exit_code"))
                number_text(member_number(attempt, "exit_code"), status);
        for (char *c = span; *c; c++)
                if (*c == ' ')
                        memmove(c, c + 1, strlen(c));
        const char *const common[] = { member_text(attempt, "task_id"),
                                       member_text(attempt, "state"),
                                       member_text(attempt, "result"),
                                       cores,
                                       memory,
                                       span,
                                       member_text(attempt, "worker") };
        const char *const further[] = {
                member_text(attempt, "submit_time"), member_text(attempt, "start_time"), status, labels.data
        };
        size_t n = 0;
        for (size_t i = 0; r >= 0 && i < sizeof(common) / sizeof(*common); i++)
                r = (ret->texts[n++] = strdup(common[i])) ? 0 : -ENOMEM;
        for (size_t i = 0; r >= 0 && wide && i < sizeof(further) / sizeof(*further); i++)
                r = (ret->texts[n++] = strdup(further[i])) ? 0 : -ENOMEM;
        if (r >= 0)
                ret->texts[n] = TAKE_PTR(command.data);
        else
                attempt_cells_done(ret);
        return r;
}

static int add_line(Text *text, const char *name, const char *value) {
        if (!*value)
                return 0;
        int r = text_appendf(text, "%10s%s ", name, *name ? ":" : " ");
        if (r >= 0)
                r = text_append_printable(text, value, strlen(value), "");
        return r < 0 ? r : text_append(text, "\n");
}

static int add_pairs(Text *text, const char *name, json_object *object) {
        _cleanup_(text_done) Text line = {};
        if (!json_object_is_type(object, json_type_object))
                return 0;
        json_object_object_foreach(object, key, value) {
                int r = text_appendf(
                                &line,
                                "%s%s=%s",
                                line.size > 0 ? " " : "",
                                key,
                                json_object_get_string(value) ?: "");
                if (r < 0)
                        return r;
        }
        return line.size > 0 ? add_line(text, name, line.data) : 0;
}

static int add_result(Text *text, json_object *attempt) {
        _cleanup_(freep) char *state = NULL;
        _cleanup_(text_done) Text line = {};
        const char *signal_name = member_text(attempt, "signal");
        int r = attempt_state_text(attempt, &state);
        if (r >= 0)
                r = text_append(&line, state);
        if (r >= 0 && *signal_name)
                r = text_appendf(&line, ", by %s", signal_name);
        else if (r >= 0 && member(attempt, "exit_code"))
                r = text_appendf(&line, ", status %.0f", member_number(attempt, "exit_code"));
        return r < 0 ? r : add_line(text, "State", line.data);
}

static int add_span(Text *text, json_object *attempt) {
        char span[AMOUNT_TEXT_SIZE];
        span_text(attempt, usec_now(CLOCK_REALTIME), span);
        return add_line(text, streq(member_text(attempt, "state"), "queued") ? "Waits" : "Duration", span);
}

static int add_usage(Text *text, json_object *attempt) {
        json_object *usage = member(attempt, "usage");
        _cleanup_(text_done) Text line = {};
        char cpu[AMOUNT_TEXT_SIZE], peak[AMOUNT_TEXT_SIZE], in[AMOUNT_TEXT_SIZE], out[AMOUNT_TEXT_SIZE];
        if (!usage || attempt_is_live(attempt))
                return 0;
        amount_format_span((usec_t) (member_number(usage, "cpu_time") * (double) USEC_PER_SEC), cpu);
        amount_format_bytes((uint64_t) member_number(usage, "memory_peak"), peak);
        amount_format_bytes((uint64_t) member_number(usage, "io_read_bytes"), in);
        amount_format_bytes((uint64_t) member_number(usage, "io_write_bytes"), out);
        int r = text_appendf(
                        &line,
                        "CPU %s, memory peak %s, read %s, written %s, processes %.0f",
                        cpu,
                        peak,
                        in,
                        out,
                        member_number(usage, "tasks_peak"));
        return r < 0 ? r : add_line(text, "Usage", line.data);
}

/* "gpu=0,2" */
static int add_devices(Text *text, json_object *attempt) {
        _cleanup_(text_done) Text line = {};
        json_object *devices = member(attempt, "devices");
        if (!devices)
                return 0;
        json_object_object_foreach(devices, name, ids) {
                int r = text_appendf(&line, "%s%s=", line.size > 0 ? " " : "", name);
                for (size_t i = 0; r >= 0 && i < element_count(ids); i++)
                        r = text_appendf(
                                        &line,
                                        "%s%s",
                                        i > 0 ? "," : "",
                                        json_object_get_string(element(ids, i)));
                if (r < 0)
                        return r;
        }
        return line.size > 0 ? add_line(text, "Devices", line.data) : 0;
}

static int add_attempts(Text *text, json_object *attempt) {
        json_object *earlier = member(attempt, "attempts");
        for (size_t i = 0; i < element_count(earlier); i++) {
                _cleanup_(freep) char *line = NULL;
                json_object *one = element(earlier, i);
                if (text_format(&line,
                                "%s at %s",
                                member_text(one, "result"),
                                *member_text(one, "worker") ? member_text(one, "worker") : "-") < 0)
                        return -ENOMEM;
                int r = add_line(text, "Earlier", line);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int add_notes(Text *text, json_object *attempt) {
        json_object *notes = member(attempt, "executor");
        int r = 0;
        for (size_t i = 0; r >= 0 && i < element_count(notes); i++)
                r = add_line(text, i == 0 ? "Notes" : "", json_object_get_string(element(notes, i)) ?: "");
        return r;
}

/* The last ten lines, under a line that says what they are. */
static int add_stream(
                Text *text,
                json_object *attempt,
                const char *key,
                const char *bytes_key,
                const char *name) {
        const char *output = member_text(attempt, key);
        size_t begin = strlen(output), size = begin;
        char total[AMOUNT_TEXT_SIZE];
        if (size == 0)
                return 0;
        for (unsigned n_lines = 0; begin > 0; begin--)
                if (output[begin - 1] == '\n' && begin < size && ++n_lines == 10)
                        break;
        amount_format_bytes((uint64_t) member_number(attempt, bytes_key), total);
        int r = text_appendf(text, "\n%s (%s%s):\n", name, total, begin > 0 ? ", its end" : "");
        if (r >= 0)
                r = text_append_printable(text, output + begin, size - begin, "\n\t");
        if (r >= 0 && output[size - 1] != '\n')
                r = text_append(text, "\n");
        return r;
}

int attempt_print(json_object *attempt) {
        _cleanup_(text_done) Text text = {}, command = {};
        int r = command_text(member(attempt, "command"), &command);
        if (r >= 0)
                r = add_line(&text, "Task", member_text(attempt, "task_id"));
        if (r >= 0)
                r = add_line(&text, "Command", command.data);
        if (r >= 0)
                r = add_result(&text, attempt);
        if (r >= 0)
                r = add_line(&text, "Worker", member_text(attempt, "worker"));
        if (r >= 0)
                r = add_line(&text, "Unit", member_text(attempt, "unit"));
        if (r >= 0)
                r = add_pairs(&text, "Resources", member(attempt, "resources"));
        if (r >= 0)
                r = add_devices(&text, attempt);
        if (r >= 0)
                r = add_pairs(&text, "Labels", member(attempt, "labels"));
        if (r >= 0)
                r = add_line(&text, "Submitted", member_text(attempt, "submit_time"));
        if (r >= 0)
                r = add_line(&text, "Started", member_text(attempt, "start_time"));
        if (r >= 0)
                r = add_line(&text, "Stopped", member_text(attempt, "stop_time"));
        if (r >= 0)
                r = add_span(&text, attempt);
        if (r >= 0)
                r = add_usage(&text, attempt);
        if (r >= 0)
                r = add_attempts(&text, attempt);
        if (r >= 0)
                r = add_notes(&text, attempt);
        if (r >= 0)
                r = add_stream(&text, attempt, "output", "output_bytes", "Output");
        if (r >= 0)
                r = add_stream(&text, attempt, "error", "error_bytes", "Errors");
        return r < 0 ? r : print_bytes(text.data, text.size);
}
