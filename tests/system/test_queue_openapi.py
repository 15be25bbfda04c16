# SPDX-License-Identifier: LGPL-2.1-or-later
"""What docs/openapi-queue.yaml promises beyond what other tests happen to see: the same refusals at each and
every operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import openapi
from bedlib import Queue
from clusterlib import token_file
from openapi import Operation

Starter = Callable[..., Any]

TOKEN = "q" * 40
GOOD = {"Authorization": f"Bearer {TOKEN}"}
OPERATIONS = openapi.QUEUE_OPERATIONS


@pytest.fixture(name="queue")
def _queue(start_queue: Starter) -> Queue:
    return start_queue({}, {"auth": {"token_file": token_file(TOKEN)}})


def ask(queue: Queue, operation: Operation, headers: dict[str, str], **options: Any) -> int:
    path = operation.path.replace("{task_id}", "nobody").replace("{worker_id}", "nobody")
    return queue.request(operation.method, path, headers=headers, **options).status_code


def test_everywhere_the_same_is_refused(queue: Queue) -> None:
    """Lost: a route without a lock, or one that answers in its own way."""
    for operation in OPERATIONS:
        assert ask(queue, operation, GOOD | {"Origin": "http://evil.example"}) == 403, operation.name
        assert ask(queue, operation, GOOD, params={"Nonsense!": "1"}) == 400, operation.name
        if operation.needs_token:
            assert ask(queue, operation, {}) == 401, operation.name
        assert ask(queue, operation, {"Host": "evil.example"}) == 421, operation.name


def test_everywhere_bodies_are_looked_at(queue: Queue) -> None:
    """Lost: limits and types of what is sent."""
    for operation in [operation for operation in OPERATIONS if operation.has_body]:
        json_type = GOOD | {"Content-Type": "application/json"}
        assert ask(queue, operation, json_type, data=b"[" + b" " * (2 << 20)) == 413, operation.name
        assert ask(queue, operation, GOOD | {"Content-Type": "text/plain"}, data=b"{}") == 415, operation.name
        assert ask(queue, operation, json_type, data=b"{") in (400, 404), operation.name


def test_the_routes_are_those_of_the_document(queue: Queue) -> None:
    """Lost: routes that nobody knows of, or that are promised and not there."""
    for operation in OPERATIONS:
        path = operation.path.replace("{task_id}", "nobody").replace("{worker_id}", "nobody")
        answer = queue.http.request("PATCH", queue.url + path, headers=GOOD, timeout=10)
        assert answer.status_code == 405, operation.path
        allowed = set(answer.headers["Allow"].replace(" ", "").split(",")) - {"HEAD"}
        assert allowed == {it.method for it in OPERATIONS if it.path == operation.path}, operation.path


def test_every_other_answer(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: what the document promises of single routes."""
    runner = start_runner({"capacity_overrides": {"cores": 1, "memory_mb": 1024}})
    queue = start_queue({"w": runner}, {"queue_max": 1})
    queue.await_leases("w")
    for path in ("/ready", "/metrics", "/api/v1/capacity", "/api/v1/resources", "/api/v1/impact?cores=1"):
        assert queue.get(path).status_code == 200, path
    assert queue.get("/api/v1/queues").status_code == 200
    assert queue.get("/api/v1/members").status_code == 200
    assert queue.get("/api/v1/impact?cores=1").json()["worker"] == "w"
    assert queue.put("/api/v1/workers/w", json={"disabled": True}).json()["state"] == "disabled"
    assert queue.get("/api/v1/task/nobody/output").status_code == 404
    assert queue.delete("/api/v1/task/nobody").status_code == 404

    def submit(**fields: Any) -> int:
        return queue.post("/api/v1/task", json={"command": ["true"]} | fields).status_code

    assert submit(task_id="first") == 202
    assert submit(task_id="first") == 200
    assert submit(task_id="first", stdin="other") == 409
    assert submit(resources={"cores": 2}) == 422
    assert submit() == 429
    assert queue.put("/api/v1/drain", json={"drain": True}).status_code == 200
    assert queue.get("/ready").status_code == 503
    assert submit() == 503
    assert queue.post("/api/v1/task/other", json={"command": ["true"]}).status_code == 503
