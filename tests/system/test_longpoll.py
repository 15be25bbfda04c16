# SPDX-License-Identifier: LGPL-2.1-or-later
"""Thousands of clients that wait for a task."""

from __future__ import annotations

import json
import resource
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bedlib import SLOWNESS, Runner, await_that, cpu_seconds, open_fds, settled_fds

N_WAITERS = 2000
ROOM = {"capacity_overrides": {"cores": 8, "memory_mb": 65536}}

pytestmark = pytest.mark.serial


@pytest.fixture(autouse=True)
def many_descriptors() -> Iterator[None]:
    """Each waiter is a connection of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Waiters:
    """Clients that have asked and wait for their answers."""

    def __init__(self, runner: Runner, id: str, n: int, seconds: float = 300) -> None:
        self._selector = selectors.DefaultSelector()
        self.answers: dict[socket.socket, bytearray] = {}
        request = f"GET /api/v1/task/{id}?wait={seconds:g} HTTP/1.1\r\n"
        request += "Host: localhost\r\nConnection: close\r\n\r\n"
        for _ in range(n):
            connection = socket.create_connection(("127.0.0.1", runner.config["port"]), 60 * SLOWNESS)
            connection.sendall(request.encode())
            connection.setblocking(False)
            self.answers[connection] = bytearray()
            self._selector.register(connection, selectors.EVENT_READ)

    def __enter__(self) -> Waiters:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for connection in self.answers:
            connection.close()

    def read(self, timeout: float) -> list[dict[str, Any]]:
        """All answers; every one must come in time."""
        deadline = time.monotonic() + timeout * SLOWNESS
        open_ones = len(self.answers)
        while open_ones:
            assert time.monotonic() < deadline, f"{open_ones} of {len(self.answers)} had no answer in time"
            for key, _ in self._selector.select(0.1):
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                piece = connection.recv(1 << 20)
                self.answers[connection] += piece
                if not piece:
                    self._selector.unregister(connection)
                    open_ones -= 1
        return [_attempt(bytes(answer)) for answer in self.answers.values()]


def _attempt(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    attempt: dict[str, Any] = json.loads(body)
    return attempt


def n_descriptors(runner: Runner) -> int:
    return len(open_fds(runner.main_pid))


def peak_rss(runner: Runner) -> int:
    """The most memory it ever had, in bytes."""
    for line in Path(f"/proc/{runner.main_pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no VmHWM")


def test_2000_clients_wait_without_cost_and_hear_of_the_end_at_once(
    start_runner: Callable[..., Runner], record_testsuite_property: Callable[[str, object], None]
) -> None:
    """Lost: waiting instead of polling, for as many clients as a large queue has."""
    runner = start_runner(ROOM)
    id = runner.submit(["sleep", "infinity"])
    await_that(lambda: runner.attempt(id)["start_time"], what="the start")
    before = len(settled_fds(runner.main_pid))
    with Waiters(runner, id, N_WAITERS) as waiters:
        await_that(lambda: n_descriptors(runner) == before + N_WAITERS, timeout=30, what="all to wait")
        assert runner.get("/ready").status_code == 200

        start, cpu = time.monotonic(), cpu_seconds(runner.main_pid)
        await_that(lambda: time.monotonic() - start >= 2, what="two quiet seconds")
        used = cpu_seconds(runner.main_pid) - cpu
        start = time.monotonic()
        runner.delete(f"/api/v1/task/{id}")
        attempts = waiters.read(timeout=20)
        took = time.monotonic() - start
    print(f"{N_WAITERS} waiters: {used:.2f} s CPU in 2 s of waiting, all answered in {took:.2f} s")
    record_testsuite_property("longpoll_idle_cpu_seconds", used)
    record_testsuite_property("longpoll_answered_seconds", round(took, 3))
    assert {attempt["result"] for attempt in attempts} == {"stopped"}
    assert used <= 0.02 * SLOWNESS
    assert took < 5 * SLOWNESS
    await_that(lambda: n_descriptors(runner) <= before, what="the connections to be closed")


def test_each_waiter_has_its_own_time(start_runner: Callable[..., Runner]) -> None:
    """Lost: clients with different patience would all be answered with the first, or the last."""
    runner = start_runner(ROOM)
    id = runner.submit(["sleep", "infinity"])
    await_that(lambda: runner.attempt(id)["start_time"], what="the start")
    with Waiters(runner, id, 300, seconds=300) as patient:
        with Waiters(runner, id, 300, seconds=1) as impatient:
            start = time.monotonic()
            assert {attempt["state"] for attempt in impatient.read(timeout=10)} == {"running"}
            assert time.monotonic() - start < 1 + 3 * SLOWNESS
        assert not any(patient.answers.values())
        runner.delete(f"/api/v1/task/{id}")
        assert {attempt["state"] for attempt in patient.read(timeout=10)} == {"killed"}


def test_waiters_that_leave_together_are_forgotten(start_runner: Callable[..., Runner]) -> None:
    """Lost: a queue that is restarted would leave its connections behind on each runner."""
    runner = start_runner(ROOM)
    id = runner.submit(["sleep", "infinity"])
    await_that(lambda: runner.attempt(id)["start_time"], what="the start")
    before = len(settled_fds(runner.main_pid))
    for _ in range(3):
        with Waiters(runner, id, 500):
            await_that(lambda: n_descriptors(runner) == before + 500, timeout=30, what="all to wait")
        await_that(lambda: n_descriptors(runner) == before, timeout=30, what="all to be forgotten")
    assert runner.delete(f"/api/v1/task/{id}?wait=60").json()["result"] == "stopped"


def test_many_waiters_for_much_output_do_not_use_up_the_memory(
    start_runner: Callable[..., Runner], record_testsuite_property: Callable[[str, object], None]
) -> None:
    """Lost: all tasks of a runner. The answers to a popular task with a megabyte of output, each made at
    the same moment, would be too much for the host, and the kernel kill the daemon."""
    n_waiters, n_bytes = 500, 1 << 20
    runner = start_runner(ROOM)
    script = f"head -c {n_bytes} /dev/zero | tr '\\0' x; sleep infinity"
    id = runner.submit(["sh", "-c", script])
    await_that(lambda: runner.attempt(id, output="none")["output_bytes"] == n_bytes, what="the output")
    before = len(settled_fds(runner.main_pid))
    with Waiters(runner, id, n_waiters) as waiters:
        await_that(lambda: n_descriptors(runner) == before + n_waiters, timeout=30, what="all to wait")
        runner.delete(f"/api/v1/task/{id}")
        attempts = waiters.read(timeout=60)
    assert {len(attempt["output"]) for attempt in attempts} == {n_bytes}
    peak = peak_rss(runner)
    print(f"{n_waiters} waiters for {n_bytes} bytes: the daemon had {peak >> 20} MB at most")
    record_testsuite_property("longpoll_peak_megabytes", peak >> 20)
    assert peak < (100 << 20) * SLOWNESS
