# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real PostgreSQL servers, each a service of its own that no privileged account runs: to be started, killed, hung
and followed by a standby. Whichever version is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from bedlib import SLOWNESS, await_that, journal_of, next_port, run, unit_property

ACCOUNT = "postgres"
PASSWORD = "it's a \\ secret"
"""Of the role daggyr, where it is asked for one: in the database "guarded", over TCP."""

ACCESS = """
local all all trust
host guarded all 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
local replication all trust
host replication all 127.0.0.1/32 trust
"""

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "16MB",
    "min_wal_size": "4MB",
    "max_connections": "60",
    "log_line_prefix": "%a[%p] ",
    "hot_standby": "on",
    "wal_receiver_timeout": "3s",
    "wal_sender_timeout": "3s",
    "wal_retrieve_retry_interval": "200ms",
}

TOP = Path("/run/daggyr-test-postgres")
"""Not /tmp, of which services have their own; Unix sockets need a short path, too."""


@cache
def programs() -> Path:
    """Where those of the newest server are that is installed."""
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max(found, key=lambda path: int(path.parts[-3])).parent


def as_account(*command: str | Path, **options: Any) -> str:
    account = (f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups", "--")
    return run("setpriv", *account, *map(str, command), cwd="/", stderr=subprocess.STDOUT, **options)


@cache
def template() -> Path:
    """What every server begins as: made once by each process, for it takes a while."""
    TOP.mkdir(mode=0o755, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="template-", dir=TOP))
    shutil.chown(folder, ACCOUNT, ACCOUNT)
    as_account(
        programs() / "initdb", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--wal-segsize=1",
        "--no-instructions", f"--username={ACCOUNT}", folder / "data",
    )  # fmt: skip
    (folder / "data/pg_hba.conf").write_text(ACCESS)
    return folder / "data"


