/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Where requests go, and how long they are waited for. */

#include "queue/forward.h"

#include <errno.h>
#include <stdlib.h>
#include <syslog.h>
#include <utlist.h>

#include "base/log.h"
#include "io/loop.h"
#include "queue/forward-internal.h"

#define TICK_USEC       (200 * USEC_PER_MSEC)
#define GRACE_USEC      (2 * USEC_PER_SEC) /* for the last words of a member that led */
#define BURST_MAX       1024
#define REPEATS_MAX     10 /* a request by which one leader after the other dies must come to an end */
#define CALLS_MAX       10000
#define CONNECTIONS_MAX 1536 /* less than what one client may have at a server (service/listen.c) */
#define SHORT_CALLS     256
#define RETRY_SOON_SEC  1

/* NOLINTBEGIN(clang-analyzer-core.NullDereference): the analyzer does not know what such a list keeps true.
 */

static void list_append(Forwarded **list, Forwarded *forwarded) {
        DL_APPEND2(*list, forwarded, previous, next);
}

static void list_remove(Forwarded **list, Forwarded *forwarded) {
        DL_DELETE2(*list, forwarded, previous, next);
}

/* NOLINTEND(clang-analyzer-core.NullDereference) */

static void leave_list(Forwarded *forwarded) {
        Forwarder *forwarder = forwarded->forwarder;
        bool held = forwarded->state == FORWARDED_HELD;
        list_remove(held ? &forwarder->held : &forwarder->sent, forwarded);
        forwarder->n_held -= held;
}

void forwarded_free(Forwarded *forwarded) {
        leave_list(forwarded);
        http_call_free(forwarded->call);
        text_done(&forwarded->bytes);
        free(forwarded);
}

/* The request is the caller's again. */
static HttpRequest *take_back(Forwarded *forwarded) {
        HttpRequest *request = forwarded->request;
        http_request_on_hangup(request, NULL, NULL);
        forwarded_free(forwarded);
        return request;
}

static void refuse(Forwarded *forwarded, const Problem *problem) {
        request_answer_unserved(take_back(forwarded), problem);
}

static void refuse_for_now(Forwarded *forwarded, const char *detail) {
        Problem problem = {};
        (void) problem_set_for_now(&problem, 503, RETRY_SOON_SEC, detail);
        refuse(forwarded, &problem);
}

/* ── held ── */

static int on_tick(sd_event_source *source, uint64_t usec, void *userdata);

static void tick_soon(Forwarder *forwarder) {
        int enabled = SD_EVENT_OFF;
        if (forwarder->tick_source)
                (void) sd_event_source_get_enabled(forwarder->tick_source, &enabled);
        if (enabled == SD_EVENT_OFF)
                (void) loop_set_timer(
                                forwarder->options.event,
                                &forwarder->tick_source,
                                usec_add(usec_now(CLOCK_BOOTTIME), TICK_USEC),
                                on_tick,
                                forwarder,
                                "forwarder");
}

const char *forwarder_trouble(const Forwarder *forwarder) {
        const ForwarderOptions *options = &forwarder->options;
        if (options->leads(options->userdata))
                return NULL;
        if (!options->leader(options->userdata))
                return "no member of this queue leads now";
        return forwarder->unreachable ? "the member that leads cannot be reached from here" : NULL;
}

static void hold(Forwarded *forwarded) {
        Forwarder *forwarder = forwarded->forwarder;
        if (forwarder->is_over) {
                refuse_for_now(forwarded, "this member of the queue does not lead any more");
                return;
        }
        if (forwarder->n_held >= forwarder->options.held_max) {
                refuse_for_now(forwarded,
                               "no member of this queue leads now, and many requests wait for one");
                return;
        }
        forwarded->call = http_call_free(forwarded->call);
        forwarded->bytes.size = 0;
        forwarded->deadline_usec = USEC_INFINITY;
        leave_list(forwarded);
        forwarded->state = FORWARDED_HELD;
        list_append(&forwarder->held, forwarded);
        forwarder->n_held++;
        if (forwarded->held_until_usec == USEC_INFINITY)
                forwarded->held_until_usec = usec_add(usec_now(CLOCK_BOOTTIME), forwarder->options.hold_usec);
        tick_soon(forwarder);
}

