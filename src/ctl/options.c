/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "ctl/options.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <stddef.h>

#include "ctl/say.h"

#define OPTIONS_PROGRAM                                                                       \
        (OPTION_BIT(OPTION_HOST) | OPTION_BIT(OPTION_QUEUE) | OPTION_BIT(OPTION_TOKEN_FILE) | \
         OPTION_BIT(OPTION_CACERT) | OPTION_BIT(OPTION_CERT) | OPTION_BIT(OPTION_KEY) |       \
         OPTION_BIT(OPTION_JSON) | OPTION_BIT(OPTION_CONTEXT) | OPTION_BIT(OPTION_HELP) |     \
         OPTION_BIT(OPTION_VERSION))

static const struct {
        const char *name; /* with its dashes */
        int letter;       /* 0: none */
        bool takes_value;
} rows[] = {
        [OPTION_HOST] = { "--host", 'H', true },
        [OPTION_QUEUE] = { "--queue", 'q', false },
        [OPTION_TOKEN_FILE] = { "--token-file", 0, true },
        [OPTION_CACERT] = { "--cacert", 0, true },
        [OPTION_CERT] = { "--cert", 0, true },
        [OPTION_KEY] = { "--key", 0, true },
        [OPTION_JSON] = { "--json", 'j', false },
        [OPTION_HELP] = { "--help", 'h', false },
        [OPTION_VERSION] = { "--version", 'V', false },
        [OPTION_ID] = { "--id", 0, true },
        [OPTION_CORES] = { "--cores", 'c', true },
        [OPTION_MEMORY] = { "--memory", 'm', true },
        [OPTION_RESOURCE] = { "--resource", 'r', true },
        [OPTION_TIMEOUT] = { "--timeout", 't', true },
        [OPTION_GRACE] = { "--grace", 0, true },
        [OPTION_ENV] = { "--env", 'E', true },
        [OPTION_DIRECTORY] = { "--directory", 'C', true },
        [OPTION_USER] = { "--user", 'u', true },
        [OPTION_UMASK] = { "--umask", 0, true },
        [OPTION_STDIN] = { "--stdin", 'i', true },
        [OPTION_NO_STDIN] = { "--no-stdin", 'n', false },
        [OPTION_TASKS_MAX] = { "--tasks-max", 0, true },
        [OPTION_PROPERTY] = { "--property", 'p', true },
        [OPTION_LABEL] = { "--label", 'l', true },
        [OPTION_WHEN_FULL] = { "--when-full", 0, true },
        [OPTION_RETRY] = { "--retry", 0, true },
        [OPTION_BACKOFF] = { "--backoff", 0, true },
        [OPTION_PRIORITY] = { "--priority", 0, true },
        [OPTION_AFTER] = { "--after", 0, true },
        [OPTION_FILE] = { "--file", 0, true },
        [OPTION_WAIT] = { "--wait", 'w', false },
        [OPTION_STATE] = { "--state", 's', true },
        [OPTION_STDERR] = { "--stderr", 'e', false },
        [OPTION_FOLLOW] = { "--follow", 'f', false },
        [OPTION_URL] = { "--url", 0, true },
        [OPTION_CONTEXT] = { "--context", 0, true },
        [OPTION_EACH] = { "--each", 0, true },
        [OPTION_WATCH] = { "--watch", 0, false },
        [OPTION_SINCE] = { "--since", 0, true },
        [OPTION_SORT] = { "--sort", 0, true },
        [OPTION_FORM] = { "--output", 'o', true },
        [OPTION_ALL] = { "--all", 'a', false },
};
static_assert(sizeof(rows) / sizeof(rows[0]) == _OPTION_MAX, "each option has a row");

const char *option_name(OptionId id) {
        return rows[id].name;
}

const char *options_get(const Options *options, OptionId id) {
        for (unsigned i = options->n; i > 0; i--)
                if (options->list[i - 1].id == id)
                        return options->list[i - 1].value;
        return NULL;
}

/* What getopt_long() wants to be told: long options give their row, letters themselves. */
#define LONG_BASE 0x100
static void fill_tables(
                struct option longs[static _OPTION_MAX + 1],
                char letters[static 2 * _OPTION_MAX + 2]) {
        *letters++ = '+'; /* stop at the first argument */
        for (int i = 0; i < _OPTION_MAX; i++) {
                longs[i] = (struct option) { .name = rows[i].name + 2,
                                             .has_arg = rows[i].takes_value ? required_argument : no_argument,
                                             .val = LONG_BASE + i };
                if (rows[i].letter) {
                        *letters++ = (char) rows[i].letter;
                        if (rows[i].takes_value)
                                *letters++ = ':';
                }
        }
        longs[_OPTION_MAX] = (struct option) {};
        *letters = 0;
}

static OptionId id_of(int c) {
        int id = c - LONG_BASE;
        if (c < LONG_BASE)
                for (id = 0; id < _OPTION_MAX && rows[id].letter != c; id++)
                        ;
        assert(id >= 0 && id < _OPTION_MAX);
        return (OptionId) id;
}

int options_parse(Options *options, int argc, char *argv[], bool permute) {
        struct option longs[_OPTION_MAX + 1];
        char letters[2 * _OPTION_MAX + 2];
        fill_tables(longs, letters);
        optind = 0; /* glibc: begin anew */
        for (int c; (c = getopt_long(argc, argv, letters + permute, longs, NULL)) >= 0;) {
                if (c == '?') /* getopt has said what is wrong */
                        return -EINVAL;
                if (options->n == LIST_OPTION_MAX) {
                        say("too many options");
                        return -EINVAL;
                }
                OptionId id = id_of(c);
                options->given |= OPTION_BIT(id);
                options->list[options->n].id = id;
                options->list[options->n++].value = optarg;
        }
        return optind;
}

bool options_allowed(const Options *options, uint64_t allowed, const char *verb) {
        for (int i = 0; i < _OPTION_MAX; i++)
                if (options->given & OPTION_BIT(i) & ~(allowed | OPTIONS_PROGRAM)) {
                        say("%s does not take the option %s", verb, rows[i].name);
                        return false;
                }
        return true;
}
