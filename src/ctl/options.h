/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The command line of daggyctl: options that belong to the program may stand before and after the verb, and
 * each verb says which others it takes. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define LIST_OPTION_MAX 1024

typedef enum OptionId {
        OPTION_HOST,
        OPTION_QUEUE,
        OPTION_TOKEN_FILE,
        OPTION_CACERT,
        OPTION_CERT,
        OPTION_KEY,
        OPTION_JSON,
        OPTION_HELP,
        OPTION_VERSION,
        OPTION_ID,
        OPTION_CORES,
        OPTION_MEMORY,
        OPTION_RESOURCE,
        OPTION_TIMEOUT,
        OPTION_GRACE,
        OPTION_ENV,
        OPTION_DIRECTORY,
        OPTION_USER,
        OPTION_UMASK,
        OPTION_STDIN,
        OPTION_NO_STDIN,
        OPTION_TASKS_MAX,
        OPTION_PROPERTY,
        OPTION_LABEL,
        OPTION_WHEN_FULL,
        OPTION_RETRY,
        OPTION_BACKOFF,
        OPTION_PRIORITY,
        OPTION_AFTER,
        OPTION_FILE,
        OPTION_WAIT,
        OPTION_STATE,
        OPTION_STDERR,
        OPTION_FOLLOW,
        OPTION_URL,
        OPTION_CONTEXT,
        OPTION_EACH,
        OPTION_WATCH,
        OPTION_SINCE,
        OPTION_SORT,
        OPTION_FORM,
        OPTION_ALL,
        _OPTION_MAX,
} OptionId;

#define OPTION_BIT(id) (UINT64_C(1) << (id))

/* Those that say what a task is. */
#define OPTIONS_RESOURCES (OPTION_BIT(OPTION_CORES) | OPTION_BIT(OPTION_MEMORY) | OPTION_BIT(OPTION_RESOURCE))
#define OPTIONS_TASK                                                                             \
        (OPTIONS_RESOURCES | OPTION_BIT(OPTION_TIMEOUT) | OPTION_BIT(OPTION_GRACE) |             \
         OPTION_BIT(OPTION_ENV) | OPTION_BIT(OPTION_DIRECTORY) | OPTION_BIT(OPTION_USER) |       \
         OPTION_BIT(OPTION_UMASK) | OPTION_BIT(OPTION_STDIN) | OPTION_BIT(OPTION_TASKS_MAX) |    \
         OPTION_BIT(OPTION_PROPERTY) | OPTION_BIT(OPTION_LABEL) | OPTION_BIT(OPTION_WHEN_FULL) | \
         OPTION_BIT(OPTION_RETRY) | OPTION_BIT(OPTION_BACKOFF) | OPTION_BIT(OPTION_PRIORITY) |   \
         OPTION_BIT(OPTION_AFTER))

/* The options in the order given. Strings are argv's. */
typedef struct Options {
        uint64_t given; /* OPTION_BIT()s */
        struct {
                OptionId id;
                const char *value; /* NULL of one that takes none */
        } list[LIST_OPTION_MAX];
        unsigned n;
} Options;

/* The last value that was given, or NULL. */
const char *options_get(const Options *options, OptionId id);
static inline bool options_has(const Options *options, OptionId id) {
        return options->given & OPTION_BIT(id);
}

/* The name on the command line: "--cores". */
const char *option_name(OptionId id);

/* Adds the options in ARGV up to the first argument that is none, or with PERMUTE wherever they stand, the
 * arguments then being moved behind them. Returns the index of the first argument, or -EINVAL, when it has
 * said on stderr what is wrong. */
int options_parse(Options *options, int argc, char *argv[], bool permute);

/* Whether only options of the program and those in ALLOWED were given; says on stderr which was not. */
bool options_allowed(const Options *options, uint64_t allowed, const char *verb);
