/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "postgres-server.h"

#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <grp.h>
#include <libpq-fe.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../unit/test.h"
#include "base/text.h"
#include "base/usec.h"

#define NOBODY        65534
#define ARGUMENTS_MAX 32
#define START_USEC    (60 * USEC_PER_SEC)
#define CHILDREN_MAX  256

bool postgres_server_find(PostgresServer *server) {
        glob_t found = {};
        *server = (PostgresServer) {};
        if (glob("/usr/lib/postgresql/*/bin/postgres", 0, NULL, &found) == 0 && found.gl_pathc > 0)
                (void) snprintf(server->binaries,
                                sizeof(server->binaries),
                                "%.*s",
                                (int) (strlen(found.gl_pathv[found.gl_pathc - 1]) - strlen("/postgres")),
                                found.gl_pathv[found.gl_pathc - 1]);
        globfree(&found);
        return server->binaries[0] != '\0';
}

/* In the child. What it says goes to a file in the folder. */
/* The programs look for each other beside the path that they were called by, or else in PATH, where they are
 * not on Debian. */
static _Noreturn void become(const PostgresServer *server, const char *name, const char *const *arguments) {
        char path[512];
        const char *called[ARGUMENTS_MAX + 1] = { path };
        for (size_t i = 1; arguments[i]; i++) {
                assert_true(i < ARGUMENTS_MAX);
                called[i] = arguments[i];
        }
        (void) snprintf(path, sizeof(path), "%s/log", server->folder);
        if (geteuid() == 0 && (setgroups(0, NULL) < 0 || setgid(NOBODY) < 0 || setuid(NOBODY) < 0))
                _exit(126);
        (void) prctl(PR_SET_PDEATHSIG, SIGQUIT);
        int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0 || chdir(server->folder) < 0)
                _exit(126);
        (void) snprintf(path, sizeof(path), "%s/%s", server->binaries, name);
        (void) execv(path, (char *const *) called);
        _exit(127);
}

static pid_t run(const PostgresServer *server, const char *name, const char *const *arguments) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
                become(server, name, arguments);
        return pid;
}

void postgres_server_conninfo(const PostgresServer *server, const char *database, char **ret) {
        assert_int_equal(text_format(ret, "host=%s dbname=%s user=daggyd", server->folder, database), 0);
}

void postgres_server_start(PostgresServer *server) {
        const char *const arguments[] = {
                "postgres",
                "-D",
                "data",
                "-k",
                server->folder,
                "-c",
                "listen_addresses=",
                "-c",
                "shared_buffers=16MB",
                NULL,
        };
        char *conninfo;
        usec_t deadline_usec = usec_now(CLOCK_BOOTTIME) + START_USEC;
        postgres_server_conninfo(server, "postgres", &conninfo);
        do {
                /* One that finds the remains of a server that was killed ends, until they are gone. */
                if (server->pid == 0 || waitpid(server->pid, NULL, WNOHANG) == server->pid)
                        server->pid = run(server, "postgres", arguments);
                assert_true(usec_now(CLOCK_BOOTTIME) < deadline_usec);
                (void) nanosleep(&(struct timespec) { .tv_nsec = 20 * 1000 * 1000 }, NULL);
        } while (PQping(conninfo) != PQPING_OK);
        free(conninfo);
}

/* Everybody is trusted but "secret". */
static void write_access(const PostgresServer *server) {
        char path[128];
        (void) snprintf(path, sizeof(path), "%s/data/pg_hba.conf", server->folder);
        FILE *file = fopen(path, "we");
        assert_non_null(file);
        assert_true(fputs("local all secret scram-sha-256\nlocal all all trust\n", file) >= 0);
        assert_int_equal(fclose(file), 0);
}

void postgres_server_begin(PostgresServer *server) {
        int status;
        const char *const arguments[] = {
                "initdb",           "-D", "data", "-U", "daggyd", "-A", "trust", "-N", "--encoding=UTF8",
                "--locale=C.UTF-8", NULL,
        };
        (void) snprintf(server->folder, sizeof(server->folder), "/var/tmp/test-postgres-XXXXXX");
        assert_non_null(mkdtemp(server->folder));
        if (geteuid() == 0)
                assert_int_equal(chown(server->folder, NOBODY, NOBODY), 0);
        pid_t pid = run(server, "initdb", arguments);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        write_access(server);
        postgres_server_start(server);
}

static size_t children(pid_t pid, pid_t found[static CHILDREN_MAX]) {
        char path[64], *end, text[4096];
        size_t n = 0;
        (void) snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
        FILE *file = fopen(path, "re");
        assert_non_null(file);
        text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
        (void) fclose(file);
        for (char *at = text; n < CHILDREN_MAX; at = end) {
                long child = strtol(at, &end, 10);
                if (end == at)
                        break;
                found[n++] = (pid_t) child;
        }
        return n;
}

void postgres_server_kill(PostgresServer *server) {
        pid_t found[CHILDREN_MAX];
        assert_int_equal(kill(server->pid, SIGSTOP), 0); /* it makes no new ones */
        size_t n = children(server->pid, found);
        for (size_t i = 0; i < n; i++)
                (void) kill(found[i], SIGKILL);
        assert_int_equal(kill(server->pid, SIGKILL), 0);
        assert_int_equal(waitpid(server->pid, NULL, 0), server->pid);
        server->pid = 0;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk) {
        return remove(path);
}

void postgres_server_end(PostgresServer *server) {
        if (server->pid > 0) {
                (void) kill(server->pid, SIGQUIT);
                (void) waitpid(server->pid, NULL, 0);
                server->pid = 0;
        }
        (void) nftw(server->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void ignore_notice(void *userdata, const PGresult *notice) {
}

long postgres_server_run(const PostgresServer *server, const char *database, const char *sql) {
        char *conninfo;
        postgres_server_conninfo(server, database, &conninfo);
        PGconn *connection = PQconnectdb(conninfo);
        (void) PQsetNoticeReceiver(connection, ignore_notice, NULL);
        PGresult *result = PQexec(connection, sql);
        ExecStatusType status = PQresultStatus(result);
        if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
                fail_msg("%s: %s", sql, PQerrorMessage(connection));
        long number = PQntuples(result) > 0 ? strtol(PQgetvalue(result, 0, 0), NULL, 10) : 0;
        PQclear(result);
        PQfinish(connection);
        free(conninfo);
        return number;
}
