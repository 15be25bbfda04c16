/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* top: what runs, waits and has ended, in place. Nothing is asked while nothing happens: events tell when
 * there is something new, and then a page of tasks is fetched, at most once in a while; clocks tick by
 * themselves. */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/text.h"
#include "core/json/json.h"
#include "core/task/shell-status.h"
#include "core/text/amount-text.h"
#include "ctl/attempt.h"
#include "ctl/event-watch.h"
#include "ctl/path.h"
#include "ctl/say.h"
#include "ctl/terminal.h"
#include "ctl/verbs.h"
#include "io/loop.h"

#define REFRESH_USEC (500 * USEC_PER_MSEC)
#define TICK_USEC    (1 * USEC_PER_SEC)
#define ENDED_MAX    32
#define ROWS_MAX     500
#define BAR_COLUMNS  20
#define MB_BYTES     UINT64_C(1048576)

static const int watched_signals[] = { SIGWINCH, SIGTSTP, SIGINT, SIGTERM, SIGHUP };
#define N_SIGNALS (sizeof(watched_signals) / sizeof(*watched_signals))

typedef struct Top {
        Session *session;
        EventWatch *watch;
        sd_event_source *key_source, *tick_timer, *refresh_timer;
        sd_event_source *signal_sources[N_SIGNALS];
        json_object *capacity;         /* or NULL */
        json_object *running, *queued; /* pages; or NULL */
        json_object *ended[ENDED_MAX]; /* the last one first; or NULL */
        bool is_open, connected, is_stale, needs_drawing, quits;
        usec_t refreshed_usec; /* CLOCK_BOOTTIME */
        int status;
} Top;

static void top_done(Top *top) {
        terminal_leave();
        event_watch_free(top->watch);
        event_source_dropp(&top->key_source);
        event_source_dropp(&top->tick_timer);
        event_source_dropp(&top->refresh_timer);
        for (size_t i = 0; i < N_SIGNALS; i++)
                event_source_dropp(&top->signal_sources[i]);
        json_object_put(top->capacity);
        json_object_put(top->running);
        json_object_put(top->queued);
        for (size_t i = 0; i < ENDED_MAX; i++)
                json_object_put(top->ended[i]);
}

/* A question that is waited for ends at once. */
static void top_quit(Top *top, int status) {
        top->status = status;
        top->quits = true;
        top->session->leave = true;
}

static int on_key(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        Top *top = userdata;
        char keys[64];
        ssize_t n = read(fd, keys, sizeof(keys));
        if (n <= 0) {
                if (n == 0 || (errno != EINTR && errno != EAGAIN))
                        (void) sd_event_source_set_enabled(source, SD_EVENT_OFF);
                return 0;
        }
        for (ssize_t i = 0; i < n; i++)
                if (keys[i] == 'q' || keys[i] == 'Q')
                        top_quit(top, 0);
        return 0;
}

/* The shell gets its terminal as it was, and we get it again when we go on. */
static void suspend(Top *top) {
        terminal_leave();
        (void) raise(SIGSTOP);
        if (terminal_enter() < 0)
                top_quit(top, SHELL_STATUS_REFUSED);
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
        Top *top = userdata;
        if (info->ssi_signo == SIGTSTP)
                suspend(top);
        else if (info->ssi_signo != SIGWINCH)
                top_quit(top, info->ssi_signo == SIGINT ? 0 : SHELL_STATUS_SIGNAL + (int) info->ssi_signo);
        top->needs_drawing = true;
        return 0;
}

static int draw(Top *top);

/* Also while a question is waited for. */
static int on_tick(sd_event_source *source, uint64_t usec, void *userdata) {
        Top *top = userdata;
        if (!top->quits && draw(top) < 0)
                top_quit(top, SHELL_STATUS_REFUSED);
        return loop_set_timer(
                        top->session->event,
                        &top->tick_timer,
                        usec_add(usec_now(CLOCK_BOOTTIME), TICK_USEC),
                        on_tick,
                        top,
                        "tick");
}

static int on_refresh_due(sd_event_source *source, uint64_t usec, void *userdata) {
        return 0; /* it has woken the loop */
}

/* Not more often than people see it. */
static void mark_stale(Top *top) {
        if (top->is_stale)
                return;
        top->is_stale = true;
        (void) loop_set_timer(
                        top->session->event,
                        &top->refresh_timer,
                        usec_add(top->refreshed_usec, REFRESH_USEC),
                        on_refresh_due,
                        top,
                        "refresh");
}

static void note_ended(Top *top, json_object *task) {
        json_object_put(top->ended[ENDED_MAX - 1]);
        for (size_t i = ENDED_MAX - 1; i > 0; i--)
                top->ended[i] = top->ended[i - 1];
        json_object *attempt = member(task, "attempt");
        top->ended[0] = json_object_get(attempt ?: task);
}

