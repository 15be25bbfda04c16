/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One session, which is listening to what the others have to say. It is made anew whenever it is lost, or
 * when anything fails in it: it may be at a server that has become a standby. */

#include "queue/members.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>
#include <syslog.h>

#include "base/log.h"
#include "base/text.h"
#include "core/cluster/membership.h"
#include "core/http/token.h"
#include "io/loop.h"
#include "io/postgres-result.h"
#include "io/postgres.h"
#include "io/random-id.h"
#include "queue/postgres-schema.h"

#define CHANNEL      "daggyd_lead"
#define CONNECT_USEC (10 * USEC_PER_SEC) /* some hosts may have to be waited for before one answers */

typedef enum Statement {
        BEAT,
        TAKE,
        READ,
        CLEAN,
        LEAVE,
        _STATEMENT_MAX,
} Statement;

/* Each is a transaction of its own. A row that expires in more than twice the longest ttl is of a time when
 * the database's clock was another one, and counts as expired. */
static const PostgresStatement statements[_STATEMENT_MAX] = {
        /* The others look at once when there is a new one: its requests are to be let in. */
        [BEAT] = { .sql = "WITH beat AS (INSERT INTO member (id, url, address, version, secret, draining, expires)"
                          " VALUES ($1::text, $2, $3, $4, $5, $6,"
                          " clock_timestamp() + $7::bigint * interval '1 microsecond')"
                          " ON CONFLICT (id) DO UPDATE SET url = excluded.url, address = excluded.address,"
                          " version = excluded.version, secret = excluded.secret,"
                          " draining = excluded.draining, expires = excluded.expires RETURNING xmax = 0 AS is_new)"
                          " SELECT pg_notify('" CHANNEL "', $1::text) FROM beat WHERE is_new" },

        /* $2: whether this member leads by its own account; $3: the epoch under which it did last. If it does
         * not, it has given up what it led, and takes it anew or frees it; whether it leads under the epoch
         * that is there is for itself to see, since a heartbeat may arrive late. Nobody waits for the row
         * unless it is to be taken; if it has changed by then, another one was quicker. */
        [TAKE] = { .sql = "WITH taken AS (UPDATE lead SET member = CASE WHEN $4::boolean THEN $1::text END,"
                          " epoch = greatest(lead.epoch, $3::bigint) + 1, written = 0, backend = NULL,"
                          " address = coalesce(nullif(lead.address, ''),"
                          " CASE WHEN $4::boolean THEN $5::text END)"
                          " FROM (SELECT epoch, member FROM lead) AS seen"
                          " WHERE lead.epoch = seen.epoch AND lead.member IS NOT DISTINCT FROM seen.member"
                          " AND CASE WHEN lead.member = $1::text THEN NOT $2::boolean"
                          " ELSE $4::boolean AND NOT EXISTS (SELECT FROM member WHERE id = lead.member"
                          " AND expires > clock_timestamp()"
                          " AND expires < clock_timestamp() + interval '600 s') END RETURNING lead.epoch),"
                          " noted AS (UPDATE member SET epoch = taken.epoch FROM taken"
                          " WHERE id = $1::text AND $4::boolean)"
                          " SELECT pg_notify('" CHANNEL "', $1::text) FROM taken" },

        [READ] = { .sql = "SELECT member.id, url, member.address, version, secret, draining,"
                          " expires > clock_timestamp() AND expires < clock_timestamp() + interval '600 s',"
                          " (extract(epoch FROM least(greatest(expires, 'epoch'), '9999-01-01')) * 1000000)::bigint,"
                          " lead.member IS NOT DISTINCT FROM member.id, lead.epoch, member.epoch, lead.address,"
                          " (extract(epoch FROM greatest(least(expires, clock_timestamp() + interval '600 s'),"
                          " clock_timestamp()) - clock_timestamp()) * 1000000)::bigint"
                          " FROM lead LEFT JOIN member ON true ORDER BY member.id LIMIT 1000" },

        [CLEAN] = { .sql = "DELETE FROM member WHERE expires < clock_timestamp() - interval '10 minutes'" },

        /* In this order: the session of a leader whose row is gone would be ended (lead_end_session()). */
        [LEAVE] = { .sql = "WITH freed AS (UPDATE lead SET member = NULL WHERE member = $1::text RETURNING 1),"
                           " gone AS (DELETE FROM member WHERE id = $1::text"
                           " AND (SELECT count(*) FROM freed) >= 0)"
                           " SELECT pg_notify('" CHANNEL "', $1::text)" },
};

