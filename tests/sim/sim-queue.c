/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Runs the simulation for one seed or many: see sim.h. A seed that fails is named, and with --verbose shown
 * step by step. */

#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "sim.h"

#define STEPS_MAX 2000000

static const char *const defect_names[] = {
        [DEFECT_NONE] = "none",
        [DEFECT_UNKNOWN_IS_REFUSED] = "unknown-is-refused",
        [DEFECT_NO_LOST_BOUND] = "no-lost-bound",
        [DEFECT_FRESH_ID] = "fresh-id",
        [DEFECT_PRESENT_LEASE] = "present-lease",
        [DEFECT_ANY_REPORT] = "any-report",
        [DEFECT_STORE_LATE] = "store-late",
        [DEFECT_NO_LISTING] = "no-listing",
        [DEFECT_NO_LEASES] = "no-leases",
        [DEFECT_STRANGE_IS_REFUSED] = "strange-is-refused",
        [DEFECT_TELL_EARLY] = "tell-early",
        [DEFECT_FORGET_EARLY] = "forget-early",
        [DEFECT_FORGET_LISTED] = "forget-listed",
        [DEFECT_FORGET_UNSTORED] = "forget-unstored",
        [DEFECT_GO_EARLY] = "go-early",
        [DEFECT_MOVE_IS_RESTART] = "move-is-restart",
        [DEFECT_ANSWER_INSIDE] = "answer-inside",
        [DEFECT_AFTER_FORGOTTEN] = "after-forgotten",
        [DEFECT_AFTER_ANY_END] = "after-any-end",
        [DEFECT_AFTER_UNSETTLED] = "after-unsettled",
        [DEFECT_NO_FENCE] = "no-fence",
        [DEFECT_LEADS_ON] = "leads-on",
        [DEFECT_WRITE_AGAIN] = "write-again",
        [DEFECT_SAME_EPOCH] = "same-epoch",
        [DEFECT_LATE_LOOK] = "late-look",
};

typedef struct Options {
        uint64_t first, last;
        bool verbose, must_fail, has_members;
        Defect defect;
} Options;

typedef struct Totals {
        uint64_t n_steps, n_starts, n_losses, n_refusals, n_calls, n_writes, n_forgotten, n_retries, n_failed;
        uint64_t n_led, n_fenced, n_resolved;
} Totals;

/* An assertion of the code under test is a finding like any other. */
static uint64_t present_seed;
static bool may_abort;

static void on_abort(int signal) {
        printf("seed %" PRIu64 ": an assertion failed\n", present_seed);
        (void) fflush(stdout);
        if (may_abort)
                _exit(EXIT_SUCCESS);
}

static void run_seed(uint64_t seed, const Options *options, Totals *totals) {
        Sim *sim = sim_allocate(sizeof(*sim));
        present_seed = seed;
        may_abort = options->must_fail;
        *sim = (Sim) {
                .seed = seed,
                .random = seed,
                .verbose = options->verbose,
                .has_members = options->has_members,
                .defect = options->defect,
        };
        scenario_begin(sim);
        while (!*sim->violation && !sim_is_over(sim) && sim_step(sim)) {
                check_step(sim);
                if (sim->n_steps > STEPS_MAX)
                        sim_violation(sim, "does not come to an end");
        }
        if (!*sim->violation)
                check_end(sim);
        if (*sim->violation) {
                totals->n_failed++;
                if (!options->must_fail)
                        printf("seed %" PRIu64 ": %s\n", seed, sim->violation);
                else
                        printf("defect %s: found by seed %" PRIu64 ": %s\n",
                               defect_names[sim->defect],
                               seed,
                               sim->violation);
        }
        totals->n_steps += sim->n_steps;
        totals->n_starts += sim->n_starts;
        totals->n_losses += sim->n_losses;
        totals->n_refusals += sim->n_refusals;
        totals->n_calls += sim->n_calls;
        totals->n_writes += sim->n_writes;
        totals->n_forgotten += sim->n_forgotten;
        totals->n_retries += sim->n_retries;
        totals->n_led += sim->n_led;
        totals->n_fenced += sim->n_fenced;
        totals->n_resolved += sim->n_resolved;
        sim_done(sim);
        free(sim);
}

static bool parse_defect(const char *name, Defect *ret) {
        for (size_t i = 0; i < _DEFECT_MAX; i++)
                if (streq(name, defect_names[i])) {
                        *ret = (Defect) i;
                        return true;
                }
        return false;
}

static bool parse_seeds(char *text, Options *options) {
        char *dash = strchr(text, '-');
        if (dash)
                *dash++ = '\0';
        if (text_parse_u64(text, 0, UINT64_MAX, &options->first) < 0)
                return false;
        options->last = options->first;
        return !dash || text_parse_u64(dash, options->first, UINT64_MAX, &options->last) >= 0;
}

static bool parse(int argc, char **argv, Options *ret) {
        static const struct option names[] = {
                { "seed", required_argument, NULL, 's' },   { "seeds", required_argument, NULL, 's' },
                { "verbose", no_argument, NULL, 'v' },      { "members", no_argument, NULL, 'm' },
                { "defect", required_argument, NULL, 'd' }, {},
        };
        bool ok = true;
        for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
                if (c == 'v')
                        ret->verbose = true;
                else if (c == 'm')
                        ret->has_members = true;
                else if (c == 'd')
                        ret->must_fail = ok = ok && parse_defect(optarg, &ret->defect);
                else
                        ok = ok && c == 's' && parse_seeds(optarg, ret);
        }
        return ok && optind == argc;
}

int main(int argc, char **argv) {
        Options options = { .first = 1, .last = 100 };
        Totals totals = {};
        (void) signal(SIGABRT, on_abort);
        (void) setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
        if (!parse(argc, argv, &options)) {
                (void) fprintf(stderr,
                               "Usage: %s [--seeds FROM-TO | --seed N] [--members] [--verbose] [--defect NAME]\n",
                               argv[0]);
                return 2;
        }
        bool found = false; /* the mistake, once */
        for (uint64_t seed = options.first; seed <= options.last && !found; seed++) {
                run_seed(seed, &options, &totals);
                found = options.must_fail && totals.n_failed > 0;
        }
        printf("seeds %" PRIu64 "-%" PRIu64 ": %" PRIu64 " failed; %" PRIu64 " events, %" PRIu64
               " requests, %" PRIu64 " writes, %" PRIu64 " starts, %" PRIu64 " forgotten, %" PRIu64
               " losses, %" PRIu64 " refusals, %" PRIu64 " tried again\n",
               options.first,
               options.last,
               totals.n_failed,
               totals.n_steps,
               totals.n_calls,
               totals.n_writes,
               totals.n_starts,
               totals.n_forgotten,
               totals.n_losses,
               totals.n_refusals,
               totals.n_retries);
        if (options.has_members)
                printf("%" PRIu64 " times another one led, %" PRIu64 " times a member was fenced, %" PRIu64
                       " times a lost connection was made again\n",
                       totals.n_led,
                       totals.n_fenced,
                       totals.n_resolved);
        return (totals.n_failed > 0) == options.must_fail ? EXIT_SUCCESS : EXIT_FAILURE;
}
