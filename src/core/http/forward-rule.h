/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A queue's member that does not lead passes requests on to the one that does: what goes along, what comes
 * back, and what may be sent a second time when nobody knows whether the first one arrived. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "core/http/query.h"

/* In a request: the secret of the member that passes it on, which has let its client in. In an answer: why a
 * member has not looked at such a request. */
#define FORWARD_HEADER      "Daggyd-Member"
#define FORWARD_NOT_LEADING "not-leading" /* with 503: it does not lead, or not any more */
#define FORWARD_UNKNOWN     "unknown"     /* with 401: it knows no living member of this secret, or not yet */

/* The headers that are passed on, besides Content-Type; NULL-terminated. All others are between the client
 * and the member that it asks: who it is, what it may, how the bytes are framed. */
extern const char *const forward_request_headers[];

/* Those of the answer, besides Content-Type; at most eight. */
extern const char *const forward_answer_headers[];

/* Whether the request may be sent again although it may have been acted on already: the second time comes to
 * the same. METHOD in capitals; PATH still percent-encoded; BODY is of SIZE bytes. */
bool forward_may_repeat(
                const char *method,
                const char *path,
                const Query *query,
                const char *body,
                size_t size);

/* Whether the answer may take as long as the client likes to wait for it. */
bool forward_may_wait(const char *path, const Query *query);