/* Columns of READ. */
enum {
        COLUMN_ID,
        COLUMN_URL,
        COLUMN_ADDRESS,
        COLUMN_VERSION,
        COLUMN_SECRET,
        COLUMN_DRAINING,
        COLUMN_ALIVE,
        COLUMN_EXPIRES,
        COLUMN_LEADS,
        COLUMN_EPOCH, /* of the lead */
        COLUMN_LAST_EPOCH,
        COLUMN_QUEUE_ADDRESS,
        COLUMN_LEFT,
};

struct Members {
        sd_event *event;
        MembersOptions options; /* without its texts */
        char *id, *url, *address, *version, *secret;
        char *setup; /* of sessions */
        Membership membership;

        Postgres *postgres; /* NULL: none, until membership wants one */
        bool is_connected;
        bool has_schema; /* the session is one that beats; otherwise one that sees to the tables */
        int beat_error;  /* of the heartbeat under way */

        Member *list; /* its texts are owned; NULL before the first answer */
        size_t n_list;
        Member self;              /* as it stands in the list */
        usec_t leader_until_usec; /* another one that leads counts as living until then, CLOCK_BOOTTIME */
        char *queue_address;
        char *trouble;
        sd_event_source *timer;
};

/* ── who there is ── */

static void list_free(Member *list, size_t n) {
        for (size_t i = 0; i < n; i++) {
                free((char *) list[i].id);
                free((char *) list[i].url);
                free((char *) list[i].address);
                free((char *) list[i].version);
                free((char *) list[i].secret);
        }
        free(list);
}

static bool is_self(const Members *members, const Member *member) {
        return streq(member->id, members->id);
}

/* Of this one it is known better than by the database whether it leads. */
static void note_self(Members *members) {
        members->self.leading = members->membership.state == MEMBERSHIP_LEADING;
        members->self.epoch = members->membership.last_epoch;
        members->self.draining = members->membership.is_draining;
        for (size_t i = 0; i < members->n_list; i++)
                if (is_self(members, &members->list[i])) {
                        members->list[i].leading = members->self.leading;
                        members->list[i].epoch = members->self.epoch;
                }
}

static char *copy_value(const PostgresResult *result, size_t row, size_t column) {
        return strdup(postgres_result_text(result, row, column) ?: "");
}

static int read_member(const PostgresResult *result, size_t row, Member *ret) {
        *ret = (Member) {
                .id = copy_value(result, row, COLUMN_ID),
                .url = copy_value(result, row, COLUMN_URL),
                .address = copy_value(result, row, COLUMN_ADDRESS),
                .version = copy_value(result, row, COLUMN_VERSION),
                .secret = copy_value(result, row, COLUMN_SECRET),
                .draining = postgres_result_bool(result, row, COLUMN_DRAINING),
                .alive = postgres_result_bool(result, row, COLUMN_ALIVE),
                .expires_usec = postgres_result_u64(result, row, COLUMN_EXPIRES),
        };
        ret->leading = ret->alive && postgres_result_bool(result, row, COLUMN_LEADS);
        ret->epoch = postgres_result_u64(result, row, COLUMN_LAST_EPOCH);
        return ret->id && ret->url && ret->address && ret->version && ret->secret ? 0 : -ENOMEM;
}

static int take_list(Members *members, const PostgresResult *result) {
        size_t n = postgres_result_n_rows(result);
        Member *list = calloc(n + 1, sizeof(Member));
        if (!list)
                return -ENOMEM;
        if (!postgres_result_text(result, 0, COLUMN_ID)) /* somebody has deleted them all */
                n = 0;
        for (size_t i = 0; i < n; i++)
                if (read_member(result, i, &list[i]) < 0) {
                        list_free(list, i + 1);
                        return -ENOMEM;
                }
        list_free(members->list, members->n_list);
        members->list = list;
        members->n_list = n;
        return 0;
}

