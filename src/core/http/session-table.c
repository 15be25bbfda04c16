/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/http/session-table.h"

#include <assert.h>
#include <string.h>

#include "core/http/token.h"

static bool is_good(const SessionSecret *secret, usec_t now_usec) {
        return now_usec < secret->end_usec;
}

static void add(SessionSecret *secrets, size_t n, const char *text, usec_t end_usec) {
        SessionSecret *place = &secrets[0];
        for (size_t i = 1; i < n; i++)
                if (secrets[i].end_usec < place->end_usec)
                        place = &secrets[i];
        assert(strlen(text) == SESSION_SECRET_SIZE - 1);
        memcpy(place->text, text, SESSION_SECRET_SIZE);
        place->end_usec = end_usec;
}

/* Looks at all of them, wherever TEXT is found. N when it is nowhere. */
static size_t find(const SessionSecret *secrets, size_t n, const char *text, size_t size, usec_t now_usec) {
        size_t found = n;
        for (size_t i = 0; i < n; i++)
                if (is_good(&secrets[i], now_usec) && token_matches(secrets[i].text, text, size))
                        found = i;
        return found;
}

void session_add_code(SessionTable *table, const char *code, usec_t now_usec) {
        assert(table);
        add(table->codes, SESSION_CODES_MAX, code, usec_add(now_usec, SESSION_CODE_USEC));
}

bool session_begin(SessionTable *table, const char *code, const char *secret, usec_t now_usec) {
        assert(table);
        size_t i = find(table->codes, SESSION_CODES_MAX, code, strlen(code), now_usec);
        if (i == SESSION_CODES_MAX)
                return false;
        table->codes[i] = (SessionSecret) {};
        add(table->sessions, SESSIONS_MAX, secret, usec_add(now_usec, SESSION_USEC));
        return true;
}

bool session_is_live(const SessionTable *table, const char *secret, size_t size, usec_t now_usec) {
        assert(table);
        return find(table->sessions, SESSIONS_MAX, secret, size, now_usec) < SESSIONS_MAX;
}
