# SPDX-License-Identifier: LGPL-2.1-or-later
"""What daggyr stands on goes away for a while, or is slow: the bus, systemd, the journal."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from bedlib import (
    ROOMY,
    SLOWNESS,
    Runner,
    await_nothing_left,
    await_that,
    load,
    restart_logind,
    run,
    task_id,
    unit_property,
)
from lease_history import leases_of
from probelib import seconds_for

pytestmark = pytest.mark.serial

OUTAGE_SECONDS = 2.5
FLUSH_SECONDS = 5
"""How long a leader waits for the journal, at most."""


@pytest.fixture
def runner(start_runner: Callable[..., Runner]) -> Runner:
    """A daggyr with room for everything."""
    return start_runner(ROOMY)


@pytest.fixture(autouse=True)
def whole_system() -> Generator[None, None, None]:
    """Leaves the bed as the next test expects it, whatever units of earlier tests have failed."""
    run("systemctl", "reset-failed")
    yield
    run("systemctl", "reset-failed", "dbus.service", check=False, stderr=subprocess.DEVNULL)
    await_that(lambda: run("systemctl", "is-system-running", check=False).strip() == "running", 30)


@pytest.fixture(scope="module", autouse=True)
def logind() -> Generator[None, None, None]:
    """That of systemd 257 goes on without a bus when the bus was restarted; earlier ones come back to it."""
    yield
    restart_logind()


def metric(runner: Runner, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", runner.get("/metrics").text, re.MULTILINE)
    assert found, name
    return float(found[1])


def start_sleepers(runner: Runner, seconds: float, n: int = 4) -> list[str]:
    """Tasks that end by themselves, each with a status of its own, once all of them run."""
    ids = [runner.submit(["sh", "-c", f"sleep {seconds}; echo {i}; exit {i}"]) for i in range(n)]
    await_that(lambda: all(runner.attempt(id)["start_time"] for id in ids), what="the start of all")
    return ids


def assert_right_results(runner: Runner, sleepers: list[str]) -> None:
    for i, id in enumerate(sleepers):
        attempt = runner.wait(id)
        assert (attempt["exit_code"], attempt["output"]) == (i, f"{i}\n"), attempt["executor"]
        assert attempt["result"] == ("exit-code" if i else "success")


@contextmanager
def stopped(pid: int) -> Generator[None, None, None]:
    """A process that does nothing for a while."""
    run("kill", "-STOP", str(pid))
    try:
        yield
    finally:
        run("kill", "-CONT", str(pid))


def slowest_answer(runner: Runner, seconds: float) -> float:
    """Asks without a pause, for so long, things that HTTP alone can answer."""

    def ask() -> None:
        assert runner.get("/ready").status_code in (200, 503)
        assert runner.get("/api/v1/tasks?limit=1").status_code == 200

    pid, slowest, end = runner.main_pid, 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        slowest = max(slowest, seconds_for(ask, pid))
        time.sleep(0.01)
    return slowest


class Stream:
    """Clients that submit short tasks one after the other until told to stop."""

    def __init__(self, runner: Runner, n_clients: int = 4) -> None:
        self._runner = runner
        self._stop = threading.Event()
        self.attempts: list[dict[str, Any]] = []
        self.slowest = 0.0
        self.errors: list[Exception] = []
        self._threads = [threading.Thread(target=self._client) for _ in range(n_clients)]

    def __enter__(self) -> Stream:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def await_more(self, n: int) -> None:
        """So many more tasks have come to their end."""
        wanted = len(self.attempts) + n
        done = lambda: len(self.attempts) >= wanted or self.errors  # noqa: E731
        await_that(done, timeout=30, what=f"{n} more tasks to end")

    def assert_all_succeeded(self, at_least: int, within_seconds: float) -> None:
        assert self.errors == []
        assert len(self.attempts) >= load(at_least)
        bad = [(a["task_id"], a["result"], a["executor"]) for a in self.attempts if a["result"] != "success"]
        assert bad == []
        assert self.slowest < within_seconds * SLOWNESS

    def _client(self) -> None:
        try:
            with requests.Session() as http:
                http.trust_env = False
                while not self._stop.is_set():
                    self._one(http)
        except Exception as error:  # for the test's own thread to see
            self.errors.append(error)

    def _one(self, http: requests.Session) -> None:
        url = f"{self._runner.url}/api/v1/task/{task_id('stream')}"
        start = time.monotonic()
        answer = http.post(url, json={"command": ["true"], "labels": {}}, timeout=60 * SLOWNESS)
        assert answer.status_code == 202, answer.text
        answer = http.get(url, params={"wait": 60}, timeout=90 * SLOWNESS)
        self.slowest = max(self.slowest, time.monotonic() - start)
        self.attempts.append(answer.json())


def test_the_bus_is_restarted_while_tasks_run(runner: Runner) -> None:
    """Lost: an update of dbus would kill, or lose, every running task."""
    sleepers = start_sleepers(runner, 2)
    before = metric(runner, "daggyr_bus_reconnects_total")
    with Stream(runner) as stream:
        stream.await_more(10)
        run("systemctl", "restart", "dbus.service")
        stream.await_more(10)
    assert_right_results(runner, sleepers)
    stream.assert_all_succeeded(at_least=10, within_seconds=10)
    assert metric(runner, "daggyr_bus_reconnects_total") == before + 1
    assert runner.get("/ready").status_code == 200
    await_nothing_left(*sleepers)


def test_the_bus_is_killed_and_stays_away(runner: Runner) -> None:
    """Lost: tasks that end while there is no bus would hang, or be forgotten with their capacity."""
    sleepers = start_sleepers(runner, 1)
    run("systemctl", "stop", "dbus.socket", "dbus.service", stderr=subprocess.DEVNULL)
    try:
        await_that(lambda: runner.get("/ready").status_code == 503, what="the loss to be noticed")
        waiting = runner.submit(["echo", "late"])
        stopped_by_hand = runner.submit(["true"])
        assert runner.delete(f"/api/v1/task/{stopped_by_hand}").status_code == 202
        assert_right_results(runner, sleepers)
        assert runner.wait(stopped_by_hand)["result"] == "canceled"
        assert runner.attempt(waiting)["state"] == "queued"
    finally:
        run("systemctl", "start", "dbus.socket", "dbus.service")
    assert runner.wait(waiting)["output"] == "late\n"
    assert runner.get("/ready").status_code == 200
    capacity = runner.get("/api/v1/capacity").json()
    assert capacity["free"] == capacity["total"]


def test_a_bus_that_goes_again_and_again_ends_no_task(runner: Runner) -> None:
    """Lost: the daemon and all it runs, where the bus goes once more before systemd has answered on the new one."""
    id = runner.submit(["sleep", "infinity"])
    await_that(lambda: runner.attempt(id)["start_time"], what="the task to start")
    pid = runner.main_pid
    for n in range(60):
        # The daemon's next attempt starts another one, by the socket; and each time it is on its way back for a
        # little longer.
        run("systemctl", "kill", "--signal=KILL", "dbus.service", check=False)
        run("systemctl", "reset-failed", "dbus.service", "dbus.socket", check=False)
        time.sleep(0.01 * (n % 10))
    run("systemctl", "start", "--no-block", "dbus.socket", "dbus.service")
    await_that(lambda: runner.get("/ready").status_code == 200, timeout=30, what="the daemon to be back")
    assert (runner.main_pid, runner.attempt(id)["state"]) == (pid, "running"), runner.attempt(id)
    assert runner.run(["true"])["succeeded"]
    run("systemctl", "reset-failed")


@pytest.mark.parametrize("what", ["daemon-reload", "daemon-reexec"])
def test_systemd_reloads_and_reexecutes_itself_while_tasks_start(runner: Runner, what: str) -> None:
    """Lost: tasks that start while a package is installed would fail, or hang for half a minute."""
    sleepers = start_sleepers(runner, 4)
    with Stream(runner) as stream:
        for _ in range(8):
            run("systemctl", what)
            stream.await_more(3)
    assert_right_results(runner, sleepers)
    stream.assert_all_succeeded(at_least=20, within_seconds=10)
    assert runner.run(["true"])["succeeded"]
    await_nothing_left(*sleepers)


def bus_pid() -> int:
    return int(unit_property("dbus.service", "MainPID"))


def test_a_bus_that_is_slow_delays_starts_and_nothing_else(runner: Runner) -> None:
    """Lost: HTTP would hang with systemd, and clients and queues take the runner for dead."""
    sleepers = start_sleepers(runner, 1)
    with stopped(bus_pid()):
        waiting = [runner.submit(["echo", str(i)]) for i in range(20)]
        assert slowest_answer(runner, OUTAGE_SECONDS) < 0.5 * SLOWNESS
        assert_right_results(runner, sleepers)
    for i, id in enumerate(waiting):
        attempt = runner.wait(id)
        assert (attempt["result"], attempt["output"]) == ("success", f"{i}\n"), attempt
    assert metric(runner, "daggyr_bus_reconnects_total") == 0


def live_leaders(runner: Runner) -> list[int]:
    """The spawner's children, without those that were killed but are kept, lest another process gets their number."""
    spawner = unit_property(runner.spawner_unit, "MainPID")
    found = []
    for pid in Path(f"/proc/{spawner}/task/{spawner}/children").read_text().split():
        with suppress(FileNotFoundError, ProcessLookupError):
            if ") Z " not in Path(f"/proc/{pid}/stat").read_text():
                found.append(int(pid))
    return found


