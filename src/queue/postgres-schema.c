/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The tables are cut as those of the store in a local file are (io/task-store-schema.c), for the same
 * reasons. Besides, outputs are not compressed, for parts of them are read; names are compared byte by byte,
 * whatever the database's language; and what is rewritten again and again has room in its page for its next
 * version.
 *
 * A step runs while members of the version before are at work, and for them everything must stay as it was:
 * it adds, and only the next one may take away. */

#include "queue/postgres-schema.h"

#include "base/text.h"

/* What was released is never changed: add a step. */
static const char *const steps[] = {
        "CREATE TABLE tasks ("
        "        seq bigint PRIMARY KEY,"
        "        task_id text COLLATE \"C\" NOT NULL UNIQUE,"
        "        state text COLLATE \"C\" NOT NULL,"
        "        priority bigint NOT NULL,"
        "        retries bigint NOT NULL,"
        "        losses bigint NOT NULL,"
        "        stop_requested boolean NOT NULL,"
        "        submit_usec bigint NOT NULL,"
        "        queue_usec bigint NOT NULL,"
        "        not_before_usec bigint NOT NULL,"
        "        finish_usec bigint NOT NULL,"
        "        result text) WITH (fillfactor = 70);"
        "CREATE INDEX tasks_by_state ON tasks (state, seq);"
        "CREATE INDEX tasks_by_finish ON tasks (finish_usec, seq) WHERE finish_usec > 0;"
        /* Numbers are taken in ranges, each by one leader. */
        "CREATE SEQUENCE task_ranges;"
        "CREATE TABLE specs ("
        "        seq bigint PRIMARY KEY,"
        "        spec text NOT NULL);"
        "CREATE TABLE labels ("
        "        label text COLLATE \"C\" NOT NULL," /* key=value */
        "        seq bigint NOT NULL,"
        "        PRIMARY KEY (label, seq));"
        "CREATE INDEX labels_by_seq ON labels (seq);"
        "CREATE TABLE attempts ("
        "        seq bigint NOT NULL,"
        "        number bigint NOT NULL,"
        "        state text NOT NULL,"
        "        worker_id text,"
        "        runner_task_id text,"
        "        runner_instance text,"
        "        place_usec bigint NOT NULL,"
        "        finish_usec bigint NOT NULL,"
        "        unanswered boolean NOT NULL,"
        "        attempt text,"
        "        PRIMARY KEY (seq, number)) WITH (fillfactor = 70);"
        "CREATE TABLE outputs ("
        "        seq bigint NOT NULL,"
        "        number bigint NOT NULL,"
        "        stream smallint NOT NULL,"
        "        position bigint NOT NULL,"
        "        bytes bytea NOT NULL,"
        "        PRIMARY KEY (seq, number, stream, position));"
        "ALTER TABLE outputs ALTER bytes SET STORAGE EXTERNAL;"
        "CREATE TABLE dependencies ("
        "        on_id text COLLATE \"C\" NOT NULL,"
        "        seq bigint NOT NULL,"
        "        failed boolean NOT NULL,"
        "        PRIMARY KEY (on_id, seq));"
        "CREATE INDEX dependencies_by_seq ON dependencies (seq, on_id);"
        "CREATE TABLE workers ("
        "        worker_id text COLLATE \"C\" PRIMARY KEY,"
        "        disabled boolean NOT NULL,"
        "        joined boolean NOT NULL,"
        "        leaving boolean NOT NULL,"
        "        url text,"
        "        before_url text,"
        "        token text);"
        "CREATE TABLE facts ("
        "        key text COLLATE \"C\" PRIMARY KEY,"
        "        value text NOT NULL);"
        "INSERT INTO facts VALUES ('queue-id', replace(gen_random_uuid()::text, '-', ''));"
        "CREATE TABLE member ("
        "        id text COLLATE \"C\" PRIMARY KEY,"
        "        url text NOT NULL,"
        "        address text NOT NULL,"
        "        version text NOT NULL,"
        "        secret text NOT NULL,"
        "        draining boolean NOT NULL DEFAULT false,"
        "        expires timestamptz NOT NULL,"
        "        epoch bigint NOT NULL DEFAULT 0) WITH (fillfactor = 50);" /* under which it led last */
        /* One row: which member leads, its how-manieth leading that is, which of its writes was the last, by
         * which session, and the address of the queue, which stays when another leads. */
        "CREATE TABLE lead ("
        "        one boolean PRIMARY KEY DEFAULT true CHECK (one),"
        "        member text,"
        "        epoch bigint NOT NULL DEFAULT 0,"
        "        written bigint NOT NULL DEFAULT 0,"
        "        backend integer,"
        "        address text) WITH (fillfactor = 10);"
        "INSERT INTO lead DEFAULT VALUES;"
        /* The fence before each write. */
        "CREATE FUNCTION lead_write(my_epoch bigint, number bigint) RETURNS void LANGUAGE plpgsql AS $f$ BEGIN"
        "        UPDATE lead SET written = number WHERE epoch = my_epoch AND written = number - 1;"
        "        IF NOT FOUND THEN"
        "                RAISE EXCEPTION 'another member leads' USING ERRCODE = 'DG001';"
        "        END IF;"
        "END $f$;"
        /* The leader's session that writes from now on: the one before it, which may still be about to write,
         * is ended first. How many writes there were. */
        "CREATE FUNCTION lead_begin(my_epoch bigint) RETURNS bigint LANGUAGE plpgsql AS $f$"
        "DECLARE before integer; number bigint; BEGIN"
        "        SELECT a.pid INTO before FROM lead JOIN pg_stat_activity a ON a.pid = lead.backend"
        "        WHERE epoch = my_epoch AND a.pid <> pg_backend_pid() AND a.usename = session_user"
        "        AND a.datname = current_database()"
        "        AND a.application_name = current_setting('application_name');"
        "        IF FOUND AND NOT pg_terminate_backend(before, 5000) THEN"
        "                RAISE EXCEPTION 'the session before this one does not end' USING ERRCODE = '55006';"
        "        END IF;"
        "        UPDATE lead SET backend = pg_backend_pid() WHERE epoch = my_epoch RETURNING written INTO number;"
        "        IF NOT FOUND THEN"
        "                RAISE EXCEPTION 'another member leads' USING ERRCODE = 'DG001';"
        "        END IF;"
        "        RETURN number;"
        "END $f$;"
        /* A leader that was stopped in the middle of a transaction holds the row of the lead, and no timeout
         * ends a session that waits for more of its statements. So whoever wants to take the lead of a member
         * that is not alive ends that session first. Before each UPDATE that names the member, be it to find
         * that there is nothing to take. One that has left in order is about to end its session itself, and
         * tells those who still wait for it sooner if the fence does that. */
        "CREATE FUNCTION lead_end_session() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN"
        "        PERFORM pg_terminate_backend(a.pid, 200) FROM lead"
        "        JOIN pg_stat_activity a ON a.pid = lead.backend"
        "        WHERE lead.member IS NOT NULL"
        "        AND NOT EXISTS (SELECT FROM member WHERE id = lead.member AND expires > clock_timestamp())"
        "        AND a.pid <> pg_backend_pid() AND a.usename = session_user"
        "        AND a.datname = current_database();"
        "        RETURN NULL;"
        "END $f$;"
        "CREATE TRIGGER lead_end_session BEFORE UPDATE OF member ON lead"
        "        FOR EACH STATEMENT EXECUTE FUNCTION lead_end_session();"
        /* For a change of what must be there. */
        "CREATE FUNCTION must_be_there(n_rows bigint) RETURNS void LANGUAGE plpgsql AS $f$ BEGIN"
        "        IF n_rows = 0 THEN"
        "                RAISE EXCEPTION 'there is no such task' USING ERRCODE = 'DG003';"
        "        END IF;"
        "END $f$;",
};

