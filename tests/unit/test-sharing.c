/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A queue among others, who are known by a discovery that tells what each test wants it to. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "core/sharing/sharing.h"
#include "fail-alloc.h"
#include "test.h"

#define SEC      USEC_PER_SEC
#define START    (100 * SEC)
#define INTERVAL (10 * SEC)
#define TTL      (30 * SEC)
#define OWN_ID   "00000000000000000000000000000001"
#define OTHER_ID "00000000000000000000000000000002"

/* One of the others; as an asker, the one who asks. */
typedef struct Other {
        const char *address, *version, *id;
        const char *workers[3]; /* the first NULL: it does not tell them */
} Other;

typedef struct World {
        /* the discovery */
        DiscoveryTold told;
        void *listener;
        int look_error;
        unsigned n_looks[_DISCOVERY_DEPTH_MAX];

        /* what the hands were told */
        const char *version;
        unsigned question; /* the last one that the master was asked */
        char url[64];
        int ask_error;
        unsigned n_asked, n_share_changes, n_strangers, n_failed_splits;
        char master[64];
        const char *answered; /* who was last */
        WorkerSet *answer;    /* NULL: no answer could be given */
        unsigned n_answers;

        Moment now;
        Sharing *sharing;
} World;

static void world_listen(void *discovery, DiscoveryTold told, void *userdata) {
        World *world = discovery;
        world->told = told;
        world->listener = userdata;
}

static int world_look(void *discovery, DiscoveryDepth depth, const Moment *now) {
        World *world = discovery;
        if (world->look_error < 0)
                return world->look_error;
        world->n_looks[depth]++;
        return 0;
}

static const DiscoveryPort world_port = { .listen = world_listen, .look = world_look };

static const char *on_version(void *userdata) {
        const World *world = userdata;
        return world->version;
}

static int on_ask_master(unsigned question, const char *url, void *userdata) {
        World *world = userdata;
        if (world->ask_error < 0)
                return world->ask_error;
        world->question = question;
        world->n_asked++;
        (void) snprintf(world->url, sizeof(world->url), "%s", url);
        return 0;
}

static void on_answer(void *asker, const WorkerSet *share, void *userdata) {
        World *world = userdata;
        world->answered = asker;
        world->n_answers++;
        world->answer = worker_set_unref(world->answer);
        if (share)
                assert_int_equal(worker_set_intersect(share, share, &world->answer), 0);
}

static void on_share_changed(void *userdata) {
        World *world = userdata;
        world->n_share_changes++;
}

static void on_deadline_changed(void *userdata) {
}

static void on_master_changed(const char *address, void *userdata) {
        World *world = userdata;
        (void) snprintf(world->master, sizeof(world->master), "%s", address ?: "nobody");
}

static void on_stranger_asked(const SharingQueue *asker, void *userdata) {
        World *world = userdata;
        world->n_strangers++;
}

static void on_split_failed(int r, size_t n, void *userdata) {
        World *world = userdata;
        world->n_failed_splits++;
}

static const SharingHands hands = {
        .version = on_version,
        .ask_master = on_ask_master,
        .answer = on_answer,
        .share_changed = on_share_changed,
        .deadline_changed = on_deadline_changed,
        .master_changed = on_master_changed,
        .stranger_asked = on_stranger_asked,
        .split_failed = on_split_failed,
};

static WorkerSet *set_of(const char *const workers[static 3]) {
        WorkerSet *set;
        size_t n = 0;
        while (n < 3 && workers[n])
                n++;
        assert_int_equal(worker_set_new(workers, n, &set), 0);
        return set;
}

/* The queue "own:1", version 5, with the workers a and b. */
static void begin(World *world, bool enabled) {
        const char *const workers[3] = { "a", "b" };
        _cleanup_(worker_set_unrefp) WorkerSet *configured = set_of(workers);
        *world = (World) { .version = "5", .now = { START, 1000000 * SEC } };
        SharingOptions options = {
                .id = OWN_ID,
                .address = "own:1",
                .configured = configured,
                .enabled = enabled,
                .strict = true,
                .poll_interval_usec = INTERVAL,
                .cache_ttl_usec = TTL,
                .lease_ttl_usec = TTL,
                .port = &world_port,
                .discovery = world,
                .hands = &hands,
                .userdata = world,
        };
        assert_int_equal(sharing_new(&options, &world->now, &world->sharing), 0);
}

static void end(World *world) {
        sharing_free(world->sharing);
        worker_set_unref(world->answer);
}

static void pass(World *world, usec_t usec) {
        world->now.boottime_usec += usec;
        world->now.realtime_usec += usec;
        sharing_run(world->sharing, &world->now);
}

