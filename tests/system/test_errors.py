# SPDX-License-Identifier: LGPL-2.1-or-later
"""Everything that a client can do wrong: each gets its documented answer, and the daemon goes on."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bedlib import ROOMY, SLOWNESS, Queue, Runner, await_that, open_fds, open_folder, settled_fds, task_id

TASK = "/api/v1/task/t"
GOOD: dict[str, Any] = {"command": ["true"]}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def shared() -> Iterator[Runner]:
    """One daggyr for all: what it refuses leaves no trace."""
    with Runner(ROOMY | {"allowed_hosts": ["build.example"]}) as runner:
        yield runner


@pytest.fixture
def runner(shared: Runner) -> Iterator[Runner]:
    """A daggyr that must be the same after the test, and have run nothing."""
    before = shared.main_pid
    revision = shared.get("/api/v1/capacity").json()["revision"]
    yield shared
    assert shared.main_pid == before
    assert shared.get("/api/v1/tasks").json()["tasks"] == []
    assert shared.get("/api/v1/capacity").json()["revision"] == revision
    assert shared.get("/ready").status_code == 200


def is_problem(answer: Any, status: int, field: str | None = None) -> dict[str, Any]:
    """Checks the form of RFC 9457 that every error has."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"].split(";")[0] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail"} <= set(problem)
    assert problem["status"] == status
    assert problem["title"] and problem["detail"]
    assert problem.get("field") == field
    return problem


