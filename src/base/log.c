/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <syslog.h>
#include <unistd.h>

#include "base/text.h"

/* A longer message is cut: a line is written at once, and memory may be short when there is one to write. */
#define LOG_MESSAGE_SIZE 2048

/* JOURNAL_STREAM names the socket that the service manager gave us as stderr; it is inherited, so only
 * a stderr that still is that socket counts. */
static bool stderr_is_journal(void) {
        const char *stream = getenv("JOURNAL_STREAM");
        char expected[sizeof("18446744073709551615:18446744073709551615")];
        struct stat st;

        if (!stream || fstat(STDERR_FILENO, &st) < 0)
                return false;

        (void) snprintf(expected, sizeof(expected), "%ju:%ju", (uintmax_t) st.st_dev, (uintmax_t) st.st_ino);
        return streq(stream, expected);
}

/* Control characters could forge lines and priorities, or reprogram a terminal. */
static void replace_controls(char *message) {
        for (char *c = message; *c; c++)
                if ((unsigned char) *c < 0x20 || *c == 0x7f)
                        *c = '?';
                else if ((unsigned char) c[0] == 0xc2 && ((unsigned char) c[1] & 0xe0) == 0x80) {
                        c[0] = '?'; /* U+0080…U+009F */
                        c[1] = '?';
                }
}

static void log_message(int level, char message[static LOG_MESSAGE_SIZE]) {
        static int with_prefix = -1;
        char prefix[sizeof("<0>")] = "";
        struct iovec line[3];
        ssize_t n;

        if (with_prefix < 0)
                with_prefix = stderr_is_journal();
        if (with_prefix)
                (void) snprintf(prefix, sizeof(prefix), "<%u>", (unsigned) level & LOG_PRIMASK);

        message[text_cut(message, LOG_MESSAGE_SIZE - 2)] = '\0';
        replace_controls(message);

        line[0] = (struct iovec) { prefix, strlen(prefix) };
        line[1] = (struct iovec) { message, strlen(message) };
        line[2] = (struct iovec) { (char[]) { '\n' }, 1 };
        do
                n = writev(STDERR_FILENO, line, 3);
        while (n < 0 && errno == EINTR);
}

void log_line(int level, const char *format, ...) {
        char message[LOG_MESSAGE_SIZE];
        int saved_errno = errno;
        va_list arguments;

        va_start(arguments, format);
        (void) vsnprintf(message, sizeof(message), format, arguments);
        va_end(arguments);
        log_message(level, message);
        errno = saved_errno;
}

int log_errno(int level, int error, const char *format, ...) {
        char message[LOG_MESSAGE_SIZE], reason[128];
        int saved_errno = errno, n;
        va_list arguments;

        error = abs(error);
        va_start(arguments, format);
        n = vsnprintf(message, sizeof(message), format, arguments);
        va_end(arguments);
        if (n >= 0 && (size_t) n < sizeof(message))
                (void) snprintf(message + n,
                                sizeof(message) - (size_t) n,
                                ": %s",
                                strerror_r(error, reason, sizeof(reason)));
        log_message(level, message);
        errno = saved_errno;
        return -error;
}
