/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A parser of our own, by recursive descent, that makes json-c's objects. json-c's has two faults that no
 * check before or after it makes good: where memory runs out (0.16), it follows a null pointer or leaves out
 * a member, an element or a string's content; and it accepts much that RFC 8259 does not. */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "core/json/json.h"

typedef struct JsonScan {
        const char *text;
        size_t size;
        size_t at;
        size_t n_containers;
        size_t depth;
        const char *reason; /* why the scan failed at AT */
} JsonScan;

static int scan_refuse(JsonScan *scan, const char *reason) {
        scan->reason = reason;
        return -EINVAL;
}

/* The character at AT, or NUL (which no token holds) at the end. */
static char scan_peek(const JsonScan *scan) {
        if (scan->at >= scan->size)
                return '\0';
        return scan->text[scan->at];
}

/* The same behind white space. */
static char scan_next(JsonScan *scan) {
        while (scan_peek(scan) != '\0' && strchr(" \t\r\n", scan_peek(scan)))
                scan->at++;
        return scan_peek(scan);
}

static int scan_unexpected(JsonScan *scan) {
        return scan_refuse(scan, scan->at < scan->size ? "unexpected character" : "unexpected end");
}

/* Reads "uXXXX" behind a backslash. */
static int scan_unicode_escape(JsonScan *scan, unsigned *ret) {
        unsigned code = 0;

        if (scan_peek(scan) != 'u')
                return scan_refuse(scan, "half of a surrogate pair");
        scan->at++;

        for (int i = 0; i < 4; i++, scan->at++) {
                char c = scan_peek(scan);

                if (c >= '0' && c <= '9')
                        code = code << 4 | (unsigned) (c - '0');
                else if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))
                        code = code << 4 | (unsigned) ((c | 0x20) - 'a' + 10);
                else
                        return scan_refuse(scan, "malformed \\u escape");
        }

        *ret = code;
        return 0;
}

/* AT is behind the backslash. */
static int scan_escape(JsonScan *scan) {
        unsigned code;

        if (scan_peek(scan) != 'u') {
                if (scan_peek(scan) == '\0' || !strchr("\"\\/bfnrt", scan_peek(scan)))
                        return scan_refuse(scan, "unknown escape");
                scan->at++;
                return 0;
        }

        int r = scan_unicode_escape(scan, &code);
        if (r < 0)
                return r;
        if (code == 0)
                return scan_refuse(scan, "NUL in a string");
        if (code < 0xd800 || code > 0xdfff)
                return 0;

        if (code >= 0xdc00 || scan_peek(scan) != '\\')
                return scan_refuse(scan, "half of a surrogate pair");
        scan->at++;
        r = scan_unicode_escape(scan, &code);
        if (r < 0)
                return r;
        if (code < 0xdc00 || code > 0xdfff)
                return scan_refuse(scan, "half of a surrogate pair");
        return 0;
}

/* AT is on the opening quote. */
static int scan_string(JsonScan *scan) {
        int r;

        scan->at++;
        while (scan->at < scan->size) {
                char c = scan->text[scan->at];

                if ((unsigned char) c < 0x20)
                        return scan_refuse(scan, c ? "control character in a string" : "NUL in a string");
                scan->at++;
                if (c == '"')
                        return 0;
                if (c != '\\')
                        continue;
                r = scan_escape(scan);
                if (r < 0)
                        return r;
        }

        return scan_refuse(scan, "string without end");
}

static int scan_digits(JsonScan *scan) {
        size_t start = scan->at;

        while (scan_peek(scan) >= '0' && scan_peek(scan) <= '9')
                scan->at++;
        return scan->at > start ? 0 : scan_refuse(scan, "malformed number");
}

/* AT is on the sign or the first digit. */
static int scan_number(JsonScan *scan) {
        int r;

        if (scan_peek(scan) == '-')
                scan->at++;
        if (scan_peek(scan) == '0')
                scan->at++; /* a digit that follows is refused as a second number in a row */
        else {
                r = scan_digits(scan);
                if (r < 0)
                        return r;
        }

        if (scan_peek(scan) == '.') {
                scan->at++;
                r = scan_digits(scan);
                if (r < 0)
                        return r;
        }

        if (scan_peek(scan) != 'e' && scan_peek(scan) != 'E')
                return 0;
        scan->at++;
        if (scan_peek(scan) == '+' || scan_peek(scan) == '-')
                scan->at++;
        return scan_digits(scan);
}

static size_t hex_digits(const char *text) {
        size_t code = 0;

        for (size_t i = 0; i < 4; i++)
                code = code << 4 | (size_t) (text[i] <= '9' ? text[i] - '0' : (text[i] | 0x20) - 'a' + 10);
        return code;
}

