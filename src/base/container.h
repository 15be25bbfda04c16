/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* From a part to the whole. */
#pragma once

#include <stddef.h>

/* The TYPE in which POINTER points to MEMBER. */
/* clang-format off */
#define container_of(pointer, type, member) ((type *) ((char *) (pointer) - offsetof(type, member)))
/* clang-format on */
