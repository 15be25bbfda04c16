/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which daggyds are this queue, and which of them leads: as far as this one knows. */

#include "core/json/json.h"
#include "queue/queue.h"
#include "queue/routes.h"

static const char *state_of(const Member *member) {
        return !member->alive ? "gone" : member->draining ? "draining" : "alive";
}

static json_object *member_json(const Member *member, bool self) {
        _cleanup_(json_putp) json_object *object = json_object_new_object();
        int r = object ? json_add_string(object, "id", member->id) : -ENOMEM;
        if (r >= 0)
                r = json_add_string(object, "address", member->address);
        if (r >= 0)
                r = json_add_string(object, "version", member->version);
        if (r >= 0)
                r = json_add_string(object, "state", state_of(member));
        if (r >= 0)
                r = json_add_u64(object, "epoch", member->epoch);
        if (r >= 0)
                r = json_add_bool(object, "leading", member->leading);
        if (r >= 0)
                r = json_add_bool(object, "self", self);
        if (r >= 0)
                r = json_add_realtime(object, "expires", member->expires_usec);
        return r < 0 ? NULL : TAKE_PTR(object);
}

/* The only member that there is leads from the beginning, and nothing takes that from it. */
static size_t list_single(const Queue *queue, Member *member) {
        *member = (Member) {
                .id = sqlite_store_queue_id(queue->sqlite),
                .address = queue->address,
                .version = queue_version(queue),
                .draining = queue->daemon.stopping,
                .alive = true,
                .leading = true,
                .epoch = 1,
        };
        return 1;
}

void route_members(void *userdata, HttpRequest *request, const RequestContext *context) {
        const Queue *queue = userdata;
        Member single;
        const Member *members = &single, *self = &single;
        size_t n = queue->members ? members_list(queue->members, &members) : list_single(queue, &single);
        if (queue->members)
                self = members_self(queue->members);
        _cleanup_(json_putp) json_object *list = json_object_new_array();
        for (size_t i = 0; list && i < n; i++)
                if (json_append(list, member_json(&members[i], streq(members[i].id, self->id))) < 0) {
                        http_request_answer_json(request, 200, NULL);
                        return;
                }
        http_request_answer_json(request, 200, TAKE_PTR(list));
}
