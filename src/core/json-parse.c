/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Reading goes in three steps. A scan of the text checks every token (strings, numbers, words) and all
 * limits, and counts the object members. json-c then checks the order of the tokens and builds the tree.
 * Last, a tree with fewer members than the text had tells of a duplicate key, of which json-c keeps the
 * last. */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "core/json.h"

DEFINE_POINTER_CLEANUP(json_tokener, json_tokener_free)

typedef struct JsonScan {
        const char *text;
        size_t size;
        size_t at;
        size_t n_members; /* colons outside of strings */
        size_t n_containers;
        size_t depth;
        bool after_scalar;  /* a string, number or word came last, so none may follow now */
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
        int r;

        if (scan_peek(scan) != 'u') {
                if (scan_peek(scan) == '\0' || !strchr("\"\\/bfnrt", scan_peek(scan)))
                        return scan_refuse(scan, "unknown escape");
                scan->at++;
                return 0;
        }

        r = scan_unicode_escape(scan, &code);
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

static int scan_word(JsonScan *scan) {
        static const char *const words[] = { "true", "false", "null" };

        for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
                size_t size = strlen(words[i]);

                if (scan->size - scan->at >= size && memcmp(scan->text + scan->at, words[i], size) == 0) {
                        scan->at += size;
                        return 0;
                }
        }

        return scan_refuse(scan, "unexpected character");
}

static int scan_scalar(JsonScan *scan) {
        char c = scan_peek(scan);

        if (scan->after_scalar)
                return scan_refuse(scan, "unexpected character");
        scan->after_scalar = true;

        if (c == '"')
                return scan_string(scan);
        if (c == '-' || (c >= '0' && c <= '9'))
                return scan_number(scan);
        return scan_word(scan);
}

static int scan_open(JsonScan *scan) {
        if (++scan->depth > JSON_DEPTH_MAX)
                return scan_refuse(scan, "nested too deeply");
        if (++scan->n_containers > JSON_CONTAINERS_MAX)
                return scan_refuse(scan, "too many objects and arrays");
        return 0;
}

static int scan_close(JsonScan *scan) {
        if (scan->depth == 0)
                return scan_refuse(scan, "unexpected character");
        scan->depth--;
        return 0;
}

static int scan_token(JsonScan *scan) {
        int r = 0;

        switch (scan_peek(scan)) {
        case ' ':
        case '\t':
        case '\n':
        case '\r':
                scan->at++;
                return 0;
        case '{':
        case '[':
                r = scan_open(scan);
                break;
        case '}':
        case ']':
                r = scan_close(scan);
                break;
        case ':':
                scan->n_members++;
                break;
        case ',':
                break;
        default:
                return scan_scalar(scan);
        }

        scan->after_scalar = false;
        scan->at += r >= 0;
        return r;
}

static int scan_text(JsonScan *scan) {
        int r;

        while (scan->at < scan->size) {
                r = scan_token(scan);
                if (r < 0)
                        return r;
        }
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

static int build_tree(const char *text, size_t size, json_object **ret, Problem *reterr_problem) {
        _cleanup_(json_tokener_freep) json_tokener *tokener = NULL;
        json_object *object;
        enum json_tokener_error error;
        size_t end;

        /* json-c counts scalars as a level of their own. */
        tokener = json_tokener_new_ex(JSON_DEPTH_MAX + 1);
        if (!tokener)
                return problem_from_errno(reterr_problem, -ENOMEM);
        json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);

        object = json_tokener_parse_ex(tokener, text, (int) size);
        error = json_tokener_get_error(tokener);
        end = json_tokener_get_parse_end(tokener);
        if (error == json_tokener_continue) {
                /* A NUL says that nothing follows: only then is a number at the end complete. */
                object = json_tokener_parse_ex(tokener, "", 1);
                error = json_tokener_get_error(tokener);
                end = size;
        }
        if (error == json_tokener_success) {
                *ret = object;
                return 0;
        }

        if (error == json_tokener_continue || error == json_tokener_error_parse_eof)
                return refuse_text(reterr_problem, text, size, "unexpected end");
        return refuse_text(reterr_problem, text, end < size ? end : size, json_tokener_error_desc(error));
}

/* Nesting is no deeper than JSON_DEPTH_MAX here. */
static size_t count_members(json_object *value) {
        size_t n = 0;

        if (json_object_is_type(value, json_type_object)) {
                json_object_object_foreach(value, key, member) {
                        (void) key;
                        n += 1 + count_members(member);
                }
        } else if (json_object_is_type(value, json_type_array))
                for (size_t i = 0; i < json_object_array_length(value); i++)
                        n += count_members(json_object_array_get_idx(value, i));

        return n;
}

int json_parse(const char *text, size_t size, json_object **ret, Problem *reterr_problem) {
        _cleanup_(json_putp) json_object *object = NULL;
        JsonScan scan = { .text = text, .size = size };
        int r;

        if (size > INT_MAX)
                return problem_set(reterr_problem, 413, NULL, "JSON text of more than 2 GiB");
        if (!text_is_utf8(text, size))
                return problem_set(reterr_problem, 400, NULL, "not valid JSON: not UTF-8");

        r = scan_text(&scan);
        if (r < 0)
                return refuse_text(reterr_problem, text, scan.at, scan.reason);
        r = build_tree(text, size, &object, reterr_problem);
        if (r < 0)
                return r;
        if (count_members(object) != scan.n_members)
                return problem_set(
                                reterr_problem,
                                400,
                                NULL,
                                "not valid JSON: the same key twice in one object");

        *ret = TAKE_PTR(object);
        return 0;
}
