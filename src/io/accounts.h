/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The user database. */
#pragma once

#include <sys/types.h>

#include "base/cleanup.h"

typedef struct Account {
        char *name, *home, *shell;
        uid_t uid;
        gid_t gid;
} Account;

void account_done(Account *account);

/* -ENOMEM. */
int account_copy(const Account *account, Account *ret);

/* Looks NAME, or UID, up. -ENOENT when there is no such account. Waits for as long
 * as the host's name service takes, which may be the network's: never from a loop (io/account-lookup.h). */
int account_by_name(const char *name, Account *ret);
int account_by_uid(uid_t uid, Account *ret);

/* The number of the group NAME. -ENOENT when there is none. */
int group_by_name(const char *name, gid_t *ret_gid);