static int on_event(const ParsedEvent *event, void *userdata) {
        Top *top = userdata;
        _cleanup_(json_putp) json_object *json = NULL;
        Problem problem = {};
        int r = json_parse(event->data, event->data_size, &json, &problem);
        if (r < 0)
                return r == -ENOMEM ? r : 0;
        if (streq(event->type, "capacity")) {
                json_object_put(top->capacity);
                top->capacity = TAKE_PTR(json);
                top->needs_drawing = true;
        } else if (streq(event->type, "task")) {
                if (!attempt_is_live(json))
                        note_ended(top, json);
                mark_stale(top);
        }
        return 0;
}

static void on_connected(void *userdata) {
        Top *top = userdata;
        top->connected = true;
        mark_stale(top);
}

static void on_lost(void *userdata) {
        Top *top = userdata;
        top->connected = false;
        top->needs_drawing = true;
}

/* Keeps what there is when the daemon does not answer: the event stream tells of that. */
static int fetch(Top *top, const char *path, const char *key, json_object **ret) {
        _cleanup_(answer_done) Answer answer = {};
        int status = session_ask(top->session, &(Ask) { .method = "GET", .path = path }, &answer);
        if (status != 0)
                return status;
        json_object_put(*ret);
        *ret = json_object_get(key ? member(answer.json, key) : answer.json);
        return 0;
}

static int fetch_tasks(Top *top, const char *state, size_t n_rows, json_object **ret) {
        _cleanup_(freep) char *path = NULL;
        if (text_format(&path, "/api/v1/tasks?state=%s&limit=%zu", state, n_rows) < 0)
                return SHELL_STATUS_REFUSED;
        return fetch(top, path, "tasks", ret);
}

static int refresh(Top *top) {
        size_t n_rows = terminal_height(STDOUT_FILENO);
        if (n_rows < 1 || n_rows > ROWS_MAX)
                n_rows = ROWS_MAX;
        top->is_stale = false;
        top->needs_drawing = true;
        top->refreshed_usec = usec_now(CLOCK_BOOTTIME);
        int status = fetch(top, "/api/v1/capacity", NULL, &top->capacity);
        if (status == 0)
                status = fetch_tasks(top, "running", n_rows, &top->running);
        return status ?: fetch_tasks(top, "queued", n_rows, &top->queued);
}

static int add_bar(Text *text, const char *name, double total, double unused) {
        size_t n = total > 0 ? (size_t) ((total - unused) / total * BAR_COLUMNS + 0.5) : 0;
        if (n > BAR_COLUMNS)
                n = BAR_COLUMNS;
        int r = text_appendf(text, "%s [", name);
        for (size_t i = 0; r >= 0 && i < BAR_COLUMNS; i++)
                r = text_append(text, i < n ? "#" : ".");
        if (r >= 0 && streq(name, "memory")) {
                char all[AMOUNT_TEXT_SIZE], used[AMOUNT_TEXT_SIZE];
                amount_format_bytes((uint64_t) total * MB_BYTES, all);
                amount_format_bytes((uint64_t) (total > unused ? total - unused : 0) * MB_BYTES, used);
                return text_appendf(text, "] %s/%s", used, all);
        }
        return r < 0 ? r : text_appendf(text, "] %.10g/%.10g", total - unused, total);
}

static int add_header(const Top *top, Text *text) {
        char now[USEC_RFC3339_SIZE];
        json_object *total = member(top->capacity, "total"), *unused = member(top->capacity, "free");
        json_object *tasks = member(top->capacity, "tasks");
        usec_format_rfc3339(usec_now(CLOCK_REALTIME), now);
        int r = text_appendf(
                        text,
                        "daggyctl top: %s, %.8s UTC%s, q quits\n",
                        top->session->target.name,
                        strchr(now, 'T') + 1,
                        top->connected ? "" : ", CONNECTION LOST");
        if (r >= 0)
                r = add_bar(text, "cores", member_number(total, "cores"), member_number(unused, "cores"));
        if (r >= 0)
                r = text_append(text, "  ");
        if (r >= 0)
                r = add_bar(text,
                            "memory",
                            member_number(total, "memory_mb"),
                            member_number(unused, "memory_mb"));
        if (r >= 0)
                r = text_appendf(
                                text,
                                "\n%.0f running, %.0f queued%s\n",
                                member_number(tasks, "running"),
                                member_number(tasks, "queued"),
                                member_bool(top->capacity, "draining") ? ", draining" : "");
        return r;
}

static int add_row(Table *table, json_object *attempt, usec_t now) {
        AttemptCells cells = {};
        int r = attempt_cells(attempt, false, now, &cells);
        if (r >= 0)
                r = attempt_table_add(table, &cells);
        attempt_cells_done(&cells);
        return r;
}

/* Of three lists the beginning of each: what runs first, and of what waits and what has ended something,
 * however many run. */
