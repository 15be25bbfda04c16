/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Daemons by name: $XDG_CONFIG_HOME/daggyr/ctl.json, or ~/.config/daggyr/ctl.json.
 *
 *   {"current":"prod","contexts":{"prod":{"host":"build1","queue":true,"token_file":"/home/…"}}}
 *
 * It holds names of files with secrets, no secrets; nobody but its owner reads it all the same. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>

#include "ctl/options.h"

/* The whole file; {} when there is none that we may read. Negative errno, said. The caller puts *ret. */
int contexts_read(json_object **ret);

/* Negative errno, said. */
int contexts_write(json_object *contexts);

/* 1…64 characters of A-Za-z0-9._-, the first a letter or digit. */
bool context_name_is_valid(const char *name);

/* The context of that name, or NULL. CONTEXTS owns it. */
json_object *context_find(json_object *contexts, const char *name);

/* Adds to OPTIONS what CONTEXT says, as if it stood on the command line; the strings are CONTEXT's. */
void context_add_options(json_object *context, Options *options);

/* What OPTIONS say of a daemon, as a context; file names become absolute. -ENOMEM. The caller puts *ret. */
int context_from_options(const Options *options, json_object **ret);
