/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* daggyctl: the table of verbs, and what help says of it. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/text.h"
#include "core/task/shell-status.h"
#include "ctl/say.h"
#include "ctl/verbs.h"

typedef struct Verb {
        const char *name;
        int (*carry_out)(Session *session, char **arguments);
        uint64_t options;
        int arguments_min, arguments_max; /* -1: any number */
        const char *synopsis, *help;
        bool takes_command; /* options end where the command begins */
        bool is_local;      /* it talks to no daemon */
} Verb;

#define BIT(name) OPTION_BIT(OPTION_##name)

static const Verb verbs[] = {
        { "run",
          verb_run,
          OPTIONS_TASK | BIT(NO_STDIN) | BIT(ID) | BIT(FILE),
          0,
          -1,
          "[-n] [TASK-OPTION...] COMMAND...",
          "run a task and be its terminal",
          true },
        { "submit",
          verb_submit,
          OPTIONS_TASK | BIT(ID) | BIT(FILE) | BIT(WAIT) | BIT(EACH),
          0,
          -1,
          "[--wait] [TASK-OPTION...] COMMAND...",
          "submit a task, print its id",
          true },
        { "list",
          verb_list,
          BIT(STATE) | BIT(LABEL) | BIT(SINCE) | BIT(SORT) | BIT(FORM) | BIT(WATCH),
          0,
          0,
          "[--state S] [--label K=V]... [--watch]",
          "list tasks" },
        { "summary",
          verb_summary,
          BIT(STATE) | BIT(LABEL) | BIT(SINCE),
          0,
          0,
          "[--label K=V]... [--since T]",
          "count tasks by how they are" },
        { "top", verb_top, 0, 0, 0, "", "watch what runs, live" },
        { "show", verb_show, 0, 1, -1, "ID...", "tell all about tasks" },
        { "wait",
          verb_wait,
          BIT(TIMEOUT) | BIT(LABEL),
          0,
          -1,
          "[--timeout T] ID...|--label K=V",
          "wait until tasks are finished" },
        { "output",
          verb_output,
          BIT(STDERR) | BIT(FOLLOW) | BIT(ALL),
          1,
          -1,
          "[-f] [--stderr|--all] ID...",
          "print what tasks wrote" },
        { "stop",
          verb_stop,
          BIT(WAIT) | BIT(STATE) | BIT(LABEL),
          0,
          -1,
          "[--wait] ID... | -l K=V... [--state S]",
          "stop tasks" },
        { "retry",
          verb_retry,
          BIT(STATE) | BIT(LABEL),
          0,
          -1,
          "ID... | -l K=V... [--state S]",
          "have a queue run them again" },
        { "forget",
          verb_forget,
          BIT(STATE) | BIT(LABEL),
          0,
          -1,
          "ID... | -l K=V... [--state S]",
          "forget finished tasks" },
        { "events", verb_events, 0, 0, 0, "", "watch what happens" },
        { "ui", verb_ui, BIT(URL), 0, 0, "[--url URL]", "the address of the page for a browser" },
        { "capacity", verb_capacity, 0, 0, 0, "", "show what there is and what is free" },
        { "impact",
          verb_impact,
          OPTIONS_RESOURCES,
          0,
          0,
          "[-c CORES] [-m MEMORY] [-r NAME=N]...",
          "what a task would take" },
        { "drain", verb_drain, 0, 1, 1, "on|off", "start no more tasks, or do again" },
        { "upgrade", verb_upgrade, 0, 0, 0, "", "have the installed program take over" },
        { "lease", verb_lease, 0, 0, 0, "", "who holds this runner" },
        { "members", verb_members, 0, 0, 0, "", "list the daggyds that are one queue" },
        { "workers", verb_workers, 0, 0, 0, "", "list a queue's runners" },
        { "worker", verb_worker, 0, 2, 2, "enable|disable ID", "have a queue use a runner or not" },
        { "join",
          verb_join,
          BIT(ID) | BIT(URL),
          1,
          1,
          "[--id ID] [--url URL] QUEUE",
          "let a queue use this host's runner" },
        { "leave", verb_leave, 0, 0, 1, "[QUEUE]", "undo that, when its tasks here have ended" },
        { "context",
          verb_context,
          0,
          1,
          2,
          "list|use|set|remove [NAME]",
          "daemons by name",
          .is_local = true },
        { "queues", verb_queues, 0, 0, 0, "", "list the queues that share runners" },
};

