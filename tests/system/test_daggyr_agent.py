# SPDX-License-Identifier: LGPL-2.1-or-later
"""The "agent" executor of a DaggyR server works unchanged: what that server sends, expects and parses."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest

from bedlib import PYTHON, ROOMY, SLOWNESS, Runner, await_that, open_folder, processes_of, task_id

BODY_MAX = 1048576
JSON = {"Content-Type": "application/json"}
ONE_CORE = {"capacity_overrides": {"cores": 1, "memory_mb": 4096}}
LIMITS = {"exit_code": (-(2**31), 2**31 - 1), "max_cpu": (0, 2**32 - 1), "max_rss": (0, 2**64 - 1)}
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3}|\.\d{6}|\.\d{9})?Z"


@pytest.fixture
def runner(start_runner: Callable[..., Runner]) -> Runner:
    """A daggyr with room for everything."""
    return start_runner(ROOMY)


def parsed(attempt: Any) -> dict[str, Any]:
    """The attempt, if a DaggyR server can parse it: null or another type in one of these breaks it."""
    for name in ("start_time", "stop_time"):
        assert re.fullmatch(TIME, attempt[name]), f"{name}: {attempt[name]}"
    assert attempt["start_time"] <= attempt["stop_time"]
    for name in ("succeeded", "killed"):
        assert type(attempt[name]) is bool, f"{name}: {attempt[name]}"
    for name in ("output", "error"):
        assert type(attempt[name]) is str, f"{name}: {attempt[name]}"
    assert type(attempt["executor"]) is list
    assert all(type(note) is str for note in attempt["executor"])
    for name, (low, high) in LIMITS.items():
        assert type(attempt[name]) is int and low <= attempt[name] <= high, f"{name}: {attempt[name]}"
    found: dict[str, Any] = attempt
    return found


def path_of(id: str, run: int = 1) -> str:
    return f"/api/v1/{run}/{id}"


def execute(runner: Runner, command: list[str], id: str | None = None, **fields: Any) -> dict[str, Any]:
    """What the server does with a task: one POST, and the attempt out of its answer."""
    details = {"command": command, "resources": {"cores": 1, "memory_mb": 100}} | fields
    answer = runner.post(path_of(id or task_id()), json=details)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("application/json")
    return parsed(answer.json())


class Server:
    """A DaggyR server with many POSTs under way, each on a connection of its own."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._pool = ThreadPoolExecutor(20)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False)

    def dispatch(self, id: str, command: list[str], **fields: Any) -> Future[dict[str, Any]]:
        details = {"command": command, "resources": {"cores": 1, "memory_mb": 100}} | fields
        return self._pool.submit(self._post, id, json.dumps(details))

    def _post(self, id: str, body: str) -> dict[str, Any]:
        port = self._runner.config["port"]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60 * SLOWNESS)
        connection.request("POST", path_of(id), body, JSON)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        assert answer.status == 200, content
        return parsed(json.loads(content))


def await_running(runner: Runner, id: str) -> None:
    def is_running() -> bool:
        answer = runner.get(f"/api/v1/task/1:{id}")
        return answer.status_code == 200 and answer.json()["start_time"] is not None

    await_that(is_running, what=f"the start of {id}")


def exchange(runner: Runner, head: str, body: bytes) -> tuple[int, Any]:
    """Sends a request whole, as a client does that does not look at the answer before, and reads it."""
    with socket.create_connection(("127.0.0.1", runner.config["port"]), 30 * SLOWNESS) as connection:
        connection.sendall(head.encode() + body)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, json.loads(answer.read())


def test_the_start_of_a_pool_finds_a_usable_agent(start_runner: Callable[..., Runner]) -> None:
    """Lost: a pool of that server dies for good when one agent answers this differently."""
    runner = start_runner({"capacity_overrides": {"cores": 10, "memory_mb": 2048, "gpu": 2}})
    ready = runner.get("/ready")
    assert (ready.status_code, ready.content) == (200, b"")
    answer = runner.get("/api/v1/resources")
    assert answer.status_code == 200
    assert answer.json() == {"cores": 10, "memory_mb": 2048, "gpu": 2}
    assert all(type(amount) is int for amount in answer.json().values())


def test_the_resources_are_integers_without_a_configuration_too(start_runner: Callable[..., Runner]) -> None:
    """Lost: the same on a machine as it is installed."""
    resources = start_runner().get("/api/v1/resources").json()
    assert {"cores", "memory_mb"} <= set(resources)
    assert all(type(amount) is int and amount > 0 for amount in resources.values())


