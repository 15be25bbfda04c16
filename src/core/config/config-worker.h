/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A worker as a queue is told of it: by its configuration file, or by a request of somebody who lets the
 * worker join. */
#pragma once

#include "core/json/json.h"
#include "core/json/problem.h"

typedef struct WorkerConfig {
        char *id;
        char *url;                            /* "http://10.0.0.1:2504", without a slash at its end */
        char *token;                          /* what it is shown, or NULL */
        char *token_file;                     /* where a configuration has that; or NULL */
        char *ca_file, *cert_file, *key_file; /* for https; or NULL */
} WorkerConfig;

void worker_config_done(WorkerConfig *worker);

/* -ENOMEM: *ret is to be done with all the same. */
int worker_config_copy(const WorkerConfig *worker, WorkerConfig *ret);

/* An element of the configuration's "workers", at PATH of the file; or the body of a request. *RET is zeroed
 * before, and to be done with in every case. */
int worker_config_read(json_object *value, const char *path, WorkerConfig *ret, Problem *reterr_problem);
int worker_config_read_joining(json_object *body, WorkerConfig *ret, Problem *reterr_problem);
