/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which call may start is decided here and not by libcurl (7.88), whose own waiting list stops at the first
 * call whose host is busy and whose connect timeout runs while a call waits in it. */

/* NOLINTBEGIN(readability-function-size,clang-analyzer-core.NullDereference): see base/hash-table.h */

#include <errno.h>
#include <string.h>
#include <utlist.h>

#include "io/http-client-internal.h"

static int host_add(HttpClient *client, const char *key, HttpHost **ret) {
        HttpHost *host = calloc(1, sizeof(*host));
        if (!host)
                return -ENOMEM;
        host->key = strdup(key);
        if (host->key)
                HASH_ADD_KEYPTR(hh, client->hosts, host->key, strlen(host->key), host);
        if (!host->hh.tbl) {
                free(host->key);
                free(host);
                return -ENOMEM;
        }
        *ret = host;
        return 0;
}

int http_host_find_or_add(HttpClient *client, const char *key, HttpHost **ret) {
        HttpHost *host = NULL;
        HASH_FIND_STR(client->hosts, key, host);
        if (!host)
                return host_add(client, key, ret);
        *ret = host;
        return 0;
}

void http_host_leave_line(HttpClient *client, HttpHost *host) {
        if (host->in_line)
                DL_DELETE(client->line, host);
        host->in_line = false;
}

void http_host_settle(HttpClient *client, HttpHost *host) {
        bool may_start = host->waiting && host->n_active < client->options.connections_per_host_max;
        if (!may_start)
                http_host_leave_line(client, host);
        else if (!host->in_line) {
                DL_APPEND(client->line, host);
                host->in_line = true;
        }
        if (host->waiting || host->n_active > 0)
                return;
        HASH_DEL(client->hosts, host);
        free(host->key);
        free(host);
}

/* NOLINTEND(readability-function-size,clang-analyzer-core.NullDereference) */
