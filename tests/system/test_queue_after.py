# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tasks that wait for others, tasks that are tried again, why a task waits, and verbs for many tasks at once."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from bedlib import ROOMY, SLOWNESS, Queue, await_that, injected, open_folder, task_id
from probelib import ReadyProbe

Starter = Callable[..., Any]

ONE = {"capacity_overrides": {"cores": 1, "memory_mb": 4096}}


def label(name: str) -> dict[str, str]:
    return {"set": task_id(name)}


def bulk(queue: Queue, verb: str, **selection: Any) -> tuple[int, int]:
    answer = queue.post(f"/api/v1/tasks/{verb}", json=selection, timeout=300)
    assert answer.status_code == 200, answer.text
    assert sorted(answer.json()) == ["changed", "matched"]
    return answer.json()["matched"], answer.json()["changed"]


def retry(queue: Queue, id: str) -> requests.Response:
    return queue.post(f"/api/v1/task/{id}/retry")


def end(queue: Queue, id: str) -> tuple[str, str]:
    attempt = queue.wait(id)
    return attempt["state"], attempt["result"]


def pending(queue: Queue, id: str) -> dict[str, Any]:
    attempt = queue.attempt(id)
    assert attempt["state"] == "queued", attempt
    return dict(attempt["pending"])


def gate(folder: Path, name: str, then: str = "true") -> list[str]:
    """A command that says that it runs, and ends when it may."""
    script = f"cd {folder}; touch {name}.began; until test -e {name}.may-end; do sleep 0.05; done; {then}"
    return ["sh", "-c", script]


def began(folder: Path, name: str) -> bool:
    return (folder / f"{name}.began").exists()


@pytest.fixture()
def queue(start_runner: Starter, start_queue: Starter) -> Queue:
    started = start_queue({"w": start_runner(ROOMY)})
    assert isinstance(started, Queue)
    return started


def test_a_diamond_runs_in_its_order_over_restarts(queue: Queue) -> None:
    """Lost: a build that links before it has compiled, since the queue was restarted in between."""
    folder = open_folder()
    first = queue.submit(gate(folder, "first"))
    left = queue.submit(gate(folder, "left"), after=[first])
    right = queue.submit(gate(folder, "right"), after=[first])
    last = queue.submit(gate(folder, "last"), after=[left, right])
    steps = {"first": [first], "left": [left], "right": [right], "last": [last]}
    done: list[str] = []
    for name in steps:
        queue.kill9()
        queue.start()
        await_that(lambda: began(folder, name), 30, f"{name} runs")
        others = set(steps) - set(done) - {name} - ({"left", "right"} if name in ("left", "right") else set())
        assert not [other for other in others if began(folder, other)]
        (folder / f"{name}.may-end").touch()
        assert end(queue, steps[name][0]) == ("completed", "success")
        done.append(name)


def test_a_failure_ends_all_that_wait_for_it(queue: Queue) -> None:
    """Lost: tasks that wait for ever, or run on what their forerunner did not make."""
    folder = open_folder()
    first = queue.submit(gate(folder, "first", "exit 3"))
    good = queue.submit(["true"])
    second = queue.submit(["touch", f"{folder}/second"], after=[good, first])
    third = queue.submit(["touch", f"{folder}/third"], after=[second])
    (folder / "first.may-end").touch()
    assert end(queue, first) == ("errored", "exit-code")
    for id, blamed in ((second, first), (third, second)):
        attempt = queue.wait(id)
        assert (attempt["state"], attempt["result"]) == ("errored", "dependency-failed")
        assert blamed in " ".join(attempt["executor"])
        assert attempt["start_time"] is None and attempt["worker"] is None
    late = queue.submit(["true"], after=[third])
    assert end(queue, late) == ("errored", "dependency-failed")
    assert not (folder / "second").exists() and not (folder / "third").exists()


def test_a_stopped_task_ends_those_that_wait_for_it(queue: Queue) -> None:
    """Lost: a task whose forerunner was canceled waits for ever."""
    folder = open_folder()
    first = queue.submit(gate(folder, "first"))
    second = queue.submit(["true"], after=[first])
    third = queue.submit(["true"], after=[second])
    assert queue.delete(f"/api/v1/task/{second}").status_code == 202
    assert end(queue, second) == ("killed", "canceled")
    assert end(queue, third) == ("errored", "dependency-failed")
    (folder / "first.may-end").touch()
    assert end(queue, first) == ("completed", "success")


