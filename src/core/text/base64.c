/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/text/base64.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* -1: none of the alphabet. */
static int value_of(char c) {
        return c >= 'A' && c <= 'Z'          ? c - 'A' :
                        c >= 'a' && c <= 'z' ? c - 'a' + 26 :
                        c >= '0' && c <= '9' ? c - '0' + 52 :
                        c == '+'             ? 62 :
                        c == '/'             ? 63 :
                                               -1;
}

/* Three bytes of four characters, of which the last N_PADDING stand for none. */
static int decode_group(const char s[static 4], size_t n_padding, unsigned char bytes[static 3]) {
        uint32_t bits = 0;
        for (size_t i = 0; i < 4; i++) {
                int value = i < 4 - n_padding ? value_of(s[i]) : 0;
                if (value < 0)
                        return -EINVAL;
                bits = bits << 6 | (uint32_t) value;
        }
        for (size_t i = 0; i < 3; i++)
                bytes[i] = (unsigned char) (bits >> (16 - 8 * i));
        for (size_t i = 3 - n_padding; i < 3; i++)
                if (bytes[i] != 0)
                        return -EINVAL;
        return 0;
}

int base64_decode(const char *s, size_t size, Text *text) {
        if (size % 4 != 0)
                return -EINVAL;
        if (size == 0)
                return 0;
        _cleanup_(freep) unsigned char *bytes = malloc(size / 4 * 3);
        if (!bytes)
                return -ENOMEM;
        size_t n_padding = s[size - 1] != '=' ? 0 : s[size - 2] != '=' ? 1 : 2;
        for (size_t i = 0; i < size / 4; i++) {
                int r = decode_group(&s[4 * i], i == size / 4 - 1 ? n_padding : 0, &bytes[3 * i]);
                if (r < 0)
                        return r;
        }
        return text_append_bytes(text, bytes, size / 4 * 3 - n_padding);
}

/* N bytes, of which there are one to three. */
static void encode_group(const unsigned char *bytes, size_t n, char s[static 4]) {
        uint32_t bits = 0;
        for (size_t i = 0; i < 3; i++)
                bits = bits << 8 | (i < n ? bytes[i] : 0);
        memset(s, '=', 4);
        for (size_t i = 0; i <= n; i++)
                s[i] = alphabet[bits >> (18 - 6 * i) & 63];
}

int base64_encode(const void *bytes, size_t size, Text *text) {
        const unsigned char *from = bytes;
        size_t n_groups = (size + 2) / 3;
        if (n_groups == 0)
                return 0;
        _cleanup_(freep) char *s = malloc(4 * n_groups);
        if (!s)
                return -ENOMEM;
        for (size_t i = 0; i < n_groups; i++) {
                size_t left = size - 3 * i;
                encode_group(&from[3 * i], left < 3 ? left : 3, &s[4 * i]);
        }
        return text_append_bytes(text, s, 4 * n_groups);
}
