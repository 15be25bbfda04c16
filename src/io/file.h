/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Small files, whole. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "base/text.h"

/* Appends all of the file at PATH. -EFBIG when it is larger than SIZE_MAX_BYTES, -EISDIR and so on. */
int file_read_all(const char *path, size_t size_max_bytes, Text *ret);

/* The same of what is left to read at FD, which stays the caller's. */
int file_read_rest(int fd, size_t size_max_bytes, Text *ret);

/* Makes the file at PATH, or replaces it, with MODE: a reader sees all of CONTENT or what was there before,
 * and so does who comes after a crash. Negative errno. */
int file_replace(const char *path, mode_t mode, const char *content, size_t size);

/* Has the name of the file at PATH outlive a crash, be it new, another or gone. Negative errno. */
int file_sync_folder_of(const char *path);