def exchange(runner: Runner, request: bytes, then_close: bool = False) -> bytes:
    """Sends raw bytes and returns all that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", runner.config["port"]), 20 * SLOWNESS) as connection:
        connection.sendall(request)
        if then_close:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
        return answer


MALFORMED = {
    "empty": b"",
    "cut": b'{"command": ["true"]',
    "trailing": b'{"command": ["true"]} x',
    "two": b'{"command": ["true"]}{}',
    "comma": b'{"command": ["true"],}',
    "comment": b'{"command": ["true"] /* no */}',
    "quotes": b"{'command': ['true']}",
    "nan": b'{"command": ["true"], "timeout": NaN}',
    "infinity": b'{"command": ["true"], "timeout": Infinity}',
    "octal": b'{"command": ["true"], "tasks_max": 010}',
    "plus": b'{"command": ["true"], "timeout": +1}',
    "utf-8": b'{"command": ["\xff"]}',
    "zero-byte": b'{"command": ["tr\0ue"]}',
    "zero-after": b'{"command": ["true"]}\0',
    "control": b'{"command": ["a\nb"]}',
    "surrogate": b'{"command": ["\\ud800"]}',
    "bom": b'\xef\xbb\xbf{"command": ["true"]}',
    "duplicate": b'{"command": ["true"], "command": ["true"]}',
    "duplicate-below": b'{"command": ["true"], "resources": {"cores": 1, "cores": 2}}',
    "nul": b'{"command": ["true", "a\\u0000b"]}',
    "nul-in-key": b'{"command": ["true"], "labels": {"a\\u0000": "1"}}',
    "deep": b'{"command": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_a_body_that_is_not_json_is_refused(runner: Runner, body: bytes) -> None:
    """Lost: a damaged request would be run as something that nobody meant."""
    answer = runner.post(TASK, data=body, headers=JSON)
    assert is_problem(answer, 400, answer.json().get("field"))


FIELDS = [
    ("[]", None),
    ('"command"', None),
    ("null", None),
    ("{}", "/command"),
    ('{"command": ["true"], "comand": 1}', "/comand"),
    ('{"command": ["true"], "a/b~c": 1}', "/a~1b~0c"),
    ('{"command": "true"}', "/command"),
    ('{"command": []}', "/command"),
    ('{"command": ["true", 1]}', "/command/1"),
    ('{"command": ["true", null]}', "/command/1"),
    ('{"command": ["true"], "environment": []}', "/environment"),
    ('{"command": ["true"], "environment": {"A": 1}}', "/environment/A"),
    ('{"command": ["true"], "environment": {"A=B": "1"}}', "/environment/A=B"),
    ('{"command": ["true"], "environment": {"": "1"}}', "/environment/"),
    ('{"command": ["true"], "resources": {"cores": "1"}}', "/resources/cores"),
    ('{"command": ["true"], "resources": {"cores": 0}}', "/resources/cores"),
    ('{"command": ["true"], "resources": {"cores": -1}}', "/resources/cores"),
    ('{"command": ["true"], "resources": {"cores": 0.001}}', "/resources/cores"),
    ('{"command": ["true"], "resources": {"memory_mb": 0}}', "/resources/memory_mb"),
    ('{"command": ["true"], "resources": {"memory_mb": 1.5}}', "/resources/memory_mb"),
    ('{"command": ["true"], "resources": {"memory_mb": 1e300}}', "/resources/memory_mb"),
    ('{"command": ["true"], "resources": {"memory_mb": true}}', "/resources/memory_mb"),
    ('{"command": ["true"], "resources": {"gpu": -1}}', "/resources/gpu"),
    ('{"command": ["true"], "timeout": -1}', "/timeout"),
    ('{"command": ["true"], "timeout": "5"}', "/timeout"),
    ('{"command": ["true"], "timeout": 1e999}', "/timeout"),
    ('{"command": ["true"], "grace": null}', "/grace"),
    ('{"command": ["true"], "working_directory": "tmp"}', "/working_directory"),
    ('{"command": ["true"], "user": ""}', "/user"),
    ('{"command": ["true"], "user": "0"}', "/user"),
    ('{"command": ["true"], "umask": "0888"}', "/umask"),
    ('{"command": ["true"], "umask": 512}', "/umask"),
    ('{"command": ["true"], "stdin": 5}', "/stdin"),
    ('{"command": ["true"], "stdin_base64": "eA"}', "/stdin_base64"),
    ('{"command": ["true"], "stdin": "x", "stdin_base64": "eA=="}', "/stdin_base64"),
    ('{"command": ["true"], "tasks_max": 0}', "/tasks_max"),
    ('{"command": ["true"], "tasks_max": 99999999999999999999}', "/tasks_max"),
    ('{"command": ["true"], "labels": {"a": 1}}', "/labels/a"),
    ('{"command": ["true"], "labels": {"a b": "1"}}', "/labels/a b"),
    ('{"command": ["true"], "when_full": "wait"}', "/when_full"),
    ('{"command": ["true"], "properties": {"CPUWeight": 0}}', "/properties/CPUWeight"),
    ('{"command": ["true"], "properties": {"NoSuch": 1}}', "/properties/NoSuch"),
    ('{"command": ["true"], "task_id": "other"}', "/task_id"),
]


@pytest.mark.parametrize(("body", "field"), FIELDS)
def test_a_wrong_field_is_named(runner: Runner, body: str, field: str | None) -> None:
    """Lost: clients would search for the mistake themselves, or not learn that there is one."""
    is_problem(runner.post(TASK, data=body, headers=JSON), 400, field)


def test_a_command_may_have_so_many_strings_and_no_more(runner: Runner) -> None:
    """Lost: a bound on what one request may cost."""
    body = {"command": ["true"] * 4097}
    is_problem(runner.post(TASK, json=body), 400, "/command")


@pytest.mark.parametrize("kind", [None, "text/plain", "application/jsonx", "json", "text/json"])
def test_a_body_of_another_type_is_refused(runner: Runner, kind: str | None) -> None:
    """Lost: a web page's form could submit tasks, as forms may send text/plain to anywhere."""
    headers = {} if kind is None else {"Content-Type": kind}
    is_problem(runner.post(TASK, data=json.dumps(GOOD).encode(), headers=headers), 415)


