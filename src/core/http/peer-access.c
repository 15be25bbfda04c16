/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/http/peer-access.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define STAT_START_TIME 22 /* the number of the field, as proc(5) counts */

static bool is_member(const PeerAccount *peer, gid_t group) {
        if (group == PEER_NO_GROUP)
                return false;
        if (peer->gid == group)
                return true;
        for (size_t i = 0; i < peer->n_groups; i++)
                if (peer->groups[i] == group)
                        return true;
        return false;
}

PeerVerdict peer_access_decide(const PeerPolicy *policy, const PeerAccount *peer) {
        assert(policy);
        assert(peer);

        if (peer->uid == 0 || peer->uid == policy->own_uid || is_member(peer, policy->group))
                return PEER_ADMITTED;
        return policy->may_ask ? PEER_TO_ASK : PEER_REFUSED;
}

int peer_parse_start_time(const char *stat, uint64_t *ret_ticks) {
        assert(stat);
        assert(ret_ticks);

        /* The second field is the command's name in parentheses, and may itself contain anything. */
        const char *s = strrchr(stat, ')');
        if (!s)
                return -EBADMSG;
        for (int field = 2; field < STAT_START_TIME; field++) {
                s = strchr(s, ' ');
                if (!s)
                        return -EBADMSG;
                s++;
        }

        char number[sizeof("18446744073709551615")];
        size_t size = strspn(s, "0123456789");
        if (size == 0 || size >= sizeof(number))
                return -EBADMSG;
        memcpy(number, s, size);
        number[size] = 0;
        return text_parse_u64(number, 0, UINT64_MAX, ret_ticks) < 0 ? -EBADMSG : 0;
}

bool peer_status_has_uid(const char *status, uid_t uid) {
        assert(status);

        const char *line = strstr(status, "\nUid:");
        if (!line)
                return false;
        char *end;
        const char *s = line + strlen("\nUid:");
        for (int i = 0; i < 2; i++, s = end) { /* real, effective */
                s += strspn(s, "\t ");
                if (*s < '0' || *s > '9')
                        return false;
                if (strtoull(s, &end, 10) == uid)
                        return true;
        }
        return false;
}
