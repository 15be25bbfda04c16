/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Scope-bound ownership: a local that owns something says so where it is declared, and hands it over
 * with TAKE_PTR()/TAKE_FD(). Nothing else in the project hides control flow in macros. */
#pragma once

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(function) __attribute__((cleanup(function)))

/* Defines NAMEp() for use with _cleanup_(): it calls FUNCTION on the pointer that the local holds. */
#define DEFINE_POINTER_CLEANUP(type, function)           \
        static inline void function##p(type **pointer) { \
                if (*pointer)                            \
                        function(*pointer);              \
        }

#define TAKE_PTR(pointer)                               \
        ({                                              \
                __typeof__(pointer) _taken = (pointer); \
                (pointer) = NULL;                       \
                _taken;                                 \
        })

#define TAKE_FD(fd)                \
        ({                         \
                int _taken = (fd); \
                (fd) = -EBADF;     \
                _taken;            \
        })

static inline void freep(void *pointer) {
        free(*(void **) pointer);
}

/* Closes what FD holds, if anything, and says so: fields that hold a descriptor start as -EBADF. */
static inline void fd_close(int *fd) {
        if (*fd >= 0)
                (void) close(*fd);
        *fd = -EBADF;
}
