/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* capacity, impact, drain, upgrade, lease; members, workers, worker, queues. */

#include <errno.h>
#include <stdio.h>

#include "base/text.h"
#include "core/json/json.h"
#include "core/task/shell-status.h"
#include "ctl/path.h"
#include "ctl/say.h"
#include "ctl/task-body.h"
#include "ctl/verbs.h"

#define NUMBER_SIZE 64

static void number_text(json_object *object, const char *key, char buffer[static NUMBER_SIZE]) {
        json_object *value = member(object, key);
        if (!value)
                (void) snprintf(buffer, NUMBER_SIZE, "-");
        else
                (void) snprintf(buffer, NUMBER_SIZE, "%.10g", json_object_get_double(value));
}

static int get(Session *session, const char *path, Answer *ret) {
        return session_ask(session, &(Ask) { .method = "GET", .path = path }, ret);
}

/* Of what only one of the daemons has: 404 is the answer of the other one. */
static int get_of_one(Session *session, const char *path, const char *who, Answer *ret) {
        int status = session_ask(session, &(Ask) { .method = "GET", .path = path, .expected = 404 }, ret);
        if (status != 0 || ret->status != 404)
                return status;
        say("%s", who);
        return SHELL_STATUS_REFUSED;
}

static int format(Text *text, const char *line_format, ...) __attribute__((format(printf, 2, 3)));
static int format(Text *text, const char *line_format, ...) {
        _cleanup_(freep) char *line = NULL;
        va_list arguments;
        va_start(arguments, line_format);
        int r = text_vformat(&line, line_format, arguments);
        va_end(arguments);
        if (r < 0)
                return r;
        return text_append_printable(text, line, strlen(line), "\n");
}

static int print_text(const Text *text) {
        return text->data && print_bytes(text->data, text->size) < 0 ? SHELL_STATUS_REFUSED : 0;
}

static int print_capacity(json_object *capacity) {
        static const char *const headers[] = { "CAPACITY", ">TOTAL", ">FREE", NULL };
        _cleanup_(table_freep) Table *table = NULL;
        _cleanup_(text_done) Text text = {};
        json_object *total = member(capacity, "total"), *tasks = member(capacity, "tasks");
        int r = table_new(headers, &table);
        if (r >= 0 && json_object_is_type(total, json_type_object)) {
                json_object_object_foreach(total, key, value) {
                        (void) value;
                        char all[NUMBER_SIZE], unused[NUMBER_SIZE];
                        number_text(total, key, all);
                        number_text(member(capacity, "free"), key, unused);
                        const char *const cells[] = { key, all, unused };
                        if (r >= 0)
                                r = table_add(table, cells);
                }
        }
        if (r >= 0)
                r = print_table(table);
        if (r >= 0)
                r = format(&text,
                           "%.0f running, %.0f queued%s\n",
                           member_number(tasks, "running"),
                           member_number(tasks, "queued"),
                           member_bool(capacity, "draining") ? ", draining" : "");
        json_object *pressure = member(capacity, "pressure");
        if (r >= 0 && pressure)
                r = format(&text,
                           "memory pressure %.4g%%, %s %.0f%%\n",
                           member_number(pressure, "memory_percent"),
                           member_bool(pressure, "holding") ? "tasks wait until it is below" : "at most",
                           member_number(pressure, "memory_max_percent"));
        return r < 0 ? SHELL_STATUS_REFUSED : print_text(&text);
}

int verb_capacity(Session *session, char **arguments) {
        _cleanup_(answer_done) Answer answer = {};
        int status = get(session, "/api/v1/capacity", &answer);
        if (status != 0)
                return status;
        return session->json ? session_print_json(session, &answer) : print_capacity(answer.json);
}

static int impact_path(const Options *options, char **ret) {
        _cleanup_(json_putp) json_object *wanted = json_object_new_object();
        int r = wanted ? task_body_add_resources(options, wanted) : -ENOMEM;
        *ret = r < 0 ? NULL : strdup("/api/v1/impact");
        if (r < 0 || !*ret)
                return r < 0 ? r : -ENOMEM;
        json_object_object_foreach(wanted, key, value) {
                if (r >= 0)
                        r = path_add_query(ret, key, json_object_get_string(value) ?: "");
        }
        return r;
}

