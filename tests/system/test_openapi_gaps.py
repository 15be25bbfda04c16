# SPDX-License-Identifier: LGPL-2.1-or-later
"""What docs/openapi.yaml promises beyond what other tests happen to see: the same refusals at each and
every operation, and answers that nobody else asks for. Each answer is held against the document by
Runner.request() itself; here it only has to come about.

Some tests check the document alone: that it is sound, and has the routes that the server has.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests

import openapi
from bedlib import ROOMY, SLOWNESS, Runner, await_that, task_id
from openapi import Operation

SOURCES = Path(__file__).parents[2] / "src"
ROUTES = [SOURCES / "runner/routes.c", SOURCES / "service/daemon.c", SOURCES / "service/page.c"]
TOKEN = "0123456789abcdef-for-the-tests"
BODY_MAX = 1024
JSON = {"Content-Type": "application/json"}
LEASE = {"queue": "queue.example:2503", "version": "1", "ttl": 60}
OTHER_LEASE = LEASE | {"queue": "other.example:2503"}
SUBMIT = ["/api/v1/task", "/api/v1/task/{id}"]


def test_the_document_is_sound() -> None:
    """Lost: tools that generate clients or pages from it."""
    names = [operation.name for operation in openapi.OPERATIONS]
    assert len(set(names)) == len(names)
    for pointer in set(_references(openapi.DESCRIPTION)):
        openapi.target_of(openapi.DESCRIPTION, pointer)
    for name, schema in openapi.DESCRIPTION["components"]["schemas"].items():
        resolved = openapi.resolved(schema)
        jsonschema.Draft202012Validator.check_schema(resolved)
        for part in _with_examples(resolved):
            jsonschema.validate(part["example"], part, jsonschema.Draft202012Validator)


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict) and isinstance(node.get("$ref"), str):
        yield node["$ref"]
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else []:
        yield from _references(child)


def _with_examples(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict) and "example" in node:
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else []:
        yield from _with_examples(child)


def test_the_document_has_the_servers_routes_and_no_others() -> None:
    """Lost: a new route would stay undocumented for as long as no test asks for it."""
    rows = "".join(path.read_text() for path in ROUTES)
    served = set(re.findall(r'\{ "([A-Z]+)",\s+"(/[^"]*)",\s+ACCESS_', rows))
    documented = {(operation.method, operation.path) for operation in openapi.OPERATIONS}
    assert documented == {(method, path.replace("{#", "{")) for method, path in served}


@pytest.fixture(scope="module")
def guarded() -> Iterator[Runner]:
    """A daggyr that wants a token, and has little room for bodies."""
    token_file = Path("/run/daggyr-test", task_id("token"))
    token_file.parent.mkdir(mode=0o755, exist_ok=True)
    token_file.write_text(TOKEN + "\n")
    auth = {"auth": {"token_file": str(token_file)}}
    with Runner(ROOMY | auth | {"body_max_bytes": BODY_MAX, "web-threads": 1}) as runner:
        yield runner


def ask(runner: Runner, operation: Operation, body: Any = None, **options: Any) -> requests.Response:
    """A request for the operation, with a token, and some JSON where a body belongs."""
    path = operation.path
    for name, value in (("run_id", "1"), ("task_id", task_id()), ("lease_id", "0" * 32)):
        path = path.replace(f"{{{name}}}", value)
    headers = {"Authorization": f"Bearer {TOKEN}"} | options.pop("headers", {})
    if operation.has_body:
        headers = JSON | headers
        options["data"] = b"{}" if body is None else body
    return runner.request(operation.method, path, headers=headers, **options)


def operations(status: int) -> pytest.MarkDecorator:
    """Runs the test for each operation that documents the status."""
    having = [operation for operation in openapi.OPERATIONS if status in operation.responses]
    return pytest.mark.parametrize("operation", having, ids=lambda operation: operation.name)


@operations(400)
def test_each_operation_refuses_a_malformed_host(guarded: Runner, operation: Operation) -> None:
    """Lost: protection against web pages, by a Host that is understood in two ways."""
    assert ask(guarded, operation, headers={"Host": "::", "Authorization": ""}).status_code == 400


@operations(401)
def test_each_operation_wants_the_token(guarded: Runner, operation: Operation) -> None:
    """Lost: one route that was forgotten would let everybody in."""
    for wrong in ("", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"):
        answer = ask(guarded, operation, headers={"Authorization": wrong})
        assert answer.status_code == 401
        assert TOKEN not in answer.text


def test_only_the_readiness_and_the_pages_files_are_for_everybody(guarded: Runner) -> None:
    """Lost: the same by an operation that is documented as open."""
    open_ones = {operation.name for operation in openapi.OPERATIONS if not operation.needs_token}
    page = {"getRoot", "getPageWithoutSlash", "getPage", "getPageFile", "beginSession"}
    assert open_ones == {"ready"} | page
    assert guarded.get("/ready").status_code == 200


@operations(403)
def test_each_operation_refuses_other_origins(guarded: Runner, operation: Operation) -> None:
    """Lost: a web page could use the one route that was forgotten."""
    assert ask(guarded, operation, headers={"Origin": "http://evil.example"}).status_code == 403


@operations(421)
def test_each_operation_refuses_other_hosts(guarded: Runner, operation: Operation) -> None:
    """Lost: the same by way of a rebound name."""
    assert ask(guarded, operation, headers={"Host": "evil.example", "Authorization": ""}).status_code == 421


@operations(413)
def test_each_operation_refuses_a_large_body(guarded: Runner, operation: Operation) -> None:
    """Lost: a bound on what a request may cost."""
    assert ask(guarded, operation, body=b" " * (BODY_MAX + 1)).status_code == 413


@operations(415)
def test_each_operation_refuses_a_body_that_is_not_json(guarded: Runner, operation: Operation) -> None:
    """Lost: a form on a web page could send one."""
    assert ask(guarded, operation, headers={"Content-Type": "text/plain"}).status_code == 415


@pytest.mark.serial
def test_each_operation_refuses_more_bodies_than_it_can_hold(guarded: Runner) -> None:
    """Lost: many large requests at once would fill the memory."""
    having_bodies = [operation for operation in openapi.OPERATIONS if operation.has_body]
    port = guarded.config["port"]
    head = f"POST /api/v1/task HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {BODY_MAX}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), 20 * SLOWNESS) as holder:
        holder.sendall(head.encode() + b" " * (BODY_MAX - 1))
        for operation in having_bodies:
            await_that(lambda: is_refused_for_now(guarded, operation), what="a full server")
    for operation in having_bodies:
        await_that(lambda: not is_refused_for_now(guarded, operation), what="room for bodies")


def is_refused_for_now(runner: Runner, operation: Operation) -> bool:
    return ask(runner, operation, body=b"[ ]").status_code == 503


@pytest.fixture
def runner(start_runner: Callable[..., Runner]) -> Runner:
    """A daggyr with room for two tasks of one core."""
    return start_runner({"capacity_overrides": {"cores": 2, "memory_mb": 4096}, "queue_max": 1})


def fill(runner: Runner) -> list[str]:
    """Tasks for as long as there is room, and as many more as may wait."""
    await_that(lambda: is_idle(runner), what="the tasks of before to end")
    running = []
    for _ in range(2):  # one after the other: only one may wait, be it for a moment
        id = runner.submit(["sleep", "infinity"])
        await_that(lambda id=id: runner.attempt(id)["state"] == "running")
        running.append(id)
    return [*running, runner.submit(["true"])]


def is_idle(runner: Runner) -> bool:
    tasks = runner.get("/api/v1/capacity").json()["tasks"]
    return tasks["running"] == tasks["queued"] == 0


@pytest.mark.parametrize("path", SUBMIT)
def test_each_way_to_submit_refuses_for_the_same_reasons(runner: Runner, path: str) -> None:
    """Lost: clients that let the server choose ids would have to know other answers."""

    def submit(headers: dict[str, str] | None = None, **body: Any) -> int:
        id = body.pop("id", None) or task_id()
        body = {"command": ["true"]} | body | ({} if "{id}" in path else {"task_id": id})
        return runner.post(path.format(id=id), json=body, headers=headers).status_code

    id = task_id()
    assert submit(id=id) == 202
    assert submit(id=id) == 200
    assert submit(id=id, command=["false"]) == 409
    assert submit(user="root") == 403
    assert submit(resources={"cores": 3}) == 422

    lease = runner.post("/api/v1/lease", json=LEASE).json()["lease_id"]
    assert submit() == 423
    assert submit(headers={"Daggyr-Lease": "0" * 32}) == 423
    assert submit(headers={"Daggyr-Lease": lease}) == 202
    assert runner.delete(f"/api/v1/lease/{lease}").status_code == 204
    assert submit(headers={"Daggyr-Lease": lease}) == 423

    fill(runner)
    assert submit(when_full="reject") == 409
    assert submit() == 429
    runner.put("/api/v1/drain", json={"drain": True})
    assert submit() == 503


def test_a_batch_tells_of_each_task_what_it_would_have_got_alone(runner: Runner) -> None:
    """Lost: one bad task of a batch would spoil it, or be lost without a word."""
    first, second = task_id(), task_id()
    batch = [
        {"task_id": first, "command": ["true"]},
        {"task_id": first, "command": ["false"]},
        {"task_id": first, "command": ["true"]},
        {"task_id": second, "command": 1},
        {"task_id": "-", "command": ["true"]},
        {"task_id": 7},
        "nonsense",
        {"command": ["true"], "resources": {"cores": 3}},
        {"command": ["echo", "hi"]},
    ]
    answer = runner.post("/api/v1/tasks", json=batch)
    assert answer.status_code == 200
    outcomes = answer.json()
    assert [outcome["status"] for outcome in outcomes] == [202, 409, 200, 400, 400, 400, 400, 422, 202]
    assert [outcome["task_id"] for outcome in outcomes[:6]] == [first, first, first, second, "-", None]
    assert runner.wait(outcomes[-1]["task_id"])["output"] == "hi\n"
    assert runner.post("/api/v1/tasks", json=[]).json() == []
    for wrong in ({}, batch[:1] * 1001):
        assert runner.post("/api/v1/tasks", json=wrong).status_code == 400


def test_a_task_that_only_waits_is_gone_at_once(runner: Runner) -> None:
    """Lost: the documented difference between a task that must be stopped and one that need not."""
    running, _, waiting = fill(runner)
    answers = [runner.delete(f"/api/v1/task/{id}") for id in (waiting, running, waiting)]
    assert [answer.status_code for answer in answers] == [202, 202, 204]
    assert answers[0].json()["result"] == "canceled"


def test_output_is_served_as_it_was_written(runner: Runner) -> None:
    """Lost: binary output, and the rest of a long one."""
    id = runner.submit(["sh", "-c", r"printf 'a\377\0z'; printf err >&2"])
    runner.wait(id)
    path = f"/api/v1/task/{id}/output"
    assert runner.get(path).content == b"a\xff\0z"
    assert runner.get(f"{path}?offset=2&follow=true").content == b"\0z"
    assert runner.get(f"{path}?stream=stderr").content == b"err"
    assert runner.get(f"{path}?offset=99").content == b""
    for query in ("stream=x", "offset=-1", "offset=x", "follow=1", "x=1"):
        assert runner.get(f"{path}?{query}").status_code == 400
    assert runner.get(f"/api/v1/task/{task_id()}/output").status_code == 404


def test_a_lease_is_granted_renewed_and_released(runner: Runner) -> None:
    """Lost: the ways in which a queue hears whether it may use the runner."""
    assert runner.get("/api/v1/lease").json() == {"lease": None}
    granted = runner.post("/api/v1/lease", json=LEASE)
    again = runner.post("/api/v1/lease", json=LEASE | {"ttl": 90})
    assert (granted.status_code, again.status_code) == (201, 200)
    lease = granted.json()["lease_id"]
    assert again.json()["lease_id"] == lease
    assert again.json()["epoch"] == granted.json()["epoch"] == 1

    held = runner.post("/api/v1/lease", json=OTHER_LEASE)
    assert held.status_code == 409
    assert held.json()["holder"] == LEASE["queue"]
    assert 60 < held.json()["expires_in"] <= 90
    assert runner.get("/api/v1/lease").json()["lease"]["queue"] == LEASE["queue"]

    assert runner.put(f"/api/v1/lease/{lease}").status_code == 200
    assert runner.put(f"/api/v1/lease/{'0' * 32}").status_code == 404
    assert runner.delete(f"/api/v1/lease/{'0' * 32}").status_code == 404
    assert runner.delete(f"/api/v1/lease/{lease}").status_code == 204
    assert runner.put(f"/api/v1/lease/{lease}").status_code == 404
    taken = runner.post("/api/v1/lease", json=OTHER_LEASE)
    assert (taken.status_code, taken.json()["epoch"]) == (201, 2)


def test_a_draining_runner_says_so_everywhere(runner: Runner) -> None:
    """Lost: balancers and queues would go on to send tasks."""
    assert runner.get("/ready").status_code == 200
    assert runner.put("/api/v1/drain", json={"drain": True}).json()["draining"]
    assert runner.get("/ready").status_code == 503
    assert runner.post("/api/v1/lease", json=LEASE).status_code == 503
    assert runner.post(f"/api/v1/1/{task_id()}", json={"command": ["true"]}).status_code == 503
    assert not runner.put("/api/v1/drain", json={"drain": False}).json()["draining"]
    assert runner.get("/ready").status_code == 200


def test_events_are_as_documented(runner: Runner) -> None:
    """Lost: whoever watches a runner by its events could not read them."""
    schema = openapi.resolved(openapi.DESCRIPTION["components"]["schemas"]["Event"])
    validator = jsonschema.Draft202012Validator(schema)
    with runner.get("/api/v1/events", stream=True) as stream:
        assert stream.headers["Content-Type"] == "text/event-stream"
        lines = stream.iter_lines(chunk_size=1)
        next(lines)  # once it is there, nothing is missed
        id = runner.submit(["true"])
        runner.post("/api/v1/lease", json=LEASE)
        awaited = {"task": 3, "capacity": 1, "lease": 1}
        kind = ""
        while any(n > 0 for n in awaited.values()):
            name, _, value = next(lines).decode().partition(": ")
            if name == "event":
                kind = value
                awaited[kind] -= 1
            elif name == "data":
                validator.validate(json.loads(value))
                assert kind != "task" or json.loads(value)["task_id"] == id


def test_metrics_are_text(runner: Runner) -> None:
    """Lost: monitoring."""
    answer = runner.get("/metrics")
    assert answer.status_code == 200
    assert re.search(r"^daggyr_tasks_submitted_total 0$", answer.text, re.MULTILINE)


def test_a_daggyr_server_hears_of_refusals_in_its_own_form(runner: Runner) -> None:
    """Lost: the reason why a task was not dispatched, in that server's log."""
    path = f"/api/v1/1/{task_id()}"
    good = {"command": ["true"]}
    assert runner.post(path, json=good).json()["succeeded"]
    for wrong in ({"command": "true"}, {"command": ["true"], "resources": {"cores": 3}}):
        assert runner.post(path, json=wrong).status_code == 409
    assert runner.post(path, data="{}", headers={"Content-Type": "text/plain"}).status_code == 409
    assert runner.delete(path).status_code == 200
    too_long = f"/api/v1/{1 << 64}/x"
    assert [runner.post(too_long, json=good).status_code, runner.delete(too_long).status_code] == [404, 404]

    lease = runner.post("/api/v1/lease", json=LEASE).json()["lease_id"]
    assert runner.post(path, json=good).status_code == 423
    runner.delete(f"/api/v1/lease/{lease}")
    fill(runner)
    assert runner.post(path, json=good).status_code == 429
