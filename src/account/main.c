/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* daggyr-account, executed by daggyr (io/account-lookup.c) for each look into the user database. Where that
 * is a name service in the network it may take minutes, and nothing in the C library can be told to give up:
 * a process can be killed. */

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/accounts.h"

/* Whoever wanted the answer has given up long before. */
#define GIVE_UP_SEC 60

static void say(const char *field) {
        (void) fwrite(field, 1, strlen(field) + 1, stdout);
}

static void say_number(unsigned number) {
        (void) printf("%u%c", number, '\0');
}

/* Each field ends with a NUL: an errno, and when that is 0 the account. */
int main(int argc, char *argv[]) {
        if (argc != 2) {
                (void) fprintf(stderr,
                               "daggyr-account is executed for daggyr; it is no command of its own.\n");
                return EXIT_FAILURE;
        }
        (void) alarm(GIVE_UP_SEC);
        _cleanup_(account_done) Account account = {};
        int r = account_by_name(argv[1], &account);
        say_number((unsigned) -r);
        if (r >= 0) {
                say(account.name);
                say(account.home);
                say(account.shell);
                say_number(account.uid);
                say_number(account.gid);
        }
        return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