def test_a_task_deleted_while_systemd_is_slow_leaves_nothing(runner: Runner) -> None:
    """Lost: capacity, for the scope comes to be when the task is already gone."""
    with stopped(bus_pid()):
        ids = [runner.submit(["sleep", "infinity"]) for _ in range(5)]
        await_that(lambda: all(runner.attempt(id)["state"] == "running" for id in ids))
        assert len(live_leaders(runner)) == len(ids)
        for id in ids:
            assert runner.delete(f"/api/v1/task/{id}").status_code == 202
        await_that(lambda: not live_leaders(runner), what="the leaders to be killed")
    for id in ids:
        assert runner.wait(id)["result"] == "stopped"
    await_nothing_left(*ids)
    capacity = runner.get("/api/v1/capacity").json()
    assert capacity["free"] == capacity["total"]


CHATTY = ["sh", "-c", "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i + 1)); done"]
JOURNAL_SOCKETS = ["systemd-journald.socket", "systemd-journald-dev-log.socket"]


def lines_not_logged(attempt: dict[str, Any]) -> int:
    """What the task's notes say, 0 when they do not mention it."""
    notes = "\n".join(attempt["executor"])
    found = re.search(r"^(\d+) lines of output were not logged", notes, re.MULTILINE)
    return int(found[1]) if found else 0


