/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/port-scan.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "core/json/json.h"
#include "core/sharing/emcee.h"
#include "io/loop.h"
#include "queue/moment.h"

#define CALL_USEC (3 * USEC_PER_SEC) /* a queue that takes longer counts as gone */

/* One look at all ports. */
typedef struct Look Look;

typedef struct Probe {
        Look *look; /* weak */
        HttpCall *call;
        FoundQueue found; /* without version: nobody is there */
} Probe;

struct Look {
        PortScan *scan; /* weak */
        DiscoveryDepth depth;
        usec_t begin_usec;
        size_t n_probes, n_open;
        Probe *probes;
        sd_event_source *done_source;
};

struct PortScan {
        sd_event *event;
        const EmceeCaller *caller;
        const SharingConfig *config;
        char own_id[SHARING_QUEUE_ID_SIZE];
        DiscoveryTold told;
        void *userdata;
        Look *looks[_DISCOVERY_DEPTH_MAX]; /* NULL: none is under way */
};

static Look *look_free(Look *look) {
        if (!look)
                return NULL;
        for (size_t i = 0; i < look->n_probes; i++) {
                http_call_free(look->probes[i].call);
                found_queue_done(&look->probes[i].found);
        }
        event_source_dropp(&look->done_source);
        free(look->probes);
        free(look);
        return NULL;
}
DEFINE_POINTER_CLEANUP(Look, look_free)

/* ── the end of a look ── */

static int on_done(sd_event_source *source, void *userdata) {
        Look *look = userdata;
        PortScan *scan = look->scan;
        Moment now = moment_now();
        size_t n = 0;
        _cleanup_(freep) FoundQueue *found = calloc(look->n_probes + 1, sizeof(FoundQueue));
        for (size_t i = 0; found && i < look->n_probes; i++) {
                FoundQueue *one = &look->probes[i].found;
                if (!one->queue.version)
                        continue;
                found[n++] = *one;
                *one = (FoundQueue) {};
        }
        DiscoveryDepth depth = look->depth;
        usec_t begin_usec = look->begin_usec;
        scan->looks[depth] = look_free(look); /* another may begin in what follows */
        scan->told(depth, found, n, begin_usec, &now, scan->userdata);
        for (size_t i = 0; i < n; i++)
                found_queue_done(&found[i]);
        return 0;
}

/* In a turn of its own, so that whoever began the look knows that by then. */
static void probe_over(Probe *probe) {
        Look *look = probe->look;
        probe->call = http_call_free(probe->call);
        assert(look->n_open > 0);
        look->n_open--;
        if (look->n_open == 0)
                (void) sd_event_source_set_enabled(look->done_source, SD_EVENT_ONESHOT);
}

static void nobody_is_there(Probe *probe) {
        free(probe->found.queue.version);
        probe->found.queue.version = NULL;
        probe_over(probe);
}

/* ── one port ── */

static void on_workers_done(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        Probe *probe = userdata;
        _cleanup_(json_putp) json_object *answer = NULL;
        Problem problem = {};
        if (emcee_call_parse(outcome, &answer) >= 0)
                (void) emcee_worker_ids_parse(answer, &probe->found.queue.workers, &problem);
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
        const Look *look = probe->look;
        SharingQueue *queue = &probe->found.queue;
        _cleanup_(json_putp) json_object *answer = NULL;
        Problem problem = {};
        int r = emcee_call_parse(outcome, &answer);
        if (r >= 0)
                r = emcee_queue_version_parse(answer, &queue->version, &problem);
        if (r >= 0)
                take_identity(queue, http_call_answer_header(call, EMCEE_IDENTITY_HEADER));
        if (r < 0 || streq(queue->id, look->scan->own_id)) {
                nobody_is_there(probe);
                return;
        }
        if (look->depth == DISCOVER_QUEUES) {
                probe_over(probe);
                return;
        }
        probe->call = http_call_free(probe->call);
        if (emcee_call_new(look->scan->caller,
                           probe->found.url,
                           "/workerIds",
                           "{}",
                           CALL_USEC,
                           on_workers_done,
                           probe,
                           &probe->call) < 0)
                nobody_is_there(probe);
}

static int probe_start(Probe *probe, const char *host, uint64_t port) {
        bool is_ipv6 = strchr(host, ':');
        const char *before = is_ipv6 ? "[" : "", *behind = is_ipv6 ? "]" : "";
        _cleanup_(text_done) Text address = {}, url = {};
        int r = text_appendf(&address, "%s:%" PRIu64, host, port);
        if (r >= 0)
                r = text_appendf(&url, "http://%s%s%s:%" PRIu64, before, host, behind, port);
        if (r < 0)
                return r;
        probe->found.queue.address = TAKE_PTR(address.data);
        probe->found.url = TAKE_PTR(url.data);
        return emcee_call_new(
                        probe->look->scan->caller,
                        probe->found.url,
                        "/queueVersion",
                        "{}",
                        CALL_USEC,
                        on_version_done,
                        probe,
                        &probe->call);
}

/* ── the beginning of a look ── */

static int probe_all(Look *look) {
        const SharingConfig *config = look->scan->config;
        size_t n_hosts = text_list_count(config->hosts);
        size_t n_ports = (size_t) (config->ports.to - config->ports.from + 1);
        look->probes = calloc(n_hosts * n_ports + 1, sizeof(Probe));
        if (!look->probes)
                return -ENOMEM;
        for (size_t host = 0; host < n_hosts; host++)
                for (size_t port = 0; port < n_ports; port++) {
                        Probe *probe = &look->probes[look->n_probes++];
                        probe->look = look;
                        int r = probe_start(probe, config->hosts[host], config->ports.from + port);
                        if (r < 0)
                                return r;
                        look->n_open++;
                }
        return sd_event_source_set_enabled(
                        look->done_source, look->n_open == 0 ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

static int port_scan_look(void *discovery, DiscoveryDepth depth, const Moment *now) {
        PortScan *scan = discovery;
        scan->looks[depth] = look_free(scan->looks[depth]);
        _cleanup_(look_freep) Look *look = calloc(1, sizeof(*look));
        if (!look)
                return -ENOMEM;
        *look = (Look) { .scan = scan, .depth = depth, .begin_usec = now->boottime_usec };
        int r = sd_event_add_defer(scan->event, &look->done_source, on_done, look);
        if (r >= 0)
                r = probe_all(look);
        if (r < 0)
                return r;
        scan->looks[depth] = TAKE_PTR(look);
        return 0;
}

static void port_scan_listen(void *discovery, DiscoveryTold told, void *userdata) {
        PortScan *scan = discovery;
        scan->told = told;
        scan->userdata = userdata;
}

const DiscoveryPort port_scan_port = {
        .listen = port_scan_listen,
        .look = port_scan_look,
};

int port_scan_new(
                sd_event *event,
                const EmceeCaller *caller,
                const SharingConfig *config,
                const char *own_id,
                PortScan **ret) {
        PortScan *scan = calloc(1, sizeof(*scan));
        if (!scan)
                return -ENOMEM;
        *scan = (PortScan) { .event = sd_event_ref(event), .caller = caller, .config = config };
        memcpy(scan->own_id, own_id, sizeof(scan->own_id));
        *ret = scan;
        return 0;
}

PortScan *port_scan_free(PortScan *scan) {
        if (!scan)
                return NULL;
        for (DiscoveryDepth depth = 0; depth < _DISCOVERY_DEPTH_MAX; depth++)
                look_free(scan->looks[depth]);
        sd_event_unref(scan->event);
        free(scan);
        return NULL;
}
