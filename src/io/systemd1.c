/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Facts this file builds on (measured on systemd 252, 257 and 262):
 * - StartTransientUnit() answers with a job; the process is in its cgroup only when JobRemoved says "done".
 * - dbus-daemon refuses more than 128 pending replies per connection, so calls in flight are bounded.
 * - Signals come only to those who called Subscribe(), and only once the match is installed. */

#include "io/systemd1.h"

#include <stdio.h>

#include "base/text.h"
#include "io/loop.h"

#define CALLS_IN_FLIGHT_MAX 16
#define CALL_TIMEOUT_USEC   (30 * USEC_PER_SEC)
#define RECONNECT_MIN_USEC  (100 * USEC_PER_MSEC)
#define RECONNECT_MAX_USEC  (5 * USEC_PER_SEC)

struct Systemd1 {
        sd_event *event;
        bool user;
        Systemd1Handlers handlers;
        void *userdata;
        sd_bus *bus;
        bool connected;
        uint64_t n_connects;
        usec_t reconnect_usec;
        sd_event_source *reconnect_source, *send_source;
        Systemd1Call *calls, *last_call; /* in order of arrival */
        size_t n_in_flight;
};

/* A call that makes systemd queue a job, from here until that job is done. */
struct Systemd1Call {
        Systemd1 *systemd1;
        Systemd1Call *previous, *next;
        sd_bus_message *message; /* until it was sent */
        char *unit, *job;
        bool in_flight;
        sd_bus_slot *slot;
        sd_event_source *deadline_source;
        Systemd1Done done;
        void *userdata;
};

static void call_free(Systemd1Call *call) {
        Systemd1 *systemd1 = call->systemd1;
        if (call->previous)
                call->previous->next = call->next;
        else
                systemd1->calls = call->next;
        if (call->next)
                call->next->previous = call->previous;
        else
                systemd1->last_call = call->previous;

        if (call->in_flight)
                systemd1->n_in_flight--;
        if (systemd1->send_source)
                (void) sd_event_source_set_enabled(systemd1->send_source, SD_EVENT_ONESHOT);
        event_source_dropp(&call->deadline_source);
        sd_bus_slot_unref(call->slot);
        sd_bus_message_unref(call->message);
        free(call->unit);
        free(call->job);
        free(call);
}

Systemd1Call *systemd1_call_cancel(Systemd1Call *call) {
        if (call)
                call_free(call);
        return NULL;
}

static void call_finish(Systemd1Call *call, int error, const char *message) {
        Systemd1Done done = call->done;
        void *userdata = call->userdata;
        call_free(call);
        done(error, message, userdata);
}

static int on_call_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        call_finish(userdata, -ETIMEDOUT, "systemd did not finish the job in time");
        return 0;
}

/* What the bus says of a systemd that re-executes itself in the middle of a call (NoReply, seen on 252), or
 * when the connection ends: nobody knows whether the call took effect. */
static bool is_about_absence(const sd_bus_error *error) {
        return sd_bus_error_has_name(error, SD_BUS_ERROR_NO_REPLY) ||
                        sd_bus_error_has_name(error, SD_BUS_ERROR_DISCONNECTED) ||
                        sd_bus_error_has_name(error, SD_BUS_ERROR_SERVICE_UNKNOWN) ||
                        sd_bus_error_has_name(error, SD_BUS_ERROR_NAME_HAS_NO_OWNER);
}

static int call_errno(const sd_bus_error *error) {
        if (is_about_absence(error))
                return -ENOTCONN;
        if (sd_bus_error_has_name(error, "org.freedesktop.systemd1.UnitExists"))
                return -EEXIST;
        if (sd_bus_error_has_name(error, "org.freedesktop.systemd1.NoSuchUnit"))
                return -ENOENT;
        int r = sd_bus_error_get_errno(error);
        return r > 0 ? -r : -EIO;
}

