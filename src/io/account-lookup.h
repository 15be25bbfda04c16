/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A look into the user database that does not hold up the loop, however long the host's name service takes: a
 * process of its own (src/account) does it, and is killed when its time is up. */
#pragma once

#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/usec.h"
#include "io/accounts.h"

typedef struct AccountLookup AccountLookup;

/* Told once, after the lookup was freed: 0 with the ACCOUNT, whose content the handler may take over; -ENOENT
 * when there is none of that name; -ETIMEDOUT; another negative errno, -EIO when the process did not say. */
typedef void (*AccountLookupHandler)(int error, Account *account, void *userdata);

/* Executes EXECUTABLE to look NAME up. -EAGAIN, also when too many such processes live already (those that
 * were killed may take their time), -EMFILE and so on when it cannot; the handler is not called then. */
int account_lookup_start(
                sd_event *event,
                const char *executable,
                const char *name,
                usec_t timeout_usec,
                AccountLookupHandler handler,
                void *userdata,
                AccountLookup **ret);

/* Gives up; the handler is not called. NULL is fine. */
AccountLookup *account_lookup_free(AccountLookup *lookup);
DEFINE_POINTER_CLEANUP(AccountLookup, account_lookup_free)
