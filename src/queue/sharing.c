/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/sharing.h"

#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <systemd/sd-id128.h>

#include "base/log.h"
#include "base/text.h"
#include "core/json/json.h"
#include "core/sharing/emcee.h"
#include "core/sharing/sharing-master.h"
#include "core/sharing/sharing-poll.h"
#include "io/loop.h"
#include "queue/queue-scan.h"
#include "queue/queue.h"

#define ASKERS_MAX 2048                /* who wait for a scan */
#define SHARE_USEC (10 * USEC_PER_SEC) /* longer than the scan that the master may do before it answers */

/* Who waits for the master's scan: a request, or, without one, this queue. */
typedef struct Asker {
        Sharing *sharing; /* weak */
        struct Asker *previous, *next;
        HttpRequest *request;
        unsigned question; /* without request: the one this is about */
        SharingQueue queue;
        usec_t asked_usec;
} Asker;

struct Sharing {
        Queue *queue; /* weak */
        char id[SHARING_QUEUE_ID_SIZE];
        char *identity;        /* value of the header */
        char *identity_header; /* its whole line */
        char *dying_version;
        WorkerSet *configured;

        SharingPoll poll;
        sd_event_source *poll_source;
        unsigned question;  /* the one under way */
        QueueScan *search;  /* for the master */
        HttpCall *call;     /* to the master */
        char *master;       /* its address, as last found; NULL */
        SharingQueue *seen; /* the queues of the last search, for people */
        size_t n_seen;
        usec_t seen_usec; /* CLOCK_REALTIME */

        SharingCache cache;
        QueueScan *scan; /* for the cache */
        Asker *askers;
        size_t n_askers;
};

static usec_t now_boottime(void) {
        return usec_now(CLOCK_BOOTTIME);
}

/* Without workers where only its name matters; its strings are borrowed. */
static SharingQueue self_of(const Sharing *sharing) {
        SharingQueue self = {
                .address = sharing->queue->address,
                .version = (char *) sharing_shown_version(sharing),
                .workers = sharing->configured,
        };
        memcpy(self.id, sharing->id, sizeof(self.id));
        return self;
}

const char *sharing_shown_version(const Sharing *sharing) {
        return queue_is_draining(sharing->queue) ? sharing->dying_version : queue_version(sharing->queue);
}

const char *sharing_identity(const Sharing *sharing) {
        return sharing->identity;
}

const WorkerSet *sharing_configured(const Sharing *sharing) {
        return sharing->configured;
}

bool sharing_permits(const Sharing *sharing, const char *worker_id) {
        return worker_set_has(sharing->poll.permitted, worker_id);
}

static int on_poll(sd_event_source *source, uint64_t usec, void *userdata);

static void arm_poll(Sharing *sharing) {
        (void) loop_set_timer(
                        sharing->queue->daemon.event,
                        &sharing->poll_source,
                        sharing->poll.next_usec,
                        on_poll,
                        sharing,
                        "sharing-poll");
}

static void permissions_changed(Sharing *sharing) {
        log_line(LOG_INFO,
                 "This queue's share is %zu of its %zu workers",
                 sharing->poll.permitted->n_ids,
                 sharing->configured->n_ids);
        queue_update_permissions(sharing->queue);
}

/* QUESTION is answered: SHARE, or NULL for no answer. */
static void question_finished(Sharing *sharing, unsigned question, const WorkerSet *share) {
        if (sharing_poll_finish(&sharing->poll, question, share, now_boottime()) > 0)
                permissions_changed(sharing);
        arm_poll(sharing);
}

static void poll_finished(Sharing *sharing, const WorkerSet *share) {
        question_finished(sharing, sharing->question, share);
}