static int on_call_reply(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        Systemd1Call *call = userdata;
        if (sd_bus_message_is_method_error(reply, NULL)) {
                const sd_bus_error *error = sd_bus_message_get_error(reply);
                _cleanup_(freep) char *message = strdup(error->message ?: error->name);
                call_finish(call, call_errno(error), message ?: "out of memory");
                return 0;
        }
        const char *job;
        int r = sd_bus_message_read(reply, "o", &job);
        if (r >= 0) {
                call->job = strdup(job);
                r = call->job ? 0 : -ENOMEM;
        }
        if (r < 0)
                call_finish(call, r, "cannot read systemd's reply");
        return 0;
}

static void call_send(Systemd1Call *call) {
        Systemd1 *systemd1 = call->systemd1;
        call->in_flight = true;
        systemd1->n_in_flight++;
        int r = sd_bus_call_async(
                        systemd1->bus, &call->slot, call->message, on_call_reply, call, CALL_TIMEOUT_USEC);
        call->message = sd_bus_message_unref(call->message);
        if (r < 0)
                call_finish(call, r, "cannot send to systemd");
}

static int on_send(sd_event_source *source, void *userdata) {
        Systemd1 *systemd1 = userdata;
        for (Systemd1Call *call = systemd1->calls, *next; call; call = next) {
                next = call->next;
                if (systemd1->n_in_flight >= CALLS_IN_FLIGHT_MAX || !systemd1->connected)
                        break;
                if (call->message && !call->in_flight)
                        call_send(call);
        }
        return 0;
}

static int on_job_removed(sd_bus_message *signal, void *userdata, sd_bus_error *reterr_error) {
        Systemd1 *systemd1 = userdata;
        const char *job, *unit, *result;
        uint32_t id;
        if (sd_bus_message_read(signal, "uoss", &id, &job, &unit, &result) < 0)
                return 0;
        for (Systemd1Call *call = systemd1->calls; call; call = call->next) {
                if (!call->job || !streq(call->unit, unit) || !streq(call->job, job))
                        continue;
                _cleanup_(freep) char *message = NULL;
                bool is_done = streq(result, "done");
                if (!is_done && asprintf(&message, "systemd's job ended with result \"%s\"", result) < 0)
                        message = NULL;
                call_finish(call, is_done ? 0 : -EIO, is_done ? NULL : message ?: "systemd's job failed");
                return 0;
        }
        return 0;
}

static void systemd1_disconnect(Systemd1 *systemd1) {
        systemd1->connected = false;
        while (systemd1->calls)
                call_finish(systemd1->calls, -ENOTCONN, "the connection to systemd was lost");
        if (systemd1->bus) {
                sd_bus_detach_event(systemd1->bus);
                systemd1->bus = sd_bus_close_unref(systemd1->bus);
        }
}

static int on_reconnect(sd_event_source *source, uint64_t usec, void *userdata);

/* Puts the end of the connection off to a turn of the loop of its own: we may be inside one of its callbacks.
 */
static void systemd1_lost(Systemd1 *systemd1, int error) {
        bool was_connected = systemd1->connected;
        systemd1->connected = false;
        systemd1->reconnect_usec = was_connected                          ? RECONNECT_MIN_USEC :
                        systemd1->reconnect_usec * 2 < RECONNECT_MAX_USEC ? systemd1->reconnect_usec * 2 :
                                                                            RECONNECT_MAX_USEC;
        (void) loop_set_timer(
                        systemd1->event,
                        &systemd1->reconnect_source,
                        usec_add(usec_now(CLOCK_BOOTTIME), systemd1->reconnect_usec),
                        on_reconnect,
                        systemd1,
                        "systemd1-reconnect");
        systemd1->handlers.on_disconnected(error, systemd1->userdata);
}

static int on_local_disconnected(sd_bus_message *signal, void *userdata, sd_bus_error *reterr_error) {
        systemd1_lost(userdata, -ECONNRESET);
        return 0;
}

