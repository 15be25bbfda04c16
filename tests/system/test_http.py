# SPDX-License-Identifier: LGPL-2.1-or-later
"""HTTP itself, as RFC 9110 and RFC 9112 ask it of a server: docs/http.md says which sentence is shown where.

Everything is sent byte by byte over plain sockets, as client libraries would not let such requests out, or would make
up for wrong answers. Both daemons have the same server, so each test is put to both.
"""

from __future__ import annotations

import ctypes
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from bedlib import ROOMY, SLOWNESS, Runner, await_that, open_fds, settled_fds, task_id
from peerlib import UnixRunner

Starter = Callable[..., Runner]


@dataclass
class Answer:
    status: int
    version: str
    headers: dict[str, str]
    head: bytes
    body: bytes

    @property
    def closes(self) -> bool:
        return self.headers.get("connection", "").lower() == "close"


class Wire:
    """One connection, on which nothing is made up for."""

    def __init__(self, daemon: Runner) -> None:
        port = int(daemon.url.rpartition(":")[2])
        self.socket = socket.create_connection(("127.0.0.1", port), 30 * SLOWNESS)
        self._read = b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes | str) -> Wire:
        self.socket.sendall(data.encode() if isinstance(data, str) else data)
        return self

    def _fill(self) -> bool:
        piece = self.socket.recv(65536)
        self._read += piece
        return bool(piece)

    def _take(self, size: int) -> bytes:
        while len(self._read) < size:
            assert self._fill(), f"the connection ended behind {self._read!r}"
        taken, self._read = self._read[:size], self._read[size:]
        return taken

    def _take_through(self, mark: bytes) -> bytes:
        while mark not in self._read:
            assert self._fill(), f"the connection ended behind {self._read!r}"
        return self._take(self._read.index(mark) + len(mark))

    def answer(self, to: str = "GET") -> Answer:
        """The next answer, which must be one to the method TO: that says whether it has a body."""
        head = self._take_through(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        found = re.fullmatch(r"(HTTP/1\.[01]) ([0-9]{3}) .*", lines[0])
        assert found, f"no status line: {head!r}"
        headers = {}
        for line in lines[1:-2]:
            name, colon, value = line.partition(":")
            assert colon and name.lower() not in headers, head
            headers[name.lower()] = value.strip()
        status = int(found[2])
        body = b"" if to == "HEAD" or status in (204, 304) or status < 200 else self._body(headers)
        return Answer(status, found[1], headers, head, body)

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self._take_through(b"\r\n"), 16):
                body += self._take(size)
                assert self._take(2) == b"\r\n"
            assert self._take(2) == b"\r\n"
            return body
        if "content-length" in headers:
            return self._take(int(headers["content-length"]))
        while self._fill():
            pass
        return self._take(len(self._read))

    def ends(self) -> bool:
        """Whether the server closes, with nothing further said."""
        return not self._fill() and not self._read

    def still_works(self) -> None:
        """The next request on the connection is answered as if it were the first."""
        answer = self.send("GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n").answer()
        assert (answer.status, answer.body) == (200, b""), answer


@pytest.fixture(params=["runner", "queue"])
def daemon(request: pytest.FixtureRequest, start_runner: Starter, start_queue: Starter) -> Runner:
    """Either program."""
    return start_runner(ROOMY) if request.param == "runner" else start_queue({})


@pytest.fixture
def wire(daemon: Runner) -> Iterator[Wire]:
    with Wire(daemon) as it:
        yield it


def head(method: str, target: str, *fields: str, version: str = "HTTP/1.1") -> str:
    return "\r\n".join([f"{method} {target} {version}", "Host: localhost", *fields, "", ""])


def ask(wire: Wire, method: str, target: str, *fields: str, version: str = "HTTP/1.1") -> Answer:
    return wire.send(head(method, target, *fields, version=version)).answer(method)


JSON = "Content-Type: application/json"


# Methods


