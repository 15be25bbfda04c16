/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Amounts as people write and read them on a command line: "2G", "1h 30min", "3.2s". */
#pragma once

#include <stdint.h>

#include "base/usec.h"

#define AMOUNT_TEXT_SIZE 32

/* Reads megabytes (of 1048576 bytes): an integer, or a number with K, M, G or T, also "MB" or "MiB", always
 * of 1024. What is no whole number of megabytes is rounded up. -EINVAL, -ERANGE (0, more than 2^53 bytes). */
int amount_parse_memory_mb(const char *s, uint64_t *ret_mb);

/* Reads a span: a number of seconds, or numbers with us, ms, s, sec, m, min, h, d in a row, with or without
 * spaces ("1h 30min"). -EINVAL, -ERANGE (over SECONDS_MAX). */
int amount_parse_seconds(const char *s, double seconds_max, double *ret_seconds);

/* "512M", "1.5G", "100B": bytes for people, three digits at least. */
void amount_format_bytes(uint64_t bytes, char buffer[static AMOUNT_TEXT_SIZE]);

/* "0ms", "350ms", "3.2s", "1min 5s", "2h 3min", "4d 1h"; "-" for USEC_INFINITY. */
void amount_format_span(usec_t span_usec, char buffer[static AMOUNT_TEXT_SIZE]);

/* Reads "2026-11-21T22:12:00.000001Z" as the daemons write it. -EINVAL for another form. */
int amount_parse_rfc3339(const char *s, usec_t *ret_realtime_usec);