static int on_subscribed(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        Systemd1 *systemd1 = userdata;
        if (sd_bus_message_is_method_error(reply, NULL)) {
                systemd1_lost(systemd1, -sd_bus_message_get_errno(reply));
                return 0;
        }
        systemd1->connected = true;
        systemd1->reconnect_usec = RECONNECT_MIN_USEC;
        systemd1->n_connects++;
        systemd1->handlers.on_connected(systemd1->userdata);
        return 0;
}

static int systemd1_connect(Systemd1 *systemd1) {
        int r = systemd1->user ? sd_bus_open_user_with_description(&systemd1->bus, "daggyr") :
                                 sd_bus_open_system_with_description(&systemd1->bus, "daggyr");
        if (r < 0)
                return r;
        r = sd_bus_attach_event(systemd1->bus, systemd1->event, LOOP_PRIORITY_BUS);
        if (r < 0)
                return r;
        r = sd_bus_match_signal_async(
                        systemd1->bus,
                        NULL,
                        NULL,
                        "/org/freedesktop/DBus/Local",
                        "org.freedesktop.DBus.Local",
                        "Disconnected",
                        on_local_disconnected,
                        NULL,
                        systemd1);
        if (r < 0)
                return r;
        r = sd_bus_match_signal_async(
                        systemd1->bus,
                        NULL,
                        SYSTEMD1_SERVICE,
                        SYSTEMD1_MANAGER_PATH,
                        SYSTEMD1_MANAGER_INTERFACE,
                        "JobRemoved",
                        on_job_removed,
                        NULL,
                        systemd1);
        if (r < 0)
                return r;
        /* The bus keeps the order: once this is answered the match is in force, too. */
        return sd_bus_call_method_async(
                        systemd1->bus,
                        NULL,
                        SYSTEMD1_SERVICE,
                        SYSTEMD1_MANAGER_PATH,
                        SYSTEMD1_MANAGER_INTERFACE,
                        "Subscribe",
                        on_subscribed,
                        systemd1,
                        NULL);
}

static int on_reconnect(sd_event_source *source, uint64_t usec, void *userdata) {
        Systemd1 *systemd1 = userdata;
        systemd1_disconnect(systemd1);
        int r = systemd1_connect(systemd1);
        if (r < 0)
                systemd1_lost(systemd1, r);
        return 0;
}

int systemd1_new(
                sd_event *event,
                bool user,
                const Systemd1Handlers *handlers,
                void *userdata,
                Systemd1 **ret) {
        _cleanup_(systemd1_freep) Systemd1 *systemd1 = calloc(1, sizeof(*systemd1));
        if (!systemd1)
                return -ENOMEM;
        systemd1->event = sd_event_ref(event);
        systemd1->user = user;
        systemd1->handlers = *handlers;
        systemd1->userdata = userdata;
        systemd1->reconnect_usec = RECONNECT_MIN_USEC;
        int r = sd_event_add_defer(event, &systemd1->send_source, on_send, systemd1);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(systemd1->send_source, SD_EVENT_OFF);
        if (r < 0)
                return r;
        /* The first attempt, too, is the loop's. */
        r = loop_set_timer(event, &systemd1->reconnect_source, 0, on_reconnect, systemd1, "systemd1-connect");
        if (r < 0)
                return r;
        *ret = TAKE_PTR(systemd1);
        return 0;
}

Systemd1 *systemd1_free(Systemd1 *systemd1) {
        if (!systemd1)
                return NULL;
        while (systemd1->calls)
                call_free(systemd1->calls);
        systemd1_disconnect(systemd1);
        event_source_dropp(&systemd1->reconnect_source);
        event_source_dropp(&systemd1->send_source);
        sd_event_unref(systemd1->event);
        free(systemd1);
        return NULL;
}

uint64_t systemd1_n_reconnects(const Systemd1 *systemd1) {
        return systemd1->n_connects > 0 ? systemd1->n_connects - 1 : 0;
}

sd_bus *systemd1_bus(Systemd1 *systemd1) {
        return systemd1->connected ? systemd1->bus : NULL;
}