int verb_impact(Session *session, char **arguments) {
        _cleanup_(answer_done) Answer answer = {};
        _cleanup_(text_done) Text text = {};
        _cleanup_(freep) char *path = NULL;
        if (impact_path(&session->options, &path) < 0)
                return SHELL_STATUS_USAGE;
        int status = get(session, path, &answer);
        if (status != 0)
                return status;
        if (session->json)
                return session_print_json(session, &answer);
        json_object *impact = member(answer.json, "impact");
        int r;
        if (!member_bool(answer.json, "satisfiable"))
                r = format(&text, "does not fit now\n");
        else
                r = format(&text, "fits, with an impact of %.3g\n", member_number(answer.json, "max_impact"));
        if (json_object_is_type(impact, json_type_object)) {
                json_object_object_foreach(impact, key, value) {
                        if (r >= 0 && value)
                                r = format(&text, "  %s %.3g\n", key, json_object_get_double(value));
                }
        }
        return r < 0 ? SHELL_STATUS_REFUSED : print_text(&text);
}

static int parse_switch(const char *verb, const char *word, const char *yes, const char *no, bool *ret) {
        *ret = streq(word, yes);
        if (*ret || streq(word, no))
                return 0;
        say("%s: \"%s\" is neither %s nor %s", verb, word, yes, no);
        return SHELL_STATUS_USAGE;
}

int verb_drain(Session *session, char **arguments) {
        _cleanup_(answer_done) Answer answer = {};
        bool drain;
        int status = parse_switch("drain", arguments[0], "on", "off", &drain);
        if (status == 0)
                status = session_ask(
                                session,
                                &(Ask) { .method = "PUT",
                                         .path = "/api/v1/drain",
                                         .body = drain ? "{\"drain\":true}" : "{\"drain\":false}" },
                                &answer);
        return status == 0 && session->json ? session_print_json(session, &answer) : status;
}

/* What the new program may take to say whether it can. */
#define UPGRADE_USEC (20 * USEC_PER_SEC)

/* Nothing is printed: what happens is what was asked for. */
int verb_upgrade(Session *session, char **arguments) {
        _cleanup_(answer_done) Answer answer = {};
        int status = session_ask(
                        session,
                        &(Ask) { .method = "POST",
                                 .path = "/api/v1/upgrade",
                                 .expected = 404,
                                 .once = true,
                                 .extra_usec = UPGRADE_USEC },
                        &answer);
        if (status != 0 || answer.status != 404)
                return status;
        say("this is a queue: it is restarted, its tasks are on disk");
        return SHELL_STATUS_REFUSED;
}

int verb_lease(Session *session, char **arguments) {
        _cleanup_(answer_done) Answer answer = {};
        _cleanup_(text_done) Text text = {};
        int status = get_of_one(
                        session,
                        "/api/v1/lease",
                        "this is a queue: leases are of runners, see workers",
                        &answer);
        if (status != 0)
                return status;
        if (session->json)
                return session_print_json(session, &answer);
        json_object *lease = member(answer.json, "lease");
        int r = lease ? format(&text,
                               "held by %s (version %s) until %s\n",
                               member_text(lease, "queue"),
                               member_text(lease, "version"),
                               member_text(lease, "expires")) :
                        format(&text, "free\n");
        return r < 0 ? SHELL_STATUS_REFUSED : print_text(&text);
}

/* "1.5/4": free of total. */
static void share_text(json_object *capacity, const char *key, char buffer[static 2 * NUMBER_SIZE]) {
        char all[NUMBER_SIZE], unused[NUMBER_SIZE];
        number_text(member(capacity, "total"), key, all);
        number_text(member(capacity, "free"), key, unused);
        (void) snprintf(buffer, 2 * NUMBER_SIZE, capacity ? "%s/%s" : "-", unused, all);
}

static int add_worker(Table *table, json_object *worker) {
        char cores[2 * NUMBER_SIZE], memory[2 * NUMBER_SIZE], running[NUMBER_SIZE];
        json_object *lease = member(worker, "lease");
        share_text(member(worker, "capacity"), "cores", cores);
        share_text(member(worker, "capacity"), "memory_mb", memory);
        number_text(worker, "running", running);
        const char *const cells[] = { member_text(worker, "id"),
                                      member_text(worker, "state"),
                                      member_bool(worker, "permitted") ? "yes" : "no",
                                      member_bool(lease, "own") ? "own" : member_text(lease, "queue"),
                                      running,
                                      cores,
                                      memory,
                                      member_bool(worker, "leaving") ? "leaving" :
                                                                       member_text(worker, "source"),
                                      member_text(worker, "url") };
        return table_add(table, cells);
}

#define NOT_A_QUEUE "this is a runner, not a queue (-q: port 2503)"

static int add_member(Table *table, json_object *item) {
        char epoch[NUMBER_SIZE];
        number_text(item, "epoch", epoch);
        bool leading = member_bool(item, "leading"), self = member_bool(item, "self");
        const char *const cells[] = { member_text(item, "address"),
                                      member_text(item, "state"),
                                      leading && self         ? "self,leading" :
                                                      leading ? "leading" :
                                                      self    ? "self" :
                                                                "",
                                      epoch,
                                      member_text(item, "version"),
                                      member_text(item, "expires"),
                                      member_text(item, "id") };
        return table_add(table, cells);
}