def entries_of(task: str) -> int:
    """Entries in the journal, also those that it came to read too late to find out their unit."""
    run("journalctl", "--sync")
    return run("journalctl", "--quiet", "--output=cat", f"DAGGYR_TASK_ID={task}").count("\n")


@contextmanager
def no_journal() -> Generator[None, None, None]:
    run("systemctl", "stop", *JOURNAL_SOCKETS, "systemd-journald.service", stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        run("systemctl", "start", *JOURNAL_SOCKETS, "systemd-journald.service")


def test_tasks_end_as_ever_without_a_journal(runner: Runner) -> None:
    """Lost: a broken journal would stop all work."""
    sleepers = start_sleepers(runner, 1)
    before = metric(runner, "daggyr_journal_lines_dropped_total")
    with no_journal():
        start = time.monotonic()
        attempt = runner.run(CHATTY)
        assert time.monotonic() - start < FLUSH_SECONDS * SLOWNESS
        assert_right_results(runner, sleepers)
    assert attempt["succeeded"]
    assert attempt["output"].count("\n") == 5000
    assert lines_not_logged(attempt) >= 5000
    assert metric(runner, "daggyr_journal_lines_dropped_total") >= before + 5000
    assert lines_not_logged(runner.run(["echo", "again"])) == 0


def test_a_journal_that_is_restarted_loses_no_task(runner: Runner) -> None:
    """Lost: an update of systemd would break the output of running tasks."""
    sleepers = start_sleepers(runner, 2)
    with Stream(runner) as stream:
        for _ in range(3):
            run("systemctl", "restart", "systemd-journald.service")
            stream.await_more(4)
    assert_right_results(runner, sleepers)
    stream.assert_all_succeeded(at_least=10, within_seconds=2 * FLUSH_SECONDS)


@pytest.mark.parametrize("grace", [0, 10])
def test_a_journal_that_hangs_holds_a_task_up_for_its_bound_only(runner: Runner, grace: int) -> None:
    """Lost: tasks would never end, or be reported as killed though they were only waiting to be logged."""
    with stopped(int(unit_property("systemd-journald.service", "MainPID"))):
        start = time.monotonic()
        id = runner.submit(CHATTY, grace=grace)
        other = runner.submit(["echo", "quiet"])
        assert slowest_answer(runner, 1) < 0.5 * SLOWNESS
        attempts = [runner.wait(id), runner.wait(other)]
        assert time.monotonic() - start < FLUSH_SECONDS + 2 * SLOWNESS
    for attempt in attempts:
        assert attempt["result"] == "success"
        assert not any("outlived" in note for note in attempt["executor"])
    lost = lines_not_logged(attempts[0])
    assert lost > 1000
    # Each line and daggyr's own two messages are either in the journal or counted.
    assert lost + entries_of(id) == 5002
    await_nothing_left(id, other)


def fill_journal_socket() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler, suppress(BlockingIOError):
        filler.setblocking(False)
        filler.connect("/run/systemd/journal/socket")
        while True:
            filler.send(b"MESSAGE=filler\n")


def test_a_journal_that_is_full_hears_of_leases_later(runner: Runner) -> None:
    """Lost: the proof of whose the runner was, to whatever else kept the journal busy at that moment."""
    with stopped(int(unit_property("systemd-journald.service", "MainPID"))):
        fill_journal_socket()
        for number in range(3):
            lease = {"queue": f"queue.example:{number + 1}", "version": "1", "ttl": 60}
            lease_id = runner.post("/api/v1/lease", json=lease).json()["lease_id"]
            assert runner.delete(f"/api/v1/lease/{lease_id}").status_code == 204
    told = await_that(
        lambda: leases if len(leases := leases_of(runner)) == 3 and leases[-1].released else None,
        what="the end of the last lease",
    )
    assert [lease.queue for lease in told] == [f"queue.example:{number + 1}" for number in range(3)]
    assert all(lease.released for lease in told)


def test_storms_of_everything_at_once(runner: Runner) -> None:
    """Lost: the combinations that nobody thinks of."""
    sleepers = start_sleepers(runner, 5)
    steps: Iterable[tuple[str, ...]] = [
        ("systemctl", "daemon-reload"),
        ("systemctl", "restart", "dbus.service"),
        ("systemctl", "daemon-reexec"),
        ("systemctl", "restart", "systemd-journald.service"),
        ("systemctl", "kill", "--signal", signal.SIGHUP.name, runner.unit),
        ("systemctl", "daemon-reexec"),
    ]
    with Stream(runner) as stream:
        for step in steps:
            run(*step)
            stream.await_more(3)
    assert_right_results(runner, sleepers)
    stream.assert_all_succeeded(at_least=10, within_seconds=15)
    capacity = runner.get("/api/v1/capacity").json()
    assert capacity["free"] == capacity["total"]