static int add_tasks(const Top *top, size_t n_lines, size_t width, Text *text) {
        _cleanup_(table_freep) Table *table = NULL;
        usec_t now = usec_now(CLOCK_REALTIME);
        size_t n_running = element_count(top->running), n_queued = element_count(top->queued), n_ended = 0;
        while (n_ended < ENDED_MAX && top->ended[n_ended])
                n_ended++;
        size_t n_rows = n_lines > 1 ? n_lines - 1 : 0, kept = n_rows / 4;
        size_t ended_kept = n_ended < kept ? n_ended : kept;
        size_t n_others = (n_queued < kept ? n_queued : kept) + ended_kept;
        size_t n = n_running < n_rows - n_others ? n_running : n_rows - n_others, left = n_rows - n;
        int r = attempt_table_new(false, &table);
        for (size_t i = 0; r >= 0 && i < n; i++)
                r = add_row(table, element(top->running, i), now);
        for (size_t i = 0; r >= 0 && i < n_queued && left > ended_kept; i++, left--)
                r = add_row(table, element(top->queued, i), now);
        for (size_t i = 0; r >= 0 && i < n_ended && left > 0; i++, left--)
                r = add_row(table, top->ended[i], now);
        return r < 0 ? r : table_format(table, width, terminal_has_colours(STDOUT_FILENO), text);
}

/* The first N_LINES lines of TEXT, over what is there, and nothing below them. */
static int paint(const Text *text, size_t n_lines, size_t width) {
        _cleanup_(text_done) Text screen = {};
        int r = text_append(&screen, "\033[H");
        const char *line = text->data;
        for (size_t i = 0; r >= 0 && i < n_lines && *line; i++) {
                size_t size = strcspn(line, "\n");
                bool may_be_coloured = memchr(line, '\033', size) != NULL; /* those are cut already */
                size_t shown = !may_be_coloured && i < 3 && size > width ? text_cut(line, width) : size;
                r = text_append(&screen, i > 0 ? "\r\n" : "");
                if (r >= 0)
                        r = text_append_bytes(&screen, line, shown);
                if (r >= 0)
                        r = text_append(&screen, "\033[K");
                line += size + (line[size] == '\n');
        }
        if (r >= 0)
                r = text_append(&screen, "\033[J");
        return r < 0 ? r : print_bytes(screen.data, screen.size);
}

static int draw(Top *top) {
        _cleanup_(text_done) Text text = {};
        size_t width = terminal_width(STDOUT_FILENO), n_lines = terminal_height(STDOUT_FILENO);
        top->needs_drawing = false;
        if (width == 0 || n_lines == 0) {
                width = 80;
                n_lines = 24;
        }
        int r = add_header(top, &text);
        if (r >= 0)
                r = add_tasks(top, n_lines > 3 ? n_lines - 3 : 0, width, &text);
        return r < 0 ? r : paint(&text, n_lines, width);
}

static int top_start(Top *top) {
        sd_event *event = top->session->event;
        int r = 0;
        for (size_t i = 0; r >= 0 && i < N_SIGNALS; i++)
                r = sd_event_add_signal(
                                event,
                                &top->signal_sources[i],
                                watched_signals[i] | SD_EVENT_SIGNAL_PROCMASK,
                                on_signal,
                                top);
        if (r >= 0)
                r = event_watch_new(
                                top->session,
                                &(EventWatchHandlers) { .on_event = on_event,
                                                        .on_connected = on_connected,
                                                        .on_lost = on_lost,
                                                        .userdata = top },
                                &top->watch);
        return r;
}

/* Not before there is something to show: who cannot be reached is told on the terminal as it was. */
static int top_open_screen(Top *top) {
        int r = terminal_enter();
        top->is_open = true;
        if (r >= 0 && isatty(STDIN_FILENO))
                r = sd_event_add_io(
                                top->session->event, &top->key_source, STDIN_FILENO, EPOLLIN, on_key, top);
        return r < 0 ? r : on_tick(NULL, 0, top);
}

static bool refresh_is_due(const Top *top) {
        return top->is_stale && top->connected &&
                        usec_now(CLOCK_BOOTTIME) >= usec_add(top->refreshed_usec, REFRESH_USEC);
}

/* One turn. */
static int top_run(Top *top) {
        if (refresh_is_due(top)) {
                int status = refresh(top);
                if (status != 0 && !top->quits)
                        return status;
                if (!top->is_open && !top->quits && top_open_screen(top) < 0)
                        return SHELL_STATUS_REFUSED;
        }
        if (top->quits)
                return 0;
        if (top->needs_drawing && top->is_open && draw(top) < 0)
                return SHELL_STATUS_REFUSED;
        return sd_event_run(top->session->event, UINT64_MAX) < 0 ? SHELL_STATUS_REFUSED : 0;
}

int verb_top(Session *session, char **arguments) {
        _cleanup_(top_done) Top top = { .session = session };
        if (!isatty(STDOUT_FILENO)) {
                say("top is for terminals; elsewhere there is list --watch");
                return SHELL_STATUS_USAGE;
        }
        int r = top_start(&top);
        if (r < 0) {
                say("cannot watch: %s", strerror(-r));
                return SHELL_STATUS_REFUSED;
        }
        int status = 0;
        while (status == 0 && !top.quits && !*event_watch_ended(top.watch))
                status = top_run(&top);
        return top.quits ? top.status : status ?: event_watch_status(top.watch);
}
