/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/own-unit.h"

#include "base/text.h"
#include "base/usec.h"
#include "io/loop.h"
#include "io/systemd1-query.h"

#define RETRY_USEC (100 * USEC_PER_MSEC)

struct OwnUnit {
        sd_event *event;
        Systemd1 *systemd1; /* weak */
        OwnUnitHandler handler;
        void *userdata;
        Systemd1Query *query;
        sd_event_source *retry_source;
        QueuedCall *scope_call;
        char *name;
        bool is_service;
};

struct OwnUnitQuestion {
        OwnUnitStoppingHandler handler;
        void *userdata;
        Systemd1Query *query;
        bool answered;
};

OwnUnit *own_unit_free(OwnUnit *own_unit) {
        if (!own_unit)
                return NULL;
        systemd1_query_free(own_unit->query);
        event_source_dropp(&own_unit->retry_source);
        queued_call_cancel(own_unit->scope_call);
        sd_event_unref(own_unit->event);
        free(own_unit->name);
        free(own_unit);
        return NULL;
}

const char *own_unit_name(const OwnUnit *own_unit) {
        return own_unit ? own_unit->name : NULL;
}

bool own_unit_is_service(const OwnUnit *own_unit) {
        return own_unit->is_service;
}

static void on_scope_made(int error, const char *message, void *userdata) {
        OwnUnit *own_unit = userdata;
        own_unit->scope_call = NULL;
        own_unit->handler(error, message, own_unit->userdata);
}

/* Being somewhere in a unit is not enough: a shell's unit lives on when daggyr is killed. */
static void make_scope(OwnUnit *own_unit) {
        _cleanup_(text_done) Text name = {};
        int r = text_appendf(&name, "daggyr-runner-%d.scope", (int) getpid());
        if (r < 0) {
                own_unit->handler(r, "out of memory", own_unit->userdata);
                return;
        }
        own_unit->name = TAKE_PTR(name.data);
        r = systemd1_start_scope(
                        own_unit->systemd1,
                        &(ScopeParameters) {
                                        .name = own_unit->name,
                                        .description = "daggyr, started from a shell",
                                        .pid = getpid(),
                                        .pid_fd = -EBADF,
                                        .cpu_quota_usec = UINT64_MAX,
                                        .memory_max_bytes = UINT64_MAX,
                                        .tasks_max = UINT64_MAX,
                                        .stop_timeout_usec = 90 * USEC_PER_SEC,
                        },
                        on_scope_made,
                        own_unit,
                        &own_unit->scope_call);
        if (r < 0)
                own_unit->handler(r, "could not ask systemd for a scope", own_unit->userdata);
}

static int own_unit_ask(OwnUnit *own_unit);

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        OwnUnit *own_unit = userdata;
        int r = own_unit_ask(own_unit);
        if (r < 0)
                own_unit->handler(r, "cannot ask systemd", own_unit->userdata);
        return 0;
}

static int own_unit_ask_later(OwnUnit *own_unit) {
        return loop_set_timer(
                        own_unit->event,
                        &own_unit->retry_source,
                        usec_add(usec_now(CLOCK_BOOTTIME), RETRY_USEC),
                        on_retry,
                        own_unit,
                        "own-unit-retry");
}

static void on_unit(int error, const char *unit, pid_t main_pid, void *userdata) {
        OwnUnit *own_unit = userdata;
        if (error == -ENOTCONN && own_unit_ask_later(own_unit) >= 0)
                return;
        if (error >= 0 && main_pid != getpid()) {
                make_scope(own_unit);
                return;
        }
        /* Not heard, or not told: a service that left its unit for a scope now would be a service no more. */
        if (error < 0) {
                own_unit->handler(error, "systemd did not say which unit daggyr is in", own_unit->userdata);
                return;
        }
        own_unit->is_service = true;
        own_unit->name = strdup(unit);
        if (own_unit->name)
                own_unit->handler(0, NULL, own_unit->userdata);
        else
                own_unit->handler(-ENOMEM, "out of memory", own_unit->userdata);
}

static int own_unit_ask(OwnUnit *own_unit) {
        own_unit->query = systemd1_query_free(own_unit->query);
        int r = systemd1_ask_unit_of(own_unit->systemd1, getpid(), on_unit, own_unit, &own_unit->query);
        return r == -ENOTCONN ? own_unit_ask_later(own_unit) : r;
}

int own_unit_find(
                sd_event *event,
                Systemd1 *systemd1,
                OwnUnitHandler handler,
                void *userdata,
                OwnUnit **ret) {
        _cleanup_(own_unit_freep) OwnUnit *own_unit = calloc(1, sizeof(*own_unit));
        if (!own_unit)
                return -ENOMEM;
        *own_unit = (OwnUnit) {
                .event = sd_event_ref(event),
                .systemd1 = systemd1,
                .handler = handler,
                .userdata = userdata,
        };
        int r = own_unit_ask(own_unit);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(own_unit);
        return 0;
}

OwnUnitQuestion *own_unit_question_free(OwnUnitQuestion *question) {
        if (!question)
                return NULL;
        systemd1_query_free(question->query);
        free(question);
        return NULL;
}

/* A stop that was ordered shows as a job before it shows as a state. */
static bool unit_is_stopping(const UnitStatus *unit) {
        return streq(unit->active_state, "deactivating") || streq(unit->job_type, "stop") ||
                        streq(unit->job_type, "restart");
}

static void on_status(int error, const UnitStatus *units, size_t n, void *userdata) {
        OwnUnitQuestion *question = userdata;
        question->answered = true;
        question->handler(error >= 0 && n == 1 && unit_is_stopping(units), question->userdata);
}

int own_unit_ask_stopping(
                OwnUnit *own_unit,
                OwnUnitStoppingHandler handler,
                void *userdata,
                OwnUnitQuestion **ret) {
        if (!own_unit)
                return -ENOTCONN;
        _cleanup_(own_unit_question_freep) OwnUnitQuestion *question = calloc(1, sizeof(*question));
        if (!question)
                return -ENOMEM;
        *question = (OwnUnitQuestion) { .handler = handler, .userdata = userdata };
        int r = systemd1_ask_unit(own_unit->systemd1, own_unit->name, on_status, question, &question->query);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(question);
        return 0;
}

bool own_unit_question_is_open(const OwnUnitQuestion *question) {
        return question && !question->answered;
}

int own_unit_restore(sd_event *event, Systemd1 *systemd1, const char *name, bool is_service, OwnUnit **ret) {
        _cleanup_(own_unit_freep) OwnUnit *own_unit = calloc(1, sizeof(*own_unit));
        if (!own_unit)
                return -ENOMEM;
        *own_unit = (OwnUnit) {
                .event = sd_event_ref(event),
                .systemd1 = systemd1,
                .name = strdup(name),
                .is_service = is_service,
        };
        if (!own_unit->name)
                return -ENOMEM;
        *ret = TAKE_PTR(own_unit);
        return 0;
}
