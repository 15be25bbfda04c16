/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* list: what there is is collected, sorted, printed, and with --watch goes on with a line for each
 * change. */

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>

#include "base/text.h"
#include "core/json/json.h"
#include "core/task/shell-status.h"
#include "core/text/amount-text.h"
#include "ctl/attempt.h"
#include "ctl/event-watch.h"
#include "ctl/say.h"
#include "ctl/task-list.h"
#include "ctl/verbs.h"

typedef enum ListForm {
        FORM_TABLE,
        FORM_WIDE,
        FORM_JSON, /* a line for each task */
        FORM_NAME,
        _FORM_MAX,
} ListForm;

static const char *const form_names[_FORM_MAX] = { "table", "wide", "json", "name" };

/* What tasks are sorted by: a member of theirs. */
typedef struct SortField {
        const char *name, *parent, *key;
        enum {
                SORT_TEXT,
                SORT_NUMBER,
                SORT_TIME,
                SORT_SPAN
        } kind;
} SortField;

static const SortField sort_fields[] = {
        { "id", NULL, "task_id", SORT_TEXT },
        { "state", NULL, "state", SORT_TEXT },
        { "result", NULL, "result", SORT_TEXT },
        { "worker", NULL, "worker", SORT_TEXT },
        { "cores", "resources", "cores", SORT_NUMBER },
        { "memory", "resources", "memory_mb", SORT_NUMBER },
        { "submitted", NULL, "submit_time", SORT_TIME },
        { "started", NULL, "start_time", SORT_TIME },
        { "stopped", NULL, "stop_time", SORT_TIME },
        { "time", NULL, NULL, SORT_SPAN },
};

typedef struct Row {
        char *key;     /* of a text */
        double number; /* of the rest; INFINITY: it has none, and comes last */
        size_t index;
        AttemptCells cells; /* of a table */
        char *line;         /* of the other forms */
} Row;

typedef struct List {
        Session *session;
        ListForm form;
        const SortField *sort; /* NULL: as they were submitted */
        bool descending;
        TaskFilter filter;
        usec_t now_realtime_usec;
        Row *rows;
        size_t n_rows, n_allocated;
        Row widest; /* of each column the widest cell, to which later lines are aligned */
        EventWatch *watch;
        char **changed; /* ids of tasks, NULL-terminated */
        bool has_changed;
} List;

static void row_done(Row *row) {
        free(row->key);
        free(row->line);
        attempt_cells_done(&row->cells);
}

static void list_done(List *list) {
        for (size_t i = 0; i < list->n_rows; i++)
                row_done(&list->rows[i]);
        free(list->rows);
        row_done(&list->widest);
        event_watch_free(list->watch);
        text_list_free(list->changed);
}

static int parse_form(const Options *options, ListForm *ret) {
        const char *name = options_get(options, OPTION_FORM);
        *ret = FORM_TABLE;
        for (int form = 0; name && form < _FORM_MAX; form++)
                if (streq(name, form_names[form])) {
                        *ret = (ListForm) form;
                        return 0;
                }
        if (name)
                say("--output: \"%s\" is none of table, wide, json, name", name);
        return name ? -EINVAL : 0;
}

static int parse_sort(const Options *options, List *list) {
        const char *name = options_get(options, OPTION_SORT);
        if (!name)
                return 0;
        list->descending = *name == '-';
        name += list->descending;
        for (size_t i = 0; i < sizeof(sort_fields) / sizeof(*sort_fields); i++)
                if (streq(sort_fields[i].name, name))
                        list->sort = &sort_fields[i];
        if (list->sort)
                return 0;
        say("--sort: \"%s\" is none of id, state, result, worker, cores, memory, submitted, started, stopped, "
            "time",
            name);
        return -EINVAL;
}

static double time_number(json_object *attempt, const char *key) {
        usec_t usec;
        return amount_parse_rfc3339(member_text(attempt, key), &usec) < 0 ? INFINITY : (double) usec;
}

