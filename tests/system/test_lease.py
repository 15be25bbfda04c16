# SPDX-License-Identifier: LGPL-2.1-or-later
"""Leases: a runner is reserved for one queue at a time."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import requests

from bedlib import ROOMY, SLOWNESS, Runner, await_that, free_cores, run, task_id

QUEUE, OTHER = "queue.example:2503", "other.example:2503"
TASK = {"command": ["true"]}


@pytest.fixture
def runner(start_runner: Callable[..., Runner]) -> Runner:
    """A daggyr with room for everything."""
    return start_runner(ROOMY)


def ask(runner: Runner, queue: str = QUEUE, ttl: float = 60, version: str = "1.0") -> requests.Response:
    return runner.post("/api/v1/lease", json={"queue": queue, "version": version, "ttl": ttl})


def take(runner: Runner, queue: str = QUEUE, ttl: float = 60) -> dict[str, Any]:
    """A lease that must be granted anew."""
    answer = ask(runner, queue, ttl)
    assert answer.status_code == 201, answer.text
    lease: dict[str, Any] = answer.json()
    return lease


def shown(runner: Runner) -> dict[str, Any] | None:
    answer = runner.get("/api/v1/lease")
    assert answer.status_code == 200
    lease: dict[str, Any] | None = answer.json()["lease"]
    return lease


def submit(runner: Runner, lease_id: str | None = None, id: str | None = None) -> int:
    headers = {} if lease_id is None else {"Daggyr-Lease": lease_id}
    return runner.post(f"/api/v1/task/{id or task_id()}", json=TASK, headers=headers).status_code


def seconds_left(runner: Runner) -> float:
    """As the problem tells another queue."""
    answer = ask(runner, "third.example:1")
    assert answer.status_code == 409, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    left: float = answer.json()["expires_in"]
    return left


def test_a_grant_tells_all_that_a_queue_needs(runner: Runner) -> None:
    """Lost: a queue would not know what it holds, for how long, and on which machine."""
    before = datetime.now(timezone.utc)
    lease = take(runner, ttl=30)
    assert re.fullmatch("[0-9a-f]{32}", lease["lease_id"])
    assert (lease["queue"], lease["version"], lease["ttl"], lease["epoch"]) == (QUEUE, "1.0", 30, 1)
    expires = datetime.fromisoformat(lease["expires"].replace("Z", "+00:00"))
    assert timedelta(0) <= expires - before - timedelta(seconds=30) < timedelta(seconds=5 * SLOWNESS)
    assert lease["facts"] == runner.get("/api/v1/capacity").json()["facts"]


def test_the_holder_gets_the_same_lease_again(runner: Runner) -> None:
    """Lost: a queue that lost an answer would have locked itself out."""
    lease = take(runner, ttl=30)
    again = ask(runner, ttl=90, version="2.0")
    assert again.status_code == 200
    assert again.json()["lease_id"] == lease["lease_id"]
    assert (again.json()["epoch"], again.json()["ttl"], again.json()["version"]) == (1, 90, "2.0")
    assert 80 < seconds_left(runner) <= 90


def test_another_queue_hears_who_holds_it_and_for_how_long(runner: Runner) -> None:
    """Lost: queues could only guess when to ask again."""
    take(runner, ttl=30)
    answer = ask(runner, OTHER)
    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (409, 409)
    assert problem["holder"] == QUEUE
    assert 30 - 10 * SLOWNESS < problem["expires_in"] <= 30
    lease = shown(runner)
    assert lease and lease["queue"] == QUEUE


def test_a_renewal_starts_the_time_anew(runner: Runner) -> None:
    """Lost: a queue that renews in time would lose its runners all the same."""
    lease = take(runner, ttl=100)
    await_that(lambda: seconds_left(runner) < 99.5, what="some time to pass")
    began = time.monotonic()
    answer = runner.put(f"/api/v1/lease/{lease['lease_id']}")
    assert answer.status_code == 200
    assert (answer.json()["lease_id"], answer.json()["epoch"]) == (lease["lease_id"], 1)
    assert answer.json()["expires"] > lease["expires"]
    assert seconds_left(runner) > 99.9 - (time.monotonic() - began)


def test_a_lease_expires_by_itself(runner: Runner) -> None:
    """Lost: a queue that died would keep its runners for ever."""
    lease = take(runner, ttl=3)
    assert submit(runner) == 423
    await_that(lambda: shown(runner) is None, what="the lease to expire")
    assert runner.put(f"/api/v1/lease/{lease['lease_id']}").status_code == 404
    assert runner.delete(f"/api/v1/lease/{lease['lease_id']}").status_code == 404
    assert submit(runner) == 202
    assert submit(runner, lease["lease_id"]) == 423
    assert take(runner, OTHER)["epoch"] == 2


def test_a_lease_that_is_renewed_outlives_its_ttl(runner: Runner) -> None:
    """Lost: the same as by a renewal that is only announced."""
    lease = take(runner, ttl=4 * SLOWNESS)
    first_end = lease["expires"]

    def renewed() -> bool:
        answer = runner.put(f"/api/v1/lease/{lease['lease_id']}")
        assert answer.status_code == 200
        now = datetime.now(timezone.utc).isoformat()
        return now > first_end.replace("Z", "+00:00")

    await_that(renewed, what="the end of the first ttl")
    assert shown(runner)


@pytest.mark.parametrize("path", ["/api/v1/task", "/api/v1/1/x"])
def test_only_the_holder_may_submit(runner: Runner, path: str) -> None:
    """Lost: two queues would share a runner that each believes to have for itself."""
    lease = take(runner)["lease_id"]
    wrong = ["0" * 32, lease.upper(), lease[:-1], lease + "0", "", "x" * 4000]
    if lease.upper() == lease:
        wrong.remove(lease)
    for header in [{}] + [{"Daggyr-Lease": value} for value in wrong]:
        assert runner.post(path, json=TASK, headers=header).status_code == 423
    assert runner.get("/api/v1/tasks").json()["tasks"] == []
    answer = runner.post(path, json=TASK, headers={"Daggyr-Lease": lease})
    assert answer.status_code == (200 if path.endswith("x") else 202)


def test_a_leased_runner_still_tells_and_stops(runner: Runner) -> None:
    """Lost: operators and monitoring would be locked out of a leased runner."""
    lease = take(runner)["lease_id"]
    id = task_id()
    body = {"command": ["sleep", "infinity"]}
    runner.post(f"/api/v1/task/{id}", json=body, headers={"Daggyr-Lease": lease})
    assert runner.attempt(id)["state"] in ("queued", "running")
    assert runner.delete(f"/api/v1/task/{id}?wait=60").json()["state"] == "killed"
    assert runner.get("/ready").status_code == 200


def test_a_lease_can_be_required(start_runner: Callable[..., Runner]) -> None:
    """Lost: a runner that belongs to queues would be used by whoever comes between two leases."""
    runner = start_runner(ROOMY | {"require_lease": True})
    assert submit(runner) == 423
    lease = take(runner)["lease_id"]
    assert [submit(runner), submit(runner, lease)] == [423, 202]
    assert runner.delete(f"/api/v1/lease/{lease}").status_code == 204
    assert [submit(runner), submit(runner, lease)] == [423, 423]


@pytest.mark.parametrize("end", ["released", "expired"])
def test_tasks_of_an_ended_lease_go_on(start_runner: Callable[..., Runner], end: str) -> None:
    """Lost: work would be killed because its queue was slow for a moment, or capacity promised twice."""
    runner = start_runner({"capacity_overrides": {"cores": 2, "memory_mb": 4096}})
    lease = take(runner, ttl=60 if end == "released" else 3)["lease_id"]
    running, waiting = task_id(), task_id()
    for id, command, cores in ((running, "infinity", 2), (waiting, "0", 1)):
        body = {"command": ["sleep", command], "resources": {"cores": cores}}
        answer = runner.post(f"/api/v1/task/{id}", json=body, headers={"Daggyr-Lease": lease})
        assert answer.status_code == 202
    await_that(lambda: runner.attempt(running)["start_time"], what="the start")
    if end == "released":
        assert runner.delete(f"/api/v1/lease/{lease}").status_code == 204
    await_that(lambda: shown(runner) is None, what="the end of the lease")

    take(runner, OTHER)
    assert runner.attempt(running)["state"] == "running"
    assert free_cores(runner) == 0
    runner.delete(f"/api/v1/task/{running}?wait=60")
    assert runner.wait(waiting)["succeeded"]  # it was accepted


def test_a_lease_is_gone_after_a_restart(runner: Runner) -> None:
    """Lost: a queue could believe to hold a runner that has forgotten all its tasks."""
    lease = take(runner, ttl=3600)["lease_id"]
    run("systemctl", "restart", runner.unit)
    assert shown(runner) is None
    assert runner.put(f"/api/v1/lease/{lease}").status_code == 404
    assert [submit(runner), submit(runner, lease)] == [202, 423]
    assert take(runner, OTHER)["lease_id"] != lease


def test_each_grant_has_a_higher_epoch_and_another_id(runner: Runner) -> None:
    """Lost: telling an old holder from a new one."""
    ids, epochs = [], []
    for queue in (QUEUE, QUEUE, OTHER, QUEUE):
        lease = take(runner, queue)
        ids.append(lease["lease_id"])
        epochs.append(lease["epoch"])
        runner.put(f"/api/v1/lease/{lease['lease_id']}")
        visible = shown(runner)
        assert visible and visible["epoch"] == lease["epoch"]
        assert runner.delete(f"/api/v1/lease/{lease['lease_id']}").status_code == 204
    assert epochs == [1, 2, 3, 4]
    assert len(set(ids)) == 4


def test_nobody_but_the_holder_sees_the_id(runner: Runner) -> None:
    """Lost: whoever may read could submit in the holder's name."""
    with runner.get("/api/v1/events", stream=True) as stream:
        lines = stream.iter_lines(chunk_size=1)
        next(lines)
        lease = take(runner)["lease_id"]
        event = next(line for line in lines if line.startswith(b"data:") and b"lease" in line)
    paths = ("/api/v1/lease", "/api/v1/capacity", "/metrics", "/api/v1/tasks")
    texts = [runner.get(path).text for path in paths]
    texts += [event.decode(), ask(runner, OTHER).text, runner.journal()]
    assert not [text for text in texts if lease in text]
    visible = shown(runner)
    assert visible and set(visible) == {"queue", "version", "epoch", "ttl", "expires"}
    told = json.loads(event.decode().partition(":")[2])["lease"]
    del told["expires"], visible["expires"]  # worked out anew each time, from two clocks
    assert told == visible


