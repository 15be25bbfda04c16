/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "ctl/progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "base/text.h"
#include "ctl/say.h"
#include "ctl/terminal.h"
#include "io/loop.h"

#define IN_PLACE_USEC (100 * USEC_PER_MSEC)
#define LINE_USEC     (10 * USEC_PER_SEC)

static void show_in_place(Progress *progress) {
        _cleanup_(text_done) Text line = {};
        _cleanup_(freep) char *text = TAKE_PTR(progress->text);
        size_t width = terminal_width(STDERR_FILENO), size = strlen(text);
        event_source_dropp(&progress->timer);
        if (width > 0 && size >= width)
                size = text_cut(text, width - 1);
        if (text_append(&line, "\r") >= 0 && text_append_printable(&line, text, size, "") >= 0 &&
            text_append(&line, "\033[K") >= 0)
                (void) !write(STDERR_FILENO, line.data, line.size);
        progress->shown = true;
        progress->told_usec = usec_now(CLOCK_BOOTTIME);
}

static int on_moment_over(sd_event_source *source, uint64_t usec, void *userdata) {
        show_in_place(userdata);
        return 0;
}

static void tell_in_place(Progress *progress, char *text) {
        usec_t when_usec = usec_add(progress->told_usec, IN_PLACE_USEC);
        free(progress->text);
        progress->text = text;
        if (progress->timer)
                return;
        if (!progress->shown || when_usec <= usec_now(CLOCK_BOOTTIME) ||
            loop_set_timer(progress->event,
                           &progress->timer,
                           when_usec,
                           on_moment_over,
                           progress,
                           "progress") < 0)
                show_in_place(progress);
}

static void tell_in_lines(Progress *progress, const char *text) {
        usec_t now_usec = usec_now(CLOCK_BOOTTIME);
        if (progress->told_usec == 0)
                progress->told_usec = now_usec; /* what is quick is not worth a line */
        if (now_usec - progress->told_usec < LINE_USEC)
                return;
        progress->told_usec = now_usec;
        say("%s", text);
}

void progress_tell(Progress *progress, const char *format, ...) {
        _cleanup_(freep) char *text = NULL;
        va_list arguments;
        va_start(arguments, format);
        int r = text_vformat(&text, format, arguments);
        va_end(arguments);
        if (r < 0)
                return;
        if (isatty(STDERR_FILENO))
                tell_in_place(progress, TAKE_PTR(text));
        else
                tell_in_lines(progress, text);
}

void progress_clear(Progress *progress) {
        event_source_dropp(&progress->timer);
        free(TAKE_PTR(progress->text));
        if (progress->shown)
                (void) !write(STDERR_FILENO, "\r\033[K", 4);
        progress->shown = false;
}