def test_an_answer_to_head_has_no_body(start_runner: Starter, start_queue: Starter) -> None:
    """Lost: the next answer on the connection, which is read as the rest of this one."""
    runner = start_runner(ROOMY)
    id = runner.submit(["echo", "hi"])
    runner.wait(id)
    queue = start_queue({})
    paths = ["/ready", "/metrics", "/api/v1/tasks", "/api/v1/events", "/nothing", "/api/v1/capacity?x=%"]
    ours = [f"/api/v1/task/{id}", f"/api/v1/task/{id}/output", f"/api/v1/task/{id}/output?follow=true"]
    for daemon in (runner, queue):
        for path in paths + ours:
            with Wire(daemon) as wire:
                # What follows is already there when the answer is made, as a pipelining client has it.
                wire.send(head("HEAD", path) + head("GET", "/ready"))
                answer = wire.answer("HEAD")
                assert answer.status in (200, 400, 404), path
                assert wire.ends() if answer.closes else wire.answer("GET").status == 200, path


def test_head_tells_what_get_would(wire: Wire) -> None:
    """Lost: what HEAD is for: the size and type of what there is, without fetching it."""
    for path in ("/api/v1/resources", "/api/v1/tasks", "/api/v1/task/nobody"):
        got, told = ask(wire, "GET", path), ask(wire, "HEAD", path)
        assert got.status == told.status
        for name in ("content-type", "content-length"):
            assert got.headers[name] == told.headers[name], path


def test_events_may_be_asked_for_by_head(wire: Wire) -> None:
    """Lost: a health check that asks so would wait for ever, and hold a connection."""
    answer = ask(wire, "HEAD", "/api/v1/events")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    assert wire.ends() or not answer.closes


def test_an_answer_without_content_has_neither_body_nor_length(start_runner: Starter) -> None:
    """Lost: the next answer on the connection."""
    runner = start_runner(ROOMY)
    id = runner.submit(["true"])
    runner.wait(id)
    with Wire(runner) as wire:
        answer = ask(wire, "DELETE", f"/api/v1/task/{id}")
        assert answer.status == 204
        assert not {"content-length", "transfer-encoding"} & set(answer.headers)
        wire.still_works()


def test_the_server_itself_may_be_asked_for_its_options(wire: Wire) -> None:
    """Lost: "OPTIONS *", by which proxies and monitors ask whether anybody is there."""
    answer = ask(wire, "OPTIONS", "*")
    assert answer.status == 204
    assert {"GET", "HEAD", "POST", "PUT", "DELETE"} <= set(answer.headers["allow"].split(", "))
    wire.still_works()
    assert ask(wire, "GET", "*").status == 400


def test_a_method_that_a_path_has_not_is_refused_with_those_it_has(wire: Wire) -> None:
    """Lost: the answer to what would have been right."""
    for method in ("PATCH", "DELETE", "BREW"):
        answer = ask(wire, method, "/api/v1/capacity")
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_a_method_is_case_sensitive(wire: Wire) -> None:
    """Lost: "get" is another method than "GET", and what stands before us may have let it through as such."""
    assert ask(wire, "get", "/ready").status in (405, 501)


# Contents


def test_a_compressed_body_is_refused_for_what_it_is(wire: Wire) -> None:
    """Lost: the reason; "not UTF-8" sends the client looking for a mistake in its text."""
    for value in ("gzip", "deflate, gzip", "br"):
        body = json.dumps({"drain": False})
        fields = [JSON, f"Content-Encoding: {value}", f"Content-Length: {len(body)}"]
        answer = wire.send(head("PUT", "/api/v1/drain", *fields) + body).answer()
        assert answer.status == 415, value
        assert answer.headers["accept-encoding"] == "identity"
    wire.still_works()


def test_a_body_that_says_it_is_not_compressed_is_taken(wire: Wire) -> None:
    """Lost: clients that are explicit."""
    body = json.dumps({"drain": False})
    fields = [JSON, "Content-Encoding: identity", f"Content-Length: {len(body)}"]
    assert wire.send(head("PUT", "/api/v1/drain", *fields) + body).answer().status == 200


def test_a_part_of_a_body_is_not_taken_for_the_whole(wire: Wire) -> None:
    """Lost: what the rest of it said."""
    body = json.dumps({"drain": False})
    fields = [JSON, "Content-Range: bytes 0-14/30", f"Content-Length: {len(body)}"]
    assert wire.send(head("PUT", "/api/v1/drain", *fields) + body).answer().status == 400


