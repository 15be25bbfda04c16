/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which requests are refused before anything is looked at: those that a web page can cause
 * (foreign Origin, cross-site fetches, DNS rebinding by Host) and bodies of the wrong type. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "core/json/problem.h"

typedef struct GuardConfig {
        const char *host_name;      /* the machine's host name, short or full; may be NULL */
        char *const *allowed_hosts; /* NULL-terminated, or NULL */
} GuardConfig;

typedef struct GuardRequest {
        const char *host; /* header values, NULL when absent */
        const char *origin;
        const char *sec_fetch_site;
        bool over_tcp;      /* Host is checked over TCP only */
        bool authenticated; /* a token or client certificate was accepted: Host is not checked */
        bool tls;           /* the server's own origin is then https:// */
} GuardRequest;

/* Order: Host, Origin, Sec-Fetch-Site.
 *
 * 400 for no Host over TCP, or one that is not host[:port] with IPv6 in brackets; 421 for one that is neither
 * an IP literal, "localhost", the host name (short or full) nor in allowed_hosts: compared without regard to
 * case, the port and one trailing dot. "127.1" and the like are names, not literals.
 *
 * 403 for an Origin that is not the server's own: scheme://host[:port] of this very request, whatever kind of
 * socket it came by, a default port said or not. "null" and an Origin without a Host to compare it with are
 * foreign. 403 for a Sec-Fetch-Site other than same-origin or none. */
int guard_check(const GuardConfig *config, const GuardRequest *request, Problem *reterr_problem);

/* Headers that ask for more than is served here; NULL when absent. */
typedef struct GuardDemands {
        const char *content_encoding;
        const char *content_range;
        const char *if_match;
} GuardDemands;

/* Refuses what would be something else if such a header were ignored: 415 for a body in a coding (but
 * "identity"), 400 for a part of one, 412 for what is to happen only to a certain version, as nothing here
 * has versions. */
int guard_check_demands(const GuardDemands *demands, Problem *reterr_problem);

/* 415 unless CONTENT_TYPE (NULL when absent) is application/json or something/…+json, parameters allowed. Not
 * part of guard_check(), as the DaggyR endpoints answer otherwise. */
int guard_check_content_type(const char *content_type, Problem *reterr_problem);
