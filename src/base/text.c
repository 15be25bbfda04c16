/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "base/text.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"

#define TEXT_ALLOCATION_MIN    64
#define UTF8_CONTINUATIONS_MAX 3

static const char replacement_character[] = "\xef\xbf\xbd"; /* U+FFFD */

static bool is_digit(char c) {
        return c >= '0' && c <= '9';
}

bool streq_null(const char *a, const char *b) {
        if (!a || !b)
                return a == b;
        return streq(a, b);
}

const char *text_after(const char *s, const char *prefix) {
        size_t size = strlen(prefix);

        return strncmp(s, prefix, size) == 0 ? s + size : NULL;
}

void text_done(Text *text) {
        free(text->data);
        *text = (Text) {};
}

/* Makes room for SIZE more bytes and the NUL. */
static int text_reserve(Text *text, size_t size) {
        size_t needed, allocation;
        char *data;

        if (__builtin_add_overflow(text->size, size, &needed) || __builtin_add_overflow(needed, 1, &needed))
                return -ENOMEM;
        if (text->data && needed <= text->allocated)
                return 0;

        if (__builtin_mul_overflow(text->allocated, 2, &allocation) || allocation < needed)
                allocation = needed;
        if (allocation < TEXT_ALLOCATION_MIN)
                allocation = TEXT_ALLOCATION_MIN;

        data = realloc(text->data, allocation);
        if (!data)
                return -ENOMEM;

        text->data = data;
        text->allocated = allocation;
        return 0;
}

int text_append_bytes(Text *text, const void *bytes, size_t size) {
        int r = text_reserve(text, size);
        if (r < 0)
                return r;

        if (size > 0)
                memcpy(text->data + text->size, bytes, size);
        text->size += size;
        text->data[text->size] = '\0';
        return 0;
}

int text_append(Text *text, const char *s) {
        return text_append_bytes(text, s, strlen(s));
}

static int text_append_va(Text *text, const char *format, va_list arguments)
                __attribute__((format(printf, 2, 0)));

static int text_append_va(Text *text, const char *format, va_list arguments) {
        va_list again;
        int n, r;

        va_copy(again, arguments);
        n = vsnprintf(NULL, 0, format, again);
        va_end(again);
        if (n < 0)
                return -ENOMEM;

        r = text_reserve(text, (size_t) n);
        if (r < 0)
                return r;

        (void) vsnprintf(text->data + text->size, (size_t) n + 1, format, arguments);
        text->size += (size_t) n;
        return 0;
}

int text_appendf(Text *text, const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        int r = text_append_va(text, format, arguments);
        va_end(arguments);
        return r;
}

int text_vformat(char **ret, const char *format, va_list arguments) {
        char *text;
        if (vasprintf(&text, format, arguments) < 0)
                text = NULL; /* glibc leaves it undefined */
        *ret = text;
        return text ? 0 : -ENOMEM;
}

int text_format(char **ret, const char *format, ...) {
        va_list arguments;
        va_start(arguments, format);
        int r = text_vformat(ret, format, arguments);
        va_end(arguments);
        return r;
}

int text_append_printable(Text *text, const char *s, size_t size, const char *keep) {
        for (size_t i = 0; i < size; i++) {
                unsigned char c = (unsigned char) s[i];
                bool is_c1 = c == 0xc2 && i + 1 < size && ((unsigned char) s[i + 1] & 0xe0) == 0x80;
                bool is_control = c < 0x20 || c == 0x7f;
                bool bad = is_c1 || (is_control && (c == 0 || !strchr(keep, c)));
                int r = bad ? text_append(text, "?") : text_append_bytes(text, &s[i], 1);
                if (r < 0)
                        return r;
                if (is_c1)
                        i++;
        }
        return 0;
}

int text_parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *ret) {
        uint64_t value = 0;
        bool overflow = false;

        if (!*s)
                return -EINVAL;

        for (; *s; s++) {
                if (!is_digit(*s))
                        return -EINVAL;
                overflow = overflow || __builtin_mul_overflow(value, 10, &value) ||
                                __builtin_add_overflow(value, (uint64_t) (*s - '0'), &value);
        }

        if (overflow || value < min || value > max)
                return -ERANGE;

        *ret = value;
        return 0;
}

