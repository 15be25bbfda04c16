/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Strings: a growing buffer, strict number parsing, percent-encoding and UTF-8. Bytes in, bytes out;
 * nothing here knows what the text is about. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/cleanup.h"

static inline bool streq(const char *a, const char *b) {
        return strcmp(a, b) == 0;
}

/* Like streq() for strings that may be NULL: NULL equals NULL only. */
bool streq_null(const char *a, const char *b);

/* Whether S begins with PREFIX; returns what follows it, or NULL. */
const char *text_after(const char *s, const char *prefix);

/* A growing byte string, always NUL-terminated once something was appended. Zero-initialise it,
 * text_done() it. DATA may be taken with TAKE_PTR(); the rest then counts as done. */
typedef struct Text {
        char *data;
        size_t size;
        size_t allocated;
} Text;

void text_done(Text *text);

/* All return 0 or -ENOMEM and leave TEXT unchanged on failure. */
int text_append_bytes(Text *text, const void *bytes, size_t size);
int text_append(Text *text, const char *s);
int text_appendf(Text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Appends the SIZE bytes at S, which are UTF-8, with control characters, C1 as well, replaced by "?", but for
 * those in KEEP ("\n\t"). What was appended before a failure stays. */
int text_append_printable(Text *text, const char *s, size_t size, const char *keep);

/* Formats as printf() does into a new string, which the caller frees. What *ret was before is not looked at;
 * on failure (-ENOMEM) it is NULL. */
int text_format(char **ret, const char *format, ...) __attribute__((format(printf, 2, 3)));
int text_vformat(char **ret, const char *format, va_list arguments) __attribute__((format(printf, 2, 0)));

/* Parses all of S as a decimal number without sign, space or leading "+". -EINVAL when it is
 * anything else, -ERANGE when it is not within MIN…MAX. */
int text_parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *ret);

/* Parses all of S as a finite decimal number, in the C locale's form, exponent allowed.
 * -EINVAL for anything else. */
int text_parse_double(const char *s, double *ret);

/* Undoes percent-encoding in the SIZE bytes at S. -EINVAL for a malformed escape, -EILSEQ when
 * the outcome would hold a NUL or not be UTF-8, -ENOMEM. The caller frees *ret. */
int text_percent_decode(const char *s, size_t size, char **ret);

/* Percent-encodes every byte of S that is not an ASCII letter or digit and not in KEEP, with
 * upper-case digits. -ENOMEM. The caller frees *ret. */
int text_percent_encode(const char *s, const char *keep, char **ret);

/* Whether the SIZE bytes at S are well-formed UTF-8 (no surrogates, nothing above U+10FFFF). */
bool text_is_utf8(const char *s, size_t size);

/* How many characters S has, which is UTF-8. */
size_t text_n_characters(const char *s);

/* Copies SIZE bytes with every maximal ill-formed sequence and every NUL replaced by U+FFFD, as
 * Unicode recommends (section 3.9, "U+FFFD Substitution of Maximal Subparts"). *ret is
 * NUL-terminated and freed by the caller. -ENOMEM. */
int text_to_utf8_lossy(const void *bytes, size_t size, char **ret, size_t *ret_size);

/* The length of S when at most SIZE_MAX of its bytes are to be kept and no UTF-8 sequence is to be split. */
size_t text_cut(const char *s, size_t size_max);

/* For SIZE bytes out of the middle of a longer text: how many at their beginning belong to a character that
 * was cut off, and how many are left when such a one at their end is left out. Both leave alone what is no
 * UTF-8 wherever it is cut, but for at most three bytes. */
size_t text_cut_off_begin(const void *bytes, size_t size);
size_t text_cut_off_end(const void *bytes, size_t size);

/* FNV-1a, 64 bits: for names, not for secrets. The same on every machine and in every version, as queues
 * compare what comes of it. */
uint64_t text_hash(const char *s);

/* A NULL-terminated array of strings, as argv is. text_list_free() takes NULL and returns NULL. */
char **text_list_free(char **list);
DEFINE_POINTER_CLEANUP(char *, text_list_free)
size_t text_list_count(char *const *list);

/* Whether S is in LIST, which may be NULL. */
bool text_list_has(char *const *list, const char *s);

/* Appends a copy of S to *LIST, which may be NULL. Takes as long as the list is. -ENOMEM. */
int text_list_append(char ***list, const char *s);
