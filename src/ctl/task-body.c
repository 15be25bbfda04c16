/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "ctl/task-body.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <systemd/sd-id128.h>
#include <unistd.h>

#include "base/text.h"
#include "core/json/json.h"
#include "core/task/task-spec.h"
#include "core/task/trace-context.h"
#include "core/text/amount-text.h"
#include "core/text/base64.h"
#include "ctl/say.h"
#include "io/file.h"

#define FILE_BYTES_MAX (64 * 1024 * 1024)
#define SILENCE_MSEC   2000
#define SPAN_SEC_MAX   1e9

/* Where a value goes: the member KEY of the object at PARENT, or of the body itself. */
typedef struct BodyField {
        OptionId id;
        int (*add)(json_object *object, const char *key, const char *value);
        const char *parent;
        const char *key; /* NULL: the value is KEY=VALUE */
} BodyField;

static int add_number(json_object *object, const char *key, const char *value) {
        double number;
        int r = text_parse_double(value, &number);
        return r < 0 ? r : json_add_double(object, key, number);
}

static int add_integer(json_object *object, const char *key, const char *value) {
        uint64_t number;
        bool is_negative = *value == '-';
        int r = text_parse_u64(value + is_negative, 0, INT64_MAX, &number);
        if (r < 0)
                return r;
        return json_add_i64(object, key, is_negative ? -(int64_t) number : (int64_t) number);
}

static int add_memory(json_object *object, const char *key, const char *value) {
        uint64_t mb;
        int r = amount_parse_memory_mb(value, &mb);
        return r < 0 ? r : json_add_u64(object, key, mb);
}

static int add_span(json_object *object, const char *key, const char *value) {
        double seconds;
        int r = amount_parse_seconds(value, SPAN_SEC_MAX, &seconds);
        return r < 0 ? r : json_add_double(object, key, seconds);
}

static int add_text(json_object *object, const char *key, const char *value) {
        return text_is_utf8(value, strlen(value)) ? json_add_string(object, key, value) : -EILSEQ;
}

/* Properties that the API wants as a list or an object are given as JSON; the rest as systemd writes them, of
 * which only weights are numbers: "0" is a set of CPUs, and amounts are understood in either form. */
static int add_property(json_object *object, const char *key, const char *value) {
        json_object *json = NULL;
        Problem problem = {};
        if (*value == '[' || *value == '{') {
                int r = json_parse(value, strlen(value), &json, &problem);
                return r < 0 ? r : json_add(object, key, json);
        }
        if (text_after(key, "IPAddress")) {
                json = json_object_new_array();
                int r = json ? json_append(json, json_object_new_string(value)) : -ENOMEM;
                if (r < 0) {
                        json_object_put(json);
                        return r;
                }
                return json_add(object, key, json);
        }
        bool is_number = streq(key, "CPUWeight") || streq(key, "IOWeight");
        return is_number ? add_integer(object, key, value) : add_text(object, key, value);
}

/* "-" is standard input as it was handed to us, from where it stands. To open it by its name would begin a
 * file anew, and fail with sockets and with pipes of other accounts. */
static int read_input(const char *path, Text *ret) {
        return streq(path, "-") ? file_read_rest(STDIN_FILENO, FILE_BYTES_MAX, ret) :
                                  file_read_all(path, FILE_BYTES_MAX, ret);
}

/* As text where it is text: that is shorter, and read more easily where requests are logged. */
static int add_input(json_object *object, const Text *bytes) {
        _cleanup_(text_done) Text encoded = {};
        if (bytes->size == 0)
                return json_add_string(object, "stdin", "");
        if (text_is_utf8(bytes->data, bytes->size) && !memchr(bytes->data, 0, bytes->size))
                return json_add_string(object, "stdin", bytes->data);
        int r = base64_encode(bytes->data, bytes->size, &encoded);
        return r < 0 ? r : json_add_string(object, "stdin_base64", encoded.data);
}

static int add_stdin(json_object *object, const char *key, const char *path) {
        _cleanup_(text_done) Text bytes = {};
        int r = read_input(path, &bytes);
        if (r < 0)
                return r;
        json_object_object_del(object, "stdin"); /* of an earlier --stdin */
        json_object_object_del(object, "stdin_base64");
        return add_input(object, &bytes);
}

/* Not of a terminal, which waits for somebody to type, nor of /dev/null. */
static bool is_piped(int fd) {
        struct stat st;
        return fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) || S_ISREG(st.st_mode));
}

/* A pipe that nobody writes to and nobody closes, as some programs leave their children, looks like a hang.
 */
static void say_what_is_waited_for(int fd) {
        struct pollfd ready = { .fd = fd, .events = POLLIN };
        if (poll(&ready, 1, SILENCE_MSEC) == 0)
                say("reading the task's input from stdin up to its end (-n: none)");
}

int task_body_add_piped_input(const Options *options, json_object *body) {
        _cleanup_(text_done) Text bytes = {};
        if (options_has(options, OPTION_STDIN) || options_has(options, OPTION_NO_STDIN) ||
            !is_piped(STDIN_FILENO))
                return 0;
        say_what_is_waited_for(STDIN_FILENO);
        int r = file_read_rest(STDIN_FILENO, FILE_BYTES_MAX, &bytes);
        if (r >= 0 && bytes.size > 0)
                r = add_input(body, &bytes);
        if (r < 0)
                say("cannot read the task's input from stdin: %s", strerror(-r));
        return r;
}

