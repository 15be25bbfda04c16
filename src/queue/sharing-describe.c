/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/sharing-describe.h"

#include <errno.h>

#include "base/text.h"
#include "core/json/json.h"

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
                bool own = streq(queue->id, sharing->options.id);
                if (json_append(list,
                                describe_queue(queue,
                                               own,
                                               sharing->options.configured,
                                               sharing_share(sharing))) < 0)
                        return NULL;
        }
        SharingQueue self = sharing_self(sharing);
        if (list && sharing->n_seen == 0 && /* it has not looked for others, or is not to */
            json_append(list,
                        describe_queue(&self, true, sharing->options.configured, sharing_share(sharing))) < 0)
                return NULL;
        return TAKE_PTR(list);
}

/* The master's last split begins with a scan; others only know who there is. */
static usec_t computed_usec(const Sharing *sharing, const Moment *now) {
        if (!sharing_is_master(sharing) || !sharing->cache.is_filled)
                return sharing->seen_usec;
        return usec_subtract(now->realtime_usec, usec_subtract(now->boottime_usec, sharing->cache.scan_usec));
}

json_object *sharing_describe(const Sharing *sharing, const Moment *now) {
        _cleanup_(json_putp) json_object *object = json_object_new_object();
        char computed[USEC_RFC3339_SIZE];
        usec_format_rfc3339(computed_usec(sharing, now), computed);
        json_object *queues = sharing_is_master(sharing) && sharing->cache.is_filled ?
                        describe_split(&sharing->cache) :
                        describe_seen(sharing);
        int r = object ? json_add_string(object, "self", sharing->options.address) : -ENOMEM;
        if (r >= 0)
                r = json_add_string(object, "master", sharing->master);
        if (r >= 0)
                r = json_add_bool(object, "enabled", sharing->poll.is_enabled);
        if (r >= 0)
                r = add_set(object, "share", sharing_share(sharing));
        if (r >= 0)
                r = json_add_string(object, "computed", sharing->seen_usec > 0 ? computed : NULL);
        r = r < 0 ? (json_object_put(queues), r) : json_add(object, "queues", queues);
        return r < 0 ? NULL : TAKE_PTR(object);
}
