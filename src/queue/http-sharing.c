/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/http-sharing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <systemd/sd-id128.h>

#include "base/log.h"
#include "base/text.h"
#include "core/json/json.h"
#include "core/sharing/emcee.h"
#include "io/loop.h"
#include "queue/emcee-call.h"
#include "queue/moment.h"
#include "queue/port-scan.h"

#define SHARE_USEC (10 * USEC_PER_SEC) /* longer than the look that the master may do before it answers */

struct HttpSharing {
        HttpSharingOptions options;
        char id[SHARING_QUEUE_ID_SIZE];
        char *identity;       /* value of the header */
        Text identity_header; /* its whole line */
        Text dying_version;
        EmceeCaller caller;
        PortScan *scan;
        Sharing *sharing;
        sd_event_source *run_source;
        HttpCall *call;    /* to the master */
        unsigned question; /* that it is asked */
};

/* ── to the master ── */

static void on_share_done(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        HttpSharing *http = userdata;
        _cleanup_(json_putp) json_object *answer = NULL;
        _cleanup_(worker_set_unrefp) WorkerSet *share = NULL;
        Problem problem = {};
        Moment now = moment_now();
        int r = emcee_call_parse(outcome, &answer);
        if (r >= 0)
                r = emcee_share_parse(answer, &share, &problem);
        if (r < 0)
                log_line(LOG_NOTICE,
                         "The master queue %s gives no answer: keeping the share as it is",
                         http->sharing->master ?: "of before");
        http->call = http_call_free(http->call);
        sharing_answered(http->sharing, http->question, share, &now);
}

static int on_ask_master(unsigned question, const char *url, void *userdata) {
        HttpSharing *http = userdata;
        _cleanup_(json_putp) json_object *request = NULL;
        _cleanup_(freep) char *body = NULL;
        SharingQueue self = sharing_self(http->sharing);
        int r = emcee_workers_to_utilize_format(&self, &request);
        if (r >= 0)
                r = json_format(request, &body, NULL);
        if (r < 0)
                return r;
        http->call = http_call_free(http->call);
        http->question = question;
        return emcee_call_new(
                        &http->caller,
                        url,
                        "/workersToUtilize",
                        body,
                        SHARE_USEC,
                        on_share_done,
                        http,
                        &http->call);
}

/* ── from others ── */

static void on_asker_hangup(HttpRequest *request, void *userdata) {
        const HttpSharing *http = userdata;
        sharing_forget_asker(http->sharing, request);
}

static void on_answer(void *asker, const WorkerSet *share, void *userdata) {
        HttpRequest *request = asker;
        json_object *answer = NULL;
        http_request_on_hangup(request, NULL, NULL);
        if (share && emcee_share_format(share, &answer) >= 0) {
                http_request_answer_json(request, 200, answer);
                return;
        }
        Problem problem = {};
        _cleanup_(freep) char *text = NULL;
        (void) problem_set(&problem, 503, NULL, "the queues could not be found out");
        (void) emcee_error_format("/workersToUtilize", &problem, &text);
        http_request_answer(request, 400, "text/plain", text, text ? strlen(text) : 0);
}

void http_sharing_answer_share(HttpSharing *http, HttpRequest *request, SharingQueue *asker) {
        Moment now = moment_now();
        http_request_on_hangup(request, on_asker_hangup, http);
        if (sharing_ask(http->sharing, request, asker, &now) >= 0)
                return;
        http_request_on_hangup(request, NULL, NULL);
        http_request_answer(request, 400, NULL, NULL, 0);
}

/* ── what else the hands are told ── */

static const char *on_version(void *userdata) {
        return http_sharing_shown_version(userdata);
}

static void on_share_changed(void *userdata) {
        const HttpSharing *http = userdata;
        log_line(LOG_INFO,
                 "This queue's share is %zu of its %zu workers",
                 sharing_share(http->sharing)->n_ids,
                 http_sharing_configured(http)->n_ids);
        http->options.share_changed(http->options.userdata);
}

static int on_run(sd_event_source *source, uint64_t usec, void *userdata) {
        const HttpSharing *http = userdata;
        Moment now = moment_now();
        sharing_run(http->sharing, &now);
        return 0;
}

static void on_deadline_changed(void *userdata) {
        HttpSharing *http = userdata;
        (void) loop_set_timer(
                        http->options.event,
                        &http->run_source,
                        sharing_deadline(http->sharing),
                        on_run,
                        http,
                        "sharing");
}