static SharingQueue queue_of(const Other *other) {
        SharingQueue queue = { .address = strdup(other->address), .version = strdup(other->version) };
        if (other->id)
                memcpy(queue.id, other->id, sizeof(queue.id));
        if (other->workers[0])
                queue.workers = set_of(other->workers);
        return queue;
}

/* OTHERS are N of those there are, as of SINCE. */
static void tell_since(World *world, DiscoveryDepth depth, const Other *others, size_t n, usec_t since_usec) {
        FoundQueue found[4] = {};
        for (size_t i = 0; i < n; i++) {
                found[i].queue = queue_of(&others[i]);
                found[i].url = malloc(64);
                (void) snprintf(found[i].url, 64, "http://%s", others[i].address);
        }
        world->told(depth, found, n, since_usec, &world->now, world->listener);
        for (size_t i = 0; i < n; i++)
                found_queue_done(&found[i]);
}

static void tell(World *world, DiscoveryDepth depth, const Other *others, size_t n) {
        tell_since(world, depth, others, n, world->now.boottime_usec);
}

static void ask(World *world, const char *who, const Other *asker) {
        SharingQueue queue = queue_of(asker);
        assert_int_equal(sharing_ask(world->sharing, (void *) who, &queue, &world->now), 0);
        assert_null(queue.address);
}

static size_t n_shared(const World *world) {
        return sharing_share(world->sharing)->n_ids;
}

static const Other elder = { "elder:1", "9", OTHER_ID, { "a", "b" } };
static const Other younger = { "younger:1", "1", OTHER_ID, { "a", "b" } };

/* ── the side that asks ── */

static void a_queue_alone_is_master_and_has_all_its_workers(void **state) {
        _cleanup_(end) World world;
        begin(&world, true);
        assert_int_equal(sharing_deadline(world.sharing), START);
        assert_int_equal(n_shared(&world), 0);
        pass(&world, 0);
        assert_int_equal(world.n_looks[DISCOVER_QUEUES], 1);
        tell(&world, DISCOVER_QUEUES, NULL, 0);
        assert_string_equal(world.master, "own:1");
        assert_true(sharing_is_master(world.sharing));
        assert_int_equal(world.n_looks[DISCOVER_WORKERS], 1);
        tell(&world, DISCOVER_WORKERS, NULL, 0);
        assert_int_equal(n_shared(&world), 2);
        assert_int_equal(world.n_share_changes, 1);
        assert_int_equal(world.n_asked, 0);
        assert_int_equal(sharing_deadline(world.sharing), START + INTERVAL);
}

/* Up to where the elder queue, the master, has answered with SET. */
static void begin_with_share(World *world, const WorkerSet *set) {
        begin(world, true);
        pass(world, 0);
        tell(world, DISCOVER_QUEUES, &elder, 1);
        sharing_answered(world->sharing, world->question, set, &world->now);
}

static void it_asks_the_master_where_that_was_found(void **state) {
        _cleanup_(end) World world;
        const char *const share[3] = { "b", "z" };
        _cleanup_(worker_set_unrefp) WorkerSet *set = set_of(share);
        begin(&world, true);
        pass(&world, 0);
        tell(&world, DISCOVER_QUEUES, &elder, 1);
        assert_string_equal(world.master, "elder:1");
        assert_false(sharing_is_master(world.sharing));
        assert_string_equal(world.url, "http://elder:1");
        sharing_answered(world.sharing, world.question, set, &world.now);
        assert_int_equal(n_shared(&world), 1); /* what it has not configured it does not get */
        assert_true(worker_set_has(sharing_share(world.sharing), "b"));
        assert_int_equal(world.n_looks[DISCOVER_WORKERS], 0);
}

static void without_an_answer_it_keeps_what_it_has_and_asks_again(void **state) {
        _cleanup_(end) World world;
        const char *const share[3] = { "a" };
        _cleanup_(worker_set_unrefp) WorkerSet *set = set_of(share);
        begin_with_share(&world, set);

        pass(&world, INTERVAL);
        tell(&world, DISCOVER_QUEUES, &elder, 1);
        sharing_answered(world.sharing, world.question, NULL, &world.now);
        assert_int_equal(n_shared(&world), 1);

        world.look_error = -EIO;
        pass(&world, INTERVAL);
        assert_int_equal(sharing_deadline(world.sharing), START + 3 * INTERVAL);

        world.look_error = 0;
        world.ask_error = -ENOMEM;
        pass(&world, INTERVAL);
        tell(&world, DISCOVER_QUEUES, &elder, 1);
        assert_int_equal(sharing_deadline(world.sharing), START + 4 * INTERVAL);
        assert_int_equal(n_shared(&world), 1);
}

