/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "service/capacity-history.h"

#include <errno.h>

#include "base/text.h"
#include "core/json/json.h"

/* What a capacity has besides is of no interest afterwards. */
static const char *const kept[] = { "total", "free", "tasks" };

static int format_point(json_object *capacity, char **ret) {
        _cleanup_(json_putp) json_object *point = json_object_new_object();
        if (!point || !capacity)
                return -ENOMEM;
        for (size_t i = 0; i < sizeof(kept) / sizeof(*kept); i++) {
                json_object *value = NULL;
                if (json_object_object_get_ex(capacity, kept[i], &value) &&
                    json_add(point, kept[i], json_object_get(value)) < 0)
                        return -ENOMEM;
        }
        return json_format(point, ret, NULL);
}

int capacity_history_note(Course *course, json_object *capacity) {
        _cleanup_(json_putp) json_object *owned = capacity;
        _cleanup_(freep) char *text = NULL;
        int r = format_point(owned, &text);
        return r < 0 ? r : course_note(course, text, usec_now(CLOCK_BOOTTIME));
}

/* {"time":"…","total":… : the point is an object that begins with a brace. */
static int append_point(Text *text, const CoursePoint *point, const Moment *now) {
        char time[USEC_RFC3339_SIZE];
        usec_t ago_usec = usec_subtract(now->boottime_usec, point->time_usec);
        usec_format_rfc3339(usec_subtract(now->realtime_usec, ago_usec), time);
        return text_appendf(text, "%s{\"time\":\"%s\",%s", text->size > 1 ? "," : "", time, point->text + 1);
}

void capacity_history_answer(Course *course, HttpRequest *request) {
        const Moment now = { usec_now(CLOCK_BOOTTIME), usec_now(CLOCK_REALTIME) };
        _cleanup_(text_done) Text text = {};
        int r = text_append(&text, "[");
        size_t n = course_count(course, now.boottime_usec);
        for (size_t i = 0; r >= 0 && i < n; i++)
                r = append_point(&text, course_get(course, i), &now);
        if (r >= 0)
                r = text_append(&text, "]");
        if (r < 0)
                http_request_answer_json(request, 200, NULL);
        else
                http_request_answer_text(request, 200, "application/json", &text);
}