static void on_share_done(HttpCall *call, const HttpOutcome *outcome, void *userdata) {
        Sharing *sharing = userdata;
        _cleanup_(json_putp) json_object *answer = NULL;
        _cleanup_(worker_set_unrefp) WorkerSet *share = NULL;
        Problem problem = {};
        int r = queue_call_parse(outcome, &answer);
        if (r >= 0)
                r = emcee_share_parse(answer, &share, &problem);
        if (r < 0)
                log_line(LOG_NOTICE,
                         "The master queue %s gives no answer: keeping the share as it is",
                         sharing->master);
        sharing->call = http_call_free(sharing->call);
        poll_finished(sharing, share);
}

static int ask_master(Sharing *sharing, const char *url) {
        _cleanup_(json_putp) json_object *request = NULL;
        _cleanup_(freep) char *body = NULL;
        SharingQueue self = self_of(sharing);
        int r = emcee_workers_to_utilize_format(&self, &request);
        if (r >= 0)
                r = json_format(request, &body, NULL);
        if (r < 0)
                return r;
        sharing->call = http_call_free(sharing->call);
        return queue_call_new(
                        sharing->queue,
                        url,
                        "/workersToUtilize",
                        sharing->identity_header,
                        body,
                        SHARE_USEC,
                        on_share_done,
                        sharing,
                        &sharing->call);
}

static void ask_self(Sharing *sharing);

/* What people are shown of the search: who there is. What others use only the master knows. */
static void note_seen(Sharing *sharing, FoundQueue *found, size_t n) {
        sharing_queues_free(sharing->seen, sharing->n_seen);
        sharing->seen = calloc(n + 1, sizeof(SharingQueue));
        sharing->n_seen = sharing->seen ? n : 0;
        for (size_t i = 0; i < sharing->n_seen; i++) {
                sharing->seen[i] = found[i].queue;
                found[i].queue = (SharingQueue){};
        }
        sharing->seen_usec = usec_now(CLOCK_REALTIME);
}

static void note_master(Sharing *sharing, const char *address) {
        if (streq_null(sharing->master, address))
                return;
        free(sharing->master);
        sharing->master = address ? strdup(address) : NULL;
        log_line(LOG_INFO, "The master queue is %s", address ?: "nobody");
}

static void on_search_done(FoundQueue *found, size_t n, void *userdata) {
        Sharing *sharing = userdata;
        size_t master;
        sharing->search = queue_scan_free(sharing->search);
        note_seen(sharing, found, n);
        if (sharing->n_seen != n || sharing_master_find(sharing->seen, n, &master) < 0) {
                note_master(sharing, NULL);
                poll_finished(sharing, NULL);
                return;
        }
        note_master(sharing, sharing->seen[master].address);
        if (!found[master].url)
                ask_self(sharing);
        else if (ask_master(sharing, found[master].url) < 0)
                poll_finished(sharing, NULL);
}

static int on_poll(sd_event_source *source, uint64_t usec, void *userdata) {
        Sharing *sharing = userdata;
        unsigned question = sharing_poll_start(&sharing->poll, now_boottime());
        if (question == 0) {
                arm_poll(sharing);
                return 0;
        }
        sharing->question = question;
        SharingQueue self = self_of(sharing);
        sharing->search = queue_scan_free(sharing->search);
        sharing->call = http_call_free(sharing->call); /* of a question before sharing was switched off */
        if (queue_scan_new(sharing->queue,
                           &(QueueScanOptions){
                                           .self = &self,
                                           .identity = sharing->identity_header,
                                           .done = on_search_done,
                                           .userdata = sharing,
                           },
                           &sharing->search) < 0)
                poll_finished(sharing, NULL);
        return 0;
}

/* ---- the master's side ---- */

static void asker_free(Asker *asker) {
        Sharing *sharing = asker->sharing;
        *(asker->previous ? &asker->previous->next : &sharing->askers) = asker->next;
        if (asker->next)
                asker->next->previous = asker->previous;
        sharing->n_askers--;
        sharing_queue_done(&asker->queue);
        free(asker);
}

static void on_asker_hangup(HttpRequest *request, void *userdata) {
        asker_free(userdata);
}

