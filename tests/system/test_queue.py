# SPDX-License-Identifier: LGPL-2.1-or-later
"""daggyd in front of runners: placement, results, restarts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from bedlib import Runner, await_that, task_id
from ctllib import good

Starter = Callable[..., Any]


def worker(start_runner: Starter, cores: int, memory_mb: int) -> Runner:
    return start_runner({"capacity_overrides": {"cores": cores, "memory_mb": memory_mb}})


def test_a_task_runs_at_a_worker_and_its_result_comes_back(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: the queue."""
    queue = start_queue({"w": worker(start_runner, 2, 1024)})
    queue.await_leases("w")
    attempt = queue.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert attempt["state"] == "errored"
    assert attempt["exit_code"] == 3
    assert attempt["output"] == "out\n"
    assert attempt["error"] == "err\n"
    assert attempt["worker"] == "w"
    assert attempt["attempts"] == []


def test_a_tail_is_as_long_as_at_a_runner(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: the 8 KiB that are documented; a client that polls many tasks reads eight times as much."""
    runner = worker(start_runner, 2, 1024)
    command = ["sh", "-c", "seq 1 10000"]
    runner_id = runner.run(command)["task_id"]  # before the queue leases it
    queue = start_queue({"w": runner})
    id = queue.run(command)["task_id"]
    tails = [
        server.get(f"/api/v1/task/{number}", params={"output": "tail"}).json()["output"]
        for server, number in ((queue, id), (runner, runner_id))
    ]
    assert len(tails[0]) == 8192 and tails[0].endswith("\n9999\n10000\n")
    assert tails[0] == tails[1]


def test_the_seeds_example_lands_on_the_third(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: placement by least impact (25 %, 50 %, 20 %)."""
    runners = {
        "first": worker(start_runner, 8, 20480),
        "second": worker(start_runner, 4, 20480),
        "third": worker(start_runner, 10, 25600),
    }
    queue = start_queue(runners, {"lease_ttl": 60, "lost_after": 60})  # none of them goes meanwhile
    queue.await_usable(*runners)
    attempt = queue.run(["true"], resources={"cores": 2, "memory_mb": 5120})
    assert attempt["worker"] == "third"


def test_a_result_outlives_its_runner_and_the_queue(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: results that were already there."""
    runner = worker(start_runner, 2, 1024)
    queue = start_queue({"w": runner})
    id = queue.submit(["sh", "-c", "echo kept"])
    queue.wait(id)
    runner.stop()
    queue.kill9()
    queue.start()
    assert queue.attempt(id)["output"] == "kept\n"


def test_a_restarted_queue_finds_its_running_tasks(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: tasks that ran while the queue was away would run twice or not be heard of again."""
    runner = worker(start_runner, 2, 1024)
    queue = start_queue({"w": runner})
    running = queue.submit(["sh", "-c", "sleep 2; echo end"])
    await_that(lambda: queue.attempt(running)["state"] == "running")
    waiting = queue.submit(["echo", "later"], resources={"cores": 2})
    queue.kill9()
    queue.start()
    attempt = queue.wait(running)
    assert attempt["state"] == "completed" and attempt["output"] == "end\n"
    assert attempt["attempts"] == []
    assert queue.wait(waiting)["output"] == "later\n"


def test_a_waiting_task_can_be_canceled(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: a way out of the queue."""
    queue = start_queue({"w": worker(start_runner, 1, 1024)})
    queue.await_leases("w")
    holder = queue.submit(["sleep", "infinity"])
    await_that(lambda: queue.attempt(holder)["state"] == "running", what="one to run")
    waiting = queue.submit(["true"])
    assert queue.delete(f"/api/v1/task/{waiting}", params={"wait": 10}).json()["result"] == "canceled"
    assert queue.delete(f"/api/v1/task/{holder}", params={"wait": 20}).json()["result"] == "stopped"
    assert queue.delete(f"/api/v1/task/{holder}").status_code == 204
    assert queue.get(f"/api/v1/task/{holder}").status_code == 404


def test_the_same_submission_twice_runs_once(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: clients that repeat a request whose answer they missed."""
    queue = start_queue({"w": worker(start_runner, 2, 1024)})
    id = task_id()
    body = {"command": ["echo", "once"]}
    assert queue.post(f"/api/v1/task/{id}", json=body).status_code == 202
    assert queue.post(f"/api/v1/task/{id}", json=body).status_code == 200
    queue.wait(id)
    assert queue.post(f"/api/v1/task/{id}", json=body).json()["output"] == "once\n"
    assert queue.post(f"/api/v1/task/{id}", json={"command": ["false"]}).status_code == 409


@pytest.mark.parametrize("user", ["nobody", "there-is-no-such-user"])
def test_a_task_that_no_worker_may_run_holds_up_no_others(
    start_runner: Starter, start_queue: Starter, user: str
) -> None:
    """Lost: the whole queue, by one task with a user that its runners refuse."""
    runner = start_runner({"capacity_overrides": {"cores": 1}, "allowed_users": ["there-is-no-such-user"]})
    queue = start_queue({"w": runner})
    queue.await_leases("w")
    refused = queue.run(["true"], user=user)
    assert refused["state"] == "errored" and refused["result"] == "start-failed"
    assert "user" in refused["executor"][0]
    assert queue.run(["true"])["state"] == "completed"


@pytest.mark.local
def test_a_local_queue_is_its_only_member(start_queue: Starter) -> None:
    """Lost: one way to ask, for those who watch queues of both kinds."""
    queue = start_queue({})
    (only,) = queue.get("/api/v1/members").json()
    assert (only["self"], only["leading"], only["state"]) == (True, True, "alive")
    assert only["address"] in good(queue, "members")