def test_the_post_of_a_task_is_answered_at_its_end(runner: Runner) -> None:
    """Lost: the server would take the task for finished while it runs."""
    start = time.monotonic()
    attempt = execute(runner, ["sh", "-c", "sleep 1; echo out; echo err >&2; exit 3"])
    assert time.monotonic() - start >= 1
    assert (attempt["succeeded"], attempt["killed"], attempt["exit_code"]) == (False, False, 3)
    assert (attempt["output"], attempt["error"]) == ("out\n", "err\n")
    assert execute(runner, ["true"])["succeeded"]


ENDS = {
    "success": (["true"], {}, (True, False, 0)),
    "failure": (["false"], {}, (False, False, 1)),
    "own-signal": (["sh", "-c", "kill -KILL $$"], {}, (False, False, -1)),
    "timeout": (["sleep", "60"], {"timeout": 1}, (False, True, -1)),
    "no-such-program": (["/no/such/program"], {}, (False, False, -1)),
    "no-program": (["/etc"], {}, (False, False, -1)),
    "nothing": ([], {}, (False, False, -1)),
    "memory": ([PYTHON, "-c", "x = 'x' * 10**9"], {}, (False, False, -1)),
}


@pytest.mark.parametrize(("command", "fields", "end"), ENDS.values(), ids=list(ENDS))
def test_every_end_is_an_attempt(
    runner: Runner, command: list[str], fields: dict[str, Any], end: tuple[bool, bool, int]
) -> None:
    """Lost: without an answer of 200 that server panics, and the task stays "running" for ever."""
    attempt = execute(runner, command, **fields)
    assert (attempt["succeeded"], attempt["killed"], attempt["exit_code"]) == end
    assert attempt["executor"]


def test_a_command_may_be_missing(runner: Runner) -> None:
    """Lost: details without a command, which that server lets through, would break it."""
    answer = runner.post(path_of(task_id()), json={"resources": {}})
    assert answer.status_code == 200
    assert not parsed(answer.json())["succeeded"]


def test_a_delete_kills_all_of_a_task(runner: Runner) -> None:
    """Lost: a killed task would hold its answer back until its children end."""
    id = task_id()
    with Server(runner) as server:
        attempt = server.dispatch(id, ["sh", "-c", "sleep 60; echo done"])
        await_running(runner, id)
        start = time.monotonic()
        answer = runner.delete(path_of(id))
        assert (answer.status_code, answer.content) == (200, b"")
        result = attempt.result(30 * SLOWNESS)
    assert time.monotonic() - start < 5 * SLOWNESS
    assert (result["succeeded"], result["killed"], result["exit_code"]) == (False, True, -1)
    assert result["output"] == ""
    assert processes_of(f"1:{id}") == []


def test_a_delete_of_what_is_not_there_is_no_error(runner: Runner) -> None:
    """Lost: a server that stops a run stops all its tasks, also those that have ended."""
    for _ in range(2):
        answer = runner.delete(path_of(task_id()))
        assert (answer.status_code, answer.content) == (200, b"")
    id = task_id()
    execute(runner, ["echo", "kept"], id)
    assert runner.delete(path_of(id)).status_code == 200
    assert runner.attempt(f"1:{id}")["output"] == "kept\n"


def test_a_delete_is_served_while_the_agent_is_saturated(start_runner: Callable[..., Runner]) -> None:
    """Lost: as with Daggy's own agent, a stop would come when the task has ended by itself."""
    runner = start_runner(ONE_CORE)
    first, second = task_id(), task_id()
    with Server(runner) as server:
        running = server.dispatch(first, ["sleep", "60"])
        await_running(runner, first)
        waiting = server.dispatch(second, ["sleep", "60"])
        await_that(lambda: runner.get("/api/v1/capacity").json()["tasks"]["queued"] == 1, what="a queue")
        start = time.monotonic()
        for id, attempt in ((second, waiting), (first, running)):
            assert runner.delete(path_of(id)).status_code == 200
            result = attempt.result(30 * SLOWNESS)
            assert (result["killed"], result["exit_code"]) == (True, -1)
        assert time.monotonic() - start < 5 * SLOWNESS


