/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/http/cookie.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

#define PORT_DIGITS_MAX 5
#define BLANKS          " \t"

/* The digits behind the last colon, or "": what is behind those of an IPv6 address is no number to its end.
 */
static const char *port_of(const char *host) {
        const char *colon = host ? strrchr(host, ':') : NULL;
        if (!colon)
                return "";
        size_t size = strspn(colon + 1, "0123456789");
        return size <= PORT_DIGITS_MAX && colon[1 + size] == 0 ? colon + 1 : "";
}

void cookie_name(const char *program, const char *host, char ret[static COOKIE_NAME_SIZE]) {
        assert(program);
        const char *port = port_of(host);
        (void) snprintf(ret, COOKIE_NAME_SIZE, "%s%s%s", program, *port ? "-" : "", port);
}

bool cookie_find(const char *header, const char *name, const char **ret, size_t *ret_size) {
        assert(name);
        assert(ret);
        assert(ret_size);
        size_t name_size = strlen(name);
        const char *pair = header;
        while (pair && *pair) {
                pair += strspn(pair, BLANKS);
                size_t size = strcspn(pair, ";");
                if (size > name_size && pair[name_size] == '=' && memcmp(pair, name, name_size) == 0) {
                        *ret = pair + name_size + 1;
                        *ret_size = size - name_size - 1;
                        while (*ret_size > 0 && strchr(BLANKS, (*ret)[*ret_size - 1]))
                                (*ret_size)--;
                        return true;
                }
                pair += size + (pair[size] == ';');
        }
        return false;
}

int cookie_format(const char *name, const char *value, usec_t span_usec, bool secure, char **ret) {
        return text_format(
                        ret,
                        "%s=%s; Path=/; Max-Age=%" PRIu64 "; HttpOnly; SameSite=Strict%s",
                        name,
                        value,
                        span_usec / USEC_PER_SEC,
                        secure ? "; Secure" : "");
}