static void unhold(Forwarded *forwarded) {
        Forwarder *forwarder = forwarded->forwarder;
        leave_list(forwarded);
        forwarded->state = FORWARDED_SENT;
        list_append(&forwarder->sent, forwarded);
}

/* The one that has sent it here will know better in a moment. */
static void answer_not_leading(HttpRequest *request) {
        Problem problem = {};
        (void) problem_set_for_now(&problem, 503, RETRY_SOON_SEC, "this member of the queue does not lead");
        (void) http_request_add_header(request, FORWARD_HEADER, FORWARD_NOT_LEADING);
        request_answer_unserved(request, &problem);
}

/* One that is held goes where it can, or stays. */
static void go_on(Forwarded *forwarded) {
        const ForwarderOptions *options = &forwarded->forwarder->options;
        if (options->leads(options->userdata)) {
                request_serve(take_back(forwarded));
                return;
        }
        const Member *leader = options->leader(options->userdata);
        if (forwarded->is_passed_on && !options->leads_soon(options->userdata)) {
                answer_not_leading(take_back(forwarded));
                return;
        }
        if (!leader || forwarded->is_passed_on)
                return;
        unhold(forwarded);
        int r = forwarded_send(forwarded, leader);
        if (r >= 0)
                return;
        Problem problem = {};
        if (r == -EBUSY)
                (void) problem_set_for_now(
                                &problem, 503, RETRY_SOON_SEC, "too many requests are passed on already");
        else
                (void) problem_from_errno(&problem, r);
        refuse(forwarded, &problem);
}

/* Lets the first N_MAX go on: in order of arrival, those that come to be held again last. */
static void release_held(Forwarder *forwarder, size_t n_max) {
        for (size_t n = n_max < forwarder->n_held ? n_max : forwarder->n_held; n > 0 && forwarder->held; n--)
                go_on(forwarder->held);
}

static bool is_somebody_there(const Forwarder *forwarder) {
        const ForwarderOptions *options = &forwarder->options;
        return options->leads(options->userdata) || options->leader(options->userdata);
}

/* ── sent ── */

static void note_unreachable(Forwarder *forwarder, const char *reason) {
        forwarder->burst = 1;
        if (!forwarder->unreachable)
                log_line(LOG_WARNING, "Cannot pass requests on to the member that leads: %s", reason);
        forwarder->unreachable = true;
}

static void note_reachable(Forwarder *forwarder) {
        if (forwarder->unreachable)
                log_line(LOG_NOTICE, "Requests are passed on to the member that leads again");
        forwarder->unreachable = false;
}

void forwarded_was_answered(Forwarded *forwarded) {
        Forwarder *forwarder = forwarded->forwarder;
        note_reachable(forwarder);
        release_held(forwarder, forwarder->n_held);
}

void forwarded_was_declined(Forwarded *forwarded) {
        forwarded->forwarder->burst = 1;
        hold(forwarded);
}

static void send_again_or_refuse(Forwarded *forwarded, bool not_sent) {
        Problem problem = {};
        if (not_sent) {
                hold(forwarded);
                return;
        }
        if (forwarded->repeatable && forwarded->n_repeats < REPEATS_MAX) {
                forwarded->n_repeats++;
                forwarded->held_until_usec = USEC_INFINITY;
                hold(forwarded);
                return;
        }
        (void) problem_set(
                        &problem,
                        502,
                        NULL,
                        "the member of this queue that leads was lost before it answered: nobody knows here "
                        "whether it has done what was asked for");
        refuse(forwarded, &problem);
}

