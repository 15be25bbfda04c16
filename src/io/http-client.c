/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The life of calls: waiting, with libcurl, ended, told. Whatever ends or arrives is noted first, and told to
 * the callers when libcurl has returned: all that has come together, in order of arrival, in one turn of the
 * loop. */

#include "io/http-client.h"

#include <assert.h>
#include <errno.h>
#include <utlist.h>

#include "io/http-client-internal.h"
#include "io/loop.h"

#define IDLE_GRACE_USEC        (200 * USEC_PER_MSEC) /* for a thousand sockets that have something to read */
#define CALLBACKS_PER_TURN_MAX 64                    /* what else there is in the loop has its turn then */

/* NOLINTBEGIN(clang-analyzer-core.NullDereference): the analyzer does not know what such a list keeps true.
 */

static void line_append(HttpCall **line, HttpCall *call) {
        DL_APPEND2(*line, call, prev_in_line, next_in_line);
}

static void line_remove(HttpCall **line, HttpCall *call) {
        DL_DELETE2(*line, call, prev_in_line, next_in_line);
}

/* NOLINTEND(clang-analyzer-core.NullDereference) */

void http_client_schedule(HttpClient *client) {
        (void) sd_event_source_set_enabled(client->pump_source, SD_EVENT_ONESHOT);
}

bool http_client_is_exiting(const HttpClient *client) {
        int code;
        return sd_event_get_exit_code(client->event, &code) >= 0;
}

/* One whose caller does not want to hear more for now waits, unless it failed. */
static bool call_has_news(const HttpCall *call) {
        if (call->state == CALL_ENDED)
                return !call->on_data || call->error < 0 || !call->paused;
        return call->state == CALL_ACTIVE && (http_call_has_header(call) || http_call_has_data(call));
}

static void call_leave_ready(HttpCall *call) {
        if (!call->is_ready)
                return;
        line_remove(&call->client->ready, call);
        call->is_ready = false;
        call->client->n_ready--;
}

void http_call_settle(HttpCall *call) {
        HttpClient *client = call->client;
        if (!call_has_news(call))
                call_leave_ready(call);
        else if (!call->is_ready) {
                line_append(&client->ready, call);
                call->is_ready = true;
                client->n_ready++;
                http_client_schedule(client);
        }
}

/* Takes the call from its host and from libcurl, if they have it. */
static void call_stop(HttpCall *call) {
        HttpClient *client = call->client;
        HttpHost *host = call->host;
        if (!host)
                return;
        if (call->state == CALL_WAITING)
                line_remove(&host->waiting, call);
        else {
                (void) curl_multi_remove_handle(client->multi, call->easy);
                host->n_active--;
                client->n_active--;
        }
        call->host = NULL;
        http_host_settle(client, host);
}

static void call_detach(HttpCall *call) {
        HttpClient *client = call->client;
        if (call->state == CALL_ORPHANED)
                return;
        call_stop(call);
        call_leave_ready(call);
        DL_DELETE(client->calls, call);
        client->n_calls -= call->state != CALL_REPORTED;
        call->state = CALL_ORPHANED;
}

/* The outcome is told later in this turn or in the next. */
static void call_end(HttpCall *call, int error) {
        http_call_note_end(call, error);
        call_stop(call);
        event_source_dropp(&call->timer_source);
        call->state = CALL_ENDED;
        http_call_settle(call);
        http_client_schedule(call->client); /* another may start */
}

/* Of the answer, once the request is on its way. What has come may not have been read, if it was this process
 * that stood still: so there is a little more time when it is over. */
static usec_t call_idle_deadline(const HttpCall *call) {
        if (call->state != CALL_ACTIVE || call->paused)
                return USEC_INFINITY;
        usec_t deadline = usec_add(call->progress_usec, call->idle_usec);
        return call->suspected_usec == call->progress_usec ? call->grace_deadline_usec : deadline;
}

static int call_set_timer(HttpCall *call);