static size_t put_utf8(char *to, size_t code) {
        if (code < 0x80) {
                to[0] = (char) code;
                return 1;
        }
        if (code < 0x800) {
                to[0] = (char) (0xc0 | code >> 6);
                to[1] = (char) (0x80 | (code & 0x3f));
                return 2;
        }
        if (code < 0x10000) {
                to[0] = (char) (0xe0 | code >> 12);
                to[1] = (char) (0x80 | (code >> 6 & 0x3f));
                to[2] = (char) (0x80 | (code & 0x3f));
                return 3;
        }
        to[0] = (char) (0xf0 | code >> 18);
        to[1] = (char) (0x80 | (code >> 12 & 0x3f));
        to[2] = (char) (0x80 | (code >> 6 & 0x3f));
        to[3] = (char) (0x80 | (code & 0x3f));
        return 4;
}

/* FROM is on a backslash of a string that was scanned. Returns where it goes on. */
static const char *decode_escape(const char *from, char *to, size_t *size) {
        static const char names[] = "bfnrt", values[] = "\b\f\n\r\t";
        const char *name;

        if (from[1] != 'u') {
                name = strchr(names, from[1]);
                to[*size] = from[1];
                if (name)
                        to[*size] = values[name - names];
                (*size)++;
                return from + 2;
        }

        size_t code = hex_digits(from + 2);
        from += 6;
        if (code >= 0xd800 && code <= 0xdbff) {
                code = 0x10000 + ((code - 0xd800) << 10) + (hex_digits(from + 2) - 0xdc00);
                from += 6;
        }
        *size += put_utf8(to + *size, code);
        return from;
}

/* AT is on the opening quote. The caller frees *RET, which a NUL ends. */
static int parse_string(JsonScan *scan, char **ret, size_t *ret_size) {
        size_t start = scan->at + 1, size = 0;
        const char *from, *end;

        int r = scan_string(scan);
        if (r < 0)
                return r;
        end = scan->text + scan->at - 1;
        char *decoded = malloc(
                        (size_t) (end - (scan->text + start)) +
                        1); /* escapes are longer than what they mean */
        if (!decoded)
                return -ENOMEM;

        for (from = scan->text + start; from < end;) {
                if (*from == '\\') {
                        from = decode_escape(from, decoded, &size);
                        continue;
                }
                const char *escape = memchr(from, '\\', (size_t) (end - from));
                size_t n = (size_t) ((escape ?: end) - from);
                memcpy(decoded + size, from, n);
                size += n;
                from += n;
        }
        decoded[size] = '\0';
        *ret = decoded;
        *ret_size = size;
        return 0;
}

static int parse_string_value(JsonScan *scan, json_object **ret) {
        _cleanup_(freep) char *decoded = NULL;
        size_t size;

        int r = parse_string(scan, &decoded, &size);
        if (r < 0)
                return r;
        *ret = json_object_new_string_len(decoded, (int) size);
        return *ret ? 0 : -ENOMEM;
}

/* Integers beyond 64 bits become the nearest end of the range, where json_get_u64() refuses them. */
static json_object *new_number(const char *digits) {
        if (strpbrk(digits, ".eE"))
                return json_object_new_double_s(strtod(digits, NULL), digits);
        if (*digits == '-')
                return json_object_new_int64(strtoll(digits, NULL, 10));

        uint64_t value = strtoull(digits, NULL, 10);
        return value <= INT64_MAX ? json_object_new_int64((int64_t) value) : json_object_new_uint64(value);
}

static int parse_number(JsonScan *scan, json_object **ret) {
        _cleanup_(freep) char *digits = NULL;
        size_t start = scan->at;

        int r = scan_number(scan);
        if (r < 0)
                return r;
        size_t size = scan->at - start;
        digits = malloc(size + 1); /* not strndup(): the text need not end with a NUL */
        if (!digits)
                return -ENOMEM;
        memcpy(digits, scan->text + start, size);
        digits[size] = 0;
        *ret = new_number(digits);
        return *ret ? 0 : -ENOMEM;
}

static bool scan_word(JsonScan *scan, const char *word) {
        size_t size = strlen(word);

        if (scan->size - scan->at < size || memcmp(scan->text + scan->at, word, size) != 0)
                return false;
        scan->at += size;
        return true;
}

static int parse_word(JsonScan *scan, json_object **ret) {
        if (scan_word(scan, "null")) {
                *ret = NULL; /* that is what null is in json-c */
                return 0;
        }
        bool is_true = scan_word(scan, "true");
        if (!is_true && !scan_word(scan, "false"))
                return scan_unexpected(scan);
        *ret = json_object_new_boolean(is_true);
        return *ret ? 0 : -ENOMEM;
}