#define N_STEPS (sizeof(steps) / sizeof(*steps))

/* Of the advisory lock: "dagg". */
#define LOCK_NUMBER "1684105063"

/* All in one transaction, so that another member sees a step whole or not at all. Two that create the same
 * table at once would disturb each other, but for the lock. */
static const char begin_text[] = "BEGIN;"
                                 "SELECT pg_advisory_xact_lock(" LOCK_NUMBER ");"
                                 "CREATE TABLE IF NOT EXISTS schema_version (version integer NOT NULL);"
                                 "DO $steps$ DECLARE there integer; BEGIN"
                                 "        SELECT coalesce(max(version), 0) INTO there FROM schema_version;";

/* THERE is the version of the tables, or 0. */
static int append_checks(Text *text, size_t n_steps) {
        return text_appendf(
                        text,
                        "IF current_setting('server_encoding') <> 'UTF8' THEN"
                        "        RAISE EXCEPTION 'the database has the encoding %%, UTF8 is needed',"
                        "                current_setting('server_encoding') USING ERRCODE = 'DG002';"
                        "END IF;"
                        "IF there > %zu THEN RAISE EXCEPTION 'the tables in the database are of version %%, "
                        "which a later daggyd made: this one knows version %zu', there "
                        "USING ERRCODE = 'DG002'; END IF;",
                        n_steps + 1,
                        n_steps);
}

static int append_steps(Text *text, size_t n_steps) {
        int r = append_checks(text, n_steps);
        for (size_t i = 0; r >= 0 && i < n_steps; i++)
                r = text_appendf(text, "IF there < %zu THEN %s END IF;", i + 1, steps[i]);
        if (r >= 0)
                r = text_appendf(
                                text,
                                "IF there < %zu THEN DELETE FROM schema_version;"
                                "INSERT INTO schema_version VALUES (%zu); END IF;",
                                n_steps,
                                n_steps);
        return r;
}

int postgres_schema_setup_steps(size_t n_steps, char **ret) {
        _cleanup_(text_done) Text text = {};
        int r = text_append(&text, begin_text);
        if (r >= 0)
                r = append_steps(&text, n_steps < N_STEPS ? n_steps : N_STEPS);
        if (r >= 0)
                r = text_append(&text, "END $steps$; COMMIT;");
        if (r < 0)
                return r;
        *ret = TAKE_PTR(text.data);
        return 0;
}

int postgres_schema_setup(char **ret) {
        return postgres_schema_setup_steps(N_STEPS, ret);
}

int postgres_schema_check(char **ret) {
        _cleanup_(text_done) Text text = {};
        int r = text_append(
                        &text,
                        "DO $check$ DECLARE there integer := 0; BEGIN"
                        "        IF to_regclass('schema_version') IS NOT NULL THEN"
                        "                SELECT coalesce(max(version), 0) INTO there FROM schema_version;"
                        "        ELSIF current_schema IS NULL OR"
                        "              NOT has_schema_privilege(current_schema, 'CREATE') THEN"
                        "                RAISE EXCEPTION '% may not make tables there', current_user"
                        "                        USING ERRCODE = '42501';"
                        "        END IF;");
        if (r >= 0)
                r = append_checks(&text, N_STEPS);
        if (r >= 0)
                r = text_append(&text, "END $check$;");
        if (r < 0)
                return r;
        *ret = TAKE_PTR(text.data);
        return 0;
}
