/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/own-unit.h"

#include <stdio.h>

#include "base/text.h"

struct OwnUnit {
        Systemd1 *systemd1; /* weak */
        OwnUnitHandler handler;
        void *userdata;
        sd_bus_slot *slot;
        Systemd1Call *scope_call;
        char *name, *path;
        bool is_service;
};

struct OwnUnitQuestion {
        OwnUnitStoppingHandler handler;
        void *userdata;
        sd_bus_slot *slot;
};

OwnUnit *own_unit_free(OwnUnit *own_unit) {
        if (!own_unit)
                return NULL;
        sd_bus_slot_unref(own_unit->slot);
        systemd1_call_cancel(own_unit->scope_call);
        free(own_unit->name);
        free(own_unit->path);
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
        int r = asprintf(&own_unit->name, "daggyr-runner-%d.scope", (int) getpid());
        if (r < 0) {
                own_unit->name = NULL;
                own_unit->handler(-ENOMEM, "out of memory", own_unit->userdata);
                return;
        }
        r = systemd1_start_scope(
                        own_unit->systemd1,
                        &(ScopeParameters){
                                        .name = own_unit->name,

                                        .description = "daggyr, started from a shell",
                                        .pid = getpid(),
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

static int read_main_pid(sd_bus_message *reply, uint32_t *ret) {
        int r = sd_bus_message_enter_container(reply, 'v', "u");
        return r < 0 ? r : sd_bus_message_read(reply, "u", ret);
}

static int on_main_pid(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        OwnUnit *own_unit = userdata;
        uint32_t main_pid = 0;
        if (sd_bus_message_is_method_error(reply, NULL) || read_main_pid(reply, &main_pid) < 0 ||
            (pid_t) main_pid != getpid()) {
                make_scope(own_unit);
                return 0;
        }
        own_unit->is_service = true;
        if (sd_bus_path_decode(own_unit->path, "/org/freedesktop/systemd1/unit", &own_unit->name) <= 0)
                own_unit->handler(-EBADMSG, "systemd named an unexpected unit", own_unit->userdata);
        else
                own_unit->handler(0, NULL, own_unit->userdata);
        return 0;
}

static int on_unit(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        OwnUnit *own_unit = userdata;
        const char *path;
        if (sd_bus_message_is_method_error(reply, "org.freedesktop.systemd1.NoUnitForPID")) {
                make_scope(own_unit);
                return 0;
        }
        /* Not heard, or not told: a service that left its unit for a scope now would be a service no more. */
        if (sd_bus_message_is_method_error(reply, NULL) || sd_bus_message_read(reply, "o", &path) < 0) {
                own_unit->handler(-EIO, "systemd did not say which unit daggyr is in", own_unit->userdata);
                return 0;
        }
        own_unit->path = strdup(path);
        own_unit->slot = sd_bus_slot_unref(own_unit->slot);
        int r = own_unit->path ? 0 : -ENOMEM;
        if (r >= 0)
                r = sd_bus_call_method_async(
                                systemd1_bus(own_unit->systemd1),
                                &own_unit->slot,
                                SYSTEMD1_SERVICE,
                                own_unit->path,
                                "org.freedesktop.DBus.Properties",
                                "Get",
                                on_main_pid,
                                own_unit,
                                "ss",
                                "org.freedesktop.systemd1.Service",
                                "MainPID");
        if (r < 0)
                own_unit->handler(r, "could not ask systemd for daggyr's own unit", own_unit->userdata);
        return 0;
}

int own_unit_find(Systemd1 *systemd1, OwnUnitHandler handler, void *userdata, OwnUnit **ret) {
        _cleanup_(own_unit_freep) OwnUnit *own_unit = calloc(1, sizeof(*own_unit));
        if (!own_unit)
                return -ENOMEM;
        *own_unit = (OwnUnit){ .systemd1 = systemd1, .handler = handler, .userdata = userdata };
        int r = sd_bus_call_method_async(
                        systemd1_bus(systemd1),
                        &own_unit->slot,
                        SYSTEMD1_SERVICE,
                        SYSTEMD1_MANAGER_PATH,
                        SYSTEMD1_MANAGER_INTERFACE,
                        "GetUnitByPID",
                        on_unit,
                        own_unit,
                        "u",
                        (uint32_t) getpid());
        if (r < 0)
                return r;
        *ret = TAKE_PTR(own_unit);
        return 0;
}

OwnUnitQuestion *own_unit_question_free(OwnUnitQuestion *question) {
        if (!question)
                return NULL;
        sd_bus_slot_unref(question->slot);
        free(question);
        return NULL;
}

/* A stop that was ordered shows as a job before it shows as a state. */
static int read_is_stopping(sd_bus_message *reply) {
        const char *state, *job;
        int r = sd_bus_message_enter_container(reply, 'a', "(ssssssouso)");
        if (r > 0)
                r = sd_bus_message_enter_container(reply, 'r', "ssssssouso");
        if (r > 0)
                r = sd_bus_message_read(
                                reply,
                                "ssssssouso",
                                NULL,
                                NULL,
                                NULL,
                                &state,
                                NULL,
                                NULL,
                                NULL,
                                NULL,
                                &job,
                                NULL);
        if (r <= 0)
                return r;
        return streq(state, "deactivating") || streq(job, "stop") || streq(job, "restart");
}

static int on_units_listed(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        OwnUnitQuestion *question = userdata;
        bool is_stopping = !sd_bus_message_is_method_error(reply, NULL) && read_is_stopping(reply) > 0;
        question->handler(is_stopping, question->userdata);
        return 0;
}

int own_unit_ask_stopping(
                OwnUnit *own_unit,
                OwnUnitStoppingHandler handler,
                void *userdata,
                OwnUnitQuestion **ret) {
        sd_bus *bus = own_unit ? systemd1_bus(own_unit->systemd1) : NULL;
        if (!bus)
                return -ENOTCONN;
        _cleanup_(own_unit_question_freep) OwnUnitQuestion *question = calloc(1, sizeof(*question));
        if (!question)
                return -ENOMEM;
        *question = (OwnUnitQuestion){ .handler = handler, .userdata = userdata };
        int r = sd_bus_call_method_async(
                        bus,
                        &question->slot,
                        SYSTEMD1_SERVICE,
                        SYSTEMD1_MANAGER_PATH,
                        SYSTEMD1_MANAGER_INTERFACE,
                        "ListUnitsByNames",
                        on_units_listed,
                        question,
                        "as",
                        1,
                        own_unit->name);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(question);
        return 0;
}