/* What a queue has a list of at PATH, a row for each by ADD; there must be HEADERS for its cells. */
static int print_list(
                Session *session,
                const char *path,
                const char *const *headers,
                int (*add)(Table *table, json_object *item)) {
        _cleanup_(answer_done) Answer answer = {};
        _cleanup_(table_freep) Table *table = NULL;
        int status = get_of_one(session, path, NOT_A_QUEUE, &answer);
        if (status != 0)
                return status;
        if (session->json)
                return session_print_json(session, &answer);
        int r = table_new(headers, &table);
        for (size_t i = 0; r >= 0 && i < element_count(answer.json); i++)
                r = add(table, element(answer.json, i));
        return r < 0 || print_table(table) < 0 ? SHELL_STATUS_REFUSED : 0;
}

int verb_members(Session *session, char **arguments) {
        static const char *const headers[] = { "ADDRESS", "STATE",   "ROLE", ">EPOCH",
                                               "VERSION", "EXPIRES", "ID",   NULL };
        return print_list(session, "/api/v1/members", headers, add_member);
}

int verb_workers(Session *session, char **arguments) {
        static const char *const headers[] = { "ID",     "STATE", "PERMITTED", "LEASE", ">RUNNING",
                                               ">CORES", ">MB",   "FROM",      "URL",   NULL };
        return print_list(session, "/api/v1/workers", headers, add_worker);
}

int verb_worker(Session *session, char **arguments) {
        _cleanup_(answer_done) Answer workers = {}, answer = {};
        _cleanup_(freep) char *id = NULL, *path = NULL;
        bool enable;
        int status = parse_switch("worker", arguments[0], "enable", "disable", &enable);
        if (status == 0)
                status = get_of_one(session, "/api/v1/workers", NOT_A_QUEUE, &workers);
        if (status != 0)
                return status;
        if (text_percent_encode(arguments[1], "-._~", &id) < 0)
                return SHELL_STATUS_REFUSED;
        if (text_format(&path, "/api/v1/workers/%s", id) < 0)
                return SHELL_STATUS_REFUSED;
        status = session_ask(
                        session,
                        &(Ask) { .method = "PUT",
                                 .path = path,
                                 .body = enable ? "{\"disabled\":false}" : "{\"disabled\":true}" },
                        &answer);
        return status == 0 && session->json ? session_print_json(session, &answer) : status;
}

static int join(json_object *list, Text *ret) {
        int r = text_append(ret, "");
        for (size_t i = 0; r >= 0 && i < element_count(list); i++)
                r = text_appendf(
                                ret,
                                "%s%s",
                                i > 0 ? "," : "",
                                json_object_get_string(element(list, i)) ?: "");
        return r;
}

static int add_queue(Table *table, json_object *queue, const char *self, const char *master) {
        _cleanup_(text_done) Text workers = {}, share = {};
        const char *address = member_text(queue, "address");
        int r = join(member(queue, "workers"), &workers);
        if (r >= 0)
                r = join(member(queue, "share"), &share);
        if (r < 0)
                return r;
        const char *role = streq(address, master) ? (streq(address, self) ? "self,master" : "master") :
                        streq(address, self)      ? "self" :
                                                    "";
        const char *const cells[] = {
                address, member_text(queue, "version"), role, workers.data, share.data
        };
        return table_add(table, cells);
}

/* "self" and "master" are an address, or an object with one. */
static const char *address_of(json_object *object, const char *key) {
        json_object *value = member(object, key);
        return json_object_is_type(value, json_type_object) ? member_text(value, "address") :
                                                              member_text(object, key);
}

int verb_queues(Session *session, char **arguments) {
        static const char *const headers[] = { "ADDRESS", "VERSION", "ROLE", "WORKERS", "SHARE", NULL };
        _cleanup_(answer_done) Answer answer = {};
        _cleanup_(table_freep) Table *table = NULL;
        int status = get_of_one(session, "/api/v1/queues", NOT_A_QUEUE, &answer);
        if (status != 0)
                return status;
        if (session->json)
                return session_print_json(session, &answer);
        json_object *queues = member(answer.json, "queues");
        int r = table_new(headers, &table);
        for (size_t i = 0; r >= 0 && i < element_count(queues); i++)
                r = add_queue(table,
                              element(queues, i),
                              address_of(answer.json, "self"),
                              address_of(answer.json, "master"));
        return r < 0 || print_table(table) < 0 ? SHELL_STATUS_REFUSED : 0;
}