def test_a_request_that_depends_on_a_version_is_not_carried_out(wire: Wire) -> None:
    """Lost: what a client wants to overwrite only in the state that it knows."""
    body = json.dumps({"drain": True})
    fields = [JSON, 'If-Match: "1"', f"Content-Length: {len(body)}"]
    assert wire.send(head("PUT", "/api/v1/drain", *fields) + body).answer().status == 412
    wire.still_works()


def test_a_range_is_ignored(wire: Wire) -> None:
    """Lost: a whole answer that is taken for a part, or the other way around."""
    answer = ask(wire, "GET", "/api/v1/resources", "Range: bytes=0-3")
    assert answer.status == 200 and json.loads(answer.body)
    assert "content-range" not in answer.headers


def test_answers_have_a_date(wire: Wire) -> None:
    """Lost: how old a stored answer is."""
    for path in ("/ready", "/nothing"):
        date = ask(wire, "GET", path).headers["date"]
        assert abs(time.mktime(time.strptime(date, "%a, %d %b %Y %H:%M:%S GMT")) - time.mktime(time.gmtime())) < 60


# The request line and the header


def test_empty_lines_before_a_request_are_skipped(wire: Wire) -> None:
    """Lost: old clients that send one behind a body."""
    assert wire.send("\r\n" + head("GET", "/ready")).answer().status == 200


@pytest.mark.parametrize("target", ["http://localhost/ready", "HTTP://localhost/ready"])
def test_a_target_may_be_absolute(wire: Wire, target: str) -> None:
    """Lost: clients that are told to use a proxy, and come here."""
    assert ask(wire, "GET", target).status == 200


def test_an_absolute_target_that_names_another_host_is_refused(wire: Wire) -> None:
    """Lost: the protection against requests that are read in two ways."""
    assert ask(wire, "GET", "http://evil.example/ready").status == 400


@pytest.mark.parametrize(
    "request_head",
    [
        "GET /ready HTTP/1.1\r\n\r\n",
        "GET /ready HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        "GET /ready HTTP/1.1\r\n Host: localhost\r\nHost: localhost\r\n\r\n",
        "GET /ready HTTP/1.1\r\nHost: localhost\r\nX : y\r\n\r\n",
        "GET /ready HTTP/1.1\r\nHost: localhost\r\nX: y\r\n z\r\n\r\n",
        "GET /ready HTTP/1.1\r\nHost: localhost\r\nX: y\rz\r\n\r\n",
        "GET /ready HTTP/1.1\r\nHost: localhost\r\nX: y\0z\r\n\r\n",
    ],
    ids=["no-host", "two-hosts", "blank-first", "blank-colon", "folded", "bare-cr", "nul"],
)
def test_a_header_that_must_be_refused_is(wire: Wire, request_head: str) -> None:
    """Lost: what one reader takes for one request is another for the next."""
    assert wire.send(request_head).answer().status == 400
    assert wire.ends()


def test_a_host_that_is_none_is_refused(wire: Wire) -> None:
    """Lost: the protection against web pages, by a name that is understood in two ways."""
    assert wire.send("GET /ready HTTP/1.1\r\nHost: a b\r\n\r\n").answer().status == 400


@pytest.mark.parametrize("version", ["HTTP/2.0", "HTTP/3.7"])
def test_another_major_version_is_refused(wire: Wire, version: str) -> None:
    """Lost: a client would wait for an answer in a protocol that is not spoken here."""
    answer = wire.send(f"GET /ready {version}\r\nHost: localhost\r\n\r\n").answer()
    assert answer.status == 505


def test_a_client_of_the_old_version_is_served(wire: Wire) -> None:
    """Lost: monitors and scripts that speak HTTP/1.0, and wait for the connection's end."""
    answer = ask(wire, "GET", "/api/v1/resources", version="HTTP/1.0")
    assert answer.status == 200 and json.loads(answer.body)
    assert wire.ends()


