# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many tasks, for a long time: what daggyd costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bedlib import ROOMY, SLOWNESS, SMALL_QUARANTINE, Queue, await_that, cpu_seconds, open_fds, run, task_id

pytestmark = pytest.mark.plain

Starter = Callable[..., Any]

N_MANY = 100_000 if SLOWNESS <= 1 else 5_000
BYTES_PER_TASK_MAX = 1400
SMALL = {"resources": {"cores": 1, "memory_mb": 1}}
EIGHT_AT_A_TIME = {"capacity_overrides": {"cores": 8, "memory_mb": 65536}}
"""Hundreds of tasks that begin at once would keep a small machine from its leases, and neighbours from their tests."""


def resident_bytes(queue: Queue) -> int:
    lines = Path(f"/proc/{queue.main_pid}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def submit_many(queue: Queue, n: int, label: str) -> float:
    """The CPU time that the queue took for it, in seconds: what neighbours do to the machine is not in it."""
    begin = cpu_seconds(queue.main_pid)
    for at in range(0, n, 1000):
        batch = [
            {"task_id": task_id(f"{label}{at}"), "command": ["true"], "retry": {"max": 2}} | SMALL
            for _ in range(min(1000, n - at))
        ]
        outcomes = queue.post("/api/v1/tasks", json=batch).json()
        assert {outcome["status"] for outcome in outcomes} == {202}
    return cpu_seconds(queue.main_pid) - begin


def n_finished(queue: Queue) -> int:
    lines = queue.get("/metrics").text.splitlines()
    return sum(int(line.split()[-1]) for line in lines if line.startswith("daggyd_tasks_finished_total"))


def dispatch(queue: Queue, n: int) -> float:
    """The CPU time that the queue took until the worker was through with N of the tasks that wait, in seconds."""
    before, begin = n_finished(queue), cpu_seconds(queue.main_pid)
    queue.put("/api/v1/workers/w", json={"disabled": False})
    await_that(lambda: n_finished(queue) >= before + n, 60, "the first tasks to be through")
    took = cpu_seconds(queue.main_pid) - begin
    queue.put("/api/v1/workers/w", json={"disabled": True})
    return took


def wakeups(pid: int) -> int:
    """How often it was switched away from because it waited."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("voluntary_ctxt_switches")).split()[1])


def test_many_waiting_tasks(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: memory and time, the more the longer the queue is; at last the whole queue."""
    runner = start_runner(EIGHT_AT_A_TIME)
    queue = start_queue({"w": runner}, None, SMALL_QUARANTINE)
    queue.await_leases("w")
    queue.put("/api/v1/workers/w", json={"disabled": True})
    first = submit_many(queue, 2000, "warm")
    dispatched_first = dispatch(queue, 400)
    base = resident_bytes(queue)
    total = submit_many(queue, N_MANY - 4000, "bulk")
    last = submit_many(queue, 2000, "last")
    per_task = (resident_bytes(queue) - base) / (N_MANY - 2000)
    print(f"{per_task:.0f} bytes/task; 2000 in {first:.2f} s at first, {last:.2f} s at last, bulk {total:.1f} s")
    if SLOWNESS <= 1:
        assert per_task < BYTES_PER_TASK_MAX
    assert last < 3 * first + 0.2 * SLOWNESS
    used = cpu_seconds(queue.main_pid)
    page = queue.get("/api/v1/tasks?limit=100&state=queued").json()
    page = queue.get("/api/v1/tasks", params={"limit": 100, "after": page["next"]}).json()
    assert len(page["tasks"]) == 100
    assert cpu_seconds(queue.main_pid) - used < 1 * SLOWNESS
    dispatched_last = dispatch(queue, 400)
    print(f"400 dispatched and done in {dispatched_first:.2f} s at first, {dispatched_last:.2f} s at last")
    assert dispatched_last < 4 * dispatched_first + 1 * SLOWNESS  # with 50 times as many that wait
    begin = time.monotonic()
    queue.kill9()
    queue.start()
    print(f"restart: {time.monotonic() - begin:.1f} s")
    assert time.monotonic() - begin < 20 * SLOWNESS


def test_no_leaks(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: a daggyd that can run for months."""
    queue = start_queue({"w": start_runner(EIGHT_AT_A_TIME)}, {"results_max": 100}, SMALL_QUARANTINE)
    queue.await_leases("w")
    pid = queue.main_pid

    def run_some(n: int) -> None:
        ids = [task_id("leak") for _ in range(n)]
        batch = [{"task_id": id, "command": ["echo", "x"]} | SMALL for id in ids]
        queue.post("/api/v1/tasks", json=batch)
        live = ("queued", "running")
        for state in live:
            await_that(
                lambda: queue.get("/api/v1/tasks", params={"state": state, "limit": 1}).json()["tasks"] == [],
                90,
                "the tasks to be through",
            )

    run_some(300)
    fds, memory = len(open_fds(pid)), resident_bytes(queue)
    for _ in range(2):
        run_some(350)
    await_that(lambda: len(open_fds(pid)) <= fds + 5, 30, "descriptors to be closed")
    assert resident_bytes(queue) - memory < 4 * 1024 * 1024 * SLOWNESS
    assert queue.main_pid == pid


def test_an_idle_queue_sleeps(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: power, and the processor of a small machine."""
    queue = start_queue({"w": start_runner(ROOMY)}, {"lease_ttl": 30, "lost_after": 30})
    queue.await_leases("w")
    queue.run(["true"])
    time.sleep(2)
    before = wakeups(queue.main_pid)
    time.sleep(5)
    assert wakeups(queue.main_pid) - before < 60


def test_access_rules_hold_here_too(start_queue: Starter) -> None:
    """Lost: the queue, to any web page or neighbour."""
    folder = Path("/run/daggyr-test")
    folder.mkdir(exist_ok=True)
    token = folder / "queue-token"
    token.write_text("q" * 40 + "\n")
    token.chmod(0o644)
    queue = start_queue({}, {"auth": {"token_file": str(token)}})
    assert queue.get("/ready").status_code in (200, 503)
    assert queue.get("/api/v1/tasks").status_code == 401
    good = {"Authorization": "Bearer " + "q" * 40}
    assert queue.get("/api/v1/tasks", headers=good).status_code == 200
    assert queue.get("/api/v1/tasks", headers=good | {"Origin": "http://evil.example"}).status_code == 403
    assert queue.get("/api/v1/tasks", headers={"Host": "evil.example"}).status_code in (401, 421)
    assert queue.get("/queueVersion").status_code == 401


def test_the_unit_is_tight() -> None:
    """Lost: the line of defence behind daggyd."""
    verify = run("systemd-analyze", "verify", "--man=no", "daggyd.service", stderr=-2)
    assert verify == ""
    verdict = run("systemd-analyze", "security", "--no-pager", "daggyd.service").splitlines()
    overall = next(line for line in verdict if "Overall exposure level" in line)
    assert float(overall.split(":")[1].split()[0]) <= 2.0, overall