static int on_call_time(sd_event_source *source, uint64_t usec, void *userdata) {
        HttpCall *call = userdata;
        if (http_client_is_exiting(call->client))
                return 0;
        usec_t now = usec_now(CLOCK_BOOTTIME);
        bool idle = now >= call_idle_deadline(call);
        bool first_time = idle && call->suspected_usec != call->progress_usec;
        if (first_time) {
                call->suspected_usec = call->progress_usec;
                call->grace_deadline_usec = usec_add(now, IDLE_GRACE_USEC);
        }
        if (now >= call->total_deadline_usec || (idle && !first_time))
                call_end(call, -ETIMEDOUT);
        else if (call_set_timer(call) < 0)
                call_end(call, -ENOMEM);
        return 0;
}

/* What arrives moves the idle deadline; the timer notices when it fires. */
static int call_set_timer(HttpCall *call) {
        usec_t idle = call_idle_deadline(call);
        return loop_set_timer(
                        call->client->event,
                        &call->timer_source,
                        idle < call->total_deadline_usec ? idle : call->total_deadline_usec,
                        on_call_time,
                        call,
                        "http-call-deadline");
}

static void call_start(HttpCall *call) {
        HttpClient *client = call->client;
        HttpHost *host = call->host;
        assert(host && host->in_line);
        line_remove(&host->waiting, call);
        call->state = CALL_ACTIVE;
        host->n_active++;
        client->n_active++;
        http_host_leave_line(client, host); /* to its end */
        http_host_settle(client, host);
        call->progress_usec = usec_now(CLOCK_BOOTTIME);
        if (curl_multi_add_handle(client->multi, call->easy) != CURLM_OK || call_set_timer(call) < 0)
                call_end(call, -ENOMEM);
}

static void client_start_calls(HttpClient *client) {
        while (client->line && client->n_active < client->options.connections_max)
                call_start(client->line->waiting);
}

int http_call_new(HttpClient *client, const HttpCallOptions *options, HttpCall **ret_call) {
        _cleanup_(http_call_destroyp) HttpCall *call = NULL;
        _cleanup_(freep) char *key = NULL;
        if (client->n_calls >= client->options.calls_max)
                return -EBUSY;
        int r = http_call_prepare(client, options, &call, &key);
        if (r < 0)
                return r;
        HttpHost *host;
        r = http_host_find_or_add(client, key, &host);
        if (r < 0)
                return r;
        r = loop_set_timer(
                        client->event,
                        &call->timer_source,
                        call->total_deadline_usec,
                        on_call_time,
                        call,
                        "http-call-deadline");
        if (r < 0) {
                http_host_settle(client, host); /* it may be there for this call only */
                return r;
        }
        call->host = host;
        call->state = CALL_WAITING;
        DL_APPEND(client->calls, call);
        line_append(&host->waiting, call);
        http_host_settle(client, host);
        client->n_calls++;
        call->floating = !ret_call;
        if (ret_call)
                *ret_call = call;
        TAKE_PTR(call);
        client_start_calls(client);
        return 0;
}

HttpCall *http_call_free(HttpCall *call) {
        if (!call)
                return NULL;
        if (call->in_callback) {
                call->freed = true;
                return NULL;
        }
        if (call->state == CALL_WAITING || call->state == CALL_ACTIVE)
                http_client_schedule(call->client); /* another may start */
        call_detach(call);
        return http_call_destroy(call);
}

void http_call_pause(HttpCall *call) {
        call->paused = true;
        if (call->client)
                http_call_settle(call);
}

void http_call_resume(HttpCall *call) {
        if (!call->paused)
                return;
        call->paused = false;
        if (call->state != CALL_ACTIVE && call->state != CALL_ENDED)
                return;
        call->progress_usec = usec_now(CLOCK_BOOTTIME);
        if (call->state == CALL_ACTIVE)
                (void) call_set_timer(call);
        http_call_settle(call);
}

unsigned http_client_n_calls(const HttpClient *client) {
        return client->n_calls;
}