/* A list, of as many as there are options. */
static int add_element(json_object *parent, const char *key, const char *value) {
        json_object *list = member(parent, key);
        if (!list) {
                list = json_object_new_array();
                int r = json_add(parent, key, list);
                if (r < 0)
                        return r;
        }
        if (!text_is_utf8(value, strlen(value)))
                return -EILSEQ;
        return json_append(list, json_object_new_string(value));
}

static const BodyField resource_fields[] = {
        { OPTION_CORES, add_number, NULL, "cores" },
        { OPTION_MEMORY, add_memory, NULL, "memory_mb" },
        { OPTION_RESOURCE, add_integer, NULL, NULL },
        {},
};

static const BodyField body_fields[] = {
        { OPTION_CORES, add_number, "resources", "cores" },
        { OPTION_MEMORY, add_memory, "resources", "memory_mb" },
        { OPTION_RESOURCE, add_integer, "resources", NULL },
        { OPTION_TIMEOUT, add_span, NULL, "timeout" },
        { OPTION_GRACE, add_span, NULL, "grace" },
        { OPTION_ENV, add_text, "environment", NULL },
        { OPTION_DIRECTORY, add_text, NULL, "working_directory" },
        { OPTION_USER, add_text, NULL, "user" },
        { OPTION_UMASK, add_text, NULL, "umask" },
        { OPTION_STDIN, add_stdin, NULL, "stdin" },
        { OPTION_TASKS_MAX, add_integer, NULL, "tasks_max" },
        { OPTION_PROPERTY, add_property, "properties", NULL },
        { OPTION_LABEL, add_text, "labels", NULL },
        { OPTION_WHEN_FULL, add_text, NULL, "when_full" },
        { OPTION_RETRY, add_integer, "retry", "max" },
        { OPTION_BACKOFF, add_span, "retry", "backoff" },
        { OPTION_PRIORITY, add_integer, NULL, "priority" },
        { OPTION_AFTER, add_element, NULL, "after" },
        {},
};

static int find_parent(json_object *body, const char *name, json_object **ret) {
        *ret = name ? member(body, name) : body;
        if (*ret)
                return 0;
        *ret = json_object_new_object();
        return json_add(body, name, *ret);
}

static int say_bad_value(const BodyField *field, const char *value, int r) {
        if (r == -ERANGE)
                say("%s: %s is out of range", option_name(field->id), value);
        else if (r == -EILSEQ)
                say("%s: not text in UTF-8", option_name(field->id));
        else if (r == -EINVAL)
                say("%s: cannot make sense of \"%s\"", option_name(field->id), value);
        else
                say("%s %s: %s", option_name(field->id), value, strerror(-r));
        return r;
}

/* The last one wins, also in objects: json-c replaces. */
static int add_field(json_object *body, const BodyField *field, const char *value) {
        _cleanup_(freep) char *own_key = NULL;
        const char *key = field->key, *rest = value;
        json_object *parent;
        if (!key) {
                const char *equals = strchr(value, '=');
                if (!equals) {
                        say("%s: \"%s\" is not NAME=VALUE", option_name(field->id), value);
                        return -EINVAL;
                }
                own_key = strndup(value, (size_t) (equals - value));
                key = own_key;
                rest = equals + 1;
        }
        int r = key ? find_parent(body, field->parent, &parent) : -ENOMEM;
        if (r >= 0)
                r = field->add(parent, key, rest);
        return r < 0 ? say_bad_value(field, rest, r) : 0;
}

static int add_fields(const Options *options, const BodyField *fields, json_object *body) {
        for (unsigned i = 0; i < options->n; i++)
                for (const BodyField *field = fields; field->add; field++)
                        if (field->id == options->list[i].id) {
                                int r = add_field(body, field, options->list[i].value);
                                if (r < 0)
                                        return r;
                        }
        return 0;
}

int task_body_add_resources(const Options *options, json_object *object) {
        return add_fields(options, resource_fields, object);
}

int task_body_from_options(const Options *options, char *const *command, json_object **ret) {
        _cleanup_(json_putp) json_object *body = json_object_new_object();
        for (char *const *argument = command; *argument; argument++)
                if (!text_is_utf8(*argument, strlen(*argument))) {
                        say("the command is not text in UTF-8");
                        return -EINVAL;
                }
        int r = body ? json_add_strings(body, "command", command) : -ENOMEM;
        if (r < 0) {
                say("%s", strerror(-r));
                return r;
        }
        r = add_fields(options, body_fields, body);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(body);
        return 0;
}

int task_body_from_file(const char *path, json_object **ret) {
        _cleanup_(text_done) Text text = {};
        Problem problem = {};
        int r = read_input(path, &text);
        if (r < 0) {
                say("cannot read %s: %s", path, strerror(-r));
                return r;
        }
        r = json_parse(text.data, text.size, ret, &problem);
        if (r < 0)
                say("%s: %s", path, problem.detail);
        return r;
}

int task_body_add_trace(json_object *body) {
        int r = trace_context_add(
                        body,
                        TASK_ENVIRONMENT_MAX,
                        getenv(TRACE_PARENT_VARIABLE),
                        getenv(TRACE_STATE_VARIABLE));
        if (r < 0)
                say("%s", strerror(-r));
        return r;
}

void task_id_choose(char buffer[static TASK_ID_SIZE]) {
        sd_id128_t id = {};
        /* Fails only where there is no getrandom(2); the queue and the runner then refuse a second task. */
        (void) sd_id128_randomize(&id);
        (void) snprintf(buffer, TASK_ID_SIZE, "%016" PRIx64, id.qwords[0]);
}