void forwarded_was_lost(Forwarded *forwarded, bool not_sent, const char *reason) {
        note_unreachable(forwarded->forwarder, reason);
        send_again_or_refuse(forwarded, not_sent);
}

/* It was sent to one that does not lead any more. */
static void give_up(Forwarded *forwarded) {
        if (forwarded->state == FORWARDED_STREAMED)
                forwarded_break_off(forwarded);
        else
                send_again_or_refuse(forwarded, false);
}

/* ── time and change ── */

static bool has_deadlines(const Forwarder *forwarder) {
        if (forwarder->held)
                return true;
        for (const Forwarded *forwarded = forwarder->sent; forwarded; forwarded = forwarded->next)
                if (forwarded->deadline_usec != USEC_INFINITY)
                        return true;
        return false;
}

static void end_late_ones(Forwarder *forwarder) {
        usec_t now_usec = usec_now(CLOCK_BOOTTIME);
        for (Forwarded *forwarded = forwarder->held, *next; forwarded; forwarded = next) {
                next = forwarded->next;
                if (now_usec >= forwarded->held_until_usec)
                        refuse_for_now(forwarded,
                                       forwarder_trouble(forwarder) ?:
                                                                      "the member that leads did not take it");
        }
        for (Forwarded *forwarded = forwarder->sent, *next; forwarded; forwarded = next) {
                next = forwarded->next;
                if (now_usec >= forwarded->deadline_usec)
                        give_up(forwarded);
        }
}

/* A leader that could not be reached is tried again by few at first, and by more as long as none fails. */
static int on_tick(sd_event_source *source, uint64_t usec, void *userdata) {
        Forwarder *forwarder = userdata;
        end_late_ones(forwarder);
        if (forwarder->held && is_somebody_there(forwarder)) {
                size_t n = forwarder->burst;
                forwarder->burst = n < BURST_MAX ? 2 * n : n;
                release_held(forwarder, n);
        }
        if (has_deadlines(forwarder))
                tick_soon(forwarder);
        return 0;
}

/* What may be asked of the new leader as well is; the rest may still get an answer from the old one. */
static void leave_former_leader(Forwarder *forwarder, const char *leader_id) {
        usec_t deadline_usec = usec_add(usec_now(CLOCK_BOOTTIME), GRACE_USEC);
        for (Forwarded *forwarded = forwarder->sent, *next; forwarded; forwarded = next) {
                next = forwarded->next;
                if (streq(forwarded->leader_id, leader_id))
                        continue;
                if (forwarded->state == FORWARDED_SENT && forwarded->repeatable)
                        send_again_or_refuse(forwarded, false);
                else if (forwarded->deadline_usec > deadline_usec)
                        forwarded->deadline_usec = deadline_usec;
        }
}

void forwarder_leader_changed(Forwarder *forwarder) {
        const ForwarderOptions *options = &forwarder->options;
        if (!is_somebody_there(forwarder)) /* the one that led may still answer */
                return;
        const Member *leader = options->leader(options->userdata);
        leave_former_leader(forwarder, leader ? leader->id : "");
        forwarder->burst = 1;
        release_held(forwarder, forwarder->n_held);
        if (has_deadlines(forwarder))
                tick_soon(forwarder);
}

void forwarder_end(Forwarder *forwarder) {
        forwarder->is_over = true;
        for (Forwarded *forwarded = forwarder->held, *next; forwarded; forwarded = next) {
                next = forwarded->next;
                refuse_for_now(forwarded, "this member of the queue does not lead any more");
        }
}

/* ── requests ── */

static void on_hangup(HttpRequest *request, void *userdata) {
        forwarded_free(userdata);
}

