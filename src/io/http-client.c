/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* libcurl's multi interface without its own loop: it says which descriptors it watches (a source each) and
 * when it wants to be woken (one timer), and is told what happened. Whatever ends or arrives is noted, and
 * told to the callers from one deferred source, a callback each turn.
 *
 * Which call may start is decided here and not by libcurl (7.88), whose own waiting list stops at the first
 * call whose host is busy and whose connect timeout runs while a call waits in it. */

#include "io/http-client.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <linux/close_range.h>
#include <sys/epoll.h>

#include "io/http-client-internal.h"
#include "io/loop.h"

#define IDLE_GRACE_USEC (20 * USEC_PER_MSEC)

void call_list_append(CallList *list, HttpCall *call) {
        call->previous = list->last;
        call->next = NULL;
        if (list->last)
                list->last->next = call;
        else
                list->first = call;
        list->last = call;
}

void call_list_remove(CallList *list, HttpCall *call) {
        if (call->previous)
                call->previous->next = call->next;
        else
                list->first = call->next;
        if (call->next)
                call->next->previous = call->previous;
        else
                list->last = call->previous;
        call->previous = call->next = NULL;
}

static void host_unlink(HttpClient *client, HttpHost *host) {
        if (host->previous)
                host->previous->next = host->next;
        else
                client->hosts = host->next;
        if (host->next)
                host->next->previous = host->previous;
        else
                client->hosts_last = host->previous;
}

static void host_append(HttpClient *client, HttpHost *host) {
        host->previous = client->hosts_last;
        host->next = NULL;
        if (client->hosts_last)
                client->hosts_last->next = host;
        else
                client->hosts = host;
        client->hosts_last = host;
}

static int host_find_or_add(HttpClient *client, char *key, HttpHost **ret) {
        for (HttpHost *host = client->hosts; host; host = host->next)
                if (streq(host->key, key)) {
                        *ret = host;
                        return 0;
                }
        HttpHost *host = calloc(1, sizeof(*host));
        if (!host)
                return -ENOMEM;
        host->key = strdup(key);
        if (!host->key) {
                free(host);
                return -ENOMEM;
        }
        host_append(client, host);
        *ret = host;
        return 0;
}

static void host_drop_if_unused(HttpClient *client, HttpHost *host) {
        if (host->n_active > 0 || host->waiting.first)
                return;
        host_unlink(client, host);
        free(host->key);
        free(host);
}

void http_client_schedule(HttpClient *client) {
        (void) sd_event_source_set_enabled(client->pump_source, SD_EVENT_ONESHOT);
}

static bool exit_was_asked_for(const HttpClient *client) {
        int code;
        return sd_event_get_exit_code(client->event, &code) >= 0;
}

static CallList *call_list(HttpCall *call) {
        switch (call->state) {
        case CALL_WAITING:
                return &call->host->waiting;
        case CALL_ACTIVE:
                return &call->client->active;
        case CALL_ENDED:
                return &call->client->ended;
        case CALL_REPORTED:
                return &call->client->reported;
        case CALL_ORPHANED:
                break;
        }
        return NULL;
}

/* Takes the call out of its list, from libcurl and from its host. */
static void call_detach(HttpCall *call) {
        HttpClient *client = call->client;
        CallList *list = call_list(call);
        if (!list)
                return;
        call_list_remove(list, call);
        if (call->state != CALL_REPORTED)
                client->n_calls--;
        if (call->state == CALL_ACTIVE) {
                (void) curl_multi_remove_handle(client->multi, call->easy);
                call->host->n_active--;
                client->n_active--;
        }
        if (call->host)
                host_drop_if_unused(client, call->host);
        call->host = NULL;
        call->state = CALL_ORPHANED;
}