@pytest.mark.parametrize("path", ["/api", "/ui/x", "/api/v1/task/t/x", "/api/v2/tasks", "/api//v1/tasks"])
def test_an_unknown_path_is_not_found(runner: Runner, path: str) -> None:
    """Lost: typos in paths would look like empty results."""
    is_problem(runner.get(path), 404)


def test_an_unknown_task_is_not_found(runner: Runner) -> None:
    """Lost: clients could not tell a forgotten task from a waiting one."""
    is_problem(runner.get(f"/api/v1/task/{task_id()}"), 404)
    is_problem(runner.get(f"/api/v1/task/{task_id()}?wait=5"), 404)
    is_problem(runner.delete(f"/api/v1/task/{task_id()}"), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", TASK, {"GET", "HEAD", "POST", "DELETE"}),
        ("PATCH", TASK, {"GET", "HEAD", "POST", "DELETE"}),
        ("OPTIONS", TASK, {"GET", "HEAD", "POST", "DELETE"}),
        ("DELETE", "/api/v1/capacity", {"GET", "HEAD"}),
        ("POST", "/ready", {"GET", "HEAD"}),
        ("POST", "/api/v1/resources", {"GET", "HEAD"}),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(
    runner: Runner, method: str, path: str, allowed: set[str]
) -> None:
    """Lost: the hint by which a client's author finds the mistake."""
    answer = runner.request(method, path)
    is_problem(answer, 405)
    assert set(answer.headers["Allow"].split(", ")) == allowed
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


BAD_QUERIES = ["wait=x", "wait=-1", "wait=301", "wait=nan", "output=some", "what=1", "wait=1&wait=2"]


@pytest.mark.parametrize("query", BAD_QUERIES)
def test_a_wrong_query_is_refused(start_runner: Callable[..., Runner], query: str) -> None:
    """Lost: a misspelt parameter would be ignored without a word."""
    runner = start_runner(ROOMY)
    id = runner.submit(["true"])
    answer = runner.get(f"/api/v1/task/{id}?{query}")
    is_problem(answer, 400, answer.json().get("field"))


@pytest.mark.parametrize("query", ["state=done", "limit=0", "limit=x", "after=x", "label=x", "x=1"])
def test_a_wrong_list_query_is_refused(runner: Runner, query: str) -> None:
    """Lost: the same for lists: a wrong filter would show everything."""
    answer = runner.get(f"/api/v1/tasks?{query}")
    is_problem(answer, 400, answer.json().get("field"))


EMPTY_QUERIES = {
    "/api/v1/tasks": "state=&label=&limit=&after=&after",
    "/api/v1/task/{id}": "wait=&output=&output=none",
    "/api/v1/task/{id}/output": "stream=&offset=&follow=",
    "/api/v1/impact": "cores=&memory_mb=&gpu=",
}


@pytest.mark.parametrize("path", EMPTY_QUERIES)
def test_a_parameter_without_a_value_counts_as_absent(
    start_runner: Callable[..., Runner], start_queue: Callable[..., Queue], path: str
) -> None:
    """Lost: scripts that always write "?after=$after", on their first page."""
    for program in (start_runner(ROOMY), start_queue({"w": start_runner(ROOMY)})):
        id = program.submit(["echo", "done"])
        program.wait(id)
        plain = program.get(path.format(id=id), params={"output": "none"} if path.endswith("{id}") else {})
        empty = program.get(f"{path.format(id=id)}?{EMPTY_QUERIES[path]}")
        assert (empty.status_code, empty.content) == (plain.status_code, plain.content) == (200, empty.content)


def test_an_empty_parameter_of_a_stop_counts_as_absent(start_runner: Callable[..., Runner]) -> None:
    """Lost: the same for DELETE; and a stop that forgets what it should keep, or the other way round."""
    runner = start_runner(ROOMY)
    id = runner.submit(["true"])
    runner.wait(id)
    assert runner.delete(f"/api/v1/task/{id}?wait=&keep=").status_code == 204
    assert runner.get(f"/api/v1/task/{id}").status_code == 404


@pytest.mark.parametrize("id", ["-x", ".x", "a%20b", "a%2Fb", "a%00b", "%C3%A4", "x" * 129, "a%", "%zz"])
def test_an_id_that_is_not_valid_is_refused(runner: Runner, id: str) -> None:
    """Lost: ids could name other units or other paths."""
    body = json.dumps(GOOD)
    request = f"POST /api/v1/task/{id} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    request += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    assert exchange(runner, request.encode()).startswith(b"HTTP/1.1 400 ")


TOO_MUCH = b'{"command": ["' + b"x" * (2 << 20) + b'"]}'


def test_a_body_announced_as_too_large_is_refused(runner: Runner) -> None:
    """Lost: clients with too much to say would see a broken connection and try again and again."""
    for _ in range(5):
        is_problem(runner.post(TASK, data=TOO_MUCH, headers=JSON), 413)


def test_a_body_that_turns_out_too_large_is_refused(runner: Runner) -> None:
    """Lost: a chunked body without end would fill the daemon's memory."""
    pieces = (TOO_MUCH[at : at + 65536] for at in range(0, len(TOO_MUCH), 65536))
    is_problem(runner.post(TASK, data=pieces, headers=JSON), 413)


def test_a_client_that_asks_first_is_not_told_to_send_too_much(runner: Runner) -> None:
    """Lost: "Expect: 100-continue", by which curl spares large uploads that are refused anyway."""
    head = f"POST {TASK} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Expect: 100-continue\r\nContent-Length: {2 << 20}\r\n\r\n"
    assert exchange(runner, head.encode(), then_close=True).startswith(b"HTTP/1.1 413 ")


def test_headers_without_end_are_refused(runner: Runner) -> None:
    """Lost: the same by way of headers or the address."""
    is_problem_or_plain = exchange(
        runner, b"GET /ready HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"
    )
    assert is_problem_or_plain.split(b" ")[1] in (b"431", b"413", b"400")
    answer = exchange(runner, b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.split(b" ")[1] in (b"414", b"431", b"400")


@pytest.mark.parametrize("end", [0, 3, 20, 60, -20, -1])
def test_a_request_that_breaks_off_is_not_run(runner: Runner, end: int) -> None:
    """Lost: half of a request would be taken for the whole."""
    body = json.dumps(GOOD)
    request = f"POST {TASK} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
    with socket.create_connection(("127.0.0.1", runner.config["port"])) as connection:
        connection.sendall(request.encode()[:end])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://127.0.0.1:{port}"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:{port}"}, 421),
        ({"Host": "localhost.evil.example"}, 421),
        ({"Origin": "http://127.0.0.1:{port}"}, 404),
        ({"Sec-Fetch-Site": "same-origin"}, 404),
        ({"Sec-Fetch-Site": "none"}, 404),
        ({"Host": "localhost"}, 404),
        ({"Host": "192.0.2.7:99"}, 404),
        ({"Host": "[::1]:{port}"}, 404),
        ({"Host": socket.gethostname()}, 404),
        ({"Host": "build.example"}, 404),
        ({"Host": "BUILD.example:{port}"}, 404),
    ],
)
def test_browsers_are_kept_out(runner: Runner, headers: dict[str, str], status: int) -> None:
    """Lost: any web page that somebody on this machine opens could run commands on it."""
    sent = {name: value.format(port=runner.config["port"]) for name, value in headers.items()}
    for method in ("GET", "DELETE"):
        answer = runner.request(method, TASK, headers=sent)
        is_problem(answer, status)
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    if status != 404:
        is_problem(runner.post(TASK, json=GOOD, headers=sent), status)
        assert runner.request("OPTIONS", TASK, headers=sent).status_code in (status, 405)