def test_a_draining_runner_grants_none_but_keeps_what_it_granted(runner: Runner) -> None:
    """Lost: a queue would move to a machine that is to become idle, or lose its tasks on one that is."""
    lease = take(runner)["lease_id"]
    runner.put("/api/v1/drain", json={"drain": True})
    assert runner.put(f"/api/v1/lease/{lease}").status_code == 200
    assert shown(runner)
    refused = ask(runner, OTHER)
    assert (refused.status_code, int(refused.headers["Retry-After"]) > 0) == (503, True)
    assert runner.delete(f"/api/v1/lease/{lease}").status_code == 204
    assert ask(runner, QUEUE).status_code == 503
    runner.put("/api/v1/drain", json={"drain": False})
    assert ask(runner, QUEUE).status_code == 201


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"ttl": 0.99}, "/ttl"),
        ({"ttl": 3601}, "/ttl"),
        ({"ttl": "30"}, "/ttl"),
        ({"ttl": None}, "/ttl"),
        ({"queue": 7}, "/queue"),
        ({"queue": ""}, "/queue"),
        ({"queue": "x" * 300}, "/queue"),
        ({"version": []}, "/version"),
        ({"holder": "x"}, "/holder"),
    ],
)
def test_a_wrong_request_is_refused_and_names_the_field(
    runner: Runner, change: dict[str, Any], field: str
) -> None:
    """Lost: a queue with a typo would hold a runner for the wrong time."""
    body = {"queue": QUEUE, "version": "1", "ttl": 30} | change
    answer = runner.post("/api/v1/lease", json=body)
    assert (answer.status_code, answer.json().get("field")) == (400, field)
    assert shown(runner) is None


@pytest.mark.parametrize("ttl", [1, 1.5, 3600])
def test_the_documented_times_are_granted(runner: Runner, ttl: float) -> None:
    """Lost: queues that are configured at the ends of the range."""
    assert take(runner, ttl=ttl)["ttl"] == ttl


def test_of_many_queues_at_once_one_gets_it(runner: Runner) -> None:
    """Lost: the one thing that leases are for."""
    runner.http.close()

    def race(n: int) -> tuple[int, str]:
        body = {"queue": f"queue{n}.example:2503", "version": "1", "ttl": 60}
        answer = requests.post(f"{runner.url}/api/v1/lease", json=body, timeout=60 * SLOWNESS)
        found = answer.json()
        return answer.status_code, found.get("queue") or found["holder"]

    with ThreadPoolExecutor(20) as queues:
        outcomes = list(queues.map(race, range(40)))
    assert sorted(status for status, _ in outcomes) == [201] + [409] * 39
    assert len({holder for _, holder in outcomes}) == 1