def test_only_known_tasks_can_be_waited_for(queue: Queue) -> None:
    """Lost: a slip in an id keeps a task from running, and nobody is told."""
    known = queue.submit(["true"])
    own = task_id("own")
    for after, status, field in (
        ([known, "nobody"], 422, "/after/1"),
        ([], 400, "/after"),
        ([known, known], 400, "/after"),
        (["-"], 400, "/after/0"),
        (known, 400, "/after"),
        ([str(i) for i in range(1001)], 400, "/after"),
        ([own], 422, "/after/0"),
    ):
        answer = queue.post(f"/api/v1/task/{own}", json={"command": ["true"], "after": after})
        assert (answer.status_code, answer.json().get("field")) == (status, field), answer.text
    assert queue.get(f"/api/v1/task/{own}").status_code == 404


def test_a_batch_may_name_what_comes_before_in_it(queue: Queue) -> None:
    """Lost: a chain that has to be submitted task by task."""
    ids = [task_id(f"c{i}") for i in range(50)]
    batch = [{"task_id": id, "command": ["true"], "after": ids[i - 1 : i]} for i, id in enumerate(ids)]
    del batch[0]["after"]
    answer = queue.post("/api/v1/tasks", json=batch)
    assert [item["status"] for item in answer.json()] == [202] * 50, answer.text
    assert end(queue, ids[-1]) == ("completed", "success")
    starts = [queue.attempt(id)["start_time"] for id in ids]
    assert starts == sorted(starts)
    backwards = [{"command": ["true"], "after": ["later"]}, {"task_id": "later", "command": ["true"]}]
    assert [item["status"] for item in queue.post("/api/v1/tasks", json=backwards).json()] == [422, 202]


def test_what_has_ended_is_not_waited_for_even_if_it_is_forgotten(queue: Queue) -> None:
    """Lost: a task fails since the result that it waited for has expired meanwhile."""
    folder = open_folder()
    done, other = queue.submit(["true"]), queue.submit(gate(folder, "other"))
    assert end(queue, done) == ("completed", "success")
    waiting = queue.submit(["true"], after=[done, other])
    assert queue.delete(f"/api/v1/task/{done}").status_code == 204
    queue.kill9()
    queue.start()
    assert other in pending(queue, waiting)["reason"]
    (folder / "other.may-end").touch()
    assert end(queue, waiting) == ("completed", "success")
    answer = queue.post("/api/v1/task", json={"command": ["true"], "after": [done]})
    assert (answer.status_code, answer.json()["field"]) == (422, "/after/0")
    assert retry(queue, waiting).status_code == 202
    assert end(queue, waiting) == ("completed", "success")


def test_a_forgotten_failure_stays_one(queue: Queue) -> None:
    """Lost: tried again, a task runs although what it waits for has never completed."""
    failed = queue.submit(["false"])
    waiting = queue.submit(["true"], after=[failed])
    assert end(queue, waiting) == ("errored", "dependency-failed")
    assert queue.delete(f"/api/v1/task/{failed}").status_code == 204
    assert retry(queue, waiting).status_code == 202
    assert end(queue, waiting) == ("errored", "dependency-failed")


def test_a_task_is_tried_again_with_its_attempts_kept(queue: Queue) -> None:
    """Lost: after the cause is mended, all is to be submitted anew, and nobody can see what went wrong before."""
    folder = open_folder()
    id = queue.submit(["sh", "-c", f"echo out; test -e {folder}/mended"], labels={"a": "b"})
    assert end(queue, id) == ("errored", "exit-code")
    (folder / "mended").touch()
    answer = retry(queue, id)
    assert answer.status_code == 202 and answer.json()["state"] in ("queued", "running")
    attempt = queue.wait(id)
    assert (attempt["state"], attempt["output"], attempt["attempt_number"]) == ("completed", "out\n", 2)
    (earlier,) = attempt["attempts"]
    assert (earlier["result"], earlier["exit_code"], earlier["worker"]) == ("exit-code", 1, "w")
    assert not {"output", "command", "labels", "attempts"} & set(earlier)
    assert retry(queue, id).status_code == 202
    again = queue.wait(id)
    assert [a["result"] for a in again["attempts"]] == ["exit-code", "success"]
    assert again["submit_time"] == attempt["submit_time"] and again["labels"] == {"a": "b"}