static int take_queue_address(Members *members, const PostgresResult *result) {
        const char *address = postgres_result_text(result, 0, COLUMN_QUEUE_ADDRESS);
        if (!address || streq(address, "") || streq_null(address, members->queue_address))
                return 0;
        char *copy = strdup(address);
        if (!copy)
                return -ENOMEM;
        free(members->queue_address);
        members->queue_address = copy;
        return 0;
}

static MembershipAnswer answer_of(const Members *members, const PostgresResult *result) {
        MembershipAnswer answer = { .epoch = postgres_result_u64(result, 0, COLUMN_EPOCH) };
        for (size_t i = 0; i < members->n_list; i++) {
                if (!members->list[i].leading)
                        continue;
                int64_t left_usec = postgres_result_i64(result, i, COLUMN_LEFT);
                answer.leads = is_self(members, &members->list[i]);
                answer.leader_left_usec = left_usec > 0 ? (usec_t) left_usec : 0;
        }
        return answer;
}

/* ── what follows from it ── */

static void rearm(Members *members);

static void note_trouble(Members *members, int r, const char *message) {
        char *trouble = NULL;
        if (!message || streq(message, ""))
                message = strerror(r < 0 ? -r : EIO);
        (void) text_format(&trouble, "the database does not answer: %s", message);
        if (!streq_null(trouble, members->trouble))
                log_line(LOG_WARNING, "Cannot reach the other members of the queue: %s", message);
        free(members->trouble);
        members->trouble = trouble;
}

static void note_good(Members *members) {
        if (!members->trouble)
                return;
        log_line(LOG_INFO, "The other members of the queue can be reached again");
        free(members->trouble);
        members->trouble = NULL;
}

/* The session is of no use any more. */
static void fail(Members *members, int r, const char *message) {
        note_trouble(members, r, message);
        members->postgres = postgres_free(members->postgres);
        membership_failed(&members->membership, usec_now(CLOCK_BOOTTIME));
        note_self(members);
        members->options.changed(members->options.userdata);
        rearm(members);
}

static void tell_change(Members *members, MembershipChange change) {
        const MembersOptions *options = &members->options;
        note_self(members);
        if (change == MEMBERSHIP_LEADS) {
                log_line(LOG_INFO, "This member leads from now on, epoch %" PRIu64, members->self.epoch);
                options->lead(members->self.epoch, options->userdata);
        } else if (change == MEMBERSHIP_LOST) {
                log_line(LOG_WARNING, "This member does not lead any more");
                options->lost(options->userdata);
        }
        options->changed(options->userdata);
}

static void on_read(int r, const PostgresResult *result, void *userdata) {
        Members *members = userdata;
        usec_t now_usec = usec_now(CLOCK_BOOTTIME);
        if (r >= 0 && members->beat_error < 0)
                r = members->beat_error;
        if (r >= 0 && postgres_result_n_rows(result) == 0)
                r = -EIO; /* not even the row of the lead */
        if (r >= 0)
                r = take_list(members, result);
        if (r >= 0)
                r = take_queue_address(members, result);
        if (r == -ECONNRESET) /* which is told in a moment */
                return;
        if (r < 0) {
                fail(members, r, postgres_error_message(members->postgres));
                return;
        }
        note_good(members);
        MembershipAnswer answer = answer_of(members, result);
        members->leader_until_usec = usec_add(now_usec, answer.leader_left_usec);
        tell_change(members, membership_answered(&members->membership, &answer, now_usec));
        rearm(members);
}

static void on_beat(int r, const PostgresResult *result, void *userdata) {
        Members *members = userdata;
        members->beat_error = r;
}

/* The last that is told. */
static void has_left(Members *members) {
        members->postgres = postgres_free(members->postgres);
        rearm(members);
        members->options.left(members->options.userdata);
}

static void on_left(int r, const PostgresResult *result, void *userdata) {
        Members *members = userdata;
        if (r == -ECONNRESET)
                return;
        if (r < 0) {
                fail(members, r, postgres_error_message(members->postgres));
                return;
        }
        membership_left(&members->membership);
        has_left(members);
}

/* ── what is sent ── */

/* As a transaction of its own, of which END hears whether it is on disk. */
static int execute(
                Members *members,
                Statement statement,
                const PostgresValue *values,
                size_t n_values,
                PostgresDone done,
                PostgresDone end) {
        int r = postgres_execute(members->postgres, statement, values, n_values, done, members);
        return r < 0 ? r : postgres_sync(members->postgres, end, members);
}

