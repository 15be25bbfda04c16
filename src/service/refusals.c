/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "service/refusals.h"

#include <inttypes.h>
#include <stdio.h>
#include <syslog.h>

#include "base/log.h"
#include "io/loop.h"

#define KIND_DROP       1000 /* and the HttpDrop; what is below is an HTTP status */
#define SHOWN_BYTES_MAX 128

void refusals_init(Refusals *refusals, sd_event *event) {
        *refusals = (Refusals) { .event = event };
}

void refusals_done(Refusals *refusals) {
        event_source_dropp(&refusals->source);
}

static void tell_withheld(const Refusal *refusal) {
        if (refusal->kind == 0)
                log_line(LOG_NOTICE, "Refused %" PRIu64 " more, from many clients", refusal->n_withheld);
        else if (refusal->kind >= KIND_DROP)
                log_line(LOG_NOTICE,
                         "Closed %" PRIu64 " more connections of %s, which %s",
                         refusal->n_withheld,
                         refusal->client,
                         http_drop_text((HttpDrop) (refusal->kind - KIND_DROP)));
        else
                log_line(LOG_NOTICE,
                         "Refused %" PRIu64 " more requests from %s: %d %s",
                         refusal->n_withheld,
                         refusal->client,
                         refusal->kind,
                         problem_title(refusal->kind));
}

static int on_interval_over(sd_event_source *source, uint64_t usec, void *userdata);

static void refusals_set_timer(Refusals *refusals) {
        (void) loop_set_timer(
                        refusals->event,
                        &refusals->source,
                        refusal_log_deadline(&refusals->log),
                        on_interval_over,
                        refusals,
                        "refusals");
}

static int on_interval_over(sd_event_source *source, uint64_t usec, void *userdata) {
        Refusals *refusals = userdata;
        Refusal refusal;
        while (refusal_log_next(&refusals->log, usec_now(CLOCK_BOOTTIME), &refusal))
                tell_withheld(&refusal);
        refusals_set_timer(refusals);
        return 0;
}

static bool note(Refusals *refusals, int kind, const char *client) {
        bool is_first = refusal_log_note(&refusals->log, kind, client, usec_now(CLOCK_BOOTTIME));
        int enabled = SD_EVENT_OFF;
        if (refusals->source)
                (void) sd_event_source_get_enabled(refusals->source, &enabled);
        if (enabled == SD_EVENT_OFF)
                refusals_set_timer(refusals);
        return is_first;
}

/* What a client wrote must not look like lines of ours, nor be anything to a terminal. */
static const char *shown(const char *text, char buffer[static SHOWN_BYTES_MAX]) {
        (void) snprintf(buffer, SHOWN_BYTES_MAX, "%s", text);
        for (char *c = buffer; *c; c++)
                if (*c < ' ' || *c > '~')
                        *c = '?';
        return buffer;
}

void refusals_request(Refusals *refusals, const HttpRequest *request, const Problem *problem) {
        const char *client = http_request_client(request);
        if (!note(refusals, problem->status, client))
                return;
        char reason[SHOWN_BYTES_MAX], method[SHOWN_BYTES_MAX], path[SHOWN_BYTES_MAX];
        /* What is said about a query may quote it. */
        bool is_about_query = problem->status == 400 && *http_request_query(request);
        const char *detail = is_about_query ? problem_title(problem->status) : problem->detail;
        log_line(LOG_NOTICE,
                 "Refused a request from %s: %d %s (%.16s %s)",
                 client,
                 problem->status,
                 shown(detail, reason),
                 shown(http_request_method(request), method),
                 shown(http_request_path(request), path));
}

void refusals_connection(Refusals *refusals, HttpDrop why, const char *client) {
        if (note(refusals, KIND_DROP + (int) why, client))
                log_line(LOG_NOTICE, "Closed a connection of %s, which %s", client, http_drop_text(why));
}
