/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which trace a task belongs to (W3C Trace Context): programs hand it on in two headers, and to their
 * children in two variables. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>

#define TRACE_PARENT_VARIABLE "TRACEPARENT"
#define TRACE_STATE_VARIABLE  "TRACESTATE"

/* "00-<32 hex>-<16 hex>-<2 hex>", neither of the first two zero; what follows only in later versions. */
bool trace_parent_is_valid(const char *trace_parent);

/* Whether ENTRY, "NAME=VALUE", is one of the two variables. */
bool trace_context_has(const char *entry);

/* Adds both to the environment of the task that BODY describes, or of each task where it is an array. A task
 * that names a parent itself keeps its own. Left alone is what cannot be a task, or would have more than
 * N_VARIABLES_MAX then, and all of it when
 * TRACE_PARENT is NULL or malformed; a malformed TRACE_STATE is left out. -ENOMEM. */
int trace_context_add(
                json_object *body,
                size_t n_variables_max,
                const char *trace_parent,
                const char *trace_state);
