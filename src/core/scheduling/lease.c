/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/scheduling/lease.h"

#include <stddef.h>

#include "base/text.h"
#include "core/json/json.h"

void lease_request_done(LeaseRequest *request) {
        free(request->queue);
        free(request->version);
        *request = (LeaseRequest) {};
}

/* "host:port"; an IPv6 host stands in brackets. */
static bool is_queue_address(const char *address) {
        const char *colon = strrchr(address, ':');
        uint64_t port;
        if (!colon || colon == address || text_parse_u64(colon + 1, 1, 65535, &port) < 0)
                return false;
        for (const char *p = address; p < colon; p++)
                if ((unsigned char) *p <= ' ' || *p == 0x7f || *p == '/')
                        return false;
        return true;
}

int lease_request_parse(json_object *body, LeaseRequest *ret, Problem *reterr_problem) {
        static const JsonField fields[] = {
                { "queue", json_field_string, offsetof(LeaseRequest, queue), true, 3, LEASE_QUEUE_MAX },
                { "version", json_field_string, offsetof(LeaseRequest, version), true, 0, LEASE_VERSION_MAX },
                { "ttl", json_field_seconds, offsetof(LeaseRequest, ttl_usec), true, 1, LEASE_TTL_SEC_MAX },
                {},
        };
        _cleanup_(lease_request_done) LeaseRequest request = {};
        int r = json_dispatch(body, fields, JSON_UNKNOWN_REFUSED, "", &request, reterr_problem);
        if (r < 0)
                return r;
        if (!is_queue_address(request.queue))
                return problem_set(reterr_problem, 400, "/queue", "must be host:port");
        *ret = request;
        request = (LeaseRequest) {};
        return 0;
}

bool lease_is_live(const Lease *lease, usec_t now_usec) {
        return *lease->id && now_usec < lease->expires_usec;
}

int lease_acquire(Lease *lease, const LeaseRequest *request, const char *fresh_id, usec_t now_usec) {
        bool renewed = false;
        if (lease_is_live(lease, now_usec)) {
                if (!streq(lease->queue, request->queue))
                        return -EEXIST;
                renewed = true;
        } else {
                (void) strncpy(lease->id, fresh_id, sizeof(lease->id) - 1);
                lease->epoch++;
        }
        /* Both lengths were checked when the request was parsed. */
        (void) strncpy(lease->queue, request->queue, sizeof(lease->queue) - 1);
        (void) strncpy(lease->version, request->version, sizeof(lease->version) - 1);
        lease->ttl_usec = request->ttl_usec;
        lease->expires_usec = usec_add(now_usec, lease->ttl_usec);
        return !renewed;
}

/* Compares in a time that does not tell how much of ID was right. */
static bool is_id(const Lease *lease, const char *id) {
        if (strlen(id) != LEASE_ID_SIZE - 1)
                return false;
        unsigned difference = 0;
        for (size_t i = 0; i < LEASE_ID_SIZE; i++)
                difference |= (unsigned char) lease->id[i] ^ (unsigned char) id[i];
        return difference == 0;
}

int lease_renew(Lease *lease, const char *id, usec_t now_usec) {
        if (!lease_is_live(lease, now_usec) || !is_id(lease, id))
                return -ENOENT;
        lease->expires_usec = usec_add(now_usec, lease->ttl_usec);
        return 0;
}

int lease_release(Lease *lease, const char *id, usec_t now_usec) {
        if (!lease_is_live(lease, now_usec) || !is_id(lease, id))
                return -ENOENT;
        *lease->id = '\0';
        return 0;
}

int lease_check(const Lease *lease, const char *id, bool required, usec_t now_usec, Problem *reterr_problem) {
        bool live = lease_is_live(lease, now_usec);
        if (live && (!id || !is_id(lease, id)))
                return problem_set(reterr_problem, 423, NULL, "this runner is leased to a queue");
        if (!live && (id || required))
                return problem_set(
                                reterr_problem,
                                423,
                                NULL,
                                id ? "the lease that the task names has ended" :
                                     "this runner takes tasks under a lease only");
        return 0;
}

json_object *lease_to_json(const Lease *lease, bool with_id, usec_t now_usec, usec_t realtime_usec) {
        _cleanup_(json_putp) json_object *object = json_object_new_object();
        usec_t expires_usec = usec_add(realtime_usec, usec_subtract(lease->expires_usec, now_usec));
        int r = object ? 0 : -ENOMEM;
        if (r >= 0 && with_id)
                r = json_add_string(object, "lease_id", lease->id);
        if (r >= 0)
                r = json_add_string(object, "queue", lease->queue);
        if (r >= 0)
                r = json_add_string(object, "version", lease->version);
        if (r >= 0)
                r = json_add_u64(object, "epoch", lease->epoch);
        if (r >= 0)
                r = json_add_double(object, "ttl", (double) lease->ttl_usec / (double) USEC_PER_SEC);
        if (r >= 0)
                r = json_add_realtime(object, "expires", expires_usec);
        return r < 0 ? NULL : TAKE_PTR(object);
}
