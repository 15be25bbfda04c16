/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "ctl/joined.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/text.h"
#include "core/json/json.h"
#include "ctl/say.h"
#include "io/file.h"

#define PATH      "/etc/daggyr/joined.json"
#define BYTES_MAX (256 * 1024)

static void queue_done(JoinedQueue *queue) {
        free(queue->queue);
        free(queue->id);
        free(queue->url);
        *queue = (JoinedQueue) {};
}

void joined_done(Joined *joined) {
        for (size_t i = 0; i < joined->n_queues; i++)
                queue_done(&joined->queues[i]);
        *joined = (Joined) {};
}

JoinedQueue *joined_find(Joined *joined, const char *queue) {
        for (size_t i = 0; i < joined->n_queues; i++)
                if (streq(joined->queues[i].queue, queue))
                        return &joined->queues[i];
        return NULL;
}

int joined_put(Joined *joined, const char *queue, const char *id, const char *url) {
        JoinedQueue wanted = { .queue = strdup(queue), .id = strdup(id), .url = strdup(url) };
        JoinedQueue *place = joined_find(joined, queue);
        if (!wanted.queue || !wanted.id || !wanted.url || (!place && joined->n_queues == JOINED_MAX)) {
                int r = wanted.queue && wanted.id && wanted.url ? -ENOSPC : -ENOMEM;
                queue_done(&wanted);
                return r;
        }
        if (place)
                queue_done(place);
        else
                place = &joined->queues[joined->n_queues++];
        *place = wanted;
        return 0;
}

void joined_remove(Joined *joined, JoinedQueue *queue) {
        queue_done(queue);
        *queue = joined->queues[--joined->n_queues];
        joined->queues[joined->n_queues] = (JoinedQueue) {};
}

static int read_queues(json_object *queues, Joined *ret) {
        int r = 0;
        for (size_t i = 0; r >= 0 && i < element_count(queues); i++) {
                json_object *queue = element(queues, i);
                r = joined_put(ret,
                               member_text(queue, "queue"),
                               member_text(queue, "id"),
                               member_text(queue, "url"));
        }
        return r;
}

int joined_read(Joined *ret) {
        _cleanup_(text_done) Text text = {};
        _cleanup_(json_putp) json_object *object = NULL;
        Problem problem = {};
        int r = file_read_all(PATH, BYTES_MAX, &text);
        if (r == -ENOENT)
                return 0;
        if (r >= 0)
                r = json_parse(text.data, text.size, &object, &problem);
        if (r >= 0) {
                ret->made_token = member_bool(object, "made_token");
                ret->made_listen = member_bool(object, "made_listen");
                ret->enabled = member_bool(object, "enabled");
                r = read_queues(member(object, "queues"), ret);
        }
        if (r < 0)
                say("cannot read %s: %s", PATH, strerror(-r));
        return r;
}

static int add_queue(json_object *list, const JoinedQueue *queue) {
        json_object *object = json_object_new_object();
        int r = json_append(list, object);
        if (r >= 0)
                r = json_add_string(object, "queue", queue->queue);
        if (r >= 0)
                r = json_add_string(object, "id", queue->id);
        return r < 0 ? r : json_add_string(object, "url", queue->url);
}

static int format(const Joined *joined, char **ret) {
        _cleanup_(json_putp) json_object *object = json_object_new_object();
        json_object *queues = json_object_new_array();
        int r = object ? json_add_bool(object, "made_token", joined->made_token) : -ENOMEM;
        if (r >= 0)
                r = json_add_bool(object, "made_listen", joined->made_listen);
        if (r >= 0)
                r = json_add_bool(object, "enabled", joined->enabled);
        if (r < 0) {
                json_object_put(queues);
                return r;
        }
        r = json_add(object, "queues", queues);
        for (size_t i = 0; r >= 0 && i < joined->n_queues; i++)
                r = add_queue(queues, &joined->queues[i]);
        return r < 0 ? r : json_format(object, ret, NULL);
}

static int store(const Joined *joined) {
        _cleanup_(freep) char *text = NULL;
        if (joined->n_queues == 0 && !joined->made_token && !joined->made_listen && !joined->enabled)
                return unlink(PATH) < 0 && errno != ENOENT ? -errno : 0;
        int r = format(joined, &text);
        return r < 0 ? r : file_replace(PATH, 0644, text, strlen(text));
}

int joined_write(const Joined *joined) {
        int r = store(joined);
        if (r < 0)
                say("cannot write %s: %s", PATH, strerror(-r));
        return r;
}