def test_a_request_without_host_is_refused(runner: Runner) -> None:
    """Lost: the same protection, for who leaves the header out."""
    answer = exchange(runner, f"GET {TASK} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_a_task_larger_than_the_machine_is_refused(runner: Runner) -> None:
    """Lost: it would wait for ever."""
    for resources in ({"cores": 33}, {"memory_mb": 65537}, {"gpu": 1}):
        answer = runner.post(TASK, json=GOOD | {"resources": resources})
        is_problem(answer, 422, answer.json().get("field"))
        assert answer.json()["field"].startswith("/resources")


def test_a_task_that_would_have_to_wait_can_be_refused(start_runner: Callable[..., Runner]) -> None:
    """Lost: a queue above could not look for a free runner elsewhere."""
    runner = start_runner({"capacity_overrides": {"cores": 2, "memory_mb": 4096}})
    busy = runner.submit(["sleep", "infinity"])
    body = GOOD | {"resources": {"cores": 2}, "when_full": "reject"}
    id = task_id()
    problem = is_problem(runner.post(f"/api/v1/task/{id}", json=body), 409)
    assert problem["total"] == {"cores": 2, "memory_mb": 4096}
    assert problem["free"] == {"cores": 1, "memory_mb": 3584}
    assert problem["tasks"]["running"] == 1
    is_problem(runner.get(f"/api/v1/task/{id}"), 404)
    assert runner.run(["true"], when_full="reject")["succeeded"]
    runner.delete(f"/api/v1/task/{busy}?wait=60")
    assert runner.wait(runner.submit(id=id, **body))["succeeded"]


def test_too_many_waiting_tasks_are_turned_away(start_runner: Callable[..., Runner]) -> None:
    """Lost: a client in a loop would fill the memory."""
    runner = start_runner({"capacity_overrides": {"cores": 1}, "queue_max": 1})
    log = open_folder() / "log"
    running = runner.submit(["sleep", "infinity"])
    await_that(lambda: runner.attempt(running)["state"] == "running")
    waiting = runner.submit(["true"])
    id = task_id()
    answer = runner.post(f"/api/v1/task/{id}", json={"command": ["touch", str(log)]})
    is_problem(answer, 429)
    assert int(answer.headers["Retry-After"]) > 0
    is_problem(runner.get(f"/api/v1/task/{id}"), 404)
    runner.delete(f"/api/v1/task/{running}?wait=60")
    runner.wait(waiting)
    assert not log.exists()


def test_an_error_does_not_end_the_connection(runner: Runner) -> None:
    """Lost: clients with a persistent connection would see a reset after each mistake."""
    connection = http.client.HTTPConnection("127.0.0.1", runner.config["port"], 20 * SLOWNESS)
    for body in (b"{", b"[]", b'{"command": 1}'):
        connection.request("POST", TASK, body, JSON)
        answer = connection.getresponse()
        answer.read()
        assert (answer.status, answer.will_close) == (400, False)
    connection.close()


def test_a_client_that_leaves_while_it_waits_is_forgotten(
    start_runner: Callable[..., Runner],
) -> None:
    """Lost: each client that gives up would cost a descriptor until its task ends."""
    runner = start_runner(ROOMY)
    id = runner.submit(["sleep", "infinity"])
    await_that(lambda: runner.attempt(id)["start_time"], what="the start")
    before = len(_sockets(settled_fds(runner.main_pid)))
    connections = []
    for _ in range(20):
        connection = socket.create_connection(("127.0.0.1", runner.config["port"]))
        connection.sendall(f"GET /api/v1/task/{id}?wait=300 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        connections.append(connection)
    await_that(lambda: len(_sockets(open_fds(runner.main_pid))) == before + 20, what="20 waiting clients")
    for connection in connections:
        connection.close()
    await_that(
        lambda: len(_sockets(open_fds(runner.main_pid))) == before, what="the waiting clients to be forgotten"
    )
    assert runner.delete(f"/api/v1/task/{id}?wait=60").json()["result"] == "stopped"


def _sockets(fds: dict[int, str]) -> list[str]:
    return [target for target in fds.values() if target.startswith("socket:")]