def test_an_old_client_gets_no_chunks(start_runner: Starter) -> None:
    """Lost: sizes of chunks in the middle of what a task wrote."""
    runner = start_runner(ROOMY)
    id = runner.submit(["echo", "hi"])
    runner.wait(id)
    with Wire(runner) as wire:
        answer = ask(wire, "GET", f"/api/v1/task/{id}/output", version="HTTP/1.0")
        assert "transfer-encoding" not in answer.headers
        assert answer.body == b"hi\n"
        assert wire.ends()


# Bodies


def test_chunks_are_read_with_trailers(wire: Wire) -> None:
    """Lost: clients that do not know the size of what they send."""
    text = "5\r\n{\"dra\r\n9\r\nin\":false\r\n1\r\n}\r\n0\r\nX-Trailer: 1\r\n\r\n"
    answer = wire.send(head("PUT", "/api/v1/drain", JSON, "Transfer-Encoding: chunked") + text).answer()
    assert answer.status == 200


def microhttpd_version() -> tuple[int, ...]:
    """Of the library that the daemons use, here."""
    library = ctypes.CDLL("libmicrohttpd.so.12")
    library.MHD_get_version.restype = ctypes.c_char_p
    return tuple(map(int, library.MHD_get_version().decode().split(".")))


def test_extensions_of_chunks_are_ignored(wire: Wire) -> None:
    """Lost: clients that send such; or with a library that does not understand them (1.0.1), the end of the body."""
    text = "5;name=value\r\n{\"dra\r\n9\r\nin\":false\r\n1\r\n}\r\n0\r\n\r\n"
    answer = wire.send(head("PUT", "/api/v1/drain", JSON, "Transfer-Encoding: chunked") + text).answer()
    if answer.status == 400 and microhttpd_version() >= (1, 0, 0):
        assert wire.ends()
    else:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (["Transfer-Encoding: gzip"], 400),
        (["Transfer-Encoding: gzip, chunked"], 400),
        (["Transfer-Encoding: chunked, chunked"], 400),
        (["Transfer-Encoding: chunked", "Content-Length: 2"], 400),
        (["Content-Length: 2", "Content-Length: 3"], 400),
        (["Content-Length: 2, 2"], 400),
        (["Content-Length: +2"], 400),
        (["Content-Length: -2"], 400),
        (["Content-Length: 0x2"], 400),
        (["Content-Length: 99999999999999999999"], 413),
    ],
)
def test_a_length_that_is_in_doubt_is_refused(wire: Wire, fields: list[str], status: int) -> None:
    """Lost: where the next request begins."""
    answer = wire.send(head("PUT", "/api/v1/drain", JSON, *fields) + "{}").answer("HEAD")
    assert answer.status == status and answer.closes


def test_who_waits_for_leave_to_send_a_body_gets_it(wire: Wire) -> None:
    """Lost: clients that ask first, among them curl with large bodies, would wait a second or for ever."""
    fields = [JSON, "Expect: 100-continue", "Content-Length: 15"]
    assert wire.send(head("PUT", "/api/v1/drain", *fields)).answer().status == 100
    assert wire.send('{"drain":false}').answer().status == 200


def test_who_waits_for_leave_is_refused_at_once(wire: Wire) -> None:
    """Lost: a body of any size would be sent for nothing."""
    fields = ["Content-Type: text/plain", "Expect: 100-continue", "Content-Length: 1000"]
    assert wire.send(head("PUT", "/api/v1/drain", *fields)).answer().status == 415


def test_an_old_client_is_not_told_to_go_on(wire: Wire) -> None:
    """Lost: it would take that for the answer."""
    fields = [JSON, "Expect: 100-continue", "Content-Length: 15"]
    wire.send(head("PUT", "/api/v1/drain", *fields, version="HTTP/1.0") + '{"drain":false}')
    assert wire.answer().status == 200


def test_another_expectation_is_refused(wire: Wire) -> None:
    """Lost: a client would believe that it is fulfilled."""
    assert ask(wire, "GET", "/ready", "Expect: the-spanish-inquisition").status == 417


# Connections


def test_a_connection_is_kept_and_closed_on_request(wire: Wire) -> None:
    """Lost: clients that wait for the end of the connection, or that reuse it."""
    assert not ask(wire, "GET", "/ready").closes
    answer = ask(wire, "GET", "/ready", "Connection: close")
    assert answer.closes and wire.ends()


