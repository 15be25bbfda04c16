# SPDX-License-Identifier: LGPL-2.1-or-later
"""Answers of daggyd that are large, and clients that take their time to read them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from bedlib import SLOWNESS, SMALL_QUARANTINE, Queue, await_that, load, task_id
from probelib import ReadyProbe
from test_name_service import TINY
from test_slow_readers import LONG, MB, p99, resident_bytes, slow_readers

# A worker that is not there: tasks wait for it.
NOBODY = {"workers": [{"id": "w", "url": "http://127.0.0.1:9"}]}


def pages(queue: Queue, **parameters: Any) -> list[list[dict[str, Any]]]:
    found = []
    after = None
    while True:
        answer = queue.get("/api/v1/tasks", params=parameters | ({"after": after} if after else {}))
        assert len(answer.content) < 4 * MB
        page = answer.json()
        found.append(page["tasks"])
        after = page["next"]
        if after is None:
            return found
        assert page["tasks"], "a page that leads on has a task"


def fill(queue: Queue, n: int) -> list[str]:
    """Tasks whose commands are a megabyte each; every fourth is canceled, so that it has a result."""
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda _: queue.submit(["true", LONG], resources=TINY), range(n)))
    ids = [task["task_id"] for page in pages(queue) for task in page]  # in the order of their arrival
    assert len(ids) == n
    for id in ids[::4]:
        assert queue.delete(f"/api/v1/task/{id}", params={"keep": "true"}).status_code == 202
    for id in ids[::4]:
        await_that(lambda id=id: queue.attempt(id, output="none")["state"] == "killed")
    return ids


def test_a_page_has_a_bound_in_bytes(start_queue: Callable[..., Queue]) -> None:
    """Lost: a list of large tasks is gigabytes, for the queue and for whoever asks."""
    queue = start_queue({}, NOBODY)
    ids = fill(queue, 10)
    assert [task["task_id"] for page in pages(queue) for task in page] == ids
    assert [len(page) for page in pages(queue, limit=1)] == [1] * 10
    killed = [task for page in pages(queue, state="killed") for task in page]
    assert [task["task_id"] for task in killed] == ids[::4]
    assert killed[0] == queue.attempt(ids[0], output="none"), "a list tells the same as the task itself"


def test_small_tasks_share_a_page(start_queue: Callable[..., Queue]) -> None:
    """Lost: a request for each handful of tasks, when pages are made in pieces."""
    queue = start_queue({}, NOBODY)
    word = "x" * 200
    batch = [{"task_id": task_id(), "command": ["true", word], "resources": TINY} for _ in range(1000)]
    for _ in range(2):
        outcomes = queue.post("/api/v1/tasks", json=batch).json()
        assert len(outcomes) == 1000 and {outcome["status"] for outcome in outcomes} <= {200, 202}
    assert [len(page) for page in pages(queue)] == [1000]
    assert [len(page) for page in pages(queue, limit=999)] == [999, 1]


@pytest.mark.plain
@pytest.mark.serial
def test_a_batch_holds_up_nobody(start_queue: Callable[..., Queue]) -> None:
    """Lost: a tenth of a second for everybody, whenever somebody submits a thousand tasks."""
    queue = start_queue({}, NOBODY)
    slowest = []
    for _ in range(4):
        batch = [{"command": ["true", "x" * 900], "resources": TINY} for _ in range(1000)]
        with ReadyProbe(queue) as probe:
            outcomes = queue.http.post(f"{queue.url}/api/v1/tasks", json=batch, timeout=60).json()
        assert [outcome["status"] for outcome in outcomes] == [202] * 1000
        slowest.append(probe.slowest)
    print(", ".join(f"{1000 * seconds:.1f} ms" for seconds in slowest))
    assert min(slowest) < 0.030 * SLOWNESS


def test_the_tasks_of_a_batch_are_decided_on_in_order(start_queue: Callable[..., Queue]) -> None:
    """Lost: which of two tasks of one id is taken, when a batch is taken in steps."""
    queue = start_queue({}, NOBODY | {"queue_max": 95})
    large = "x" * 5000  # is not kept in memory while it waits
    batch = [{"task_id": task_id(), "command": ["true", large], "resources": TINY} for _ in range(90)]
    again = [batch[0], batch[89] | {"command": ["false"]}, batch[50]]
    rest = [{"task_id": task_id(), "command": ["true"], "resources": TINY} for _ in range(10)]
    outcomes = queue.post("/api/v1/tasks", json=[*batch, *again, {"command": 1}, *rest]).json()
    statuses = [outcome["status"] for outcome in outcomes]
    assert statuses == [202] * 90 + [200, 409, 200] + [400] + [202] * 5 + [429] * 5
    assert [outcome["task_id"] for outcome in outcomes[:90]] == [task["task_id"] for task in batch]
    assert [outcome["attempt"]["command"] for outcome in outcomes[:90]] == [["true", large]] * 90
    assert queue.post("/api/v1/tasks", json=[]).json() == []


def test_a_task_of_a_batch_may_be_forgotten_while_the_others_are_taken(start_queue: Callable[..., Queue]) -> None:
    """Lost: the answer for all of a batch, because somebody deletes one of its tasks at once."""
    queue = start_queue({}, NOBODY)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            ids = [task_id() for _ in range(400)]
            batch = [{"task_id": id, "command": ["true"], "resources": TINY} for id in ids]
            answer = pool.submit(queue.post, "/api/v1/tasks", json=batch)
            for id in ids[:20]:
                url = f"{queue.url}/api/v1/task/{id}"
                while not answer.done() and requests.delete(url, timeout=60).status_code != 204:
                    pass
            statuses = [outcome["status"] for outcome in answer.result().json()]
            assert len(statuses) == 400 and set(statuses) <= {202, 503}, statuses
            assert set(statuses[20:]) == {202}


@pytest.mark.plain
@pytest.mark.serial
def test_slow_readers_cost_little_and_hold_up_nobody(start_queue: Callable[..., Queue]) -> None:
    """Lost: a few slow clients take gigabytes, and everybody else waits for seconds."""
    queue = start_queue({}, NOBODY, properties=SMALL_QUARANTINE)
    ids = fill(queue, load(400))
    idle = resident_bytes(queue)
    peak = idle
    with ReadyProbe(queue) as undisturbed:
        time.sleep(2)
    with slow_readers(queue, load(20)), ReadyProbe(queue) as probe:
        end = time.monotonic() + 8
        while time.monotonic() < end:
            peak = max(peak, resident_bytes(queue))
            assert queue.attempt(ids[1], output="none")["state"] == "queued"
            time.sleep(0.05)
    middle = statistics.median(probe.seconds)
    print(f"median {1000 * middle:.1f} ms, p99 {1000 * p99(probe):.1f} ms,", end=" ")
    print(f"{1000 * p99(undisturbed):.1f} ms when idle, {(peak - idle) / MB:.1f} MB more")
    assert peak - idle < 64 * MB * SLOWNESS
    assert middle < 0.020 * SLOWNESS + p99(undisturbed)
    assert p99(probe) < 0.100 * SLOWNESS + p99(undisturbed)