/* The outcome is told in a later turn. */
static void call_end(HttpCall *call, int error) {
        HttpClient *client = call->client;
        http_call_note_end(call, error);
        call_detach(call);
        event_source_dropp(&call->timer_source);
        call->state = CALL_ENDED;
        call_list_append(&client->ended, call);
        client->n_calls++;
        http_client_schedule(client);
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
        if (exit_was_asked_for(call->client))
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
        assert(call->host);
        call_list_remove(&call->host->waiting, call);
        call->state = CALL_ACTIVE;
        call_list_append(&client->active, call);
        call->host->n_active++;
        client->n_active++;
        call->progress_usec = usec_now(CLOCK_BOOTTIME);
        if (curl_multi_add_handle(client->multi, call->easy) != CURLM_OK || call_set_timer(call) < 0)
                call_end(call, -ENOMEM);
}

/* Hosts take turns: one that was served goes to the end of the line. */
static HttpHost *client_next_host(HttpClient *client) {
        for (HttpHost *host = client->hosts; host; host = host->next)
                if (host->waiting.first && host->n_active < client->options.connections_per_host_max) {
                        host_unlink(client, host);
                        host_append(client, host);
                        return host;
                }
        return NULL;
}

static void client_start_calls(HttpClient *client) {
        while (client->n_active < client->options.connections_max) {
                HttpHost *host = client_next_host(client);
                if (!host)
                        break;
                call_start(host->waiting.first);
        }
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
        r = host_find_or_add(client, key, &host);
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
                host_drop_if_unused(client, host);
                return r;
        }
        call->host = host;
        call->state = CALL_WAITING;
        call_list_append(&host->waiting, call);
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
        http_client_schedule(call->client);
}

unsigned http_client_n_calls(const HttpClient *client) {
        return client->n_calls;
}

/* Takes note of what libcurl is done with. */
static void client_collect(HttpClient *client) {
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

static void client_act(HttpClient *client, curl_socket_t fd, int what) {
        int n_running;
        (void) curl_multi_socket_action(client->multi, fd, what, &n_running);
        client_collect(client);
}

static int on_socket_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        HttpClient *client = userdata;
        if (exit_was_asked_for(client))
                return 0;
        int what = 0;
        if (revents & EPOLLIN)
                what |= CURL_CSELECT_IN;
        if (revents & EPOLLOUT)
                what |= CURL_CSELECT_OUT;
        if (revents & (EPOLLERR | EPOLLHUP))
                what |= CURL_CSELECT_ERR;
        client_act(client, fd, what);
        return 0;
}

/* libcurl wants FD watched for WHAT; SOCKET_DATA is what we kept for it last time, the source. */
static int on_curl_watch(CURL *easy, curl_socket_t fd, int what, void *userdata, void *socket_data) {
        HttpClient *client = userdata;
        sd_event_source *source = socket_data;
        uint32_t events = (what == CURL_POLL_IN || what == CURL_POLL_INOUT ? EPOLLIN : 0) |
                        (what == CURL_POLL_OUT || what == CURL_POLL_INOUT ? EPOLLOUT : 0);
        if (what == CURL_POLL_REMOVE) {
                (void) curl_multi_assign(client->multi, fd, NULL);
                event_source_dropp(&source);
                return 0;
        }
        if (source)
                return sd_event_source_set_io_events(source, events) < 0 ? -1 : 0;
        if (sd_event_add_io(client->event, &source, fd, events, on_socket_io, client) < 0)
                return -1;
        (void) sd_event_source_set_description(source, "http-client-socket");
        (void) curl_multi_assign(client->multi, fd, source);
        return 0;
}

static int on_client_time(sd_event_source *source, uint64_t usec, void *userdata) {
        HttpClient *client = userdata;
        if (!exit_was_asked_for(client))
                client_act(client, CURL_SOCKET_TIMEOUT, 0);
        return 0;
}

/* libcurl wants to be called in so many milliseconds. At once is a matter of the next turn: a timer would be
 * up to its accuracy late. */
static int on_curl_timeout(CURLM *multi, long msec, void *userdata) {
        HttpClient *client = userdata;
        usec_t when = USEC_INFINITY;
        client->kicked = msec == 0;
        if (client->kicked)
                http_client_schedule(client);
        else if (msec > 0)
                when = usec_add(usec_now(CLOCK_BOOTTIME), (usec_t) msec * USEC_PER_MSEC);
        return loop_set_timer(client->event,
                              &client->timer_source,
                              when,
                              on_client_time,
                              client,
                              "http-client-timer") < 0 ?
                        -1 :
                        0;
}

