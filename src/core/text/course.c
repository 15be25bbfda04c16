/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/text/course.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/text.h"

static CoursePoint *point_at(Course *course, size_t n) {
        return &course->points[(course->first + n) % COURSE_MAX];
}

static void drop_first(Course *course) {
        CoursePoint *point = point_at(course, 0);
        free(point->text);
        *point = (CoursePoint) {};
        course->first = (course->first + 1) % COURSE_MAX;
        course->n--;
}

void course_done(Course *course) {
        assert(course);
        while (course->n > 0)
                drop_first(course);
}

/* The last point when it is of the same step, or else a new one. */
static CoursePoint *point_for(Course *course, usec_t now_usec) {
        CoursePoint *last = course->n > 0 ? point_at(course, course->n - 1) : NULL;
        if (last && last->time_usec / COURSE_STEP_USEC == now_usec / COURSE_STEP_USEC)
                return last;
        (void) course_count(course, now_usec);
        if (course->n == COURSE_MAX)
                drop_first(course);
        return point_at(course, course->n++);
}

int course_note(Course *course, const char *text, usec_t now_usec) {
        assert(course);
        assert(text);
        if (course->n > 0 && streq(point_at(course, course->n - 1)->text, text))
                return 0;
        char *copy = strdup(text);
        if (!copy)
                return -ENOMEM;
        CoursePoint *point = point_for(course, now_usec);
        free(point->text);
        *point = (CoursePoint) { .time_usec = now_usec, .text = copy };
        return 0;
}

size_t course_count(Course *course, usec_t now_usec) {
        assert(course);
        usec_t begin_usec = usec_subtract(now_usec, COURSE_SPAN_USEC);
        while (course->n > 1 && point_at(course, 1)->time_usec <= begin_usec)
                drop_first(course);
        return course->n;
}

const CoursePoint *course_get(const Course *course, size_t n) {
        assert(course);
        assert(n < course->n);
        return &course->points[(course->first + n) % COURSE_MAX];
}
