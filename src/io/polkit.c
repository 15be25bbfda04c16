/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Whom polkit decides on, and what happens when a pid is used again.
 *
 * polkit goes by the user that we name, and that is the one the kernel noted when the client connected: it
 * makes no difference that a client executes a set-uid program afterwards. Of the process, polkit only takes
 * the session it is in: whether that is local and active. Should the process have ended, and its pid be
 * another's by now, three things stand between the client and that other's session:
 *
 * - Since Linux 6.5 the socket itself gives a pidfd of the process that connected. If that lives after the
 *   start time was read, then pid and start time are those of the client. polkit 124 and later gets the
 * pidfd, too, and earlier ones look no further than at pid and start time.
 * - Where there is no such pidfd, the process must belong to the user that connected. So the worst is that a
 *   user is taken to be in another session of his own: from there he might as well have connected.
 * - From then on the start time tells processes of the same pid apart, in polkit as well. */

#include "io/polkit.h"

#include <poll.h>
#include <stdio.h>
#include <systemd/sd-bus.h>
#include <utlist.h>

#include "base/text.h"
#include "base/usec.h"
#include "core/http/peer-access.h"
#include "io/file.h"
#include "io/loop.h"

#define SERVICE   "org.freedesktop.PolicyKit1"
#define OBJECT    "/org/freedesktop/PolicyKit1/Authority"
#define INTERFACE "org.freedesktop.PolicyKit1.Authority"

#define CHECK_USEC (POLKIT_CHECK_SEC * USEC_PER_SEC)

/* dbus-daemon allows 128 pending replies; and no user should take all of polkit for himself. */
#define CHECKS_MAX          64
#define CHECKS_OF_USER_MAX  16
#define PROC_FILE_BYTES_MAX ((size_t) 16 * 1024)

struct Polkit {
        sd_event *event;
        sd_bus *bus; /* NULL until it is needed */
        PolkitCheck *checks;
};

struct PolkitCheck {
        Polkit *polkit;
        PolkitCheck *previous, *next;
        uid_t uid;
        sd_bus_slot *slot;
        sd_event_source *deadline_source;
        PolkitDone done;
        void *userdata;
};

static int read_proc(pid_t pid, const char *name, Text *ret) {
        char path[sizeof("/proc/-2147483648/") + 16];
        (void) snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
        int r = file_read_all(path, PROC_FILE_BYTES_MAX, ret);
        return r == -ENOENT ? -ESRCH : r;
}

static bool has_ended(int pidfd) {
        struct pollfd poll_fd = { .fd = pidfd, .events = POLLIN };
        return pidfd >= 0 && poll(&poll_fd, 1, 0) != 0;
}

int polkit_subject_from_process(pid_t pid, uid_t uid, int pidfd, PolkitSubject *ret) {
        _cleanup_(fd_close) int owned = pidfd;
        _cleanup_(text_done) Text stat = {}, status = {};
        if (pid <= 0) /* of a PID namespace that we do not see */
                return -ESRCH;
        PolkitSubject subject = { .pid = pid, .uid = uid };
        int r = read_proc(pid, "stat", &stat);
        if (r >= 0)
                r = read_proc(pid, "status", &status);
        if (r >= 0)
                r = peer_parse_start_time(stat.data ?: "", &subject.start_time);
        if (r < 0)
                return r;
        if (has_ended(owned))
                return -ESRCH;
        if (!peer_status_has_uid(status.data ?: "", uid))
                return -EPERM;
        subject.pidfd = TAKE_FD(owned);
        *ret = subject;
        return 0;
}

int polkit_new(sd_event *event, Polkit **ret) {
        Polkit *polkit = calloc(1, sizeof(*polkit));
        if (!polkit)
                return -ENOMEM;
        polkit->event = sd_event_ref(event);
        *ret = polkit;
        return 0;
}

static void polkit_disconnect(Polkit *polkit) {
        if (!polkit->bus)
                return;
        sd_bus_detach_event(polkit->bus);
        polkit->bus = sd_bus_close_unref(polkit->bus);
}

Polkit *polkit_free(Polkit *polkit) {
        if (!polkit)
                return NULL;
        while (polkit->checks)
                polkit_check_cancel(polkit->checks);
        polkit_disconnect(polkit);
        sd_event_unref(polkit->event);
        free(polkit);
        return NULL;
}

static int polkit_connect(Polkit *polkit) {
        if (polkit->bus && sd_bus_is_open(polkit->bus) > 0)
                return 0;
        polkit_disconnect(polkit);
        int r = sd_bus_open_system_with_description(&polkit->bus, "daggyr-polkit");
        return r < 0 ? r : sd_bus_attach_event(polkit->bus, polkit->event, LOOP_PRIORITY_BUS);
}

