# SPDX-License-Identifier: LGPL-2.1-or-later
"""Draining: how a runner is emptied without harm to what runs on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bedlib import Runner, await_that, run, submit_gated, task_id, unit_property


@pytest.fixture
def runner(start_runner: Callable[..., Runner]) -> Runner:
    """A daggyr with room for one task of one core."""
    return start_runner({"capacity_overrides": {"cores": 1, "memory_mb": 4096}})


def drain(runner: Runner, wanted: bool) -> dict[str, Any]:
    answer = runner.put("/api/v1/drain", json={"drain": wanted})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert found["draining"] is wanted
    return found


def test_what_runs_goes_on_and_what_waits_waits(runner: Runner) -> None:
    """Lost: emptying a machine for maintenance without losing work."""
    running, gate = submit_gated(runner)
    waiting = runner.submit(["echo", "late"])
    drain(runner, True)
    gate.open()
    attempt = runner.wait(running)
    assert (attempt["result"], attempt["output"]) == ("success", "done\n")
    capacity = runner.get("/api/v1/capacity").json()
    assert capacity["free"] == capacity["total"]
    assert capacity["tasks"] == {"queued": 1, "running": 0}
    assert runner.attempt(waiting, wait=1)["state"] == "queued"

    assert drain(runner, False)["tasks"]["queued"] == 1
    assert runner.wait(waiting)["output"] == "late\n"


def test_a_draining_runner_takes_nothing_new_and_says_when_to_ask_again(runner: Runner) -> None:
    """Lost: clients and balancers would not know that they should go elsewhere for a while."""
    known = runner.submit(["true"])
    runner.wait(known)
    drain(runner, True)
    body = {"command": ["true"]}
    id = task_id()
    refused = [runner.get("/ready")]
    refused += [runner.post(f"/api/v1/task{path}", json=body) for path in ("", f"/{id}")]
    lease = {"queue": "queue.example:2503", "version": "1", "ttl": 60}
    refused += [runner.post("/api/v1/lease", json=lease)]
    assert [answer.status_code for answer in refused] == [503] * 4
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
    assert runner.get(f"/api/v1/task/{id}").status_code == 404
    assert runner.post(f"/api/v1/task/{known}", json=body).status_code == 200  # asks for nothing new

    drain(runner, False)
    assert runner.get("/ready").status_code == 200
    assert runner.run(["true"])["succeeded"]


def test_a_daggyr_server_is_refused_in_its_own_form(runner: Runner) -> None:
    """Lost: its log would not say why the task was not dispatched."""
    drain(runner, True)
    answer = runner.post(f"/api/v1/1/{task_id()}", json={"command": ["true"]})
    assert answer.status_code == 503
    assert list(answer.json()) == ["error"]


def test_tasks_of_a_draining_runner_can_be_stopped(runner: Runner) -> None:
    """Lost: whoever drains could not get rid of what takes too long."""
    running = runner.submit(["sleep", "infinity"])
    waiting = runner.submit(["true"])
    drain(runner, True)
    assert runner.delete(f"/api/v1/task/{waiting}").json()["result"] == "canceled"
    assert runner.delete(f"/api/v1/task/{running}?wait=60").json()["result"] == "stopped"
    assert runner.get("/api/v1/capacity").json()["tasks"] == {"queued": 0, "running": 0}


def test_draining_is_to_be_seen_everywhere(runner: Runner) -> None:
    """Lost: an operator would wonder why nothing starts."""
    before = runner.get("/api/v1/capacity").json()
    brief = drain(runner, True)
    assert brief["revision"] > before["revision"]
    assert runner.get("/api/v1/capacity").json()["draining"] is True
    assert "\ndaggyr_draining 1\n" in runner.get("/metrics").text
    await_that(lambda: "draining" in unit_property(runner.unit, "StatusText"), what="the status line")
    again = drain(runner, True)
    assert again["revision"] == brief["revision"]
    drain(runner, False)
    await_that(lambda: "draining" not in unit_property(runner.unit, "StatusText"), what="the status line")
    assert "\ndaggyr_draining 0\n" in runner.get("/metrics").text


NONSENSE: list[Any] = [{}, {"drain": 1}, {"drain": "true"}, {"drain": None}, [], {"drain": True, "x": 1}]


@pytest.mark.parametrize("body", NONSENSE)
def test_a_drain_of_nonsense_changes_nothing(runner: Runner, body: Any) -> None:
    """Lost: a misspelt request would take a machine out of service, or seem to have done so."""
    assert runner.put("/api/v1/drain", json=body).status_code == 400
    assert runner.get("/ready").status_code == 200


def test_a_restarted_runner_does_not_drain(runner: Runner) -> None:
    """Lost: the documented way back after maintenance: daggyr keeps no state."""
    drain(runner, True)
    run("systemctl", "restart", runner.unit)
    assert runner.get("/ready").status_code == 200
    assert runner.run(["true"])["succeeded"]