def test_more_tasks_than_fit_wait_for_each_other(start_runner: Callable[..., Runner]) -> None:
    """Lost: two servers that share an agent know nothing of each other, and would overload it."""
    runner = start_runner(ONE_CORE)
    with Server(runner) as server:
        attempts = [server.dispatch(task_id(), ["sleep", "0.2"]) for _ in range(6)]
        ended = sorted((attempt.result(60 * SLOWNESS) for attempt in attempts), key=lambda a: a["start_time"])
    assert all(attempt["succeeded"] for attempt in ended)
    assert all(a["stop_time"] <= b["start_time"] for a, b in zip(ended, ended[1:]))


def test_a_pipe_held_by_a_grandchild_delays_no_answer(runner: Runner) -> None:
    """Lost: as with Daggy's own agent, a task that starts a daemon would never end."""
    start = time.monotonic()
    attempt = execute(runner, ["sh", "-c", "(setsid sleep 60 &) ; sleep 60 & echo hi"])
    assert (attempt["succeeded"], attempt["output"]) == (True, "hi\n")
    assert time.monotonic() - start < 5 * SLOWNESS


@pytest.mark.parametrize("name", ["a/b", "a b", "{{DATE}}", "a%41", "ä€", "..", "a:b", "x" * 500, "a?b#c"])
def test_every_id_of_that_server_can_be_used(runner: Runner, name: str) -> None:
    """Lost: tasks with a slash or a space in their name could not be run, stopped or found."""
    id = f"{task_id()}{name}"
    encoded = quote(id, safe="")
    attempt = execute(runner, ["echo", "hi"], encoded)
    assert attempt["output"] == "hi\n"
    shown = "1:" + quote(id, safe=":").replace("~", "%7E")
    assert attempt["task_id"] == shown
    assert runner.attempt(quote(shown, safe=""))["output"] == "hi\n"

    other = f"{encoded}2"
    with Server(runner) as server:
        running = server.dispatch(other, ["sleep", "60"])
        await_that(lambda: runner.get("/api/v1/tasks?state=running").json()["tasks"], what="the start")
        assert runner.delete(path_of(other)).status_code == 200
        assert running.result(30 * SLOWNESS)["killed"]


def test_runs_do_not_share_their_ids(runner: Runner) -> None:
    """Lost: the same task in two runs would be taken for one."""
    id = task_id()
    for run in (0, 1, 2**64 - 1):
        answer = runner.post(path_of(id, run), json={"command": ["echo", str(run)]})
        assert parsed(answer.json())["output"] == f"{run}\n"
        assert runner.attempt(f"{run}:{id}")["output"] == f"{run}\n"


@pytest.mark.parametrize("run", ["x", "-1", "+1", "1.5", "0x1", "1%20", str(2**64), "9" * 40])
def test_a_run_that_is_no_number_is_not_found(runner: Runner, run: str) -> None:
    """Lost: that server's own checks, which look for 404 here before the body is looked at."""
    for body in (b"{", b'{"command": ["true"]}'):
        answer = runner.post(f"/api/v1/{run}/t", data=body, headers=JSON)
        assert answer.status_code == 404
    assert runner.get("/api/v1/tasks").json()["tasks"] == []


@pytest.mark.parametrize("path", ["/api/v1/1/", "/api/v1/1/a/b", "/api/v1//a", "//api/v1/1/a", "/api/v1/1"])
def test_a_path_with_more_or_less_in_it_is_not_found(runner: Runner, path: str) -> None:
    """Lost: a slash that was not encoded would run something else."""
    # Not by requests, which makes one slash of two at the beginning (2.32).
    connection = http.client.HTTPConnection("127.0.0.1", runner.config["port"], timeout=20 * SLOWNESS)
    with contextlib.closing(connection):
        connection.request("POST", path, b'{"command": ["true"]}', JSON)
        assert connection.getresponse().status == 404


BAD_BODIES = {
    "text": (b"hello", "Parsing error: "),
    "empty": (b"", "Parsing error: "),
    "array": (b"[]", "Parsing error: "),
    "cut": (b'{"command": ["true"]', "Parsing error: "),
    "command": (b'{"command": "true"}', "Parsing error: "),
    "timeout": (b'{"command": ["true"], "timeout": -1}', "Parsing error: "),
    "fraction": (b'{"command": ["true"], "timeout": 1.5}', "Parsing error: "),
    "environment": (b'{"command": ["true"], "environment": {"A": 1}}', "Parsing error: "),
    "resources": (b'{"command": ["true"], "resources": {"cores": -100}}', "Parsing error: "),
    "too-much": (b'{"command": ["true"], "resources": {"cores": 1000}}', ""),
}