class Postgres:
    """One server, with the role and the database "daggyr" in it; settings are more of postgresql.conf.

    It accepts connections once start() returns, unless it waits for its primary."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        TOP.mkdir(mode=0o755, exist_ok=True)
        self.port = next_port()
        self.name = f"postgres-test-{self.port}"
        self.unit = f"{self.name}.service"
        self.folder = TOP / self.name
        self.data = self.folder / "data"
        self.folder.mkdir(mode=0o755)
        shutil.chown(self.folder, ACCOUNT, ACCOUNT)
        self._settings = SETTINGS | {"unix_socket_directories": str(self.folder)} | dict(settings or {})
        self._unit_file = Path("/run/systemd/system", self.unit)

    def create(self) -> Postgres:
        """Makes it as an administrator would for daggyd, and starts it."""
        run("cp", "--archive", "--reflink=auto", str(template()), str(self.data))
        self._write_settings()
        self.start()
        password = PASSWORD.replace("'", "''")
        self.sql(f"CREATE ROLE daggyr LOGIN PASSWORD '{password}'", database="postgres")
        for name in ("daggyr", "guarded"):
            self.create_database(name)
        return self

    def create_database(self, name: str) -> None:
        self.sql(f"CREATE DATABASE {name} OWNER daggyr", database="postgres")

    def follow(self, primary: Postgres, is_synchronous: bool = True) -> Postgres:
        """Makes it a standby of another server, and starts it; a synchronous one, without whose word that commits
        nothing, or one that may know less."""
        shutil.rmtree(self.data, ignore_errors=True)
        as_account(
            programs() / "pg_basebackup", "--pgdata", self.data, "--write-recovery-conf", "--checkpoint=fast",
            "--no-sync", f"--host={primary.folder}", f"--port={primary.port}", f"--username={ACCOUNT}",
        )  # fmt: skip
        self._write_settings()
        self.start()
        state = "sync" if is_synchronous else "async"
        if is_synchronous:
            primary.configure("synchronous_standby_names", "*")
        await_that(
            lambda: primary.sql("SELECT sync_state FROM pg_stat_replication") == state, 30, f"{self.name} to follow"
        )
        return self

    def promote(self) -> None:
        """Makes a primary of a standby; it accepts writes when this returns."""
        assert self.sql("SELECT pg_promote(true, 60)") == "t"

    def start(self) -> Postgres:
        if not self._unit_file.exists():
            self._unit_file.write_text(self._unit_text())
        try:
            run("systemctl", "start", self.unit)
        except subprocess.CalledProcessError as error:
            raise AssertionError(f"{self.unit} did not start:\n{self.journal()}") from error
        return self

    def stop(self) -> None:
        """As an administrator would: sessions are ended, what they did not commit is undone."""
        run("systemctl", "stop", self.unit)

    def kill9(self) -> None:
        """All its processes at once, as when its host breaks down, but for what that does to a network."""
        run("systemctl", "kill", "--kill-whom=all", "--signal=KILL", self.unit)
        await_that(lambda: self.state in ("failed", "inactive"), what=f"the end of {self.unit}")

    def hang(self) -> None:
        """All its processes at once do nothing until go_on()."""
        run("systemctl", "kill", "--kill-whom=all", "--signal=STOP", self.unit)

    def go_on(self) -> None:
        run("systemctl", "kill", "--kill-whom=all", "--signal=CONT", self.unit)

    def configure(self, name: str, value: str) -> None:
        """Changes a setting of the running server, also for sessions that there are."""
        self.sql(f"ALTER SYSTEM SET {name} = '{value}'", database="postgres")
        self.sql("SELECT pg_reload_conf()", database="postgres")
        await_that(lambda: self.sql(f"SHOW {name}", database="postgres") == value, what=f"{name} = {value}")

    def discard(self) -> None:
        """Leaves nothing of it behind, whatever state it is in."""
        for command in (["kill", "--kill-whom=all", "--signal=KILL"], ["stop"], ["reset-failed"]):
            run("systemctl", *command, self.unit, check=False, stderr=subprocess.DEVNULL)
        self._unit_file.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def state(self) -> str:
        return unit_property(self.unit, "ActiveState")

    def journal(self) -> str:
        return journal_of(self.unit)

    def conninfo(self, database: str = "daggyr") -> str:
        """By its Unix socket, as daggyd takes it."""
        return f"host={self.folder} port={self.port} dbname={database} user=daggyr"

    def tcp(self, database: str = "daggyr", port: int = 0) -> str:
        """By TCP; port may be a proxy's."""
        return f"host=127.0.0.1 port={port or self.port} dbname={database} user=daggyr"

    def sql(self, text: str, database: str = "daggyr", user: str = ACCOUNT) -> str:
        """What psql prints: a line for each row, columns separated by "|"."""
        done = subprocess.run(
            self._psql(user, database), input=text, text=True, capture_output=True, timeout=60 * SLOWNESS
        )
        assert done.returncode == 0, f"{text}: {done.stderr}"
        return done.stdout.rstrip("\n")

    def _psql(self, user: str, database: str) -> list[str | Path]:
        command = [programs() / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", self.folder, "-p", str(self.port)]
        return command + ["-U", user, database]

    @contextmanager
    def locked(self, table: str, database: str = "daggyr") -> Iterator[None]:
        """Meanwhile nobody else reads or writes the table: who wants to waits."""
        session = subprocess.Popen(
            self._psql(ACCOUNT, database), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert session.stdin and session.stdout
        try:
            session.stdin.write(f"BEGIN; LOCK TABLE {table}; SELECT 'locked';\n")
            session.stdin.flush()
            assert session.stdout.readline() == "locked\n"
            yield
        finally:
            session.communicate(timeout=60 * SLOWNESS)

    def has_waiting(self) -> bool:
        """Whether any session waits for another's lock."""
        waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock')"
        return self.sql(waiting, database="postgres") == "t"

    def rows(self, query: str, database: str = "daggyr") -> list[dict[str, Any]]:
        """What a SELECT yields."""
        text = self.sql(f"SELECT coalesce(json_agg(row_to_json(q)), '[]') FROM ({query}) q", database)
        found: list[dict[str, Any]] = json.loads(text)
        return found

    def _write_settings(self) -> None:
        lines = [f"{name} = '{value}'" for name, value in (self._settings | {"port": str(self.port)}).items()]
        with (self.data / "postgresql.conf").open("a") as file:
            file.write("\n".join(["", *lines, ""]))

    def _unit_text(self) -> str:
        lines = ["[Unit]", "Description=PostgreSQL for a test", "", "[Service]", "Type=notify", f"User={ACCOUNT}"]
        lines += [f"ExecStart={programs()}/postgres -D {self.data}", "KillMode=mixed", "KillSignal=SIGINT"]
        lines += ["Restart=no", "TimeoutSec=infinity", "Environment=LANG=C.UTF-8"]
        return "\n".join(lines) + "\n"


class Pair:
    """A primary and its synchronous standby; what had to be given up comes back as the new standby."""

    def __init__(self, primary: Postgres, standby: Postgres) -> None:
        self.primary, self.standby = primary, standby
        self.ports = [primary.port, standby.port]

    def conninfo(self, ports: Sequence[int] = ()) -> str:
        """Of both, in the same order whoever is the primary; by proxies, if their ports are given."""
        both = ",".join(map(str, ports or self.ports))
        return f"host=127.0.0.1,127.0.0.1 port={both} dbname=daggyr user=daggyr target_session_attrs=read-write"

    def fail_over(self) -> None:
        """The primary breaks down, and the standby takes its place."""
        self.primary.kill9()
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary

    def repair(self) -> None:
        """The one that broke down follows the other."""
        run("systemctl", "reset-failed", self.standby.unit, check=False, stderr=subprocess.DEVNULL)
        self.standby.follow(self.primary)
