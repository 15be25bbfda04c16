/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/json/pairs.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "core/json/json.h"

/* Orders by key: one that begins another comes first, whatever value follows it. */
static int compare_pairs(const void *a, const void *b) {
        const char *x = *(char *const *) a, *y = *(char *const *) b;
        size_t n = strcspn(x, "="), m = strcspn(y, "=");
        int r = memcmp(x, y, n < m ? n : m);

        return r != 0 ? r : (n > m) - (n < m);
}

static char *join_pair(const char *key, const char *value) {
        char *pair = malloc(strlen(key) + 1 + strlen(value) + 1);
        if (!pair)
                return NULL;

        char *p = stpcpy(pair, key);
        *p++ = '=';
        (void) stpcpy(p, value);
        return pair;
}

static int parse_pair(
                const char *key,
                json_object *value,
                const PairsRules *rules,
                const char *path,
                char **ret,
                Problem *reterr_problem) {
        char pair_path[PROBLEM_FIELD_SIZE];

        json_pointer_join(pair_path, path, key);

        if (!rules->key_valid(key))
                return problem_set(reterr_problem, 400, pair_path, "%s", rules->key_refusal);
        if (!json_object_is_type(value, json_type_string))
                return problem_set(reterr_problem, 400, pair_path, "must be a string");
        if (text_n_characters(json_object_get_string(value)) > rules->value_max)
                return problem_set(
                                reterr_problem,
                                400,
                                pair_path,
                                "must be a string of up to %zu characters",
                                rules->value_max);

        *ret = join_pair(key, json_object_get_string(value));
        return *ret ? 0 : problem_from_errno(reterr_problem, -ENOMEM);
}

int pairs_parse(json_object *object,
                const PairsRules *rules,
                const char *path,
                char ***ret,
                Problem *reterr_problem) {
        _cleanup_(text_list_freep) char **list = NULL;
        size_t i = 0;

        assert(rules);
        assert(path);
        assert(ret);
        assert(reterr_problem);

        if (!json_object_is_type(object, json_type_object))
                return problem_set(reterr_problem, 400, path, "must be an object of strings");

        size_t n = (size_t) json_object_object_length(object);
        if (n > rules->n_pairs_max)
                return problem_set(
                                reterr_problem,
                                400,
                                path,
                                "must not have more than %zu members",
                                rules->n_pairs_max);
        if (n == 0) {
                *ret = NULL;
                return 0;
        }

        list = calloc(n + 1, sizeof(char *));
        if (!list)
                return problem_from_errno(reterr_problem, -ENOMEM);

        json_object_object_foreach(object, key, value) {
                int r = parse_pair(key, value, rules, path, &list[i++], reterr_problem);
                if (r < 0)
                        return r;
        }

        qsort(list, n, sizeof(char *), compare_pairs);
        *ret = TAKE_PTR(list);
        return 0;
}

static int add_pair(json_object *object, const char *pair) {
        const char *equals = strchr(pair, '=');
        assert(equals);

        _cleanup_(freep) char *key = strndup(pair, (size_t) (equals - pair));
        if (!key)
                return -ENOMEM;

        return json_add_string(object, key, equals + 1);
}

int pairs_to_json(char *const *list, json_object **ret) {
        _cleanup_(json_putp) json_object *object = NULL;

        assert(ret);

        object = json_object_new_object();
        if (!object)
                return -ENOMEM;

        for (; list && *list; list++) {
                int r = add_pair(object, *list);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(object);
        return 0;
}

int pairs_add(json_object *object, const char *key, char *const *list) {
        json_object *value;
        int r = pairs_to_json(list, &value);
        return r < 0 ? r : json_add(object, key, value);
}