PolkitCheck *polkit_check_cancel(PolkitCheck *check) {
        if (!check)
                return NULL;
        DL_DELETE2(check->polkit->checks, check, previous, next);
        event_source_dropp(&check->deadline_source);
        sd_bus_slot_unref(check->slot);
        free(check);
        return NULL;
}

static void check_finish(PolkitCheck *check, int verdict, const char *message) {
        PolkitDone done = check->done;
        void *userdata = check->userdata;
        polkit_check_cancel(check);
        done(verdict, message, userdata);
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        check_finish(userdata, -ETIMEDOUT, "no answer in time");
        return 0;
}

static int read_verdict(sd_bus_message *reply) {
        int is_authorized, is_challenge;
        int r = sd_bus_message_enter_container(reply, SD_BUS_TYPE_STRUCT, "bba{ss}");
        if (r >= 0)
                r = sd_bus_message_read(reply, "bb", &is_authorized, &is_challenge);
        if (r < 0)
                return r;
        return is_authorized ? POLKIT_GRANTED : is_challenge ? POLKIT_CHALLENGE : POLKIT_DENIED;
}

static int on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *error = sd_bus_message_get_error(reply);
        if (error) {
                int r = sd_bus_error_get_errno(error);
                _cleanup_(freep) char *message = strdup(error->message ?: error->name);
                check_finish(userdata, r > 0 ? -r : -EIO, message ?: "out of memory");
                return 0;
        }
        int verdict = read_verdict(reply);
        check_finish(userdata, verdict, verdict < 0 ? "cannot read the reply" : NULL);
        return 0;
}

static int append_subject(sd_bus_message *message, const PolkitSubject *subject) {
        int r = sd_bus_message_open_container(message, SD_BUS_TYPE_STRUCT, "sa{sv}");
        if (r >= 0)
                r = sd_bus_message_append(message, "s", "unix-process");
        if (r >= 0)
                r = sd_bus_message_open_container(message, SD_BUS_TYPE_ARRAY, "{sv}");
        if (r >= 0)
                r = sd_bus_message_append(message, "{sv}", "pid", "u", (uint32_t) subject->pid);
        if (r >= 0)
                r = sd_bus_message_append(message, "{sv}", "start-time", "t", subject->start_time);
        if (r >= 0)
                r = sd_bus_message_append(message, "{sv}", "uid", "i", (int32_t) subject->uid);
        if (r >= 0 && subject->pidfd >= 0)
                r = sd_bus_message_append(message, "{sv}", "pidfd", "h", subject->pidfd);
        if (r >= 0)
                r = sd_bus_message_close_container(message);
        return r < 0 ? r : sd_bus_message_close_container(message);
}

static int send_check(PolkitCheck *check, const PolkitSubject *subject, const char *action) {
        sd_bus *bus = check->polkit->bus;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *message = NULL;
        int r = sd_bus_message_new_method_call(
                        bus, &message, SERVICE, OBJECT, INTERFACE, "CheckAuthorization");
        if (r >= 0)
                r = append_subject(message, subject);
        /* No details, no flags (AllowUserInteraction is 1), and no name by which to cancel it. */
        if (r >= 0)
                r = sd_bus_message_append(message, "sa{ss}us", action, 0, 0, "");
        if (r >= 0)
                r = sd_bus_call_async(bus, &check->slot, message, on_reply, check, CHECK_USEC);
        if (r < 0)
                return r;
        /* The one of the call does not begin before the bus has answered for the first time. */
        return loop_set_timer(
                        check->polkit->event,
                        &check->deadline_source,
                        usec_add(usec_now(CLOCK_BOOTTIME), CHECK_USEC),
                        on_deadline,
                        check,
                        "polkit-check");
}

static bool is_busy(const Polkit *polkit, uid_t uid) {
        unsigned n = 0, n_of_user = 0;
        for (const PolkitCheck *check = polkit->checks; check; check = check->next) {
                n++;
                n_of_user += check->uid == uid;
        }
        return n >= CHECKS_MAX || n_of_user >= CHECKS_OF_USER_MAX;
}

int polkit_check(
                Polkit *polkit,
                const PolkitSubject *subject,
                const char *action,
                PolkitDone done,
                void *userdata,
                PolkitCheck **ret) {
        if (is_busy(polkit, subject->uid))
                return -EBUSY;
        int r = polkit_connect(polkit);
        if (r < 0)
                return r;
        PolkitCheck *check = calloc(1, sizeof(*check));
        if (!check)
                return -ENOMEM;
        *check = (PolkitCheck) {
                .polkit = polkit,
                .uid = subject->uid,
                .done = done,
                .userdata = userdata,
        };
        DL_PREPEND2(polkit->checks, check, previous, next);
        r = send_check(check, subject, action);
        if (r < 0) {
                polkit_check_cancel(check);
                return r;
        }
        *ret = check;
        return 0;
}
