/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/accounts.h"

#include <grp.h>
#include <pwd.h>
#include <string.h>

#define ENTRY_BYTES_MAX (64 * 1024)
#define GROUP_BYTES_MAX (1024 * 1024) /* its members are listed */

void account_done(Account *account) {
        free(account->name);
        free(account->home);
        free(account->shell);
        *account = (Account) {};
}

int account_copy(const Account *account, Account *ret) {
        _cleanup_(account_done) Account copy = {
                .name = strdup(account->name),
                .home = strdup(account->home),
                .shell = strdup(account->shell),
                .uid = account->uid,
                .gid = account->gid,
        };
        if (!copy.name || !copy.home || !copy.shell)
                return -ENOMEM;
        *ret = copy;
        copy.name = copy.home = copy.shell = NULL; /* handed over */
        return 0;
}

static int account_take(const struct passwd *entry, Account *ret) {
        const Account account = {
                .name = entry->pw_name,
                .home = entry->pw_dir && *entry->pw_dir ? entry->pw_dir : (char *) "/",
                .shell = entry->pw_shell && *entry->pw_shell ? entry->pw_shell : (char *) "/bin/sh",
                .uid = entry->pw_uid,
                .gid = entry->pw_gid,
        };
        return account_copy(&account, ret);
}

int account_by_name(const char *name, Account *ret) {
        _cleanup_(freep) char *buffer = malloc(ENTRY_BYTES_MAX);
        if (!buffer)
                return -ENOMEM;
        struct passwd entry, *found = NULL;
        int r = getpwnam_r(name, &entry, buffer, ENTRY_BYTES_MAX, &found);
        if (!found)
                return r == 0 ? -ENOENT : -r;
        return account_take(found, ret);
}

int account_by_uid(uid_t uid, Account *ret) {
        _cleanup_(freep) char *buffer = malloc(ENTRY_BYTES_MAX);
        if (!buffer)
                return -ENOMEM;
        struct passwd entry, *found = NULL;
        int r = getpwuid_r(uid, &entry, buffer, ENTRY_BYTES_MAX, &found);
        if (!found)
                return r == 0 ? -ENOENT : -r;
        return account_take(found, ret);
}

int group_by_name(const char *name, gid_t *ret_gid) {
        _cleanup_(freep) char *buffer = malloc(GROUP_BYTES_MAX);
        if (!buffer)
                return -ENOMEM;
        struct group entry, *found = NULL;
        int r = getgrnam_r(name, &entry, buffer, GROUP_BYTES_MAX, &found);
        if (!found)
                return r == 0 ? -ENOENT : -r;
        *ret_gid = found->gr_gid;
        return 0;
}