static void print_help(void) {
        (void) printf("daggyctl [OPTION...] VERB ...\n\nThe command line for daggyr, the runner, and daggyd, the queue.\n\n");
        for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++)
                (void) printf("  %-9s%-37s %s\n", verbs[i].name, verbs[i].synopsis, verbs[i].help);
        (void) printf("\n"
                      "  -H, --host=WHERE       URL, HOST[:PORT] or unix:/PATH; or $DAGGYCTL_HOST\n"
                      "                         (default: this host's runner, its socket or port 2504)\n"
                      "      --context=NAME     as \"context set\" has it\n"
                      "  -q, --queue            the queue: port 2503, if none is given\n"
                      "      --token-file=FILE  a token to show; or $DAGGYCTL_TOKEN_FILE\n"
                      "      --cacert=FILE --cert=FILE --key=FILE  for TLS\n"
                      "  -j, --json             print what the daemon sent\n"
                      "  -V, --version  -h, --help\n"
                      "\n"
                      "Options of lists:\n"
                      "  -s, --state=STATE  -l, --label=K=V  --since=TIME  --sort=[-]FIELD\n"
                      "  -o, --output=wide|json|name  --watch\n"
                      "\n"
                      "Options of tasks:\n"
                      "  -c, --cores=N  -m, --memory=512M|2G  -r, --resource=NAME=N   what it may use\n"
                      "  -t, --timeout=TIME  --grace=TIME                             90, 5min, 1h30min\n"
                      "  -E, --env=K=V  -C, --directory=DIR  -u, --user=USER  --umask=0022\n"
                      "  -i, --stdin=FILE|-  --tasks-max=N  -p, --property=NAME=VALUE  -l, --label=K=V\n"
                      "  -n, --no-stdin         run: do not hand on what is piped to us\n"
                      "      --id=ID  --when-full=queue|reject  --file=FILE.json\n"
                      "      --each=FILE|-          submit: one for each line, {} in the command being it\n"
                      "      --retry=N  --backoff=TIME  --priority=N  --after=ID      at a queue\n"
                      "\n"
                      "The exit status is that of the task (run, submit --wait, wait), 128+N after signal N,\n"
                      "2: bad command line, 123: no daemon answers, 124: time is over, 125: refused,\n"
                      "126: the command could not be executed. See daggyctl(1).\n");
}

static const Verb *verb_find(const char *name) {
        for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++)
                if (streq(verbs[i].name, name))
                        return &verbs[i];
        return NULL;
}

static int carry_out(Session *session, const Verb *verb, int n, char **arguments) {
        if (!options_allowed(&session->options, verb->options, verb->name))
                return SHELL_STATUS_USAGE;
        if (n < verb->arguments_min || (verb->arguments_max >= 0 && n > verb->arguments_max)) {
                say("usage: daggyctl %s %s", verb->name, verb->synopsis);
                return SHELL_STATUS_USAGE;
        }
        if (!verb->is_local && session_start(session) < 0)
                return SHELL_STATUS_USAGE;
        return verb->carry_out(session, arguments);
}

static bool help_was_asked_for(const Options *options) {
        if (options_has(options, OPTION_HELP))
                print_help();
        else if (options_has(options, OPTION_VERSION))
                (void) printf("daggyctl %s\n", VERSION);
        else
                return false;
        return true;
}

/* A descriptor that was closed would become that of the next file or socket, and what is printed would go
 * there. In its place comes one on which what it is for fails. */
static bool standard_streams_are_open(void) {
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
                if (fcntl(fd, F_GETFD) < 0 &&
                    open("/dev/null", (fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) | O_NOCTTY) != fd)
                        return false;
        return true;
}

/* stdio tells only now whether help went anywhere. */
static int status_of_help(void) {
        if (fflush(stdout) == 0)
                return 0;
        say("cannot write to standard output: %s", strerror(errno));
        return SHELL_STATUS_REFUSED;
}

int main(int argc, char *argv[]) {
        static char name[] = "daggyctl";
        static Session session = {};
        if (!standard_streams_are_open())
                return SHELL_STATUS_REFUSED;
        if (argc > 0)
                argv[0] = name; /* for getopt's messages */
        int first = options_parse(&session.options, argc, argv, false);
        if (first < 0)
                return SHELL_STATUS_USAGE;
        if (help_was_asked_for(&session.options))
                return status_of_help();
        const Verb *verb = first < argc ? verb_find(argv[first]) : NULL;
        if (!verb) {
                say(first < argc ? "there is no verb \"%s\"; see daggyctl --help" :
                                   "what? See daggyctl --help%s",
                    first < argc ? argv[first] : "");
                return SHELL_STATUS_USAGE;
        }
        char **rest = argv + first;
        int n = argc - first;
        rest[0] = name;
        first = options_parse(&session.options, n, rest, !verb->takes_command);
        if (first < 0)
                return SHELL_STATUS_USAGE;
        if (help_was_asked_for(&session.options))
                return status_of_help();
        int status = carry_out(&session, verb, n - first, rest + first);
        session_done(&session);
        return status;
}
