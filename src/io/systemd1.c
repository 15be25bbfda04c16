/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/systemd1.h"

#include "io/loop.h"
#include "io/systemd1-internal.h"

#define RECONNECT_MIN_USEC (100 * USEC_PER_MSEC)
#define RECONNECT_MAX_USEC (5 * USEC_PER_SEC)

static void systemd1_disconnect(Systemd1 *systemd1) {
        systemd1->connected = false;
        call_queue_fail(&systemd1->jobs, -ENOTCONN, "the connection to systemd was lost");
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

/* "252 (252.39-1~deb12u1)" in systemd 252, "v257.8" as well in others. */
static unsigned read_version(sd_bus_message *reply) {
        const char *text;
        if (sd_bus_message_read(reply, "v", "s", &text) < 0)
                return 0;
        return (unsigned) strtoul(text + strcspn(text, "0123456789"), NULL, 10);
}

static int on_version(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        Systemd1 *systemd1 = userdata;
        if (sd_bus_message_is_method_error(reply, NULL)) {
                systemd1_lost(systemd1, -sd_bus_message_get_errno(reply));
                return 0;
        }
        systemd1->version = read_version(reply);
        systemd1->connected = true;
        systemd1->reconnect_usec = RECONNECT_MIN_USEC;
        systemd1->n_connects++;
        systemd1->handlers.on_connected(systemd1->userdata);
        return 0;
}

/* The manager tells of a job's end if anybody has subscribed, or if a client of the bus has asked for that
 * job (the same in 252 and 257): whoever starts units need not subscribe. It is a broadcast either way, so
 * that there has to be a match, and whoever only asks is better off without one. */
static int systemd1_match_job_ends(Systemd1 *systemd1) {
        if (systemd1->mode == SYSTEMD1_SYSTEM_READ)
                return 0;
        return sd_bus_match_signal_async(
                        systemd1->bus,
                        NULL,
                        SYSTEMD1_SERVICE,
                        SYSTEMD1_MANAGER_PATH,
                        SYSTEMD1_MANAGER_INTERFACE,
                        "JobRemoved",
                        systemd1_on_job_removed,
                        NULL,
                        systemd1);
}

static int systemd1_connect(Systemd1 *systemd1) {
        int r = systemd1->mode == SYSTEMD1_USER ?
                        sd_bus_open_user_with_description(&systemd1->bus, "daggyr") :
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
        r = systemd1_match_job_ends(systemd1);
        if (r < 0)
                return r;
        /* The bus keeps the order: once this is answered the match is in force, too. */
        return sd_bus_call_method_async(
                        systemd1->bus,
                        NULL,
                        SYSTEMD1_SERVICE,
                        SYSTEMD1_MANAGER_PATH,
                        "org.freedesktop.DBus.Properties",
                        "Get",
                        on_version,
                        systemd1,
                        "ss",
                        SYSTEMD1_MANAGER_INTERFACE,
                        "Version");
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
                Systemd1Mode mode,
                const Systemd1Handlers *handlers,
                void *userdata,
                Systemd1 **ret) {
        _cleanup_(systemd1_freep) Systemd1 *systemd1 = calloc(1, sizeof(*systemd1));
        if (!systemd1)
                return -ENOMEM;
        systemd1->event = sd_event_ref(event);
        systemd1->mode = mode;
        systemd1->handlers = *handlers;
        systemd1->userdata = userdata;
        systemd1->reconnect_usec = RECONNECT_MIN_USEC;
        int r = systemd1_jobs_init(systemd1);
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
        call_queue_done(&systemd1->jobs);
        systemd1_disconnect(systemd1);
        event_source_dropp(&systemd1->reconnect_source);
        sd_event_unref(systemd1->event);
        free(systemd1);
        return NULL;
}

uint64_t systemd1_n_reconnects(const Systemd1 *systemd1) {
        return systemd1->n_connects > 0 ? systemd1->n_connects - 1 : 0;
}

/* What the bus says of a systemd that re-executes itself in the middle of a call (NoReply, seen on 252), or
 * when the connection ends: nobody knows whether the call took effect. */
static bool is_about_absence(const sd_bus_error *error) {
        return sd_bus_error_has_name(error, SD_BUS_ERROR_NO_REPLY) ||
                        sd_bus_error_has_name(error, SD_BUS_ERROR_DISCONNECTED) ||
                        sd_bus_error_has_name(error, SD_BUS_ERROR_SERVICE_UNKNOWN) ||
                        sd_bus_error_has_name(error, SD_BUS_ERROR_NAME_HAS_NO_OWNER);
}

int systemd1_reply_errno(const sd_bus_error *error) {
        if (is_about_absence(error))
                return -ENOTCONN;
        int r = sd_bus_error_get_errno(error);
        return r > 0 ? -r : -EIO;
}

/* Before the bus has said that it is gone. */
int systemd1_send_errno(int r) {
        return r == -ECONNRESET || r == -EPIPE || r == -ESHUTDOWN ? -ENOTCONN : r;
}

int systemd1_manager_message(Systemd1 *systemd1, const char *method, sd_bus_message **ret) {
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