static void on_master_changed(const char *address, void *userdata) {
        log_line(LOG_INFO, "The master queue is %s", address ?: "nobody");
}

static void on_stranger_asked(const SharingQueue *asker, void *userdata) {
        log_line(LOG_NOTICE,
                 "Queue %s asks for its share, but was not found where queues are looked for",
                 asker->address);
}

static void on_split_failed(int r, size_t n, void *userdata) {
        (void) log_errno(LOG_ERR, r, "Cannot split the workers among %zu queues", n);
}

static const SharingHands sharing_hands = {
        .version = on_version,
        .ask_master = on_ask_master,
        .answer = on_answer,
        .share_changed = on_share_changed,
        .deadline_changed = on_deadline_changed,
        .master_changed = on_master_changed,
        .stranger_asked = on_stranger_asked,
        .split_failed = on_split_failed,
};

/* ── what there is to know ── */

const char *http_sharing_shown_version(const HttpSharing *http) {
        const HttpSharingOptions *options = &http->options;
        return options->is_draining(options->userdata) ? http->dying_version.data : options->version;
}

const char *http_sharing_identity(const HttpSharing *http) {
        return http->identity;
}

const WorkerSet *http_sharing_configured(const HttpSharing *http) {
        return http->sharing->options.configured;
}

bool http_sharing_is_told(const HttpSharing *http) {
        return sharing_is_told(http->sharing);
}

bool http_sharing_permits(const HttpSharing *http, const char *worker_id) {
        return worker_set_has(sharing_share(http->sharing), worker_id);
}

void http_sharing_set_configured(HttpSharing *http, WorkerSet *configured) {
        Moment now = moment_now();
        sharing_set_configured(http->sharing, configured, &now);
}

void http_sharing_toggle(HttpSharing *http, bool enabled) {
        Moment now = moment_now();
        sharing_toggle(http->sharing, enabled, &now);
}

const Sharing *http_sharing_state(const HttpSharing *http) {
        return http->sharing;
}

/* ── set-up ── */

static int make_identity(HttpSharing *http) {
        sd_id128_t id;
        int r = sd_id128_randomize(&id);
        if (r < 0)
                return r;
        (void) sd_id128_to_string(id, http->id);
        r = emcee_identity_format(http->id, http->options.address, &http->identity);
        if (r < 0)
                return r;
        r = text_appendf(&http->identity_header, EMCEE_IDENTITY_HEADER ": %s", http->identity);
        if (r >= 0)
                r = text_appendf(&http->dying_version, "not_discoverable_%s", http->options.version);
        return r;
}

static int make_sharing(HttpSharing *http) {
        const QueueConfig *config = http->options.config;
        SharingOptions options = {
                .address = http->options.address,
                .configured = http->options.configured,
                .enabled = config->sharing.enabled,
                .strict = config->sharing.strict,
                .poll_interval_usec = config->sharing.poll_interval_usec,
                .cache_ttl_usec = config->sharing.cache_ttl_usec,
                .lease_ttl_usec = config->lease_ttl_usec,
                .port = &port_scan_port,
                .discovery = http->scan,
                .hands = &sharing_hands,
                .userdata = http,
        };
        memcpy(options.id, http->id, sizeof(options.id));
        Moment now = moment_now();
        return sharing_new(&options, &now, &http->sharing);
}

int http_sharing_new(const HttpSharingOptions *options, HttpSharing **ret) {
        _cleanup_(http_sharing_freep) HttpSharing *http = calloc(1, sizeof(*http));
        if (!http)
                return -ENOMEM;
        http->options = *options;
        int r = make_identity(http);
        if (r < 0)
                return r;
        http->caller = (EmceeCaller) {
                .client = options->client,
                .access = options->access,
                .identity = http->identity_header.data,
        };
        r = port_scan_new(options->event, &http->caller, &options->config->sharing, http->id, &http->scan);
        if (r >= 0)
                r = make_sharing(http);
        if (r < 0)
                return r;
        on_deadline_changed(http);
        *ret = TAKE_PTR(http);
        return 0;
}

HttpSharing *http_sharing_free(HttpSharing *http) {
        if (!http)
                return NULL;
        port_scan_free(http->scan);
        http_call_free(http->call);
        event_source_dropp(&http->run_source);
        sharing_free(http->sharing);
        free(http->identity);
        text_done(&http->identity_header);
        text_done(&http->dying_version);
        free(http);
        return NULL;
}
