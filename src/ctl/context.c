/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "ctl/context.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/text.h"
#include "core/json/json.h"
#include "ctl/say.h"
#include "io/file.h"

#define FILE_BYTES_MAX (1024 * 1024)
#define NAME_MAX_SIZE  64
#define ALNUM          "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

/* What a context has, and which option says the same. */
static const struct {
        const char *key;
        OptionId id;
        bool is_file;
} fields[] = {
        { "host", OPTION_HOST, false },    { "token_file", OPTION_TOKEN_FILE, true },
        { "cacert", OPTION_CACERT, true }, { "cert", OPTION_CERT, true },
        { "key", OPTION_KEY, true },
};
#define N_FIELDS (sizeof(fields) / sizeof(*fields))

static int find_folder(char **ret) {
        const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
        if (config && *config == '/')
                return text_format(ret, "%s/daggyr", config);
        return home && *home == '/' ? text_format(ret, "%s/.config/daggyr", home) : -ENOENT;
}

static int find_file(char **ret) {
        _cleanup_(freep) char *folder = NULL;
        int r = find_folder(&folder);
        return r < 0 ? r : text_format(ret, "%s/ctl.json", folder);
}

/* Nor is it ours where we may not look: HOME is still another's after a change of user. */
static bool is_not_there(int r) {
        return r == -ENOENT || r == -ENOTDIR || r == -EACCES;
}

int contexts_read(json_object **ret) {
        _cleanup_(freep) char *path = NULL;
        _cleanup_(text_done) Text text = {};
        Problem problem = {};
        int r = find_file(&path);
        if (r >= 0)
                r = file_read_all(path, FILE_BYTES_MAX, &text);
        if (is_not_there(r)) {
                *ret = json_object_new_object();
                return *ret ? 0 : -ENOMEM;
        }
        if (r < 0) {
                say("cannot read %s: %s", path ?: "contexts", strerror(-r));
                return r;
        }
        r = json_parse(text.data, text.size, ret, &problem);
        if (r >= 0 && !json_object_is_type(*ret, json_type_object)) {
                json_object_put(TAKE_PTR(*ret));
                (void) problem_set(&problem, 400, NULL, "must be an object");
                r = -EINVAL;
        }
        if (r < 0)
                say("%s: %s", path, problem.detail);
        return r;
}

/* Each folder on the way to it that is not there yet, for its owner alone. */
static int make_folders(char *path) {
        for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                *slash = 0;
                int r = mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
                *slash = '/';
                if (r < 0)
                        return r;
        }
        return 0;
}

int contexts_write(json_object *contexts) {
        _cleanup_(freep) char *path = NULL, *text = NULL;
        size_t size;
        int r = find_file(&path);
        if (r >= 0)
                r = make_folders(path);
        if (r >= 0)
                r = json_format(contexts, &text, &size);
        if (r >= 0)
                r = file_replace(path, 0600, text, size);
        if (r < 0)
                say("cannot write %s: %s", path ?: "contexts: no HOME", strerror(-r));
        return r;
}

bool context_name_is_valid(const char *name) {
        return *name && strchr(ALNUM, *name) && strspn(name, ALNUM "._-") == strlen(name) &&
                        strlen(name) <= NAME_MAX_SIZE;
}

json_object *context_find(json_object *contexts, const char *name) {
        json_object *context = member(member(contexts, "contexts"), name);
        return json_object_is_type(context, json_type_object) ? context : NULL;
}

static void add_option(Options *options, OptionId id, const char *value) {
        if (options->n == LIST_OPTION_MAX)
                return;
        options->given |= OPTION_BIT(id);
        options->list[options->n].id = id;
        options->list[options->n++].value = value;
}

void context_add_options(json_object *context, Options *options) {
        for (size_t i = 0; i < N_FIELDS; i++)
                if (*member_text(context, fields[i].key))
                        add_option(options, fields[i].id, member_text(context, fields[i].key));
        if (member_bool(context, "queue"))
                add_option(options, OPTION_QUEUE, NULL);
}

static int add_file(json_object *context, const char *key, const char *path) {
        _cleanup_(freep) char *folder = NULL, *absolute = NULL;
        if (*path == '/')
                return json_add_string(context, key, path);
        folder = realpath(".", NULL);
        if (!folder)
                return -errno;
        int r = text_format(&absolute, "%s/%s", folder, path);
        return r < 0 ? r : json_add_string(context, key, absolute);
}

int context_from_options(const Options *options, json_object **ret) {
        _cleanup_(json_putp) json_object *context = json_object_new_object();
        int r = context ? 0 : -ENOMEM;
        for (size_t i = 0; r >= 0 && i < N_FIELDS; i++) {
                const char *value = options_get(options, fields[i].id);
                if (value)
                        r = fields[i].is_file ? add_file(context, fields[i].key, value) :
                                                json_add_string(context, fields[i].key, value);
        }
        if (r >= 0 && options_has(options, OPTION_QUEUE))
                r = json_add_bool(context, "queue", true);
        if (r >= 0)
                *ret = TAKE_PTR(context);
        return r;
}
