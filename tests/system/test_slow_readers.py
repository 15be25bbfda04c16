# SPDX-License-Identifier: LGPL-2.1-or-later
"""Answers that are large, and clients that take their time to read them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from bedlib import PYTHON, ROOMY, SLOWNESS, SMALL_QUARANTINE, Runner, await_that, load, task_id
from probelib import ReadyProbe
from test_name_service import ALLOWED, SLOW, TINY, submission
from test_name_service import name_service as name_service  # for its effect

MB = 1 << 20
LONG = "x" * 1_000_000

# Reads PATH from PORT over N connections, each slowly, again and again.
READERS = """
import selectors, socket, sys, time
port, n, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
request = f"GET {path} HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n".encode()
ready = selectors.DefaultSelector()

def connect():
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    one.connect(("127.0.0.1", port))
    one.sendall(request)
    ready.register(one, selectors.EVENT_READ)

for _ in range(n):
    connect()
print("reading", flush=True)
while True:
    for key, _ in ready.select():
        if not key.fileobj.recv(4096):
            ready.unregister(key.fileobj)
            key.fileobj.close()
            connect()
    time.sleep(0.02)
"""


@contextmanager
def slow_readers(runner: Runner, n: int, path: str = "/api/v1/tasks") -> Iterator[None]:
    command = [PYTHON, "-c", READERS, str(runner.config["port"]), str(n), path]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as readers:
        assert readers.stdout and readers.stdout.readline()
        try:
            yield
        finally:
            readers.kill()


def resident_bytes(runner: Runner) -> int:
    status = Path(f"/proc/{runner.main_pid}/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1])


def p99(probe: ReadyProbe) -> float:
    return sorted(probe.seconds)[len(probe.seconds) * 99 // 100]


def fill(runner: Runner, n: int) -> list[str]:
    """Results whose commands are a megabyte each: more than can be executed, but not than can be asked for."""
    ids = [runner.submit(["true", LONG], resources=TINY) for _ in range(n)]
    for id in ids:
        runner.attempt(id, wait=60, output="none")
    return ids


def test_a_page_has_a_bound_in_bytes(start_runner: Callable[..., Runner]) -> None:
    """Lost: a list of large tasks is gigabytes, for the runner and for whoever asks."""
    runner = start_runner(ROOMY)
    ids = fill(runner, 10)
    found: list[str] = []
    after = None
    while True:
        answer = runner.get("/api/v1/tasks", params={"after": after} if after else {})
        assert len(answer.content) < 4 * MB
        page = answer.json()
        found += [task["task_id"] for task in page["tasks"]]
        after = page["next"]
        if after is None:
            break
        assert page["tasks"], "a page that leads on has a task"
    assert found == ids
    assert len(runner.get("/api/v1/tasks", params={"limit": 1}).json()["tasks"]) == 1


def test_a_page_may_lose_its_tasks_while_it_is_made(start_runner: Callable[..., Runner]) -> None:
    """Lost: a crash, where one client lists and another forgets."""
    runner = start_runner(ROOMY)
    ids = fill(runner, 20)
    with ThreadPoolExecutor(4) as pool:
        lists = [pool.submit(runner.get, "/api/v1/tasks", params={"after": str(i)}) for i in range(12)]
        for id in ids:
            assert runner.delete(f"/api/v1/task/{id}").status_code == 204
        assert all(answer.result().json()["tasks"] is not None for answer in lists)
    assert runner.get("/api/v1/tasks").json() == {"tasks": [], "next": None}


@pytest.mark.plain
@pytest.mark.serial
def test_slow_readers_cost_little_and_hold_up_nobody(start_runner: Callable[..., Runner]) -> None:
    """Lost: a few slow clients take gigabytes, and everybody else waits for seconds.

    On a machine with nothing else to do everybody else's p99 is below 20 ms; neighbours get five times that."""
    runner = start_runner(ALLOWED, properties=SMALL_QUARANTINE)
    fill(runner, load(100))
    idle = resident_bytes(runner)
    peak = idle
    with ReadyProbe(runner) as undisturbed:
        time.sleep(2)
    with slow_readers(runner, load(60)), ThreadPoolExecutor(20) as pool, ReadyProbe(runner) as probe:
        pending = [pool.submit(submission, runner, user, resources=TINY) for user in SLOW]
        end = time.monotonic() + 8
        while time.monotonic() < end:
            peak = max(peak, resident_bytes(runner))
            time.sleep(0.05)
        assert {answer.result().status_code for answer in pending} == {202}
    print(f"p99 {1000 * p99(probe):.1f} ms, {1000 * p99(undisturbed):.1f} ms when idle,", end=" ")
    print(f"longest {1000 * probe.slowest:.1f} ms, {(peak - idle) / MB:.1f} MB more")
    assert peak - idle < 64 * MB * SLOWNESS
    assert p99(probe) < 0.100 * SLOWNESS + p99(undisturbed)


def test_an_answer_of_any_kind_waits_in_a_bounded_memory(start_runner: Callable[..., Runner]) -> None:
    """Lost: the same by another route: results with their output, of which each is read slowly."""
    runner = start_runner(ROOMY, properties=SMALL_QUARANTINE)
    script = "head -c 1000000 /dev/zero | tr '\\0' x"
    id = runner.submit(["sh", "-c", script], resources=TINY)
    assert runner.wait(id)["output_bytes"] == 1_000_000
    idle = resident_bytes(runner)
    with slow_readers(runner, load(100), f"/api/v1/task/{id}"):
        time.sleep(2)
        await_that(lambda: runner.get("/ready").status_code == 200)
        assert runner.attempt(id)["output"] == "x" * 1_000_000
        assert resident_bytes(runner) - idle < 64 * MB * SLOWNESS


@pytest.mark.plain
def test_what_no_client_reads_is_refused_in_the_end(start_runner: Callable[..., Runner]) -> None:
    """Lost: a disk full of answers that nobody reads."""
    runner = start_runner(ROOMY, properties=SMALL_QUARANTINE)
    ids = fill(runner, 3)
    with slow_readers(runner, load(300)):
        time.sleep(3)
        answers = [runner.get("/api/v1/tasks") for _ in range(3)]
        assert all(answer.status_code in (200, 503) for answer in answers)
        assert runner.attempt(ids[0], output="none")["state"] == "errored"
    await_that(lambda: runner.get("/api/v1/tasks").status_code == 200, timeout=30, what="room for answers")
    assert runner.get(f"/api/v1/task/{task_id()}").status_code == 404
