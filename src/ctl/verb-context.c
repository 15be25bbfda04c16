/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* context list, set, use, remove. They talk to no daemon. */

#include <errno.h>

#include "base/text.h"
#include "core/json/json.h"
#include "core/task/shell-status.h"
#include "ctl/context.h"
#include "ctl/say.h"
#include "ctl/verbs.h"

static int list(json_object *contexts) {
        static const char *const headers[] = { "CURRENT", "NAME", "HOST", "DAEMON", "TOKEN-FILE", NULL };
        _cleanup_(table_freep) Table *table = NULL;
        json_object *all = member(contexts, "contexts");
        const char *current = member_text(contexts, "current");
        int r = table_new(headers, &table);
        if (r >= 0 && json_object_is_type(all, json_type_object)) {
                json_object_object_foreach(all, name, context) {
                        const char *const cells[] = { streq(name, current) ? "*" : "",
                                                      name,
                                                      member_text(context, "host"),
                                                      member_bool(context, "queue") ? "queue" : "runner",
                                                      member_text(context, "token_file") };
                        if (r >= 0)
                                r = table_add(table, cells);
                }
        }
        return r < 0 || print_table(table) < 0 ? SHELL_STATUS_REFUSED : 0;
}

static int set(const Session *session, json_object *contexts, const char *name) {
        json_object *all = member(contexts, "contexts"), *context = NULL;
        if (!context_name_is_valid(name)) {
                say("context: a name is made of letters, digits, \".\", \"_\" and \"-\"");
                return SHELL_STATUS_USAGE;
        }
        int r = context_from_options(&session->options, &context);
        if (r >= 0 && json_object_object_length(context) == 0) {
                json_object_put(context);
                say("context set: where? (--host, --queue)");
                return SHELL_STATUS_USAGE;
        }
        if (r >= 0 && !json_object_is_type(all, json_type_object)) {
                all = json_object_new_object();
                r = json_add(contexts, "contexts", all);
        }
        if (r >= 0)
                r = json_add(all, name, context);
        return r < 0 || contexts_write(contexts) < 0 ? SHELL_STATUS_REFUSED : 0;
}

static int say_unknown(const char *name) {
        say("there is no context \"%s\"", name);
        return SHELL_STATUS_USAGE;
}

/* Without a name none is used any more. */
static int use(json_object *contexts, const char *name) {
        if (name && !context_find(contexts, name))
                return say_unknown(name);
        if (json_add_string(contexts, "current", name) < 0)
                return SHELL_STATUS_REFUSED;
        return contexts_write(contexts) < 0 ? SHELL_STATUS_REFUSED : 0;
}

static int remove_one(json_object *contexts, const char *name) {
        if (!context_find(contexts, name))
                return say_unknown(name);
        json_object_object_del(member(contexts, "contexts"), name);
        if (streq(member_text(contexts, "current"), name))
                json_object_object_del(contexts, "current");
        return contexts_write(contexts) < 0 ? SHELL_STATUS_REFUSED : 0;
}

int verb_context(Session *session, char **arguments) {
        _cleanup_(json_putp) json_object *contexts = NULL;
        const char *word = arguments[0], *name = arguments[1];
        if (contexts_read(&contexts) < 0)
                return SHELL_STATUS_USAGE;
        if (streq(word, "list") && !name)
                return list(contexts);
        if (streq(word, "set") && name)
                return set(session, contexts, name);
        if (streq(word, "use"))
                return use(contexts, name);
        if (streq(word, "remove") && name)
                return remove_one(contexts, name);
        say("usage: daggyctl context list|use [NAME]|set NAME|remove NAME");
        return SHELL_STATUS_USAGE;
}
