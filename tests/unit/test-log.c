/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "test.h"

/* What LOG writes in a process of its own, in which stderr is a pipe; AS_JOURNAL pretends that the journal
 * reads it. */
static void capture(void (*log)(void), bool as_journal, char *output, size_t size) {
        int fds[2], status;
        ssize_t n;
        pid_t pid;

        assert_int_equal(pipe(fds), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                char stream[64];
                struct stat st;

                if (fstat(fds[1], &st) < 0 || dup2(fds[1], STDERR_FILENO) < 0)
                        _exit(1);
                (void) snprintf(stream,
                                sizeof(stream),
                                "%ju:%ju",
                                (uintmax_t) st.st_dev,
                                (uintmax_t) st.st_ino + !as_journal);
                (void) setenv("JOURNAL_STREAM", stream, 1);
                log();
                _exit(0);
        }

        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        (void) close(fds[1]);
        n = read(fds[0], output, size - 1);
        assert_true(n >= 0);
        output[n] = '\0';
        (void) close(fds[0]);
}

static void log_two_lines(void) {
        log_line(LOG_INFO, "hello %d", 1);
        log_line(LOG_ERR, "world");
}

static void priorities_are_for_the_journal_only(void **state) {
        char output[4096];

        capture(log_two_lines, true, output, sizeof(output));
        assert_string_equal(output, "<6>hello 1\n<3>world\n");
        capture(log_two_lines, false, output, sizeof(output));
        assert_string_equal(output, "hello 1\nworld\n");
}

static void log_errors(void) {
        errno = EINTR;
        if (log_errno(LOG_ERR, -ENOENT, "Cannot open %s", "x") != -ENOENT)
                log_line(LOG_ERR, "wrong errno");
        if (log_errno(LOG_ERR, EACCES, "Cannot open %s", "y") != -EACCES)
                log_line(LOG_ERR, "wrong errno");
        if (errno != EINTR)
                log_line(LOG_ERR, "errno changed");
}

static void errors_are_named_and_returned_negative(void **state) {
        char output[4096];

        capture(log_errors, false, output, sizeof(output));
        assert_string_equal(
                        output,
                        "Cannot open x: No such file or directory\nCannot open y: Permission denied\n");
}

static void log_controls(void) {
        log_line(LOG_ERR, "a\n<0>b\x1b[2J\x7f\t%s", "é\xc2\x9b.");
}

static void control_characters_are_replaced(void **state) {
        char output[4096];

        capture(log_controls, true, output, sizeof(output));
        assert_string_equal(output, "<3>a?<0>b?[2J??é??.\n");
}

static void log_much(void) {
        char message[5000];

        memset(message, 'x', sizeof(message) - 1);
        message[sizeof(message) - 1] = '\0';
        log_line(LOG_ERR, "%s", message);
        (void) log_errno(LOG_ERR, ENOENT, "%s", message);
}

static void long_messages_are_cut_and_stay_lines(void **state) {
        char output[16384], *second;

        capture(log_much, false, output, sizeof(output));
        second = strchr(output, '\n');
        assert_non_null(second);
        assert_true(second - output > 2000);
        assert_int_equal(output[strlen(output) - 1], '\n');
        assert_int_equal(strlen(second + 1), second - output + 1);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(priorities_are_for_the_journal_only),
                cmocka_unit_test(errors_are_named_and_returned_negative),
                cmocka_unit_test(control_characters_are_replaced),
                cmocka_unit_test(long_messages_are_cut_and_stay_lines),
        };

        return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
