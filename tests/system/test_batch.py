# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many tasks in one request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bedlib import ROOMY, Runner, await_that, open_folder, task_id

BATCH_MAX = 1000
ONE_AT_A_TIME = {"capacity_overrides": {"cores": 1, "memory_mb": 4096}}


def batch_of(n: int, command: list[str] = ["true"], **fields: Any) -> list[dict[str, Any]]:
    return [{"task_id": task_id(), "command": command} | fields for _ in range(n)]


def ids_of(batch: list[dict[str, Any]]) -> list[str]:
    return [task["task_id"] for task in batch]


def send(runner: Runner, batch: Any, **options: Any) -> list[dict[str, Any]]:
    """The outcomes of a batch that must be taken as a whole."""
    answer = runner.post("/api/v1/tasks", json=batch, **options)
    assert answer.status_code == 200, answer.text
    outcomes: list[dict[str, Any]] = answer.json()
    assert len(outcomes) == len(batch)
    return outcomes


def statuses(outcomes: list[dict[str, Any]]) -> list[int]:
    for outcome in outcomes:
        if "problem" in outcome:
            assert outcome["problem"]["status"] == outcome["status"]
        else:
            assert outcome["attempt"]["task_id"] == outcome["task_id"]
    return [outcome["status"] for outcome in outcomes]


def test_a_thousand_tasks_are_taken_in_their_order(start_runner: Callable[..., Runner]) -> None:
    """Lost: clients with many tasks, and telling by its place which outcome is whose."""
    runner = start_runner(ONE_AT_A_TIME)
    first = runner.submit(["sleep", "infinity"])
    await_that(lambda: runner.attempt(first)["state"] == "running", what="a full runner")
    batch = batch_of(BATCH_MAX)
    outcomes = send(runner, batch)
    assert [outcome["task_id"] for outcome in outcomes] == ids_of(batch)
    assert statuses(outcomes) == [202] * BATCH_MAX
    known = runner.get("/api/v1/tasks?state=queued").json()
    assert [task["task_id"] for task in known["tasks"]] == ids_of(batch)
    assert known["next"] is None


@pytest.mark.parametrize(
    "body", [{}, {"tasks": []}, "[]", 1, None, batch_of(BATCH_MAX + 1)],
    ids=["object", "wrapped", "string", "number", "null", "1001"],
)  # fmt: skip
def test_what_is_no_batch_runs_nothing(start_runner: Callable[..., Runner], body: Any) -> None:
    """Lost: a batch that was refused might have run in part, and the client would send it again."""
    runner = start_runner(ROOMY)
    answer = runner.post("/api/v1/tasks", json=body)
    assert answer.status_code == 400
    assert answer.json()["title"]
    assert runner.get("/api/v1/tasks").json()["tasks"] == []


def test_the_tasks_of_a_batch_start_in_its_order(start_runner: Callable[..., Runner]) -> None:
    """Lost: who sends the urgent tasks first would not get them first."""
    runner = start_runner(ONE_AT_A_TIME)
    batch = batch_of(8)
    assert statuses(send(runner, batch)) == [202] * 8
    starts = [runner.wait(id)["start_time"] for id in ids_of(batch)]
    assert starts == sorted(starts)


def test_a_task_of_a_batch_that_will_not_wait_sees_what_those_before_it_took(
    start_runner: Callable[..., Runner],
) -> None:
    """Lost: a batch would promise the same core to many tasks, or refuse one that had fitted."""
    runner = start_runner({"capacity_overrides": {"cores": 2, "memory_mb": 4096}})
    batch = batch_of(4, ["sleep", "infinity"], when_full="reject")
    batch[3]["when_full"] = "queue"
    assert statuses(send(runner, batch)) == [202, 202, 409, 202]
    assert runner.get(f"/api/v1/task/{batch[2]['task_id']}").status_code == 404
    assert runner.attempt(batch[3]["task_id"])["state"] == "queued"


def test_a_batch_fills_the_queue_and_not_more(start_runner: Callable[..., Runner]) -> None:
    """Lost: the bound on waiting tasks, for whoever sends them in batches."""
    runner = start_runner(ONE_AT_A_TIME | {"queue_max": 2})
    assert statuses(send(runner, batch_of(5, ["sleep", "infinity"]))) == [202, 202, 202, 429, 429]
    assert runner.get("/api/v1/capacity").json()["tasks"] == {"queued": 2, "running": 1}


def test_one_bad_task_of_a_batch_does_not_harm_the_others(start_runner: Callable[..., Runner]) -> None:
    """Lost: one typo among hundreds of tasks would stop all of them, or go unnoticed."""
    runner = start_runner(ROOMY)
    batch = batch_of(6, ["echo", "hi"])
    batch[1]["comand"] = ["true"]
    batch[2]["resources"] = {"cores": 1000}
    batch[3]["user"] = "root"
    batch[4]["task_id"] = batch[0]["task_id"]
    outcomes = send(runner, batch)
    assert statuses(outcomes) == [202, 400, 422, 403, 200, 202]
    assert outcomes[1]["problem"]["field"] == "/comand"
    assert all("output" not in outcome.get("attempt", {}) for outcome in outcomes)
    for id in (batch[0]["task_id"], batch[5]["task_id"]):
        assert runner.wait(id)["output"] == "hi\n"


def test_the_same_batch_again_runs_nothing_new(start_runner: Callable[..., Runner]) -> None:
    """Lost: a client whose connection broke could not send its batch again without running it twice."""
    runner = start_runner(ROOMY)
    log = open_folder() / "log"
    batch = batch_of(10, ["sh", "-c", f"echo ran >> {log}"], umask="0")
    assert statuses(send(runner, batch)) == [202] * 10
    assert statuses(send(runner, batch)) == [200] * 10
    for id in ids_of(batch):
        assert runner.wait(id)["succeeded"]
    assert statuses(send(runner, batch)) == [200] * 10
    assert log.read_text() == "ran\n" * 10


def test_a_batch_comes_under_the_lease_it_names(start_runner: Callable[..., Runner]) -> None:
    """Lost: batches as a way around another queue's lease."""
    runner = start_runner(ROOMY)
    lease = {"queue": "queue.example:2503", "version": "1", "ttl": 60}
    lease_id = runner.post("/api/v1/lease", json=lease).json()["lease_id"]
    assert statuses(send(runner, batch_of(2))) == [423, 423]
    assert statuses(send(runner, batch_of(2), headers={"Daggyr-Lease": lease_id})) == [202, 202]


def test_a_draining_runner_refuses_each_task_of_a_batch(start_runner: Callable[..., Runner]) -> None:
    """Lost: batches as a way into a runner that is to become idle."""
    runner = start_runner(ROOMY)
    known = batch_of(1)
    assert statuses(send(runner, known)) == [202]
    runner.put("/api/v1/drain", json={"drain": True})
    assert statuses(send(runner, known + batch_of(2))) == [200, 503, 503]