@pytest.mark.parametrize(("body", "beginning"), BAD_BODIES.values(), ids=list(BAD_BODIES))
def test_errors_in_the_body_are_texts_in_that_servers_form(
    runner: Runner, body: bytes, beginning: str
) -> None:
    """Lost: the reason in that server's log."""
    answer = runner.post(path_of("t"), data=body, headers=JSON)
    assert answer.status_code == 409
    assert answer.headers["Content-Type"].startswith("application/json")
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"].startswith(beginning)
    assert len(answer.json()["error"]) > len(beginning)
    assert runner.get("/api/v1/tasks").json()["tasks"] == []


OTHER_TYPES = [None, "text/plain", "application/jsonx", "application/x-www-form-urlencoded"]


@pytest.mark.parametrize("kind", OTHER_TYPES)
def test_a_body_of_another_type_has_the_documented_text(runner: Runner, kind: str | None) -> None:
    """Lost: the same, and a form on a web page could send one."""
    headers = {"Content-Type": kind} if kind else {}
    answer = runner.post(path_of("t"), data=b'{"command": ["true"]}', headers=headers)
    assert (answer.status_code, answer.json()) == (409, {"error": "Unsupported Content-Type"})


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/x+json"])
def test_json_may_have_parameters_and_other_names(runner: Runner, kind: str) -> None:
    """Lost: clients whose library adds a charset."""
    answer = runner.post(path_of(task_id()), data=b'{"command": ["true"]}', headers={"Content-Type": kind})
    assert parsed(answer.json())["succeeded"]


def padded(size: int) -> bytes:
    """Details of exactly so many bytes; that server passes on keys it does not know."""
    head, tail = b'{"command": ["echo", "fits"], "note": "', b'"}'
    return head + b"x" * (size - len(head) - len(tail)) + tail


def head_of(id: str, more: str) -> str:
    return (
        f"POST {path_of(id)} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Connection: close\r\n{more}\r\n"
    )