static const char *skip_digits(const char *s) {
        while (is_digit(*s))
                s++;
        return s;
}

/* Whether all of S is -?digits[.digits][e[+-]digits], with a digit on at least one side of the point:
 * strtod() alone would take white space, "0x1p3", "inf" and "nan" too. */
static bool is_decimal_number(const char *s) {
        const char *start, *end;

        start = s + (*s == '-');
        end = skip_digits(start);
        size_t n_digits = (size_t) (end - start);
        if (*end == '.') {
                start = end + 1;
                end = skip_digits(start);
                n_digits += (size_t) (end - start);
        }
        if (n_digits == 0)
                return false;

        if (*end == 'e' || *end == 'E') {
                start = end + 1;
                start += *start == '+' || *start == '-';
                end = skip_digits(start);
                if (end == start)
                        return false;
        }

        return *end == '\0';
}

int text_parse_double(const char *s, double *ret) {
        if (!is_decimal_number(s))
                return -EINVAL;

        double value = strtod(s, NULL);
        if (!isfinite(value))
                return -EINVAL;

        *ret = value;
        return 0;
}

static int hex_digit(char c) {
        if (is_digit(c))
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -EINVAL;
}

int text_percent_decode(const char *s, size_t size, char **ret) {
        _cleanup_(freep) char *decoded = NULL;
        size_t n = 0;

        decoded = malloc(size + 1);
        if (!decoded)
                return -ENOMEM;

        for (size_t i = 0; i < size; i++) {
                int high, low;

                if (s[i] != '%') {
                        decoded[n++] = s[i];
                        continue;
                }
                if (size - i < 3)
                        return -EINVAL;
                high = hex_digit(s[i + 1]);
                low = hex_digit(s[i + 2]);
                if (high < 0 || low < 0)
                        return -EINVAL;
                decoded[n++] = (char) (high << 4 | low);
                i += 2;
        }

        if (memchr(decoded, '\0', n) || !text_is_utf8(decoded, n))
                return -EILSEQ;

        decoded[n] = '\0';
        *ret = TAKE_PTR(decoded);
        return 0;
}

static bool is_kept_in_percent_encoding(char c, const char *keep) {
        return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || strchr(keep, c);
}

