/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/http/query.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"

static void query_item_done(QueryItem *item) {
        free(item->name);
        free(item->value);
}

void query_done(Query *query) {
        assert(query);

        for (size_t i = 0; i < query->n_items; i++)
                query_item_done(&query->items[i]);
        free(query->items);
        *query = (Query) {};
}

/* Undoes what forms do: "+" for a space, then percent-encoding. */
static int form_decode(const char *s, size_t size, char **ret) {
        _cleanup_(freep) char *copy = strndup(s, size);
        if (!copy)
                return -ENOMEM;

        for (char *p = copy; *p; p++)
                if (*p == '+')
                        *p = ' ';

        return text_percent_decode(copy, size, ret);
}

static int query_item_parse(const char *s, size_t size, QueryItem *ret) {
        _cleanup_(freep) char *name = NULL, *value = NULL;
        const char *equals = memchr(s, '=', size);
        size_t name_size = equals ? (size_t) (equals - s) : size;
        size_t value_start = equals ? name_size + 1 : size;
        int r = form_decode(s, name_size, &name);
        if (r >= 0)
                r = form_decode(s + value_start, size - value_start, &value);
        if (r < 0)
                return r;
        *ret = (QueryItem) { .name = TAKE_PTR(name), .value = TAKE_PTR(value) };
        return 0;
}

static int query_add(Query *query, const char *s, size_t size, Problem *reterr_problem) {
        _cleanup_(query_item_done) QueryItem item = {};
        int r = query_item_parse(s, size, &item);
        if (r == -ENOMEM)
                return problem_from_errno(reterr_problem, r);
        if (r < 0)
                return problem_set(reterr_problem, 400, NULL, "the query is not UTF-8 in percent-encoding");
        if (!*item.value)
                return 0;
        if (query->n_items >= QUERY_ITEMS_MAX)
                return problem_set(
                                reterr_problem,
                                400,
                                NULL,
                                "the query has more than %d parameters",
                                QUERY_ITEMS_MAX);
        query->items[query->n_items++] = item;
        item = (QueryItem) {};
        return 0;
}

int query_parse(const char *text, Query *ret, Problem *reterr_problem) {
        assert(text);
        assert(ret);
        assert(reterr_problem);

        _cleanup_(query_done) Query query = {};
        query.items = calloc(QUERY_ITEMS_MAX, sizeof(QueryItem));
        if (!query.items)
                return problem_from_errno(reterr_problem, -ENOMEM);

        for (const char *p = text; *p;) {
                size_t size = strcspn(p, "&");

                if (size > 0) {
                        int r = query_add(&query, p, size, reterr_problem);
                        if (r < 0)
                                return r;
                }

                p += size;
                p += *p == '&';
        }

        *ret = query;
        query = (Query) {};
        return 0;
}

const char *query_get(const Query *query, const char *name) {
        assert(query);
        assert(name);

        for (size_t i = 0; i < query->n_items; i++)
                if (streq(query->items[i].name, name))
                        return query->items[i].value;

        return NULL;
}

static bool list_has(const char *const *list, const char *name) {
        for (; list && *list; list++)
                if (streq(*list, name))
                        return true;

        return false;
}

int query_check(const Query *query,
                const char *const *names,
                const char *const *repeatable,
                Problem *reterr_problem) {
        assert(query);
        assert(reterr_problem);

        for (size_t i = 0; i < query->n_items; i++) {
                const QueryItem *item = &query->items[i];

                if (!list_has(names, item->name))
                        return problem_set(
                                        reterr_problem,
                                        400,
                                        NULL,
                                        "unknown query parameter \"%s\"",
                                        item->name);

                if (query_get(query, item->name) != item->value && !list_has(repeatable, item->name))
                        return problem_set(
                                        reterr_problem,
                                        400,
                                        NULL,
                                        "the query parameter \"%s\" stands twice",
                                        item->name);
        }

        return 0;
}
