/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/queue-scan.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "core/json/json.h"
#include "core/sharing/emcee.h"
#include "io/loop.h"
#include "queue/queue.h"

#define CALL_USEC        (3 * USEC_PER_SEC) /* a queue that takes longer counts as gone */
#define CONNECT_USEC     (1 * USEC_PER_SEC)
#define ANSWER_BYTES_MAX (32 * 1024 * 1024) /* 100,000 worker ids */

typedef struct Probe {
        QueueScan *scan; /* weak */
        HttpCall *call;
        FoundQueue found; /* without version: nobody is there */
} Probe;

struct QueueScan {
        Queue *queue;         /* weak */
        const char *identity; /* weak */
        QueueScanRecall recall;
        QueueScanDone done;
        void *userdata;
        SharingQueue self;
        size_t n_probes, n_open;
        Probe *probes;
        sd_event_source *done_source;
};

static void found_done(FoundQueue *found) {
        sharing_queue_done(&found->queue);
        free(found->url);
        *found = (FoundQueue){};
}

QueueScan *queue_scan_free(QueueScan *scan) {
        if (!scan)
                return NULL;
        for (size_t i = 0; i < scan->n_probes; i++) {
                http_call_free(scan->probes[i].call);
                found_done(&scan->probes[i].found);
        }
        event_source_dropp(&scan->done_source);
        sharing_queue_done(&scan->self);
        free(scan->probes);
        free(scan);
        return NULL;
}

int queue_call_new(
                Queue *queue,
                const char *url,
                const char *path,
                const char *identity,
                const char *body,
                usec_t total_usec,
                HttpCallDone on_done,
                void *userdata,
                HttpCall **ret) {
        _cleanup_(freep) char *whole = NULL;
        if (asprintf(&whole, "%s%s", url, path) < 0) {
                whole = NULL;
                return -ENOMEM;
        }
        return http_call_new(
                        queue->client,
                        &(HttpCallOptions){
                                        .method = "POST",
                                        .url = whole,
                                        .token = queue->daemon.access.token,
                                        .content_type = "application/json",
                                        .headers = (const char *const[]){ identity, NULL },
                                        .body = body,
                                        .body_size = strlen(body),
                                        .total_usec = total_usec,
                                        .connect_usec = CONNECT_USEC,
                                        .answer_bytes_max = ANSWER_BYTES_MAX,
                                        .on_done = on_done,
                                        .userdata = userdata,
                        },
                        ret);
}

int queue_call_parse(const HttpOutcome *outcome, json_object **ret) {
        Problem problem = {};
        if (outcome->error < 0 || outcome->status < 200 || outcome->status >= 300)
                return -EIO;
        return json_parse(outcome->body, outcome->body_size, ret, &problem);
}

static int on_done(sd_event_source *source, void *userdata) {
        QueueScan *scan = userdata;
        size_t n = 0;
        _cleanup_(freep) FoundQueue *found = calloc(scan->n_probes + 1, sizeof(FoundQueue));
        if (found) {
                found[n].queue = scan->self;
                scan->self = (SharingQueue){};
                n++;
        }
        for (size_t i = 0; found && i < scan->n_probes; i++) {
                Probe *probe = &scan->probes[i];
                if (!probe->found.queue.version)
                        continue;
                found[n++] = probe->found;
                probe->found = (FoundQueue){};
        }
        scan->done(found, n, scan->userdata); /* may free the scan */
        for (size_t i = 0; i < n; i++)
                found_done(&found[i]);
        return 0;
}

/* In a turn of its own, so that whoever began the scan has got it by then. */
static void probe_over(Probe *probe) {
        QueueScan *scan = probe->scan;
        probe->call = http_call_free(probe->call);
        assert(scan->n_open > 0);
        scan->n_open--;
        if (scan->n_open == 0)
                (void) sd_event_source_set_enabled(scan->done_source, SD_EVENT_ONESHOT);
}

static void nobody_is_there(Probe *probe) {
        free(probe->found.queue.version);
        probe->found.queue.version = NULL;
        probe_over(probe);
}