static int parse_value(JsonScan *scan, json_object **ret);

static int parse_element(JsonScan *scan, json_object *array) {
        _cleanup_(json_putp) json_object *value = NULL;

        int r = parse_value(scan, &value);
        if (r < 0)
                return r;
        if (json_object_array_add(array, value) < 0)
                return -ENOMEM;
        value = NULL;
        return 0;
}

static int parse_member(JsonScan *scan, json_object *object) {
        _cleanup_(json_putp) json_object *value = NULL;
        _cleanup_(freep) char *key = NULL;
        size_t start, size;

        if (scan_next(scan) != '"')
                return scan_unexpected(scan);
        start = scan->at;
        int r = parse_string(scan, &key, &size);
        if (r < 0)
                return r;
        if (json_object_object_get_ex(object, key, NULL)) {
                scan->at = start;
                return scan_refuse(scan, "the same key twice in one object");
        }

        if (scan_next(scan) != ':')
                return scan_unexpected(scan);
        scan->at++;
        r = parse_value(scan, &value);
        if (r < 0)
                return r;
        if (json_object_object_add(object, key, value) < 0)
                return -ENOMEM;
        value = NULL;
        return 0;
}

/* AT is behind the opening bracket of CONTAINER, which CLOSE ends. */
static int parse_content(
                JsonScan *scan,
                json_object *container,
                int (*parse_one)(JsonScan *scan, json_object *container),
                char close) {
        int r;

        if (scan_next(scan) == close) {
                scan->at++;
                return 0;
        }
        for (;;) {
                r = parse_one(scan, container);
                if (r < 0)
                        return r;
                char c = scan_next(scan);
                if (c != close && c != ',')
                        return scan_unexpected(scan);
                scan->at++;
                if (c == close)
                        return 0;
        }
}

static int parse_container(JsonScan *scan, json_object **ret) {
        _cleanup_(json_putp) json_object *container = NULL;
        bool is_object = scan_peek(scan) == '{';

        if (scan->depth >= JSON_DEPTH_MAX)
                return scan_refuse(scan, "nested too deeply");
        if (++scan->n_containers > JSON_CONTAINERS_MAX)
                return scan_refuse(scan, "too many objects and arrays");
        container = is_object ? json_object_new_object() : json_object_new_array();
        if (!container)
                return -ENOMEM;

        scan->at++;
        scan->depth++;
        int r = is_object ? parse_content(scan, container, parse_member, '}') :
                            parse_content(scan, container, parse_element, ']');
        scan->depth--;
        if (r < 0)
                return r;
        *ret = TAKE_PTR(container);
        return 0;
}

static int parse_value(JsonScan *scan, json_object **ret) {
        char c = scan_next(scan);

        if (c == '{' || c == '[')
                return parse_container(scan, ret);
        if (c == '"')
                return parse_string_value(scan, ret);
        if (c == '-' || (c >= '0' && c <= '9'))
                return parse_number(scan, ret);
        return parse_word(scan, ret);
}

static int parse_document(JsonScan *scan, json_object **ret) {
        _cleanup_(json_putp) json_object *value = NULL;

        int r = parse_value(scan, &value);
        if (r < 0)
                return r;
        (void) scan_next(scan);
        if (scan->at < scan->size)
                return scan_unexpected(scan);
        *ret = TAKE_PTR(value);
        return 0;
}

/* Says why TEXT is refused, and where for a person with an editor. */
static int refuse_text(Problem *reterr_problem, const char *text, size_t at, const char *reason) {
        size_t line = 1, column = 1;

        for (size_t i = 0; i < at; i++)
                if (text[i] == '\n') {
                        line++;
                        column = 1;
                } else if (((unsigned char) text[i] & 0xc0) != 0x80)
                        column++;

        return problem_set(
                        reterr_problem,
                        400,
                        NULL,
                        "not valid JSON: %s at line %zu, column %zu",
                        reason,
                        line,
                        column);
}

int json_parse(const char *text, size_t size, json_object **ret, Problem *reterr_problem) {
        JsonScan scan = { .text = text, .size = size };

        if (size > INT_MAX)
                return problem_set(reterr_problem, 413, NULL, "JSON text of more than 2 GiB");
        if (!text_is_utf8(text, size))
                return problem_set(reterr_problem, 400, NULL, "not valid JSON: not UTF-8");

        int r = parse_document(&scan, ret);
        if (r == -ENOMEM)
                return problem_from_errno(reterr_problem, r);
        if (r < 0)
                return refuse_text(reterr_problem, text, scan.at, scan.reason);
        return 0;
}
