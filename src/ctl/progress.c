/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "ctl/progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "base/text.h"
#include "ctl/say.h"
#include "ctl/terminal.h"

#define IN_PLACE_USEC (100 * USEC_PER_MSEC)
#define LINE_USEC     (10 * USEC_PER_SEC)

static void show_in_place(Progress *progress, const char *text) {
        _cleanup_(text_done) Text line = {};
        size_t width = terminal_width(STDERR_FILENO), size = strlen(text);
        if (width > 0 && size >= width)
                size = text_cut(text, width - 1);
        if (text_append(&line, "\r") >= 0 && text_append_printable(&line, text, size, "") >= 0 &&
            text_append(&line, "\033[K") >= 0)
                (void) !write(STDERR_FILENO, line.data, line.size);
        progress->shown = true;
}

void progress_tell(Progress *progress, bool forced, const char *format, ...) {
        bool in_place = isatty(STDERR_FILENO);
        usec_t now = usec_now(CLOCK_BOOTTIME);
        if (progress->told_usec == 0 && !in_place)
                progress->told_usec = now; /* what is quick is not worth a line */
        if (!(forced && in_place) && now - progress->told_usec < (in_place ? IN_PLACE_USEC : LINE_USEC))
                return;
        _cleanup_(freep) char *text = NULL;
        va_list arguments;
        va_start(arguments, format);
        int r = text_vformat(&text, format, arguments);
        va_end(arguments);
        if (r < 0)
                return;
        progress->told_usec = now;
        if (in_place)
                show_in_place(progress, text);
        else
                say("%s", text);
}

void progress_clear(Progress *progress) {
        if (progress->shown)
                (void) !write(STDERR_FILENO, "\r\033[K", 4);
        progress->shown = false;
}
