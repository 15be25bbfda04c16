/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What something was like over the last hour: the texts that described it, of which those of one short step
 * come down to the last. It is told when something changes, so nobody has to look at intervals. */
#pragma once

#include <stddef.h>

#include "base/usec.h"

#define COURSE_STEP_USEC (10 * USEC_PER_SEC)
#define COURSE_SPAN_USEC (3600 * USEC_PER_SEC)
#define COURSE_MAX       362 /* the steps of that time, one cut at each end, and what was before */

typedef struct CoursePoint {
        usec_t time_usec;
        char *text;
} CoursePoint;

/* All zeros to begin with; course_done() it. */
typedef struct Course {
        CoursePoint points[COURSE_MAX]; /* a ring */
        size_t first, n;
} Course;

void course_done(Course *course);

/* It is like TEXT from NOW_USEC on, which is not before that of the call before. -ENOMEM: it is left out. */
int course_note(Course *course, const char *text, usec_t now_usec);

/* How many points are left at NOW_USEC: those of the span, and the last one before it, which tells how it was
 * when it began. */
size_t course_count(Course *course, usec_t now_usec);

/* The Nth of them, the oldest being the first. */
const CoursePoint *course_get(const Course *course, size_t n);