static int send_beat(Members *members) {
        const Membership *membership = &members->membership;
        char ttl[POSTGRES_NUMBER_SIZE], last_epoch[POSTGRES_NUMBER_SIZE];
        const PostgresValue row[] = {
                postgres_text(members->id),
                postgres_text(members->url),
                postgres_text(members->address),
                postgres_text(members->version),
                postgres_text(members->secret),
                postgres_bool(membership->is_draining),
                postgres_number((int64_t) membership->ttl_usec, ttl),
        };
        const PostgresValue lead[] = {
                postgres_text(members->id),
                postgres_bool(membership->epoch > 0),
                postgres_number((int64_t) membership->last_epoch, last_epoch),
                postgres_bool(membership_may_take(membership)),
                postgres_text(members->address),
        };
        members->beat_error = 0;
        int r = execute(members, BEAT, row, sizeof(row) / sizeof(*row), NULL, on_beat);
        if (r >= 0) /* an error here is one of the lock: the next heartbeat tries again */
                r = execute(members, TAKE, lead, sizeof(lead) / sizeof(*lead), NULL, NULL);
        if (r >= 0)
                r = execute(members, READ, NULL, 0, on_read, NULL);
        if (r >= 0 && membership->state == MEMBERSHIP_LEADING)
                r = execute(members, CLEAN, NULL, 0, NULL, NULL);
        return r;
}

static int send_goodbye(Members *members) {
        const PostgresValue id[] = { postgres_text(members->id) };
        return execute(members, LEAVE, id, sizeof(id) / sizeof(*id), NULL, on_left);
}

/* What is under way goes out. */
static void send_due(Members *members) {
        bool leaves = members->membership.state == MEMBERSHIP_LEAVING;
        membership_sent(&members->membership, usec_now(CLOCK_BOOTTIME));
        int r = leaves ? send_goodbye(members) : send_beat(members);
        if (r < 0)
                fail(members, r, NULL);
}

/* ── the session ── */

static void on_connected(void *userdata) {
        Members *members = userdata;
        members->is_connected = true;
        send_due(members);
}

static void on_lost(int r, const char *message, void *userdata) {
        fail(userdata, r, message);
}

static void on_notified(const char *channel, const char *payload, void *userdata) {
        Members *members = userdata;
        if (streq(payload, members->id))
                return;
        membership_hurry(&members->membership, usec_now(CLOCK_BOOTTIME));
        rearm(members);
}

static int connect_now(Members *members) {
        usec_t ttl_usec = members->membership.ttl_usec;
        members->is_connected = false;
        return postgres_new(
                        members->event,
                        &(PostgresOptions) {
                                        .conninfo = members->options.config->conninfo,
                                        .password_file = members->options.config->password_file,
                                        .application_name = "daggyd member",
                                        .setup = members->setup,
                                        .statements = statements,
                                        .n_statements = _STATEMENT_MAX,
                                        .connect_usec = CONNECT_USEC,
                                        .answer_usec = ttl_usec / 4,
                                        .connected = on_connected,
                                        .lost = on_lost,
                                        .notified = on_notified,
                                        .userdata = members,
                        },
                        &members->postgres);
}

/* ── turns ── */

/* What is under way goes out as soon as there is a session. */
static void reach(Members *members) {
        int r = 0;
        if (!members->postgres)
                r = connect_now(members);
        else if (members->is_connected)
                send_due(members);
        if (r < 0)
                fail(members, r, NULL);
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata) {
        Members *members = userdata;
        switch (membership_step(&members->membership, usec_now(CLOCK_BOOTTIME))) {
        case MEMBERSHIP_WAIT:
                break;
        case MEMBERSHIP_BEAT:
        case MEMBERSHIP_SAY_GOODBYE:
                reach(members);
                break;
        case MEMBERSHIP_STOP_LEADING:
                tell_change(members, MEMBERSHIP_LOST);
                break;
        case MEMBERSHIP_GONE:
                has_left(members);
                return 0;
        }
        rearm(members);
        return 0;
}

