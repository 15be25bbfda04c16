/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Lets the n-th allocation fail that objects of this project ask for, be it of memory or of a json-c
 * object. The linker leads those calls here (--wrap, see meson.build); what happens inside of
 * libraries stays as it is. */
#pragma once

/* Tries the operation under test once: returns what it returned, after freeing what it gave. The
 * callback itself must not allocate by one of the wrapped calls. */
typedef int (*FailAllocTry)(void *userdata);

/* Calls TRY with the first allocation failing, the second, and so on until none is left to fail. Each must
 * return -ENOMEM, the last succeed; at least one must have failed. */
void fail_alloc_loop(FailAllocTry try, void *userdata);

/* Lets the next one fail, in a test of what goes on all the same. */
void fail_alloc_next(void);