static HttpCall *first_with_data(const CallList *list) {
        for (HttpCall *call = list->first; call; call = call->next)
                if (http_call_has_data(call))
                        return call;
        return NULL;
}

/* One whose caller does not want to hear more for now keeps its place. */
static HttpCall *first_to_report(const CallList *list) {
        for (HttpCall *call = list->first; call; call = call->next)
                if (!call->on_data || call->error < 0 || !call->paused)
                        return call;
        return NULL;
}

static void client_deliver_data(CallList *list, HttpCall *call) {
        call_list_remove(list, call);
        call_list_append(list, call); /* the others first, next time */
        int r = http_call_deliver_data(call);
        if (call->freed)
                http_call_free(call);
        else if (r < 0 && call->state == CALL_ACTIVE)
                call_end(call, r);
        else if (r < 0)
                call->error = r;
}

static void client_report(HttpClient *client, HttpCall *call) {
        call_list_remove(&client->ended, call);
        call->state = CALL_REPORTED;
        call_list_append(&client->reported, call);
        client->n_calls--;
        http_call_deliver_outcome(call);
        if (call->freed || call->floating)
                http_call_free(call);
}

/* Returns whether there was something to deliver. */
static bool client_deliver(HttpClient *client) {
        HttpCall *call;
        client->in_callback = true;
        if ((call = first_with_data(&client->active)))
                client_deliver_data(&client->active, call);
        else if ((call = first_with_data(&client->ended)))
                client_deliver_data(&client->ended, call);
        else if ((call = first_to_report(&client->ended)))
                client_report(client, call);
        client->in_callback = false;
        return call;
}

static int on_pump(sd_event_source *source, void *userdata) {
        HttpClient *client = userdata;
        if (exit_was_asked_for(client))
                return 0;
        if (client->kicked) {
                client->kicked = false;
                client_act(client, CURL_SOCKET_TIMEOUT, 0);
        }
        client_start_calls(client);
        if (client_deliver(client))
                http_client_schedule(client);
        return 0;
}

static int client_new_multi(HttpClient *client) {
        client->multi = curl_multi_init();
        if (!client->multi)
                return -ENOMEM;
        /* The descriptors by which libcurl (7.88) wakes itself are not CLOEXEC, and nobody says which they
         * are. All of ours are to be. */
        (void) close_range(3, UINT_MAX, CLOSE_RANGE_CLOEXEC);

        /* Idle connections are closed to make room for new ones. */
        long connections = (long) client->options.connections_max;
        if (curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, connections) != CURLM_OK ||
            curl_multi_setopt(client->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, connections) != CURLM_OK ||
            curl_multi_setopt(client->multi, CURLMOPT_PIPELINING, (long) CURLPIPE_NOTHING) != CURLM_OK ||
            curl_multi_setopt(client->multi, CURLMOPT_SOCKETFUNCTION, on_curl_watch) != CURLM_OK ||
            curl_multi_setopt(client->multi, CURLMOPT_SOCKETDATA, client) != CURLM_OK ||
            curl_multi_setopt(client->multi, CURLMOPT_TIMERFUNCTION, on_curl_timeout) != CURLM_OK ||
            curl_multi_setopt(client->multi, CURLMOPT_TIMERDATA, client) != CURLM_OK)
                return -ENOMEM;
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
                r = client_new_multi(client);
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
        while (client->active.first)
                client_drop_call(client->active.first);
        while (client->hosts) /* those left have waiting calls, and go with the last one */
                client_drop_call(client->hosts->waiting.first);
        while (client->ended.first)
                client_drop_call(client->ended.first);
        while (client->reported.first)
                client_drop_call(client->reported.first);
        if (client->multi)
                (void) curl_multi_cleanup(client->multi);
        event_source_dropp(&client->timer_source);
        event_source_dropp(&client->pump_source);
        free(client->user_agent);
        sd_event_unref(client->event);
        free(client);
        curl_global_cleanup();
        return NULL;
}