int text_percent_encode(const char *s, const char *keep, char **ret) {
        static const char digits[] = "0123456789ABCDEF";
        _cleanup_(text_done) Text text = {};

        int r = text_reserve(&text, strlen(s));
        if (r < 0)
                return r;
        text.data[0] = '\0';

        for (; *s; s++) {
                unsigned char c = (unsigned char) *s;

                if (is_kept_in_percent_encoding(*s, keep))
                        r = text_append_bytes(&text, s, 1);
                else
                        r = text_append_bytes(&text, (char[]) { '%', digits[c >> 4], digits[c & 15] }, 3);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(text.data);
        return 0;
}

/* How many bytes the sequence beginning with LEAD has, and within what its second byte must be: table 3-7
 * of the Unicode standard. 0 for a byte that begins none. */
static size_t utf8_expected(
                unsigned char lead,
                unsigned char *ret_second_min,
                unsigned char *ret_second_max) {
        *ret_second_min = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
        *ret_second_max = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;

        if (lead < 0x80)
                return 1;
        if (lead >= 0xc2 && lead <= 0xdf)
                return 2;
        if (lead >= 0xe0 && lead <= 0xef)
                return 3;
        if (lead >= 0xf0 && lead <= 0xf4)
                return 4;
        return 0;
}

/* Length of the sequence at S, of at most SIZE > 0 bytes; *ret_valid says whether it is well-formed.
 * If not, the length is that of the maximal ill-formed subpart: what one U+FFFD stands for. */
static size_t utf8_sequence(const unsigned char *s, size_t size, bool *ret_valid) {
        unsigned char min, max;
        size_t expected, n = 1;

        assert(size > 0);

        expected = utf8_expected(s[0], &min, &max);
        while (n < expected && n < size && s[n] >= min && s[n] <= max) {
                min = 0x80;
                max = 0xbf;
                n++;
        }

        *ret_valid = n == expected;
        return n;
}

/* How many bytes at S are ASCII, in steps of eight: most text is nothing else, and may be megabytes. */
static size_t ascii_words(const unsigned char *s, size_t size) {
        size_t n = 0;
        for (uint64_t word; n + sizeof(word) <= size; n += sizeof(word)) {
                memcpy(&word, s + n, sizeof(word));
                if (word & UINT64_C(0x8080808080808080))
                        break;
        }
        return n;
}

bool text_is_utf8(const char *s, size_t size) {
        for (size_t i = 0; i < size;) {
                bool valid;

                i += ascii_words((const unsigned char *) s + i, size - i);
                if (i == size)
                        break;

                i += utf8_sequence((const unsigned char *) s + i, size - i, &valid);
                if (!valid)
                        return false;
        }
        return true;
}

static bool is_continuation(unsigned char c) {
        return (c & 0xc0) == 0x80;
}

size_t text_cut(const char *s, size_t size_max) {
        size_t size = strnlen(s, size_max);

        if (size < size_max)
                return size;

        /* The byte after the cut decides: only a continuation byte belongs to what stands before it. */
        for (size_t back = 0; back < 4 && back <= size; back++)
                if (!is_continuation((unsigned char) s[size - back]))
                        return size - back;
        return size;
}

size_t text_n_characters(const char *s) {
        size_t n = 0;

        for (; *s; s++)
                n += !is_continuation((unsigned char) *s);
        return n;
}

size_t text_cut_off_begin(const void *bytes, size_t size) {
        const unsigned char *s = bytes;
        size_t n = 0;

        while (n < size && n < UTF8_CONTINUATIONS_MAX && is_continuation(s[n]))
                n++;
        return n;
}

size_t text_cut_off_end(const void *bytes, size_t size) {
        const unsigned char *s = bytes;
        size_t n = 1;
        unsigned char min, max;
        bool valid;

        while (n < size && n < UTF8_CONTINUATIONS_MAX && is_continuation(s[size - n]))
                n++;
        if (size == 0 || n >= utf8_expected(s[size - n], &min, &max))
                return size;

        return utf8_sequence(s + size - n, n, &valid) == n ? size - n : size;
}

int text_to_utf8_lossy(const void *bytes, size_t size, char **ret, size_t *ret_size) {
        _cleanup_(text_done) Text text = {};
        const char *s = bytes;
        size_t start = 0, i = 0;
        int r;

        while (i < size) {
                bool valid;
                size_t n = utf8_sequence((const unsigned char *) s + i, size - i, &valid);

                i += n;
                if (valid && s[i - 1] != '\0')
                        continue;

                r = text_append_bytes(&text, s + start, i - n - start);
                if (r < 0)
                        return r;
                r = text_append(&text, replacement_character);
                if (r < 0)
                        return r;
                start = i;
        }

        r = text_append_bytes(&text, s ? s + start : "", i - start);
        if (r < 0)
                return r;

        *ret_size = text.size;
        *ret = TAKE_PTR(text.data);
        return 0;
}

uint64_t text_hash(const char *s) {
        uint64_t hash = UINT64_C(0xcbf29ce484222325);

        for (; *s; s++) {
                hash ^= (unsigned char) *s;
                hash *= UINT64_C(0x100000001b3);
        }
        return hash;
}

char **text_list_free(char **list) {
        if (list)
                for (char **s = list; *s; s++)
                        free(*s);
        free(list);
        return NULL;
}

size_t text_list_count(char *const *list) {
        size_t n = 0;

        if (list)
                while (list[n])
                        n++;
        return n;
}

bool text_list_has(char *const *list, const char *s) {
        for (; list && *list; list++)
                if (streq(*list, s))
                        return true;
        return false;
}

int text_list_append(char ***list, const char *s) {
        size_t n = text_list_count(*list);
        _cleanup_(freep) char *copy = strdup(s);
        char **longer = copy ? reallocarray(*list, n + 2, sizeof(char *)) : NULL;
        if (!longer)
                return -ENOMEM;

        longer[n] = TAKE_PTR(copy);
        longer[n + 1] = NULL;
        *list = longer;
        return 0;
}