def test_requests_sent_at_once_are_answered_in_order(wire: Wire) -> None:
    """Lost: which answer belongs to which request."""
    wire.send(head("GET", "/ready") + head("GET", "/nothing") + head("HEAD", "/api/v1/tasks") + head("GET", "/metrics"))
    assert [wire.answer(to).status for to in ("GET", "GET", "HEAD", "GET")] == [200, 404, 200, 200]


def last_word(wire: Wire, request: str) -> Answer:
    """Asks, as "nc -N" does, with the end of the sending half behind the request; the final answer."""
    wire.send(request)
    wire.socket.shutdown(socket.SHUT_WR)
    return final_answer(wire)


def final_answer(wire: Wire) -> Answer:
    """The next one that is not an interim one."""
    while (answer := wire.answer()).status == 100:
        pass
    return answer


@pytest.mark.parametrize("program", ["runner", "queue"])
def test_a_client_that_has_said_its_last_word_gets_its_answer(
    start_runner: Starter, start_queue: Starter, program: str
) -> None:
    """Lost: every answer that takes a moment, to clients that close their sending half behind the request."""
    daemon = start_runner(ROOMY)
    if program == "queue":
        daemon = start_queue({"one": daemon})
        daemon.await_leases("one")
    body = json.dumps({"command": ["sleep", str(SLOWNESS)]})
    fields = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    id = task_id()
    with Wire(daemon) as wire:
        answer = last_word(wire, head("POST", f"/api/v1/task/{id}", *fields) + body)
        assert answer.status == 202 and wire.ends(), answer
    with Wire(daemon) as wire:
        answer = last_word(wire, head("GET", f"/api/v1/task/{id}?wait=60"))
        assert (answer.status, json.loads(answer.body)["state"]) == (200, "completed") and wire.ends(), answer
    with Wire(daemon) as wire:
        answer = last_word(wire, head("GET", "/ready"))
        assert answer.status == 200 and wire.ends(), answer


def test_a_last_word_may_be_several(start_runner: Starter) -> None:
    """Lost: all answers but the first, to clients that send what they have to say at once."""
    runner = start_runner(ROOMY)
    with Wire(runner) as wire:
        assert last_word(wire, head("GET", "/ready") + 3 * head("GET", "/api/v1/tasks")).status == 200
        assert [final_answer(wire).status for _ in range(3)] == [200] * 3 and wire.ends()


def test_a_client_that_has_said_its_last_word_gets_its_answer_over_a_unix_socket() -> None:
    """Lost: the same for local scripts; and nothing but the answer is to be read there."""
    with UnixRunner(ROOMY) as runner:
        id = runner.submit(["sleep", str(SLOWNESS)])
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60 * SLOWNESS)
            connection.connect(str(runner.path))
            connection.sendall(head("GET", f"/api/v1/task/{id}?wait=60").encode())
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        assert answer.startswith(b"HTTP/1.1 200 ") and b'"completed"' in answer, answer
        id = runner.submit(["sleep", "infinity"])
        await_that(lambda: runner.attempt(id)["start_time"], what="the start")
        before = len(settled_fds(runner.main_pid))
        connections = []
        for _ in range(5):
            connections.append(socket.socket(socket.AF_UNIX))
            connections[-1].connect(str(runner.path))
            connections[-1].sendall(head("GET", f"/api/v1/task/{id}?wait=300").encode())
            connections[-1].shutdown(socket.SHUT_WR)
        await_that(lambda: len(open_fds(runner.main_pid)) >= before + 5, what="5 clients")
        for connection in connections:
            connection.close()
        await_that(lambda: len(open_fds(runner.main_pid)) <= before, what="those that have gone to be forgotten")


def test_an_old_client_that_has_said_its_last_word_is_taken_to_have_gone(start_runner: Starter) -> None:
    """Lost: the answer, to one that takes a word in between for it."""
    runner = start_runner(ROOMY)
    id = runner.submit(["sleep", "infinity"])
    with Wire(runner) as wire:
        wire.send(head("GET", f"/api/v1/task/{id}?wait=300", version="HTTP/1.0"))
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.ends()
