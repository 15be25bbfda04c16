/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The accounts that tasks run as, as the host's name service has them. It may be slow, or silent: whoever
 * wants to know asks here and waits, and the loop goes on. Who asks for the same account shares one lookup,
 * and an answer is good for a moment. The names are those of the configuration, so there are not many. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "io/accounts.h"

typedef struct TaskAccounts TaskAccounts;
typedef struct AccountsWait AccountsWait;

typedef void (*AccountsHandler)(void *userdata);

/* Lookups are made by EXECUTABLE. ON_NEWS is called after each, whatever came of it. */
int task_accounts_new(
                sd_event *event,
                const char *executable,
                AccountsHandler on_news,
                void *userdata,
                TaskAccounts **ret);
TaskAccounts *task_accounts_free(TaskAccounts *accounts);
DEFINE_POINTER_CLEANUP(TaskAccounts, task_accounts_free)

/* What the last lookup of NAME has said, however long ago: 0 with a copy of the account, which the caller is
 * done with by account_done(); -ENOENT when there is none; -ETIMEDOUT when the name service did not answer;
 * -EINPROGRESS before the first answer; or why it could not be asked. */
int task_accounts_get(const TaskAccounts *accounts, const char *name, Account *ret);

/* Whether the last answer about NAME is of this moment. If not, it is being looked up when this returns. */
bool task_accounts_is_fresh(TaskAccounts *accounts, const char *name);

/* Calls HANDLER as soon as the answers about all N NAMES are of this moment; not from inside this call.
 * -EALREADY when they are already: HANDLER is not called. -ENOMEM. RELEASE, which may be NULL, is called with
 * USERDATA instead when ACCOUNTS is freed before. */
int task_accounts_wait(
                TaskAccounts *accounts,
                const char *const *names,
                size_t n,
                AccountsHandler handler,
                AccountsHandler release,
                void *userdata,
                AccountsWait **ret);

/* NULL is fine. Not after the handler was called, which ends the wait. */
AccountsWait *accounts_wait_free(AccountsWait *wait);

/* Ends all look-ups, before another program takes this one's place. What is not known is asked for again. */
void task_accounts_stop(TaskAccounts *accounts);