def chunked(body: bytes) -> bytes:
    pieces = [body[n : n + 50_000] for n in range(0, len(body), 50_000)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def test_the_largest_body_is_accepted_in_either_transfer(runner: Runner) -> None:
    """Lost: large generated tasks, at the very limit that the server was tested with."""
    body = padded(BODY_MAX)
    status, attempt = exchange(runner, head_of(task_id(), f"Content-Length: {len(body)}\r\n"), body)
    assert (status, parsed(attempt)["output"]) == (200, "fits\n")
    status, attempt = exchange(runner, head_of(task_id(), "Transfer-Encoding: chunked\r\n"), chunked(body))
    assert (status, parsed(attempt)["output"]) == (200, "fits\n")


def test_a_body_of_one_byte_more_has_the_documented_text(runner: Runner) -> None:
    """Lost: that server panics where the connection breaks instead of an answer."""
    body = padded(BODY_MAX + 1)
    announced = head_of("t", f"Content-Length: {len(body)}\r\n")
    streamed = head_of("t", "Transfer-Encoding: chunked\r\n")
    for _ in range(5):
        answer = exchange(runner, announced, body)
        assert answer == (409, {"error": f"Payload too big ({BODY_MAX + 1} > {BODY_MAX})"})
        answer = exchange(runner, streamed, chunked(body))
        assert answer == (409, {"error": f"Payload too big (> {BODY_MAX})"})


def test_details_may_have_keys_that_are_not_for_the_agent(runner: Runner) -> None:
    """Lost: details that the server's other executors understand, or a newer server."""
    attempt = execute(runner, ["echo", "hi"], ssh={"host": "x"}, when_full=7, user="root", stdin=[])
    assert attempt["output"] == "hi\n"


def test_the_environment_and_the_timeout_are_those_of_the_details(runner: Runner) -> None:
    """Lost: tasks with parameters, and the one bound that the server sets on them."""
    script = 'echo "$A-$DAGGYR_TASK_ID"; exec sleep 60'
    id = task_id()
    start = time.monotonic()
    attempt = execute(runner, ["sh", "-c", script], id, environment={"A": "x y"}, timeout=3)
    assert attempt["output"] == f"x y-1:{id}\n"
    assert attempt["killed"]
    assert 3 <= time.monotonic() - start < 3 + 5 * SLOWNESS


def test_resources_may_be_empty(runner: Runner) -> None:
    """Lost: details that the server's validation lets through."""
    attempt = execute(runner, ["true"], resources={})
    assert attempt["succeeded"]


def test_a_task_that_ended_runs_anew_when_it_is_retried(runner: Runner) -> None:
    """Lost: retries, which that server sends under the same name and with the same details."""
    folder = open_folder()
    script = f"echo x >> {folder}/log; exec wc -l < {folder}/log"
    id = task_id()
    outputs = [execute(runner, ["sh", "-c", script], id)["output"] for _ in range(4)]
    assert outputs == ["1\n", "2\n", "3\n", "4\n"]
    assert execute(runner, ["echo", "other"], id)["output"] == "other\n"
    assert runner.attempt(f"1:{id}")["output"] == "other\n"


def test_a_retry_that_is_refused_leaves_the_earlier_result(runner: Runner) -> None:
    """Lost: the only account of what happened, to a retry that never ran."""
    id = task_id()
    execute(runner, ["echo", "first"], id)
    runner.put("/api/v1/drain", json={"drain": True})
    refused = runner.post(path_of(id), json={"command": ["echo", "second"]})
    assert (refused.status_code, list(refused.json())) == (503, ["error"])
    assert int(refused.headers["Retry-After"]) > 0
    too_large = {"command": ["true"], "resources": {"cores": 1000, "memory_mb": 1}}
    runner.put("/api/v1/drain", json={"drain": False})
    assert runner.post(path_of(id), json=too_large).status_code == 409
    assert runner.attempt(f"1:{id}")["output"] == "first\n"
    assert execute(runner, ["echo", "third"], id)["output"] == "third\n"


def test_a_task_posted_twice_runs_once_and_answers_both(runner: Runner) -> None:
    """Lost: a server that sends again would kill what it has started, as with Daggy's own agent."""
    gate = open_folder() / "gate"
    id = task_id()
    command = ["sh", "-c", f"until [ -e {gate} ]; do sleep 0.02; done; echo $$"]
    with Server(runner) as server:
        first = server.dispatch(id, command)
        await_running(runner, id)
        second = server.dispatch(id, command)
        other = runner.post(path_of(id), json={"command": ["true"]})
        assert (other.status_code, list(other.json())) == (409, ["error"])
        gate.touch()
        assert first.result(30 * SLOWNESS)["output"] == second.result(30 * SLOWNESS)["output"]
    assert first.result()["succeeded"]


def test_a_server_that_goes_away_does_not_stop_its_task(runner: Runner) -> None:
    """Lost: a restart of the server would tear off all its work."""
    id = task_id()
    gate = open_folder() / "gate"
    command = ["sh", "-c", f"until [ -e {gate} ]; do sleep 0.02; done; echo done"]
    body = json.dumps({"command": command}).encode()
    with socket.create_connection(("127.0.0.1", runner.config["port"])) as connection:
        connection.sendall(head_of(id, f"Content-Length: {len(body)}\r\n").encode() + body)
        await_running(runner, id)
    assert "killed" not in runner.attempt(f"1:{id}")["state"]
    gate.touch()
    attempt = runner.wait(f"1:{id}")
    assert (attempt["result"], attempt["output"]) == ("success", "done\n")


def test_all_captured_output_is_in_the_answer(start_runner: Callable[..., Runner]) -> None:
    """Lost: that server asks nobody for the rest."""
    runner = start_runner(ROOMY | {"inline_output_bytes": 100})
    n = 3_000_000
    script = f"import sys; print('o' * {n}); print('e' * {n}, file=sys.stderr)"
    id = task_id()
    attempt = execute(runner, [PYTHON, "-c", script], id)
    assert attempt["output"] == "o" * n + "\n"
    assert attempt["error"] == "e" * n + "\n"
    assert len(runner.attempt(f"1:{id}")["output"]) <= 100


def test_an_answer_comes_also_where_no_results_are_kept(start_runner: Callable[..., Runner]) -> None:
    """Lost: runners that are configured to remember nothing would not answer that server."""
    runner = start_runner(ROOMY | {"results_max": 0})
    for _ in range(5):
        assert execute(runner, ["echo", "hi"])["output"] == "hi\n"
    await_that(lambda: runner.get("/api/v1/tasks").json()["tasks"] == [], what="nothing to be kept")


def test_an_agent_that_stops_answers_what_it_has_begun(runner: Runner) -> None:
    """Lost: each update of the package would leave tasks "running" for ever on that server."""
    ids = [task_id() for _ in range(3)]
    with Server(runner) as server:
        attempts = [server.dispatch(id, ["sleep", "60"]) for id in ids]
        for id in ids:
            await_running(runner, id)
        runner.stop()
        assert [attempt.result(30 * SLOWNESS)["killed"] for attempt in attempts] == [True] * 3
