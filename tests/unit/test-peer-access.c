/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdio.h>

#include "core/http/peer-access.h"
#include "test.h"

#define OWN   997
#define GROUP 996

static const PeerPolicy daemon_of_all = { .own_uid = OWN, .group = GROUP, .may_ask = true };
static const PeerPolicy without_group = { .own_uid = OWN, .group = PEER_NO_GROUP, .may_ask = true };
static const PeerPolicy of_a_user = { .own_uid = 1000, .group = PEER_NO_GROUP };

static void who_is_who(void **state) {
        static const gid_t member[] = { 4, GROUP, 27 }, last[] = { 4, 27, GROUP }, none[] = { 4, 27 },
                           unset[] = { (gid_t) -1 };
        static const struct {
                const char *what;
                const PeerPolicy *policy;
                PeerAccount peer;
                PeerVerdict verdict;
        } cases[] = {
                { "root", &daemon_of_all, { 0, 0 }, PEER_ADMITTED },
                { "root in any group", &without_group, { 0, 5 }, PEER_ADMITTED },
                { "the daemon itself", &daemon_of_all, { OWN, 5 }, PEER_ADMITTED },
                { "primary group", &daemon_of_all, { 1000, GROUP }, PEER_ADMITTED },
                { "supplementary group", &daemon_of_all, { 1000, 1000, member, 3 }, PEER_ADMITTED },
                { "the last of them", &daemon_of_all, { 1000, 1000, last, 3 }, PEER_ADMITTED },
                { "behind the end of the list", &daemon_of_all, { 1000, 1000, last, 2 }, PEER_TO_ASK },
                { "other groups", &daemon_of_all, { 1000, 1000, none, 2 }, PEER_TO_ASK },
                { "the group of root", &daemon_of_all, { 1000, 0 }, PEER_TO_ASK },
                { "a uid like the group's number", &daemon_of_all, { GROUP, 1000 }, PEER_TO_ASK },
                { "a gid like the daemon's uid", &daemon_of_all, { 1000, OWN }, PEER_TO_ASK },
                { "there is no such group", &without_group, { 1000, GROUP, member, 3 }, PEER_TO_ASK },
                { "no group is no wildcard", &without_group, { 1000, (gid_t) -1, unset, 1 }, PEER_TO_ASK },
                { "nobody", &daemon_of_all, { 65534, 65534 }, PEER_TO_ASK },
                { "an unknown uid", &daemon_of_all, { (uid_t) -1, (gid_t) -1 }, PEER_TO_ASK },
                { "the user", &of_a_user, { 1000, 1000 }, PEER_ADMITTED },
                { "root at a user's", &of_a_user, { 0, 0 }, PEER_ADMITTED },
                { "another user", &of_a_user, { 1001, 1000 }, PEER_REFUSED },
                { "a member at a user's", &of_a_user, { 1001, GROUP, member, 3 }, PEER_REFUSED },
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
                check_int(cases[i].what,
                          peer_access_decide(cases[i].policy, &cases[i].peer),
                          cases[i].verdict);
}

#define FIELDS_4_TO_21 " 1 2 2 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0"

static void a_start_time_is_found(void **state) {
        static const struct {
                const char *stat;
                int r;
                uint64_t ticks;
        } cases[] = {
                { "12 (sh) S" FIELDS_4_TO_21 " 98765 1 2 3\n", 0, 98765 },
                { "12 (a b) S" FIELDS_4_TO_21 " 0 1 2 3\n", 0, 0 },
                { "12 (x) S 1 2 3) R" FIELDS_4_TO_21 " 18446744073709551615 1\n", 0, UINT64_MAX },
                { "12 () S" FIELDS_4_TO_21 " 7", 0, 7 },
                { "12 (sh) S" FIELDS_4_TO_21 " 18446744073709551616 1\n", -EBADMSG, 0 },
                { "12 (sh) S" FIELDS_4_TO_21 " 184467440737095516150 1\n", -EBADMSG, 0 },
                { "12 (sh) S" FIELDS_4_TO_21 " -1 1\n", -EBADMSG, 0 },
                { "12 (sh) S" FIELDS_4_TO_21 " ", -EBADMSG, 0 },
                { "12 (sh) S" FIELDS_4_TO_21, -EBADMSG, 0 },
                { "12 sh S" FIELDS_4_TO_21 " 98765 1 2 3\n", -EBADMSG, 0 },
                { "12 (sh)", -EBADMSG, 0 },
                { "", -EBADMSG, 0 },
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                uint64_t ticks = 0;
                check_int(cases[i].stat, peer_parse_start_time(cases[i].stat, &ticks), cases[i].r);
                check_u64(cases[i].stat, ticks, cases[i].ticks);
        }
}

static void a_user_is_found(void **state) {
        static const char status[] =
                        "Name:\tUid:\t7\nPid:\t12\nUid:\t1000\t1001\t1002\t1003\nGid:\t8\t8\t8\t8\n";
        check_true("real", peer_status_has_uid(status, 1000));
        check_true("effective", peer_status_has_uid(status, 1001));
        check_true("saved", !peer_status_has_uid(status, 1002));
        check_true("in the name", !peer_status_has_uid(status, 7));
        check_true("a group", !peer_status_has_uid(status, 8));
        check_true("a part", !peer_status_has_uid(status, 100));
        check_true("root is not everywhere", !peer_status_has_uid(status, 0));
        check_true("root", peer_status_has_uid("Name:\tsh\nUid:\t0\t0\t0\t0\n", 0));
        check_true("cut off", !peer_status_has_uid("Name:\tsh\nUid:\t", 0));
        check_true("no number", !peer_status_has_uid("Name:\tsh\nUid:\t-1\t-1\n", (uid_t) -1));
        check_true("none", !peer_status_has_uid("Name:\tsh\n", 0));
        check_true("empty", !peer_status_has_uid("", 0));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(who_is_who),
                cmocka_unit_test(a_start_time_is_found),
                cmocka_unit_test(a_user_is_found),
        };
        return cmocka_run_group_tests_name("peer-access", tests, NULL, NULL);
}