static void rearm(Members *members) {
        int r = loop_set_timer(
                        members->event,
                        &members->timer,
                        membership_deadline(&members->membership),
                        on_time,
                        members,
                        "heartbeat");
        if (r >= 0 && members->timer)
                r = sd_event_source_set_priority(members->timer, LOOP_PRIORITY_BUS);
        if (r < 0)
                log_errno(LOG_ERR, r, "Cannot set the timer of the heartbeat");
}

/* ── for others ── */

/* What a session begins with. Who waits for the row of the lead must not wait for long. */
static int make_setup(usec_t ttl_usec, char **ret) {
        _cleanup_(freep) char *schema = NULL;
        int r = postgres_schema_setup(&schema);
        return r < 0 ? r :
                       text_format(ret,
                                   "%s SET lock_timeout = %" PRIu64
                                   "; SET default_transaction_isolation = 'read committed'; LISTEN " CHANNEL,
                                   schema,
                                   ttl_usec / 10 / USEC_PER_MSEC);
}

static int copy_texts(Members *members, const MembersOptions *options) {
        members->url = strdup(options->url);
        members->address = strdup(options->address);
        members->version = strdup(options->version);
        if (!members->url || !members->address || !members->version)
                return -ENOMEM;
        int r = random_id_new(&members->id);
        if (r >= 0)
                r = random_id_new(&members->secret);
        if (r < 0)
                return r;
        members->self = (Member) {
                .id = members->id,
                .url = members->url,
                .address = members->address,
                .version = members->version,
                .secret = members->secret,
                .alive = true,
        };
        return make_setup(options->ttl_usec, &members->setup);
}

int members_new(sd_event *event, const MembersOptions *options, Members **ret) {
        _cleanup_(members_freep) Members *members = calloc(1, sizeof(*members));
        if (!members)
                return -ENOMEM;
        members->event = sd_event_ref(event);
        members->options = *options;
        members->options.url = members->options.address = members->options.version = NULL;
        members->membership = membership_begin(options->ttl_usec, usec_now(CLOCK_BOOTTIME));
        int r = copy_texts(members, options);
        if (r < 0)
                return r;
        rearm(members);
        if (!members->timer)
                return -ENOMEM;
        *ret = TAKE_PTR(members);
        return 0;
}

Members *members_free(Members *members) {
        if (!members)
                return NULL;
        postgres_free(members->postgres);
        event_source_dropp(&members->timer);
        list_free(members->list, members->n_list);
        free(members->id);
        free(members->url);
        free(members->address);
        free(members->version);
        free(members->secret);
        free(members->setup);
        free(members->queue_address);
        free(members->trouble);
        sd_event_unref(members->event);
        free(members);
        return NULL;
}

size_t members_list(const Members *members, const Member **ret) {
        *ret = members->list ?: &members->self;
        return members->list ? members->n_list : 1;
}

const Member *members_self(const Members *members) {
        for (size_t i = 0; i < members->n_list; i++)
                if (is_self(members, &members->list[i]))
                        return &members->list[i];
        return &members->self;
}

const Member *members_leader(const Members *members) {
        usec_t now_usec = usec_now(CLOCK_BOOTTIME);
        if (membership_may_lead(&members->membership, now_usec))
                return members_self(members);
        for (size_t i = 0; i < members->n_list; i++)
                if (members->list[i].leading && !is_self(members, &members->list[i]))
                        return now_usec < members->leader_until_usec ? &members->list[i] : NULL;
        return NULL;
}

bool members_know_secret(const Members *members, const char *secret) {
        bool known = false;
        const Member *list;
        size_t n = members_list(members, &list), size = strlen(secret);
        for (size_t i = 0; i < n; i++)
                if (list[i].alive && !streq(list[i].secret, ""))
                        known |= token_matches(list[i].secret, secret, size);
        return known;
}

const char *members_queue_address(const Members *members) {
        return members->queue_address;
}

const char *members_trouble(const Members *members) {
        return members->trouble;
}

bool members_may_lead(const Members *members, usec_t boottime_usec) {
        return membership_may_lead(&members->membership, boottime_usec);
}

void members_drain(Members *members) {
        membership_drain(&members->membership, usec_now(CLOCK_BOOTTIME));
        note_self(members);
        rearm(members);
}

void members_leave(Members *members) {
        (void) membership_leave(&members->membership, usec_now(CLOCK_BOOTTIME));
        note_self(members);
        rearm(members);
}
