/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What queues say to each other to share workers: the JSON of Emcee's queue servers, both directions. Which
 * path, method or header it comes with is for others.
 *
 * As in Emcee, keys that nobody asked for are ignored, a key that is missing, null or of the wrong type is an
 * error, and an array that stands for a set may name a worker twice. Other than Emcee, strings have limits, a
 * key may not be there twice in one object, and strings are equal only if their bytes are (Swift knows
 * several spellings of "é" as one).
 *
 * Bodies are read with json_parse() first. An empty one is not JSON: those who have nothing to say send "{}".
 * Every …_parse() returns -EINVAL with the problem (status 400) filled, or a failure of ours (503). Every
 * …_format() returns the body's tree or -ENOMEM; the caller puts it. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/json/problem.h"
#include "core/sharing/sharing-split.h"

#define EMCEE_ADDRESS_MAX 255 /* bytes, as it was sent */
#define EMCEE_VERSION_MAX 255

/* Our addition, to a request as to an answer: "Daggyr-Queue: <32 hexadecimal digits> host:port". A header, so
 * that Emcee never sees it. */
#define EMCEE_IDENTITY_HEADER "Daggyr-Queue"

/* "host:port" as Emcee's SocketAddress reads it: what is between colons, empty parts left out, must be two
 * parts, and the second a Swift Int. So "h:042" is h:42, and "::1:42" the host "1". *ret is the address as
 * Emcee would write it, and the caller frees it; RET_PORT may be NULL. -EINVAL, -ENOMEM. The port may be
 * anything: what is to be connected to must be checked for 1…65535. */
int emcee_address_parse(const char *text, char **ret, int64_t *ret_port);

/* The body of answers that tell of an error (status 400, text/plain): Failed to process request with path
 * "/X", error: "…". The caller frees *ret. -ENOMEM. */
int emcee_error_format(const char *path, const Problem *problem, char **ret);

/* {}: the request of /queueVersion, /workerIds and /workerStatus, and the answer of /toggleWorkersSharing.
 * There is nothing in it to parse; Emcee takes any JSON for it. */
int emcee_void_format(json_object **ret);

/* /queueVersion: {"responseType":"queueVersion","version":"…"}. The caller frees *ret. */
int emcee_queue_version_format(const char *version, json_object **ret);
int emcee_queue_version_parse(json_object *answer, char **ret, Problem *reterr_problem);

/* /workerIds: {"workerIds":[…]}. The caller unrefs *ret. */
int emcee_worker_ids_format(const WorkerSet *workers, json_object **ret);
int emcee_worker_ids_parse(json_object *answer, WorkerSet **ret, Problem *reterr_problem);

/* /workersToUtilize: {"queueInfo":{"queueAddress":"host:port","queueVersion":"…"},"workerIds":[…]}. Read into
 * (and written from) a queue without id, its address in canonical form; sharing_queue_done() it. */
int emcee_workers_to_utilize_format(const SharingQueue *asker, json_object **ret);
int emcee_workers_to_utilize_parse(json_object *request, SharingQueue *ret, Problem *reterr_problem);

/* Its answer: {"caseId":"workersToUtilize","workerIds":[…]}. */
int emcee_share_format(const WorkerSet *share, json_object **ret);
int emcee_share_parse(json_object *answer, WorkerSet **ret, Problem *reterr_problem);

/* /toggleWorkersSharing: {"status":"enabled"} or "disabled" */
int emcee_toggle_parse(json_object *request, bool *ret_enabled, Problem *reterr_problem);

/* One worker of /workerStatus. */
typedef struct EmceeWorkerStatus {
        char *id;
        bool registered, disabled, silent, permitted;
        char **buckets; /* ids of what runs on it */
} EmceeWorkerStatus;

/* Frees N of them and the array. Returns NULL. */
EmceeWorkerStatus *emcee_worker_status_free(EmceeWorkerStatus *workers, size_t n);

/* {"workerAliveness":["id",{…},"id",{…}]}: one array in which ids and what is known of them alternate. */
int emcee_worker_status_format(const EmceeWorkerStatus *workers, size_t n, json_object **ret);

/* The value of EMCEE_IDENTITY_HEADER from ID and ADDRESS, and back; the address comes back in canonical form.
 * The caller frees *ret and *ret_address. -EINVAL, -ENOMEM. */
int emcee_identity_format(const char *id, const char *address, char **ret);
int emcee_identity_parse(const char *value, char ret_id[static SHARING_QUEUE_ID_SIZE], char **ret_address);
