/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Bytes as text that JSON can hold (RFC 4648, section 4). */
#pragma once

#include <stddef.h>

#include "base/text.h"

/* Reads all of the SIZE characters at S, with padding and without line breaks, and appends the bytes to TEXT.
 * -EINVAL for anything else, bits that are not zero before the padding among it; -ENOMEM. TEXT is unchanged
 * on failure. */
int base64_decode(const char *s, size_t size, Text *text);

/* Appends the SIZE bytes at BYTES, encoded, to TEXT. -ENOMEM: TEXT is unchanged. */
int base64_encode(const void *bytes, size_t size, Text *text);
