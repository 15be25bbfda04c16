/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Anonymous files for another process, which nobody can change any more. */
#pragma once

#include <stddef.h>

/* A file of SIZE BYTES under NAME, for reading only from its start, and by its owner only. Returns the
 * descriptor, or a negative errno. */
int sealed_file_new(const char *name, const void *bytes, size_t size);