/* Takes over MESSAGE in every case. */
static int systemd1_call(
                Systemd1 *systemd1,
                sd_bus_message *message,
                const char *unit,
                Systemd1Done done,
                void *userdata,
                Systemd1Call **ret) {
        Systemd1Call *call = calloc(1, sizeof(*call));
        if (!call) {
                sd_bus_message_unref(message);
                return -ENOMEM;
        }
        *call = (Systemd1Call){
                .systemd1 = systemd1,
                .previous = systemd1->last_call,
                .message = message,
                .unit = strdup(unit),
                .done = done,
                .userdata = userdata,
        };
        *(systemd1->last_call ? &systemd1->last_call->next : &systemd1->calls) = call;
        systemd1->last_call = call;

        int r = call->unit ? 0 : -ENOMEM;
        if (r >= 0)
                r = loop_set_timer(
                                systemd1->event,
                                &call->deadline_source,
                                usec_add(usec_now(CLOCK_BOOTTIME), CALL_TIMEOUT_USEC),
                                on_call_deadline,
                                call,
                                "systemd1-deadline");
        if (r >= 0)
                r = sd_event_source_set_enabled(systemd1->send_source, SD_EVENT_ONESHOT);
        if (r < 0) {
                call_free(call);
                return r;
        }
        *ret = call;
        return 0;
}

static int manager_message(Systemd1 *systemd1, const char *method, sd_bus_message **ret) {
        if (!systemd1->connected)
                return -ENOTCONN;
        return sd_bus_message_new_method_call(
                        systemd1->bus,
                        ret,
                        SYSTEMD1_SERVICE,
                        SYSTEMD1_MANAGER_PATH,
                        SYSTEMD1_MANAGER_INTERFACE,
                        method);
}

/* What every task's scope has. There is no ordering to the unit it is bound to: with After= a scope would
 * wait for a daemon that is not READY yet, with Before= a daemon that is being stopped would wait in vain for
 * a scope it stops itself (both seen on 252). An OOM kill is the leader's to answer ("continue"), the same
 * way on cgroup v1, where systemd never hears of it. PIDs and not PIDFDs, which are there only from 255 on:
 * the leader is a child of ours that nobody has reaped, so its number cannot be another process's. */
static int append_scope_properties(sd_bus_message *m, const ScopeParameters *p) {
        int r = sd_bus_message_append(
                        m,
                        "(sv)(sv)(sv)(sv)(sv)(sv)(sv)(sv)(sv)(sv)",
                        "Description",
                        "s",
                        p->description,
                        "CollectMode",
                        "s",
                        "inactive-or-failed",
                        "OOMPolicy",
                        "s",
                        "continue",
                        "TimeoutStopUSec",
                        "t",
                        p->stop_timeout_usec,
                        "CPUAccounting",
                        "b",
                        1,
                        "MemoryAccounting",
                        "b",
                        1,
                        "TasksAccounting",
                        "b",
                        1,
                        "IOAccounting",
                        "b",
                        1,
                        "TasksMax",
                        "t",
                        p->tasks_max,
                        "PIDs",
                        "au",
                        1,
                        (uint32_t) p->pid);
        if (r >= 0 && p->cpu_quota_usec != UINT64_MAX)
                r = sd_bus_message_append(m, "(sv)", "CPUQuotaPerSecUSec", "t", p->cpu_quota_usec);
        if (r >= 0 && p->memory_max_bytes != UINT64_MAX)
                r = sd_bus_message_append(
                                m,
                                "(sv)(sv)",
                                "MemoryMax",
                                "t",
                                p->memory_max_bytes,
                                "MemorySwapMax",
                                "t",
                                UINT64_C(0));
        if (r >= 0 && p->bound_to)
                r = sd_bus_message_append(m, "(sv)", "BindsTo", "as", 1, p->bound_to);
        if (r >= 0 && p->slice)
                r = sd_bus_message_append(m, "(sv)", "Slice", "s", p->slice);
        return r;
}