void http_client_collect(HttpClient *client) {
        CURLMsg *message;
        int n_left;
        while ((message = curl_multi_info_read(client->multi, &n_left))) {
                HttpCall *call = NULL;
                CURLcode result = message->data.result; /* gone with the handle */
                if (message->msg != CURLMSG_DONE)
                        continue;
                (void) curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &call);
                call_end(call, http_call_error(call, result));
        }
}

static void call_tell_header(HttpCall *call) {
        http_call_deliver_header(call);
        if (call->freed)
                http_call_free(call);
        else
                http_call_settle(call);
}

static void call_tell_data(HttpCall *call) {
        int r = http_call_deliver_data(call);
        if (call->freed) {
                http_call_free(call);
                return;
        }
        if (r < 0 && call->state == CALL_ACTIVE)
                call_end(call, r);
        else if (r < 0)
                call->error = r;
        http_call_settle(call);
}

static void call_tell_outcome(HttpCall *call) {
        call->state = CALL_REPORTED;
        call->client->n_calls--;
        http_call_deliver_outcome(call);
        if (call->freed || call->floating)
                http_call_free(call);
}

/* A callback may free any call, and may end the loop. */
static void client_call_back(HttpClient *client) {
        unsigned n = client->n_ready < CALLBACKS_PER_TURN_MAX ? client->n_ready : CALLBACKS_PER_TURN_MAX;
        client->in_callback = true;
        for (; n > 0 && client->ready && !http_client_is_exiting(client); n--) {
                HttpCall *call = client->ready;
                call_leave_ready(call);
                if (http_call_has_header(call))
                        call_tell_header(call);
                else if (http_call_has_data(call))
                        call_tell_data(call);
                else
                        call_tell_outcome(call);
        }
        client->in_callback = false;
}

void http_client_turn(HttpClient *client) {
        client_call_back(client);
        if (http_client_is_exiting(client))
                return;
        client_start_calls(client);
        http_multi_kick(client);
        bool has_more = client->ready || client->kicked ||
                        (client->line && client->n_active < client->options.connections_max);
        (void) sd_event_source_set_enabled(client->pump_source, has_more ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

static int on_pump(sd_event_source *source, void *userdata) {
        HttpClient *client = userdata;
        if (!http_client_is_exiting(client))
                http_client_turn(client);
        return 0;
}

int http_client_new(sd_event *event, const HttpClientOptions *options, HttpClient **ret) {
        assert(options->connections_max > 0 && options->connections_per_host_max > 0);
        if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
                return -ENOMEM;
        HttpClient *client = calloc(1, sizeof(*client));
        if (!client) {
                curl_global_cleanup();
                return -ENOMEM;
        }
        _cleanup_(http_client_freep) HttpClient *owned = client;
        client->epoll_fd = -EBADF;
        client->event = sd_event_ref(event);
        client->options = *options;
        if (options->user_agent && !(client->user_agent = strdup(options->user_agent)))
                return -ENOMEM;
        int r = sd_event_add_defer(event, &client->pump_source, on_pump, client);
        if (r >= 0)
                r = sd_event_source_set_description(client->pump_source, "http-client-pump");
        if (r >= 0)
                r = sd_event_source_set_enabled(client->pump_source, SD_EVENT_OFF);
        if (r >= 0)
                r = http_multi_new(client);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(owned);
        return 0;
}

/* Who owns the call still has to free it. */
static void client_drop_call(HttpCall *call) {
        call_detach(call);
        event_source_dropp(&call->timer_source);
        call->client = NULL;
        if (call->floating)
                http_call_destroy(call);
}

HttpClient *http_client_free(HttpClient *client) {
        if (!client)
                return NULL;
        assert(!client->in_callback);
        while (client->calls)
                client_drop_call(client->calls);
        while (client->n_spare > 0)
                curl_easy_cleanup(client->spare[--client->n_spare]);
        http_multi_free(client);
        event_source_dropp(&client->pump_source);
        free(client->user_agent);
        sd_event_unref(client->event);
        free(client);
        curl_global_cleanup();
        return NULL;
}