static void a_set_from_before_it_asked_is_no_answer(void **state) {
        _cleanup_(end) World world;
        begin(&world, true);
        pass(&world, 0);
        tell_since(&world, DISCOVER_QUEUES, &elder, 1, START - 1);
        assert_int_equal(world.n_asked, 0);
        tell(&world, DISCOVER_QUEUES, &elder, 1);
        assert_int_equal(world.n_asked, 1);
}

static void whoever_tells_unasked_that_the_master_is_gone_is_believed_at_once(void **state) {
        _cleanup_(end) World world;
        const char *const share[3] = { "a" };
        _cleanup_(worker_set_unrefp) WorkerSet *set = set_of(share);
        begin_with_share(&world, set);
        pass(&world, SEC);
        assert_int_equal(sharing_deadline(world.sharing), START + INTERVAL);
        tell(&world, DISCOVER_QUEUES, &elder, 1); /* nothing new */
        assert_int_equal(sharing_deadline(world.sharing), START + INTERVAL);
        tell(&world, DISCOVER_QUEUES, &younger, 1);
        assert_string_equal(world.master, "own:1");
        assert_int_equal(sharing_deadline(world.sharing), START + SEC);
        pass(&world, 0);
        assert_int_equal(world.n_looks[DISCOVER_QUEUES], 2);
}

static void a_set_that_could_not_be_found_out_changes_no_share(void **state) {
        _cleanup_(end) World world;
        begin(&world, true);
        pass(&world, 0);
        world.told(DISCOVER_QUEUES, NULL, 0, world.now.boottime_usec, &world.now, world.listener);
        assert_null(world.sharing->master);
        assert_int_equal(n_shared(&world), 0);
        assert_int_equal(sharing_deadline(world.sharing), START + INTERVAL);
}

static void the_answer_to_a_question_of_before_counts_for_nothing(void **state) {
        _cleanup_(end) World world;
        const char *const share[3] = { "a" };
        _cleanup_(worker_set_unrefp) WorkerSet *set = set_of(share);
        begin(&world, true);
        pass(&world, 0);
        tell(&world, DISCOVER_QUEUES, &elder, 1);
        unsigned question = world.question;
        sharing_toggle(world.sharing, false, &world.now);
        assert_int_equal(n_shared(&world), 2);
        sharing_toggle(world.sharing, true, &world.now);
        pass(&world, SEC);
        sharing_answered(world.sharing, question, set, &world.now);
        assert_int_equal(n_shared(&world), 2);
        tell(&world, DISCOVER_QUEUES, &elder, 1);
        sharing_answered(world.sharing, world.question, set, &world.now);
        assert_int_equal(n_shared(&world), 1);
}

static void a_queue_that_is_about_to_end_is_not_the_master(void **state) {
        _cleanup_(end) World world;
        begin(&world, true);
        world.version = "not_discoverable_5";
        pass(&world, 0);
        tell(&world, DISCOVER_QUEUES, &younger, 1);
        assert_string_equal(world.master, "younger:1");
        assert_int_equal(world.n_asked, 1);
}

static void a_discovery_that_finds_the_queue_itself_finds_nobody(void **state) {
        static const Other found[] = {
                { "localhost:1", "5", OWN_ID, { "a", "b" } },
                { "younger:1", "1", OTHER_ID, { "a", "b" } },
        };
        _cleanup_(end) World world;
        begin(&world, true);
        pass(&world, 0);
        tell(&world, DISCOVER_QUEUES, found, 2);
        assert_int_equal(world.sharing->n_seen, 2);
        assert_string_equal(world.sharing->seen[0].address, "own:1");
        tell(&world, DISCOVER_WORKERS, found, 2);
        assert_int_equal(world.sharing->cache.n_queues, 2);
        assert_int_equal(n_shared(&world), 1);
}

/* ── the master's side ── */

static void all_who_ask_meanwhile_are_answered_by_one_look(void **state) {
        _cleanup_(end) World world;
        begin(&world, true);
        pass(&world, 0);
        tell(&world, DISCOVER_QUEUES, &younger, 1);
        ask(&world, "younger", &younger);
        assert_int_equal(world.n_answers, 0);
        assert_int_equal(world.n_looks[DISCOVER_WORKERS], 1);
        tell(&world, DISCOVER_WORKERS, &younger, 1);
        assert_int_equal(world.n_answers, 1);
        assert_string_equal(world.answered, "younger");
        assert_int_equal(world.answer->n_ids, 1);
        assert_int_equal(n_shared(&world), 1);
        assert_false(worker_set_has(sharing_share(world.sharing), world.answer->ids[0]));

        pass(&world, SEC); /* the split is still good */
        ask(&world, "again", &younger);
        assert_string_equal(world.answered, "again");
        assert_int_equal(world.n_looks[DISCOVER_WORKERS], 1);
}