static int append_addresses(sd_bus_message *m, const TaskProperty *property) {
        int r = sd_bus_message_open_container(m, 'v', "a(iayu)");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(iayu)");
        for (size_t i = 0; r >= 0 && i < property->n_addresses; i++) {
                const TaskAddress *address = &property->addresses[i];
                r = sd_bus_message_open_container(m, 'r', "iayu");
                if (r >= 0)
                        r = sd_bus_message_append(m, "i", (int32_t) address->family);
                if (r >= 0)
                        r = sd_bus_message_append_array(m, 'y', address->bytes, address->size);
                if (r >= 0)
                        r = sd_bus_message_append(m, "u", address->n_bits);
                if (r >= 0)
                        r = sd_bus_message_close_container(m);
        }
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_device_limits(sd_bus_message *m, const TaskProperty *property) {
        int r = sd_bus_message_open_container(m, 'v', "a(st)");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(st)");
        for (size_t i = 0; r >= 0 && i < property->n_limits; i++)
                r = sd_bus_message_append(m, "(st)", property->limits[i].path, property->limits[i].limit);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_mask(sd_bus_message *m, const TaskProperty *property) {
        int r = sd_bus_message_open_container(m, 'v', "ay");
        if (r >= 0)
                r = sd_bus_message_append_array(m, 'y', property->mask, property->mask_size);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_property_value(sd_bus_message *m, const TaskProperty *property) {
        switch (property->kind) {
        case TASK_PROPERTY_NUMBER:
                return sd_bus_message_append(m, "v", "t", property->number);
        case TASK_PROPERTY_MASK:
                return append_mask(m, property);
        case TASK_PROPERTY_ADDRESSES:
                return append_addresses(m, property);
        case TASK_PROPERTY_DEVICE_LIMITS:
                return append_device_limits(m, property);
        }
        return -EINVAL;
}

static int append_task_properties(sd_bus_message *m, const TaskProperties *properties) {
        int r = 0;
        for (size_t i = 0; properties && r >= 0 && i < properties->n_items; i++) {
                r = sd_bus_message_open_container(m, 'r', "sv");
                if (r >= 0)
                        r = sd_bus_message_append(m, "s", properties->items[i].name);
                if (r >= 0)
                        r = append_property_value(m, &properties->items[i]);
                if (r >= 0)
                        r = sd_bus_message_close_container(m);
        }
        return r;
}

static int scope_message(Systemd1 *systemd1, const ScopeParameters *parameters, sd_bus_message **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r = manager_message(systemd1, "StartTransientUnit", &m);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "ss", parameters->name, "fail");
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(m, 'a', "(sv)");
        if (r < 0)
                return r;
        r = append_scope_properties(m, parameters);
        if (r < 0)
                return r;
        r = append_task_properties(m, parameters->properties);
        if (r < 0)
                return r;
        r = sd_bus_message_close_container(m);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "a(sa(sv))", 0);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(m);
        return 0;
}

int systemd1_start_scope(
                Systemd1 *systemd1,
                const ScopeParameters *parameters,
                Systemd1Done done,
                void *userdata,
                Systemd1Call **ret) {
        sd_bus_message *message = NULL;
        int r = scope_message(systemd1, parameters, &message);
        if (r < 0)
                return r;
        return systemd1_call(systemd1, message, parameters->name, done, userdata, ret);
}

int systemd1_stop_unit(
                Systemd1 *systemd1,
                const char *name,
                Systemd1Done done,
                void *userdata,
                Systemd1Call **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r = manager_message(systemd1, "StopUnit", &m);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "ss", name, "replace");
        if (r < 0)
                return r;
        return systemd1_call(systemd1, TAKE_PTR(m), name, done, userdata, ret);
}

void systemd1_kill_unit(Systemd1 *systemd1, const char *name, int signal) {
        if (!systemd1->connected)
                return;
        (void) sd_bus_call_method_async(
                        systemd1->bus,
                        NULL,
                        SYSTEMD1_SERVICE,
                        SYSTEMD1_MANAGER_PATH,
                        SYSTEMD1_MANAGER_INTERFACE,
                        "KillUnit",
                        NULL,
                        NULL,
                        "ssi",
                        name,
                        "all",
                        (int32_t) signal);
}