/* As the column TIME has it: how long it waits, runs or ran. */
static double span_number(json_object *attempt, usec_t now) {
        double start = time_number(attempt, "start_time"), stop = time_number(attempt, "stop_time");
        if (!isfinite(start))
                start = time_number(attempt, "submit_time");
        return (isfinite(stop) ? stop : (double) now) - start;
}

static int set_key(const List *list, json_object *attempt, Row *row) {
        const SortField *sort = list->sort;
        if (!sort)
                return 0;
        json_object *parent = sort->parent ? member(attempt, sort->parent) : attempt;
        switch (sort->kind) {
        case SORT_TEXT:
                row->key = strdup(member_text(parent, sort->key));
                return row->key ? 0 : -ENOMEM;
        case SORT_NUMBER:
                row->number = member_number(parent, sort->key);
                return 0;
        case SORT_TIME:
                row->number = time_number(attempt, sort->key);
                return 0;
        case SORT_SPAN:
                row->number = span_number(attempt, list->now_realtime_usec);
                return 0;
        default:
                return -EINVAL;
        }
}

static int row_of(const List *list, json_object *attempt, Row *ret) {
        int r = set_key(list, attempt, ret);
        if (r < 0)
                return r;
        if (list->form == FORM_JSON)
                return json_format(attempt, &ret->line, NULL);
        if (list->form != FORM_NAME)
                return attempt_cells(attempt, list->form == FORM_WIDE, list->now_realtime_usec, &ret->cells);
        ret->line = strdup(member_text(attempt, "task_id"));
        return ret->line ? 0 : -ENOMEM;
}

static int on_task(json_object *attempt, void *userdata) {
        List *list = userdata;
        if (list->n_rows == list->n_allocated) {
                size_t n = 2 * list->n_allocated + 64;
                Row *rows = realloc(list->rows, n * sizeof(*rows));
                if (!rows)
                        return SHELL_STATUS_REFUSED;
                list->rows = rows;
                list->n_allocated = n;
        }
        Row *row = &list->rows[list->n_rows];
        *row = (Row) { .index = list->n_rows };
        int r = row_of(list, attempt, row);
        list->n_rows++;
        return r < 0 ? SHELL_STATUS_REFUSED : 0;
}

static int compare_rows(const void *a, const void *b, void *userdata) {
        const List *list = userdata;
        const Row *x = a, *y = b;
        int order = 0;
        if (x->key && y->key)
                order = strcmp(x->key, y->key);
        else if (isfinite(x->number) != isfinite(y->number))
                return isfinite(x->number) ? -1 : 1;
        else
                order = (x->number > y->number) - (x->number < y->number);
        if (list->descending)
                order = -order;
        return order != 0 ? order : (x->index > y->index) - (x->index < y->index);
}

static bool is_table(const List *list) {
        return list->form == FORM_TABLE || list->form == FORM_WIDE;
}

static int note_widths(List *list, const AttemptCells *cells) {
        for (size_t i = 0; i < ATTEMPT_COLUMNS_MAX && cells->texts[i]; i++) {
                char **widest = &list->widest.cells.texts[i];
                if (*widest && text_n_characters(*widest) >= text_n_characters(cells->texts[i]))
                        continue;
                free(*widest);
                *widest = strdup(cells->texts[i]);
                if (!*widest)
                        return -ENOMEM;
        }
        return 0;
}

static int print_rows(List *list) {
        _cleanup_(table_freep) Table *table = NULL;
        int r = is_table(list) ? attempt_table_new(list->form == FORM_WIDE, &table) : 0;
        for (size_t i = 0; r >= 0 && i < list->n_rows; i++) {
                const Row *row = &list->rows[i];
                r = table ? attempt_table_add(table, &row->cells) : print_line(row->line, strlen(row->line));
                if (r >= 0 && table)
                        r = note_widths(list, &row->cells);
        }
        return r >= 0 && table ? print_table(table) : r;
}

/* The last line of a table that is as wide as the one before, which is how its lines stay below those. */
static int print_aligned(List *list, const Row *row) {
        _cleanup_(table_freep) Table *table = NULL;
        int r = note_widths(list, &row->cells);
        if (r >= 0)
                r = attempt_table_new(list->form == FORM_WIDE, &table);
        if (r >= 0)
                r = attempt_table_add(table, &list->widest.cells);
        if (r >= 0)
                r = attempt_table_add(table, &row->cells);
        return r < 0 ? r : print_table_end(table);
}