def test_what_was_canceled_or_lost_is_tried_again(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: the one task that was stopped by mistake cannot be had back."""
    runner = start_runner(ONE)
    queue = start_queue({"w": runner}, {"lost_after": 1, "lease_ttl": 2})
    folder = open_folder()
    running = queue.submit(gate(folder, "running"), retry_on_lost=False, resources={"cores": 1})
    canceled = queue.submit(["true"], resources={"cores": 1})
    await_that(lambda: began(folder, "running"), 30, "it runs")
    queue.delete(f"/api/v1/task/{canceled}")
    assert end(queue, canceled) == ("killed", "canceled")
    runner.kill9()
    runner.start()
    assert end(queue, running) == ("errored", "worker-lost")
    assert retry(queue, canceled).status_code == 202 and retry(queue, running).status_code == 202
    queue.kill9()
    queue.start()
    (folder / "running.may-end").touch()
    attempt = queue.wait(canceled, 60)
    assert (attempt["state"], attempt["attempts"]) == ("completed", [])
    attempt = queue.wait(running, 60)
    assert attempt["state"] == "completed"
    assert [earlier["result"] for earlier in attempt["attempts"]] == ["worker-lost"]


def test_only_what_has_ended_is_tried_again(queue: Queue) -> None:
    """Lost: a slip runs a task beside itself."""
    folder = open_folder()
    live = queue.submit(gate(folder, "live"))
    assert retry(queue, live).status_code == 409
    assert retry(queue, "nobody").status_code == 404
    assert queue.put("/api/v1/drain", json={"drain": True}).status_code == 200
    (folder / "live.may-end").touch()
    assert end(queue, live) == ("completed", "success")
    assert retry(queue, live).status_code == 503
    assert queue.post("/api/v1/tasks/retry", json={"state": "completed"}).status_code == 503
    assert queue.attempt(live)["state"] == "completed"


def test_a_retry_is_refused_where_a_new_task_is(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: a bound on what waits, by retries; or a task that waits for ever, for what no worker has any more."""
    small, large = start_runner(ONE), start_runner(ROOMY)
    queue = start_queue({"small": small}, {"queue_max": 1})
    assert queue.post("/api/v1/workers", json={"id": "large", "url": large.url}).status_code == 201
    queue.await_leases("small", "large")
    fits = queue.submit(["true"], resources={"cores": 1})
    assert end(queue, fits)[0] == "completed"
    needs_much = queue.submit(["true"], resources={"cores": 2})
    assert end(queue, needs_much)[0] == "completed"
    queue.delete("/api/v1/workers/large")
    await_that(lambda: "large" not in queue.workers(), 30, "nobody to have two cores any more")
    assert retry(queue, needs_much).status_code == 422
    assert queue.put("/api/v1/workers/small", json={"disabled": True}).status_code == 200
    queue.submit(["true"])
    assert retry(queue, fits).status_code == 429


@pytest.mark.local
def test_what_the_disk_does_not_take_is_not_forgotten(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: the truth about what was cleared, when the disk fails."""
    # A system call that strace has fail is made as number -1, which no list of the unit allows.
    queue = start_queue({"w": start_runner(ROOMY)}, properties={"SystemCallFilter": ""})
    labels = label("kept")
    id = queue.submit(["true"], labels=labels)
    queue.wait(id)
    with injected(queue, "pwrite64", "error=EIO"):
        assert queue.post("/api/v1/tasks/forget", json={"labels": labels}).status_code == 503
        assert queue.attempt(id)["state"] == "completed"
    await_that(lambda: bulk(queue, "forget", labels=labels) == (1, 1), 30, "the disk to be used again")


def test_a_chain_is_mended_from_where_it_broke(queue: Queue) -> None:
    """Lost: after a failure in the middle the whole chain runs again, or its end runs before its middle."""
    folder = open_folder()
    labels = label("chain")
    first = queue.submit(["sh", "-c", f"echo 1 >>{folder}/log"], labels=labels)
    middle = queue.submit(
        ["sh", "-c", f"test -e {folder}/mended && echo 2 >>{folder}/log"], labels=labels, after=[first]
    )
    last = queue.submit(["sh", "-c", f"echo 3 >>{folder}/log"], labels=labels, after=[middle])
    assert end(queue, last) == ("errored", "dependency-failed")
    (folder / "mended").touch()
    assert bulk(queue, "retry", labels=labels) == (3, 2)
    assert end(queue, last) == ("completed", "success")
    assert (folder / "log").read_text() == "1\n2\n3\n"
    assert queue.attempt(first)["attempts"] == []


def test_a_task_says_why_it_waits(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: a task waits, and all that its owner can do is guess."""
    runner = start_runner(ONE)
    queue = start_queue({"w": runner})
    folder = open_folder()
    running = queue.submit(gate(folder, "running"), resources={"cores": 1})
    await_that(lambda: queue.attempt(running)["state"] == "running", 30, "it runs")
    assert "pending" not in queue.attempt(running)
    waiting = queue.submit(["true"], resources={"cores": 1})
    after = queue.submit(["true"], after=[waiting, running])
    assert pending(queue, after) == {
        "reason": f'waits for task "{waiting}" and 1 more to complete',
        "workers": [],
    }
    no_room = {"reason": "no worker has room now", "workers": [{"id": "w", "reason": "has no room now"}]}
    await_that(lambda: pending(queue, waiting) == no_room, what="the reason")
    assert queue.put("/api/v1/workers/w", json={"disabled": True}).status_code == 200
    assert pending(queue, waiting) == {
        "reason": "no worker can be used now",
        "workers": [{"id": "w", "reason": "is disabled"}],
    }
    assert queue.put("/api/v1/workers/w", json={"disabled": False}).status_code == 200
    (folder / "running.may-end").touch()
    assert "pending" not in queue.wait(after)
    tried = queue.submit(["false"], retry={"max": 1, "backoff": 60})
    await_that(lambda: queue.attempt(tried)["attempts"], 30, "it was tried")
    assert pending(queue, tried)["reason"] == "waits before it is tried again"


def test_at_most_twenty_workers_are_shown(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: with a thousand workers each look at a task is a hundred kilobytes."""
    queue = start_queue({"w": start_runner(ROOMY)})
    for i in range(30):
        worker = {"id": f"far{i}", "url": f"http://127.0.0.1:{1 + i}"}
        assert queue.post("/api/v1/workers", json=worker).status_code in (200, 201)
    queue.put("/api/v1/workers/w", json={"disabled": True})
    assert len(pending(queue, queue.submit(["true"]))["workers"]) == 20


def test_verbs_for_many_change_what_fits_and_count(queue: Queue) -> None:
    """Lost: a batch of ten thousand that can be stopped, mended and cleared only one by one."""
    folder = open_folder()
    labels, other = label("bulk"), label("other")
    good = [queue.submit(["true"], labels=labels) for _ in range(5)]
    bad = [queue.submit(["sh", "-c", f"test -e {folder}/mended"], labels=labels) for _ in range(3)]
    live = [queue.submit(gate(folder, f"live{i}"), labels=labels) for i in range(2)]
    bystander = queue.submit(["false"], labels=other)
    for id in [*good, *bad, bystander]:
        queue.wait(id)
    for i in range(2):
        await_that(lambda: began(folder, f"live{i}"), 30, "it runs")
    (folder / "mended").touch()
    assert bulk(queue, "retry", labels=labels) == (10, 3)
    assert [end(queue, id)[0] for id in bad] == ["completed"] * 3
    assert bulk(queue, "retry", labels=labels, state="errored") == (0, 0)
    assert bulk(queue, "stop", labels=labels, state="completed") == (8, 0)
    assert bulk(queue, "stop", labels=labels) == (10, 2)
    assert [end(queue, id)[1] for id in live] == ["stopped"] * 2
    assert bulk(queue, "forget", labels=labels, state="killed") == (2, 2)
    assert bulk(queue, "retry", labels=labels, state="completed") == (8, 8)
    for id in [*good, *bad]:
        assert end(queue, id)[0] == "completed"
    assert bulk(queue, "forget", labels=labels) == (8, 8)
    assert queue.get("/api/v1/tasks", params={"label": f"set={labels['set']}"}).json()["tasks"] == []
    assert queue.attempt(bystander)["attempts"] == []


@pytest.mark.plain
def test_bulk_verbs_leave_the_queue_quick(start_queue: Starter) -> None:
    """Lost: for seconds nobody is served, since somebody stops a hundred thousand tasks."""
    n = 30_000 if SLOWNESS <= 1 else 10_000
    queue = start_queue({}, {"workers": [{"id": "far", "url": "http://127.0.0.1:1"}]})
    labels = label("many")
    first = queue.submit(["true"], labels=labels)
    task = {"command": ["true"], "labels": labels, "after": [first]}
    for _ in range(n // 1000):
        answer = queue.post("/api/v1/tasks", json=[task] * 1000, timeout=120)
        assert {item["status"] for item in answer.json()} == {202}
    begin = time.monotonic()
    with ReadyProbe(queue) as probe:
        queue.delete(f"/api/v1/task/{first}")
        await_that(lambda: not any_has_state(queue, labels, "queued"), 300, "all have failed")
        took = {"fail": time.monotonic() - begin}
        for verb, expected in (("retry", n + 1), ("stop", n + 1), ("forget", n + 1)):
            begin = time.monotonic()
            matched, changed = bulk(queue, verb, labels=labels)
            took[verb] = time.monotonic() - begin
            assert (matched, changed) == (n + 1, expected)
            if verb == "stop":
                await_that(lambda: not any_has_state(queue, labels, "queued"), 300, "all are over")
    print(json.dumps({"n": n, "slowest": probe.slowest, "took": took}))
    assert probe.slowest < 0.5 * SLOWNESS, (probe.slowest, took)


def any_has_state(queue: Queue, labels: dict[str, str], state: str) -> bool:
    """A page may be empty and yet not the last."""
    parameters = {"label": f"set={labels['set']}", "state": state, "limit": 1}
    page = queue.get("/api/v1/tasks", params=parameters).json()
    while page["next"] and not page["tasks"]:
        page = queue.get("/api/v1/tasks", params=parameters | {"after": page["next"]}).json()
    return bool(page["tasks"])


def ctl(queue: Queue, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["daggyctl", "-q", "-H", queue.url, *arguments]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False)


def test_daggyctl_speaks_of_all_this(queue: Queue) -> None:
    """Lost: chains, retries and verbs for many, at the command line."""
    folder = open_folder()
    name = label("ctl")["set"]
    first, second = task_id("first"), task_id("second")
    mended = ["sh", "-c", f"test -e {folder}/mended"]
    assert ctl(queue, "submit", "-l", f"set={name}", "--id", first, "--", *mended).returncode == 0
    after = ["--after", first, "--after", queue.submit(["true"])]
    answer = ctl(queue, "submit", "--wait", "-l", f"set={name}", "--id", second, *after, "--", "true")
    assert answer.returncode == 125 and first in answer.stderr, answer
    assert len(queue.attempt(second)["executor"]) == 1 and first in queue.attempt(second)["executor"][0]
    (folder / "mended").touch()
    assert ctl(queue, "retry", first, second).returncode == 0
    assert end(queue, second) == ("completed", "success")
    answer = ctl(queue, "retry", "-l", f"set={name}")
    assert (answer.returncode, answer.stdout) == (0, "2 matched, 0 changed\n"), answer
    answer = ctl(queue, "retry", "-l", f"set={name}", "--state", "completed")
    assert (answer.returncode, answer.stdout) == (0, "2 matched, 2 changed\n"), answer
    assert end(queue, second) == ("completed", "success")
    answer = ctl(queue, "--json", "stop", "-l", f"set={name}")
    assert json.loads(answer.stdout) == {"matched": 2, "changed": 0}
    for verb in ("stop", "retry", "forget"):
        assert ctl(queue, verb).returncode == 2, verb
        assert ctl(queue, verb, "-l", f"set={name}", first).returncode == 2, verb
        assert ctl(queue, verb, "-l", "set").returncode == 2, verb
    assert ctl(queue, "stop", "--wait", "-l", f"set={name}").returncode == 2
    assert ctl(queue, "retry", "nobody").returncode == 125
    answer = ctl(queue, "forget", "-l", f"set={name}", "-s", "completed")
    assert (answer.returncode, answer.stdout) == (0, "2 matched, 2 changed\n"), answer


@pytest.mark.local
def test_a_store_of_the_version_before_is_taken_over(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: all tasks, by an upgrade of the queue."""
    queue = start_queue({"w": start_runner(ROOMY)})
    done = queue.submit(["false"])
    queue.wait(done)
    queue.stop()
    with sqlite3.connect(Path("/var/lib", queue.name).resolve() / "tasks.db") as database:
        database.execute("DROP TABLE dependencies")
        database.execute("PRAGMA user_version = 3")
    queue.start()
    queue.await_leases("w")
    waiting = queue.submit(["true"], after=[done])
    assert end(queue, waiting) == ("errored", "dependency-failed")
    assert retry(queue, done).status_code == 202
