/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The body of a submission, out of what the command line says. The daemon judges it; only what it could not
 * even be asked is refused here. */
#pragma once

#include <json-c/json.h>

#include "ctl/options.h"

/* {"command","resources",…} for POST /api/v1/task/{id}. Reads the file of --stdin. -EINVAL and other errno,
 * said. The caller puts *ret. */
int task_body_from_options(const Options *options, char *const *command, json_object **ret);

/* What is piped or redirected to us becomes what the task reads, unless the command line says otherwise. A
 * negative errno, said. */
int task_body_add_piped_input(const Options *options, json_object *body);

/* What is in the file of --file, "-" being stdin: an object, or an array of them. -EINVAL and other errno,
 * said. The caller puts *ret. */
int task_body_from_file(const char *path, json_object **ret);

/* Adds {"cores","memory_mb",…} to OBJECT as --cores, --memory and --resource say. */
int task_body_add_resources(const Options *options, json_object *object);

/* The trace that our own environment tells of (TRACEPARENT) goes on in the task, or in each of several,
 * unless it names one itself. -ENOMEM, said. */
int task_body_add_trace(json_object *body);

/* A new id for a task: the client's own choice, so that it can repeat a submission whose answer got lost. */
#define TASK_ID_SIZE 17
void task_id_choose(char buffer[static TASK_ID_SIZE]);
