/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "leader/accounts.h"

#include <errno.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>

#define PASSWD       "/etc/passwd"
#define ACCOUNTS_MAX 4096
#define ENTRY_MAX    4096 /* bytes of a line, more than any account has */

/* The last of the groups that Debian and most others keep for the system (SYS_GID_MAX of login.defs). */
#define SYSTEM_GID_MAX 999

typedef struct Pair {
        uid_t uid;
        gid_t gid;
} Pair;

static Pair pairs[ACCOUNTS_MAX];
static size_t n_pairs;

/* fgetpwent_r(), because getpwnam() of a static program would want the name service's plug-ins. */
void accounts_load(void) {
        FILE *file = fopen(PASSWD, "re");
        if (!file)
                return;
        struct passwd entry = {}, *found;
        char strings[ENTRY_MAX];
        n_pairs = 0;
        while (n_pairs < ACCOUNTS_MAX && fgetpwent_r(file, &entry, strings, sizeof(strings), &found) == 0)
                pairs[n_pairs++] = (Pair) { .uid = entry.pw_uid, .gid = entry.pw_gid };
        (void) fclose(file);
}

typedef enum Finding {
        FOUND_NONE,
        FOUND_OTHER_GROUP,
        FOUND_PAIR,
} Finding;

/* Two names may share a number, and have different groups. */
static Finding find(uid_t uid, gid_t gid) {
        Finding finding = FOUND_NONE;
        for (size_t i = 0; i < n_pairs; i++) {
                if (pairs[i].uid != uid)
                        continue;
                if (pairs[i].gid == gid)
                        return FOUND_PAIR;
                finding = FOUND_OTHER_GROUP;
        }
        return finding;
}

int accounts_check(uid_t uid, gid_t gid) {
        if (find(uid, gid) == FOUND_PAIR)
                return 0;
        accounts_load(); /* the account may be newer than the spawner */
        switch (find(uid, gid)) {
        case FOUND_PAIR:
                return 0;
        case FOUND_NONE:
                return gid > SYSTEM_GID_MAX ? 0 : -EPERM;
        case FOUND_OTHER_GROUP:
                break;
        }
        return -EPERM;
}