static Forwarded *forwarded_new(Forwarder *forwarder, HttpRequest *request, const RequestContext *context) {
        Forwarded *forwarded = malloc(sizeof(*forwarded));
        if (!forwarded)
                return NULL;
        size_t size;
        const char *body = http_request_body(request, &size);
        const char *path = http_request_path(request);
        *forwarded = (Forwarded) {
                .forwarder = forwarder,
                .state = FORWARDED_SENT,
                .request = request,
                .context = context,
                .is_passed_on = http_request_header(request, FORWARD_HEADER),
                .waits = forward_may_wait(path, &context->query),
                .repeatable = forward_may_repeat(
                                http_request_method(request), path, &context->query, body, size),
                .held_until_usec = USEC_INFINITY,
                .deadline_usec = USEC_INFINITY,
        };
        list_append(&forwarder->sent, forwarded);
        http_request_on_hangup(request, on_hangup, forwarded);
        return forwarded;
}

bool forwarder_take(void *userdata, HttpRequest *request, const RequestContext *context) {
        Forwarder *forwarder = userdata;
        if (!forwarder || forwarder->options.leads(forwarder->options.userdata))
                return false;
        bool is_passed_on = http_request_header(request, FORWARD_HEADER);
        if (is_passed_on && !forwarder->options.leads_soon(forwarder->options.userdata)) {
                answer_not_leading(request);
                return true;
        }
        Forwarded *forwarded = forwarded_new(forwarder, request, context);
        if (!forwarded) {
                http_request_answer_json(request, 200, NULL);
                return true;
        }
        bool is_first = forwarder->n_held == 0;
        hold(forwarded);
        if (is_first)
                release_held(forwarder, 1);
        return true;
}

/* ── all of it ── */

static int init(Forwarder *forwarder) {
        const ForwarderOptions *options = &forwarder->options;
        unsigned n_max = options->connections_max < CONNECTIONS_MAX ? options->connections_max :
                                                                      CONNECTIONS_MAX;
        unsigned n_short = n_max / 4;
        HttpClientOptions client_options = {
                .connections_max = n_short < SHORT_CALLS ? n_short + 1 : SHORT_CALLS,
                .connections_per_host_max = n_short < SHORT_CALLS ? n_short + 1 : SHORT_CALLS,
                .calls_max = CALLS_MAX,
        };
        int r = text_format(&forwarder->header, "%s: %s", FORWARD_HEADER, options->secret);
        if (r >= 0)
                r = http_client_new(options->event, &client_options, &forwarder->client);
        if (r < 0)
                return r;
        /* One that waits must not wait for the end of another: rather it is refused. */
        unsigned n_waits = n_max - client_options.connections_max;
        client_options.connections_max = n_waits > 0 ? n_waits : 1;
        client_options.connections_per_host_max = client_options.connections_max;
        client_options.calls_max = client_options.connections_max;
        return http_client_new(options->event, &client_options, &forwarder->waits);
}

int forwarder_new(const ForwarderOptions *options, Forwarder **ret) {
        _cleanup_(forwarder_freep) Forwarder *forwarder = calloc(1, sizeof(*forwarder));
        if (!forwarder)
                return -ENOMEM;
        forwarder->options = *options;
        forwarder->burst = 1;
        int r = init(forwarder);
        if (r < 0)
                return r;
        forwarder->options.secret = NULL; /* it is in the header */
        *ret = TAKE_PTR(forwarder);
        return 0;
}

Forwarder *forwarder_free(Forwarder *forwarder) {
        if (!forwarder)
                return NULL;
        while (forwarder->held)
                forwarded_free(forwarder->held);
        while (forwarder->sent)
                forwarded_free(forwarder->sent);
        http_client_free(forwarder->client);
        http_client_free(forwarder->waits);
        event_source_dropp(&forwarder->tick_source);
        if (forwarder->header)
                explicit_bzero(forwarder->header, strlen(forwarder->header));
        free(forwarder->header);
        free(forwarder);
        return NULL;
}

uint64_t forwarder_n_forwarded(const Forwarder *forwarder) {
        return forwarder->n_forwarded;
}

size_t forwarder_n_held(const Forwarder *forwarder) {
        return forwarder->n_held;
}
