/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A submission waits until the accounts that its tasks would run as are known, and then is decided at once.
 */
#pragma once

#include <json-c/json.h>

#include "io/http-server.h"

typedef struct Runner Runner;

/* Carries on with a submission. BODY is the callee's to read only. */
typedef void (*SubmitProceed)(Runner *runner, HttpRequest *request, json_object *body);

/* Calls PROCEED, now or later, with BODY, which is a specification or an array of them and taken over.
 * USER_KEY is the member of a specification that names the account; NULL: none does. Takes care of a client
 * that goes away. */
void submit_when_accounts_are_known(
                Runner *runner,
                HttpRequest *request,
                json_object *body,
                const char *user_key,
                SubmitProceed proceed);
