/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/login1.h"

#include <fcntl.h>
#include <systemd/sd-bus.h>

#include "base/usec.h"
#include "io/loop.h"

#define SERVICE   "org.freedesktop.login1"
#define OBJECT    "/org/freedesktop/login1"
#define INTERFACE "org.freedesktop.login1.Manager"

#define RETRY_USEC (5 * USEC_PER_SEC)

struct Login1 {
        sd_event *event;
        Login1Handler handler;
        void *userdata;
        sd_bus *bus;
        sd_event_source *retry_source;
        bool going_down; /* as last told */
        int delay_fd;    /* while it is open logind waits, InhibitDelayMaxSec= at most */
};

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata);

static void login1_retry(Login1 *login1) {
        (void) loop_set_timer(
                        login1->event,
                        &login1->retry_source,
                        usec_add(usec_now(CLOCK_BOOTTIME), RETRY_USEC),
                        on_retry,
                        login1,
                        "login1-retry");
}

static int on_inhibited(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        Login1 *login1 = userdata;
        int fd;
        if (sd_bus_message_is_method_error(reply, NULL) || sd_bus_message_read(reply, "h", &fd) < 0)
                return 0; /* no logind: then nobody will tell us, but nobody waits for us either */
        fd_close(&login1->delay_fd);
        login1->delay_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        return 0;
}

static int login1_take_delay(Login1 *login1) {
        return sd_bus_call_method_async(
                        login1->bus,
                        NULL,
                        SERVICE,
                        OBJECT,
                        INTERFACE,
                        "Inhibit",
                        on_inhibited,
                        login1,
                        "ssss",
                        "shutdown",
                        "daggyr",
                        "Tasks come to their end",
                        "delay");
}

static void login1_told(Login1 *login1, bool going_down) {
        if (!going_down && login1->delay_fd < 0)
                (void) login1_take_delay(login1); /* for the next time */
        if (going_down == login1->going_down)
                return;
        login1->going_down = going_down;
        login1->handler(going_down, login1->userdata);
}

static int on_prepare_for_shutdown(sd_bus_message *signal, void *userdata, sd_bus_error *reterr_error) {
        int going_down;
        if (sd_bus_message_read(signal, "b", &going_down) >= 0)
                login1_told(userdata, going_down);
        return 0;
}

static int on_preparing(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        int going_down;
        if (!sd_bus_message_is_method_error(reply, NULL) &&
            sd_bus_message_read(reply, "v", "b", &going_down) >= 0)
                login1_told(userdata, going_down);
        return 0;
}

/* What was announced before we listened. This also takes the delay, if there is one to be had. */
static int login1_ask(Login1 *login1) {
        return sd_bus_call_method_async(
                        login1->bus,
                        NULL,
                        SERVICE,
                        OBJECT,
                        "org.freedesktop.DBus.Properties",
                        "Get",
                        on_preparing,
                        login1,
                        "ss",
                        INTERFACE,
                        "PreparingForShutdown");
}

/* A logind that was restarted has forgotten what its predecessor announced, and never takes it back. */
static int on_owner_changed(sd_bus_message *signal, void *userdata, sd_bus_error *reterr_error) {
        const char *name, *before, *now;
        if (sd_bus_message_read(signal, "sss", &name, &before, &now) >= 0 && *now)
                (void) login1_ask(userdata);
        return 0;
}

static int on_bus_lost(sd_bus_message *signal, void *userdata, sd_bus_error *reterr_error) {
        login1_retry(userdata);
        return 0;
}

static int login1_connect(Login1 *login1) {
        int r = sd_bus_open_system_with_description(&login1->bus, "daggyr-login1");
        if (r < 0)
                return r;
        r = sd_bus_attach_event(login1->bus, login1->event, LOOP_PRIORITY_BUS);
        if (r < 0)
                return r;
        r = sd_bus_match_signal_async(
                        login1->bus,
                        NULL,
                        NULL,
                        "/org/freedesktop/DBus/Local",
                        "org.freedesktop.DBus.Local",
                        "Disconnected",
                        on_bus_lost,
                        NULL,
                        login1);
        if (r < 0)
                return r;
        r = sd_bus_match_signal_async(
                        login1->bus,
                        NULL,
                        SERVICE,
                        OBJECT,
                        INTERFACE,
                        "PrepareForShutdown",
                        on_prepare_for_shutdown,
                        NULL,
                        login1);
        if (r < 0)
                return r;
        r = sd_bus_add_match_async(
                        login1->bus,
                        NULL,
                        "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
                        "member='NameOwnerChanged',arg0='" SERVICE "'",
                        on_owner_changed,
                        NULL,
                        login1);
        return r < 0 ? r : login1_ask(login1);
}

static void login1_disconnect(Login1 *login1) {
        if (!login1->bus)
                return;
        sd_bus_detach_event(login1->bus);
        login1->bus = sd_bus_close_unref(login1->bus);
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        Login1 *login1 = userdata;
        login1_disconnect(login1);
        if (login1_connect(login1) < 0)
                login1_retry(login1);
        return 0;
}

int login1_new(sd_event *event, Login1Handler handler, void *userdata, Login1 **ret) {
        Login1 *login1 = calloc(1, sizeof(*login1));
        if (!login1)
                return -ENOMEM;
        *login1 = (Login1) {
                .event = sd_event_ref(event),
                .handler = handler,
                .userdata = userdata,
                .delay_fd = -EBADF,
        };
        if (login1_connect(login1) < 0)
                login1_retry(login1);
        *ret = login1;
        return 0;
}

Login1 *login1_free(Login1 *login1) {
        if (!login1)
                return NULL;
        event_source_dropp(&login1->retry_source);
        login1_disconnect(login1);
        fd_close(&login1->delay_fd);
        sd_event_unref(login1->event);
        free(login1);
        return NULL;
}

void login1_release_delay(Login1 *login1) {
        if (login1)
                fd_close(&login1->delay_fd);
}
