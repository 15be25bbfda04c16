/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* For tests that measure. */
#pragma once

#include <stddef.h>
#include <time.h>

#if __has_include(<valgrind/valgrind.h>)
        #include <valgrind/valgrind.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
        #define FIGURES_SANITIZED 1
#elif defined(__has_feature)
        #if __has_feature(address_sanitizer)
                #define FIGURES_SANITIZED 1
        #endif
#endif

/* N, or less of it where everything takes longer. */
static inline size_t figures_scale(size_t n) {
#ifdef RUNNING_ON_VALGRIND
        if (RUNNING_ON_VALGRIND)
                return n / 50;
#endif
#ifdef FIGURES_SANITIZED
        return n / 10;
#else
        return n;
#endif
}

/* CPU time of this process. */
static inline double figures_seconds(void) {
        struct timespec time;
        (void) clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
        return (double) time.tv_sec + (double) time.tv_nsec / 1e9;
}