static int asker_new(Sharing *sharing, HttpRequest *request, Asker **ret) {
        if (sharing->n_askers == ASKERS_MAX)
                return -EBUSY;
        Asker *asker = calloc(1, sizeof(*asker));
        if (!asker)
                return -ENOMEM;
        asker->sharing = sharing;
        asker->request = request;
        asker->question = request ? 0 : sharing->question;
        asker->asked_usec = now_boottime();
        asker->next = sharing->askers;
        if (asker->next)
                asker->next->previous = asker;
        sharing->askers = asker;
        sharing->n_askers++;
        *ret = asker;
        return 0;
}

/* SHARE is NULL when there is no answer to give. */
static void asker_answer(Asker *asker, const WorkerSet *share) {
        Sharing *sharing = asker->sharing;
        HttpRequest *request = asker->request;
        unsigned question = asker->question;
        asker_free(asker);
        if (!request) {
                question_finished(sharing, question, share);
                return;
        }
        http_request_on_hangup(request, NULL, NULL);
        json_object *answer = NULL;
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

static WorkerSet *recall(const SharingQueue *queue, void *userdata) {
        const Sharing *sharing = userdata;
        return sharing_cache_workers(&sharing->cache, queue);
}

static void answer_askers(Sharing *sharing);

static void on_scan_done(FoundQueue *found, size_t n, void *userdata) {
        Sharing *sharing = userdata;
        const QueueConfig *config = sharing->queue->config;
        sharing->scan = queue_scan_free(sharing->scan);
        SharingQueue *queues = calloc(n + 1, sizeof(SharingQueue));
        if (!queues)
                sharing_cache_abandon_scan(&sharing->cache);
        else {
                for (size_t i = 0; i < n; i++) {
                        queues[i] = found[i].queue;
                        found[i].queue = (SharingQueue){};
                }
                uint64_t epoch = sharing_epoch(
                                usec_now(CLOCK_REALTIME),
                                config->sharing.poll_interval_usec,
                                config->sharing.cache_ttl_usec,
                                config->lease_ttl_usec);
                int r = sharing_cache_finish_scan(&sharing->cache, queues, n, epoch);
                if (r < 0)
                        (void) log_errno(LOG_ERR, r, "Cannot split the workers among %zu queues", n);
        }
        answer_askers(sharing);
}

static int start_scan(Sharing *sharing) {
        SharingQueue self = self_of(sharing);
        return queue_scan_new(
                        sharing->queue,
                        &(QueueScanOptions){
                                        .self = &self,
                                        .identity = sharing->identity_header,
                                        .recall = recall,
                                        .done = on_scan_done,
                                        .userdata = sharing,
                        },
                        &sharing->scan);
}

/* True when ASKER was answered, and is gone. */
static bool asker_ask(Asker *asker) {
        Sharing *sharing = asker->sharing;
        _cleanup_(worker_set_unrefp) WorkerSet *share = NULL;
        int answer = sharing_cache_ask(
                        &sharing->cache, &asker->queue, asker->asked_usec, now_boottime(), &share);
        switch (answer) {
        case SHARING_ANSWER_SCAN:
                if (start_scan(sharing) >= 0)
                        return false;
                sharing_cache_abandon_scan(&sharing->cache);
                break;
        case SHARING_ANSWER_WAIT:
                return false;
        case SHARING_ANSWER_LOST:
                if (sharing_version_is_discoverable(asker->queue.version))
                        log_line(LOG_NOTICE,
                                 "Queue %s asks for its share, but was not found where queues are looked for",
                                 asker->queue.address);
                break;
        default:
                break;
        }
        asker_answer(asker, share);
        return true;
}

static void answer_askers(Sharing *sharing) {
        for (Asker *asker = sharing->askers, *next; asker; asker = next) {
                next = asker->next;
                (void) asker_ask(asker);
        }
}

static void ask_self(Sharing *sharing) {
        Asker *asker;
        SharingQueue self = self_of(sharing);
        int r = asker_new(sharing, NULL, &asker);
        if (r >= 0) {
                asker->queue.address = strdup(self.address);
                asker->queue.version = strdup(self.version);
                memcpy(asker->queue.id, self.id, sizeof(self.id));
                asker->queue.workers = worker_set_ref(self.workers);
                if (asker->queue.address && asker->queue.version) {
                        (void) asker_ask(asker);
                        return;
                }
                asker_free(asker);
        }
        poll_finished(sharing, NULL);
}

void sharing_answer_share(Sharing *sharing, HttpRequest *request, SharingQueue *asker_queue) {
        Asker *asker;
        if (asker_new(sharing, request, &asker) < 0) {
                sharing_queue_done(asker_queue);
                http_request_answer(request, 400, NULL, NULL, 0);
                return;
        }
        asker->queue = *asker_queue;
        *asker_queue = (SharingQueue){};
        http_request_on_hangup(request, on_asker_hangup, asker);
        (void) asker_ask(asker);
}

void sharing_toggle(Sharing *sharing, bool enabled) {
        if (sharing_poll_toggle(&sharing->poll, enabled, now_boottime()) > 0)
                permissions_changed(sharing);
        arm_poll(sharing);
}

/* ---- for people ---- */

static int add_set(json_object *object, const char *key, const WorkerSet *set) {
        json_object *list = json_object_new_array();
        int r = list ? 0 : -ENOMEM;
        for (size_t i = 0; r >= 0 && set && i < set->n_ids; i++)
                r = json_append(list, json_object_new_string(set->ids[i]));
        if (r < 0) {
                json_object_put(list);
                return r;
        }
        return json_add(object, key, list);
}

/* A set that is NULL is empty. */
static json_object *describe_queue(
                const SharingQueue *queue,
                bool known,
                const WorkerSet *workers,
                const WorkerSet *share) {
        _cleanup_(json_putp) json_object *object = json_object_new_object();
        int r = object ? json_add_string(object, "address", queue->address) : -ENOMEM;
        if (r >= 0)
                r = json_add_string(object, "version", queue->version);
        if (r >= 0)
                r = known ? add_set(object, "workers", workers) : json_add_null(object, "workers");
        if (r >= 0)
                r = known ? add_set(object, "share", share) : json_add_null(object, "share");
        return r < 0 ? NULL : TAKE_PTR(object);
}

static json_object *describe_split(const SharingCache *cache) {
        _cleanup_(json_putp) json_object *list = json_object_new_array();
        for (size_t i = 0; list && i < cache->n_queues; i++)
                if (json_append(list,
                                describe_queue(&cache->queues[i],
                                               true,
                                               cache->queues[i].workers,
                                               cache->shares[i])) < 0)
                        return NULL;
        return TAKE_PTR(list);
}

/* A host may be scanned by several names. */
static bool is_seen_before(const Sharing *sharing, size_t index) {
        for (size_t i = 0; i < index; i++)
                if (*sharing->seen[i].id && streq(sharing->seen[i].id, sharing->seen[index].id))
                        return true;
        return false;
}

static json_object *describe_seen(const Sharing *sharing) {
        _cleanup_(json_putp) json_object *list = json_object_new_array();
        for (size_t i = 0; list && i < sharing->n_seen; i++) {
                const SharingQueue *queue = &sharing->seen[i];
                if (is_seen_before(sharing, i))
                        continue;
                bool own = streq(queue->id, sharing->id);
                if (json_append(list,
                                describe_queue(queue, own, sharing->configured, sharing->poll.permitted)) < 0)
                        return NULL;
        }
        SharingQueue self = self_of(sharing);
        if (list && sharing->n_seen == 0 && /* it has not looked for others, or is not to */
            json_append(list, describe_queue(&self, true, sharing->configured, sharing->poll.permitted)) < 0)
                return NULL;
        return TAKE_PTR(list);
}

static bool is_master(const Sharing *sharing) {
        return streq_null(sharing->master, sharing->queue->address);
}

/* The master's last split begins with a scan; others only know who there is. */
static usec_t computed_usec(const Sharing *sharing) {
        if (!is_master(sharing) || !sharing->cache.is_filled)
                return sharing->seen_usec;
        return usec_subtract(
                        usec_now(CLOCK_REALTIME), usec_subtract(now_boottime(), sharing->cache.scan_usec));
}

json_object *sharing_describe(const Sharing *sharing) {
        _cleanup_(json_putp) json_object *object = json_object_new_object();
        char computed[USEC_RFC3339_SIZE];
        usec_format_rfc3339(computed_usec(sharing), computed);
        json_object *queues = is_master(sharing) && sharing->cache.is_filled ?
                        describe_split(&sharing->cache) :
                        describe_seen(sharing);
        int r = object ? json_add_string(object, "self", sharing->queue->address) : -ENOMEM;
        if (r >= 0)
                r = json_add_string(object, "master", sharing->master);
        if (r >= 0)
                r = json_add_bool(object, "enabled", sharing->poll.is_enabled);
        if (r >= 0)
                r = add_set(object, "share", sharing->poll.permitted);
        if (r >= 0)
                r = json_add_string(object, "computed", sharing->seen_usec > 0 ? computed : NULL);
        r = r < 0 ? (json_object_put(queues), r) : json_add(object, "queues", queues);
        return r < 0 ? NULL : TAKE_PTR(object);
}

/* ---- set-up ---- */

static int configured_set(const QueueConfig *config, WorkerSet **ret) {
        _cleanup_(freep) const char **ids = calloc(config->n_workers + 1, sizeof(char *));
        if (!ids)
                return -ENOMEM;
        for (size_t i = 0; i < config->n_workers; i++)
                ids[i] = config->workers[i].id;
        return worker_set_new(ids, config->n_workers, ret);
}

static int make_identity(Sharing *sharing) {
        sd_id128_t id;
        int r = sd_id128_randomize(&id);
        if (r < 0)
                return r;
        (void) sd_id128_to_string(id, sharing->id);
        r = emcee_identity_format(sharing->id, sharing->queue->address, &sharing->identity);
        if (r < 0)
                return r;
        if (asprintf(&sharing->identity_header, EMCEE_IDENTITY_HEADER ": %s", sharing->identity) < 0) {
                sharing->identity_header = NULL;
                return -ENOMEM;
        }
        if (asprintf(&sharing->dying_version, "not_discoverable_%s", queue_version(sharing->queue)) < 0) {
                sharing->dying_version = NULL;
                return -ENOMEM;
        }
        return 0;
}

int sharing_new(Queue *queue, Sharing **ret) {
        const SharingConfig *config = &queue->config->sharing;
        _cleanup_(sharing_freep) Sharing *sharing = calloc(1, sizeof(*sharing));
        if (!sharing)
                return -ENOMEM;
        sharing->queue = queue;
        sharing->cache.ttl_usec = config->cache_ttl_usec;
        sharing->cache.strict = config->strict;
        int r = make_identity(sharing);
        if (r >= 0)
                r = configured_set(queue->config, &sharing->configured);
        if (r >= 0)
                r = sharing_poll_init(
                                &sharing->poll,
                                sharing->configured,
                                config->enabled,
                                config->poll_interval_usec,
                                now_boottime());
        if (r < 0)
                return r;
        arm_poll(sharing);
        *ret = TAKE_PTR(sharing);
        return 0;
}

Sharing *sharing_free(Sharing *sharing) {
        if (!sharing)
                return NULL;
        while (sharing->askers)
                asker_free(sharing->askers);
        queue_scan_free(sharing->search);
        queue_scan_free(sharing->scan);
        http_call_free(sharing->call);
        event_source_dropp(&sharing->poll_source);
        sharing_poll_done(&sharing->poll);
        sharing_cache_done(&sharing->cache);
        worker_set_unref(sharing->configured);
        sharing_queues_free(sharing->seen, sharing->n_seen);
        free(sharing->master);
        free(sharing->identity);
        free(sharing->identity_header);
        free(sharing->dying_version);
        free(sharing);
        return NULL;
}
