# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stopping and forgetting many tasks at once: what is the same at a runner and a queue."""

from __future__ import annotations

import itertools
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from bedlib import ROOMY, Queue, Runner, await_that, load, task_id
from ctllib import ctl, good

Starter = Callable[..., Any]

BUSY = {"capacity_overrides": {"cores": 4, "memory_mb": 65536}, "queue_max": 5000}


@pytest.fixture(params=["runner", "queue"])
def daemon(request: pytest.FixtureRequest, start_runner: Starter, start_queue: Starter) -> Runner:
    runner: Runner = start_runner(BUSY)
    if request.param == "runner":
        return runner
    queue: Queue = start_queue({"w": runner})
    queue.await_leases("w")
    return queue


def bulk(daemon: Runner, verb: str, **selection: Any) -> tuple[int, int]:
    answer = daemon.post(f"/api/v1/tasks/{verb}", json=selection, timeout=300)
    assert answer.status_code == 200, answer.text
    return answer.json()["matched"], answer.json()["changed"]


def test_what_fits_is_stopped_and_then_forgotten(daemon: Runner) -> None:
    """Lost: a batch that can be stopped and cleared only one by one, or that of a colleague with it."""
    mine, other = {"set": task_id("mine"), "a": "1"}, {"set": task_id("other"), "a": "1"}
    done = daemon.submit(["true"], labels=mine)
    daemon.wait(done)
    live = [daemon.submit(["sleep", "100"], labels=mine) for _ in range(8)]
    bystander = daemon.submit(["sleep", "100"], labels=other)
    assert bulk(daemon, "forget", labels={"set": "none"}) == (0, 0)
    assert bulk(daemon, "forget", labels=mine) == (9, 1)
    assert daemon.get(f"/api/v1/task/{done}").status_code == 404
    assert bulk(daemon, "stop", labels=mine) == (8, 8)
    assert {daemon.wait(id)["state"] for id in live} == {"killed"}
    assert bulk(daemon, "stop", labels=mine) == (8, 0)
    assert bulk(daemon, "forget", labels=mine, state="completed") == (0, 0)
    assert bulk(daemon, "forget", labels=mine, state="killed") == (8, 8)
    assert bulk(daemon, "stop", labels=mine) == (0, 0)
    assert daemon.attempt(bystander)["state"] in ("queued", "running")
    daemon.delete(f"/api/v1/task/{bystander}")


def test_all_tasks_are_never_meant_by_saying_nothing(daemon: Runner) -> None:
    """Lost: every result, by an empty selection."""
    id = daemon.submit(["true"])
    daemon.wait(id)
    for body in ({}, {"labels": {}}, {"state": "done"}, {"state": 1}, {"labels": {"a": 1}}, {"ids": [id]}, []):
        for verb in ("stop", "forget"):
            assert daemon.post(f"/api/v1/tasks/{verb}", json=body).status_code == 400, body
    assert daemon.attempt(id)["state"] == "completed"


def test_thousands_are_stopped_while_others_are_served(start_runner: Starter) -> None:
    """Lost: seconds in which a runner answers nobody, since somebody stops all that waits."""
    n = load(3000)
    runner: Runner = start_runner(BUSY)
    task = {"command": ["sleep", "100"], "resources": {"cores": 1}}

    def longest_wait() -> float:
        """Stops thousands and forgets them: how long others had to wait at most, as a part of the time it took."""
        labels = {"set": task_id()}
        for first in range(0, n, 1000):
            tasks = [task | {"labels": labels}] * min(1000, n - first)
            answer = runner.post("/api/v1/tasks", json=tasks, timeout=120)
            assert {outcome["status"] for outcome in answer.json()} == {202}
        command = ["daggyctl", "-H", runner.url, "stop", "-l", f"set={labels['set']}"]
        times = [time.monotonic()]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stopping:
            while stopping.poll() is None:
                assert runner.get("/api/v1/capacity").status_code == 200
                times.append(time.monotonic())
            assert stopping.stdout and stopping.stdout.read() == f"{n} matched, {n} changed\n"
        await_that(lambda: runner.get("/api/v1/capacity").json()["tasks"]["running"] == 0, 60, "all have ended")
        assert good(runner, "forget", "-l", f"set={labels['set']}") == f"{n} matched, {n} changed\n"
        return max(after - before for before, after in itertools.pairwise(times)) / (times[-1] - times[0])

    # Whoever is busy with something else may hold up one of them, but not each time.
    assert any(longest_wait() < 0.5 for _ in range(3))


def test_a_runner_does_not_try_again(start_runner: Starter) -> None:
    """Lost: a word about who does, for those who ask a runner."""
    runner: Runner = start_runner(ROOMY)
    for chosen in (["-l", "a=b"], [runner.submit(["true"])]):
        answer = ctl(runner, "retry", *chosen)
        assert answer.returncode == 125 and "is a runner, not a queue" in answer.stderr, answer
