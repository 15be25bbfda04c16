/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Objects of strings, {"key":"value"}, kept as environments are: a list of "key=value", sorted by key. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>

#include "core/json/problem.h"

/* What keys and values may be. No valid key holds "=". */
typedef struct PairsRules {
        size_t n_pairs_max;
        size_t value_max; /* bytes */
        bool (*key_valid)(const char *key);
        const char *key_refusal; /* said of a key that is not valid */
} PairsRules;

/* Reads OBJECT, which stands at the JSON pointer PATH. *ret is NULL when it is empty, else a NULL-terminated
 * list for text_list_free(). 400 with the field for anything else. */
int pairs_parse(json_object *object,
                const PairsRules *rules,
                const char *path,
                char ***ret,
                Problem *reterr_problem);

/* The object again; {} for NULL. -ENOMEM. The caller puts *ret. */
int pairs_to_json(char *const *list, json_object **ret);

/* Adds that object to OBJECT as KEY. -ENOMEM. */
int pairs_add(json_object *object, const char *key, char *const *list);
