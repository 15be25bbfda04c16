/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A lease reserves a runner for one queue: who holds it, until when, and who may have it. Times are
 * CLOCK_BOOTTIME; a lease never outlives the runner's process. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/usec.h"
#include "core/json/problem.h"

#define LEASE_ID_SIZE     33 /* 32 hexadecimal digits and a NUL */
#define LEASE_QUEUE_MAX   255
#define LEASE_VERSION_MAX 255
#define LEASE_TTL_SEC_MAX 3600.0

typedef struct Lease {
        char id[LEASE_ID_SIZE]; /* "" while nobody holds it */
        char queue[LEASE_QUEUE_MAX + 1];
        char version[LEASE_VERSION_MAX + 1];
        uint64_t epoch; /* grants so far: higher than that of every earlier holder */
        usec_t ttl_usec;
        usec_t expires_usec;
} Lease;

/* POST /api/v1/lease */
typedef struct LeaseRequest {
        char *queue, *version;
        usec_t ttl_usec;
} LeaseRequest;

void lease_request_done(LeaseRequest *request);

/* {"queue":"host:port","version":"…","ttl":30}; ttl 1…3600 seconds. 400 otherwise. */
int lease_request_parse(json_object *body, LeaseRequest *ret, Problem *reterr_problem);

bool lease_is_live(const Lease *lease, usec_t now_usec);

/* Grants the lease to REQUEST's queue, with FRESH_ID as its id, or renews it where that queue holds it
 * already. Returns 1 when it was granted, 0 when renewed; -EEXIST when another queue holds it. */
int lease_acquire(Lease *lease, const LeaseRequest *request, const char *fresh_id, usec_t now_usec);

/* Renews by id for the time it was granted for. -ENOENT when that is not the live lease. */
int lease_renew(Lease *lease, const char *id, usec_t now_usec);

/* Ends it by id. -ENOENT when that is not the live lease. */
int lease_release(Lease *lease, const char *id, usec_t now_usec);

/* Whether a task that names lease ID (NULL: none) may be taken: 423 when a lease is live and ID is not it, or
 * when REQUIRED and none is named. */
int lease_check(const Lease *lease, const char *id, bool required, usec_t now_usec, Problem *reterr_problem);

/* {"queue","version","epoch","ttl","expires"} and with WITH_ID "lease_id"; NULL when out of memory.
 * REALTIME_USEC is the wall clock at NOW_USEC. */
json_object *lease_to_json(const Lease *lease, bool with_id, usec_t now_usec, usec_t realtime_usec);
