# SPDX-License-Identifier: LGPL-2.1-or-later
"""daggyr as systemd sees it: the installed units, sockets, readiness, status, watchdog."""

from __future__ import annotations

import grp
import http.client
import json
import os
import re
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bedlib import (
    ROOMY,
    SLOWNESS,
    Runner,
    await_nothing_left,
    await_that,
    processes_of,
    run,
    submit_brood,
    task_id,
    unit_exists,
    unit_property,
)

SERVICE, SOCKET = "daggyr.service", "daggyr.socket"
UNIX_PATH = "/run/daggyr/daggyr.sock"


class UnixConnection(http.client.HTTPConnection):
    """HTTP over daggyr's Unix socket."""

    def __init__(self) -> None:
        super().__init__("localhost", timeout=60 * SLOWNESS)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(UNIX_PATH)


class TcpConnection(http.client.HTTPConnection):
    """HTTP over daggyr's TCP port."""

    def __init__(self) -> None:
        super().__init__("127.0.0.1", 2504, timeout=60 * SLOWNESS)


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any = None
) -> tuple[int, Any]:
    headers = {} if body is None else {"Content-Type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content) if content else None


@pytest.fixture
def installed() -> Iterator[None]:
    """The real socket units listen; the service is not running yet."""
    run("systemctl", "start", SOCKET)
    yield
    run("systemctl", "stop", SOCKET, SERVICE)
    run("systemctl", "reset-failed", SOCKET, SERVICE, check=False)


@pytest.mark.serial
@pytest.mark.parametrize("connect", [TcpConnection, UnixConnection])
def test_the_first_client_starts_the_service(
    installed: None, connect: Callable[[], http.client.HTTPConnection]
) -> None:
    """Lost: "systemctl enable --now daggyr.socket", the documented installation."""
    assert unit_property(SERVICE, "ActiveState") == "inactive"
    id = task_id()
    body = {"command": ["id", "-un"]}
    assert ask(connect(), "POST", f"/api/v1/task/{id}", body)[0] == 202
    assert unit_property(SERVICE, "ActiveState") == "active"
    status, attempt = ask(connect(), "GET", f"/api/v1/task/{id}?wait=30")
    assert (status, attempt["output"]) == (200, "daggyr-task\n")
    for other in (TcpConnection, UnixConnection):
        assert ask(other(), "GET", "/ready") == (200, None)
    owner = run("ps", "-o", "user=", "-p", unit_property(SERVICE, "MainPID")).strip()
    assert owner == "daggyr"


@pytest.mark.serial
def test_the_unix_socket_is_for_root_and_its_group(installed: None) -> None:
    """Lost: any user of the machine could run tasks, or nobody but root."""
    found = Path(UNIX_PATH).stat()
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert (found.st_uid, found.st_gid) == (0, grp.getgrnam("daggyr").gr_gid)
    assert stat.S_IMODE(Path(UNIX_PATH).parent.stat().st_mode) == 0o755
    connect = f"import socket; socket.socket(socket.AF_UNIX).connect('{UNIX_PATH}')"
    for group, error in (("daggyr", ""), ("nogroup", "PermissionError")):
        command = ["setpriv", "--reuid=nobody", f"--regid={group}", "--clear-groups"]
        command += ["sh", "-c", '/usr/bin/python3 -c "$0" 2>&1 || true', connect]
        assert error in run(*command)
        assert bool(error) == bool(run(*command))


@pytest.mark.serial
def test_clients_are_kept_waiting_and_not_refused_during_a_restart(installed: None) -> None:
    """Lost: each update of the package would be an outage for clients."""
    assert ask(TcpConnection(), "GET", "/ready")[0] == 200
    for _ in range(3):
        run("systemctl", "restart", "--no-block", SERVICE)
        for connect in (TcpConnection, UnixConnection):
            status, _ = await_that(lambda: _answer(connect()), what="an answer")
            assert status in (200, 503)
    run("systemctl", "stop", SERVICE)
    assert ask(UnixConnection(), "GET", "/ready")[0] == 200  # starts it again


def _answer(connection: http.client.HTTPConnection) -> tuple[int, Any] | None:
    """None where the old daemon ended with the connection already accepted."""
    try:
        return ask(connection, "GET", "/ready")
    except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
        return None


def test_the_status_line_tells_the_load(start_runner: Callable[..., Runner]) -> None:
    """Lost: "systemctl status" as the first look at what a runner does."""
    runner = start_runner({"capacity_overrides": {"cores": 3, "memory_mb": 4096}})

    def status() -> tuple[float, ...]:
        line = unit_property(runner.unit, "StatusText")
        found = re.search(r"(\d+) running, (\d+) waiting, ([\d.]+) of ([\d.]+) cores free", line)
        return tuple(map(float, found.groups())) if found else ()

    await_that(lambda: status() == (0, 0, 3, 3), what="the status of an idle runner")
    ids = [runner.submit(["sleep", "infinity"], resources={"cores": 1.5}) for _ in range(3)]
    await_that(lambda: status() == (2, 1, 0, 3), what="the status of a full runner")
    for id in ids:
        runner.delete(f"/api/v1/task/{id}")
    await_that(lambda: status() == (0, 0, 3, 3), what="the status of an idle runner")


def test_a_started_service_answers_at_once(start_runner: Callable[..., Runner]) -> None:
    """Lost: units ordered after daggyr.service would meet a closed port."""
    runner = start_runner(ROOMY)
    assert runner.get("/ready").status_code == 200
    assert unit_property(runner.unit, "Type") in ("notify", "notify-reload")


def test_a_hanging_daemon_is_replaced_by_the_watchdog(start_runner: Callable[..., Runner]) -> None:
    """Lost: a daemon that hangs would stay so, with its tasks, until somebody notices."""
    properties = {"WatchdogSec": f"{4 * SLOWNESS}", "Restart": "on-failure", "RestartSec": "0", "LimitCORE": "0"}
    runner = start_runner(ROOMY, properties=properties)
    id = submit_brood(runner)
    before = runner.main_pid
    os.kill(before, signal.SIGSTOP)
    await_that(lambda: unit_property(runner.unit, "NRestarts") == "1", timeout=30)
    await_that(lambda: runner.state == "active" and runner.main_pid != before, timeout=30)
    assert processes_of(id) == []
    assert runner.run(["true"])["succeeded"]
    await_nothing_left(id)


def test_a_working_daemon_keeps_its_watchdog_quiet(start_runner: Callable[..., Runner]) -> None:
    """Lost: a healthy daemon would be killed, all tasks with it, because it had nothing to do."""
    runner = start_runner(ROOMY, properties={"WatchdogSec": f"{2 * SLOWNESS}"})
    before = runner.main_pid
    attempt = runner.run(["sleep", f"{5 * SLOWNESS}"])
    assert (attempt["result"], runner.main_pid) == ("success", before)
    assert unit_property(runner.unit, "NRestarts") == "0"


def test_each_task_is_a_unit_of_its_own_in_the_slice(start_runner: Callable[..., Runner]) -> None:
    """Lost: systemctl, systemd-cgtop and journalctl as the tools to look at tasks."""
    runner = start_runner(ROOMY)
    id = task_id("a-b c".replace(" ", ":"))
    unit = runner.attempt(submit_brood(runner, id=id))["unit"]
    assert unit == f"daggyr-task-{id.replace('-', chr(92) + 'x2d')}.scope"
    assert unit_exists(unit)
    assert unit_property(unit, "ControlGroup") == f"/daggyr.slice/{unit}"
    assert id in unit_property(unit, "Description")
    assert runner.unit in unit_property(unit, "BindsTo")
    assert runner.scopes() == [unit]