static void who_waits_no_longer_is_not_answered(void **state) {
        _cleanup_(end) World world;
        static const char gone[] = "gone";
        begin(&world, false);
        ask(&world, gone, &younger);
        sharing_forget_asker(world.sharing, gone);
        tell(&world, DISCOVER_WORKERS, &younger, 1);
        assert_int_equal(world.n_answers, 0);
        assert_int_equal(world.sharing->n_askers, 0);
}

static void a_queue_that_does_not_tell_its_workers_has_those_of_last_time(void **state) {
        static const Other silent = { "younger:1", "1", OTHER_ID, {} };
        _cleanup_(end) World world;
        begin(&world, false);
        ask(&world, "first", &younger);
        tell(&world, DISCOVER_WORKERS, &younger, 1);
        pass(&world, TTL);
        ask(&world, "second", &younger);
        tell(&world, DISCOVER_WORKERS, &silent, 1);
        assert_int_equal(world.n_answers, 2);
        assert_int_equal(world.answer->n_ids, 1);
}

static void a_stranger_gets_nothing_and_is_told_of(void **state) {
        static const Other stranger = { "stranger:1", "1", NULL, { "a" } };
        _cleanup_(end) World world;
        begin(&world, false);
        ask(&world, "stranger", &stranger);
        tell(&world, DISCOVER_WORKERS, &younger, 1);
        assert_int_equal(world.n_strangers, 1);
        assert_int_equal(world.answer->n_ids, 0);
}

static void a_set_that_is_told_unasked_is_split_and_an_older_one_is_not(void **state) {
        _cleanup_(end) World world;
        begin(&world, false);
        pass(&world, SEC);
        tell(&world, DISCOVER_WORKERS, &younger, 1);
        tell_since(&world, DISCOVER_WORKERS, NULL, 0, START);
        assert_int_equal(world.sharing->cache.n_queues, 2);
        ask(&world, "younger", &younger);
        assert_int_equal(world.n_looks[DISCOVER_WORKERS], 0);
        assert_int_equal(world.answer->n_ids, 1);
}

static void when_the_queues_cannot_be_found_out_who_waits_is_told_so(void **state) {
        _cleanup_(end) World world;
        begin(&world, false);
        world.look_error = -EIO;
        ask(&world, "first", &younger);
        assert_int_equal(world.n_answers, 1);
        assert_null(world.answer);

        world.look_error = 0;
        ask(&world, "second", &younger);
        world.told(DISCOVER_WORKERS, NULL, 0, world.now.boottime_usec, &world.now, world.listener);
        assert_int_equal(world.n_answers, 2);
        assert_null(world.answer);
        assert_int_equal(world.n_looks[DISCOVER_WORKERS], 1); /* who waited asks again by itself */
}

static void so_many_may_wait_and_no_more(void **state) {
        _cleanup_(end) World world;
        begin(&world, false);
        for (size_t i = 0; i < SHARING_ASKERS_MAX; i++)
                ask(&world, "one of many", &younger);
        SharingQueue queue = queue_of(&younger);
        assert_int_equal(sharing_ask(world.sharing, NULL, &queue, &world.now), -EBUSY);
        tell(&world, DISCOVER_WORKERS, &younger, 1);
        assert_int_equal(world.n_answers, SHARING_ASKERS_MAX);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_queue_alone_is_master_and_has_all_its_workers),
                cmocka_unit_test(it_asks_the_master_where_that_was_found),
                cmocka_unit_test(without_an_answer_it_keeps_what_it_has_and_asks_again),
                cmocka_unit_test(a_set_from_before_it_asked_is_no_answer),
                cmocka_unit_test(whoever_tells_unasked_that_the_master_is_gone_is_believed_at_once),
                cmocka_unit_test(a_set_that_could_not_be_found_out_changes_no_share),
                cmocka_unit_test(the_answer_to_a_question_of_before_counts_for_nothing),
                cmocka_unit_test(a_queue_that_is_about_to_end_is_not_the_master),
                cmocka_unit_test(a_discovery_that_finds_the_queue_itself_finds_nobody),
                cmocka_unit_test(all_who_ask_meanwhile_are_answered_by_one_look),
                cmocka_unit_test(who_waits_no_longer_is_not_answered),
                cmocka_unit_test(a_queue_that_does_not_tell_its_workers_has_those_of_last_time),
                cmocka_unit_test(a_stranger_gets_nothing_and_is_told_of),
                cmocka_unit_test(a_set_that_is_told_unasked_is_split_and_an_older_one_is_not),
                cmocka_unit_test(when_the_queues_cannot_be_found_out_who_waits_is_told_so),
                cmocka_unit_test(so_many_may_wait_and_no_more),
        };
        return cmocka_run_group_tests_name("sharing", tests, NULL, NULL);
}