static int status_of_printing(int r) {
        return r >= 0 ? 0 : r == -EPIPE ? SHELL_STATUS_SIGNAL + SIGPIPE : SHELL_STATUS_REFUSED;
}

/* One that was forgotten meanwhile is no news. */
static int tell_change(List *list, const char *task_id) {
        _cleanup_(answer_done) Answer answer = {};
        int status = attempt_get_if_there(list->session, task_id, &answer);
        if (status != 0 || answer.status == 404 ||
            !task_filter_has(&list->session->options, &list->filter, answer.json))
                return status;
        Row row = {};
        list->now_realtime_usec = usec_now(CLOCK_REALTIME);
        int r = row_of(list, answer.json, &row);
        if (r >= 0)
                r = is_table(list) ? print_aligned(list, &row) : print_line(row.line, strlen(row.line));
        row_done(&row);
        return status_of_printing(r);
}

static int on_event(const ParsedEvent *event, void *userdata) {
        List *list = userdata;
        _cleanup_(json_putp) json_object *json = NULL;
        Problem problem = {};
        if (!streq(event->type, "task"))
                return 0;
        int r = json_parse(event->data, event->data_size, &json, &problem);
        if (r == -ENOMEM)
                return r;
        const char *id = member_text(json, "task_id");
        list->has_changed = true;
        return *id && !text_list_has(list->changed, id) ? text_list_append(&list->changed, id) : 0;
}

/* What comes while tasks are asked for waits for the next round. */
static int tell_changes(List *list) {
        int status = 0;
        char **ids = TAKE_PTR(list->changed);
        list->has_changed = false;
        for (char **id = ids; status == 0 && id && *id; id++)
                status = tell_change(list, *id);
        text_list_free(ids);
        return status;
}

static int watch_on(List *list) {
        int status = 0;
        while (status == 0 && !*event_watch_ended(list->watch)) {
                if (list->has_changed)
                        status = tell_changes(list);
                else if (sd_event_run(list->session->event, UINT64_MAX) < 0)
                        status = SHELL_STATUS_REFUSED;
        }
        return status ?: event_watch_status(list->watch);
}

/* Events are heard from before the list on, so that nothing falls between them. */
static int list_and_watch(List *list) {
        bool watches = options_has(&list->session->options, OPTION_WATCH);
        if (watches &&
            event_watch_new(list->session,
                            &(EventWatchHandlers) { .on_event = on_event, .userdata = list },
                            &list->watch) < 0)
                return SHELL_STATUS_REFUSED;
        int status = watches ? event_watch_await_connection(list->watch) : 0;
        if (status != 0)
                return status;
        status = task_list(
                        list->session,
                        &list->filter,
                        &(TaskListing) { .on_task = on_task, .userdata = list });
        if (status != 0)
                return status;
        if (list->sort)
                qsort_r(list->rows, list->n_rows, sizeof(*list->rows), compare_rows, list);
        status = status_of_printing(print_rows(list));
        return status == 0 && watches ? watch_on(list) : status;
}

int verb_list(Session *session, char **arguments) {
        const Options *options = &session->options;
        _cleanup_(list_done)
                        List list = { .session = session, .now_realtime_usec = usec_now(CLOCK_REALTIME) };
        if (parse_form(options, &list.form) < 0 || parse_sort(options, &list) < 0 ||
            task_filter_parse(options, list.now_realtime_usec, &list.filter) < 0)
                return SHELL_STATUS_USAGE;
        if (!session->json)
                return list_and_watch(&list);
        if (options_has(options, OPTION_FORM) || list.sort || list.filter.since_usec > 0 ||
            options_has(options, OPTION_WATCH)) {
                say("--json prints pages as they come; -o json goes with the other options");
                return SHELL_STATUS_USAGE;
        }
        return task_list(session, &list.filter, &(TaskListing) { .on_page = session_print_json });
}