static void on_workers_done(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        Probe *probe = userdata;
        SharingQueue *queue = &probe->found.queue;
        _cleanup_(json_putp) json_object *answer = NULL;
        Problem problem = {};
        int r = queue_call_parse(outcome, &answer);
        if (r >= 0)
                r = emcee_worker_ids_parse(answer, &queue->workers, &problem);
        if (r < 0)
                queue->workers = worker_set_ref(probe->scan->recall(queue, probe->scan->userdata));
        probe_over(probe);
}

/* A queue of ours says by which address it wants to be called. */
static void take_identity(SharingQueue *queue, const char *identity) {
        char *address;
        if (!identity || emcee_identity_parse(identity, queue->id, &address) < 0)
                return;
        free(queue->address);
        queue->address = address;
}

static void on_version_done(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        Probe *probe = userdata;
        QueueScan *scan = probe->scan;
        SharingQueue *queue = &probe->found.queue;
        _cleanup_(json_putp) json_object *answer = NULL;
        Problem problem = {};
        int r = queue_call_parse(outcome, &answer);
        if (r >= 0)
                r = emcee_queue_version_parse(answer, &queue->version, &problem);
        if (r >= 0)
                take_identity(queue, http_call_answer_header(call, EMCEE_IDENTITY_HEADER));
        bool is_self = r >= 0 && streq(queue->id, scan->self.id);
        if (r < 0 || is_self) {
                nobody_is_there(probe);
                return;
        }
        if (!scan->recall) {
                probe_over(probe);
                return;
        }
        probe->call = http_call_free(probe->call);
        if (queue_call_new(scan->queue,
                           probe->found.url,
                           "/workerIds",
                           scan->identity,
                           "{}",
                           CALL_USEC,
                           on_workers_done,
                           probe,
                           &probe->call) < 0)
                nobody_is_there(probe);
}

static int probe_start(Probe *probe, const char *host, uint64_t port) {
        bool is_ipv6 = strchr(host, ':');
        if (asprintf(&probe->found.queue.address, "%s:%" PRIu64, host, port) < 0) {
                probe->found.queue.address = NULL;
                return -ENOMEM;
        }
        if (asprintf(&probe->found.url,
                     "http://%s%s%s:%" PRIu64,
                     is_ipv6 ? "[" : "",
                     host,
                     is_ipv6 ? "]" : "",
                     port) < 0) {
                probe->found.url = NULL;
                return -ENOMEM;
        }
        return queue_call_new(
                        probe->scan->queue,
                        probe->found.url,
                        "/queueVersion",
                        probe->scan->identity,
                        "{}",
                        CALL_USEC,
                        on_version_done,
                        probe,
                        &probe->call);
}

static int copy_self(const SharingQueue *self, SharingQueue *ret) {
        ret->address = strdup(self->address);
        ret->version = strdup(self->version);
        memcpy(ret->id, self->id, sizeof(ret->id));
        ret->workers = worker_set_ref(self->workers);
        return ret->address && ret->version ? 0 : -ENOMEM;
}

static int scan_start(QueueScan *scan) {
        const SharingConfig *config = &scan->queue->config->sharing;
        size_t n_hosts = text_list_count(config->hosts);
        size_t n_ports = (size_t) (config->ports.to - config->ports.from + 1);
        scan->probes = calloc(n_hosts * n_ports + 1, sizeof(Probe));
        if (!scan->probes)
                return -ENOMEM;
        for (size_t host = 0; host < n_hosts; host++)
                for (size_t port = 0; port < n_ports; port++) {
                        Probe *probe = &scan->probes[scan->n_probes++];
                        probe->scan = scan;
                        int r = probe_start(probe, config->hosts[host], config->ports.from + port);
                        if (r < 0)
                                return r;
                        scan->n_open++;
                }
        return sd_event_source_set_enabled(
                        scan->done_source, scan->n_open == 0 ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

int queue_scan_new(Queue *queue, const QueueScanOptions *options, QueueScan **ret) {
        _cleanup_(queue_scan_freep) QueueScan *scan = calloc(1, sizeof(*scan));
        if (!scan)
                return -ENOMEM;
        scan->queue = queue;
        scan->identity = options->identity;
        scan->recall = options->recall;
        scan->done = options->done;
        scan->userdata = options->userdata;
        int r = copy_self(options->self, &scan->self);
        if (r >= 0)
                r = sd_event_add_defer(queue->daemon.event, &scan->done_source, on_done, scan);
        if (r >= 0)
                r = scan_start(scan);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(scan);
        return 0;
}
