/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The hands of sharing (core/sharing/sharing.h), over HTTP in Emcee's protocol: asks the master, and answers
 * who asks this queue. */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "core/config/config-queue.h"
#include "core/sharing/sharing.h"
#include "io/http-client.h"
#include "io/http-server.h"
#include "service/access.h"

typedef struct HttpSharing HttpSharing;

/* All weak. */
typedef struct HttpSharingOptions {
        sd_event *event;
        HttpClient *client;
        const Access *access;
        const QueueConfig *config;
        WorkerSet *configured;         /* this queue's workers; gets a reference */
        const char *address, *version; /* of this queue */

        /* Whether this queue takes no tasks now. */
        bool (*is_draining)(const void *userdata);

        /* http_sharing_is_told() or http_sharing_permits() may say something else. */
        void (*share_changed)(void *userdata);
        void *userdata;
} HttpSharingOptions;

/* Begins at once. Negative errno. */
int http_sharing_new(const HttpSharingOptions *options, HttpSharing **ret);
HttpSharing *http_sharing_free(HttpSharing *http);
DEFINE_POINTER_CLEANUP(HttpSharing, http_sharing_free)

/* Whether it is known what this queue may use: not before it was answered for the first time. */
bool http_sharing_is_told(const HttpSharing *http);

/* Whether this queue may use the worker now. */
bool http_sharing_permits(const HttpSharing *http, const char *worker_id);

/* This queue's workers are CONFIGURED (gets a reference) from now on. */
void http_sharing_set_configured(HttpSharing *http, WorkerSet *configured);

void http_sharing_toggle(HttpSharing *http, bool enabled);

/* The workers this queue has configured. */
const WorkerSet *http_sharing_configured(const HttpSharing *http);

/* The value of EMCEE_IDENTITY_HEADER of this queue. */
const char *http_sharing_identity(const HttpSharing *http);

/* The version this queue shows: not its own when it is about to end, so that no others reckon with it. */
const char *http_sharing_shown_version(const HttpSharing *http);

/* Answers REQUEST, by which ASKER (emptied) asks for its share, now or after a look. */
void http_sharing_answer_share(HttpSharing *http, HttpRequest *request, SharingQueue *asker);

/* For people. */
const Sharing *http_sharing_state(const HttpSharing *http);
