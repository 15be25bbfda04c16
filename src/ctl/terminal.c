/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "ctl/terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/text.h"

/* The other screen, and no cursor. */
#define ENTER "\033[?1049h\033[?25l\033[H\033[2J"
#define LEAVE "\033[?25h\033[?1049l"

static struct termios settings_before;
static volatile sig_atomic_t entered, has_settings;

static bool size_of(int fd, struct winsize *ret) {
        return isatty(fd) && ioctl(fd, TIOCGWINSZ, ret) >= 0;
}

size_t terminal_width(int fd) {
        struct winsize size;
        return size_of(fd, &size) ? size.ws_col : 0;
}

size_t terminal_height(int fd) {
        struct winsize size;
        return size_of(fd, &size) ? size.ws_row : 0;
}

bool terminal_has_colours(int fd) {
        const char *forbidden = getenv("NO_COLOR"), *type = getenv("TERM");
        return isatty(fd) && !(forbidden && *forbidden) && type && *type && !streq(type, "dumb");
}

/* Calls nothing that a signal handler may not call. */
void terminal_leave(void) {
        if (!entered)
                return;
        entered = 0;
        (void) !write(STDOUT_FILENO, LEAVE, strlen(LEAVE));
        if (has_settings)
                (void) tcsetattr(STDIN_FILENO, TCSANOW, &settings_before);
}

/* SA_RESETHAND: the second time is the end. */
static void on_fatal_signal(int signal_number) {
        terminal_leave();
        (void) raise(signal_number);
}

static void catch_fatal_signals(void) {
        static const int fatal[] = { SIGQUIT, SIGILL,  SIGABRT, SIGBUS,  SIGFPE, SIGSEGV, SIGUSR1,
                                     SIGUSR2, SIGALRM, SIGXCPU, SIGXFSZ, SIGSYS, SIGTRAP, SIGVTALRM };
        struct sigaction action = { .sa_handler = on_fatal_signal,
                                    .sa_flags = (int) SA_RESETHAND | SA_NODEFER };
        for (size_t i = 0; i < sizeof(fatal) / sizeof(*fatal); i++)
                (void) sigaction(fatal[i], &action, NULL);
}

/* Keys as they are pressed, unseen; where there is no keyboard there are none. */
static int set_keyboard(void) {
        struct termios settings;
        has_settings = tcgetattr(STDIN_FILENO, &settings_before) >= 0;
        if (!has_settings)
                return 0;
        settings = settings_before;
        settings.c_lflag &= ~(tcflag_t) (ICANON | ECHO);
        settings.c_cc[VMIN] = 1;
        settings.c_cc[VTIME] = 0;
        return tcsetattr(STDIN_FILENO, TCSANOW, &settings) < 0 ? -errno : 0;
}

int terminal_enter(void) {
        if (entered)
                return 0;
        if (!isatty(STDOUT_FILENO))
                return -ENOTTY;
        catch_fatal_signals();
        entered = 1; /* from here on there may be something to give back */
        int r = set_keyboard();
        if (r < 0)
                return r;
        return write(STDOUT_FILENO, ENTER, strlen(ENTER)) < 0 ? -errno : 0;
}
